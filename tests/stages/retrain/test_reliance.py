"""Whether the reference model relies on backgrounds, and what is retrained on in each case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from slim.data import Dataset, ImageTable, Recomposition
from slim.errors import SlimWarning
from slim.matting import SIDE
from slim.network.classifier import Classifier
from slim.network.gradcam import GradCam
from slim.stages.curate.curate import curate
from slim.stages.retrain.recomposed import recomposed_head
from slim.stages.retrain.reliance import Reliance, background_reliance
from slim.stages.retrain.retrain import choose_images, retrain
from slim.stages.settings import CurateSettings, RetrainSettings
from slim.training import TrainSettings

pytestmark = pytest.mark.usefixtures("small_and_quiet")

Make = Callable[..., Any]
TRAINING = TrainSettings(device="cpu", precision="32-true")


@pytest.fixture
def squares(tmp_path: Any) -> tuple[ImageTable, Any]:
    """Photos of a red square of class 0 or a blue one of class 1, on green of class 0 or black of class 1."""
    y = np.repeat([0, 1], 20)
    maps, paths = np.zeros((40, SIDE, SIDE), np.uint8), []
    maps[:, 16:48, 16:48] = 255
    for i, label in enumerate(y):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        pixels[..., 1] = 0 if label else 200
        pixels[16:48, 16:48] = (0, 0, 200) if label else (200, 0, 0)
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return ImageTable(pd.DataFrame({"path": paths, "y": y}), ("red", "blue")), maps


def reads(channel: int, small_classifier: Make) -> Classifier:
    """A model that predicts class 0 for images in which a colour is strong on average."""

    class Mean(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen = images[:, channel].mean((1, 2))
            return 0 * self.inner(images) + torch.stack([seen, torch.zeros_like(seen)], 1)

    model: Classifier = small_classifier()
    return replace(
        model,
        module=Mean(model.module),
        layer=f"inner.{model.layer}",
        finer=f"inner.{model.finer}",
        head=None,
        mean=(0.1, 0.1, 0.1),
        std=(1.0, 1.0, 1.0),
    )


@pytest.mark.parametrize(("channel", "other"), [(1, 0.0), (0, 1.0)], ids=["background", "object"])
def test_model_that_reads_the_background_is_wrong_on_those_of_other_classes_and_no_other_model_is(
    channel: int, other: float, squares: tuple[ImageTable, Any], small_classifier: Make
) -> None:
    table, maps = squares
    found = background_reliance(reads(channel, small_classifier), table, maps, "32-true", seed=0)
    assert found == Reliance(40, 1.0, other)
    assert found.on_background == (channel == 1)


def test_sample_keeps_images_maps_and_labels_together(
    squares: tuple[ImageTable, Any], small_classifier: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, maps = squares
    maps = maps // 2 + np.arange(40, dtype=np.uint8)[:, None, None]
    seen: list[Any] = []

    def accuracy(cam: GradCam, some: ImageTable, recomposition: Any, seed: int) -> float:
        seen.append((some, recomposition, cam.precision, seed))
        return len(seen) / 4

    monkeypatch.setattr("slim.stages.retrain.reliance._SAMPLE", 15)
    monkeypatch.setattr("slim.stages.retrain.reliance._accuracy", accuracy)
    samples = []
    for seed in (1, 2):
        seen.clear()
        assert background_reliance(small_classifier(), table, maps, "32-true", seed=seed) == Reliance(15, 0.25, 0.5)
        index = [table.paths.index(path) for path in seen[0][0].paths]
        assert len(set(index)) == 15
        assert [(one.donors, precision, used) for _, one, precision, used in seen] == [
            ("same", "32-true", seed),
            ("other", "32-true", seed),
        ]
        for some, recomposition, *_ in seen:
            np.testing.assert_array_equal(recomposition.maps, maps[index])
            np.testing.assert_array_equal(recomposition.parts, table.y[index])
            assert some.paths == [table.paths[i] for i in index]
        samples.append(index)
    assert samples[0] != samples[1]


def test_precision_is_that_of_the_settings(
    squares: tuple[ImageTable, Any], small_classifier: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    (table, maps), model = squares, small_classifier()
    made: list[Any] = []
    for place in ("network.gradcam", "stages.retrain.recomposed"):
        monkeypatch.setattr(f"slim.{place}.GradCam", lambda *given: made.append(given[1:]) or GradCam(*given))
    background_reliance(model, table, maps, "bf16-mixed", seed=0)
    data, training = Dataset(table, table, table, fingerprint="0" * 16), TrainSettings(precision="bf16-mixed")
    recomposed_head(data, model, {"train": Recomposition(maps)}, RetrainSettings(draws=1), training, seed=0)
    assert made == [("auto", "bf16-mixed")] * 2


@pytest.mark.parametrize(
    ("same", "other", "expected"), [(0.1, 0.0, True), (0.92, 0.8, True), (0.9, 0.81, False), (0.5, 0.9, False)]
)
def test_a_tenth_of_accuracy_is_the_bound(same: float, other: float, expected: bool) -> None:
    assert Reliance(100, same, other).on_background is expected


@pytest.mark.parametrize(
    ("reliance", "evidence", "images", "says"),
    [
        (Reliance(40, 0.9, 0.2), 0.0, "recomposed", None),
        (Reliance(40, 0.9, 0.2), 0.5, "recomposed", None),
        (Reliance(40, 0.9, 0.88), 0.5, "subset", r"about 90% of 40 images .* about 88% on .* on the object itself"),
        (Reliance(40, 0.9, 0.88), 0.0, "none", r"about 88% .* no shortcut to remove.* The reference model is kept"),
    ],
)
def test_what_is_retrained_on_follows_from_backgrounds_first_and_then_from_errors_on_val(
    reliance: Reliance,
    evidence: float,
    images: str,
    says: str | None,
    records: Make,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    made = records()
    settings = CurateSettings(size=8, keep=0.5, balance="environment", core_clusters=1)
    subset = curate(made.data, made.reference, made.attention, made.space, made.scores, settings)
    subset = replace(subset, evidence=evidence)
    monkeypatch.setattr("slim.stages.retrain.retrain.background_reliance", lambda *_, **__: reliance)
    arguments = (made.data, made.reference, made.objects, subset, RetrainSettings(), TRAINING)
    if says is None:
        assert choose_images(*arguments, seed=0) == (images, reliance)
        assert not recwarn
    else:
        with pytest.warns(SlimWarning, match=says):
            assert choose_images(*arguments, seed=0) == (images, reliance)
    retrained = retrain(
        made.data, made.reference, made.attention, made.objects, subset, RetrainSettings(draws=1), training=TRAINING
    )
    assert (retrained.images, retrained.reliance) == (images, reliance)
    assert (retrained.model is made.reference) == (images == "none")


@pytest.mark.parametrize(("use_val", "images"), [(False, "none"), (True, "subset")])
def test_without_val_nothing_speaks_for_a_shortcut_on_the_object(
    use_val: bool, images: str, records: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = records()
    settings = CurateSettings(size=8, keep=0.5, balance="environment", core_clusters=1)
    subset = curate(made.data, made.reference, made.attention, made.space, made.scores, settings)
    assert subset.evidence is None
    monkeypatch.setattr("slim.stages.retrain.retrain.background_reliance", lambda *_, **__: Reliance(40, 0.9, 0.88))
    arguments = (made.data, made.reference, made.objects, subset, RetrainSettings(use_val=use_val), TRAINING)
    with pytest.warns(SlimWarning, match="reference model is kept" if images == "none" else "on the object itself"):
        assert choose_images(*arguments, seed=0)[0] == images


def test_a_rare_class_is_in_the_sample_too(
    squares: tuple[ImageTable, Any], small_classifier: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, maps = squares
    index = np.array([*range(20), 39])
    monkeypatch.setattr("slim.stages.retrain.reliance._SAMPLE", 4)
    sizes = {
        background_reliance(reads(0, small_classifier), table[index], maps[index], "32-true", seed=s).n
        for s in range(8)
    }
    assert sizes <= {4, 5}
