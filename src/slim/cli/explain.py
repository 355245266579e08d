"""The command ``slim explain``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from slim.cli.group import main
from slim.cli.options import settings_options
from slim.cli.shared import JSON, RUN, console
from slim.progress import announce
from slim.runs.run import open_run
from slim.stages.settings import ExplainSettings


def _names(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[int, str]:
    """Names by the numbers of their concepts."""
    pairs = [value.partition("=") for value in values]
    for value, (number, equals, _) in zip(values, pairs, strict=True):
        if not (number.strip().isdigit() and equals):
            raise click.BadParameter(f'must be a number and a name. Got {value}. Try --name 3="dark corners".')
    return {int(number): name for number, _, name in pairs}


@main.command("explain", short_help="Find what the model relies on, without groups or a person.")
@RUN
@click.option(
    "--name", "names", multiple=True, metavar="N=TEXT", callback=_names, help="Name a concept; kept with the run."
)
@settings_options(ExplainSettings, heading="Settings of explain (saved with the explanation)")
@JSON
def explain_command(run: str, names: dict[int, str], as_json: bool, **values: Any) -> None:
    """Find what the reference model of RUN relies on, without group labels and without a person.

    Places that it attends to are clustered into concepts. Each concept associated with a class is erased and swapped,
    and the model is run on the results: which images need it, and which does it mislead? Simple properties of whole
    images, such as brightness, are compared between classes. The result goes to the folder explanation in RUN, with a
    page of pictures.
    """
    from slim.runs.explaining import explain_run
    from slim.stages.explain.page import tables

    announce("explain: Find what the model relies on")
    changes = {name: value for name, value in values.items() if value is not None}
    explanation, page = explain_run(open_run(run), changes, names)
    if as_json:
        concepts = [
            {**asdict(one), "name": explanation.names.get(str(one.number)), "verdict": one.verdict}
            for one in explanation.concepts
        ]
        properties = [asdict(one) for one in explanation.properties]
        click.echo(json.dumps({"concepts": concepts, "properties": properties, "page": str(page)}, indent=2))
        return
    for table in tables(explanation):
        console().print(table)
    summary = explanation.summary()
    click.echo(f"{summary[0].upper()}{summary[1:]}\nPictures: {page}")
    announce(f'Name a concept: slim explain {run} --name NUMBER="what it shows"')
