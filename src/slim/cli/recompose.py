"""The command ``slim recompose``."""

from __future__ import annotations

import json

import click

from slim.cli.group import main
from slim.cli.shared import JSON, RUN, load_and_warn
from slim.runs.run import open_run


@main.command("recompose", short_help="Draw images with their objects on other backgrounds.")
@RUN
@click.argument("target", default="recomposed.png", type=click.Path())
@click.option("--show", type=click.IntRange(1), default=24, show_default=True, help="Number of images.")
@JSON
def recompose_command(run: str, target: str, show: int, as_json: bool) -> None:
    """Draw some train images of RUN with what SLIM takes for the object, on other backgrounds, and without it.

    TARGET is a picture, recomposed.png by default. Look at it before you retrain.
    """
    from slim.data.sheet import recomposed_sheet

    opened = open_run(run)
    objects = load_and_warn(opened, "locate")
    recomposed_sheet(opened.data.train, objects.train, show, opened.settings.seed).save(target)
    click.echo(json.dumps({"objects": repr(objects), "target": target}) if as_json else f"{objects}\n{target}")
