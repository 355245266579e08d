"""The retrained models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from torch import nn

from slim.arrays import Ints
from slim.network.classifier import Classifier
from slim.network.sharing import independent_copy
from slim.record import Record, as_written
from slim.stages.retrain.choices import Images, Mode, ModelKey
from slim.stages.retrain.reliance import Reliance

_TRAINED_ON = {
    "recomposed": "on recomposed images",
    "subset": "on the curated subset",
    "none": "not retrained, no shortcut found",
}


@dataclass(frozen=True, eq=False)
class Retrained(Record):
    """The retrained model, and its baseline.

    Attributes
    ----------
    model
        The reference model if no shortcut was found.
    random
        The baseline: retrained in the same way on a random subset of the same size.
    random_index
        (size,) positions of the random subset in the pool.
    mode
        What was retrained: the "last-layer" or the "full" network.
    strength
        Last layer: scikit-learn's C of `model`; None otherwise.
    held_out_accuracy
        Last layer: smallest accuracy over the cells of held-out images, in [0, 1]; None if nothing was tuned.
    images
        What `model` was retrained on: "recomposed" images, the curated "subset", or "none".
    reliance
        How much the reference model relies on backgrounds; None if it was not measured.
    uses_val
        Last layer, recomposed images: whether val was also used unchanged.
    """

    model: Classifier
    random: Classifier
    random_index: Ints = field(metadata={"file": "random_subset"})
    mode: Mode = "last-layer"
    strength: float | None = None
    held_out_accuracy: float | None = None
    images: Images = "subset"
    reliance: Reliance | None = None
    uses_val: bool = False
    format: ClassVar[int] = 3

    def __repr__(self) -> str:
        parts: list[str] = [self.mode, _TRAINED_ON[self.images] + (" and unchanged val" if self.uses_val else "")]
        if self.strength is not None:
            parts.append(f"strength {self.strength:g}")
        if self.held_out_accuracy is not None:
            parts.append(f"accuracy {self.held_out_accuracy:.3f} in the worst held-out cell")
        return f"Retrained({', '.join(parts)}; baseline: {len(self.random_index)} random images)"

    def models(self, reference: Classifier) -> dict[ModelKey, Classifier]:
        """The three models that are compared: ``reference``, ``random_subset`` and ``retrained``.

        Models that differ only in their last layer share the reference model's other layers.
        """
        models: dict[ModelKey, Classifier] = {"random_subset": self.random}
        if self.images != "none":
            models["retrained"] = self.model
        if self.mode == "last-layer":
            models = {name: reference.with_head(**model.linear.state_dict()) for name, model in models.items()}
        # Kept, it is the reference model itself, whose head need not have a bias.
        models.setdefault("retrained", reference)
        return {"reference": reference, **{key: model.to(reference.device) for key, model in models.items()}}

    @classmethod
    def load(cls, folder: str | Path, module: nn.Module | None = None) -> Self:
        """Read what `save` wrote; `module` receives the tensors if timm does not know the network."""
        folder = Path(folder)
        with as_written(folder):
            return cls._loaded(folder, module)

    @classmethod
    def _loaded(cls, folder: Path, module: nn.Module | None) -> Self:
        """What `save` wrote, whose files may be damaged."""
        values = cls._values(folder)
        modules = (None if module is None else independent_copy(module) for _ in range(2))
        model, random = (
            Classifier.load(folder / name, own) for name, own in zip(("model", "random"), modules, strict=True)
        )
        return cls(model, random, **cls._load_fields(folder, values, without=("model", "random")))
