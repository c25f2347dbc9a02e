"""What is said of a worker that was lost: a line, not Ray's paragraphs."""

import pytest
from ray.exceptions import ActorUnavailableError, NodeDiedError, OutOfMemoryError

from fedsim.distributed._pool import _reason

_KILLED = """The actor died unexpectedly before finishing this task.
\tclass_name: Worker
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: There are some
potential root causes. (1) The process is killed by SIGKILL by OOM killer due to high memory usage.
"""
_HINT = "fewer cluster.workers share it; train.batch_size and model.masked_blocks lower the need of each"


_HEAVY = "Task was killed due to the node running low on memory.\nMemory on the node (IP: 1.2.3.4)"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OutOfMemoryError(_HEAVY), f"the memory of its node ran out: {_HINT}"),
        (
            ActorUnavailableError(_KILLED, None),
            "The actor None is unavailable: The actor died unexpectedly before finishing this task. "
            f"If its memory ran out: {_HINT}",
        ),
        (NodeDiedError("The node was preempted.\nNode id: 1"), "The node was preempted."),
    ],
)
def test_reasons_are_a_line_with_the_keys_that_help(error, expected):
    assert _reason(error) == expected
