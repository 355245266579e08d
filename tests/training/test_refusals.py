"""What training refuses: settings out of range, and images that cannot be trained with."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from tests.training.conftest import (
    FAST,
    model_of,
)

from slim import processes
from slim.data import ImageTable
from slim.errors import DataError, SettingsError
from slim.training import TrainSettings, train_classifier


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0},
        {"lr": math.inf},
        {"lr": math.nan},
        {"momentum": 1},
        {"weight_decay": -0.1},
        {"warmup": 1},
        {"epochs": 0},
        {"batch_size": 1},
        {"image_size": 0},
        {"patience": 0},
        {"workers": -1},
        {"trainable": ""},
        {"optimizer": "adam"},
        {"schedule": "linear"},
        {"precision": "64-true"},
        {"class_weights": "yes"},
        {"augmentation": "heavy"},
        {"select_by": "val_accuracy"},
        {"device": "tpu"},
    ],
)
def test_settings_refuse_values_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=rf"^{next(iter(wrong))} must be .* Got "):
        TrainSettings(**wrong)


def test_train_refuses_images_that_cannot_be_trained_with(table: ImageTable) -> None:
    other = replace(table, class_names=("blue", "red"))
    for images, val, what in (
        (table[[0]], table, "Got 1 images of 1 classes"),
        (table[[0, 2, 4]], table, "Got 3 images of 1 classes"),
        (table, table[[]], "Got none"),
        (table, other, "same classes"),
    ):
        with pytest.raises(DataError, match=what):
            train_classifier(images, val, FAST, initial=model_of())


def test_train_refuses_fewer_validation_images_than_processes(
    table: ImageTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_count", 2)
    with pytest.raises(DataError, match="as many validation images as processes. Got 1 for 2"):
        train_classifier(table, table[[0]], FAST, initial=model_of())


def test_train_refuses_a_model_of_other_classes(table: ImageTable) -> None:
    with pytest.raises(DataError, match="blue, red"):
        train_classifier(table, table, FAST, initial=model_of(class_names=("blue", "red")))


def test_train_refuses_what_does_not_go_together(table: ImageTable) -> None:
    bare = replace(table, attribute_names=())
    with pytest.raises(SettingsError, match="spurious attribute"):
        train_classifier(table, bare, replace(FAST, select_by="worst-group"), initial=model_of())
    with pytest.raises(SettingsError, match="16-mixed"):
        train_classifier(table, table, replace(FAST, precision="16-mixed"), initial=model_of())
    with pytest.raises(SettingsError, match="seed"):
        train_classifier(table, table, FAST, seed=-1, initial=model_of())
