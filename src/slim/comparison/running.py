"""Runs the rows on every seed, and goes on where an earlier call stopped."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch

from slim.artifacts import VERSION, read_json, write_json
from slim.comparison.rows import DEFAULT_ROWS, ROWS, Bench, Chosen, Row, fit_chosen
from slim.comparison.table import write_tables
from slim.errors import SettingsError, SlimWarning
from slim.evaluation import Evaluation, evaluate, evaluate_heads
from slim.last_layer import Head
from slim.models import Classifier
from slim.pipeline import Pipeline, open_run
from slim.progress import announce, quiet
from slim.work import train_on_subset

Mode = Literal["last-layer", "full"]

_SHARED = ("train", "attend", "embed")


def compare(
    folder: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    rows: Sequence[str] = DEFAULT_ROWS,
    modes: Sequence[Mode] = ("last-layer",),
    **options: Any,
) -> pd.DataFrame:
    """Compare SLIM with other methods on one data set.

    Parameters
    ----------
    folder
        Receives a run for each seed, with the reference model, attention and space that all rows share, a result a
        row, and the tables: ``results.csv`` (a line a row and seed), ``results.json``, ``results.md``,
        ``results.svg``.
    seeds
        Each trains a reference model of its own; tests are paired over them.
    rows
        Keys of `ROWS`; by default those that need no further package.
    modes
        What is retrained: the last layer, the full network, or both, one after the other for all seeds.
    **options
        As for `slim.open_run`: ``data, recipe, settings, ...``, for every seed.

    Returns
    -------
    DataFrame
        A line a row and seed.

    Raises
    ------
    SettingsError
        A row or a mode does not exist, or a row needs group labels or a package that is not there.

    Notes
    -----
    Result files say what they were made from: the same call goes on where it stopped, and another setting makes the
    rows again. The tables hold every result of these seeds that the folder keeps and that still holds, those of other
    rows and modes included.

    Examples
    --------
    ``slim.compare("runs/compare-pets", data="pets", seeds=range(5))``
    """
    _check(seeds, rows, modes)
    folder = Path(folder)
    found: list[dict[str, Any]] = []
    known: dict[int, list[dict[str, Any]]] = {}
    for mode, seed in product(modes, seeds):
        bench = prepared_bench(folder, seed, options)
        found += _rows_of_mode(bench, [key for key in rows if _takes_part(key, mode, modes)], mode)
        known[seed] = _all_kept(bench)
        write_tables(folder, pd.DataFrame(list(chain(*known.values()))), bench.pipeline.data.name)
    return pd.DataFrame(found)


def prepared_bench(folder: Path, seed: int, options: Mapping[str, Any]) -> Bench:
    """A seed's run with what all rows share, done where it was not.

    Parameters
    ----------
    folder, seed, options
        As for `compare`.
    """
    pipeline = open_run(folder / f"seed-{seed}", **options, seed=seed)
    for number, verb in enumerate(_SHARED, 1):
        if pipeline.state(verb) != "done":
            announce(f"seed {seed} [{number}/{len(_SHARED)}] {verb}")
            pipeline.stage(verb)
    return Bench(pipeline)


def _check(seeds: Sequence[int], rows: Sequence[str], modes: Sequence[str]) -> None:
    for name, wanted, known in (("row", rows, tuple(ROWS)), ("mode", modes, ("last-layer", "full"))):
        unknown = [value for value in wanted if value not in known]
        if unknown or not wanted:
            raise SettingsError(f"A {name} must be one of {', '.join(known)}. Got {', '.join(unknown) or 'none'}.")
    for key in rows:
        if not ROWS[key].installed:
            package = ROWS[key].package
            raise SettingsError(
                f"The row {key} needs the package {package}. Got an environment without it. "
                f"Install it: pip install 'slim-vision[{package}]', or choose other rows (--rows)."
            )
    check_seeds(seeds)


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse a comparison without a seed."""
    if not len(seeds):
        raise SettingsError("A comparison needs a seed. Got none. Give five or more, so that there are intervals.")


def _takes_part(key: str, mode: Mode, modes: Sequence[Mode]) -> bool:
    """Whether a row has a result in a mode: what can be retrained in each does, the others once."""
    return _in_each_mode(ROWS[key]) or mode == modes[0]


def _in_each_mode(row: Row) -> bool:
    return row.subset is not None or row.network is not None


def _rows_of_mode(bench: Bench, keys: Sequence[str], mode: Mode) -> list[dict[str, Any]]:
    """The results of some rows, those from earlier included."""
    missing = [key for key in keys if _kept_row(bench.pipeline, key, mode) is None]
    if missing:
        announce(f"seed {bench.seed} {mode}: {', '.join(missing)}")
    for key, result in _results(bench, missing, mode):
        path = _path(bench.pipeline, key, mode)
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"made_from": digest(bench.pipeline, key, mode), **result})
    return [line for key in keys if (line := _kept_row(bench.pipeline, key, mode)) is not None]


