"""Grad-CAM: three ways to the same maps, which of them is taken, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from pytorch_grad_cam import GradCAM as PeerGradCam
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from slim.errors import ModelError
from slim.network.build import build, wrap
from slim.network.classifier import Classifier
from slim.network.gradcam import GradCam, Method, scale

pytestmark = pytest.mark.usefixtures("small_and_quiet")
N_CLASSES = 3
SIZES = {
    "resnet10t": 96,
    "resnet18": 64,
    "vgg11": 64,
    "convnext_atto": 64,
    "vit_tiny_patch16_224": 64,
    "swin_tiny_patch4_window7_224": 112,
}
# Smaller than their names say: more weights would show nothing more.
NARROW: dict[str, dict[str, Any]] = {
    "vgg11": {"mlp_ratio": 1 / 64},
    "swin_tiny_patch4_window7_224": {
        "img_size": 112,
        "embed_dim": 24,
        "depths": (1, 1, 2, 1),
        "num_heads": (1, 1, 2, 2),
    },
}
EXACT = ["resnet10t", "resnet18", "swin_tiny_patch4_window7_224"]
COMPARED = ["resnet10t", "resnet18", "vgg11", "convnext_atto", "vit_tiny_patch16_224"]


@cache
def network(arch: str) -> Classifier:
    """A network whose weights, statistics and head are random enough for maps that are not flat."""
    names = [f"class {k}" for k in range(N_CLASSES)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        if arch in NARROW:
            module = timm.create_model(arch, num_classes=N_CLASSES, **NARROW[arch])
            classifier = wrap(module, image_size=SIZES[arch], class_names=names)
        else:
            classifier = build(arch, names, weights=None, image_size=SIZES[arch])
        randomize(classifier)
    return classifier


def randomize(classifier: Classifier) -> None:
    for child in classifier.module.modules():
        if isinstance(child, nn.BatchNorm2d):
            nn.init.normal_(child.running_mean, std=0.3)
            nn.init.uniform_(child.running_var, 0.5, 2.0)
        if isinstance(child, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(child.weight, 0.5, 1.5)
            nn.init.normal_(child.bias, std=0.3)
    nn.init.normal_(classifier.linear.weight, mean=0.3)  # with a mean of 0, half of the maps would be flat
    nn.init.normal_(classifier.linear.bias)


def noise(size: int, n: int = 16) -> Tensor:
    """Coarse noise, which reaches layers of a coarse grid."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.randint(0, 256, (n, 3, size // 8, size // 8), generator=generator)
    return coarse.repeat_interleave(8, 2).repeat_interleave(8, 3).to(torch.uint8)


def classes_of(n: int) -> Tensor:
    return (torch.arange(n) + 1) % N_CLASSES


def maps_by(classifier: Classifier, images: Tensor, classes: Tensor, method: Method = "auto") -> Tensor:
    with GradCam(classifier, method) as cam:
        return cam(images).maps(classes).detach()


def peer_maps(classifier: Classifier, images: Tensor, classes: Tensor) -> np.ndarray:
    """The maps of the package grad-cam, at the layer's own resolution."""

    def grid(tokens: Tensor) -> Tensor:
        side = int((tokens.shape[1] - 1) ** 0.5)
        return tokens[:, 1:].reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)

    layer = classifier.module.get_submodule(classifier.layer)
    tokens = (classifier.arch or "").startswith("vit")
    targets = [ClassifierOutputTarget(int(k)) for k in classes]
    inputs = classifier.normalize(images)
    with PeerGradCam(classifier.module, [layer], reshape_transform=grid if tokens else None) as peer:
        peer(inputs, targets)
        forward = peer.activations_and_grads
        raw = peer.get_cam_image(inputs, layer, targets, forward.activations[0].numpy(), forward.gradients[0].numpy())
    classifier.module.zero_grad()
    return scale_cam_image(np.maximum(raw, 0))


