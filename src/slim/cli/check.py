"""The command ``slim check``."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from slim.cli.group import main
from slim.cli.shared import JSON, RUN_OPTIONS, console, loading

_SHOWN = 20


@main.command("check", short_help="Read every image, and list those that cannot be used.")
@click.argument("data", metavar="DATA", type=click.Path())
@click.option("--root", **RUN_OPTIONS["root"])
@click.option("--attribute", **RUN_OPTIONS["attribute"])
@click.option("--mask", **RUN_OPTIONS["mask"])
@click.option("--write", "target", metavar="FILE", type=click.Path(), help="Write these images to a CSV file.")
@JSON
def check_command(
    data: str, root: str | None, attribute: tuple[str, ...], mask: str | None, target: str | None, as_json: bool
) -> None:
    """Read every image, mask and box of DATA on all cores, and list all that cannot be used.

    DATA is a folder with metadata.csv, a subfolder per class or shards, or the name of a benchmark. The exit code is 1
    if an image cannot be used. slim run starts with the same check, and then stops or, with --bad-images skip, leaves
    such images out.
    """
    from slim.data import check, load_dataset

    found = check(load_dataset(data, **loading(data, root, attribute, mask)))
    if target is not None:
        found.write(target)
    if as_json:
        faults = [fault._asdict() for fault in found.faults]
        click.echo(json.dumps({"images": found.n_images, "faults": faults, "notes": found.notes}, indent=2))
    else:
        shown = Table("Split", "Image", "Problem", box=None)
        for fault in found.faults[:_SHOWN]:
            shown.add_row(fault.split, Text(_printable(Path(fault.path).name)), Text(_printable(fault.problem)))
        if found.faults:
            console().print(shown)
        if len(found.faults) > _SHOWN:
            click.echo(f"and {len(found.faults) - _SHOWN} more: slim check {data} --write FILE lists all")
        for note in found.notes:
            click.echo(f"Note: {_printable(note)}")
        click.echo(f"{found.n_images} images, {len(found.faults)} cannot be used.")
    if found.faults:
        click.get_current_context().exit(1)


def _printable(text: str) -> str:
    """Text that any terminal shows, in one line: what is not printable is escaped, as in names outside UTF-8."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
