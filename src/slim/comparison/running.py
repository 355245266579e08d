"""Computes the rows for every seed, and continues where an earlier call stopped."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from slim.arguments import checked
from slim.comparison.bench import Bench, Val
from slim.comparison.recomposed import MappedObjects
from slim.comparison.rows import DEFAULT_ROWS, ROWS, Material, Row
from slim.comparison.subsets import SelectedSubset
from slim.comparison.table import write_tables
from slim.errors import ArtifactError, SettingsError, SlimWarning
from slim.files import VERSION, check_seal, read_json, write_sealed
from slim.network.classifier import Classifier
from slim.progress import announce, quiet
from slim.runs.run import Run, open_run
from slim.stages import STAGES
from slim.stages.evaluate.evaluation import Evaluation
from slim.stages.evaluate.measuring import evaluate_classifier, evaluate_heads
from slim.stages.retrain.last_layer import Head
from slim.stages.retrain.retrain import with_head

Mode = Literal["last-layer", "full"]

_SHARED = ("train", "attend", "embed")
_MOST_LOST = 120.0  # seconds of last layers that a kill may cost


@checked
def compare(
    folder: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    rows: Sequence[str] = DEFAULT_ROWS,
    modes: Sequence[Mode] = ("last-layer",),
    vals: Sequence[Val] = ("whole",),
    **options: Any,
) -> pd.DataFrame:
    """Compare SLIM with other methods on one data set, over seeds.

    Parameters
    ----------
    folder
        Receives one run per seed, with the reference model, attention and space that all rows share and a result per
        row; and the tables: ``results.csv`` (one line per row and seed), ``summary.csv``, ``results.json``,
        ``results.md`` and ``results.svg``.
    seeds
        Random seeds. Each trains its own reference model; tests are paired over seeds.
    rows
        Keys of `ROWS`; by default `DEFAULT_ROWS`.
    modes
        What is retrained: the last layer, the full network, or both. The second mode starts once the first is done for
        all seeds.
    vals
        How much of val the last layers see: the "whole" split, a part of it as "biased" over groups as train, or
        "none". Whole networks are trained with the first of them.
    **options
        As for `slim.open_run`: ``data, recipe, settings, ...``, for every seed.

    Returns
    -------
    DataFrame
        One line per row, mode, val and seed; the val of a row that ignores it is "any".

    Raises
    ------
    SettingsError
        A row, mode or val does not exist; a row needs group labels, images of every class in val, or a package that is
        missing; or last layers are to see less than the whole val, although it selects the reference model's epoch or
        tunes by groups.

    Notes
    -----
    Result files record what they were made from: repeating the call continues where it stopped, and changed settings
    recompute the rows. The tables show every result in the folder for these seeds that is still valid, including rows
    and modes of earlier calls.

    Examples
    --------
    ``slim.compare("runs/compare-pets", data="pets", seeds=range(5))``
    """
    _check(seeds, rows, modes, vals)
    folder = Path(folder)
    lines: list[dict[str, Any]] = []
    tabled: dict[int, list[dict[str, Any]]] = {}
    for mode, seed in product(modes, seeds):
        taking_part = [key for key in rows if _takes_part(key, mode, modes)]
        wanted = [Entry(key, mode, val) for key in taking_part for val in _vals_of(ROWS[key], mode, vals)]
        bench = prepared_bench(folder, seed, options, vals, wanted)
        lines += _rows_of_mode(bench, wanted)
        tabled[seed] = _all_kept(bench)
        write_tables(folder, pd.DataFrame(list(chain(*tabled.values()))), bench.data.name)
    return pd.DataFrame(lines)


class Entry(NamedTuple):
    """What has a result: a row in one mode, with one val."""

    key: str
    mode: Mode
    val: Val


def prepared_bench(
    folder: Path,
    seed: int,
    options: Mapping[str, Any],
    vals: Sequence[Val] = ("whole",),
    wanted: Sequence[Entry] = (),
) -> Bench:
    """Open the run of one seed, and do the stages that all rows share where they are not done.

    Parameters
    ----------
    folder, seed, options, vals
        As for `compare`.
    wanted
        What is to have a result.
    """
    run = open_run(folder / f"seed-{seed}", **options, seed=seed)
    _check_independence(run, vals)
    _check_groups(run, wanted)
    _check_classes(run, wanted)
    run.verify()  # so that what is damaged is not done
    for number, verb in enumerate(_SHARED, 1):
        if run.state(verb) != "done":
            announce(f"seed {seed} [{number}/{len(_SHARED)}] {verb}")
            run.stage(verb)
    return Bench(run)


def _check(seeds: Sequence[int], rows: Sequence[str], modes: Sequence[str], vals: Sequence[str]) -> None:
    for name, wanted, known in (
        ("row", rows, tuple(ROWS)),
        ("mode", modes, get_args(Mode)),
        ("val", vals, get_args(Val)),
    ):
        unknown = [value for value in wanted if value not in known]
        if unknown or not wanted:
            raise SettingsError(
                f"A {name} must be one of {', '.join(known)}. Got {', '.join(unknown) or 'none'}. Set --{name}s."
            )
    for key in rows:
        if not ROWS[key].installed:
            package = ROWS[key].package
            raise SettingsError(
                f"The row {key} needs the package {package}. Got an environment without it. "
                f"Install it: pip install 'slim-vision[{package}]', or choose other rows (--rows)."
            )
    check_seeds(seeds)


def _check_independence(run: Run, vals: Sequence[Val]) -> None:
    """Refuse less than the whole val where all of it has a say already."""
    select_by, tune_on = run.settings["train"].select_by, run.settings["retrain"].tune_on
    if set(vals) != {"whole"} and (select_by != "last" or tune_on != "cells"):
        raise SettingsError(
            "With less than the whole val (--vals), val must not choose the reference model's epoch or tune by groups. "
            f"Got --train.select-by {select_by} and --retrain.tune-on {tune_on}. "
            "Use --train.select-by last and --retrain.tune-on cells."
        )


def _check_groups(run: Run, wanted: Sequence[Entry]) -> None:
    """Refuse rows that need group labels where the data have none."""
    needing = [entry for entry in wanted if ROWS[entry.key].group_labels != "none" or entry.val == "biased"]
    if needing and run.data.train.groups is None:
        others = ",".join(dict.fromkeys(entry.key for entry in wanted if ROWS[entry.key].group_labels == "none"))
        raise SettingsError(
            f"For the rows {', '.join(dict.fromkeys(entry.key for entry in needing))}, images must have group labels. "
            "Got data without a spurious attribute. Name it (--attribute), or leave these rows out "
            f"(--rows {others or 'slim'}), and biased out of --vals."
        )


def _check_classes(run: Run, wanted: Sequence[Entry]) -> None:
    """Refuse rows that fit their last layer to val alone where it does not have enough of a class."""
    fitted = [entry for entry in wanted if ROWS[entry.key].every_class]
    for val in dict.fromkeys(entry.val for entry in fitted):
        table = Bench(run, val).data.val
        counts = np.bincount(table.y, minlength=table.n_classes)
        if counts.min() < 2:
            others = dict.fromkeys(entry.key for entry in wanted if entry not in fitted)
            raise SettingsError(
                f"For the rows {', '.join(dict.fromkeys(entry.key for entry in fitted))}, val must have at least two "
                f"images of each class. Got {counts.min()} of {table.class_names[counts.argmin()]} in the {val} val. "
                f"Add images to val, or leave these rows out (--rows {','.join(others) or 'slim'})."
            )


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse a comparison without a seed."""
    if not len(seeds):
        raise SettingsError("A comparison must have at least one seed. Got none. Use five or more to get intervals.")


