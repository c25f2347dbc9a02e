"""The dashboard as a user sees it: ``fedsim dashboard`` in a browser, beside runs that go on."""

import os
import signal
import socket
import subprocess
import urllib.request
from urllib.error import URLError

import pytest

import results
from tests.pages.browser import CHROMIUM, Browser, wait_for
from tests.terminal import FEDSIM, environment

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


def add_run(folder, name, status, rounds, **columns):
    store = results.RunStore(str(folder), name)
    row = {"run_id": name, "status": status, "method": name, "dataset": "digits", "seed": 0, "rounds": 10}
    store.write_run(row | columns)
    for index in range(rounds):
        add_round(store, index)
    return store


def add_round(store, index):
    row = {"run_id": store.run_id, "round": index, "accuracy": 0.1 * index, "uplink_bytes": 100, "downlink_bytes": 50}
    store.append("rounds", index, index, [row | {"uplink_bpp": 0.1, "downlink_bpp": 1.0, "round_seconds": 1.5}])


@pytest.fixture
def served(tmp_path):
    """The address of the page of a folder with three runs, and the one of them that is running."""
    add_run(tmp_path / "runs", "fedavg", "finished", 10, validation_accuracy=0.75)
    add_run(tmp_path / "runs", "fedpm", "failed", 2, error="ClientError: the client has no memory left")
    running = add_run(tmp_path / "runs", "deltamask", "running", 3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [FEDSIM, "dashboard", "runs", "--port", str(port), "--no-browser"]
    server = subprocess.Popen(words, cwd=tmp_path, env=environment(), start_new_session=True)
    wait_for(lambda: answers(port))
    yield f"http://127.0.0.1:{port}", running
    os.killpg(server.pid, signal.SIGINT)
    assert server.wait(timeout=30) == 130


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health") as answer:
            return answer.status == 200
    except URLError:
        return False


def test_the_page_shows_runs_and_follows_the_one_that_is_running(served, tmp_path):
    url, running = served
    with Browser(tmp_path / "profile") as browser:
        browser.open(url)
        text = browser.wait_for("fedsim dashboard", "Test accuracy", "Uplink so far, bytes", "Seconds of a round")
        assert [name in text for name in ("deltamask", "fedavg", "fedpm", "75.0%", "Running\n\n1")] == [True] * 5
        add_round(running, 3)
        running.end("finished", None)
        browser.wait_for("Running\n\n0", "Finished\n\n2")  # nobody has touched the page
        browser.click("Failures and warnings")
        browser.wait_for("the client has no memory left")
        assert len(browser.picture()) > 30_000
