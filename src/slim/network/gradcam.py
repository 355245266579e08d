"""Batched Grad-CAM: in closed form if the head allows it, else by autograd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from slim.errors import ModelError
from slim.network.choices import Method, Precision
from slim.network.classifier import Classifier
from slim.network.devices import resolve_precision
from slim.network.folding import folded
from slim.network.tracing import evaluating


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """The forward pass of one batch, from which attention maps are computed.

    Attributes
    ----------
    logits
        (b, n_classes).
    activations
        (b, d, h, w), of the attended layer.
    finer
        (b, e, h', w'), activations of the classifier's finer layer.
    features
        (b, p), penultimate features.
    """

    logits: Tensor
    activations: Tensor
    finer: Tensor
    features: Tensor
    _cam: GradCam
    _leaf: Tensor | None

    @property
    def finite(self) -> Tensor:
        """(b,) whether the activations and logits of an image are finite; if not, its map is zero."""
        return self.activations.isfinite().all((1, 2, 3)) & self.logits.isfinite().all(1)

    def channel_weights(self, classes: Tensor) -> Tensor:
        """Grad-CAM's alpha (b, d), for one class per image: the mean over positions of d logit / d activations."""
        if self._leaf is None:
            area = self.activations.shape[2] * self.activations.shape[3]
            return self._cam.classifier.linear.weight.detach().float()[classes] / area
        # Each logit depends only on its own image, so the gradient of the sum holds the gradients of all images.
        with torch.enable_grad():
            total = self.logits.gather(1, classes[:, None]).sum()
        if not total.requires_grad:
            raise ModelError(
                "The logits must depend on the attended layer by operations that PyTorch can differentiate. "
                f"Got logits without a gradient at {self._cam.classifier.layer}. "
                "Leave out detach() and no_grad() in the network, or name another layer (--layer)."
            )
        (gradient,) = torch.autograd.grad(total, self._leaf, retain_graph=True, materialize_grads=True)
        return self._cam.classifier.grid(gradient).float().mean((2, 3))

    def maps(self, classes: Tensor) -> Tensor:
        """Attention maps (b, h, w) in [0, 1], for one class per image."""
        weighted = torch.einsum("bd,bdhw->bhw", self.channel_weights(classes), self.activations)
        return scale(torch.where(self.finite[:, None, None], weighted.relu(), 0.0))


class GradCam:
    """Grad-CAM of a classifier. Use it as a context manager: its hooks are removed at the end of the block.

    Parameters
    ----------
    classifier
        Its module keeps its mode, gradients and parameters.
    method
        "closed-form" takes the weights of the linear head as the channel weights, which equals "autograd" if the head
        is global average pooling and one linear layer; "auto" tests that.
    precision
        Of the forward pass.

    Raises
    ------
    ModelError
        The network is on the meta device; or `method` is "closed-form", and the head is not global average pooling and
        one linear layer.

    References
    ----------
    R. R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization",
    ICCV 2017.

    Examples
    --------
    >>> from slim.network.build import build
    >>> model = build("resnet10t", ["cat", "dog"], weights=None, image_size=64)
    >>> with GradCam(model) as cam:
    ...     forward = cam(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    >>> forward.maps(torch.tensor([0])).shape
    torch.Size([1, 2, 2])
    """

    def __init__(self, classifier: Classifier, method: Method = "auto", precision: Precision = "32-true") -> None:
        if classifier.device.type == "meta":
            raise ModelError("The network must hold numbers. Got one on the meta device. Load its weights first.")
        self.classifier = folded(classifier, (classifier.layer, classifier.finer))
        self.precision = resolve_precision(precision, classifier.device)
        exact = classifier.head is not None and _averages_then_linear(classifier)
        if method == "closed-form" and not exact:
            raise ModelError(
                "For the closed form, the attended layer must be followed by global average pooling and one linear "
                f"layer. Got another head after {classifier.layer}. Use --method autograd."
            )
        self.closed_form = exact and method != "autograd"

    def __enter__(self) -> GradCam:
        self._mode = evaluating(self.classifier.module)
        self._mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)

    def __call__(self, images: Tensor) -> ForwardPass:
        """Run a batch of bytes (b, 3, size, size) through the network."""
        inputs = self.classifier.normalize(images)
        device = inputs.device.type
        dtype = torch.float16 if self.precision == "16-mixed" else torch.bfloat16
        # No inference mode: its tensors could not take part in autograd behind the attended layer.
        with (
            torch.no_grad(),
            torch.autocast(device, dtype=dtype, enabled=self.precision != "32-true"),
            _recording(self.classifier, differentiate=not self.closed_form) as record,
        ):
            logits = self.classifier.module(inputs)
        features = record.get("features", logits.new_zeros(len(logits), 0)).detach().float()
        return ForwardPass(
            logits=self._head(features) if self.closed_form else logits,
            activations=self.classifier.grid(record["activations"].detach()).float(),
            finer=self.classifier.grid(record["finer"]).float(),
            features=features,
            _cam=self,
            _leaf=None if self.closed_form else record["activations"],
        )

    def again(self, images: Tensor, other: ForwardPass) -> ForwardPass:
        """The forward pass of a classifier that differs from another one only in its linear head.

        In closed form only the head is run again.

        Parameters
        ----------
        images
            As for a call.
        other
            The forward pass of the other classifier on the same images.
        """
        if not (self.closed_form and other._leaf is None):
            return self(images)
        return replace(other, logits=self._head(other.features), _cam=self)

    def _head(self, features: Tensor) -> Tensor:
        """Logits of penultimate features, in float32 whatever the precision, so that equal heads give equal ones."""
        linear = self.classifier.linear
        with torch.no_grad():
            return torch.nn.functional.linear(features, linear.weight.float(), linear.bias)


