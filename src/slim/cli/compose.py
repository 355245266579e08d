"""The command ``slim compose``."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

import click

from slim.cli.group import main
from slim.cli.options import settings_options
from slim.cli.shared import JSON
from slim.data.composing.settings import ComposeSettings


@main.command("compose", short_help="Compose a benchmark from cut-outs and scenes.")
@click.argument("target", type=click.Path())
@click.option("--objects", required=True, metavar="DIR", type=click.Path(), help="A folder per class with cut-outs.")
@click.option("--scenes", required=True, metavar="DIR", type=click.Path(), help="A folder per scene with photographs.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")
@settings_options(ComposeSettings, heading="What is composed")
@JSON
def compose_command(target: str, objects: str, scenes: str, seed: int, as_json: bool, **values: Any) -> None:
    """Compose a benchmark into the empty folder TARGET: objects on scenes, with a known shortcut.

    Cut-outs are images with an alpha channel. Their masks are written too, and a card says what was measured: how
    strongly class and scene or sticker are correlated in each split, how large the objects are, and what a linear probe
    finds.
    """
    from slim.data.composing.compose import compose

    settings = ComposeSettings(
        **{item.name: values[item.name] for item in fields(ComposeSettings) if values[item.name] is not None}
    )
    card = compose(objects, scenes, target, settings, seed=seed)
    attribute = "scene" if settings.shortcut == "none" else settings.shortcut
    following = f"slim run runs/composed --data {target} --attribute {attribute}"
    click.echo(json.dumps({**asdict(card), "next": following}, indent=2) if as_json else f"{card}\nNext: {following}")
