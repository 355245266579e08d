"""Features of places: what a network's layers see at each cell of a grid over the image, as principal components.

An object map is a linear function of them, so that new answers give new maps of every image without another pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slim.errors import ModelError
from slim.network.build import build
from slim.network.choices import Precision
from slim.network.classifier import Classifier
from slim.network.devices import resolve_precision
from slim.network.folding import folded
from slim.network.tracing import evaluating, find_place_layers, run_once
from slim.progress import announce

GRID = 16
"""Side of the grid."""

COMPONENTS = 40
"""Numbers per place."""

_LEAST_SIDE = 224
_SAMPLED = 64  # places per image that the components are fitted to


@dataclass(frozen=True, eq=False)
class PlaceBasis:
    """The principal components of places.

    Attributes
    ----------
    mean
        (d,) mean of the joined features.
    components
        (COMPONENTS, d) directions, each divided by the standard deviation along it; zeros where there are no more.
    """

    mean: Tensor
    components: Tensor

    @classmethod
    def fit(cls, grids: Iterable[Tensor], seed: int = 0) -> PlaceBasis:
        """The basis of some images' joined features (b, d, GRID, GRID)."""
        generator = torch.Generator().manual_seed(seed)
        rows = torch.cat([_sampled(grid.cpu(), generator) for grid in grids])
        mean = rows.mean(0)
        centred = (rows - mean).double()  # in single precision, eigh gives up on equal images
        values, vectors = (one.float() for one in torch.linalg.eigh(centred.T @ centred / len(rows)))
        components = vectors.T.flip(0)[:COMPONENTS]
        components = components * torch.where(components.sum(1) < 0, -1.0, 1.0)[:, None]  # the sign is arbitrary
        deviation = values.flip(0)[: len(components)].clamp_min(1e-12).sqrt()
        missing = rows.new_zeros(COMPONENTS - len(components), rows.shape[1])
        return cls(mean, torch.cat([components / deviation[:, None], missing]))

    def __call__(self, grid: Tensor) -> Tensor:
        """Joined features (b, d, GRID, GRID) as components (b, GRID, GRID, COMPONENTS), in standard deviations."""
        places = grid.permute(0, 2, 3, 1) - self.mean.to(grid.device)
        return places @ self.components.to(grid.device).T


def place_network(reference: Classifier, arch: str, weights: str | None) -> tuple[Classifier, int]:
    """The network that describes places, and the side of the images that it is shown.

    A pretrained network, shown images of at least 224 pixels for a finer grid if it takes them; the reference model and
    its own size where there are no weights, or where they cannot be had.
    """
    if weights is None:
        return reference, reference.image_size
    try:
        network = build(arch, reference.class_names, weights=weights).to(reference.device)
    except ModelError:
        announce(
            f"  places are described by the reference model, since the pretrained weights of {arch} are not available. "
            "For better object maps, name a file with them: --train.weights PATH"
        )
        return reference, reference.image_size
    side = max(reference.image_size, _LEAST_SIDE)
    try:
        run_once(network.module, side)
    except ModelError:
        side = network.image_size
    return network, side


class PlaceRecorder:
    """Describes places by a network. Use it as a context manager: its hooks are removed at the end of the block.

    Parameters
    ----------
    network
        Describes the places; its head does not matter.
    image_size
        Side of the images that it is shown.
    precision
        Of the forward pass.

    Examples
    --------
    >>> with PlaceRecorder(build("resnet10t", ["cat", "dog"], weights=None, image_size=64), 64) as recorder:
    ...     recorder(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape
    torch.Size([2, 896, 16, 16])
    """

    def __init__(self, network: Classifier, image_size: int, precision: Precision = "32-true") -> None:
        self.layers = find_place_layers(network.module, network.layer, image_size)
        self.network = folded(network, self.layers)
        self.image_size = image_size
        self.precision = resolve_precision(precision, network.device)
        self._outputs: dict[str, Tensor] = {}
        self._block = ExitStack()

    def __enter__(self) -> PlaceRecorder:
        self._block.enter_context(evaluating(self.network.module))
        for name in self.layers:
            hook = self.network.module.get_submodule(name).register_forward_hook(self._keep(name))
            self._block.callback(hook.remove)
        return self

    def __exit__(self, *error: object) -> None:
        self._block.close()

    def _keep(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def keep(_: nn.Module, __: object, output: Tensor) -> None:
            self._outputs[name] = output.clone()  # the next layer may overwrite it

        return keep

    def __call__(self, images: Tensor) -> Tensor:
        """(b, d, GRID, GRID) joined features of bytes (b, 3, image_size, image_size), each layer's of length 1."""
        inputs = self.network.normalize(images)
        dtype = torch.float16 if self.precision == "16-mixed" else torch.bfloat16
        with torch.no_grad(), torch.autocast(inputs.device.type, dtype=dtype, enabled=self.precision != "32-true"):
            self.network.module(inputs)
        return torch.cat([_resized(self.network.grid(self._outputs[name])) for name in self.layers], 1)


def _resized(activations: Tensor) -> Tensor:
    """A layer's features (b, d, h, w) on the grid, each place's of length 1; what is not finite becomes 0."""
    values = activations.float().nan_to_num(0.0, 0.0, 0.0)
    values = torch.nn.functional.normalize(values, dim=1)
    if values.shape[2] > GRID:
        return torch.nn.functional.adaptive_avg_pool2d(values, GRID)
    return torch.nn.functional.interpolate(values, (GRID, GRID), mode="bilinear", align_corners=False)


def _sampled(grid: Tensor, generator: torch.Generator) -> Tensor:
    """(b * _SAMPLED, d) random places."""
    rows = grid.permute(0, 2, 3, 1).reshape(-1, grid.shape[1])
    return rows[torch.randperm(len(rows), device="cpu", generator=generator)[: len(grid) * _SAMPLED]]
