"""The command ``slim compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from slim.cli.group import main
from slim.cli.options import Option, given
from slim.cli.shared import JSON, all_settings, console, loading, run_options
from slim.files import read_json


class _RowsOption(Option):
    """An option whose help lists the rows, which are imported only to show it."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from slim.comparison import ROWS

        self.help = f"Rows, separated by commas: {', '.join(ROWS)}."
        return super().get_help_record(ctx)


@main.command("compare", short_help="Compare SLIM with other methods on your data, over seeds.")
@click.argument("folder", metavar="FOLDER", type=click.Path())
@run_options
@click.option(
    "--seeds", type=click.IntRange(1), default=5, show_default=True, help="Number of seeds, starting at --seed."
)
@click.option("--rows", cls=_RowsOption, default="all", show_default=True)
@click.option(
    "--modes",
    default="last-layer",
    show_default=True,
    help="What is retrained: last-layer, full, or both (last-layer,full).",
)
@click.option(
    "--vals",
    default="whole",
    show_default=True,
    help="How much of val last layers see: whole, biased (as train), none; or several (whole,biased,none).",
)
@click.option(
    "--budgets",
    help="Annotation cost instead of rows: SLIM at each of these budgets, in judgements per class, such as 0,5,10,20.",
)
@all_settings
@JSON
def compare_command(
    folder: str,
    data: str | None,
    root: str | None,
    attribute: tuple[str, ...],
    mask: str | None,
    seed: int | None,
    seeds: int,
    rows: str,
    modes: str,
    vals: str,
    budgets: str | None,
    as_json: bool,
    recipe: str | None,
    **values: Any,
) -> None:
    """Compare SLIM with other methods on one data set, each on the same splits, reference models and features.

    FOLDER keeps a run per seed and the tables; the same command continues where it stopped. Some rows use group
    labels; the table says which.
    """
    from slim.comparison import (
        DEFAULT_ROWS,
        compare,
        comparison_table,
        cost_curve,
        cost_table,
        summarize,
        summarize_cost,
    )

    load = loading(data, root, attribute, mask)
    if budgets is not None and (rows, modes, vals) != ("all", "last-layer", "whole"):
        raise click.UsageError("--budgets must come without --rows, --modes and --vals. Got both. Leave out either.")
    own: dict[str, Any] = {
        "seeds": range(seed or 0, (seed or 0) + seeds),
        "data": data,
        "recipe": recipe,
        "settings": given(values),
        "load": load,
    }
    if budgets is not None:
        shown, name = cost_table(summarize_cost(cost_curve(folder, _numbers(budgets), **own))), "cost"
    else:
        keys = DEFAULT_ROWS if rows == "all" else tuple(rows.split(","))
        modes_and_vals: Any = {"modes": tuple(modes.split(",")), "vals": tuple(vals.split(","))}
        results = compare(folder, rows=keys, **modes_and_vals, **own)
        shown, name = comparison_table(summarize(results)), "results"
    if as_json:
        click.echo(json.dumps(read_json(Path(folder) / f"{name}.json"), indent=2))
        return
    console().print(shown)
    click.echo(f"Tables: {Path(folder) / name}.md, .csv, .json, .svg")


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise click.UsageError(
            f"--budgets must be whole numbers separated by commas. Got {text!r}. Try --budgets 0,5,10,20."
        ) from error
