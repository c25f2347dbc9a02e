"""The page of a report: its numbers are those of the Parquet files, it loads nothing, and no run can run a script."""

import html as markup
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

import results
from pipelines.report import build, shown_files
from results import formats, report, tables

ROOT = Path(__file__).parents[3]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ATTACK = '<script>document.title = \'taken\'</script><img src="https://example.org/x.png" onerror="alert(1)">'


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with three runs, one of them failed with an error full of markup, and its page."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, method in enumerate(("deltamask", "deltamask", "fedavg")):
        store = results.RunStore(str(folder), f"{method}-s{seed}")
        row = {"run_id": store.run_id, "method": method, "dataset": "digits", "seed": seed, "version": "0.1.0"}
        row |= {"status": "finished", "final_accuracy": 0.5 + 0.1 * seed, "uplink_bpp": 0.1 * (seed + 1)}
        row |= {"uplink_bytes": 3000 + seed, "downlink_bytes": 90000, "command": f"fedsim run seed={seed}"}
        if seed == 1:
            row |= {"status": "failed", "error": ATTACK, "warnings": ATTACK, "command": ATTACK}
        store.write_run(row | {"config": json.dumps({"seed": seed, "train": {"lr": 0.1}, ATTACK: ATTACK})})
        for index in range(3):
            base = {"run_id": store.run_id, "round": index, "uplink_bpp": 0.1, "downlink_bytes": 30000}
            store.append("rounds", index, index, [base | {"accuracy": 0.3 + 0.1 * index, "uplink_bytes": 1000 + index}])
            base = {"run_id": store.run_id, "round": index}
            store.append(
                "clients", index, index, [base | {"client": k, "samples": 9, "payload_bytes": 500} for k in (0, 1)]
            )
    return folder, report.write(results.load(folder), folder / "report")


def cells(html):
    return [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", html, re.DOTALL)]


def assert_shows_the_numbers(folder, html):
    shown = cells(html)
    loaded = results.load(folder)
    for table, columns in (
        (loaded.runs, ["run_id", "final_accuracy", "uplink_bpp", "uplink_bytes", "downlink_bytes"]),
        (loaded.rounds, ["accuracy", "uplink_bytes", "uplink_bpp"]),
    ):
        for column in columns:
            assert {formats.cell(column, value) for value in table[column]} <= set(shown), column
    assert "1 run left out: not finished." in html
    assert "3 runs (2 finished, 1 failed)" in html


def test_the_page_shows_the_numbers_of_the_files(written):
    folder, page = written
    assert_shows_the_numbers(folder, page.read_text())
    assert page == folder / "report" / "index.html"
    pictures = {path.stem for path in page.parent.glob("*.png")}
    assert pictures == {
        *("accuracy_against_bytes", "accuracy_against_all_bytes", "accuracy_over_rounds", "accuracy_over_bytes"),
        *("bpp_over_rounds", "clients"),
    }
    assert len(results.load(folder).runs) == 3  # the report is no run


def test_the_page_refers_to_nothing_outside_and_escapes_what_it_shows(written):
    html = written[1].read_text()
    assert html.count("<script") == html.count("</script") == 1
    tags = re.findall(r"<[a-z][^>]*>", html)
    sources = [value for tag in tags for value in re.findall(r'\b(?:src|href|action|data)="([^"]*)"', tag)]
    assert len(sources) > 6
    assert all(source.startswith(("data:image/png;base64,", "#section-")) for source in sources)
    assert not any(re.search(r"\bon[a-z]+=|\bstyle=", tag) for tag in tags)
    assert not re.search(r"@import|url\(|fetch\(|<link|<iframe", html)
    assert "&lt;script&gt;document.title" in html


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_the_numbers_and_sorts_them(written, tmp_path):
    folder, page = written
    # A click on a heading, by a script of the test: what the page's policy would forbid is added to it here.
    html = page.read_text()
    click = "document.querySelectorAll('th button').forEach(button => { button.click(); button.click(); });"
    clicked = re.sub(r"script-src &#39;[^;]*&#39;|script-src '[^;]*'", "script-src 'unsafe-inline'", html)
    clicked = clicked.replace("</body>", f"<script>{click}</script></body>")
    assert clicked.count("unsafe-inline") == 1
    (tmp_path / "clicked.html").write_text(clicked)
    shown = {}
    for path in (page, tmp_path / "clicked.html"):
        done = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
             f"--user-data-dir={tmp_path}/profile", f"file://{path}"],
            check=True, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert "Content Security Policy" not in done.stderr  # nothing was refused, so nothing was asked for
        shown[path.name] = done.stdout
    assert_shows_the_numbers(folder, shown["index.html"])
    assert "<title>fedsim report</title>" in shown["index.html"]
    assert 'aria-sort="descending"' in shown["clicked.html"]
    names = [name for name in cells(shown["clicked.html"]) if name in ("deltamask-s0", "deltamask-s1", "fedavg-s2")]
    assert names != [name for name in cells(shown["index.html"]) if name in names]


