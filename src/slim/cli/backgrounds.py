"""The command ``slim backgrounds``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.table import Column, Table

from slim.cli.group import main
from slim.cli.shared import JSON, RUN, console
from slim.runs.run import open_run


@main.command("backgrounds", short_help="Measure a run's models on the backgrounds of ImageNet-9.")
@RUN
@click.option(
    "--root", metavar="DIR", type=click.Path(), help="Folder with bg_challenge.  [default: the root of the run]"
)
@JSON
def backgrounds_command(run: str, root: str | None, as_json: bool) -> None:
    """Measure the models of RUN, a run on imagenet9, on the variations of the Backgrounds Challenge.

    Accuracy on the original photographs, on objects pasted onto backgrounds of their own class (mixed-same) and of any
    class (mixed-rand), and on objects on black (only-fg). The BG-gap is mixed-same minus mixed-rand. The retrained
    model is measured too if the run has one.
    """
    from slim.stages.evaluate.backgrounds import evaluate_backgrounds

    opened = open_run(run)
    folder = root or opened.data.source["root"]
    if folder is None:
        raise click.UsageError("A run on other images must name --root. Got none. Name the folder with bg_challenge.")
    models = {"reference": opened.load("train")}
    if opened.state("retrain") == "done":
        models["retrained"] = opened.load("retrain").models(models["reference"])["retrained"]
    found = {name: evaluate_backgrounds(model, folder) for name, model in models.items()}
    rows = {name: {**asdict(one), "background_gap": one.background_gap} for name, one in found.items()}
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    titles = ("Original", "Mixed-same", "Mixed-rand", "Only-FG", "BG-gap")
    table = Table("Model", *(Column(title, justify="right") for title in titles), box=None)
    for name, row in rows.items():
        table.add_row(name, *(f"{value:.3f}" for value in row.values()))
    console().print(table)
