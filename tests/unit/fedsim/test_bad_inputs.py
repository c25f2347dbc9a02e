"""Bad input on the command line: exit code 2, and the message of the committed file, to the letter.

``python -m tests.unit.fedsim.test_bad_inputs`` writes the file anew, for messages that are meant to change; read them
in the difference as whoever gets them would.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from fedsim import cli

TABLE = Path(__file__).with_name("bad_inputs.txt")


def _image(path: Path, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(size * size, dtype=np.uint8).reshape(size, size)).save(path)


def _parquet(folder: Path, labels: list, metadata: bytes | None = None, split: str = "train", **columns: list) -> None:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    image = {"bytes": stream.getvalue(), "path": None}
    table = pa.table({"image": [image] * len(labels), "label": labels, **columns})
    folder.mkdir(exist_ok=True)
    pq.write_table(
        table.replace_schema_metadata({"huggingface": metadata} if metadata else None), folder / f"{split}-0.parquet"
    )


def _files(folder: Path) -> None:
    """What the commands read."""
    texts = {
        "empty.yaml": "",
        "list.yaml": "- 1\n- 2\n",
        "broken.yaml": "rounds: [1\n",
        "tabs.yaml": "data:\n\tname: digits\n",
        "binary.yaml": "\x00\x01",
        "deep.yaml": "seed: " + "[" * 80 + "]" * 80,
        "constructor.yaml": "seed: !!python/object/apply:os.getcwd []",
        "old.yaml": "data: {partition: dirichlet, alpha: 0.1}\nmodel: {head_epochs: 3}\n",
        "two-errors.yaml": "rounds: 0\nseed: -1\n",
        "text.safetensors": "weights",
        "words.txt": "no run",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    sweeps = {
        "no-kind": {"base": {}, "space": {"seed": {}}},
        "two-kinds": {"base": {}, "space": {"seed": {"grid": [1], "choice": [2]}}},
        "empty-grid": {"base": {}, "space": {"seed": {"grid": []}}},
        "descending": {"base": {}, "space": {"train.lr": {"uniform": [1, 0]}}},
        "negative-log": {"base": {}, "space": {"train.lr": {"loguniform": [-1, 1]}}},
        "unknown-key": {"base": {}, "space": {"train.learning_rate": {"grid": [1]}}},
        "unknown-value": {"base": {}, "space": {"method.name": {"grid": ["fedprox"]}}},
        "unknown-group": {"base": {}, "search": {"trial": 3}},
        "bad-base": {"base": {"rounds": 0}, "space": {}},
        "unknown-when": {"base": {}, "space": {"seed": {"grid": [1], "when": {"metod.name": "fedavg"}}}},
        "huge": {"base": {}, "space": {f"method.k{n}": {"grid": list(range(100))} for n in range(6)}},
        "bad-objective": {
            "base": {},
            "space": {"train.lr": {"uniform": [0.1, 1]}},
            "search": {"objectives": {"accuracy": "max"}},
        },
        "bad-direction": {
            "base": {},
            "space": {"train.lr": {"uniform": [0.1, 1]}},
            "search": {"objectives": {"final_accuracy": "up"}},
        },
        "no-validation": {"base": {"data": {"validation": 0}}, "space": {"train.lr": {"uniform": [0.1, 1]}}},
        "integer": {"base": {}, "space": {"train.epochs": {"integer": [1, 3]}}},
        "int-and-grid": {"base": {}, "space": {"train.epochs": {"int": [1, 3], "grid": [1]}}},
        "space-is-list": {"base": {}, "space": [1]},
        "one-seed": {"base": {}, "space": {"seed": {"grid": [0]}}},
    }
    for name, sweep in sweeps.items():
        (folder / f"sweep-{name}.yaml").write_text(json.dumps(sweep))
    for name in ("empty", "no-images/a", "no-images/b"):
        (folder / name).mkdir(parents=True)
    for name in ("good/a/1.png", "good/a/2.png", "good/b/3.png", "good/b/4.png", "one-class/a/1.png"):
        _image(folder / name)
    for name in ("train/a/1.png", "train/b/2.png", "test/a/1.png", "test/c/2.png"):
        _image(folder / "new-class" / name)
    for name in ("a/1.png", "b/2.png"):
        _image(folder / "dead-link" / name)
    (folder / "dead-link" / "a" / "9.png").symlink_to("nowhere.png")
    for name in ("a/1.png", "b/2.png", "b/4.png", "a/3.png"):
        _image(folder / "corrupt" / name)
    (folder / "corrupt" / "b" / "2.png").write_bytes(b"none")
    for name in ("a/1.png", "b/2.png"):
        _image(folder / "pipe" / name)
    os.mkfifo(folder / "pipe" / "a" / "3.png")
    for name, labels in {
        "lists": [[0], [1]],
        "floats": [0.5, 1.0],
        "negative": [0, -1],
        "enormous": [0, 10**9],
        "empties": [0, None],
        "good-table": [0, 1, 0, 1],
        "no-rows": [],
    }.items():
        _parquet(folder / name, labels if labels else pa.array([], pa.int64()))
        _parquet(folder / name, [0, 1], split="test")
    _parquet(folder / "new-label", [0, 1])
    _parquet(folder / "new-label", [0, 7], split="test")
    _parquet(folder / "bad-metadata", [0, 1], b"{")
    _parquet(folder / "bad-metadata", [0, 1], split="test")
    (folder / "no-parquet").mkdir()
    (folder / "no-parquet" / "train-0.parquet").write_bytes(b"PAR1 and no more")
    (folder / "no-parquet" / "test-0.parquet").write_bytes(b"")


_SERIAL = "cluster.executor=serial output=runs"
_FOLDER, _TABLE = f"run {_SERIAL} data.name=image-folder data.path=", f"run {_SERIAL} data.name=parquet data.path="
COMMANDS = [
    # Keys and values.
    "run rounds", "run rounds=", "run rounds=0", "run rounds=many", "run rounds=1.5", "run rounds=[",
    "run rounds=true", "run sed=1", "run seed=-1", f"run seed={'9' * 40}", "run participation=0",
    "run participation=1.1", "run =3", "run train=3", "run train.x.y=3", "run train.lr=.inf", "run train.lr=0",
    "run train.epochs=0", "run train.batch_size=no", "run train.optimizer=lion",
    "run train.momentum=0.5 train.optimizer=adam", "run train.logit_adjustment=0", "run data.name=digit",
    "run data.path=x", "run data.validation=1", "run data.train_samples=0", "run data.max_corrupt=2",
    "run partition.name=dirichlet partition.alpha=0", "run partition.alpha=0.1", "run partition.clients=0",
    "run model.name=vit", "run model.masked_blocks=-1", "run model.feature_dtype=int8", "run head.name=lda",
    "run head.epochs=3", "run head.penalty=-1", "run head.compressor.name=zip", "run method.name=deltamsk",
    "run method.kapa=1", "run method.kappa=2", "run method.codec=fuse9", "run method.clip=0.6",
    "run method.theta_init=0.999", "run method.selection=best", "run method.name=fedavg method.compressor.name=zip",
    "run method.name=eden method.compressor.rate=9", "run method.name=qsgd method.compressor.name=eden",
    "run method.compressor.name=qsgd",
    "run method.name=lora method.rank=0", "run method.name=nowhere:Method", "run method.name=json:JSONDecoder",
    "run privacy.noise=1", "run privacy.clip=1 method.name=ridge", "run privacy.client_clip=5 method.name=fedavg",
    "run evaluate.every=0", "run on_client_error=skip", "run cluster.executor=dask", "run cluster.workers=0",
    "run cluster.gpus_per_worker=1.5", "run cluster.client_seconds=0", "run output=ftp://host/runs",
    "run cluster.py_modules=my_methods.py",
    "run output=s3://", "run rounds=0 seed=-1 method.kappa=2",
    # Files.
    "run missing.yaml", "run list.yaml", "run broken.yaml", "run tabs.yaml", "run binary.yaml", "run deep.yaml",
    "run constructor.yaml", "run old.yaml", "run two-errors.yaml", "run empty",
    "run sweep-one-seed.yaml", "resume nowhere", "resume words.txt",
    "report nowhere", "report words.txt", "partition partition.clients=5000",
    # Sweeps.
    "sweep missing.yaml", "sweep empty.yaml", "sweep list.yaml", "sweep sweep-no-kind.yaml",
    "sweep sweep-two-kinds.yaml", "sweep sweep-empty-grid.yaml", "sweep sweep-descending.yaml",
    "sweep sweep-negative-log.yaml", "sweep sweep-unknown-key.yaml", "sweep sweep-unknown-value.yaml",
    "sweep sweep-unknown-group.yaml", "sweep sweep-bad-base.yaml", "sweep sweep-unknown-when.yaml",
    "sweep sweep-huge.yaml", "sweep sweep-bad-objective.yaml", "sweep sweep-bad-direction.yaml",
    "sweep sweep-no-validation.yaml", "sweep sweep-space-is-list.yaml", "sweep sweep-one-seed.yaml seed=3",
    "sweep sweep-one-seed.yaml concurrent=0", "sweep sweep-integer.yaml", "sweep sweep-int-and-grid.yaml",
    "sweep sweep-one-seed.yaml space.log.wandb.grid=[a]", "run log.callbacks=[Class]", "run log.tensorboad=x",
    # Data.
    f"run {_SERIAL} data.name=image-folder", f"{_FOLDER}nowhere", f"{_FOLDER}words.txt", f"{_FOLDER}empty",
    f"{_FOLDER}no-images", f"{_FOLDER}one-class partition.clients=5", f"{_FOLDER}new-class", f"{_FOLDER}dead-link",
    f"{_FOLDER}corrupt partition.clients=1 rounds=1", f"{_FOLDER}pipe", f"{_FOLDER}good partition.clients=50",
    f"{_TABLE}empty", f"{_TABLE}lists", f"{_TABLE}floats", f"{_TABLE}negative",
    f"{_TABLE}enormous", f"{_TABLE}empties", f"{_TABLE}no-rows", f"{_TABLE}new-label", f"{_TABLE}bad-metadata",
    f"{_TABLE}no-parquet", f"{_TABLE}good-table data.image_column=picture",
    f"{_TABLE}good-table data.label_column=class",
    f"{_TABLE}good-table partition.clients=2 partition.name=natural partition.column=user",
    # What is loaded.
    f"run {_SERIAL} model.masked_blocks=9", f"run {_SERIAL} partition.clients=5000",
   
    f"run {_SERIAL} model.name=dinov2-small model.checkpoint=nowhere.pt",
    f"run {_SERIAL} model.name=dinov2-small model.checkpoint=text.safetensors",
    f"run {_SERIAL} cluster.gpus_per_worker=1", f"run {_SERIAL} output=words.txt",
]  # fmt: skip


def message_of(command: str, folder: Path) -> str:
    """What a command prints in the folder of :func:`_files`, without the folder's name; it must fail."""
    shown = io.StringIO()
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as ended:
            cli.app(shlex.split(command))
    finally:
        os.chdir(before)
    assert ended.value.code == 2, f"{command}: exit code {ended.value.code}"
    return shown.getvalue().replace(str(folder.resolve()), "FOLDER").strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("input")
    _files(folder)
    return folder


def test_there_are_many_of_all_kinds():
    assert len(set(COMMANDS)) == len(COMMANDS) > 120


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_input_is_one_message(command, folder):
    if "gpus_per_worker" in command and torch.cuda.is_available():
        pytest.skip("this machine has what the command asks for")
    found = message_of(command, folder)
    assert "Traceback" not in found
    assert len(found) < 2000
    assert found == _committed()[command]


def _committed() -> dict[str, str]:
    blocks = TABLE.read_text().split("\n\n$ ")[1:]
    return {command: text.rstrip("\n") for command, text in (block.split("\n", 1) for block in blocks)}


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as name:
        _files(Path(name))
        blocks = [f"$ {command}\n{message_of(command, Path(name))}" for command in COMMANDS]
    TABLE.write_text("\n\n".join(["Bad input, and what is said of it.", *blocks]) + "\n")


if __name__ == "__main__":
    main()
