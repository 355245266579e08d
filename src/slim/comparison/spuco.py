"""Check rows: DFR and GroupDRO as the package spuco has them, on the same features as ours.

S. Joshi et al., "Towards mitigating spurious correlations in the wild: a benchmark and a more realistic dataset",
2023. The package is optional: ``pip install 'slim-vision[spuco]'``. Importing it takes a while, so it is imported where
it is used.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, TensorDataset

from slim.baselines import best_head, halves, standardised
from slim.errors import SettingsError
from slim.last_layer import Head, HeldOut

_DECAYS = (1e-3, 1e-1, 1.0, 10.0)
_EPOCHS = 20
_BATCH_SIZE = 128


def dfr_head(train: NDArray[np.floating], val: HeldOut, *, seed: int) -> Head:
    """Deep feature reweighting by spuco's own tuning and fits, on val; uses its group labels.

    Parameters
    ----------
    train
        (n, d) features of the train split, by which all are standardised.
    val
        The val split with its groups. Half of it tunes the penalty on the other half's worst group.
    seed
        Of draws and halves.

    Raises
    ------
    SettingsError
        There are more than two classes.

    Notes
    -----
    The steps of ``DFR.train`` are called one by one: its own halves come from ``random.sample`` of a set, which Python
    refuses since 3.11.
    """
    classes = np.unique(val.y)
    if len(classes) != 2:
        raise SettingsError(
            f"The row spuco-dfr takes two classes, as scikit-learn's liblinear does. Got {len(classes)}. "
            "Leave it out (--rows)."
        )
    from spuco.last_layer_retrain import DFR

    _, mean, std = standardised(train)
    scaled = (val.features - mean) / std
    first, second = halves(val.cells, seed)
    fitted, tuned_on = ((scaled[half], val.y[half], val.cells[half]) for half in (first, second))
    with _contained(seed):
        dfr = DFR(None, None, class_weight_options=[dict.fromkeys(classes.tolist(), 1)])
        dfr.hyperparam_selection(*fitted, *tuned_on)
        rows, offset = dfr.train_multiple_model(dfr.best_C, scaled, val.y, val.cells, dfr.best_class_weight)
    weight, bias = np.concatenate([-rows, rows]) / 2 / std, np.concatenate([-offset, offset]) / 2
    return Head(weight, bias - weight @ mean, dfr.best_C, None)


def group_dro_head(train: HeldOut, val: HeldOut, *, n_classes: int, seed: int) -> Head:
    """GroupDRO of a linear layer by spuco's own loss, sampling and steps; uses the group labels of train and val.

    Parameters
    ----------
    train
        The train split with its groups.
    val
        The val split with its groups, whose worst one chooses the weight decay and the epoch.
    n_classes
        Number of logits.
    seed
        Of batches and first weights.
    """
    from spuco.datasets import GroupLabeledDatasetWrapper
    from spuco.robust_train import GroupDRO

    scaled, mean, std = standardised(train.features)
    images = TensorDataset(torch.from_numpy(np.asarray(scaled, np.float32)), torch.from_numpy(train.y))
    partition = {(0, int(group)): np.flatnonzero(train.cells == group).tolist() for group in np.unique(train.cells)}

    def heads() -> Iterator[Head]:
        for decay in _DECAYS:
            with _contained(seed):
                layer = torch.nn.Linear(scaled.shape[1], n_classes)
                optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3, momentum=0.9, weight_decay=decay)
                labelled = GroupLabeledDatasetWrapper(images, partition)
                dro = GroupDRO(layer, labelled, _BATCH_SIZE, optimizer, _EPOCHS)
                # Four worker processes an epoch, as by default, take longer than the steps.
                dro.trainer.trainloader = DataLoader(labelled, _BATCH_SIZE, sampler=dro.trainer.sampler)
                for epoch in range(_EPOCHS):
                    dro.train_epoch(epoch)
                    weight = layer.weight.detach().double().numpy() / std
                    yield Head(weight, layer.bias.detach().double().numpy() - weight @ mean, decay, None)

    return best_head(heads(), val)


@contextmanager
def _contained(seed: int) -> Iterator[None]:
    """Within the block spuco's seed is this one and its warnings are kept quiet; the global generators come back."""
    from spuco.utils import set_seed

    before = random.getstate(), np.random.get_state()  # noqa: NPY002 (spuco draws from it)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that scikit-learn has since changed
            set_seed(seed)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
