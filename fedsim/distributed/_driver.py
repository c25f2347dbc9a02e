"""The Ray actor that owns a run: it starts the workers, aggregates their uploads and stores every round."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedsim.config import Config
from fedsim.distributed._executor import RayExecutor, start_workers
from fedsim.distributed._worker import Interrupted
from fedsim.engine import Simulation
from fedsim.errors import WorkerLostError


@ray.remote
class Driver:
    """Owner of the round. A restarted driver goes on from the checkpoint, with the same workers.

    Args:
        config: the experiment.
        output: folder of all runs, absolute where it is local.
        workers: names of the worker actors. (Where an actor restarts, Ray warns of arguments that are actors.)
        command: command line to store with the results.
    """

    def __init__(self, config: Config, output: str, workers: list[str], command: str) -> None:
        self._arguments = config, output, workers, command
        self._lock = threading.Lock()
        self._interrupted = threading.Event()
        self._opened: Simulation | None = None

    def _simulation(self) -> Simulation:
        # Not opened by the constructor: an error there would reach the caller as the death of an actor.
        if self._opened is None:
            config, output, workers, command = self._arguments
            executor = RayExecutor(config, [ray.get_actor(name) for name in workers], self._interrupted)
            self._opened = Simulation(config, executor, output, command)
        return self._opened

    def stored_rounds(self) -> list[dict[str, Any]]:
        """See :meth:`Simulation.stored_rounds`."""
        with self._lock:
            return self._simulation().stored_rounds()

    def step(self) -> tuple[dict[str, Any] | None, str]:
        """See :meth:`Simulation.step`; None also when interrupted. With it, what clients printed."""
        with self._lock:
            try:
                row = self._simulation().step()
            except Interrupted:
                return None, ""
            return row, self._simulation().output

    def phase(self) -> str:
        """See :meth:`Simulation.phase`."""
        return self._opened.phase() if self._opened is not None else "starting"

    def interrupt(self) -> None:
        """End the step in progress without storing its round."""
        self._interrupted.set()

    def finish(self, status: str, error: str | None = None, trace: str | None = None) -> dict[str, Any]:
        """See :meth:`Simulation.finish`; waits for the step in progress."""
        with self._lock:
            return self._simulation().finish(status, error, trace)


# Two threads: one runs rounds, the other can interrupt it, and say what it is at.
_PHASE_SECONDS = 0.5  # between two questions for the phase
_OPTIONS = {"num_cpus": 0, "max_restarts": 3, "max_task_retries": 3, "max_concurrency": 2}


class RemoteSimulation:
    """A :class:`Simulation` in a driver actor on this node; the same methods, and errors as they were raised there.

    Driver and workers start side by side. The arguments are those of :class:`Driver`, but for the number of workers.
    """

    def __init__(self, config: Config, output: str, workers: int, command: str) -> None:
        names = [f"worker {index} {uuid.uuid4()}" for index in range(workers)]
        self._workers = start_workers(config.model_copy(update={"output": output}), names)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = _OPTIONS | {"scheduling_strategy": here}
        self._driver = Driver.options(**options).remote(config, output, names, command)  # type: ignore[attr-defined]
        self._phase, self._asked_at = "starting", 0.0
        self._asked: Any = None  # for the phase
        self._asking, self._ended = threading.Lock(), False

    def stored_rounds(self) -> list[dict[str, Any]]:
        """See :meth:`Simulation.stored_rounds`."""
        rounds: list[dict[str, Any]] = _get(self._driver.stored_rounds.remote())
        return rounds

    def step(self) -> dict[str, Any] | None:
        """See :meth:`Simulation.step`. What clients printed is printed here."""
        row, output = _get(self._driver.step.remote())
        if output:
            sys.stdout.write(f"{output}\n")
            sys.stdout.flush()
        found: dict[str, Any] | None = row
        return found

    def phase(self) -> str:
        """See :meth:`Simulation.phase`: that of a second ago or two, as nothing is waited for. Any thread may ask."""
        with self._asking, suppress(RayError):  # the driver may be lost, or starting again
            if self._ended:  # and Ray, too, perhaps
                return self._phase
            if self._asked is None and time.monotonic() - self._asked_at >= _PHASE_SECONDS:
                self._asked, self._asked_at = self._driver.phase.remote(), time.monotonic()
            elif self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
                asked, self._asked = self._asked, None
                self._phase = ray.get(asked)
        return self._phase

    def finish(self, status: str, error: str | None = None, trace: str | None = None) -> dict[str, Any]:
        """See :meth:`Simulation.finish`; a step in progress is given up."""
        self._stop_asking()
        if status != "finished":
            _get(self._driver.interrupt.remote())
        row: dict[str, Any] = _get(self._driver.finish.remote(status, error, trace))
        ray.kill(self._driver)
        return row

    def close(self) -> None:
        """Release the workers, also those of a driver that was lost."""
        self._stop_asking()
        for worker in self._workers:
            ray.kill(worker)

    def _stop_asking(self) -> None:
        with self._asking:
            self._ended, self._asked = True, None


def _get(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:  # the actor, its node, or the cluster's head
        reason = str(error).strip().partition("\n")[0]
        raise WorkerLostError(
            f"the process that drives the run was lost for good ({type(error).__name__}: {reason}); its rounds are "
            "stored, and the same command goes on after the last checkpoint"
        ) from None
