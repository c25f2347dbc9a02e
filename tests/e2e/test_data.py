"""Runs on image files of all kinds, as a user starts them."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import results

SERIAL = ("rounds=1", "partition.clients=2", "model.masked_blocks=1", "cluster.executor=serial")
SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "cifar10"


def write_dataset(folder, draw):
    """Sixty images of three classes that differ in brightness, in two Parquet files."""
    folder.mkdir()
    for split, count in (("train", 45), ("test", 15)):
        rows = []
        for index in range(count):
            file = io.BytesIO()
            draw(index, 40 + 80 * (index % 3)).save(file, "PNG")
            rows.append({"bytes": file.getvalue(), "path": f"{index}.png"})
        pq.write_table(pa.table({"image": rows, "label": np.arange(count) % 3}), folder / f"{split}.parquet")


DRAWN = {
    "grey-28": lambda index, level: Image.new("L", (28, 28), level),
    "rgba": lambda index, level: Image.new("RGBA", (32, 32), (level, level, level, 255)),
    "mixed": lambda index, level: Image.new(["L", "RGB", "LA"][index % 3], (20 + index, 60 - index)).point(
        lambda _: level
    ),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_parquet_of_any_mode_and_size(cli, tmp_path, kind):
    write_dataset(tmp_path / "data", DRAWN[kind])
    cli("run", *SERIAL, "data.name=parquet", "data.path=data", "model.name=tiny-vit")
    assert results.load(tmp_path / "runs").runs["final_accuracy"].iloc[0] > 0.6


@pytest.mark.skipif(not SAMPLE.exists(), reason="the CIFAR-10 sample is not here")
def test_the_cifar_10_sample(cli, tmp_path):
    limits = ("data.train_samples=1000", "data.test_samples=400")
    cli("run", *SERIAL, *limits, "data.name=parquet", f"data.path={SAMPLE}", "model.name=tiny-vit")
    run = results.load(tmp_path / "runs").runs.iloc[0]
    assert run.weights == "embedded"
    assert run.linear_probe_accuracy > 0.3


def test_a_missing_dataset_and_weights_that_cannot_be_had_are_one_message(cli):
    done = cli("run", *SERIAL, "data.name=svhn", "data.path=nowhere", code=2)
    assert "data.path: looked for svhn in nowhere" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("split", ["iid", "dirichlet", "shards", "quantity"])
def test_partition_draws_who_has_what(cli, tmp_path, split):
    alpha = ["partition.alpha=0.1"] if split in ("dirichlet", "quantity") else []
    shown = cli("partition", f"partition.name={split}", *alpha, "partition.clients=20").stdout
    assert "20 clients, 1293 training samples, 10 classes" in shown
    assert (tmp_path / "partition.png").stat().st_size > 10_000
