"""No stage mixes devices, seen on a pretended GPU: a network there gives what it gives on the CPU."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.pretended_gpu import GPU, moved, pretended_gpu
from tests.stages.conftest import Records

import slim
from slim.comparison.networks import _predictions
from slim.data import ImageTable, Recomposition
from slim.network.build import build
from slim.network.classifier import Classifier
from slim.network.probing import probe
from slim.stages.attend import attend, attend_split
from slim.stages.retrain.recomposed import recomposed_head
from slim.stages.retrain.reliance import background_reliance
from slim.stages.settings import AttendSettings, EvaluateSettings, RetrainSettings
from slim.training import TrainSettings

FULL = TrainSettings(weights=None, precision="32-true")
ATTEND, EVALUATE = AttendSettings(precision="32-true"), EvaluateSettings(precision="32-true")
STAGES: dict[str, Callable[[Records, Classifier], Any]] = {
    "attend": lambda made, model: attend(made.data, model, ATTEND, training=FULL),
    "evaluate": lambda made, model: slim.evaluate_classifier(model, made.data.test, EVALUATE),
    "explain": lambda made, model: slim.explain(made.data, model, made.attention),
    "look": lambda made, model: slim.look(model, made.data.test.paths[:3]),
    "probe": lambda made, model: probe(model, made.data.train),
    "predict": lambda made, model: _predictions(model, made.data.test, None),
    "reliance": lambda made, model: background_reliance(model, made.data.train, made.objects.train, "32-true", seed=0),
    "recomposed head": lambda made, model: recomposed_head(
        made.data, model, {"train": Recomposition(made.objects.train)}, RetrainSettings(draws=2), FULL, seed=0
    ),
}


def test_the_pretended_gpu_refuses_what_a_gpu_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_gpu(monkeypatch):
        here, there = torch.ones(3), torch.ones(3, device=GPU)
        assert (there + there * 2).sum().item() == 9
        assert (there + torch.tensor(1.0)).cpu().tolist() == there[torch.tensor([0, 1, 2])].add(1).tolist()
        for mixed in (
            lambda: here + there,
            lambda: here[there.long()],
            lambda: torch.where(there > 0, here, there),
            lambda: there.normal_(generator=torch.Generator()),
        ):
            with pytest.raises(RuntimeError, match="GPU|device"):
                mixed()
        with pytest.raises((TypeError, RuntimeError)):
            there.numpy()


@pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning")
@pytest.mark.parametrize("stage", STAGES)
def test_stage_gives_on_a_gpu_what_it_gives_on_the_cpu(
    records: Callable[..., Records], stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = records()
    expected = STAGES[stage](made, made.reference)
    with pretended_gpu(monkeypatch):
        found = STAGES[stage](made, moved(made.reference))
    assert pickle.dumps(found) == pickle.dumps(expected)


@pytest.mark.filterwarnings("ignore:.* maps are flat:slim.errors.SlimWarning")
@pytest.mark.parametrize("arch", ["resnet10t", "convnext_atto", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
@pytest.mark.parametrize("method", ["auto", "autograd"])
def test_attention_of_each_kind_of_network(
    photos: Callable[..., ImageTable], arch: str, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = photos(4)
    model = build(arch, table.class_names, weights=None, image_size=64)
    settings = AttendSettings(precision="32-true", method=method)
    expected = attend_split(model, table, settings)
    with pretended_gpu(monkeypatch):
        found = attend_split(moved(model), table, settings)
    np.testing.assert_allclose(found.maps, expected.maps, atol=1e-5)
    np.testing.assert_allclose(found.features, expected.features, atol=0.02)
