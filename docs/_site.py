"""The site beyond docs/: pages that are generated or lie elsewhere in the repository, and links that lead to them."""

from __future__ import annotations

import posixpath
import re
from functools import partial
from pathlib import Path
from typing import Any

import _notebooks
import _reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = "docs"
#: Pages that lie outside docs/, by their place in the repository.
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "fedsim/engine/README.md": "rooms/engine.md",
    "deltamask/codecs/README.md": "rooms/codecs.md",
    "pipelines/paper/README.md": "paper.md",
    "results/benchmarks/README.md": "benchmarks.md",
}
#: What a page shows or offers is copied into the site; other files of the repository are linked where they are.
_COPIED = {".png", ".svg", ".html"}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_CODE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of docs/ that the navigation does not name in place of its ``"*"``."""
    named = set(_names(config.nav))
    rest = sorted(path.name for path in (ROOT / DOCS).glob("*.md") if path.name not in named)
    config.nav = [{title: rest if value == "*" else value for title, value in one.items()} for one in config.nav]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from elsewhere, and take out the sources of those that are made from them."""
    for file in list(files):
        if file.src_uri.endswith((".py", ".ipynb")):
            files.remove(file)
    pages = dict(_reference.pages())
    pages |= {path: (ROOT / source).read_text() for source, path in ELSEWHERE.items()}
    for notebook in sorted((ROOT / DOCS / "notebooks").glob("*.ipynb")):
        pages |= _notebooks.pages(notebook, f"notebooks/{notebook.stem}.md")
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    for source in (ROOT / DOCS).glob("*.md"):
        _add_assets(source, files, config)
    for source in ELSEWHERE:
        _add_assets(ROOT / source, files, config)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to where their targets are in the site, or in the repository online."""
    source = _source(page.file.src_uri)
    turn = partial(_turned, source=source, page=page.file.src_uri, online=config.repo_url, files=files)
    return "".join(part if part.startswith("```") else _LINK.sub(turn, part) for part in _CODE.split(markdown))


def _turned(match: re.Match[str], *, source: str, page: str, online: str | None, files: Files) -> str:
    image, text, link = match.groups()
    path, hash_, anchor = link.partition("#")
    if "://" in link or not path:
        return match[0]
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    place = _place(target)
    if files.get_file_from_path(place) is not None:
        relative = posixpath.relpath(place, posixpath.dirname(page) or ".")
        return f"{image}[{text}]({relative}{hash_}{anchor})"
    return f"[{text}]({online.rstrip('/')}/blob/main/{target})" if online else text


def _place(target: str) -> str:
    """Where the site has a file of the repository, or a folder's page."""
    if (ROOT / target).is_dir():
        target = f"{target}/README.md"
    if target in ELSEWHERE:
        return ELSEWHERE[target]
    if target.endswith(".ipynb"):
        target = target.removesuffix("ipynb") + "md"
    return target.removeprefix(f"{DOCS}/")


def _source(page: str) -> str:
    """Where the repository has a page of the site."""
    found = {path: source for source, path in ELSEWHERE.items()}
    return found.get(page, f"{DOCS}/{page}")


def _add_assets(source: Path, files: Files, config: MkDocsConfig) -> None:
    for _, _, link in _LINK.findall(source.read_text()):
        path = (source.parent / link.partition("#")[0]).resolve()
        if path.suffix not in _COPIED or not path.is_file():
            continue
        place = _place(path.relative_to(ROOT).as_posix())
        if files.get_file_from_path(place) is None:
            files.append(File.generated(config, place, abs_src_path=str(path)))


def _names(nav: Any) -> list[str]:
    """Every page that a navigation names."""
    if isinstance(nav, str):
        return [nav]
    return [name for one in (nav.values() if isinstance(nav, dict) else nav) for name in _names(one)]
