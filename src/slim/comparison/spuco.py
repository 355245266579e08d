"""Cross-checks: DFR and GroupDRO as the package spuco implements them, on the same features as ours.

S. Joshi et al., "Towards mitigating spurious correlations in the wild: a benchmark and a more realistic dataset",
2023. The package is optional: ``pip install 'slim-vision[spuco]'``. It is slow to import, and so imported where it is
used.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from slim.arrays import Floats
from slim.comparison.baselines import best_head, halves, standardised
from slim.errors import SettingsError
from slim.stages.retrain.last_layer import Head, HeldOut

_DECAYS = (1e-3, 1e-1, 1.0, 10.0)
_EPOCHS = 20
_BATCH_SIZE = 128


def dfr_head(train: Floats, val: HeldOut, *, seed: int) -> Head:
    """DFR with spuco's own tuning and fits, on val; uses group labels of val.

    Parameters
    ----------
    train
        (n, d) features of the train split, whose means and deviations standardise all features.
    val
        The val split with its groups. Half of it tunes the penalty on the other half's worst group.
    seed
        Random seed of the draws and halves.

    Raises
    ------
    SettingsError
        There are more than two classes.

    Notes
    -----
    The steps of ``DFR.train`` are called one by one, since it takes its halves from ``random.sample`` of a set, which
    Python has refused since 3.11.
    """
    classes = np.unique(val.y)
    if len(classes) != 2:
        raise SettingsError(
            f"The row spuco-dfr needs two classes, since it fits with scikit-learn's liblinear. Got {len(classes)}. "
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
    """GroupDRO of a linear layer with spuco's own loss, sampling and steps; uses group labels of train and val.

    Parameters
    ----------
    train
        The train split with its groups.
    val
        The val split with its groups; the worst-group accuracy selects the weight decay and the epoch.
    n_classes
        Number of logits.
    seed
        Random seed of the batches and initial weights.
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
                # The default, four worker processes per epoch, takes longer than the steps themselves.
                dro.trainer.trainloader = DataLoader(labelled, _BATCH_SIZE, sampler=dro.trainer.sampler)
                for epoch in range(_EPOCHS):
                    dro.train_epoch(epoch)
                    weight = layer.weight.detach().double().numpy() / std
                    yield Head(weight, layer.bias.detach().double().numpy() - weight @ mean, decay, None)

    return best_head(heads(), val)


@contextmanager
def _contained(seed: int) -> Iterator[None]:
    """Seed spuco and silence its warnings within the block; global random generators are restored afterwards."""
    from spuco.utils import set_seed

    before = random.getstate(), np.random.get_state()  # noqa: NPY002 (spuco draws from it)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about names that scikit-learn has since changed
            set_seed(seed)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002 (as above)
