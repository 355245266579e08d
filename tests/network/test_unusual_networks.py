"""Networks and checkpoints that people bring: the right layer, the right classes, or a sentence that says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from tests.network.conftest import NAMES
from torch import nn
from torch.nn.utils import parametrizations, prune

from slim.errors import ModelError
from slim.network.build import restore, wrap
from slim.network.checkpoints import read_state_dict
from slim.network.gradcam import GradCam

pytestmark = pytest.mark.usefixtures("small_and_quiet")


def small() -> nn.Sequential:
    torch.manual_seed(0)
    features = (nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()


@pytest.mark.parametrize(
    "names", [{"dog": 1, "cat": 0}, {1: "dog", 0: "cat"}, ["cat", "dog"], np.array(["cat", "dog"])]
)
def test_class_names_are_in_the_order_of_their_numbers(names: Any) -> None:
    assert wrap(small(), image_size=16, class_names=names).class_names == ("cat", "dog")


@pytest.mark.parametrize("names", [{"cat", "dog"}, "ab", 2, {"cat": 1, "dog": 2}])
def test_class_names_without_an_order_are_refused(names: Any) -> None:
    with pytest.raises(ModelError, match="named in the order of the outputs. Got"):
        wrap(small(), image_size=16, class_names=names)
    with pytest.raises(ModelError, match="named in the order of the outputs. Got"):
        restore("model.pt", "resnet10t", names)


def pruned(module: nn.Sequential) -> None:
    prune.l1_unstructured(module[0], "weight", 0.5)


def weight_normed(module: nn.Sequential) -> None:
    parametrizations.weight_norm(module[0])


def plain(module: nn.Sequential) -> None:
    """Nothing."""


@pytest.mark.parametrize("change", [plain, pruned, weight_normed])
def test_a_network_whose_weights_are_computed_is_looked_at(change: Callable[[nn.Sequential], None]) -> None:
    module = small()
    change(module)
    module(torch.zeros(1, 3, 16, 16))
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    classifier = wrap(module, image_size=16)
    with GradCam(classifier) as cam:
        seen = cam(images)
    assert torch.allclose(seen.logits, module(classifier.normalize(images)), atol=1e-5)


def test_a_network_without_values_is_refused_before_it_is_looked_at() -> None:
    with torch.device("meta"):
        module = small()
    with pytest.raises(ModelError, match="on the meta device. Load its weights first"):
        GradCam(wrap(module, image_size=16))


@pytest.mark.parametrize(
    ("arch", "size", "finer"),
    [("efficientvit_b0", 64, "stages.2"), ("gcvit_xxtiny", 224, "stages.2"), ("edgenext_xx_small", 64, "stages.2")],
)
def test_the_finer_layer_has_places_and_not_pairs_of_places(arch: str, size: int, finer: str) -> None:
    with torch.device("meta"):
        module = timm.create_model(arch, num_classes=2)
    assert wrap(module, image_size=size).finer.startswith(finer)


def test_a_poolformer_is_no_pooling() -> None:
    class PoolFormerGroupNorm(nn.GroupNorm):
        """As transformers calls the last layer with a grid."""

    class AveragePooler(nn.Identity):
        """As it calls what only forwards."""

    module = nn.Sequential(nn.Conv2d(3, 8, 3), PoolFormerGroupNorm(1, 8), AveragePooler(), nn.AdaptiveAvgPool2d(1))
    head = nn.Linear(8, 2)
    nn.init.constant_(head.bias, 5.0)  # so that its outputs cannot pass for probabilities
    assert wrap(nn.Sequential(*module, nn.Flatten(), head), image_size=16).layer == "1"


def tensors() -> dict[str, torch.Tensor]:
    return small().state_dict()


@pytest.mark.parametrize(
    "content",
    [
        {"net": tensors(), "acc": 0.9, "epoch": 3},
        {"model_ema": tensors(), "model": None},
        {"checkpoint": {"weights": tensors()}, "optimizer": {"state": {}, "param_groups": []}},
    ],
)
def test_the_only_state_dict_is_found_under_any_key(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "model.pt")
    assert read_state_dict(tmp_path / "model.pt").keys() == tensors().keys()


@pytest.mark.parametrize("content", [{"student": tensors(), "teacher": tensors()}, {0: torch.zeros(2)}, [tensors()]])
def test_a_checkpoint_that_leaves_the_choice_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="must hold a state_dict: bare, as the only one, or under"):
        read_state_dict(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("value", "problem"),
    [(torch.full((2,), float("inf")), "infinity in fc.bias"), (torch.zeros(2, device="meta"), "none .meta. in")],
)
def test_a_checkpoint_without_numbers_is_refused(tmp_path: Path, value: torch.Tensor, problem: str) -> None:
    state = {**timm.create_model("resnet10t", num_classes=2).state_dict(), "fc.bias": value}
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=problem):
        restore(tmp_path / "model.pt", "resnet10t", NAMES, image_size=32)


class Normalising(nn.Module):
    """Subtracts and divides by buffers of its own."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.network = small()
        for name in names:
            self.register_buffer(name, torch.full((3, 1, 1), 0.5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits


@pytest.mark.parametrize(
    ("names", "warned"), [(("mean", "std"), True), (("pixel_mean", "pixel_std"), True), (("mean",), False)]
)
def test_a_network_that_holds_mean_and_deviation_seems_to_normalise_images(
    names: tuple[str, ...], warned: bool, recwarn: pytest.WarningsRecorder
) -> None:
    wrap(Normalising(*names), image_size=16)
    assert any("seems to normalise images itself" in str(one.message) for one in recwarn) is warned
    wrap(Normalising(*names), image_size=16, mean=(0, 0, 0), std=(1, 1, 1))
    assert len(recwarn) == warned
