"""Commands on configurations: config, list, partition."""

from __future__ import annotations

from typing import Annotated

import typer

from fedsim.cli._app import CONFIGURATIONS, Arguments, app, console, errors, read_config, split_arguments
from fedsim.cli._places import written
from fedsim.display import list_keys, list_kinds, plain_table, with_origins
from fedsim.settings import read_yaml


@app.command("config", rich_help_panel=CONFIGURATIONS)
def config_(arguments: Arguments = None) -> None:
    """Show the resolved configuration as YAML, with where each value comes from.

    Example: fedsim config experiment.yaml method.name=eden > resolved.yaml
    """
    with errors():
        config = read_config(arguments)
        file, overrides = split_arguments(arguments)
        text = with_origins(config, file, read_yaml(file) if file else {}, overrides)
    console.print(f"# {config.run_id}", text, sep="\n", soft_wrap=True, markup=False, highlight=False)


@app.command("list", rich_help_panel=CONFIGURATIONS)
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help="One kind with its keys, such as method or codec; all: every key."),
    ] = None,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One member of it, with all its keys.")] = None,
) -> None:
    """Show what there is to choose from: kinds, their members, keys, defaults and allowed values.

    Example: fedsim list method eden
    """
    with errors():
        console.print(list_kinds() if kind is None else list_keys(None if kind == "all" else kind, name))
    if kind is None:
        console.print("\nfedsim list KIND shows keys, defaults and allowed values; fedsim list all shows every key")


@app.command(rich_help_panel=CONFIGURATIONS)
def partition(
    arguments: Arguments = None,
    output: Annotated[str, typer.Option(help="The PNG to write, local or a URI.")] = "partition.png",
) -> None:
    """Draw which labels each client would have, and how many samples, as a PNG.

    Example: fedsim partition partition.name=dirichlet partition.alpha=0.1 partition.clients=30
    """
    with errors():
        config = read_config(arguments)
        import numpy as np

        from fedsim.data import load_dataset  # slow to import, as are the figures
        from fedsim.data.partition import make_partition
        from results import figures

        dataset = load_dataset(config.data, config.seed)
        split = make_partition(dataset, config.partition, config.seed)
        counts = split.label_counts(dataset.train.labels, len(dataset.classes))
        title = f"{config.data.name}, {config.partition.name}"
        if (alpha := getattr(config.partition, "alpha", None)) is not None:
            title += f" {alpha:g}"
        with written(output) as local:
            figures.save(figures.label_counts(counts, dataset.classes, title), local)
    sizes, labels = counts.sum(1), (counts > 0).sum(1)
    table = plain_table("", "least", "median", "most")
    for name, values in (("samples a client", sizes), ("labels a client", labels)):
        table.add_row(name, str(values.min()), f"{np.median(values):g}", str(values.max()))
    console.print(f"{split.clients} clients, {sizes.sum()} training samples, {len(dataset.classes)} classes", table)
    console.print(output, soft_wrap=True)
