"""Rows of mode "full" that are no subsets: the whole network trained on all of train, in other ways than the reference.

Each trains as the reference was trained, but keeps the epoch of the best worst group of val.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slim.datasets import ImageTable, image_batches
from slim.models import Classifier
from slim.pipeline import Pipeline
from slim.tracing import evaluating
from slim.training import train

_GROUP_DRO_STEP = 0.01
_JTT_UPWEIGHT = 20  # the paper tries 20, 50 and 100 on Waterbirds; the smallest costs least


def group_dro_network(p: Pipeline, folder: Path) -> Classifier:
    """Online GroupDRO with the group labels of train and val, at the cost of one training.

    References
    ----------
    S. Sagawa, P. W. Koh, T. B. Hashimoto, P. Liang, "Distributionally robust neural networks for group shifts",
    ICLR 2020.
    """
    return _trained(p, p.data.train, folder, group_dro=_GROUP_DRO_STEP)


def jtt_network(p: Pipeline, folder: Path) -> Classifier:
    """Just train twice: one epoch finds the images that are hard, and a training sees them 20 times as often.

    Notes
    -----
    The paper tunes both numbers; here they are fixed, since every try is a training. An epoch of the second training
    is longer by 19 times the share of train images that the first gets wrong.

    References
    ----------
    E. Z. Liu et al., "Just train twice: improving group robustness without training group information", ICML 2021.
    """
    table = p.data.train
    first = _trained(p, table, folder / "first", epochs=1)
    wrong = np.flatnonzero(_predictions(first, table, p.settings.evaluate.batch_size) != table.y)
    return _trained(p, table[np.concatenate([np.arange(len(table)), np.tile(wrong, _JTT_UPWEIGHT - 1)])], folder)


def _trained(
    p: Pipeline, table: ImageTable, folder: Path, group_dro: float | None = None, **changes: Any
) -> Classifier:
    settings = replace(p.settings.train, select_by="worst-group", **changes)
    start = p.classifier if p.reference is not None else None
    return train(table, p.data.val, settings, seed=p.settings.seed, folder=folder, initial=start, group_dro=group_dro)


def _predictions(model: Classifier, table: ImageTable, batch_size: int) -> NDArray[np.int64]:
    """(n,) the predicted class of each image."""
    found = []
    with evaluating(model.module), torch.no_grad():
        for images, _, _ in image_batches(table, model.image_size, batch_size):
            found.append(model.module(model.normalize(images.to(model.device))).argmax(1).cpu())
    return torch.cat(found).numpy()
