"""Notebooks as pages of the site: executed while it is built, their outputs below the cells."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def executed(notebook: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in an empty folder. Raises CellExecutionError where a cell fails."""
    node = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(node, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}})
        return client.execute()


def pages(notebook: Path, page: str) -> dict[str, str | bytes]:
    """The page of a notebook and its pictures, by their paths in the site."""
    made: dict[str, str | bytes] = {}
    parts: list[str] = []
    for cell in executed(notebook).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                picture = f"{page.removesuffix('.md')}-{len(made)}.png"
                made[picture] = base64.b64decode(data["image/png"])
                parts.append(f"![Output of the cell above]({Path(picture).name})")
            elif text := _text(output):
                parts.append(f"```text\n{text.rstrip()}\n```")
    return made | {page: "\n\n".join(parts) + f"\n\nAs a notebook: `docs/notebooks/{notebook.name}`.\n"}


def _text(output: nbformat.NotebookNode) -> str:
    """Text of an output; none of logs, and of widgets, whose text says nothing."""
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    return "" if output.get("name") == "stderr" or text.startswith("<IPython") else text
