"""The record of a classifier: its grid, its head, and saving it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from tests.network.conftest import NAMES, outputs
from torch import Tensor, nn

from slim.errors import ArtifactError, ModelError
from slim.network import classifier as classifier_module
from slim.network.build import build, wrap
from slim.network.classifier import Classifier

pytestmark = pytest.mark.usefixtures("small_and_quiet")


@pytest.mark.parametrize(
    ("arch", "size", "shape"),
    [
        ("resnet10t", 64, (512, 2, 2)),
        ("vit_tiny_patch16_224", 64, (192, 4, 4)),
        ("swin_tiny_patch4_window7_224", 112, (768, 4, 4)),
        ("convnext_atto", 64, (320, 2, 2)),
    ],
)
def test_activations_come_to_channels_first_grids(arch: str, size: int, shape: tuple[int, ...]) -> None:
    classifier = build(arch, NAMES, weights=None, image_size=size)
    seen: list[Tensor] = []
    hook = classifier.module.get_submodule(classifier.layer).register_forward_hook(lambda _, __, out: seen.append(out))
    outputs(classifier)
    hook.remove()
    assert classifier.grid(seen[0]).shape == (2, *shape)


def test_tokens_become_rows_of_a_grid_without_the_class_token() -> None:
    classifier = build("vit_tiny_patch16_224", NAMES, weights=None, image_size=32)
    tokens = torch.arange(5.0)[None, :, None].expand(1, 5, 192)
    assert classifier.grid(tokens)[0, 0].tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_tokens_become_a_grid_that_is_not_square_where_the_patches_do(
    small_classifier: Callable[..., Classifier],
) -> None:
    classifier = small_classifier()
    classifier.module.patch_embed = SimpleNamespace(grid_size=(2, 3))
    assert classifier.grid(torch.arange(7.0)[None, :, None])[0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_grid_of_channels_first_that_is_not_square_is_not_permuted(
    small_classifier: Callable[..., Classifier],
) -> None:
    activations = torch.zeros(2, 12, 4, 6)
    assert small_classifier().grid(activations).shape == (2, 12, 4, 6)


def test_tokens_of_networks_that_do_not_say_their_grid_become_a_square() -> None:
    with torch.device("meta"):
        classifier = wrap(torchvision.models.vit_b_16())
    tokens = torch.arange(197.0)[None, :, None].expand(1, 197, 768)
    assert classifier.grid(tokens)[0, 0, :2, :2].tolist() == [[1.0, 2.0], [15.0, 16.0]]


def test_a_side_as_long_as_the_head_is_wide_is_not_taken_for_channels() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.Conv2d(16, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    classifier = wrap(module, layer="0", image_size=8)
    assert classifier.finer == "0"
    assert classifier.grid(torch.zeros(2, 16, 8, 8)).shape == (2, 16, 8, 8)
    assert classifier.grid(torch.zeros(2, 4, 4, 16)).shape == (2, 16, 4, 4)


def test_activations_without_a_grid_are_refused(small_classifier: Callable[..., Classifier]) -> None:
    with pytest.raises(ModelError, match="Got 2 dimensions from 5"):
        small_classifier().grid(torch.zeros(2, 12))


@pytest.mark.parametrize("arch", ["resnet10t", "convnext_atto"])
def test_a_new_head_shares_the_backbone_and_leaves_the_original_as_it_was(arch: str) -> None:
    classifier = build(arch, NAMES, weights=None, image_size=32)
    before, names = outputs(classifier), [name for name, _ in classifier.module.named_modules()]
    weight, bias = torch.randn(2, classifier.linear.in_features), torch.tensor([1.0, -1.0])
    changed = classifier.with_head(weight, bias)
    assert torch.equal(changed.linear.weight, weight)
    assert torch.equal(outputs(classifier), before)
    assert not torch.equal(outputs(changed), before)
    own, other = dict(classifier.module.named_parameters()), dict(changed.module.named_parameters())
    assert {name for name in own if own[name] is not other[name]} == {
        f"{classifier.head}.weight",
        f"{classifier.head}.bias",
    }
    assert [name for name, _ in changed.module.named_modules()] == names
    assert type(changed.module) is type(classifier.module)
    weight.zero_()
    assert changed.linear.weight.abs().sum() > 0


def test_a_new_head_gives_the_logits_of_its_weights(small_classifier: Callable[..., Classifier]) -> None:
    classifier = small_classifier()
    linear = classifier.linear
    doubled = classifier.with_head(2 * linear.weight, 2 * linear.bias)
    torch.testing.assert_close(outputs(doubled), 2 * outputs(classifier))


@pytest.mark.parametrize("arch", ["resnet10t", "vit_tiny_patch16_224"])
def test_a_saved_classifier_loads_as_it_was(arch: str, tmp_path: Path) -> None:
    classifier = build(arch, NAMES, weights=None, image_size=32, layer=None, seed=5)
    classifier.save(tmp_path / "deep" / "folder")
    loaded = Classifier.load(tmp_path / "deep" / "folder")
    assert not loaded.module.training
    torch.testing.assert_close(outputs(loaded), outputs(classifier))
    described = [{k: v for k, v in vars(c).items() if k != "module"} for c in (classifier, loaded)]
    assert described[0] == described[1]
    assert not list((tmp_path / "deep" / "folder").glob("*.partial"))


def test_a_network_of_ones_own_loads_into_the_same_network_only(
    small_classifier: Callable[..., Classifier], tmp_path: Path
) -> None:
    classifier = small_classifier(seed=1)
    classifier.save(tmp_path)
    with pytest.raises(ModelError, match=r"must be passed.*Got no module.*slim\.wrap\(module\)"):
        Classifier.load(tmp_path)
    loaded = Classifier.load(tmp_path, small_classifier(seed=2).module)
    torch.testing.assert_close(outputs(loaded), outputs(classifier))
    with pytest.raises(ModelError, match=r"another shape for 9\.bias"):
        Classifier.load(tmp_path, small_classifier(3).module)


def test_outputs_take_the_names_of_the_classes_where_only_one_of_them_was_named(
    small_classifier: Callable[..., Classifier],
) -> None:
    module = small_classifier().module
    unnamed, named = wrap(module, image_size=16), wrap(module, image_size=16, class_names=NAMES)
    assert named.for_classes(NAMES) is named
    assert unnamed.for_classes(NAMES).class_names == tuple(NAMES)
    assert named.for_classes(["0", "1"]).class_names == ("0", "1")


@pytest.mark.parametrize(
    ("outputs_are", "classes", "hint"),
    [
        (["dog", "cat"], ["cat", "dog"], "Reorder its last layer"),
        (None, ["1", "0"], "Reorder its last layer"),
        (["1", "0"], ["0", "1"], "Reorder its last layer"),
        (["cat", "bird"], ["cat", "dog"], "one output for each of the 2 classes"),
        (None, ["cat", "dog", "bird"], "one output for each of the 3 classes"),
        (["cat", "dog"], ["cat"], "one output for each of the 1 classes"),
    ],
)
def test_outputs_that_are_not_the_classes_are_refused(
    small_classifier: Callable[..., Classifier], outputs_are: list[str] | None, classes: list[str], hint: str
) -> None:
    classifier = wrap(small_classifier().module, image_size=16, class_names=outputs_are)
    with pytest.raises(ModelError, match=rf"Got 2 outputs .* for {len(classes)} classes .*{hint}"):
        classifier.for_classes(classes)


class Holder(nn.Module):
    """A network of one's own whose names all begin with what checkpoints of others carry as a prefix."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.model = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


