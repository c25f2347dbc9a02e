"""A local page that follows runs and sweeps while they go on: ``fedsim dashboard``."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fedsim.errors import ConfigError
from results.locations import open_filesystem


def serve(paths: Sequence[str], *, port: int = 8501, open_browser: bool = True) -> int:
    """Serve the page on 127.0.0.1 until it is interrupted; nothing is sent to anywhere else.

    Args:
        paths: folders of runs, or of single runs, local or URIs; they may still be empty.
        port: of the page, http://127.0.0.1:PORT.
        open_browser: whether to open it.

    Returns:
        The exit code of the server.

    Raises:
        ConfigError: streamlit is not installed, or the port is no port.
        LocationError: a URI cannot be opened.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise ConfigError('dashboard: found no streamlit, allowed: after pip install "deltamask[dashboard]"')
    if not 1 <= port <= 65535:
        raise ConfigError(f"--port: found {port}, allowed: 1 to 65535")
    for path in paths:
        open_filesystem(path)
    options = {
        "server.address": "127.0.0.1",
        "server.port": port,
        "server.headless": not open_browser,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
    }
    words = [f"--{name}={str(value).lower()}" for name, value in options.items()]
    page = Path(__file__).with_name("page.py")
    server = subprocess.Popen([sys.executable, "-m", "streamlit", "run", str(page), *words, "--", *paths])
    try:
        return server.wait()
    finally:
        server.terminate()
        server.wait()
