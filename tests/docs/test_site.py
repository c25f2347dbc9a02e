"""The built site, as `make docs` leaves it: it stands alone, and all its links lead somewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from fedsim.config import catalogue
from fedsim.display import key_rows
from results import schema

SITE = Path(__file__).parents[2] / "site"
pytestmark = pytest.mark.skipif(not SITE.is_dir(), reason="`make docs` builds it")


class Page(HTMLParser):
    """What a page loads and links, and the anchors that it has."""

    def __init__(self, path):
        super().__init__()
        self.loads, self.links, self.anchors = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values.get("id"), values.get("name")}
        if tag in ("script", "img") and values.get("src"):
            self.loads.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preconnect"):
            self.loads.append(values["href"])
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


@pytest.fixture(scope="module")
def pages():
    return {path: Page(path) for path in SITE.rglob("*.html") if path.name not in ("404.html", "report.html")}


def test_nothing_is_fetched_from_elsewhere(pages):
    for path, page in pages.items():
        assert not [load for load in page.loads if urlsplit(load).netloc], path
        for load in page.loads:
            assert load.startswith("data:") or (path.parent / unquote(urlsplit(load).path)).is_file(), (path, load)


def test_links_lead_somewhere(pages):
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), (path, link)
            if parts.fragment and target in pages and parts.fragment != "__skip":
                assert unquote(parts.fragment) in pages[target].anchors, (path, link)


def test_the_reference_has_every_key_and_column():
    keys, columns = ((SITE / "reference" / f"{name}.html").read_text() for name in ("keys", "columns"))
    for key in (row[0].strip(" :") for row in key_rows(catalogue()) if row):
        assert re.search(rf"<(code|strong)>{re.escape(key)}</\1>", keys), key
    for table in (schema.RUNS, schema.ROUNDS, schema.CLIENTS, schema.CLASSES):
        assert all(f"<code>{name}</code>" in columns for name in table.names)


def test_the_api_has_what_packages_offer():
    text = (SITE / "reference" / "fedsim.html").read_text()
    assert all(f'id="fedsim.runner.{name}"' in text for name in ("run", "resume", "RunResult"))
    assert 'id="deltamask.update.encode"' in (SITE / "reference" / "deltamask.html").read_text()


def test_notebooks_are_shown_with_their_outputs():
    text = (SITE / "notebooks" / "paper_figures.html").read_text()
    assert r"\begin{tabular}" in text
    assert "paper_figures-1.png" in text
