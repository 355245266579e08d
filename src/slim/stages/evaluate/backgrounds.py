"""The usual figures of ImageNet-9: how much a model's accuracy depends on the background."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from slim.arguments import checked
from slim.network.classifier import Classifier
from slim.stages.evaluate.measuring import evaluate_classifier
from slim.stages.settings import EvaluateSettings


@dataclass(frozen=True)
class BackgroundsChallenge:
    """Accuracy on the variations of ImageNet-9's test images.

    Attributes
    ----------
    original
        Accuracy on the photographs, in [0, 1] like all of these.
    mixed_same, mixed_rand
        Accuracy on objects pasted onto backgrounds of their own class, and of any class.
    only_fg
        Accuracy on objects on black.

    Examples
    --------
    >>> BackgroundsChallenge(original=0.95, mixed_same=0.85, mixed_rand=0.75, only_fg=0.9)
    original 0.950, mixed-same 0.850, mixed-rand 0.750, only-fg 0.900, BG-gap 0.100
    """

    original: float
    mixed_same: float
    mixed_rand: float
    only_fg: float

    @property
    def background_gap(self) -> float:
        """Mixed-same minus mixed-rand: how much a background of the right class helps. 0 = not at all."""
        return self.mixed_same - self.mixed_rand

    def __repr__(self) -> str:
        figures = {item.name.replace("_", "-"): getattr(self, item.name) for item in fields(self)}
        return ", ".join(f"{name} {value:.3f}" for name, value in {**figures, "BG-gap": self.background_gap}.items())


@checked
def evaluate_backgrounds(
    classifier: Classifier, root: str | Path, settings: EvaluateSettings | None = None
) -> BackgroundsChallenge:
    """Measure a model of ImageNet-9 on the variations of the Backgrounds Challenge (Xiao et al., 2021).

    Parameters
    ----------
    classifier
        A model of the nine classes, such as one that was trained on ``load_dataset("imagenet9", root=...)``.
    root
        The folder with ``bg_challenge``, or with ``backgrounds_challenge_data.tar.gz``.
    settings
        See `EvaluateSettings`.

    Raises
    ------
    DataError
        A variation is not there.
    ModelError
        The outputs of the model are not the classes of the images.

    Notes
    -----
    The published evaluation also maps the 1,000 classes of ImageNet to the nine; this one takes models of the nine.

    Examples
    --------
    ``print(slim.evaluate_backgrounds(result.model, "imagenet9"))``
    """
    from slim.data.benchmarks.imagenet9 import variation_table

    tables = {item.name: variation_table(root, item.name) for item in fields(BackgroundsChallenge)}
    return BackgroundsChallenge(
        **{name: evaluate_classifier(classifier, table, settings).average_accuracy for name, table in tables.items()}
    )