def _all_kept(bench: Bench) -> list[dict[str, Any]]:
    """Every result of a seed that still holds; of what is the same in each mode, one."""
    found: list[dict[str, Any]] = []
    for mode, key in product(get_args(Mode), ROWS):
        line = _kept_row(bench.pipeline, key, mode)
        if line is not None and all((line["row"], line["mode"]) != (other["row"], other["mode"]) for other in found):
            found.append(line)
    return found


def _kept_row(p: Pipeline, key: str, mode: Mode) -> dict[str, Any] | None:
    return kept(_path(p, key, mode), digest(p, key, mode))


def _path(p: Pipeline, key: str, mode: Mode) -> Path:
    return p.run.folder / "rows" / f"{key}.{mode}.json"


def digest(p: Pipeline, key: str, mode: Mode) -> str:
    """What identifies everything that a result depends on."""
    stages = {verb: p.run.digest(p.folder(verb).name) for verb in _SHARED}
    settings = {verb: p.settings.of(verb) for verb in ("annotate", "propagate", "curate", "retrain", "evaluate")}
    return hashlib.sha256(json.dumps([VERSION, key, mode, stages, settings]).encode()).hexdigest()[:16]


def kept(path: Path, made_from: str) -> dict[str, Any] | None:
    """A result from earlier, if it was made from this; None where it was not."""
    result: dict[str, Any] = read_json(path) if path.exists() else {}
    return result if result.pop("made_from", None) == made_from else None


def _results(bench: Bench, keys: Sequence[str], mode: Mode) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row's result; those that differ in their last layer alone are measured together."""
    p = bench.pipeline
    heads: dict[str, Classifier] = {}
    told: dict[str, tuple[Chosen | None, float]] = {}
    for key in keys:
        start, row = perf_counter(), ROWS[key]
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", SlimWarning)  # what they warn of is in the table
            chosen = row.subset(bench) if row.subset is not None else None
            if mode == "full" and _in_each_mode(row):
                model = _network(p, row, chosen, p.run.folder / "rows" / f"{key}.full")
                evaluation = evaluate(model, p.data.test, p.settings.evaluate)
                yield key, _record(bench, key, mode, evaluation, chosen, perf_counter() - start)
                continue
            head = _head(bench, row, chosen)
        if head is None:
            heads[key] = p.classifier
        else:
            heads[key] = p.classifier.with_head(torch.from_numpy(head.weight), torch.from_numpy(head.bias))
        told[key] = chosen, perf_counter() - start
    if heads:
        for key, evaluation in evaluate_heads(heads, p.data.test, p.settings.evaluate).items():
            yield key, _record(bench, key, mode, evaluation, *told[key])


def _network(p: Pipeline, row: Row, chosen: Chosen | None, folder: Path) -> Classifier:
    """A row's whole network."""
    if chosen is not None and not chosen.shortcut:
        return p.classifier
    if chosen is not None:
        return train_on_subset(p, chosen.index, folder)
    assert row.network is not None
    return row.network(p, folder)


def _head(bench: Bench, row: Row, chosen: Chosen | None) -> Head | None:
    """A row's last layer; None for the reference model."""
    if chosen is not None:
        return fit_chosen(bench, chosen)
    return row.head(bench) if row.head is not None else None


def _record(
    bench: Bench, key: str, mode: Mode, evaluation: Evaluation, chosen: Chosen | None, seconds: float
) -> dict[str, Any]:
    """One line of the results."""
    row, p, accuracy = ROWS[key], bench.pipeline, evaluation.accuracy
    measures: dict[str, float | None] = {}
    for name in ("inside_fraction", "aiou"):
        measure = (evaluation.attention or {}).get(name)
        measures |= {name: measure.value if measure else None, f"{name}_uniform": measure.uniform if measure else None}
    return {
        "row": key,
        "title": row.title,
        "mode": mode if _in_each_mode(row) else "last-layer" if row.head is not None else "reference",
        "seed": bench.seed,
        "worst_group_accuracy": accuracy.worst_group_accuracy,
        "average_accuracy": accuracy.average_accuracy,
        "adjusted_average_accuracy": accuracy.adjusted_average_accuracy,
        **measures,
        "judgements": chosen.judgements if chosen is not None else 0,
        "group_labels": row.group_labels,
        "train_images": _train_images(p, row, chosen, mode),
        "minority_share": _minority_share(bench, chosen),
        "seconds": round(seconds, 2),
    }


def _train_images(p: Pipeline, row: Row, chosen: Chosen | None, mode: Mode) -> int:
    """How many images the row's model was last fitted to, copies counted."""
    if chosen is None or not chosen.shortcut:
        return len(getattr(p.data, row.trained_on))
    return len(chosen.index) + (len(p.data.val) if chosen.fits_val and mode == "last-layer" else 0)


def _minority_share(bench: Bench, chosen: Chosen | None) -> float | None:
    """Share of the subset that is of groups with less than half an equal share of the pool; None without groups."""
    groups = bench.pipeline.pool.groups
    if chosen is None or groups is None:
        return None
    shares = np.bincount(groups) / len(groups)
    minority = shares < 0.5 / len(shares)
    return float(minority[groups[chosen.index]].mean())
