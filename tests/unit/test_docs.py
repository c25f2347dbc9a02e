"""The sources of the documentation site; `make docs` builds it."""

import json
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, whose tags name variables and functions."""


_Loader.add_multi_constructor("", lambda loader, tag, node: tag)


def test_the_navigation_has_every_notebook_and_no_page_that_is_not_there():
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), _Loader)
    names = []

    def collect(one):
        if isinstance(one, str):
            names.append(one)
        else:
            for part in one.values() if isinstance(one, dict) else one:
                collect(part)

    collect(config["nav"])
    assert {f"notebooks/{path.stem}.md" for path in NOTEBOOKS} <= set(names)
    made = ("*", "index.md", "contributing.md", "changelog.md", "benchmarks.md", "paper.md")
    written = [
        name for name in names if name not in made and name.split("/")[0] not in ("notebooks", "reference", "rooms")
    ]
    assert all((ROOT / "docs" / name).is_file() for name in written)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
