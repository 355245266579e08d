"""Computes the rows for every seed, and continues where an earlier call stopped."""

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

from slim.comparison.bench import Bench
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


def compare(
    folder: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    rows: Sequence[str] = DEFAULT_ROWS,
    modes: Sequence[Mode] = ("last-layer",),
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
    **options
        As for `slim.open_run`: ``data, recipe, settings, ...``, for every seed.

    Returns
    -------
    DataFrame
        One line per row, mode and seed.

    Raises
    ------
    SettingsError
        A row or a mode does not exist, or a row needs group labels or a package that is missing.

    Notes
    -----
    Result files record what they were made from: repeating the call continues where it stopped, and changed settings
    recompute the rows. The tables show every result in the folder for these seeds that is still valid, including rows
    and modes of earlier calls.

    Examples
    --------
    ``slim.compare("runs/compare-pets", data="pets", seeds=range(5))``
    """
    _check(seeds, rows, modes)
    folder = Path(folder)
    lines: list[dict[str, Any]] = []
    tabled: dict[int, list[dict[str, Any]]] = {}
    for mode, seed in product(modes, seeds):
        bench = prepared_bench(folder, seed, options)
        lines += _rows_of_mode(bench, [key for key in rows if _takes_part(key, mode, modes)], mode)
        tabled[seed] = _all_kept(bench)
        write_tables(folder, pd.DataFrame(list(chain(*tabled.values()))), bench.data.name)
    return pd.DataFrame(lines)


def prepared_bench(folder: Path, seed: int, options: Mapping[str, Any]) -> Bench:
    """Open the run of one seed, and do the stages that all rows share where they are not done.

    Parameters
    ----------
    folder, seed, options
        As for `compare`.
    """
    run = open_run(folder / f"seed-{seed}", **options, seed=seed)
    run.verify()  # so that what is damaged is not done
    for number, verb in enumerate(_SHARED, 1):
        if run.state(verb) != "done":
            announce(f"seed {seed} [{number}/{len(_SHARED)}] {verb}")
            run.stage(verb)
    return Bench(run)


def _check(seeds: Sequence[int], rows: Sequence[str], modes: Sequence[str]) -> None:
    for name, wanted, known in (("row", rows, tuple(ROWS)), ("mode", modes, ("last-layer", "full"))):
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


def _rows_of_mode(bench: Bench, keys: Sequence[str], mode: Mode) -> list[dict[str, Any]]:
    """The results of some rows, those of earlier calls included."""
    missing = [key for key in keys if _kept_row(bench.run, key, mode) is None]
    if missing:
        announce(f"seed {bench.seed} {mode}: {', '.join(missing)}")
    for key, result in _results(bench, missing, mode):
        path = _path(bench.run, key, mode)
        path.parent.mkdir(exist_ok=True)
        write_sealed(path, {"made_from": digest(bench.run, key, mode), **result})
    return [line for key in keys if (line := _kept_row(bench.run, key, mode)) is not None]


def _all_kept(bench: Bench) -> list[dict[str, Any]]:
    """Every valid result of a seed; a row that is the same in both modes appears once."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for mode, key in product(get_args(Mode), ROWS):
        line = _kept_row(bench.run, key, mode)
        if line is not None:
            lines.setdefault((line["row"], line["mode"]), line)
    return list(lines.values())


def _kept_row(run: Run, key: str, mode: Mode) -> dict[str, Any] | None:
    return kept(_path(run, key, mode), digest(run, key, mode))


def _path(run: Run, key: str, mode: Mode) -> Path:
    return run.folder.path / "rows" / f"{key}.{mode}.json"


def digest(run: Run, key: str, mode: Mode) -> str:
    """A hash of everything that a result depends on."""
    stages = {verb: run.folder.digest(STAGES[verb].folder) for verb in _SHARED}
    settings = {verb: run.settings.plain(verb) for verb in STAGES if verb not in _SHARED}
    recorded_answers = run.inputs(STAGES["annotate"]).get("file")
    parts = [VERSION, key, mode, stages, settings, recorded_answers]
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


def _results(bench: Bench, keys: Sequence[str], mode: Mode) -> Iterator[tuple[str, dict[str, Any]]]:
    """The result of each row; rows that differ only in their last layer are evaluated in one pass."""
    test, settings = bench.data.test, bench.settings["evaluate"]
    models: dict[str, Classifier] = {}
    facts: dict[str, tuple[Material | None, float]] = {}
    for key in keys:
        start, row = perf_counter(), ROWS[key]
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", SlimWarning)  # the table shows what they warn about
            material = row.material(bench) if row.material is not None else None
            if mode == "full" and _in_each_mode(row):
                model = _network(bench, row, material, bench.run.folder.path / "rows" / f"{key}.full")
                evaluation = evaluate_classifier(model, test, settings)
                yield key, _record(bench, key, mode, evaluation, material, perf_counter() - start)
                continue
            head = _head(bench, row, material)
        models[key] = bench.reference if head is None else with_head(bench.reference, head)
        facts[key] = material, perf_counter() - start
    if models:
        for key, evaluation in evaluate_heads(models, test, settings).items():
            yield key, _record(bench, key, mode, evaluation, *facts[key])


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
    bench: Bench, key: str, mode: Mode, evaluation: Evaluation, material: Material | None, seconds: float
) -> dict[str, Any]:
    """One line of the results."""
    row = ROWS[key]
    measures: dict[str, float | None] = {}
    for name in ("inside_fraction", "aiou"):
        measure = (evaluation.attention or {}).get(name)
        measures |= {name: measure.value if measure else None, f"{name}_uniform": measure.uniform if measure else None}
    return {
        "row": key,
        "title": row.title,
        "mode": mode if _in_each_mode(row) else "last-layer" if row.head is not None else "reference",
        "seed": bench.seed,
        "worst_group_accuracy": evaluation.worst_group_accuracy,
        "average_accuracy": evaluation.average_accuracy,
        "adjusted_average_accuracy": evaluation.adjusted_average_accuracy,
        **measures,
        "judgements": material.judgements if material is not None else 0,
        "group_labels": row.group_labels,
        "train_images": _train_images(bench, row, material, mode),
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
