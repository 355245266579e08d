"""The stage: three models on the test split, over groups or curated cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from slim.stages.curate.curate import curate
from slim.stages.curate.subset import Subset
from slim.stages.evaluate.evaluate import evaluate
from slim.stages.evaluate.evaluation import MODELS, Evaluations
from slim.stages.evaluate.measuring import evaluate_classifier
from slim.stages.retrain.retrained import Retrained
from slim.stages.settings import CurateSettings, EvaluateSettings

Make = Callable[..., Any]
EXACT = EvaluateSettings(precision="32-true", batch_size=5)


def evaluated(made: Any, mode: Any = "last-layer") -> tuple[Subset, Retrained, Evaluations]:
    """The records with two other heads as the retrained models."""
    settings = CurateSettings(size=8, core_clusters=1, environment_clusters=2, balance="environment")
    subset = curate(made.data, made.reference, made.attention, made.space, made.scores, settings)
    generator = torch.Generator().manual_seed(0)
    model, random = (
        made.reference.with_head(torch.randn((2, 12), generator=generator), torch.zeros(2)) for _ in range(2)
    )
    retrained = Retrained(model, random, np.arange(8), mode)
    return subset, retrained, evaluate(made.data, made.reference, made.attention, subset, retrained, EXACT)


@pytest.mark.parametrize("mode", ["last-layer", "full"])
def test_evaluate_measures_each_model_as_by_itself(mode: Any, records: Make) -> None:
    made = records()
    _, retrained, evaluations = evaluated(made, mode)
    models = {"reference": made.reference, "random_subset": retrained.random, "retrained": retrained.model}
    for name, model in models.items():
        alone = evaluate_classifier(model, made.data.test, EXACT)
        assert evaluations[name].predictions.tolist() == alone.predictions.tolist()
        assert evaluations[name].worst_group_accuracy == alone.worst_group_accuracy
        np.testing.assert_allclose(evaluations[name].inside, alone.inside, atol=1e-5)
        assert evaluations[name].groups_are == "label x attribute"
        assert evaluations[name].groups["name"].tolist() == list(made.data.test.group_names)


def test_evaluate_lists_every_test_image_with_each_models_prediction(records: Make) -> None:
    made = records()
    _, _, evaluations = evaluated(made)
    images, test = evaluations.images, made.data.test
    assert images["path"].tolist() == test.paths
    assert images["y"].tolist() == test.y.tolist()
    assert images["group"].tolist() == test.groups.tolist()
    for name in MODELS:
        assert images[f"{name}_prediction"].tolist() == evaluations[name].predictions.tolist()
        np.testing.assert_array_equal(images[f"{name}_confidence"], evaluations[name].confidence)
        np.testing.assert_array_equal(images[f"{name}_inside"], evaluations[name].inside)
        right = (images[f"{name}_prediction"] == images["y"]).groupby(images["group"]).mean()
        assert evaluations[name].groups["accuracy"].tolist() == right.tolist()


def test_evaluate_without_masks_measures_no_attention(records: Make) -> None:
    _, _, evaluations = evaluated(records(masks=False))
    assert evaluations.retrained.attention is None
    assert not [column for column in evaluations.images if column.endswith("_inside")]


def test_a_reference_model_that_is_kept_need_not_have_a_bias(records: Make) -> None:
    made = records()
    _, retrained, _ = evaluated(made)
    made.reference.linear.bias = None
    models = replace(retrained, model=made.reference, images="none").models(made.reference)
    assert models["retrained"] is made.reference
    assert models["random_subset"].linear.bias is not None


@pytest.mark.parametrize("pool", ["train", "val"])
def test_evaluate_without_an_attribute_groups_by_label_and_curated_cell(pool: str, records: Make) -> None:
    made = records(pool, attribute=False)
    subset, _, evaluations = evaluated(made)
    groups, images = evaluations.reference.groups, evaluations.images
    assert evaluations.reference.groups_are == "label x curated cell"
    assert groups["name"].tolist() == [f"class {k}, environment {j}" for k in (0, 1) for j in (0, 1)]
    joined = subset.join(made.attention.split(pool), made.attention.test)
    assert images["group"].tolist() == (2 * made.data.test.y + joined).tolist()
    assert groups["n"].tolist() == np.bincount(images["group"], minlength=4).tolist()
    cells = subset.environment_cluster
    if pool == "val":  # a share of training is one of train, whatever the subset was chosen from
        cells = subset.join(made.attention.val, made.attention.train)
    for g, share in enumerate(groups["training_share"]):
        assert share == ((made.data.train.y == g // 2) & (cells == g % 2)).mean()


def test_evaluations_survive_saving_and_loading(records: Make, tmp_path: Path) -> None:
    _, _, evaluations = evaluated(records())
    evaluations.save(tmp_path)
    loaded = Evaluations.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.images, evaluations.images)
    for name in MODELS:
        assert loaded[name].as_dict() == evaluations[name].as_dict()
    assert repr(loaded) == repr(evaluations)


def test_model_that_always_says_one_class_gets_that_classes_share_right(records: Make) -> None:
    """Accuracy counts hits, not misses: unequal classes tell the two apart."""
    made = records(attribute=False, masks=False)
    y = made.data.test.y
    test = made.data.test[np.concatenate([np.flatnonzero(y == 1), np.flatnonzero(y == 0)[:2]])]
    says_one = made.reference.with_head(torch.zeros((2, 12)), torch.tensor([0.0, 9.0]))
    evaluation = evaluate_classifier(says_one, test, EXACT)
    assert evaluation.average_accuracy == 6 / 8
    assert evaluation.groups["accuracy"].tolist() == [0.0, 1.0]
    assert evaluation.groups["correct"].tolist() == [0, 6]
    assert (evaluation.worst_group, evaluation.worst_group_accuracy) == ("class 0", 0.0)
    assert evaluation.confidence.min() > 0.99


def test_groups_follow_the_images_that_are_evaluated(records: Make) -> None:
    made = records()
    turned = replace(made, data=replace(made.data, test=made.data.test[::-1]))
    attention = replace(
        made.attention, test=replace(made.attention.test, environment=made.attention.test.environment[::-1])
    )
    _, _, one = evaluated(made)
    _, _, other = evaluated(replace(turned, attention=attention))
    assert other.images["group"].tolist() == one.images["group"].tolist()[::-1]
    assert other.reference.worst_group_accuracy == one.reference.worst_group_accuracy
