"""Building, restoring and wrapping networks: what SLIM recognises in them, and what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from skimage import data
from tests.network.conftest import NAMES, outputs
from torch import nn

from slim.errors import ModelError, SlimWarning
from slim.network.architectures import packaged_weights
from slim.network.build import build, restore, wrap
from slim.network.checkpoints import read_state_dict
from slim.network.classifier import Classifier
from slim.network.sharing import independent_copy
from slim.network.tracing import evaluating

pytestmark = pytest.mark.usefixtures("small_and_quiet")

LAST_NORM = "encoder.layers.encoder_layer_11.ln_1"


@pytest.mark.parametrize(
    ("arch", "size", "layer", "finer", "head"),
    [
        ("resnet10t", 64, "layer4", "layer3", "fc"),
        ("vit_tiny_patch16_224", 32, "blocks.11.norm1", "blocks.11.norm1", "head"),
        ("swin_tiny_patch4_window7_224", 56, "norm", "layers.2", "head.fc"),
        ("convnext_atto", 64, "stages", "stages.2", "head.fc"),
        ("tf_efficientnet_lite0", 64, "bn2", "blocks.4", "classifier"),
    ],
)
def test_the_layers_and_the_head_of_timm_networks_are_found(
    arch: str, size: int, layer: str, finer: str, head: str
) -> None:
    classifier = build(arch, NAMES, weights=None, image_size=size)
    assert (classifier.layer, classifier.finer, classifier.head) == (layer, finer, head)
    assert outputs(classifier).shape == (2, 2)


@pytest.mark.parametrize(
    ("make", "layer", "finer", "head"),
    [
        (torchvision.models.resnet18, "layer4", "layer3", "fc"),
        (torchvision.models.vit_b_16, LAST_NORM, LAST_NORM, "heads.head"),
        (torchvision.models.swin_t, "permute", "features.5", "head"),
        (torchvision.models.vgg11, "features", "features.19", "classifier.6"),
        (torchvision.models.densenet121, "features", "features.denseblock3", "classifier"),
        (torchvision.models.convnext_tiny, "features", "features.5", "classifier.2"),
    ],
)
def test_the_layers_and_the_head_of_torchvision_networks_are_found(
    make: Callable[[], nn.Module], layer: str, finer: str, head: str
) -> None:
    with torch.device("meta"):  # shapes are enough, and cost no memory
        classifier = wrap(make())
    recognised = classifier.layer, classifier.finer, classifier.head, classifier.n_classes
    assert recognised == (layer, finer, head, 1000)


def test_wrapping_a_plain_sequential_finds_what_slim_needs() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).append(nn.Linear(4, 3))
    classifier = wrap(module, image_size=12, class_names=["a", "b", "c"])
    assert (classifier.layer, classifier.head, classifier.class_names) == ("1", "6", ("a", "b", "c"))
    assert classifier.module is module
    assert all(child.training for child in module.modules())
    assert not any(child._forward_hooks for child in module.modules())


def test_a_network_that_does_not_end_in_a_linear_layer_has_no_head() -> None:
    classifier = wrap(nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), image_size=8)
    assert classifier.head is None
    with pytest.raises(ModelError, match="--mode full"):
        _ = classifier.linear
    with pytest.raises(ModelError, match="--mode full"):
        classifier.with_head(torch.zeros(2, 2), torch.zeros(2))


def test_an_unknown_architecture_is_refused_with_close_names() -> None:
    with pytest.raises(ModelError, match=r"Got 'resnet10_t'"):
        build("resnet10_t", NAMES)
    with pytest.raises(ModelError, match=r"Close ones: .*resnet50"):
        build("resnet50_nope", NAMES)
    with pytest.raises(ModelError, match=r"timm\.list_models"):
        build("qqq", NAMES)


def test_a_wrong_number_of_classes_is_refused(small_classifier: Callable[..., Classifier]) -> None:
    module = small_classifier(2).module
    with pytest.raises(ModelError, match=r"Got 2 outputs for 3 classes \(a, b, c\)"):
        wrap(module, image_size=16, class_names=["a", "b", "c"])


def test_an_unknown_layer_is_refused_with_known_ones(small_classifier: Callable[..., Classifier]) -> None:
    with pytest.raises(ModelError, match=r"Got 'layer9'\. Its last: .*5, 6"):
        wrap(small_classifier().module, image_size=16, layer="layer9")


def test_a_wrong_image_size_is_refused_and_leaves_no_hooks() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    assert wrap(module, image_size=8).n_classes == 2
    with pytest.raises(ModelError, match=r"must take images of 16 x 16\..*--image-size"):
        wrap(module, image_size=16)
    with pytest.raises(ModelError, match="must take images of 2 x 2"):
        wrap(module, image_size=2)
    assert module.training
    assert not any(child._forward_hooks for child in module.modules())


@pytest.mark.parametrize("module", [nn.Conv2d(3, 2, 3), nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(0))])
def test_a_network_that_does_not_give_logits_is_refused(module: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"must return logits \(images, classes\)"):
        wrap(module, image_size=8)


def test_a_network_without_a_spatial_layer_is_refused() -> None:
    with pytest.raises(ModelError, match="spatial grid"):
        wrap(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), image_size=4)


def test_weights_that_cannot_be_fetched_give_one_line_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, pretrained: bool = False, **__: Any) -> nn.Module:
        assert pretrained
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ModelError, match=r"weights of resnet10t .*Got: no route to host\. .*--weights PATH") as error:
        build("resnet10t", NAMES)
    assert "\n" not in str(error.value)


def test_fetched_weights_are_taken_with_a_zero_head(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = timm.create_model("resnet10t", num_classes=2)

    def fetch(*_: Any, pretrained: bool = False, **__: Any) -> nn.Module:
        assert pretrained
        return fetched

    monkeypatch.setattr(timm, "create_model", fetch)
    classifier = build("resnet10t", NAMES, image_size=32)
    assert classifier.module is fetched
    assert (classifier.linear.weight == 0).all()
    assert (fetched.conv1[0].weight != 0).any()


def test_the_seed_decides_the_weights_and_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (build("resnet10t", NAMES, weights=None, image_size=32, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.linear.weight, again.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(scope="module")
def resnet() -> Classifier:
    """Of five classes, with a head that is not small."""
    classifier = build("resnet10t", ["a", "b", "c", "d", "e"], weights=None, image_size=32, seed=3)
    nn.init.normal_(classifier.linear.weight, generator=torch.Generator().manual_seed(0))
    return classifier


def test_a_checkpoint_of_another_number_of_classes_gives_all_but_a_zero_head(
    resnet: Classifier, tmp_path: Path
) -> None:
    torch.save(resnet.module.state_dict(), tmp_path / "file.pt")
    classifier = build("resnet10t", NAMES, weights=str(tmp_path / "file.pt"), image_size=32)
    assert (classifier.linear.weight == 0).all()
    assert (classifier.linear.bias == 0).all()
    loaded, saved = classifier.module.state_dict(), resnet.module.state_dict()
    assert all(torch.equal(loaded[name], saved[name]) for name in saved if not name.startswith("fc."))
    assert (outputs(classifier) == 0).all()


def test_restoring_takes_the_head_too_and_refuses_another_number_of_classes(resnet: Classifier, tmp_path: Path) -> None:
    torch.save({"algorithm": {f"model.{k}": v for k, v in resnet.module.state_dict().items()}}, tmp_path / "erm.pt")
    restored = restore(tmp_path / "erm.pt", "resnet10t", resnet.class_names, image_size=32)
    torch.testing.assert_close(outputs(restored), outputs(resnet))
    with pytest.raises(ModelError, match=r"checkpoint .*erm\.pt must fit .*fc\.weight \(5x512 for 2x512\)"):
        restore(tmp_path / "erm.pt", "resnet10t", NAMES, image_size=32)


def test_a_network_keeps_the_normalisation_that_it_was_pretrained_with() -> None:
    assert build("vit_tiny_patch16_224", NAMES, weights=None, image_size=32).mean == (0.5, 0.5, 0.5)
    assert build("resnet10t", NAMES, weights=None, image_size=32).mean == (0.485, 0.456, 0.406)


def test_every_packaged_weight_is_taken() -> None:
    file = packaged_weights("tf_efficientnet_lite0")
    assert file is not None
    classifier = build("tf_efficientnet_lite0", NAMES, image_size=64)
    loaded = [tensor for name, tensor in classifier.module.state_dict().items() if "num_batches" not in name]
    saved = [tensor for name, tensor in read_state_dict(file).items() if "num_batches" not in name]
    assert len(loaded) == len(saved)
    assert all(torch.equal(one, other) for one, other in zip(loaded[:-2], saved[:-2], strict=True))
    assert (classifier.linear.weight == 0).all()


@pytest.mark.parametrize(("photo", "class_index"), [(data.chelsea, 285), (data.coffee, 967)])
def test_packaged_weights_recognise_photographs(photo: Callable[[], np.ndarray], class_index: int) -> None:
    """An Egyptian cat, and an espresso: ImageNet's numbers for what scikit-image's photographs show."""
    classifier = build("tf_efficientnet_lite0", [str(k) for k in range(1000)], image_size=224)
    resized = Image.fromarray(photo()).resize((224, 224), Image.Resampling.BILINEAR)
    images = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None]
    with torch.no_grad(), evaluating(classifier.module):
        probabilities = classifier.module(classifier.normalize(images)).softmax(1)[0]
    assert probabilities.argmax() == class_index
    assert probabilities.max() > 0.6


@pytest.mark.parametrize("names", [["b", "a"], ["a", "b", "c"]])
def test_restoring_refuses_classes_that_the_checkpoint_calls_otherwise(names: list[str], tmp_path: Path) -> None:
    module = timm.create_model("resnet10t", num_classes=2)
    torch.save({"state_dict": module.state_dict(), "class_names": ["a", "b"]}, tmp_path / "file.pt")
    assert restore(tmp_path / "file.pt", "resnet10t", ["a", "b"], image_size=32).class_names == ("a", "b")
    with pytest.raises(ModelError):
        restore(tmp_path / "file.pt", "resnet10t", names, image_size=32)


class Changed(nn.Module):
    """A small network whose outputs are changed."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor], n_classes: int = 2) -> None:
        super().__init__()
        self.change = change
        layers = (nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n_classes))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.change(self.layers(images))


