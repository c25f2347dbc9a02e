"""Work that a round must not do: files, copies, messages and compilations are counted, never seconds."""

import shutil
import tracemalloc

import numpy as np
import pytest
import torch

import fedsim
import results
from deltamask.uploads import add_weight, split_weight
from fedsim.compression.none import NoneSettings
from fedsim.distributed._worker import _batched
from fedsim.engine import Federation, LocalTrainer, SerialExecutor, _records
from fedsim.methods.updates import CompressedUpdates
from fedsim.testing import run_rounds
from tests.callbacks import Told

LIGHT = ["model.name=mlp", "model.size=8", "model.masked_blocks=1", "partition.clients=3", "train.batch_size=16"]


def parts_of(folder, table):
    return sorted(path.name.partition(".")[0] for path in folder.glob(f"*/{table}/*.parquet"))


def test_short_rounds_share_a_file(small_config, tmp_path, monkeypatch):
    monkeypatch.setattr(_records, "_STORED_SECONDS", 1000.0)
    seen = []
    config = small_config(*LIGHT, "rounds=5", "cluster.checkpoint_seconds=1000")
    fedsim.run(config, callbacks=[Told(lambda row: seen.append(parts_of(tmp_path, "rounds")))])
    assert seen[-1] == ["000000-000000"]  # the first one at once, so that there is something to look at
    assert parts_of(tmp_path, "rounds") == ["000000-000005"]
    assert results.load(tmp_path).clients["round"].tolist() == [index for index in range(6) for _ in range(3)]


def test_files_are_joined_while_a_run_goes_on(small_config, tmp_path, monkeypatch):
    monkeypatch.setattr(_records, "_STORED_SECONDS", 0.0)
    monkeypatch.setattr(_records, "_JOINED", 4)
    seen = []
    config = small_config(*LIGHT, "rounds=9", "cluster.checkpoint_seconds=1000")
    fedsim.run(config, callbacks=[Told(lambda row: seen.append(parts_of(tmp_path, "clients")))])
    assert seen[-1] == ["000000-000003", "000004-000007", "000008-000008", "000009-000009"]
    assert parts_of(tmp_path, "clients") == ["000000-000009"]


@pytest.mark.parametrize(("seconds", "lengths"), [(1000.0, [1000, 1000, 500]), (0.0, [1] * 2500)])
def test_uploads_of_small_clients_are_few_messages(seconds, lengths):
    batches = list(_batched(iter(range(2500)), seconds))
    assert [len(batch) for batch in batches] == lengths
    assert [value for batch in batches for value in batch] == list(range(2500))


def test_a_dense_upload_is_copied_once_for_each_frame_and_once_at_the_server():
    size = 1_000_000
    compressed = CompressedUpdates(NoneSettings(), 0, "compression", size)
    vector_d = np.ones(size, np.float32)

    def send():
        return add_weight(compressed.encode(vector_d, 1, 2), 50)

    def receive():
        return compressed.decode(split_weight(memoryview(message), True)[0], 1, 2)

    message = send()
    for function, copies in ((send, 2), (receive, 1)):
        function()
        tracemalloc.start()
        function()
        assert tracemalloc.get_traced_memory()[1] < (copies + 0.6) * vector_d.nbytes  # and a byte for each isfinite
        tracemalloc.stop()


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
@pytest.mark.parametrize("method", ["fedavg", "deltamask"])
def test_a_compiled_step_computes_the_same_and_is_compiled_before_the_first_round(small_config, method):
    keys = [*LIGHT, f"method.name={method}", "rounds=2"]
    compiled, eager = (small_config(*keys, f"train.compile={value}") for value in ("true", "false"))
    assert compiled.run_id != eager.run_id == small_config(*keys).run_id
    executor = SerialExecutor(compiled)
    federation = Federation(compiled, executor)
    executor.prepare()
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs
    found = [federation.run_round().round for _ in range(3)]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    assert found[-1]["loss"] == pytest.approx(run_rounds(eager)[2][-1].round["loss"], rel=0.05)


def test_without_a_compiler_the_key_is_named(small_config, monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/nonexistent",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    torch._dynamo.reset()
    trainer = LocalTrainer(small_config(*LIGHT, "model.hidden=[9, 9]", "train.compile=true"))
    with pytest.raises(fedsim.ResourceError, match=r"train.compile: found true, allowed: false on this machine"):
        trainer.prepare()
    torch._dynamo.reset()
