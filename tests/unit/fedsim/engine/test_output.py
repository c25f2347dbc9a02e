"""Prints of clients and whole errors: shown under the client's name, and kept in the run's log."""

import io
import sys
from contextlib import redirect_stdout
from typing import ClassVar

import pytest

import fedsim
import results
from fedsim.engine import SerialExecutor
from fedsim.engine._following import FollowedExecutor
from fedsim.engine._output import last, named_output
from fedsim.errors import explained
from fedsim.methods.fedavg import FedAvg, FedAvgSettings
from fedsim.testing._experiments import small_config
from results.log import RunLog, read_log

TINY = ("rounds=2", "partition.clients=2", "data.train_samples=64", "data.test_samples=40")


class TalkingSettings(FedAvgSettings):
    fails: bool = False


class Talking(FedAvg):
    """Its clients print."""

    Params: ClassVar = TalkingSettings

    class Client(FedAvg.Client):
        def train(self, state, task):
            sys.stdout.write("training ")
            sys.stdout.write(f"in round {task.round}\n")
            sys.stderr.write("careful\n")
            if self.params.fails and (task.round, task.client) == (2, 1):
                raise KeyError("my own mistake")
            return super().train(state, task)


def test_prints_are_shown_under_the_clients_name_and_stored(tmp_path, capsys):
    config = small_config(tmp_path, *TINY, f"method.name={__name__}:Talking")
    path = fedsim.run(config).path
    shown = capsys.readouterr()
    lines = [f"client {client} | training in round {index}" for index in (1, 2) for client in (0, 1)]
    assert shown.out.splitlines() == lines
    assert shown.err.splitlines() == [f"client {client} | careful" for client in (0, 1, 0, 1)]
    log = read_log(path)
    assert [line for line in log.splitlines() if line in lines] == lines
    assert "printed in round 2:\n" in log
    fedsim.run(small_config(tmp_path, *TINY))
    assert read_log(tmp_path / small_config(tmp_path, *TINY).run_id) == ""  # nothing printed, no file


def test_the_error_of_a_client_says_where_in_whose_code_and_the_log_has_all_of_it(tmp_path):
    config = small_config(tmp_path, *TINY, f"method.name={__name__}:Talking", "method.fails=true")
    with pytest.raises(fedsim.ClientError) as raised:
        fedsim.run(config)
    message, *details, hint = explained(raised.value).splitlines()
    assert message.startswith("client 1 of round 2 failed: KeyError: 'my own mistake' (")
    assert message.endswith(f"{__file__}:{line_of('my own mistake')}, in train)")
    assert '        raise KeyError("my own mistake")' in details
    assert any("client 1 | training in round 2" in line for line in details)
    assert hint == f"all of it: fedsim logs {tmp_path}/{config.run_id}"
    log = read_log(tmp_path / config.run_id)
    assert "Traceback (most recent call last)" in log
    assert 'raise KeyError("my own mistake")' in log
    assert "client 1 | training in round 2" in log


def line_of(text):
    with open(__file__) as file:
        return next(number for number, line in enumerate(file, 1) if text in line)


def test_an_error_without_details_is_its_message():
    assert explained(fedsim.ConfigError("rounds: found 0, allowed: more")) == "rounds: found 0, allowed: more"


def test_lines_are_named_once_and_a_long_output_is_cut():
    stream = io.StringIO()
    with redirect_stdout(stream), named_output("client 7") as kept:
        sys.stdout.write("a\nb")
        sys.stdout.write("c\n" + "d" * 5000)
    assert stream.getvalue() == "client 7 | a\nclient 7 | bc\nclient 7 | " + "d" * 5000
    assert "".join(kept) == stream.getvalue()
    assert last(kept).endswith("\n" + "d" * 4000)
    assert last(kept).startswith("... 1,038 characters before")


def test_a_log_keeps_what_earlier_attempts_wrote_and_is_bounded(tmp_path):
    for entry in ("first", "second"):
        store = results.RunStore(str(tmp_path), "run")
        store.lock()
        log = RunLog(store)
        log.add(entry)
        log.write()
        store.unlock()
    assert [line.partition("] ")[2] for line in read_log(tmp_path / "run").splitlines()] == ["first", "second"]
    log = RunLog(results.RunStore(str(tmp_path), "run"))
    log._written_at = float("inf")
    log.add("x" * 2_000_000)
    assert len(log.text()) == 1_000_000


def test_a_followed_executor_says_what_it_is_at(tmp_path):
    config = small_config(tmp_path, *TINY)
    followed = FollowedExecutor(SerialExecutor(config))
    assert followed.phase == "starting"
    followed.prepare()
    assert followed.phase == "prefix features 104/104 images"
    assert followed.take_output() == ""


def test_callbacks_can_ask_for_the_phase_of_a_run(tmp_path):
    phases = []

    class Ask(fedsim.Callback):
        def start(self, run):
            phases.append(run.phase())

        def round(self, run, row):
            phases.append(run.phase())

    fedsim.run(small_config(tmp_path, *TINY), callbacks=[Ask()])
    assert phases == ["starting", "evaluating head", "evaluating round 1", "evaluating round 2"]