@pytest.mark.parametrize("arch", COMPARED)
@pytest.mark.parametrize("n", [1, 16])
def test_maps_equal_the_maps_of_the_package_grad_cam(arch: str, n: int) -> None:
    classifier, images = network(arch), noise(SIZES[arch])[:n]
    ours = maps_by(classifier, images, classes_of(n)).numpy()
    peer = peer_maps(classifier, images, classes_of(n))
    assert (ours.max((1, 2)) == 1).mean() > 0.4
    np.testing.assert_allclose(ours, peer, atol=1e-4)


@pytest.mark.parametrize("arch", EXACT)
@pytest.mark.parametrize("n", [1, 16])
def test_closed_form_equals_autograd(arch: str, n: int) -> None:
    classifier, images = network(arch), noise(SIZES[arch])[:n]
    closed = maps_by(classifier, images, classes_of(n), "closed-form")
    automatic = maps_by(classifier, images, classes_of(n), "autograd")
    assert closed.amax((1, 2)).eq(1).float().mean() > 0.4
    torch.testing.assert_close(closed, automatic, atol=1e-4, rtol=0)


@pytest.mark.parametrize("arch", SIZES)
def test_a_batch_gives_each_image_the_map_that_it_gets_alone(arch: str) -> None:
    classifier, images, classes = network(arch), noise(SIZES[arch]), classes_of(16)
    together = maps_by(classifier, images, classes)
    with GradCam(classifier) as cam:
        alone = torch.cat([cam(images[i : i + 1]).maps(classes[i : i + 1]).detach() for i in range(0, 16, 5)])
    assert together[::5].flatten(1).std(1).gt(0.01).any()
    torch.testing.assert_close(together[::5], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("arch", SIZES)
def test_closed_form_is_chosen_exactly_where_it_holds(arch: str) -> None:
    assert GradCam(network(arch)).closed_form == (arch in EXACT)


@pytest.mark.parametrize("arch", ["vgg11", "convnext_atto", "vit_tiny_patch16_224"])
def test_closed_form_is_refused_where_it_does_not_hold(arch: str) -> None:
    with pytest.raises(ModelError, match=r"global average pooling.*--method autograd"):
        GradCam(network(arch), "closed-form")


def test_closed_form_is_refused_without_a_linear_head() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ModelError, match="closed form"):
        GradCam(wrap(module, image_size=8), "closed-form")


def test_closed_form_is_not_taken_for_a_network_that_only_has_a_small_head() -> None:
    """With weights near zero, all heads agree to within any absolute tolerance."""
    classifier = build("convnext_atto", ["cat", "dog"], weights=None, image_size=64)
    with torch.no_grad():
        classifier.linear.weight *= 1e-6
        classifier.linear.bias.zero_()
    assert not GradCam(classifier).closed_form


def test_closed_form_is_not_taken_for_a_layer_before_an_in_place_relu(
    small_classifier: Callable[..., Classifier],
) -> None:
    assert GradCam(small_classifier(layer="5")).closed_form
    assert not GradCam(small_classifier(layer="4")).closed_form


def test_a_layer_that_the_next_one_overwrites_is_seen_as_it_was() -> None:
    """DenseNet of torchvision rectifies the attended features in place, outside any module."""
    module = torchvision.models.DenseNet(growth_rate=4, block_config=(1, 1), num_init_features=8, num_classes=N_CLASSES)
    classifier = wrap(module, image_size=64)
    randomize(classifier)
    with GradCam(classifier) as cam:
        forward = cam(noise(64))
    assert classifier.layer == "features"
    assert not cam.closed_form
    assert (forward.activations < 0).any()
    pooled = forward.activations.relu().mean((2, 3))
    torch.testing.assert_close(forward.features, pooled, atol=1e-5, rtol=1e-4)
    (gradient,) = torch.autograd.grad(forward.logits[:, 0].sum(), forward._leaf, retain_graph=True)
    assert (gradient[forward.activations < 0] == 0).all()


