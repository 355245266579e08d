"""What several commands share: the options that describe a run, and the output at the end."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
from rich.console import Console

from slim.cli.options import Option, settings_options
from slim.errors import SlimWarning
from slim.network.choices import LoggerName
from slim.progress import announce
from slim.runs.run import Run, open_run
from slim.runs.settings import recipes
from slim.stages import STAGES

if TYPE_CHECKING:
    from slim.stages.annotate.page.server import BrowserAnnotator

F = TypeVar("F", bound=Callable[..., Any])

RUN_OPTIONS: dict[str, dict[str, Any]] = {
    "data": {
        "type": click.Path(),
        "help": "Folder of the images, with metadata.csv, a subfolder per class or shards; or the name of a benchmark, "
        "see slim data.",
    },
    "root": {"type": click.Path(), "help": "Your copy of the benchmark.  [default: what slim data downloaded]"},
    "attribute": {"multiple": True, "help": "Column of the spurious attribute; repeat it for several."},
    "mask": {"help": "Column of the object masks, or a COCO file of them.  [default: mask_filename]"},
    "recipe": {"help": f"Settings to start from: {', '.join(recipes())}, or a TOML file of your own."},
    "seed": {"type": click.INT, "help": "Random seed.  [default: 0]"},
}

LOGGER = click.option(
    "--logger",
    cls=Option,
    heading="Training (not saved with the run)",
    type=click.Choice(get_args(LoggerName)),
    help="Log each epoch of the reference model to RUN/logs, for TensorBoard or, offline, Weights & Biases.",
)


def run_options(command: F) -> F:
    """The options that name the images, the recipe and the seed."""
    for name, how in reversed(RUN_OPTIONS.items()):
        command = click.option(f"--{name}", cls=Option, heading="Run (saved in its settings.json)", **how)(command)
    return command


def open_with(
    folder: str,
    overrides: dict[str, dict[str, Any]],
    *,
    data: str | None,
    root: str | None,
    attribute: tuple[str, ...],
    mask: str | None,
    recipe: str | None,
    seed: int | None,
    annotator: BrowserAnnotator | None = None,
    logger: LoggerName | None = None,
) -> Run:
    """The run that the options describe."""
    load = loading(data, root, attribute, mask)
    options: dict[str, Any] = {"settings": overrides, "load": load, "seed": seed, "annotator": annotator}
    if logger is not None:
        from slim.training.loggers import make_logger

        options["loggers"] = [make_logger(logger, Path(folder) / "logs")]
    return open_run(folder, data=data, recipe=recipe, **options)


def loading(data: str | None, root: str | None, attribute: tuple[str, ...], mask: str | None) -> dict[str, Any]:
    """Keywords of `load_dataset`; without images, none may be given."""
    if data is None and (root or attribute or mask):
        raise click.UsageError(
            "--root, --attribute and --mask need --data. Got no --data. Name the images again: --data FOLDER"
        )
    return {"root": root, "attribute": list(attribute) or None, "mask": mask}


def show_results(run: Run, as_json: bool) -> None:
    """The metrics as JSON, or the table with the report's path."""
    metrics = run.load("report").metrics
    if as_json:
        click.echo(json.dumps(metrics, indent=2))
        return
    from slim.stages.report.records import TITLES, ModelRow
    from slim.stages.report.terminal import table

    rows = [ModelRow(key, metrics[key]["title"], metrics[key]["supervision"], 0, metrics[key]) for key in TITLES]
    console().print(table(rows))
    click.echo(f"{metrics['headline']}\nReport: {run.stage_folder('report') / 'report.html'}")


def show_next(run: Run) -> None:
    """Print the command that continues from here, to stderr."""
    verb = next((stage.verb for stage, state, _ in run.status() if state != "done"), None)
    if verb is None:
        announce(f"All stages are done. Report: {run.stage_folder('report') / 'report.html'}")
    else:
        announce(f"Next: slim {verb} {run.folder.path}, or all remaining stages: slim run {run.folder.path}")


def console() -> Console:
    """A console as wide as the terminal, or 110 columns elsewhere."""
    return Console(width=None if sys.stdout.isatty() else 110, markup=False)  # a class may be called birds[v2]


def load_and_warn(run: Run, verb: str) -> Any:
    """The record of a stage, with a warning where it was made from other settings or answers than the run has now."""
    if run.state(verb) == "stale":
        warnings.warn(
            f"What {verb} made is stale: it is from earlier settings or answers. Run: slim {verb} {run.folder.path}",
            SlimWarning,
            stacklevel=2,
        )
    return run.load(verb)


RUN = click.argument("run", metavar="RUN", type=click.Path())
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def all_settings(command: F) -> F:
    """The options of every stage's settings."""
    for verb, stage in reversed(STAGES.items()):
        if stage.settings is not None:
            heading = f"{verb} ({stage.purpose[0].lower()}{stage.purpose[1:]})"
            command = settings_options(stage.settings, verb, heading)(command)
    return command
