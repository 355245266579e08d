"""The command line: one subcommand a stage, `run`, `status`, `compare`, `demo`, `export` and `import`."""

from __future__ import annotations

import errno
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import pandas as pd
import torch
from rich.console import Console
from rich.table import Column, Table

from slim.annotation import BrowserAnnotator, Judgements
from slim.artifacts import VERSION, read_json
from slim.comparison import (
    DEFAULT_ROWS,
    ROWS,
    compare,
    comparison_table,
    cost_curve,
    cost_table,
    summarize,
    summarize_cost,
)
from slim.curation import Subset
from slim.demo import compose_demo
from slim.errors import SlimError, SlimWarning
from slim.exchange import READERS, WRITERS, export_judgements, import_judgements
from slim.options import Command, Option, given, settings_options
from slim.pipeline import Pipeline, open_run, status
from slim.progress import announce
from slim.propagation import Scores
from slim.report import ModelRow, table
from slim.settings import RunSettings, recipes
from slim.work import MODELS
from slim.workspace import STAGES

F = TypeVar("F", bound=Callable[..., Any])

# The settings record of each stage.
_RECORDS: dict[str, Any] = {f.name: f.default_factory for f in fields(RunSettings) if is_dataclass(f.default_factory)}


class _Group(click.Group):
    """Shows what a user can mend as one line with exit code 1; lists commands in the method's order."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["demo", "run", "status", "compare", *STAGES, "export", "import"]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SlimError, OSError, MemoryError, torch.OutOfMemoryError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # whoever read our output has seen enough, which click takes quietly
            click.echo(f"slim: {_said(error)}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("slim: Stopped. The same command goes on from here.", err=True)
            ctx.exit(130)


def _said(error: Exception) -> str:
    """An error as one line: what must hold, what came, what to do."""
    if isinstance(error, SlimError):
        return str(error)
    if isinstance(error, OSError):
        files = " to ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        reason = f"{error.strerror or error}{f': {files}' if files else ''}"
        return f"Files must be readable and writable. Got: {reason}. Mend that; the same command then goes on."
    return "Memory must hold a batch. Got more than there is. Try half the --batch-size; the same command then goes on."


def _say_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Warnings meant for the user come as one line, others as Python shows them."""
    if issubclass(category, SlimWarning):
        click.echo(f"{click.style('warning:', fg='yellow')} {message}", err=True)
    else:
        _shown_as_usual(message, category, *place)