@contextmanager
def _recording(classifier: Classifier, differentiate: bool) -> Iterator[dict[str, Tensor]]:
    """Record the output of the attended and the finer layer and the input of the head; gradients start at the first."""
    record: dict[str, Tensor] = {}

    def attended(_: nn.Module, __: object, output: Tensor) -> Tensor | None:
        if not differentiate:
            record["activations"] = output.clone()  # the next layer may overwrite it
            return None
        # Gradients start here and so never reach the backbone. The copy protects the leaf from in-place layers.
        torch.set_grad_enabled(True)
        record["activations"] = output.detach().requires_grad_()
        return record["activations"].clone()

    def finer(_: nn.Module, __: object, output: Tensor) -> None:
        record["finer"] = output.detach().clone()

    def penultimate(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        record["features"] = inputs[0]

    finer_layer = classifier.module.get_submodule(classifier.finer)
    handles = [finer_layer.register_forward_hook(finer)]  # first, since it may be the attended layer itself
    handles.append(classifier.module.get_submodule(classifier.layer).register_forward_hook(attended))
    if classifier.head is not None:
        handles.append(classifier.linear.register_forward_pre_hook(penultimate))
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def _averages_then_linear(classifier: Classifier) -> bool:
    """Whether the input of the linear head is the attended layer's mean over positions, measured on a random image."""
    size = classifier.image_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, device="cpu", generator=generator)
    with (
        evaluating(classifier.module),
        torch.no_grad(),  # within, since leaving the caller's inference mode switches gradients on
        _recording(classifier, differentiate=False) as record,
    ):
        classifier.module(classifier.normalize(images))
        pooled, features = classifier.grid(record["activations"]).mean((2, 3)), record["features"]
    # The input of the head is compared, not its output: the small weights of a new head would hide any difference.
    if pooled.shape != features.shape:
        return False
    return bool(((pooled - features).abs() <= 1e-4 * features.abs().max()).all())


def scale(maps: Tensor) -> Tensor:
    """Min-max scale each map (b, h, w) to [0, 1]; a map that is constant or not finite becomes all zeros.

    Examples
    --------
    >>> scale(torch.tensor([[[1.0, 3.0]], [[2.0, 2.0]], [[float("nan"), 1.0]]])).tolist()
    [[[0.0, 1.0]], [[0.0, 0.0]], [[0.0, 0.0]]]
    """
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    width = high - low
    # Differences within the rounding of the values do not count.
    usable = width.isfinite() & (width > 1e-6 * high.abs())
    return torch.where(usable, (maps - low) / torch.where(usable, width, 1.0), 0.0)


def upsample(maps: Tensor, size: int) -> Tensor:
    """Interpolate maps (b, h, w) bilinearly to (b, size, size), and scale them again so that the peak is 1.

    Examples
    --------
    >>> upsample(torch.tensor([[[0.0, 1.0]]]), 4)[0, 0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    larger = torch.nn.functional.interpolate(maps[:, None], (size, size), mode="bilinear", align_corners=False)
    return scale(larger[:, 0])


def pool(maps: Tensor, activations: Tensor, pooling: Literal["mean", "sum"]) -> tuple[Tensor, Tensor]:
    """Core and environment features: activations pooled under the map, and under its complement.

    Parameters
    ----------
    maps
        (b, h, w) in [0, 1].
    activations
        (b, d, h, w).
    pooling
        "sum" over positions, or "mean" weighted by the map; a map of zeros gives zeros.

    Returns
    -------
    tuple of Tensor
        Core and environment, each (b, d).

    Examples
    --------
    >>> core, environment = pool(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[[5.0, 7.0]]]]), "sum")
    >>> core.item(), environment.item()
    (5.0, 7.0)
    """

    def pooled(weights: Tensor) -> Tensor:
        total = torch.einsum("bhw,bdhw->bd", weights, activations)
        if pooling == "sum":
            return total
        mass = weights.sum((1, 2))[:, None]
        return torch.where(mass > 0, total / mass.clamp_min(torch.finfo(total.dtype).tiny), 0.0)

    return pooled(maps), pooled(1 - maps)
