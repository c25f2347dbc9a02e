"""Commands on configurations, several seeds, and what a run would take."""

import re
import subprocess
import sys

import pytest
import yaml

import results
from fedsim.cli._app import complete
from fedsim.cli._seeds import Seeds
from fedsim.config import Config, catalogue, load_config, registries
from fedsim.errors import ConfigError
from fedsim.settings import Catalogue

SMALL = ("rounds=2", "partition.clients=3", "data.train_samples=90", "model.masked_blocks=1", "cluster.executor=serial")


def test_the_resolved_configuration_says_where_values_come_from_and_can_be_run(command, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("rounds: 3\npartition: {name: dirichlet, alpha: 0.5}\n")
    code, shown, _ = command("config", str(file), "method.name=eden", "train.lr=0.01")
    assert code == 0
    origins = dict(re.findall(r"^ *(\w+): \S+ +# (.*)$", shown, re.MULTILINE))
    assert origins["rounds"] == origins["alpha"] == str(file)
    assert origins["lr"] == "command line"
    assert origins["optimizer"] == "default of method eden"
    assert origins["masked_blocks"] == "default of model tiny-vit"
    (tmp_path / "resolved.yaml").write_text(shown)
    assert load_config(tmp_path / "resolved.yaml") == load_config(file, ["method.name=eden", "train.lr=0.01"])
    assert shown.startswith(f"# {load_config(file, ['method.name=eden', 'train.lr=0.01']).run_id}")


def test_list_shows_one_kind_with_what_is_allowed(command):
    assert "deltamask-plus" in command("list")[1]
    assert len(command("list")[1].splitlines()) < 40
    codecs = command("list", "codec")[1]
    assert "bloom" in codecs
    assert "dirichlet" not in codecs
    eden = command("list", "method", "eden")[1]
    assert re.search(r"method.trim +0.2 +number >= 0 and < 0.5", eden)
    assert "method.kappa" not in eden
    assert "dirichlet" in command("list", "partitioner")[1]
    assert "train.lr" in command("list", "train")[1]
    assert "KIND: found 'metod', allowed: data," in command("list", "metod")[2]
    assert "; did you mean 'method'?" in command("list", "metod")[2]
    assert "method: found 'edn', allowed: deltamask" in command("list", "method", "edn")[2]
    assert "world: found 'x', allowed: none, as world has no members" in command("list", "world", "x")[2]


WRONG = [
    "method.kapa=1",
    "method.name=deltamsk",
    "method.name=fedavg method.kappa=1",
    "partition.alfa=1",
    "roundz=3",
    "train.learning_rate=1",
    "data.name=cifar11",
    "world.dedline=3",
]


@pytest.mark.parametrize("words", WRONG)
def test_the_catalogue_answers_in_the_words_of_a_validation(words):
    with pytest.raises(ConfigError) as validated:
        load_config(None, words.split())
    tree = yaml.safe_load("{}")
    for word in words.split():
        key, _, value = word.partition("=")
        group, _, rest = key.rpartition(".")
        (tree.setdefault(group, {}) if group else tree)[rest] = yaml.safe_load(value)
    assert Catalogue.of(Config, registries()).check(tree) == [str(validated.value)]


def test_the_catalogue_lets_pass_what_may_be_right():
    known = Catalogue.of(Config, registries())
    assert known.check(load_config().model_dump()) == []
    for tree in ({"method": {"name": "mine:Class", "own": 1}}, {"model": {"name": "timm:resnet18"}}, {"data": 3}):
        assert known.check(tree) == []


def test_a_typo_is_answered_without_importing_torch():
    catalogue()
    code = (
        "import sys; from fedsim import cli\n"
        "try:\n    cli.app(['run', 'method.kapa=1'])\nfinally:\n    assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: method.kapa: unknown key; did you mean 'kappa'?")


def test_completion_knows_keys_and_names():
    assert "method.kappa=" in complete("method.ka")
    assert complete("method.name=eden") == ["method.name=eden"]
    assert complete("method.codec=fuse8") == ["method.codec=fuse8+png", "method.codec=fuse8"]


def test_seeds_are_counted_or_listed():
    words, seeds = Seeds.of(["rounds=1", "seeds=3"])
    assert words == ["rounds=1"]
    assert [config.seed for config in seeds.each(load_config(None, ["seed=4"]))] == [4, 5, 6]
    assert [config.seed for config in Seeds.of(["seeds=[7, 2]"])[1].each(load_config())] == [7, 2]
    assert [config.seed for config in Seeds.of([])[1].each(load_config())] == [0]
    for text in ("0", "[]", "[1, 1]", "x", "-1", "true", "1.5", "["):
        with pytest.raises(ConfigError, match="seeds: found"):
            Seeds.of([f"seeds={text}"])


def test_run_with_seeds_and_quietly(command, tmp_path):
    code, shown, _ = command("run", *SMALL, f"output={tmp_path}/runs", "seeds=2")
    assert code == 0
    runs = results.load(tmp_path / "runs").runs
    assert sorted(runs["seed"]) == [0, 1]
    assert f"accuracy  {runs['final_accuracy'].mean():.3f} ± {runs['final_accuracy'].std():.3f} over 2 seeds" in shown
    assert command("run", *SMALL, f"output={tmp_path}/runs", "seeds=2", "--quiet")[:2] == (0, "")


def test_a_dry_run_foretells_sizes_and_stores_nothing(command, tmp_path):
    words = (*SMALL, "method.name=fedavg", f"output={tmp_path}/runs")
    code, shown, _ = command("run", *words, "--dry-run")
    assert code == 0
    assert not (tmp_path / "runs").exists()
    command("run", *words)
    loaded = results.load(tmp_path / "runs")
    row = loaded.clients.query("round == 1").iloc[0]
    up, down = f"{row.payload_bytes / 1e3:.1f} kB up", f"{row.downlink_bytes / 1e3:.1f} kB down"
    assert f"{up} ({row.uplink_bpp:.4f} bpp), {down} a client" in shown
    assert f"{loaded.runs.masked_parameters[0]:,} masked" in shown
    assert "3, 3 a round; 27 samples, median" in shown


def test_version(command):
    assert re.fullmatch(r"fedsim \d+\.\d+.*\n", command("--version")[1])
