"""Going on with a finished run for more rounds."""

from __future__ import annotations

from pyarrow import fs

from fedsim.config import Config
from fedsim.engine._checkpoint import checkpoints
from results import RunStore, locations


def shorter_run(config: Config, output: str) -> RunStore | None:
    """The longest finished run that this one begins like, of those that kept their last checkpoint; None without any.

    That is one with fewer rounds and otherwise the same configuration, whose method does the same whatever the number
    of rounds. Its last round must be one that this run evaluates too.

    Args:
        config: the experiment.
        output: folder of all runs.
    """
    if config.method.depends_on_rounds:
        return None
    filesystem, root = locations.open_filesystem(output)
    infos = filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True))
    alike = config.run_id.rpartition("-")[0]
    known = {info.base_name for info in infos if info.base_name.startswith(alike)} - {config.run_id}
    for rounds in range(config.rounds - 1, 0, -1) if known else ():
        run_id = config.model_copy(update={"rounds": rounds}).run_id
        if run_id in known and config.evaluate.due(rounds, config.rounds):
            store = RunStore(output, run_id)
            row = store.run_or_none()
            if row is not None and row["status"] == "finished" and checkpoints(store):
                return store
    return None
