"""Python and the command line are one road: the same settings and seed give the same records."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result

import slim
from slim.stages import STAGES


def stage_by_stage(data: slim.Dataset, tiny: dict[str, Any], seed: int = 0) -> slim.Retrained:
    """The README's tour, with settings that take seconds."""
    training = slim.TrainSettings(**{**tiny["train"], "weights": None})
    reference = slim.train(data, training, seed=seed)
    attention = slim.attend(data, reference, training=training, seed=seed)
    space = slim.embed(attention, seed=seed)
    judgements = slim.annotate(data, attention, space, slim.AnnotateSettings(**tiny["annotate"]), seed=seed)
    scores = slim.propagate(data, space, judgements)
    objects = slim.locate(data, attention, space, judgements, seed=seed)
    subset = slim.curate(data, reference, attention, space, scores, slim.CurateSettings(**tiny["curate"]), seed=seed)
    return slim.retrain(data, reference, attention, objects, subset, seed=seed)


def equal(one: slim.Classifier, other: slim.Classifier) -> bool:
    ours, theirs = one.module.state_dict(), other.module.state_dict()
    return all(torch.equal(ours[name].cpu(), theirs[name].cpu()) for name in theirs)


@pytest.mark.parametrize(
    ("images", "relies", "shortcut"),
    [("recomposed", -1e9, 1e9), ("subset", 1e9, -1e9), ("none", 1e9, 1e9)],
)
@pytest.mark.filterwarnings("ignore::slim.SlimWarning")
def test_functions_fit_and_command_line_give_the_same_model_and_evaluation(
    images: str,
    relies: float,
    shortcut: float,
    squares: Callable[..., Path],
    tiny: dict[str, Any],
    tiny_options: list[str],
    slim_command: Callable[..., Result],
    small_and_quiet: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Bounds that any data reach, or none.
    monkeypatch.setattr("slim.stages.retrain.reliance.RELIES", relies)
    monkeypatch.setattr("slim.stages.curate.subset.SHORTCUT", shortcut)
    folder = squares()
    assert slim_command("run", tmp_path / "run", "--data", folder, *tiny_options).exit_code == 0
    opened = slim.open_run(tmp_path / "run")
    on_disk = {verb: opened.load(verb) for verb in ("train", "curate", "retrain", "evaluate", "report")}

    data = slim.load_dataset(folder)
    fitted = slim.fit(data, settings=tiny)
    step_by_step = stage_by_stage(data, tiny)

    for stage in STAGES.values():
        assert isinstance(getattr(fitted, stage.noun), stage.record)
    assert fitted.model is fitted.retrained.model
    assert repr(fitted) == f"Result({fitted.report!r})"

    assert on_disk["retrain"].images == fitted.retrained.images == images
    assert fitted.subset.frame.equals(on_disk["curate"].frame)
    for model in (fitted.model, step_by_step.model):
        assert equal(on_disk["retrain"].model, model)
        assert equal(on_disk["train"], model) is (images == "none")
    assert equal(on_disk["retrain"].random, step_by_step.random)
    for name in ("reference", "random_subset", "retrained"):
        ours, theirs = fitted.evaluation[name], on_disk["evaluate"][name]
        assert ours.as_dict() == theirs.as_dict()
        assert np.array_equal(ours.predictions, theirs.predictions)
    measured = {key: value for key, value in fitted.report.metrics.items() if key not in ("created", "stages", "title")}
    from_disk = json.loads((tmp_path / "run" / "10-report" / "metrics.json").read_text())
    settings_of = ("dataset", "settings", "warnings")  # the run's own name, folder and the order of its warnings
    assert {k: v for k, v in measured.items() if k not in settings_of} == {
        k: v for k, v in from_disk.items() if k in measured and k not in settings_of
    }


def test_same_seed_gives_the_same_result_twice(
    squares: Callable[..., Path], tiny: dict[str, Any], small_and_quiet: None
) -> None:
    data = slim.load_dataset(squares())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", slim.SlimWarning)
        first, second = slim.fit(data, settings=tiny, seed=3), slim.fit(data, settings=tiny, seed=3)
    assert first.subset.frame.equals(second.subset.frame)
    assert equal(first.model, second.model)
