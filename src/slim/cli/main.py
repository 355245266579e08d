"""The command line: `run`, `demo`, `status`, a command per stage, and those of other modules.

Commands import what they need when they run, so that the help and `slim status` do not wait for torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Column, Table
from rich.text import Text

# Imported for the commands that they register.
from slim.cli import backgrounds, check, compare, compose, data, doctor, explain, look, recompose, transfer  # noqa: F401
from slim.cli.group import main as main
from slim.cli.options import Option, given, settings_options
from slim.cli.shared import (
    JSON,
    LOGGER,
    RUN,
    RUN_OPTIONS,
    all_settings,
    console,
    open_with,
    run_options,
    show_next,
    show_results,
)
from slim.files import read_json
from slim.progress import announce
from slim.runs.run import open_run
from slim.stages import STAGES

if TYPE_CHECKING:
    from slim.runs.run import BadImages
    from slim.stages.annotate.page.server import BrowserAnnotator


@main.command("run", short_help="Run all stages; continue where it stopped.")
@RUN
@click.option(
    "--bad-images",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="What to do about images that cannot be used: all images are read first, and such images are listed in "
    "RUN/bad-images.csv.",
)
@run_options
@LOGGER
@all_settings
@JSON
def run_command(run: str, as_json: bool, bad_images: BadImages, **values: Any) -> None:
    """Run all stages in the run folder RUN, or continue where it stopped.

    All images are read first, as by slim check. Options are saved with the run; only the stages that a changed option
    affects are run again.
    """
    stages = {name: value for name, value in values.items() if "__" in name}
    others = {name: value for name, value in values.items() if "__" not in name}
    opened = open_with(run, given(stages), **others)
    opened.all_stages(bad_images)
    show_results(opened, as_json)


@main.command("demo", short_help="Try SLIM on a small data set made for it, in three minutes.")
@click.argument("run", metavar="[RUN]", default="runs/demo", type=click.Path())
@click.option("--seed", type=click.INT, default=0, show_default=True, help="Random seed.")
@JSON
def demo_command(run: str, seed: int, as_json: bool) -> None:
    """Run all stages on a small data set that is composed first: house numbers, 3 or 8.

    A 3 usually stands on a lawn and an 8 on a brick wall, and the reference model learns to look at the background. The
    demo needs no internet connection, no GPU and nobody to answer. RUN is runs/demo by default.
    """
    material = Path(run) / f"data-{seed}"
    if not (material / "metadata.csv").exists():
        announce(f"[0/{len(STAGES)}] compose   Paint house numbers, 3 or 8, on lawns and brick walls")
        from slim.data.demo import compose_demo

        compose_demo(material, seed=seed)
    opened = open_run(run, data=material, load={"attribute": "background"}, recipe="demo", seed=seed)
    opened.all_stages()
    show_results(opened, as_json)


@main.command("status", short_help="Show which stages are done, stale, damaged or missing.")
@RUN
@click.option("--verify", is_flag=True, help="Read every file; the exit code is 1 if one is damaged.")
@JSON
def status_command(run: str, verify: bool, as_json: bool) -> None:
    """Show which stages of RUN are done, missing, stale or damaged.

    A stale stage was made from other settings or images; a damaged one has files that are missing or have changed
    since. slim run makes both again. Without --verify, files are not read, and only their sizes are compared.
    """
    opened = open_run(run)
    damaged = opened.verify() if verify else {verb: text for verb in STAGES if (text := opened.damage(verb))}
    rows = list(opened.status())
    if as_json:
        states = [
            {"stage": s.verb, "folder": s.folder, "state": state, "seconds": took, "damage": damaged.get(s.verb)}
            for s, state, took in rows
        ]
        click.echo(json.dumps(states, indent=2))
    else:
        shown = Table("Stage", "Folder", "State", Column("Seconds", justify="right"), "What it does", box=None)
        colors = {"done": "green", "stale": "yellow", "damaged": "red", "missing": "dim"}
        for stage, state, took in rows:
            seconds = f"{took:.1f}" if took is not None else ""
            shown.add_row(stage.verb, stage.folder, Text(state, colors[state]), seconds, stage.purpose)
        console().print(shown)
        for verb, text in damaged.items():
            click.echo(f"{STAGES[verb].folder}: {text}")
        show_next(opened)
    if verify and damaged:
        click.get_current_context().exit(1)


_PAGE_OPTIONS: dict[str, dict[str, Any]] = {
    "port": {"type": click.IntRange(1, 65535), "help": "Port of the page.  [default: any free one]"},
    "host": {
        "help": "Address of the page. With 0.0.0.0, every machine in the network that has the link with its token can "
        "reach it; nothing is encrypted.  [default: 127.0.0.1, this machine only]"
    },
}


def _page_at(run: str, host: str | None, port: int | None, annotator: str | None) -> BrowserAnnotator | None:
    """The page at the address that the options name, or None where they name none."""
    if host is None and port is None:
        return None
    if annotator not in (None, "auto", "browser"):
        raise click.UsageError(f"--host and --port need --annotator browser. Got {annotator}. Leave them out.")
    from slim.stages.annotate.page.server import BrowserAnnotator

    return BrowserAnnotator(host or "127.0.0.1", port or 0, Path(run) / STAGES["annotate"].folder)


def _stage_command(verb: str) -> None:
    """Add the command of a stage."""
    stage = STAGES[verb]

    def command(run: str, as_json: bool, **values: Any) -> None:
        others = {name: values.pop(name) for name in RUN_OPTIONS}
        if verb == "train":
            others["logger"] = values.pop("logger")
        if verb == "annotate":
            others["annotator"] = _page_at(run, values.pop("host"), values.pop("port"), values["annotator"])
        opened = open_with(run, given(values, verb), **others)
        announce(f"{verb}: {stage.purpose}")
        if not opened.stage(verb):
            announce("  done already, nothing has changed since")
        if verb == "report":
            show_results(opened, as_json)
        elif as_json:
            click.echo(json.dumps(read_json(opened.stage_folder(verb) / "manifest.json"), indent=2))
        else:
            click.echo(repr(opened.load(verb)))
        show_next(opened)

    command.__doc__ = (
        f"{stage.purpose}.\n\nThe result goes to {stage.folder} in the run folder RUN, unless it is up to date."
    )
    command = run_options(JSON(command))
    if verb == "train":
        command = LOGGER(command)
    if verb == "annotate":
        for name, how in _PAGE_OPTIONS.items():
            command = click.option(f"--{name}", cls=Option, heading="Page (not saved with the run)", **how)(command)
    if stage.settings is not None:
        command = settings_options(stage.settings, heading=f"Settings of {verb} (saved with the run)")(command)
    main.command(verb, short_help=f"{stage.purpose}.")(RUN(command))


for _verb in STAGES:
    _stage_command(_verb)
