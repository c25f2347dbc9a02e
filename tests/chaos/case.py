"""One experiment under one fault: the command that is disturbed, and the calm run that it must equal."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import fedsim
import results
from results import locations
from tests.processes import commands, family, wait_for_exit
from tests.terminal import FEDSIM, Terminal, environment

ROUNDS = 12
_BASE = (
    *(f"rounds={ROUNDS}", "data.train_samples=600", "data.test_samples=200", "model.masked_blocks=1"),
    *("partition.name=dirichlet", "partition.clients=8", "partition.alpha=0.5", "min_clients=8"),
)
#: Experiments by what is worst to lose: theta and its momentum, or what each client keeps between its rounds.
EXPERIMENTS = {
    "masks": (*_BASE, "method.name=deltamask-plus"),
    "sparse": (*_BASE, "method.name=fedavg", "method.compressor.name=top-k", "method.error_feedback=true"),
}
_CLUSTER = ("cluster.workers=2", "cluster.checkpoint_seconds=0.5", "cluster.start_seconds=60")
#: Columns that are the same however often parts of a run were lost and computed again.
SAME = {
    "rounds": ["round", "participants", "lost_clients", "accuracy", "loss", "uplink_bytes", "downlink_bytes"],
    "clients": ["round", "client", "samples", "train_loss", "payload_bytes", "downlink_bytes"],
}
_ATTEMPTS = 3


@dataclass
class Case:
    """An experiment under a fault.

    Attributes:
        experiment: a key of :data:`EXPERIMENTS`.
        output: folder of the runs, a local path or a URI.
        folder: a local one of this case.
        rng: decides all that a fault leaves open.
        extra: further overrides, which do not change results.
        variables: of the environment of commands.
        happened: what the fault did, in words.
        codes: exit codes of the commands so far, in order.
    """

    experiment: str
    output: str
    folder: Path
    rng: random.Random
    extra: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    happened: str = ""
    codes: list[int] = field(default_factory=list)
    opened: list[Terminal] = field(default_factory=list)

    @property
    def command(self) -> list[str]:
        """The command of the run; whatever happens, the same one goes on."""
        return [FEDSIM, "run", *EXPERIMENTS[self.experiment], *_CLUSTER, *self.extra, f"output={self.output}"]

    @property
    def location(self) -> str:
        """Where the run is."""
        return locations.join(self.output, fedsim.load_config(None, EXPERIMENTS[self.experiment]).run_id)

    def start(self, command: list[str] | None = None) -> Terminal:
        """Start the command."""
        self.opened.append(Terminal(command or self.command, self.folder, environment() | self.variables))
        return self.opened[-1]

    def disturb(self, what: str = "") -> Terminal:
        """Start the command, and return some moment after some round."""
        running = self.start()
        index = self.rng.randrange(ROUNDS // 2)  # what is left takes longer than the pause
        running.read_until(f"round {index}/{ROUNDS}".encode())
        self.pause(1.0)
        self.happened = f"{what} after round {index}"
        return running

    def pause(self, seconds: float) -> None:
        """Let some time pass, at most ``seconds``: nothing tells the moment at which a fault comes."""
        time.sleep(self.rng.uniform(0, seconds))

    def end(self, running: Terminal) -> int:
        """The exit code of a command, of which no process may be left."""
        processes = family(running.process.pid)
        code = running.wait(240)
        self.codes.append(code)
        assert b"Traceback" not in running.output, running.output.decode()
        assert not wait_for_exit(processes, 60)
        return code

    def finish(self) -> None:
        """Give the command until it finishes the run."""
        for _ in range(_ATTEMPTS):
            if self.end(running := self.start()) == 0:
                return
        raise AssertionError(running.output.decode())

    def close(self) -> None:
        """End what is left."""
        for one in self.opened:
            one.close()


def pick(case: Case, running: Terminal, mark: str) -> int:
    """Any of the processes of a command whose own command line begins with or has ``mark``, once there is one."""
    wanted, deadline = mark.encode(), time.monotonic() + 60
    while time.monotonic() < deadline:
        known = commands()
        own = [(pid, known.get(pid, b"")) for pid in family(running.process.pid)]
        found = [pid for pid, line in own if line.startswith(wanted)] or [pid for pid, line in own if wanted in line]
        if found:
            return case.rng.choice(found)
        time.sleep(0.05)
    raise AssertionError(f"no process {mark} within a minute")


def differences(location: str, calm: results.Results) -> list[str]:
    """What a finished run has other than the calm one."""
    found = results.load(location)
    [run] = found.runs.to_dict("records")
    wrong = [] if run["status"] == "finished" else [f"status {run['status']}: {run['error']}"]
    wrong += [str(error) for error in found.damaged]
    for table, columns in SAME.items():
        one, other = getattr(found, table), getattr(calm, table)
        names = [*columns, *(["state_digest"] if table == "rounds" else [])]
        if not one[names].equals(other[names]):
            wrong.append(f"{table} differ")
    return wrong