def test_a_network_of_ones_own_that_only_holds_another_loads(
    small_classifier: Callable[..., Classifier], tmp_path: Path
) -> None:
    classifier = wrap(Holder(small_classifier(seed=1).module), image_size=16)
    classifier.save(tmp_path)
    loaded = Classifier.load(tmp_path, Holder(small_classifier(seed=2).module))
    torch.testing.assert_close(outputs(loaded), outputs(classifier))


def test_a_new_head_loads_into_a_network_whose_own_is_of_another_kind(
    small_classifier: Callable[..., Classifier], tmp_path: Path
) -> None:
    def normed() -> nn.Module:
        module = small_classifier(seed=1).module
        nn.utils.parametrizations.weight_norm(module[-1])
        return module

    def without_bias() -> nn.Module:
        module = small_classifier(seed=1).module
        module[-1].bias = None
        return module

    for number, make in enumerate((normed, without_bias)):
        classifier = wrap(make(), image_size=16)
        classifier.save(tmp_path / f"{number}")
        torch.testing.assert_close(outputs(Classifier.load(tmp_path / f"{number}", make())), outputs(classifier))
        changed = classifier.with_head(torch.randn(2, 12), torch.ones(2))
        changed.save(tmp_path / f"{number}-changed")
        own = make()
        torch.testing.assert_close(
            outputs(Classifier.load(tmp_path / f"{number}-changed", own)), outputs(changed), msg=make.__name__
        )
        assert own.state_dict().keys() == make().state_dict().keys()


def test_a_folder_without_a_classifier_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nothing-here must hold Classifier\. Got no model\.json there"):
        Classifier.load(tmp_path / "nothing-here")


@pytest.mark.parametrize("change", [{"format": 0}, {"record": "Head"}, {"record": None, "format": None}])
def test_a_classifier_in_another_format_is_refused_in_one_line(
    small_classifier: Callable[..., Classifier], tmp_path: Path, change: dict[str, Any]
) -> None:
    small_classifier().save(tmp_path)
    content = json.loads((tmp_path / "model.json").read_text())
    assert (content["record"], content["format"]) == ("Classifier", 1)
    (tmp_path / "model.json").write_text(json.dumps(content | change))
    with pytest.raises(ArtifactError, match=r"must hold Classifier in format 1\. Got .* another version") as error:
        Classifier.load(tmp_path, small_classifier().module)
    assert "\n" not in str(error.value)


def test_an_interrupted_save_leaves_no_description_of_the_old_classifier(
    small_classifier: Callable[..., Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its presence means that the tensors beside it are whole and its own."""
    small_classifier().save(tmp_path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(classifier_module, "write_tensors", fail)
    with pytest.raises(OSError, match="disk full"):
        small_classifier(seed=1).save(tmp_path)
    assert not (tmp_path / "model.json").exists()


def test_images_are_normalized_by_channel() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = wrap(module, image_size=2, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    images = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    torch.testing.assert_close(classifier.normalize(images)[0, :, 0, 0], torch.tensor([1.0, 1.0, 0.0]))
