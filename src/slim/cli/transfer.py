"""The commands ``slim export`` and ``slim import``."""

from __future__ import annotations

import json
from typing import Any, get_args

import click

from slim.cli.group import main
from slim.cli.shared import JSON, RUN, show_next
from slim.network.choices import ModelFormat
from slim.progress import announce
from slim.runs.formats import Format, GroupFormat
from slim.runs.run import open_run


@main.command("export", short_help="Write judgements, the model or groups for other programs.")
@RUN
@click.argument("target", type=click.Path())
@click.option(
    "--to",
    type=click.Choice([*get_args(Format), *get_args(ModelFormat), *get_args(GroupFormat)]),
    metavar="FORMAT",
    default="csv",
    show_default=True,
    help="Format of TARGET, one of those above.",
)
@JSON
def export_command(run: str, target: str, to: Any, as_json: bool) -> None:
    """Write results of RUN for another program.

    \b
    csv, json, label-studio, fiftyone, lightly
        the judgements, and the images that are still to be judged
    timm, torchvision, transformers, onnx, state-dict
        the retrained model and its model card, to be loaded without SLIM
    wilds, spuco
        the groups that SLIM found without group labels

    TARGET is a file; for models a folder, and for FiftyOne the name of a dataset. For Label Studio, the labelling
    configuration is written next to it, with the suffix .xml.
    """
    if to in get_args(ModelFormat):
        _export_model(run, target, to, as_json)
        return
    from slim.runs.group_export import export_groups
    from slim.runs.transfer import export_judgements

    n = export_groups(run, target, to) if to in get_args(GroupFormat) else export_judgements(run, target, to)
    click.echo(json.dumps({"images": n, "target": target}) if as_json else f"{target}: {n} images")


def _export_model(run: str, target: str, to: ModelFormat, as_json: bool) -> None:
    """Export the model, and print how to load it."""
    from slim.runs.model_export import export_model

    exported = export_model(run, target, to)
    if as_json:
        click.echo(json.dumps({"target": target, "library": exported.library, "code": exported.code}))
        return
    click.echo(f"{target}: the model and its card, README.md. Read back, it gives the same logits. To load it:\n")
    click.echo(exported.code)


@main.command("import", short_help="Import answers from another program.")
@RUN
@click.argument("source", type=click.Path())
@click.option(
    "--from",
    "source_format",
    type=click.Choice(get_args(Format)),
    default="csv",
    show_default=True,
    help="Format of SOURCE.",
)
@JSON
def import_command(run: str, source: str, source_format: Any, as_json: bool) -> None:
    """Import answers about the images of RUN into its judgements; importing twice changes nothing.

    SOURCE is a file; for FiftyOne, the name of a dataset.
    """
    from slim.runs.transfer import import_judgements

    new = import_judgements(run, source, source_format)
    opened = open_run(run)
    judgements = opened.load("annotate")
    click.echo(json.dumps({"new": new, "judgements": len(judgements)}) if as_json else repr(judgements))
    announce(f"{new} new answers")
    show_next(opened)
