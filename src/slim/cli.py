"""The command line: one subcommand a stage, `run`, `status` and `demo`."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import pandas as pd
from rich.console import Console
from rich.table import Table

from slim.annotation import Judgements
from slim.artifacts import VERSION, read_json
from slim.curation import Subset
from slim.demo import compose_demo
from slim.errors import SlimError, SlimWarning
from slim.options import given, settings_options
from slim.pipeline import MODELS, STAGES, Pipeline, open_run, status
from slim.progress import announce
from slim.propagation import Scores
from slim.report import ModelRow, table
from slim.settings import RunSettings, recipes

F = TypeVar("F", bound=Callable[..., Any])

# The settings record of each stage.
_RECORDS: dict[str, Any] = {f.name: f.default_factory for f in fields(RunSettings) if is_dataclass(f.default_factory)}


class _Group(click.Group):
    """Shows a user's mistake as one line with exit code 1; lists commands in the method's order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["demo", "run", "status", *STAGES]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SlimError as error:
            click.echo(f"slim: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("slim: stopped. The same command goes on from here.", err=True)
            ctx.exit(130)


def _say_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Warnings meant for the user come as one line, others as Python shows them."""
    if issubclass(category, SlimWarning):
        Console(stderr=True).print(f"[yellow]warning[/yellow] {message}", highlight=False, soft_wrap=True)
    else:
        _shown_as_usual(message, category, *place)


_shown_as_usual = warnings.showwarning


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="slim")
def main() -> None:
    """Find and remove the shortcuts of an image classifier, with a few dozen human judgements.

    Try `slim demo` first. Results go to stdout, progress to stderr.
    """
    warnings.showwarning = _say_warning  # type: ignore[assignment]
    warnings.simplefilter("always", SlimWarning)


def _data_options(command: F) -> F:
    """The options that say where the images are and what the run is begun with."""
    for option in reversed(
        (
            click.option("--data", type=click.Path(), help="Folder with metadata.csv, or a folder a class."),
            click.option("--attribute", multiple=True, help="Column of the spurious attribute; may be repeated."),
            click.option("--mask", help="Column of the object masks.  [default: mask_filename]"),
            click.option("--recipe", help=f"One of {', '.join(recipes())}, or a TOML file."),
            click.option("--seed", type=click.IntRange(min=0), help="Of everything that is drawn.  [default: 0]"),
            click.option("--pool", type=click.Choice(["train", "val"]), help="Split that the subset comes from."),
            click.option("--checkpoint", type=click.Path(), help="A trained model to take as the reference."),
        )
    ):
        command = option(command)
    return command


def _opened(
    folder: str,
    overrides: dict[str, dict[str, Any]],
    *,
    data: str | None,
    attribute: tuple[str, ...],
    mask: str | None,
    recipe: str | None,
    **run_settings: Any,
) -> Pipeline:
    """The run, as the options describe it."""
    if data is None and (attribute or mask):
        raise click.UsageError("--attribute and --mask go with --data.")
    load = {"attribute": list(attribute) or None, "mask": mask}
    said = {name: value for name, value in run_settings.items() if value is not None}
    return open_run(folder, data=data, recipe=recipe, settings=overrides, load=load, **said)


def _show_results(pipeline: Pipeline, as_json: bool) -> None:
    """The metrics as JSON, or the table with the report's path."""
    folder = pipeline.folder("report")
    metrics = read_json(folder / "metrics.json")
    if as_json:
        click.echo(json.dumps(metrics, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(
        table([ModelRow(key, metrics[key]["title"], metrics[key]["supervision"], 0, metrics[key]) for key in MODELS])
    )
    console.print(metrics["headline"], highlight=False)
    console.print(f"Report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


_RUN = click.argument("run", metavar="RUN", type=click.Path(file_okay=False))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _all_settings(command: F) -> F:
    for name, record in reversed(_RECORDS.items()):
        command = settings_options(record, name)(command)
    return command


@main.command("run")
@_RUN
@_data_options
@_JSON
@_all_settings
def run_command(run: str, as_json: bool, **values: Any) -> None:
    """Do the whole method in the run folder RUN; go on where it stopped."""
    stages = {name: value for name, value in values.items() if "__" in name}
    others = {name: value for name, value in values.items() if "__" not in name}
    pipeline = _opened(run, given(stages), **others)
    pipeline.all_stages()
    _show_results(pipeline, as_json)


@main.command("demo")
@click.argument("run", metavar="[RUN]", default="runs/demo", type=click.Path(file_okay=False))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything that is drawn.")
@_JSON
def demo_command(run: str, seed: int, as_json: bool) -> None:
    """Do the whole method on embedded photographs: no internet, no person, three minutes."""
    material = Path(run) / f"data-{seed}"
    if not (material / "metadata.csv").exists():
        announce("[0/9] compose   paint house numbers, 3 or 8, on lawns and brick walls")
        compose_demo(material, seed=seed)
    pipeline = open_run(run, data=material, load={"attribute": "background"}, recipe="demo", seed=seed)
    pipeline.all_stages()
    _show_results(pipeline, as_json)


@main.command("status")
@_RUN
@_JSON
def status_command(run: str, as_json: bool) -> None:
    """Show which stages of RUN are done, stale or missing."""
    rows = list(status(open_run(run)))
    if as_json:
        click.echo(
            json.dumps([{"stage": s.verb, "state": state, "seconds": took} for s, state, took in rows], indent=2)
        )
        return
    states = Table("Stage", "Folder", "State", "Seconds", box=None)
    colors = {"done": "green", "stale": "yellow", "missing": "dim"}
    for stage, state, took in rows:
        seconds = f"{took:.1f}" if took is not None else ""
        states.add_row(stage.verb, stage.folder, f"[{colors[state]}]{state}[/]", seconds)
    Console().print(states)


def _stage_command(verb: str) -> None:
    """Add the command of a stage."""
    stage = STAGES[verb]

    def command(run: str, as_json: bool, **values: Any) -> None:
        others = {name: values.pop(name) for name in _RUN_OPTIONS}
        pipeline = _opened(run, given(values, verb), **others)
        announce(f"{verb}: {stage.purpose}")
        if not pipeline.stage(verb):
            announce("done already; nothing has changed since")
        if verb == "report":
            _show_results(pipeline, as_json)
        elif as_json:
            click.echo(json.dumps(read_json(pipeline.folder(verb) / "manifest.json"), indent=2))
        else:
            click.echo(_SHOWN[verb](pipeline.folder(verb)) if verb in _SHOWN else pipeline.folder(verb))

    command.__doc__ = f"{stage.purpose[0].upper()}{stage.purpose[1:]}."
    if verb in _RECORDS:
        command = settings_options(_RECORDS[verb])(command)
    main.command(verb)(_RUN(_data_options(_JSON(command))))


_RUN_OPTIONS = ("data", "attribute", "mask", "recipe", "seed", "pool", "checkpoint")

# What a stage's command prints; the others print their folder.
_SHOWN: dict[str, Callable[[Path], str]] = {
    "annotate": lambda folder: repr(Judgements.load(folder)),
    "propagate": lambda folder: repr(Scores.load(folder)),
    "curate": lambda folder: repr(Subset.load(folder)),
    "evaluate": lambda folder: _evaluations(folder),
}


def _evaluations(folder: Path) -> str:
    """A line a model."""
    rows = {name: read_json(folder / f"{name}.json") for name in MODELS}
    columns = ("worst_group_accuracy", "average_accuracy", "group_mean_accuracy", "worst_group")
    table = pd.DataFrame({name: {c: row[c] for c in columns} for name, row in rows.items()}).T
    return table.to_string(float_format="{:.3f}".format)


for _verb in STAGES:
    _stage_command(_verb)
