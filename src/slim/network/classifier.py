"""The record of a classifier: a network with its attended layer and linear head."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import isqrt
from pathlib import Path
from typing import cast

import safetensors.torch
import torch
from torch import Tensor, nn

from slim.arrays import Floats
from slim.errors import ModelError
from slim.files import write_json
from slim.network.architectures import create
from slim.network.checkpoints import load_tensors, read_tensors, write_tensors
from slim.network.devices import device_of
from slim.network.requirements import check_input
from slim.network.sharing import shared_copy
from slim.record import Record, as_written

_TENSORS, _DESCRIPTION = "model.safetensors", "model.json"


@dataclass(frozen=True, eq=False)
class Classifier(Record):
    """A network and what SLIM needs to know about it.

    Attributes
    ----------
    module
        The network: float images (b, 3, image_size, image_size) in, logits (b, n_classes) out.
    arch
        Its timm name, or None for a module that SLIM cannot build by name.
    layer
        Name of the attended layer: the submodule whose output the attention maps are computed on.
    finer
        Name of the last submodule before `layer` with a finer grid, which separates what lies under the attention
        better; `layer` itself if there is none, as in a transformer.
    head
        Name of the linear layer whose output is the logits, or None if the network does not end in one. Its input
        is the image's penultimate features.
    image_size
        Side of the square input, in pixels.
    mean, std
        Per channel, of images in [0, 1].
    class_names
        One per logit.

    Notes
    -----
    Saved as ``model.safetensors`` and ``model.json``.
    """

    module: nn.Module
    arch: str | None
    layer: str
    finer: str
    head: str | None
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        size = f"{self.image_size} x {self.image_size} pixels"
        return f"Classifier({self.arch or type(self.module).__name__}, {self.n_classes} classes, {size}, {self.layer})"

    @property
    def n_classes(self) -> int:
        """Number of logits."""
        return len(self.class_names)

    @property
    def device(self) -> torch.device:
        """Where the parameters are; the CPU where there are none."""
        return device_of(self.module)

    @property
    def linear(self) -> nn.Linear:
        """The linear head.

        Raises
        ------
        ModelError
            The network does not end in one.
        """
        if self.head is None:
            raise ModelError(
                "To retrain only the head, the network must end in one linear layer. Got a network that does not. "
                "Retrain the whole network: --mode full."
            )
        return cast(nn.Linear, self.module.get_submodule(self.head))

    @property
    def head_weight(self) -> Floats | None:
        """(n_classes, n_features) weights of the linear head; None if the network does not end in one."""
        return None if self.head is None else self.linear.weight.detach().cpu().double().numpy()

    def for_classes(self, names: Sequence[str]) -> Classifier:
        """The classifier for images of these classes, with its outputs named after them.

        Classes that were never named are called by their numbers; they match any names.

        Parameters
        ----------
        names
            The classes of the images, in the order of their labels.

        Raises
        ------
        ModelError
            The outputs differ from the classes in number, names or order.

        Examples
        --------
        >>> from slim.network.build import build
        >>> model = build("resnet10t", ["cat", "dog"], weights=None, image_size=32)
        >>> model.for_classes(["dog", "cat"])
        Traceback (most recent call last):
        ...
        slim.errors.ModelError: The outputs of the model must be the classes of the images, in the same order. ...
        """
        names, own = tuple(names), self.class_names
        if own == names:
            return self
        reordered = sorted(own) == sorted(names)
        if reordered or len(own) != len(names) or default_names(len(own)) not in (own, names):
            hint = f"Pass a model with one output for each of the {len(names)} classes, named as they are."
            if reordered:
                hint = "Reorder its last layer, or name its outputs in the order that they have (class_names=)."
            raise ModelError(
                "The outputs of the model must be the classes of the images, in the same order. "
                f"Got {len(own)} outputs ({_listed(own)}) for {len(names)} classes ({_listed(names)}). {hint}"
            )
        return replace(self, class_names=names)

    def normalize(self, images: Tensor) -> Tensor:
        """Turn bytes (b, 3, size, size) into the network's input, on its device, in channels-last order.

        Examples
        --------
        >>> from slim.network.build import wrap
        >>> model = wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
        ...              image_size=8)
        >>> model.normalize(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)).shape
        torch.Size([1, 3, 8, 8])
        """
        images = images.to(self.device, non_blocking=True).to(memory_format=torch.channels_last)
        mean = torch.tensor(self.mean, dtype=torch.float32, device=self.device).view(1, 3, 1, 1) * 255
        std = torch.tensor(self.std, dtype=torch.float32, device=self.device).view(1, 3, 1, 1) * 255
        return (images.float() - mean) / std

    def grid(self, activations: Tensor) -> Tensor:
        """Rearrange a layer's output to (b, d, h, w), whether the network keeps channels first, last, or tokens.

        Class and register tokens are dropped; the patch tokens become a grid.

        Raises
        ------
        ModelError
            The output is neither a grid nor tokens.
        """
        if activations.ndim == 4:
            _, first, second, last = activations.shape
            width = self.linear.in_features if self.head else None
            channels_last = (first == second != last) or (last == width != first and second != last)
            return activations.permute(0, 3, 1, 2) if channels_last else activations
        if activations.ndim == 3:
            height, width = self._token_grid(activations.shape[1])
            tokens = activations[:, activations.shape[1] - height * width :]
            return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)
        raise ModelError(
            f"The attended layer must give (images, channels, height, width) or (images, tokens, channels). "
            f"Got {activations.ndim} dimensions from {self.layer}. Name another one (--layer)."
        )

    def _token_grid(self, n_tokens: int) -> tuple[int, int]:
        """Height and width of the grid of a transformer's patch tokens."""
        patches = getattr(self.module, "patch_embed", None)
        size = getattr(patches, "grid_size", None)
        if size is not None and size[0] * size[1] <= n_tokens:
            return int(size[0]), int(size[1])
        return isqrt(n_tokens), isqrt(n_tokens)

    def to(self, device: torch.device) -> Classifier:
        """The classifier with its parameters on a device; they are moved, not copied.

        Examples
        --------
        >>> from slim.network.build import build
        >>> build("resnet10t", ["cat", "dog"], weights=None, image_size=32).to(torch.device("cpu")).device.type
        'cpu'
        """
        self.module.to(device)
        return self

    def with_head(self, weight: Tensor, bias: Tensor) -> Classifier:
        """A copy of the classifier that shares everything but the linear head, which gets these values.

        Parameters
        ----------
        weight
            (n_classes, n_features).
        bias
            (n_classes,).

        Raises
        ------
        ModelError
            The network does not end in a linear layer.
        """
        head = nn.Linear(weight.shape[1], weight.shape[0]).to(self.device)
        head.load_state_dict({"weight": weight, "bias": bias})
        self.linear.out_features  # noqa: B018 (a network without a linear head is refused)
        return replace(self, module=shared_copy(self.module, str(self.head), head))

    def digest(self) -> str:
        """What identifies the network's tensors and what SLIM knows about it: 16 hexadecimal digits."""
        known = {name: value for name, value in vars(self).items() if name not in ("module", "class_names")}
        state = self.module.state_dict()
        # Copies, since tensors that share memory are refused.
        tensors = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
        }
        return hashlib.sha256(repr(known).encode() + safetensors.torch.save(tensors)).hexdigest()[:16]

    def save(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` and then ``model.json`` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _DESCRIPTION).unlink(missing_ok=True)
        write_tensors(folder / _TENSORS, self.module.state_dict())
        values = {name: value for name, value in vars(self).items() if name != "module"}
        write_json(folder / _DESCRIPTION, {"record": type(self).__name__, "format": self.format, **values})

    @classmethod
    def load(cls, folder: str | Path, module: nn.Module | None = None) -> Classifier:
        """Read what `save` wrote; a network that SLIM builds is in evaluation mode.

        Parameters
        ----------
        folder
            Holds ``model.safetensors`` and ``model.json``.
        module
            The network, if it was not built from a timm name; the saved tensors are copied into it.

        Raises
        ------
        ArtifactError
            The folder holds no classifier, or one that another version of SLIM wrote.
        ModelError
            The folder was written from a module of your own and `module` is None, or the tensors do not fit.
        """
        folder = Path(folder)
        with as_written(folder):
            content = cls._content(folder, _DESCRIPTION)
            values = {field.name: content[field.name] for field in fields(cls) if field.name != "module"}
            for name in ("mean", "std", "class_names"):
                values[name] = tuple(values[name])
            if module is None:
                if values["arch"] is None:
                    raise ModelError(
                        f"A network that SLIM did not build must be passed when {folder} is loaded. Got no module. "
                        "Pass the same one again: slim.run(..., reference=slim.wrap(module))."
                    )
                module = create(values["arch"], len(values["class_names"]), values["image_size"]).eval()
            for layer in (values["layer"], values["finer"]):
                module.get_submodule(layer)
            tensors = read_tensors(folder / _TENSORS)
            module = _with_plain_head(module, values["head"], tensors)
            load_tensors(module, tensors)
            check_input(values["image_size"], values["mean"], values["std"])
            return cls(module=module.to(memory_format=torch.channels_last), **values)


def _with_plain_head(module: nn.Module, name: str | None, tensors: dict[str, Tensor]) -> nn.Module:
    """The module, with a linear layer in place of a head of another kind if `Classifier.with_head` put one there."""
    head = None if name is None else dict(module.named_modules()).get(name)
    weight = tensors.get(f"{name}.weight")
    if head is None or weight is None:
        return module
    saved = {key.removeprefix(f"{name}.") for key in tensors if key.startswith(f"{name}.")}
    if saved == set(head.state_dict()):
        return module
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias="bias" in saved).to(device_of(module))
    return shared_copy(module, str(name), linear)


def default_names(n: int) -> tuple[str, ...]:
    """The names of outputs that nobody named: their numbers.

    Examples
    --------
    >>> default_names(3)
    ('0', '1', '2')
    """
    return tuple(map(str, range(n)))


def _listed(names: Sequence[str]) -> str:
    """The first names, for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