def test_outputs_between_0_and_1_are_told() -> None:
    with pytest.warns(SlimWarning, match="lie between 0 and 1, even on noise"):
        wrap(Changed(lambda y: y.sigmoid().clamp(0.1, 0.9), 3), image_size=16)


@pytest.mark.parametrize(
    "change",
    [lambda y: y, lambda y: y.log_softmax(1), lambda y: y * 0, lambda y: -y.sigmoid(), lambda y: 0.4 + 0.01 * y.tanh()],
)
def test_other_outputs_are_taken_for_logits(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert wrap(Changed(change), image_size=16).n_classes == 2


@pytest.mark.parametrize(
    "change", [lambda y: y.squeeze(), lambda y: y[:1].expand(2, 2), lambda y: y.mean(0).expand(2, 2)]
)
def test_other_shapes_of_a_single_image_are_refused(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(ModelError, match=r"must return logits \(1, 2\) for a single image. Got \(2"):
        wrap(Changed(change), image_size=16)


@pytest.mark.parametrize("names", [("a", "a"), (1, 1), ("x", "y", "x")])
def test_two_outputs_of_one_name_are_refused(names: tuple[Any, ...]) -> None:
    last = len(names) - 1
    with pytest.raises(ModelError, match=f"a unique name. Got '{names[0]}' for outputs 0 and {last}"):
        wrap(Changed(lambda y: y, len(names)), image_size=16, class_names=names)


def test_names_of_outputs_may_be_numbers() -> None:
    model = wrap(Changed(lambda y: y), image_size=np.int64(16), class_names=[1, 0])  # type: ignore[arg-type,list-item]
    assert (model.class_names, model.image_size) == (("1", "0"), 16)
    with pytest.raises(ModelError, match="same order"):
        model.for_classes(("0", "1"))


def test_images_that_would_be_normalised_twice_are_told() -> None:
    net = nn.Sequential(torchvision.transforms.Normalize((0.5,) * 3, (0.2,) * 3), Changed(lambda y: y))
    with pytest.warns(SlimWarning, match=r"seems to normalise images itself, in '0'.*std=\(1, 1, 1\)"):
        wrap(net, image_size=16)
    wrap(net, image_size=16, mean=(0, 0, 0), std=(1, 1, 1))


def test_weights_that_are_nan_are_refused() -> None:
    net = Changed(lambda y: y)
    net.layers[4].weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"must hold numbers. Got NaN in layers\.4\.weight"):
        wrap(net, image_size=16)


@pytest.mark.parametrize("value", [lambda x: x, nn.Identity, "resnet18", {"fc.weight": 1}, None])
def test_what_is_no_module_is_refused(value: Any) -> None:
    with pytest.raises(ModelError, match=r"must be a PyTorch module"):
        wrap(value, image_size=16)


@pytest.mark.parametrize("mean", [0.5, "abc", [None] * 3, [[0.5] * 3], [0.5] * 4])
def test_a_mean_that_is_not_three_numbers_is_refused(mean: Any) -> None:
    with pytest.raises(ModelError, match="mean must be three numbers"):
        wrap(Changed(lambda y: y), image_size=16, mean=mean)


@pytest.mark.parametrize("size", [True, 16.0, "16", (16, 16), -1])
def test_a_size_that_is_not_one_whole_number_is_refused(size: Any) -> None:
    with pytest.raises(ModelError, match="image_size must be one whole number"):
        wrap(Changed(lambda y: y), image_size=size)


def test_a_network_that_cannot_be_copied_is_refused_by_name_of_what_it_holds() -> None:
    net = Changed(lambda y: y)
    net.lock = threading.Lock()
    with pytest.raises(ModelError, match=r"can be copied .* Got: cannot pickle '_thread.lock' object"):
        independent_copy(net)


def test_a_network_with_one_layer_under_two_names_has_a_digest() -> None:
    net = Changed(lambda y: y)
    net.again = net.layers
    assert wrap(net, image_size=16).digest() == wrap(net, image_size=16).digest()