def test_runs_without_a_finished_one_have_a_page_too(tmp_path):
    results.RunStore(str(tmp_path), "run-a").write_run(
        {"run_id": "run-a", "status": "failed", "error": "out of memory"}
    )
    html = report.write(results.load(tmp_path), tmp_path / "report").read_text()
    assert "out of memory" in cells(html)
    with pytest.raises(ValueError, match="runs: found none"):
        report.write(results.load(tmp_path, where={"seed": 1}), tmp_path / "report")


@pytest.mark.parametrize("made", ["committed", "anew"])
def test_the_page_of_the_committed_results_shows_their_numbers(made):
    """A page that is older than the results fails here: python -m pipelines.report makes it again."""
    benchmarks = ROOT / "results" / "benchmarks"
    html = (ROOT / "docs" / "report.html").read_text() if made == "committed" else build(benchmarks)
    shown = [markup.unescape(cell) for cell in cells(html)]
    frame = pd.read_parquet(benchmarks / "methods" / "efficientnet-lite0.parquet")
    main = tables.main(frame, by=["label", "alpha"], across=["alpha"], accuracy="best_accuracy")
    assert set(main["alpha 10"]) | set(main["alpha 0.1"]) | set(main["label"]) <= set(shown)
    for file in shown_files(benchmarks):
        expected = pd.read_parquet(file)
        for column in {"accuracy", "final_accuracy", "uplink_bpp", "uplink_bytes", "bits_per_flip"} & set(expected):
            assert {formats.cell(column, value) for value in expected[column]} <= set(shown), (file, column)


def test_a_search_is_shown_by_itself_with_all_that_it_tried(tmp_path):
    def add(name, seed, lr, kappa, tried, **columns):
        config = json.dumps({"seed": seed, "train": {"lr": lr}, "method": {"kappa": kappa}})
        row = {"run_id": name, "method": "deltamask", "dataset": "digits", "seed": seed, "status": "finished"}
        row |= {"final_accuracy": 0.5, "best_accuracy": 0.5, "uplink_bytes": 5, "downlink_bytes": 5, "config": config}
        store = results.RunStore(str(tmp_path), name)
        store.write_run(
            row | {"trial": json.dumps({"train.lr": lr, "method.kappa": kappa}) if tried else None} | columns
        )
        for index in (0, 1):
            base = {"run_id": name, "round": index, "uplink_bytes": 5, "downlink_bytes": 5, "uplink_bpp": 0.1}
            store.append("rounds", index, index, [base | {"accuracy": 0.5}])
            store.append("clients", index, index, [{"run_id": name, "round": index, "client": 0, "payload_bytes": 5}])

    for index in range(8):
        add(f"trial-{index}", 0, 0.1 + index / 100, 0.2 + index / 100, True)
    for seed in (1, 2, 3):
        add(f"confirmed-{seed}", seed, 0.1, 0.2, False)
    add("alive", 4, 0.1, 0.2, False, status="running")
    loaded = results.load(tmp_path)
    assert tables.groups(loaded.runs).attrs["keys"] == ["method", "train.lr", "method.kappa"]
    compared = tables.groups(report.without_trials(loaded).runs)
    assert (len(compared), compared["runs"].tolist()) == (1, [3])
    html = report.write(loaded, tmp_path / "report").read_text()
    assert html.count("Trials of searches are not in the tables above") == 1
    assert {"train.lr", "method.kappa", "0.17", "0.27"} <= set(cells(html)) | set(re.findall(r">([\w.]+)</", html))
    assert "What failed" not in html
    assert list(loaded.last_written) == ["alive"]
    assert "Where nothing was written for long, the process is dead" in html