def _takes_part(key: str, mode: Mode, modes: Sequence[Mode]) -> bool:
    """Whether a row has a result in a mode: rows that exist in one mode only appear once, with the first mode."""
    return _in_each_mode(ROWS[key]) or mode == modes[0]


def _in_each_mode(row: Row) -> bool:
    """Whether the whole network can be trained as well as the last layer."""
    return row.material is not None or row.network is not None


def _vals_of(row: Row, mode: Mode, vals: Sequence[Val]) -> Sequence[Val]:
    """With which vals a row has a result."""
    if row.val == "ignores":
        return ("whole",)
    return [val for val in (vals if mode == "last-layer" else vals[:1]) if val != "none" or row.val == "uses"]


def _rows_of_mode(bench: Bench, wanted: Sequence[Entry]) -> list[dict[str, Any]]:
    """The results of some entries, those of earlier calls included."""
    missing = [entry for entry in wanted if _kept_result(bench.run, entry) is None]
    if missing:
        announce(f"seed {bench.seed} {missing[0].mode}: {', '.join(dict.fromkeys(entry.key for entry in missing))}")
    for entry, result in _results(bench, missing):
        path = _path(bench.run, entry)
        path.parent.mkdir(exist_ok=True)
        write_sealed(path, {"made_from": digest(bench.run, *entry), **result})
    return [line for entry in wanted if (line := _kept_result(bench.run, entry)) is not None]


def _all_kept(bench: Bench) -> list[dict[str, Any]]:
    """Every valid result of a seed; a row that is the same in both modes appears once."""
    lines: dict[tuple[str, str, str], dict[str, Any]] = {}
    for mode, key, val in product(get_args(Mode), ROWS, get_args(Val)):
        line = _kept_result(bench.run, Entry(key, mode, val))
        if line is not None:
            lines.setdefault((line["row"], line["mode"], line["val"]), line)
    return list(lines.values())


def _kept_result(run: Run, entry: Entry) -> dict[str, Any] | None:
    return kept(_path(run, entry), digest(run, *entry))


