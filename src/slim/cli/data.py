"""The command ``slim data``."""

from __future__ import annotations

import json
from collections.abc import Mapping

import click
from rich.table import Column, Table

from slim.cli.group import main
from slim.cli.shared import JSON, console
from slim.data.benchmarks import NAMES


@main.command("data", short_help="Check your copy of a published benchmark, or download one.")
@click.argument("name", metavar="NAME", type=click.Choice(NAMES))
@click.option("--root", metavar="DIR", type=click.Path(), help="Your copy: nothing is downloaded or written there.")
@JSON
def data_command(name: str, root: str | None, as_json: bool) -> None:
    """Check a copy of the benchmark NAME and print how many images it has next to the published numbers.

    NAME is waterbirds, waterbirds-fixed (three species with corrected labels), celeba, isic, nico or imagenet9.

    DIR holds the files as they are published, unpacked or in archives, which are unpacked into SLIM_CACHE (by default
    ~/.cache/slim). Without --root, the benchmark is downloaded there.
    """
    from slim.data import load_dataset
    from slim.data.benchmarks.registry import BENCHMARKS, fetch

    folder = root or str(fetch(name))
    data = load_dataset(name, root=folder)
    benchmark = BENCHMARKS[name]
    rows = benchmark.count(data)
    regions = {split: data.split(split).regions for split in ("train", "val", "test")}
    following = f"slim run runs/{name} --data {name}" + (f" --root {root}" if root else "")
    if as_json:
        counts = [row._asdict() for row in rows]
        click.echo(json.dumps({"name": name, "counts": counts, "regions": regions, "next": following}, indent=2))
        return
    right = [Column(title, justify="right") for title in ("Images", "Published")]
    shown = Table("Split", "Group", *right, box=None)
    for row in rows:
        published = "" if row.published is None else f"{row.published:,}"
        shown.add_row(row.split, row.group, f"{row.found:,}", published, style=None if row.group else "bold")
    console().print(shown)
    click.echo(f"Objects are marked by: {_marked(regions)}")
    click.echo(f"{benchmark.terms}\nNext: {following}")


def _marked(regions: Mapping[str, str | None]) -> str:
    """What says in each split where the objects are, once if it is the same in all."""
    if len(set(regions.values())) == 1:
        kind = regions["train"]
        return f"{kind} in all splits" if kind else "no masks or boxes, so a person has to answer"
    return ", ".join(f"{kind or 'no masks or boxes'} in {split}" for split, kind in regions.items())
