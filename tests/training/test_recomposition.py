"""Training on recomposed images: what they change, and that it resumes like any other training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.conftest import FAST, Killed, assert_same_training, kill_at, model_of, same, state_of
from torch import Tensor

from slim.data import ImageTable, Recomposition, recomposed_batches
from slim.training import fit, loop
from slim.training.checkpoint import fingerprint
from slim.training.settings import Task

LAST = replace(FAST, select_by="last", augmentation="light")


@pytest.fixture
def recomposition(table: ImageTable) -> Recomposition:
    """The object is the left half of every image."""
    maps = np.zeros((len(table), 8, 8), np.uint8)
    maps[:, :, :4] = 255
    return Recomposition(maps)


def test_recomposition_changes_the_fingerprint(table: ImageTable, recomposition: Recomposition) -> None:
    model = model_of()
    turned = Recomposition(recomposition.maps[:, :, ::-1])
    made = [fingerprint(model, Task(table, table, FAST, 0, None, one)) for one in (None, recomposition, turned)]
    assert len(set(made)) == 3
    assert fingerprint(model, Task(table, table, FAST, 0, None, recomposition)) == made[1]


@pytest.mark.parametrize("trainable", ["all", "stage"])
def test_training_is_on_recomposed_images_and_validation_is_not(
    table: ImageTable, recomposition: Recomposition, trainable: str
) -> None:
    settings = replace(LAST, epochs=2, trainable=trainable)
    ours = fit(table, table, settings, seed=1, initial=model_of(), recomposition=recomposition)
    plain = fit(table, table, settings, seed=1, initial=model_of())
    assert not same(state_of(ours.classifier), state_of(plain.classifier))
    # A map of the whole image leaves it as it is, and so does training on it.
    whole = Recomposition(np.full_like(recomposition.maps, 255))
    assert_same_training(fit(table, table, settings, seed=1, initial=model_of(), recomposition=whole), plain)


@pytest.mark.filterwarnings("ignore::slim.SlimWarning")  # a model of two steps may say anything
def test_every_epoch_has_other_backgrounds(
    table: ImageTable, recomposition: Recomposition, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    real = loop.Loop._step

    def step(self: Any, source: Any, inputs: Tensor, *rest: Any) -> None:
        seen.append(inputs.clone())
        real(self, source, inputs, *rest)

    monkeypatch.setattr(loop.Loop, "_step", step)
    settings = replace(LAST, augmentation="none", epochs=2, batch_size=12)
    fit(table, table, settings, seed=1, initial=model_of(), recomposition=recomposition)
    assert [len(images) for images in seen] == [12, 12]
    orders = [np.random.default_rng((1, epoch, 0, 0, 0)).permutation(12) for epoch in (1, 2)]
    for epoch, (images, order) in enumerate(zip(seen, orders, strict=True), 1):
        batches = recomposed_batches(table, recomposition, 16, 12, order=order, seed=1, epoch=epoch)
        assert torch.equal(images, next(iter(batches))[0])
    first, second = (images[np.argsort(order)] for images, order in zip(seen, orders, strict=True))
    assert torch.equal(first[:, :, :, :6], second[:, :, :, :6])
    assert not torch.equal(first[:, :, :, 10:], second[:, :, :, 10:])


@pytest.mark.parametrize("call", [2, 4])
def test_killed_training_on_recomposed_images_ends_with_the_same_result(
    table: ImageTable, recomposition: Recomposition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    options: dict[str, Any] = {"seed": 1, "recomposition": recomposition}
    whole = fit(table, table, LAST, initial=model_of(), **options)
    revive = kill_at(monkeypatch, loop.Loop, "_step", call)
    with pytest.raises(Killed):
        fit(table, table, LAST, folder=tmp_path, initial=model_of(), **options)
    revive()
    assert_same_training(whole, fit(table, table, LAST, folder=tmp_path, initial=model_of(), **options))
