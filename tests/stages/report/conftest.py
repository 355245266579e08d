"""A report of two classes and two attributes, as plain values, and parts of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slim.stages.report.records import DataSummary, Example, ModelRow, QueryCard, ReportInput, Scatter
from slim.stages.retrain.choices import ModelKey

TITLES: dict[ModelKey, str] = {
    "reference": "Reference model",
    "random_subset": "Random subset",
    "retrained": "Retrained model",
}
SHARES = {"cat, place=0": 0.47, "cat, place=1": 0.03, "dog, place=0": 0.02, "dog, place=1": 0.48}


def _attention(value: float) -> dict[str, Any]:
    names = ("inside_fraction", "iou", "aiou", "energy_inside", "pointing_game")
    return {name: {"value": value, "uniform": 0.25, "n": 40} for name in names}


def _evaluation(
    worst: float, half_width: float = 0.05, *, masks: bool = True, shares: Mapping[str, float | None] = SHARES
) -> dict[str, Any]:
    """An evaluation whose first rare group is the worst one."""
    names = list(shares)
    accuracy = {name: max(0.95, worst) for name in names} | {names[1]: worst}
    groups = [
        {
            "name": name,
            "n": 100,
            "correct": round(100 * accuracy[name]),
            "accuracy": accuracy[name],
            "low": max(0.0, accuracy[name] - half_width),
            "high": min(1.0, accuracy[name] + half_width),
            "training_share": shares[name],
        }
        for name in names
    ]
    return {
        "worst_group_accuracy": worst,
        "worst_group": names[1],
        "average_accuracy": 0.9,
        "adjusted_average_accuracy": 0.93 if None not in shares.values() else None,
        "group_mean_accuracy": 0.88,
        "groups": groups,
        "groups_are": "label x attribute" if None not in shares.values() else "label x curated cell",
        "missing_groups": [],
        "attention": _attention(0.6) if masks else None,
        "predicts_one_class": False,
    }


def _rows(
    reference: float = 0.4, random_subset: float | None = 0.5, retrained: float = 0.8, **options: Any
) -> list[ModelRow]:
    worst: dict[ModelKey, float | None] = {
        "reference": reference,
        "random_subset": random_subset,
        "retrained": retrained,
    }
    return [
        ModelRow(key, TITLES[key], "class labels", 120, _evaluation(value, **options))
        for key, value in worst.items()
        if value is not None
    ]


def _photograph(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _scatter(n: int = 60) -> Scatter:
    rng = np.random.default_rng(0)
    queries = np.arange(0, 6)
    answers = ["core", "spurious", "unsure"] * 2
    return Scatter(
        rng.normal(size=(n, 2)), rng.integers(0, 2, n), rng.random(n), queries, answers, rng.integers(0, 2, n)
    )


def _report(**changes: Any) -> ReportInput:
    """A whole report of two classes and two attributes."""
    rng = np.random.default_rng(0)
    maps: dict[ModelKey, np.ndarray] = {"reference": rng.random((7, 7)), "retrained": rng.random((7, 7))}
    example = Example(
        _photograph(0), maps, "cat", {"reference": ("dog", 0.8), "retrained": ("cat", 0.9)}, "cat, place=1"
    )
    groups = [{"name": name, "train": round(1000 * share)} for name, share in SHARES.items()]
    whole = ReportInput(
        title="a run",
        data=DataSummary(
            "pets", {"train": 1000, "val": 100, "test": 400}, ("cat", "dog"), ("place=0", "place=1"), groups
        ),
        rows=_rows(),
        judgements={
            "judged": 6,
            "core": 2,
            "spurious": 2,
            "unsure": 2,
            "pool": "train",
            "share_of_pool": 0.006,
            "annotator": "simulated from masks",
        },
        subset_size=120,
        seed=3,
        version="0.2.0",
        created="2024-10-01",
        trust=[
            {
                "class_name": name,
                "auc": auc,
                "low": auc,
                "high": auc,
                "verdict": "above chance",
                "n_core": 1,
                "n_spurious": 1,
                "n_unsure": 1,
            }
            for name, auc in (("cat", 0.8), ("dog", float("nan")))
        ],
        scatter=_scatter(),
        subset=[
            {"class": "cat", "core_cluster": i, "environment_cluster": j, "available": 30, "share": 0.25, "size": 7}
            for i, j in ((0, 0), (0, 1), (1, 1))
        ],
        examples=[example],
        queries=[QueryCard(_photograph(i), rng.random((7, 7)), "dog", "spurious") for i in range(14)],
        stages=[{"stage": "train", "seconds": 95.0}, {"stage": "embed", "seconds": 4000.0}],
        settings={"train": {"learning_rate": 0.001, "momentum": None}},
    )
    return replace(whole, **changes)


@pytest.fixture(scope="session")
def report() -> Callable[..., ReportInput]:
    """Makes a whole report, with changes."""
    return _report


@pytest.fixture(scope="session")
def rows() -> Callable[..., list[ModelRow]]:
    """Makes the rows of the models from their worst-group accuracies."""
    return _rows


@pytest.fixture(scope="session")
def scatter() -> Callable[..., Scatter]:
    """Makes an attention space of n images, of which six are judged."""
    return _scatter


@pytest.fixture(scope="session")
def photograph() -> Callable[..., Image.Image]:
    """Makes a photograph of noise."""
    return _photograph


@pytest.fixture(scope="session")
def training_shares() -> Mapping[str, float]:
    """Share of each group of the report among the training images."""
    return SHARES