@pytest.mark.parametrize("layer", ["0.3", "0.8", "0.18"])
def test_attending_before_an_in_place_relu_equals_attending_without_in_place_work(layer: str) -> None:
    """The convolutions of torchvision's VGG, whose ReLUs all work in place."""

    def vgg(in_place: bool) -> Classifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            features = make_layers(cfgs["A"])
            module = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, N_CLASSES))
        for child in module.modules():
            if isinstance(child, nn.Conv2d):
                nn.init.kaiming_normal_(child.weight, generator=torch.Generator().manual_seed(0))
            if isinstance(child, nn.ReLU):
                child.inplace = in_place
        return wrap(module, layer=layer, image_size=64)

    images, classes = noise(64, 4), classes_of(4)
    in_place = maps_by(vgg(True), images, classes)
    assert in_place.max() == 1
    torch.testing.assert_close(in_place, maps_by(vgg(False), images, classes), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["closed-form", "autograd"])
def test_a_pass_leaves_the_module_as_it_was(method: Method, small_classifier: Callable[..., Classifier]) -> None:
    classifier = small_classifier()
    module = classifier.module.train()
    module[4].eval()
    module[0].weight.requires_grad_(False)
    module[-1].weight.grad = torch.ones_like(module[-1].weight)
    modes = [child.training for child in module.modules()]
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with GradCam(classifier, method) as cam:
        assert not any(child.training for child in cam.classifier.module.modules())
        cam(noise(16, 4)).maps(torch.zeros(4, dtype=torch.int64))
    assert [child.training for child in module.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert [p.requires_grad for p in module.parameters()] == [False] + [True] * 7
    assert [name for name, p in module.named_parameters() if p.grad is not None] == ["9.weight"]
    assert (module[-1].weight.grad == 1).all()
    assert torch.is_grad_enabled()
    assert not hooked(module)


def hooked(module: nn.Module) -> list[nn.Module]:
    return [c for c in module.modules() if c._forward_hooks or c._forward_pre_hooks or c._backward_hooks]


@pytest.mark.parametrize("method", ["closed-form", "autograd"])
def test_hooks_are_gone_and_modes_restored_after_an_exception(
    method: Method, small_classifier: Callable[..., Classifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    cam = GradCam(small_classifier(), method)
    module = cam.classifier.module.train()

    def fail(_: Tensor) -> Tensor:
        raise MemoryError("full")

    monkeypatch.setattr(module[-1], "forward", fail)
    with pytest.raises(MemoryError, match="full"), cam:
        cam(noise(16, 2))
    assert not hooked(module)
    assert all(child.training for child in module.modules())
    assert torch.is_grad_enabled()


def test_gradients_do_not_reach_the_backbone() -> None:
    classifier = network("vit_tiny_patch16_224")
    with GradCam(classifier) as cam:
        forward = cam(noise(64, 2))
        forward.maps(classes_of(2))
    assert forward._leaf is not None
    assert forward._leaf.is_leaf
    assert all(parameter.grad is None for parameter in classifier.module.parameters())


def test_maps_follow_a_change_of_the_head(small_classifier: Callable[..., Classifier]) -> None:
    """A class's map is that of its own logit: swapping two rows of the head swaps the maps."""
    classifier = small_classifier(3)
    linear = classifier.linear
    swapped = classifier.with_head(linear.weight[[1, 0, 2]], linear.bias[[1, 0, 2]])
    images = noise(16, 4)
    first, second = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    assert not torch.equal(maps_by(classifier, images, first), maps_by(classifier, images, second))
    torch.testing.assert_close(maps_by(classifier, images, first), maps_by(swapped, images, second))


def test_features_are_the_input_of_the_head(small_classifier: Callable[..., Classifier]) -> None:
    classifier = small_classifier(3)
    for method in ("closed-form", "autograd"):
        with GradCam(classifier, method) as cam:
            forward = cam(noise(16, 4))
        torch.testing.assert_close(classifier.linear(forward.features), forward.logits)


@pytest.mark.parametrize("method", ["closed-form", "autograd"])
def test_a_head_that_is_run_again_gives_what_its_own_pass_gives(
    method: Method, small_classifier: Callable[..., Classifier]
) -> None:
    classifier, images, classes = small_classifier(3), noise(16, 4), classes_of(4)
    other = classifier.with_head(small_classifier(3, seed=1).linear.weight, torch.tensor([3.0, 0.0, -3.0]))
    with GradCam(classifier, method) as cam, GradCam(other, method) as second:
        first, own = cam(images), second(images)
        again = second.again(images, first)
        assert (again.activations is first.activations) == (method == "closed-form")
        torch.testing.assert_close(again.logits, own.logits)
        torch.testing.assert_close(again.maps(classes), own.maps(classes))
        assert not torch.allclose(own.logits, first.logits)


def test_a_network_without_a_linear_head_has_no_features() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with GradCam(wrap(module, image_size=8)) as cam:
        assert cam(noise(8, 4)).features.shape == (4, 0)


@pytest.mark.parametrize("method", ["closed-form", "autograd"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_map_of_an_image_that_is_not_finite_is_zero_and_others_are_unaffected(
    value: float, method: Method, small_classifier: Callable[..., Classifier]
) -> None:
    classifier = small_classifier()
    clean = maps_by(classifier, noise(16, 3), torch.tensor([0, 1, 0]), method)
    cam = GradCam(classifier, method)

    def spoil(_: nn.Module, __: object, output: Tensor) -> Tensor:
        spoiled = output.clone()
        spoiled[1, 0, 0, 0] = value
        return spoiled

    cam.classifier.module[5].register_forward_hook(spoil)
    with cam:
        forward = cam(noise(16, 3))
        maps = forward.maps(torch.tensor([0, 1, 0])).detach()
    assert forward.finite.tolist() == [True, False, True]
    assert (maps[1] == 0).all()
    torch.testing.assert_close(maps[[0, 2]], clean[[0, 2]])
    assert clean[1].max() == 1


def rectangular(stride: tuple[int, int], flipped: bool = False) -> Classifier:
    """A network whose attended grid is not square: 4 x 8 or 8 x 4 on images of 8 x 8."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        conv = nn.Conv2d(3, 6, 3, stride=stride, padding=1)
        module = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, N_CLASSES))
    if flipped:
        conv.weight.data = conv.weight.data.mT.clone()
    return wrap(module, layer="1", image_size=8)


def fine_noise() -> Tensor:
    return torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(4)).to(torch.uint8)


@pytest.mark.parametrize("method", ["closed-form", "autograd"])
def test_maps_of_a_grid_that_is_not_square_are_the_weighted_sum_of_its_channels(method: Method) -> None:
    classifier, images, classes = rectangular((2, 1)), fine_noise(), classes_of(4)
    assert GradCam(classifier).closed_form
    with GradCam(classifier, method) as cam:
        forward = cam(images)
    assert forward.activations.shape == (4, 6, 4, 8)
    weights = forward.channel_weights(classes)
    torch.testing.assert_close(weights, classifier.linear.weight[classes] / 32)
    raw = (weights[:, :, None, None] * forward.activations).sum(1).relu()
    maps = forward.maps(classes).detach()
    assert maps.shape == (4, 4, 8)
    torch.testing.assert_close(maps, scale(raw.detach()))
    assert maps.amax((1, 2)).eq(1).any()


@pytest.mark.parametrize("method", ["closed-form", "autograd"])
def test_transposed_images_give_transposed_maps(method: Method) -> None:
    images, classes = fine_noise(), classes_of(4)
    upright = maps_by(rectangular((2, 1)), images, classes, method)
    flipped = maps_by(rectangular((1, 2), flipped=True), images.mT, classes, method)
    assert flipped.shape == (4, 8, 4)
    assert not torch.allclose(upright.flatten(1), flipped.flatten(1))
    torch.testing.assert_close(flipped, upright.mT)


def test_one_value_that_is_not_finite_anywhere_in_a_grid_that_is_not_square_is_noticed() -> None:
    with GradCam(rectangular((2, 1))) as cam:
        forward = cam(torch.zeros(3, 3, 8, 8, dtype=torch.uint8))
    forward.activations[1, 0, 3, 7] = float("nan")
    assert forward.finite.tolist() == [True, False, True]
