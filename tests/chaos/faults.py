"""The saboteur: each fault disturbs a command; afterwards the same command must end as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable

import pytest
from pyarrow import fs

from results.locations import open_filesystem
from tests.chaos.case import Case, pick
from tests.clusters import LocalCluster
from tests.processes import kill

#: Faults by name; they return when what they disturbed has ended.
FAULTS: dict[str, Callable[[Case], None]] = {}
LOCAL = {"full disk"}


def fault(name: str) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Register a fault."""

    def register(function: Callable[[Case], None]) -> Callable[[Case], None]:
        FAULTS[name] = function
        return function

    return register


@fault("worker killed")
def _worker(case: Case) -> None:
    running = case.disturb("a worker killed")
    os.kill(pick(case, running, "ray::Worker"), signal.SIGKILL)
    assert case.end(running) == 0


@fault("driver killed")
def _driver(case: Case) -> None:
    running = case.disturb("the driver killed")
    os.kill(pick(case, running, "ray::Driver"), signal.SIGKILL)
    assert case.end(running) == 0


@fault("worker hangs")
def _hang(case: Case) -> None:
    case.extra = ("cluster.client_seconds=15",)
    running = case.disturb("a worker stopped")
    os.kill(pick(case, running, "ray::Worker"), signal.SIGSTOP)
    assert case.end(running) == 0


@fault("command killed")
def _command(case: Case) -> None:
    running = case.disturb("the command and all its processes killed")
    kill([running.process.pid])
    running.wait()


@fault("raylet killed")
def _raylet(case: Case) -> None:
    running = case.disturb("the node's daemon killed")
    os.kill(pick(case, running, "/raylet/raylet"), signal.SIGKILL)
    case.end(running)


@fault("stopped by signals")
def _signals(case: Case) -> None:
    one, *others = signals = case.rng.choice(
        [[signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP], [signal.SIGINT, signal.SIGINT]]
    )
    running = case.disturb(" and ".join(number.name for number in signals))
    running.signal(one)
    for number in others:
        case.pause(1.0)
        running.signal(number)
    assert case.end(running) != 0


@fault("file damaged")
def _torn(case: Case) -> None:
    running = case.disturb("the command killed")
    kill([running.process.pid])
    running.wait()
    filesystem, path = open_filesystem(case.location)
    infos = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    names = sorted(info.path for info in infos if info.is_file and not info.base_name.startswith("."))
    name = case.rng.choice(names)
    with filesystem.open_input_stream(name) as stream:
        data = bytearray(stream.read())
    how = case.rng.choice(["cut", "flipped", "deleted"])
    if how == "deleted" or not data:
        filesystem.delete_file(name)
    else:
        at = case.rng.randrange(len(data))
        data[at] ^= 1 << case.rng.randrange(8)
        with filesystem.open_output_stream(name) as stream:
            stream.write(bytes(data[:at] if how == "cut" else data))
    case.happened += f", {name[len(path) + 1 :]} {how}"


@fault("second writer")
def _second(case: Case) -> None:
    first = case.disturb("the same command started beside it")
    second = case.start()
    codes = case.end(second), case.end(first)
    assert 0 in codes, (first.output + second.output).decode()


@fault("full disk")
def _full(case: Case) -> None:
    kilobytes = case.rng.randrange(100, 4000)
    script = (
        'mount -t tmpfs -o size="$1"k none "$2" && shift && out=$1 && keep=$2 && shift 2 && '
        '{ "$@"; code=$?; mount -o remount,size=1g "$out"; cp -r "$out/." "$keep"; exit $code; }'
    )
    small, kept = case.folder / "small", case.folder / "kept"
    small.mkdir()
    kept.mkdir()
    case.output = str(small)
    unshare = ["unshare", "-rm", "sh", "-c"]
    if subprocess.run([*unshare, f"mount -t tmpfs none {small}"], capture_output=True).returncode:
        pytest.skip("a filesystem of a given size cannot be mounted here")
    running = case.start([*unshare, script, "sh", str(kilobytes), str(small), str(kept), *case.command])
    code = case.end(running)
    case.happened = f"a disk of {kilobytes} kB"
    assert code == 0 or b"No space left on device" in running.output, running.output.decode()
    case.output = str(kept)


@fault("node lost")
def _node(case: Case) -> None:
    case.extra = ("cluster.start_seconds=10",)
    with LocalCluster() as cluster:
        cluster.start_head(num_cpus=1)
        cluster.add_node("127.0.0.2", num_cpus=1)
        case.variables = cluster.environment
        running = case.disturb("the second of two nodes killed")
        kill(cluster.nodes())
        assert case.end(running) == 0
        case.extra, case.variables = (), {}
