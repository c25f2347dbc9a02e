"""A self-contained HTML page of tables and pictures; it loads nothing, and a browser holds it to that.

What a page shows may come from anywhere, so all of it is escaped, and the page's content security policy lets no script
run but its own.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import ClassVar

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from results import formats

_SHOWN_ROWS = 1000


@dataclass(frozen=True)
class Table:
    """A dataframe, as a table that is sorted by a click on a heading; the first 1,000 rows are shown.

    Attributes:
        frame: its values are rounded by the names of their columns.
        caption: a line above it.
    """

    frame: pd.DataFrame
    caption: str = ""
    kind: ClassVar[str] = "table"

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Names, and whether they hold numbers."""
        return [(str(name).replace("_", " "), formats.is_number(self.frame[name])) for name in self.frame]

    @property
    def rows(self) -> list[list[str]]:
        """The cells as text."""
        return formats.text(self.frame.head(_SHOWN_ROWS)).to_numpy().tolist()

    @property
    def note(self) -> str:
        """Content that is not shown."""
        cut = f"The first {_SHOWN_ROWS:,} of {len(self.frame):,} rows." if len(self.frame) > _SHOWN_ROWS else ""
        return " ".join(part for part in (cut, formats.left_out(self.frame)) if part)


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        png: content of a PNG file.
        alt: what it shows, also its caption.
    """

    png: bytes
    alt: str
    kind: ClassVar[str] = "picture"

    @property
    def width(self) -> int:
        """The size in CSS pixels: figures have 150 dots an inch, a page about 100."""
        return int.from_bytes(self.png[16:20], "big") * 2 // 3

    @property
    def base64(self) -> str:
        """The file as text."""
        return base64.b64encode(self.png).decode()


def drawn(figure: Figure, alt: str) -> Picture:
    """A figure as a picture of 150 dots an inch."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return Picture(stream.getvalue(), alt)


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Fold:
    """Blocks that are hidden until their title is clicked."""

    title: str
    blocks: Sequence[Table | Picture | Text]
    kind: ClassVar[str] = "fold"


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own."""

    title: str
    blocks: Sequence[Table | Picture | Text | Fold]


def render(title: str, sections: Sequence[Section], subtitle: str = "") -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = _template("page.css"), _template("page.js")
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:"
    return environment.from_string(_template("page.html")).render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        policy=f"{policy}; base-uri 'none'; form-action 'none'",
        style=Markup(style),
        script=Markup(script),
    )


def _template(name: str) -> str:
    return resources.files("results").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The source expression of a content security policy that allows exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
