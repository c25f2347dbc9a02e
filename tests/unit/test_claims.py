"""Every number of the documents is that of a committed result."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

import results
from pipelines.benchmarks.engine.__main__ import table as engine_table
from pipelines.benchmarks.gpu import table as gpu_table
from pipelines.benchmarks.methods.__main__ import summary
from pipelines.benchmarks.scale import table as scale_table
from pipelines.benchmarks.sweeps import markdown
from pipelines.benchmarks.world import TARGET
from pipelines.benchmarks.world import table as world_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_what_is_said_of_the_real_backbone_is_in_the_committed_result():
    file = ROOT / "results" / "benchmarks" / "methods" / "efficientnet-lite0.parquet"
    runs, rounds = pd.read_parquet(file), pd.read_parquet(file.with_name(f"{file.stem}-rounds.parquet"))
    table = summary(runs).set_index(["label", "alpha"])
    points = 100 * table["accuracy"].astype(float)
    head, tuned, masks = "ridge, one round", "fedavg", "deltamask-plus"
    methods, readme = (" ".join((ROOT / path).read_text().split()) for path in ("docs/methods.md", "README.md"))

    def pair(values):
        return f"{values[10.0]:.1f} and {values[0.1]:.1f}"

    def sizes(label):
        return f"{total[label][10.0]:.2f} and {total[label][0.1]:.2f}"

    whole, sampled = f"{masks}, kappa 1, expected, deployed expected", f"{masks}, kappa 0.3, sampled"
    small = f"{whole}, small head"
    over, below = points[masks] - points[head], points[tuned] - points[masks]
    total = table["total_bytes"] / 1e6
    shown = runs.query("label == @masks and alpha == 10")["run_id"]
    sent = rounds[rounds["run_id"].isin(shown)].assign(head=lambda frame: frame["round"] == 0)
    kilobytes = sent.groupby("head")[["uplink_bytes", "downlink_bytes"]].sum() / len(shown) / 10 / 1e3
    for statement in (
        f"`deltamask-plus` reaches {pair(points[masks])} (Dirichlet 10 and 0.1): {pair(over)} points above",
        f"closed-form head ({points[head][10.0]:.1f}, in {total[head][10.0]:.1f} MB), and {pair(below)} below",
        f"(`kappa=1`) it reaches {pair(points[whole])} in {total[whole][10.0]:.3f} and {total[whole][0.1]:.3f} MB",
        f"for a {total[tuned][10.0] / total[masks][10.0]:.0f}th of its total bytes",
        f"{total[masks][10.0]:.3f} MB and not {total[tuned][10.0]:.0f} MB",
        f"Of these, {kilobytes.uplink_bytes[True]:.1f} kB are the sums that the head is solved from",
        f"{kilobytes.uplink_bytes[False]:.1f} kB up and {kilobytes.downlink_bytes[False]:.1f} kB down",
        f"At {total['lora, rank 1, eden rate 1'][10.0]:.2f} MB, low-rank",
        f"at {total['bitfit'][10.0]:.2f} MB. From {total['eden, rate 0.01'][10.0]:.2f} MB on",
        f"One round of fine-tuning costs {total['fedavg, one round'][10.0]:.1f} MB",
        f"it then ends at {pair(points[small])} in {total[small][10.0]:.3f} and {total[small][0.1]:.3f} MB",
        f"(0.001 bits an entry) reaches {pair(points['eden, rate 0.001'])}",
        f"{pair(points['eden, rate 0.01'])}, as accurate as fine-tuning for a "
        f"{total[tuned][10.0] / total['eden, rate 0.01'][10.0]:.0f}th",
        f"EDEN at one bit reach {pair(points['lora, rank 1, eden rate 1'])}, and biases {pair(points['bitfit'])}",
        f"as in the papers, reach {pair(points[sampled])};",
        f"`deltamask` through the exact coder {pair(points['deltamask, range'])} in {sizes('deltamask, range')} MB, "
        f"`fedpm` {pair(points['fedpm'])} in {sizes('fedpm')} MB.",
        f"Averaged linear probes reach {points['linear-probe'][10.0]:.1f}",
    ):
        assert statement in methods, statement
    assert f"ends {over[10.0]:.1f} points above the best such head and {below[10.0]:.1f} below fine-tuning" in readme
    assert f"({over[0.1]:.1f} and {below[0.1]:.1f} points under Dirichlet 0.1" in readme
    assert f"for {total[masks][10.0]:.2f} MB a client where fine-tuning takes {total[tuned][10.0]:.0f} MB" in readme


def test_what_is_said_of_the_embedded_backbone_is_in_the_committed_result():
    table = summary(pd.read_parquet(ROOT / "results" / "benchmarks" / "methods" / "tiny-vit.parquet"))
    table = table.set_index(["label", "alpha"])
    points, total = 100 * table["accuracy"].astype(float), table["total_bytes"] / 1e6
    methods = " ".join((ROOT / "docs" / "methods.md").read_text().split())
    alike = {label: points[label][10.0] for label in table.index.unique("label")}
    size = {label: total[label][10.0] for label in alike}
    whole = "deltamask-plus, kappa 1, expected, deployed expected"
    skewed = points.xs(0.1, level="alpha")
    spread = 100 * table["accuracy_std"].xs(0.1, level="alpha").astype(float)
    assert (skewed - skewed["ridge, one round"] <= spread).all()
    for statement in (
        f"the head's {alike['ridge, one round']:.1f} in {1e3 * size['ridge, one round']:.0f} kB",
        f"`deltamask-plus` gets to {alike['deltamask-plus']:.1f} in {1e3 * size['deltamask-plus']:.0f} kB",
        f"with `kappa=1` to {alike[whole]:.1f} in {1e3 * size[whole]:.0f} kB",
        f"0.01 bits reaches {alike['eden, rate 0.01']:.1f} in {1e3 * size['eden, rate 0.01']:.0f} kB",
        f"the masks: {alike['deltamask']:.1f} in {size['deltamask']:.2f} MB, "
        f"{alike['fedavg'] - alike['deltamask']:.1f} "
        f"below fine-tuning ({alike['fedavg']:.1f}) for a {size['fedavg'] / size['deltamask']:.0f}th of its bytes",
        f"`fedpm` reaches {alike['fedpm']:.1f} in {size['fedpm']:.2f} MB",
        f"`klms` {alike['klms']:.1f} in {size['klms']:.2f}",
        f"the best is `{skewed.idxmax()}`, {skewed.max():.1f} ± {spread[skewed.idxmax()]:.1f}",
        f"Fine-tuning, at {size['fedavg']:.0f} MB a client, ends at {skewed['fedavg']:.1f}",
    ):
        assert statement in methods, statement


@pytest.mark.parametrize("name", ["federation", "dinov2"])
def test_tables_of_other_settings_are_those_of_the_committed_results(name):
    folder = ROOT / "results" / "benchmarks" / name
    table = (folder / "table.md").read_text()
    assert table == markdown(pd.read_parquet(folder / "runs.parquet"))
    assert table in (ROOT / "docs" / "methods.md").read_text()


def test_the_round_on_a_gpu_is_that_of_the_committed_result():
    folder = ROOT / "results" / "benchmarks" / "gpu"
    frame, text = pd.read_parquet(folder / "gpu.parquet"), (ROOT / "docs" / "performance.md").read_text()
    assert (folder / "table.md").read_text() == gpu_table(frame)
    assert gpu_table(frame) in text
    assert set(frame["gpu"]) == {"NVIDIA H200"}
    one = frame.query("model == 'clip-vit-b-32' and precision == 'bf16' and workers == 1").iloc[0]
    parts = {part: 30 * one[f"{part}_seconds"] for part in ("client_train", "client_encode", "server_decode")}
    share = 256 * one["flops_per_sample"] / one["client_train_seconds"] / one["peak_flops"]
    for statement in (
        f"Training is {parts['client_train']:.1f} s of a round of {one['round_seconds']:.1f} s",
        f"at {100 * share:.1f} % of what",
        f"takes {parts['client_encode']:.1f} s, decoding {parts['server_decode']:.1f} s",
        f"sums and states {one['aggregate_seconds']:.1f} s",
        f"({one['masked_parameters']:,} and",
    ):
        assert statement in " ".join(text.split())


#: What the rounds of each task of the engine's benchmark are compared with.
_BASES = {"logistic": "bare, 1", "blocks": "bare, 2", "cnn": "bare, 2"}


def test_rounds_beside_other_simulators_are_those_of_the_committed_result():
    frame = pd.read_parquet(ROOT / "results" / "benchmarks" / "engine" / "engine.parquet")
    text = (ROOT / "docs" / "performance.md").read_text()
    assert set(frame["task"]) == set(_BASES)
    for task, base in _BASES.items():
        part = frame[frame["task"] == task]
        assert engine_table(part, base) in text
        final = part[part["round"] == part["round"].max()].groupby("system")["accuracy"].mean()
        assert final.max() - final.min() < 0.02  # equal work
    warm = frame[(frame["task"] == "logistic") & (frame["round"] > 1)]
    medians = warm.groupby(["system", "repeat"])["seconds"].median().groupby("system").mean()
    assert f"{medians['fedsim, 0'] / medians['pfl-research, 1']:.2f} of pfl-research's time" in text
    assert round(medians["flower, 2"] / medians["fedsim, 0"]) == 19  # "a nineteenth of Flower's"
    assert f"A round of {1000 * medians['fedsim, 0']:.0f} ms" in text


def test_growth_is_that_of_the_committed_result():
    frame = pd.read_parquet(ROOT / "results" / "benchmarks" / "scale" / "scale.parquet")
    text = (ROOT / "docs" / "performance.md").read_text()
    for what, part in frame.groupby("what"):
        assert scale_table(part) in text, what


def test_growth_in_a_world_is_that_of_the_committed_result():
    frame = pd.read_parquet(ROOT / "results" / "benchmarks" / "scale" / "traces.parquet")
    text = (ROOT / "docs" / "world.md").read_text()
    assert scale_table(frame[frame["what"] == "world"]).strip() in text
    plain = 1000 * frame[frame["what"] == "clients"]["round_seconds"]
    assert f"{plain.min():.0f} to {plain.max():.0f} ms" in text


def test_times_over_links_are_those_of_the_committed_runs():
    folder = ROOT / "results" / "benchmarks" / "world"
    runs, rounds = (pd.read_parquet(folder / f"{name}.parquet") for name in ("runs", "rounds"))
    text = (ROOT / "docs" / "world.md").read_text()
    assert world_table(runs, rounds) in text
    assert rounds["lost_clients"].sum() > 0.1 * rounds["participants"].sum()  # a fifth of each cohort drops out
    assert f"{100 * runs['linear_probe_accuracy'].mean():.1f} %" in text
    assert f"{100 * TARGET:.0f} %" in text


#: Rows of the ablation in docs/beyond.md, by what they change of the first one's configuration.
ABLATION = {
    "expected weights, kappa 1, clients by samples": {},
    "clients alike": {"weighting": "uniform"},
    "no momentum at the server": {"server_momentum": 0},
    "kappa 0.3, by gain per bit": {"kappa": 0.3},
    "kappa 0.3, by relative entropy": {"kappa": 0.3, "selection": "kl"},
    "trained with sampled masks": {"forward": "sampled"},
    "kept as a mask": {"deployed": "mask"},
    "Beta posterior": {"aggregation": "posterior"},
}
_FIRST = {"kappa": 1, "forward": "expected", "deployed": "expected", "aggregation": "coupled-difference"}
_FIRST |= {"selection": "gain-per-bit", "weighting": "samples", "server_momentum": 0.9}


def test_the_ablation_is_that_of_the_committed_result():
    beyond = (ROOT / "docs" / "beyond.md").read_text()
    runs = pd.read_parquet(ROOT / "results" / "benchmarks" / "preset" / "runs.parquet")
    methods = [json.loads(config)["method"] for config in runs["config"]]
    for name, changed in ABLATION.items():
        wanted = _FIRST | changed
        unused = ("weighting", "server_momentum") if "aggregation" in changed else ()
        rows = runs[[all(method[key] == wanted[key] for key in wanted if key not in unused) for method in methods]]
        assert len(rows) == 4
        accuracy = rows.groupby("alpha")["best_accuracy"]
        spread = [results.formats.spread(accuracy.mean()[alpha], accuracy.std()[alpha]) for alpha in (10.0, 0.1)]
        kilobytes = [rows.query("alpha == 10")[f"{way}link_bytes"].mean() / 10 / 1e3 for way in ("up", "down")]
        assert " | ".join([f"| {name}", *spread, *(f"{size:.1f}" for size in kilobytes)]) + " |" in beyond, name
    codecs = pd.read_parquet(ROOT / "results" / "benchmarks" / "codecs" / "codecs.parquet").set_index("codec")
    for source in ("round 3 of deltamask", "round 3 of deltamask-plus"):
        rows = codecs[codecs["source"] == source]["bits_per_flip"]
        assert f"{rows['range'] / rows['fuse8+png']:.2f}" in beyond
        for codec in ("fuse8+png", "bloom", "range"):
            assert f"{rows[codec]:.2f}" in beyond


def test_masks_on_convolutional_networks_are_as_in_the_committed_result():
    backbones = " ".join((ROOT / "docs" / "backbones.md").read_text().split())
    runs = pd.read_parquet(ROOT / "results" / "benchmarks" / "masks" / "runs.parquet")
    configs = [json.loads(config) for config in runs["config"]]

    def points(head, forward, lr, theta=0.95, column="best_accuracy"):
        wanted = [
            (one["head"]["name"], one["head"]["temperature"]) == head
            and (one["method"]["forward"], one["train"]["lr"], one["method"]["theta_init"]) == (forward, lr, theta)
            for one in configs
        ]
        [value] = runs[wanted][column]
        return f"{100 * value:.1f}"

    heads = {"`linear-probe`": ("linear-probe", 1), "`ridge`, not divided by a temperature": ("ridge", 1)}
    for name, head in (heads | {"`ridge`": ("ridge", None)}).items():
        for training, forward in (("sampled masks", "sampled"), ("expected weights", "expected")):
            alone = points(head, forward, 0.03, column="linear_probe_accuracy")
            row = [name, alone, training, points(head, forward, 0.03), points(head, forward, 0.003)]
            assert f"| {' | '.join(row)} |" in backbones
    found = [points(("ridge", None), "expected", 0.003, theta) for theta in (0.85, 0.95, 0.99)]
    assert f"gives {found[0]}, {found[1]} and {found[2]}" in backbones


def test_numbers_are_those_of_the_committed_results():
    demo = results.load(ROOT / "results" / "benchmarks" / "demo").runs.iloc[0]
    client_rounds = demo.clients * (demo.rounds + 1)
    codecs = pd.read_parquet(ROOT / "results" / "benchmarks" / "codecs" / "codecs.parquet")
    one_percent = codecs[codecs["source"] == "random, 1.0%"].set_index("codec")
    fuse8, loop = one_percent.loc["fuse8+png"], one_percent.loc["pyfusefilter.Fuse8 (scaled)"]
    both = [row.encode_seconds + row.decode_seconds for row in (fuse8, loop)]
    text = " ".join(README.split())
    for statement in (
        f"Accuracy goes from {demo.linear_probe_accuracy:.3f} ",
        f"to {demo.final_accuracy:.3f} with {demo.uplink_bpp:.3f} bits per masked parameter and client-round",
        f"{demo.uplink_bytes / client_rounds / 1000:.1f} kB a client-round",
        f"broadcasts {demo.downlink_bytes / client_rounds / 1000:.1f} kB",
        f"encoded in {fuse8.encode_seconds:.2f} s",
        f"decoded in {fuse8.decode_seconds:.2f} s",
        f"{both[1] / both[0]:.0f} times as fast",
    ):
        assert statement in text, statement
    for commit in (demo.git_commit, codecs["git_commit"].iloc[0]):
        assert re.fullmatch(r"[0-9a-f]{40}", commit)