def _path(run: Run, entry: Entry) -> Path:
    with_val = "" if entry.val == "whole" else f".{entry.val}-val"
    return run.folder.path / "rows" / f"{entry.key}.{entry.mode}{with_val}.json"


def digest(run: Run, key: str, mode: Mode, val: Val = "whole") -> str:
    """A hash of everything that a result depends on."""
    stages = {verb: run.folder.digest(STAGES[verb].folder) for verb in _SHARED}
    settings = {verb: run.settings.plain(verb) for verb in STAGES if verb not in _SHARED}
    recorded_answers = run.inputs(STAGES["annotate"]).get("file")
    parts = [VERSION, key, mode, val, stages, settings, recorded_answers]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def kept(path: Path, made_from: str) -> dict[str, Any] | None:
    """The result of an earlier call; None where there is none, or one made from something else."""
    if not path.exists():
        return None
    try:
        result = check_seal(path, read_json(path))
    except (ArtifactError, AttributeError):  # a damaged result is computed again
        return None
    return result if result.pop("made_from", None) == made_from else None


def _results(bench: Bench, entries: Sequence[Entry]) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """The result of each entry; last layers are evaluated in passes that several of them share."""
    test, settings = bench.data.test, bench.settings["evaluate"]
    benches = {val: bench.at(val) for val in get_args(Val)}
    models: dict[Entry, Classifier] = {}
    facts: dict[Entry, tuple[Material | None, float]] = {}
    evaluated = perf_counter()
    for entry in entries:
        start, row, own = perf_counter(), ROWS[entry.key], benches[entry.val]
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", SlimWarning)  # the table shows what they warn about
            material = row.material(own) if row.material is not None else None
            if entry.mode == "full" and _in_each_mode(row):
                model = _network(own, row, material, _path(bench.run, entry).with_suffix(""))
                evaluation = evaluate_classifier(model, test, settings)
                yield entry, _record(own, entry, evaluation, material, perf_counter() - start)
            else:
                head = _head(own, row, material)
                models[entry] = bench.reference if head is None else with_head(bench.reference, head)
                facts[entry] = material, perf_counter() - start
        if models and (entry == entries[-1] or perf_counter() - evaluated > _MOST_LOST):
            for done, evaluation in evaluate_heads(models, test, settings).items():
                yield done, _record(benches[done.val], done, evaluation, *facts[done])
            models, evaluated = {}, perf_counter()


def _network(bench: Bench, row: Row, material: Material | None, folder: Path) -> Classifier:
    """The whole network of a row."""
    if material is not None:
        return material.train(bench, folder)
    assert row.network is not None
    return row.network(bench, folder)


def _head(bench: Bench, row: Row, material: Material | None) -> Head | None:
    """The last layer of a row; None for the reference model."""
    if material is not None:
        return material.fit_head(bench)
    return row.head(bench) if row.head is not None else None


def _record(
    bench: Bench, entry: Entry, evaluation: Evaluation, material: Material | None, seconds: float
) -> dict[str, Any]:
    """One line of the results."""
    row = ROWS[entry.key]
    measures: dict[str, float | None] = {}
    for name in ("inside_fraction", "aiou"):
        measure = (evaluation.attention or {}).get(name)
        measures |= {name: measure.value if measure else None, f"{name}_uniform": measure.uniform if measure else None}
    return {
        "row": entry.key,
        "title": row.title,
        "mode": entry.mode if _in_each_mode(row) else "last-layer" if row.head is not None else "reference",
        "val": "any" if row.val == "ignores" else entry.val,
        "seed": bench.seed,
        "worst_group_accuracy": evaluation.worst_group_accuracy,
        "average_accuracy": evaluation.average_accuracy,
        "adjusted_average_accuracy": evaluation.adjusted_average_accuracy,
        **measures,
        "judgements": material.judgements if material is not None else 0,
        "group_labels": row.group_labels,
        "train_images": _train_images(bench, row, material, entry.mode),
        "minority_share": _minority_share(bench, material),
        "seconds": round(seconds, 2),
    }


def _train_images(bench: Bench, row: Row, material: Material | None, mode: Mode) -> int:
    """How many images the model of the row was last fitted to, copies counted."""
    n_val = len(bench.data.val) if mode == "last-layer" else 0
    if isinstance(material, MappedObjects):
        return len(bench.data.train) + (n_val if bench.settings["retrain"].fits_val("train") else 0)
    if material is None or not material.shortcut:
        return len(bench.data.split(row.trained_on))
    return len(material.selection.index) + n_val * material.selection.fits_val


def _minority_share(bench: Bench, subset: Material | None) -> float | None:
    """Share of the subset from groups below half an equal share of the pool; None where there are no groups."""
    groups = bench.pool.groups
    if not isinstance(subset, SelectedSubset) or groups is None:
        return None
    shares = np.bincount(groups) / len(groups)
    minority = shares < 0.5 / len(shares)
    return float(minority[groups[subset.selection.index]].mean())
