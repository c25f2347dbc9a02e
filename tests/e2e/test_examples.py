"""The example without the simulator: processes of their own that exchange bytes over TCP."""

import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "socket"
#: Python imports it at its start: whoever asks for Ray or the simulator is told that there is none.
GUARD = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "fedsim", "results", "pipelines"}:
            raise ImportError(f"{name} is not for the library")
sys.meta_path.insert(0, Absent())
"""


def test_a_federation_over_tcp_without_the_simulator(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{EXAMPLE.parents[1]}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    guarded = subprocess.run([sys.executable, "-c", "import fedsim"], capture_output=True, text=True, check=False)
    assert "fedsim is not for the library" in guarded.stderr
    processes = []

    def start(script, *arguments):
        command = [sys.executable, str(EXAMPLE / script), *map(str, arguments)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return processes[-1]

    try:
        server = start("server.py", "--rounds", 3)
        port = int(server.stdout.readline().removeprefix("port "))
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(struct.pack("<I", 2**31))  # the length of a message that nobody takes
            assert stranger.recv(1) == b""
        steady = start("client.py", port, 0)
        early = start("client.py", port, 1, "--rounds", 1, "--state", tmp_path / "state")
        assert early.wait(60) == 0
        again = start("client.py", port, 1, "--state", tmp_path / "state")
        output, _ = server.communicate(timeout=60)
        assert [process.wait(60) for process in (server, steady, again)] == [0, 0, 0], output
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert "refused: message: found 2147483648 bytes, allowed: at most 8" in output
    rounds = re.findall(r"round (\d): accuracy (0\.\d+), uplink (\d+) bytes", output)
    assert [int(index) for index, _, _ in rounds] == [1, 2, 3]
    assert float(rounds[-1][1]) > 0.6
    assert 0 < int(rounds[-1][2]) < 2 * 85_002 / 8  # two clients, below a bit for each weight
