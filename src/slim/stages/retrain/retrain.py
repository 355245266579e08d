"""Stage 8: retrain on the subset or on recomposed images, and in the same way on a random subset of the same size."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from slim.arguments import checked
from slim.arrays import Flags, Ints
from slim.data import Dataset, Recomposition
from slim.errors import SettingsError, SlimWarning
from slim.network.classifier import Classifier
from slim.stages.attend import Attention
from slim.stages.curate.factors import Source
from slim.stages.curate.subset import SHORTCUT, Subset, join_clusters
from slim.stages.locate.object_maps import ObjectMaps
from slim.stages.retrain.choices import Images
from slim.stages.retrain.last_layer import Head, HeldOut, fit_head
from slim.stages.retrain.random_subset import random_subset
from slim.stages.retrain.recomposed import UnchangedVal, recomposed_head, train_recomposed
from slim.stages.retrain.reliance import Reliance, background_reliance
from slim.stages.retrain.retrained import Retrained
from slim.stages.settings import RetrainSettings
from slim.training import TrainSettings, train_classifier


@checked
def retrain(
    data: Dataset,
    reference: Classifier,
    attention: Attention,
    objects: ObjectMaps,
    subset: Subset,
    settings: RetrainSettings | None = None,
    *,
    training: TrainSettings | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
) -> Retrained:
    """Retrain on recomposed or curated images, and on a random subset.

    The random subset is the baseline. If no shortcut was found, the reference model is kept.

    Parameters
    ----------
    data, reference, attention
        The images, the reference model and its attention.
    objects
        The object maps by which images are recomposed.
    subset
        The curated subset.
    settings
        See `RetrainSettings`.
    training
        Mode "full": how the reference model was trained; epochs and learning rate are those of `settings`.
    seed
        Random seed.
    folder
        Mode "full": where checkpoints are written while training.

    Raises
    ------
    ModelError
        The mode is "last-layer", and the network does not end in a linear layer.
    SettingsError
        The last layer is to be tuned on groups, and the data have no spurious attribute; or random draws of this size
        miss a class.

    Warns
    -----
    SlimWarning
        No shortcut was found, or one that does not lie in the background.

    Examples
    --------
    ``model = slim.retrain(data, reference, attention, objects, subset).model``
    """
    settings, training = settings or RetrainSettings(), training or TrainSettings()
    pool = data.split(subset.pool)
    drawn = random_subset(pool.y, len(subset), seed)
    images, reliance = choose_images(data, reference, objects, subset, settings, training, seed=seed)
    fits_val = settings.fits_val(subset.pool)
    chosen = Selection(subset.index, subset.cell(with_val=fits_val), subset.kept, subset.balanced, fits_val)
    by_chance = Selection.plain(drawn, len(pool), fits_val=fits_val)
    if settings.mode == "full":
        folders = {name: None if folder is None else Path(folder) / name for name in ("model", "random")}
        model = reference
        if images == "recomposed":
            model = train_recomposed(
                data,
                reference,
                Recomposition(objects.split(subset.pool)),
                settings,
                training,
                pool=subset.pool,
                seed=seed,
                folder=folders["model"],
            )
        elif images == "subset":
            model = train_on(chosen.index, data, reference, subset.pool, settings, training, seed, folders["model"])
        random = train_on(drawn, data, reference, subset.pool, settings, training, seed, folders["random"])
        return Retrained(model, random, drawn, "full", images=images, reliance=reliance)
    head = None
    if images == "recomposed":
        splits = [subset.pool, "val"] if fits_val else [subset.pool]
        recompositions = {split: Recomposition(objects.split(split)) for split in splits}
        val = UnchangedVal.of(attention.val, data.val.y) if fits_val else None
        head = recomposed_head(data, reference, recompositions, settings, training, val=val, seed=seed)
    elif images == "subset":
        head = fit_subset_head(data, reference, attention, chosen, settings, pool=subset.pool, seed=seed)
    baseline = fit_subset_head(data, reference, attention, by_chance, settings, pool=subset.pool, seed=seed)
    return Retrained(
        reference if head is None else with_head(reference, head),
        with_head(reference, baseline),
        drawn,
        "last-layer",
        None if head is None else head.strength,
        None if head is None else head.held_out_accuracy,
        images,
        reliance,
        head is not None and head.uses_val,
    )


def choose_images(
    data: Dataset,
    reference: Classifier,
    objects: ObjectMaps,
    subset: Subset,
    settings: RetrainSettings,
    training: TrainSettings,
    *,
    seed: int,
) -> tuple[Images, Reliance | None]:
    """What to retrain on, and the measurement that decided it; arguments and warnings as for `retrain`."""
    reliance = None
    if settings.images == "auto":
        pool, maps = data.split(subset.pool), objects.split(subset.pool)
        reliance = background_reliance(reference, pool, maps, training.precision, seed=seed)
    if settings.images == "recomposed" or (reliance is not None and reliance.on_background):
        return "recomposed", reliance
    seen = ""
    if reliance is not None:
        seen = (
            f"The reference model is right about {reliance.same:.0%} of {reliance.n} images on backgrounds of their "
            f"own class, and about {reliance.other:.0%} on those of other classes: backgrounds do not mislead it. "
        )
    if not subset.shortcut:
        _warn(
            f"{seen}There seems to be no shortcut to remove: features that the linear head does not read explain "
            f"{max(0.0, subset.evidence or 0.0):.0%} of the model's errors on val, less than the {SHORTCUT:.0%} that a "
            "shortcut explains. The reference model is kept. To retrain anyway: --retrain.images recomposed, or "
            "--curate.balance features."
        )
        return "none", reliance
    if reliance is not None and subset.evidence is None and not settings.use_val:
        _warn(
            f"{seen}Only its errors on val could tell whether it took a shortcut that lies on the object, and they are "
            "not used. The reference model is kept. To retrain anyway: --retrain.images subset."
        )
        return "none", reliance
    if reliance is not None:
        _warn(
            f"{seen}If it took a shortcut, it lies on the object itself, such as its colour or something that "
            "hides part of it, and other backgrounds cannot remove it. The model is retrained on the curated subset."
        )
    return "subset", reliance


def _warn(message: str) -> None:
    warnings.warn(message, SlimWarning, stacklevel=4)


@dataclass(frozen=True, eq=False)
class Selection:
    """Images of the pool to retrain on, and the cells that a last layer is weighted and tuned by.

    Attributes
    ----------
    index
        (size,) positions in the pool; an image may occur several times.
    cells
        (n,) cells of the whole pool, besides the class.
    tune_among
        (n,) images that may tune a last layer that is not fitted to val, except those selected.
    balanced
        The features that the cells are clusters of; val's images join the nearest.
    fits_val
        Whether a last layer is fitted to val as well.
    """

    index: Ints
    cells: Ints
    tune_among: Flags
    balanced: Source = "features"
    fits_val: bool = False

    @classmethod
    def plain(cls, index: Ints, n: int, *, fits_val: bool = False) -> Selection:
        """A selection without cells, from a pool of n images."""
        return cls(index, np.zeros(n, np.int64), np.ones(n, bool), fits_val=fits_val)


def with_head(reference: Classifier, head: Head) -> Classifier:
    """The reference model with another last layer."""
    return reference.with_head(torch.from_numpy(head.weight), torch.from_numpy(head.bias))


def train_on(
    index: Ints,
    data: Dataset,
    reference: Classifier,
    pool: str,
    settings: RetrainSettings,
    training: TrainSettings,
    seed: int,
    folder: Path | None,
) -> Classifier:
    """The whole network trained on some images of the pool.

    It starts from the weights that the reference model started from, or from the reference model itself if the settings
    say so or if its architecture is not the one that `training` builds.
    """
    wanted = replace(training, epochs=settings.epochs, lr=settings.lr or training.lr, checkpoint=None)
    initial = reference if settings.start == "reference" or reference.arch != training.arch else None
    return train_classifier(data.split(pool)[index], data.val, wanted, seed=seed, folder=folder, initial=initial)


def fit_subset_head(
    data: Dataset,
    reference: Classifier,
    attention: Attention,
    selection: Selection,
    settings: RetrainSettings | None = None,
    *,
    pool: str = "train",
    seed: int = 0,
) -> Head:
    """A last layer fitted to some images of the pool, and to val if the selection says so."""
    settings, table, split = settings or RetrainSettings(), data.split(pool), attention.split(pool)
    reference.linear  # noqa: B018 (refuses a network without a linear head)
    index, cells, y = selection.index, selection.cells, table.y
    features, held_out, val = split.features, None, None
    if selection.fits_val:
        joined = join_clusters(getattr(split, selection.balanced), cells, getattr(attention.val, selection.balanced))
        val = HeldOut(np.asarray(attention.val.features), data.val.y, joined)
    elif settings.tune_on == "groups":
        if data.val.groups is None:
            raise SettingsError(
                "Tuning on groups needs a spurious attribute. Got data without one. Use --tune-on cells."
            )
        held_out = HeldOut(np.asarray(attention.val.features), data.val.y, data.val.groups)
    else:
        others = np.setdiff1d(np.flatnonzero(selection.tune_among), index)
        others = others if len(others) else index  # a subset of the whole pool leaves nothing else to tune on
        held_out = HeldOut(np.asarray(features[others]), y[others], cells[others])
    return fit_head(
        np.asarray(features[index]),
        y[index],
        cells[index],
        held_out,
        settings,
        val=val,
        n_classes=reference.n_classes,
        seed=seed,
    )
