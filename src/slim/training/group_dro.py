"""Online group distributionally robust optimisation: each group is weighted by how high its loss still is.

S. Sagawa, P. W. Koh, T. B. Hashimoto, P. Liang, "Distributionally robust neural networks for group shifts", ICLR 2020.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from slim.arrays import Ints


def balanced_order(groups: Ints, rng: np.random.Generator) -> Ints:
    """(n,) positions drawn with replacement, so that on average each of the (n,) `groups` occurs equally often.

    Examples
    --------
    >>> groups = np.repeat([0, 2], [990, 10])
    >>> float((groups[balanced_order(groups, np.random.default_rng(0))] == 2).mean().round(1))
    0.5
    """
    chances = 1 / np.bincount(groups)[groups]
    return rng.choice(len(groups), len(groups), p=chances / chances.sum())


def robust_loss(logits: Tensor, y: Tensor, groups: Tensor, shares: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Loss of a batch under the updated shares of the groups, and these shares.

    Parameters
    ----------
    logits, y, groups
        (b, n_classes), (b,) and (b,) of the batch.
    shares
        (n_groups,) weight of each group; they sum to 1.
    step
        Step size of the update of the shares, above 0.

    Returns
    -------
    tuple of Tensor
        The mean loss of each group, weighted by the updated shares and summed; and these shares, (n_groups,), without
        a gradient. A group without an image in the batch has loss 0.

    Examples
    --------
    >>> logits, y = torch.tensor([[4.0, 0.0], [4.0, 0.0]]), torch.tensor([0, 1])
    >>> loss, shares = robust_loss(logits, y, torch.tensor([0, 1]), torch.tensor([0.5, 0.5]), step=0.5)
    >>> round(float(loss), 2), [round(share, 2) for share in shares.tolist()]
    (3.54, [0.12, 0.88])
    """
    each = cross_entropy(logits, y, reduction="none")
    counts = torch.bincount(groups, minlength=len(shares)).clamp(min=1)
    losses = torch.zeros_like(shares).index_add(0, groups, each) / counts
    shares = shares * torch.exp(step * losses.detach())
    shares = shares / shares.sum()
    return (shares * losses).sum(), shares
