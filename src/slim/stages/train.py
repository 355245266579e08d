"""Stage 1: the reference model, trained with ERM or adopted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_fabric.loggers.logger import Logger

from slim.arguments import checked
from slim.data import Dataset
from slim.network.build import restore
from slim.network.classifier import Classifier
from slim.network.devices import resolve_device
from slim.network.pretrained import load_pretrained
from slim.network.probing import probe
from slim.training import TrainSettings, train_classifier


@checked
def train(
    data: Dataset,
    settings: TrainSettings | None = None,
    *,
    reference: Classifier | None = None,
    loggers: Sequence[Logger] = (),
    seed: int = 0,
    folder: str | Path | None = None,
) -> Classifier:
    """Train the reference model with ERM.

    Plain empirical risk minimisation: no group labels, no balancing.

    Parameters
    ----------
    data
        Trained on the train split; the val split selects the epoch.
    settings
        See `TrainSettings`; with a ``checkpoint`` nothing is trained.
    reference
        A classifier of your own, which is adopted unchanged and not moved to another device.
    loggers
        Loggers of Lightning Fabric, such as its ``TensorBoardLogger``, which get loss and accuracy of each epoch.
    seed
        Random seed.
    folder
        Where to write checkpoints while training; a later call with the same arguments resumes from them.

    Returns
    -------
    Classifier
        In evaluation mode.

    Raises
    ------
    DataError, SettingsError, ModelError
        As for `train_classifier`; or the checkpoint does not fit the architecture, or the outputs of `reference` are
        not the classes of the images; or the adopted network gives logits that are not finite, or that do not depend on
        the attended layer.

    Warns
    -----
    SlimWarning
        The adopted network predicts the same class for all images that it was tried on.

    Examples
    --------
    ``reference = slim.train(slim.load_dataset("waterbirds"), slim.TrainSettings(epochs=10))``
    """
    settings = settings or TrainSettings()
    names = data.train.class_names
    if reference is not None:
        model = reference.for_classes(names)
    elif settings.checkpoint is None:
        return train_classifier(data.train, data.val, settings, seed=seed, folder=folder, loggers=loggers)
    else:
        model = _saved(settings, names).to(resolve_device(settings.device))
    probe(model, data.train)
    return model


def _saved(settings: TrainSettings, names: Sequence[str]) -> Classifier:
    """The model that was trained elsewhere."""
    path = str(settings.checkpoint)
    if Path(path).is_dir():
        return load_pretrained(path, layer=settings.layer).for_classes(names)
    return restore(path, settings.arch, names, image_size=settings.image_size, layer=settings.layer)