_shown_as_usual = warnings.showwarning


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="slim")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Find and remove the shortcuts of an image classifier, with a few dozen human judgements.

    \b
    slim demo                                try it: everything it needs comes with it
    slim run runs/birds --data birds         the whole method on your own images
    slim status runs/birds                   how far it is

    A run folder keeps everything, so the same command goes on where it stopped. Each stage is a command of its own
    too. Results go to stdout, progress to stderr.
    """
    ctx.with_resource(warnings.catch_warnings())
    warnings.showwarning = _say_warning  # type: ignore[assignment]
    warnings.simplefilter("always", SlimWarning)


_RUN_OPTIONS: dict[str, dict[str, Any]] = {
    "data": {"type": click.Path(), "help": "Folder with metadata.csv, or with a folder of images for each class."},
    "attribute": {"multiple": True, "help": "Column of the spurious attribute; may be repeated."},
    "mask": {"help": "Column of the object masks.  [default: mask_filename]"},
    "recipe": {"help": f"Settings to begin with: {', '.join(recipes())}, or a TOML file of your own."},
    "seed": {"type": click.INT, "help": "Of everything drawn.  [default: 0]"},
    "pool": {"type": click.Choice(["train", "val"]), "help": "Split that the subset comes from.  [default: train]"},
    "checkpoint": {"type": click.Path(), "help": "A model trained elsewhere, to take as the reference model."},
}


def _run_options(command: F) -> F:
    """The options that say where the images are and what the run is begun with."""
    for name, how in reversed(_RUN_OPTIONS.items()):
        command = click.option(f"--{name}", cls=Option, heading="The run, kept in its settings.json", **how)(command)
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
    _check_loading(data, attribute, mask)
    load = {"attribute": list(attribute) or None, "mask": mask}
    said = {name: value for name, value in run_settings.items() if value is not None}
    return open_run(folder, data=data, recipe=recipe, settings=overrides, load=load, **said)


def _check_loading(data: str | None, attribute: tuple[str, ...], mask: str | None) -> None:
    if data is None and (attribute or mask):
        raise click.UsageError("--attribute and --mask go with --data. Name the images again: --data FOLDER.")


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
    click.echo(f"{metrics['headline']}\nReport: {folder / 'report.html'}")


def _say_what_is_next(pipeline: Pipeline) -> None:
    """Name the command that goes on from here, on stderr."""
    verb = next((verb for verb in STAGES if pipeline.state(verb) != "done"), None)
    if verb is None:
        announce(f"Everything is done. Report: {pipeline.folder('report') / 'report.html'}")
    else:
        announce(f"Next: slim {verb} {pipeline.run.folder}, or all that is left: slim run {pipeline.run.folder}")


_RUN = click.argument("run", metavar="RUN", type=click.Path())
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _all_settings(command: F) -> F:
    for name, record in reversed(_RECORDS.items()):
        command = settings_options(record, name, f"{name} ({STAGES[name].purpose})")(command)
    return command


@main.command("run", short_help="Do the whole method; go on where it stopped.")
@_RUN
@_run_options
@_all_settings
@_JSON
def run_command(run: str, as_json: bool, **values: Any) -> None:
    """Do the whole method in the run folder RUN, or go on where it stopped.

    What is said here is kept with the run; stages that it does not concern are not done again.
    """
    stages = {name: value for name, value in values.items() if "__" in name}
    others = {name: value for name, value in values.items() if "__" not in name}
    pipeline = _opened(run, given(stages), **others)
    pipeline.all_stages()
    _show_results(pipeline, as_json)


@main.command("demo", short_help="Try it on photographs that come with it: three minutes.")
@click.argument("run", metavar="[RUN]", default="runs/demo", type=click.Path())
@click.option("--seed", type=click.INT, default=0, show_default=True, help="Of everything drawn.")
@_JSON
def demo_command(run: str, seed: int, as_json: bool) -> None:
    """Do the whole method on photographs of house numbers that are composed on the spot.

    A 3 usually stands on a lawn and an 8 on a brick wall, and a plain model learns the wall. No internet, no person
    and no GPU is needed. RUN is runs/demo by default.
    """
    material = Path(run) / f"data-{seed}"
    if not (material / "metadata.csv").exists():
        announce("[0/9] compose   paint house numbers, 3 or 8, on lawns and brick walls")
        compose_demo(material, seed=seed)
    pipeline = open_run(run, data=material, load={"attribute": "background"}, recipe="demo", seed=seed)
    pipeline.all_stages()
    _show_results(pipeline, as_json)


@main.command("status", short_help="Show which stages are done, stale or missing.")
@_RUN
@_JSON
def status_command(run: str, as_json: bool) -> None:
    """Show which stages of RUN are done, missing, or stale: made from other settings or images."""
    pipeline = open_run(run)
    rows = list(status(pipeline))
    if as_json:
        states = [{"stage": s.verb, "folder": s.folder, "state": state, "seconds": took} for s, state, took in rows]
        click.echo(json.dumps(states, indent=2))
        return
    shown = Table("Stage", "Folder", "State", Column("Seconds", justify="right"), "What it does", box=None)
    colors = {"done": "green", "stale": "yellow", "missing": "dim"}
    for stage, state, took in rows:
        seconds = f"{took:.1f}" if took is not None else ""
        shown.add_row(stage.verb, stage.folder, f"[{colors[state]}]{state}[/]", seconds, stage.purpose)
    Console(width=None if sys.stdout.isatty() else 110).print(shown)
    _say_what_is_next(pipeline)


@main.command("compare", short_help="Compare SLIM with other methods on your data, over seeds.")
@click.argument("folder", metavar="FOLDER", type=click.Path())
@_run_options
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="How many, from --seed on.")
@click.option("--rows", default="all", show_default=True, help=f"Which rows, with commas between: {', '.join(ROWS)}.")
@click.option(
    "--modes", default="last-layer", show_default=True, help="What is retrained: last-layer, full, or last-layer,full."
)
@click.option(
    "--budgets",
    help="Instead of the rows, SLIM at each of these numbers of judgements in all, for instance 0,10,20,40,80.",
)
@_all_settings
@_JSON
def compare_command(
    folder: str,
    data: str | None,
    attribute: tuple[str, ...],
    mask: str | None,
    seed: int | None,
    seeds: int,
    rows: str,
    modes: str,
    budgets: str | None,
    as_json: bool,
    recipe: str | None,
    pool: str | None,
    checkpoint: str | None,
    **values: Any,
) -> None:
    """Compare SLIM with other methods on one data set, each on the same splits, reference models and features.

    FOLDER keeps a run for each seed and the tables; the same command goes on where it stopped. Some rows use group
    labels: the table says which.
    """
    _check_loading(data, attribute, mask)
    if budgets is not None and (rows, modes) != ("all", "last-layer"):
        raise click.UsageError("--budgets goes without --rows and --modes. Leave one of them out.")
    own: dict[str, Any] = {
        "seeds": range(seed or 0, (seed or 0) + seeds),
        "data": data,
        "recipe": recipe,
        "settings": given(values),
        "load": {"attribute": list(attribute) or None, "mask": mask},
        **{name: value for name, value in (("pool", pool), ("checkpoint", checkpoint)) if value is not None},
    }
    if budgets is not None:
        shown, name = cost_table(summarize_cost(cost_curve(folder, _numbers(budgets), **own))), "cost"
    else:
        keys = DEFAULT_ROWS if rows == "all" else tuple(rows.split(","))
        results = compare(folder, rows=keys, modes=cast(Any, tuple(modes.split(","))), **own)
        shown, name = comparison_table(summarize(results)), "results"
    if as_json:
        click.echo(json.dumps(read_json(Path(folder) / f"{name}.json"), indent=2))
        return
    Console(width=None if sys.stdout.isatty() else 110).print(shown)
    click.echo(f"Tables: {Path(folder) / name}.md, .csv, .json, .svg")


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise click.UsageError(
            f"--budgets takes whole numbers with commas between. Got {text!r}. Try 0,20,40."
        ) from error


@main.command("export", short_help="Write the judgements for another program.")
@_RUN
@click.argument("target", type=click.Path())
@click.option("--to", type=click.Choice(list(WRITERS)), default="csv", show_default=True, help="What to write.")
@_JSON
def export_command(run: str, target: str, to: Any, as_json: bool) -> None:
    """Write the judgements of RUN, and the images that are still to be judged, for another program.

    TARGET is a file; for FiftyOne the name of a dataset. Label Studio's labelling configuration lies beside its file,
    ending in .xml.
    """
    n = export_judgements(run, target, to)
    click.echo(json.dumps({"images": n, "target": target}) if as_json else f"{target}: {n} images")


@main.command("import", short_help="Take in answers that were given in another program.")
@_RUN
@click.argument("source", type=click.Path())
@click.option("--from", "of", type=click.Choice(list(READERS)), default="csv", show_default=True, help="What to read.")
@_JSON
def import_command(run: str, source: str, of: Any, as_json: bool) -> None:
    """Take answers about the images of RUN into its judgements; importing twice changes nothing.

    SOURCE is a file; for FiftyOne the name of a dataset.
    """
    new = import_judgements(run, source, of)
    pipeline = open_run(run)
    judgements = Judgements.load(pipeline.folder("annotate"))
    click.echo(json.dumps({"new": new, "judgements": len(judgements)}) if as_json else repr(judgements))
    announce(f"{new} new answers")
    _say_what_is_next(pipeline)


_PAGE_OPTIONS: dict[str, dict[str, Any]] = {
    "port": {"type": click.IntRange(1, 65535), "help": "Port of the page.  [default: one that is free]"},
    "host": {
        "help": "Address to serve the page at. 0.0.0.0 lets every machine in the network reach it that has the link "
        "with its token; nothing is encrypted.  [default: 127.0.0.1, this machine only]"
    },
}


def _page_at(run: str, host: str | None, port: int | None, annotator: str | None) -> BrowserAnnotator | None:
    """The page at the address that was asked for, or None where none was."""
    if host is None and port is None:
        return None
    if annotator not in (None, "auto", "browser"):
        raise click.UsageError(f"--host and --port go with --annotator browser. Got {annotator}. Drop one of them.")
    return BrowserAnnotator(host or "127.0.0.1", port or 0, Path(run) / STAGES["annotate"].folder)


def _stage_command(verb: str) -> None:
    """Add the command of a stage."""
    stage = STAGES[verb]

    def command(run: str, as_json: bool, **values: Any) -> None:
        others = {name: values.pop(name) for name in _RUN_OPTIONS}
        if verb == "annotate":
            others["annotator"] = _page_at(run, values.pop("host"), values.pop("port"), values["annotator"])
        pipeline = _opened(run, given(values, verb), **others)
        announce(f"{verb}: {stage.purpose}")
        if not pipeline.stage(verb):
            announce("  done already, and nothing has changed since")
        if verb == "report":
            _show_results(pipeline, as_json)
        elif as_json:
            click.echo(json.dumps(read_json(pipeline.folder(verb) / "manifest.json"), indent=2))
        else:
            click.echo(_SHOWN[verb](pipeline.folder(verb)) if verb in _SHOWN else pipeline.folder(verb))
        _say_what_is_next(pipeline)

    purpose = f"{stage.purpose[0].upper()}{stage.purpose[1:]}"
    command.__doc__ = f"{purpose}. Writes {stage.folder} in the run folder RUN, unless that is up to date."
    command = _run_options(_JSON(command))
    if verb == "annotate":
        for name, how in _PAGE_OPTIONS.items():
            command = click.option(f"--{name}", cls=Option, heading="The page, for this time", **how)(command)
    if verb in _RECORDS:
        command = settings_options(_RECORDS[verb], heading=f"Settings of {verb}, kept too")(command)
    main.command(verb, short_help=f"{purpose}.")(_RUN(command))


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
