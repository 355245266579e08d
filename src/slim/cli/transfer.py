"""The commands ``slim export`` and ``slim import``."""

from __future__ import annotations

import json
from typing import Any, get_args

import click

from slim.cli.group import main
from slim.cli.shared import JSON, RUN, show_next
from slim.progress import announce
from slim.runs.formats import Format
from slim.runs.run import open_run


@main.command("export", short_help="Write the judgements for another program.")
@RUN
@click.argument("target", type=click.Path())
@click.option("--to", type=click.Choice(get_args(Format)), default="csv", show_default=True, help="Format of TARGET.")
@JSON
def export_command(run: str, target: str, to: Any, as_json: bool) -> None:
    """Write the judgements of RUN, and the images that are still to be judged, for another program.

    TARGET is a file; for FiftyOne, the name of a dataset. For Label Studio, the labelling configuration is written
    next to it, with the suffix .xml.
    """
    from slim.runs.transfer import export_judgements

    n = export_judgements(run, target, to)
    click.echo(json.dumps({"images": n, "target": target}) if as_json else f"{target}: {n} images")


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
