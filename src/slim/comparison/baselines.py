"""Baselines: subsets chosen without SLIM, and last layers fitted by other methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from slim.arrays import Floats, Ints
from slim.stages.retrain.last_layer import Head, HeldOut, fit_head
from slim.stages.settings import RetrainSettings
from slim.training.group_dro import robust_loss

_DFR_DRAWS = 10
_AFR_GAMMAS = (0.0, 1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 20.0)
_AFR_PULLS = (0.0, 0.01, 0.1)
_DRO_DECAYS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_JTT_FIRST_DECAYS = (100.0, 10.0, 1.0)
_JTT_DECAYS = (10.0, 1.0, 0.1)
_JTT_UPWEIGHTS = (5.0, 20.0, 50.0, 100.0)
_STEPS = 300


def balanced_subset(parts: Ints, size: int, seed: int) -> Ints:
    """Draw a subset with as equal a number of images from each part as possible.

    Parameters
    ----------
    parts
        (n,) what is balanced over: labels, groups, or cells.
    size
        Images in the subset. Where a part has too few, its images are repeated.
    seed
        Random seed.

    Returns
    -------
    ndarray of shape (size,)
        Sorted positions, an image as often as it is taken.

    Examples
    --------
    >>> parts = np.array([0] * 90 + [1] * 10)
    >>> np.bincount(parts[balanced_subset(parts, 20, seed=0)]).tolist()
    [10, 10]
    """
    rng = np.random.default_rng((seed, 2))
    present = np.unique(parts)
    numbers = np.full(len(present), size // len(present))
    numbers[rng.permutation(len(present))[: size % len(present)]] += 1
    drawn = []
    for part, number in zip(present, numbers, strict=True):
        members = rng.permutation(np.flatnonzero(parts == part))
        drawn.append(np.resize(members, number))
    return np.sort(np.concatenate(drawn))


def feature_cells(features: Floats, y: Ints, clusters: int, seed: int) -> Ints:
    """(n,) cells of class and cluster; the clusters are those of the features' directions, over all classes together.

    Notes
    -----
    GEORGE and SPARE cluster each class by itself. An environment that is rare in one class is found only where the
    classes are clustered together, which makes this the stronger baseline.

    References
    ----------
    N. Sohoni et al., "No subclass left behind", NeurIPS 2020. Y. Yang et al., "Identifying spurious biases early in
    training through the lens of simplicity bias", AISTATS 2024.

    Examples
    --------
    >>> y, place = np.repeat([0, 1], 10), np.array([0] * 8 + [1] * 2 + [1] * 10)
    >>> cells = feature_cells(np.eye(2)[place], y, 2, seed=0)
    >>> sorted(np.bincount(cells, minlength=4).tolist())
    [0, 2, 8, 10]
    """
    features = np.asarray(features, np.float32)
    directions = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    k = min(50, *directions.shape)
    points = PCA(k, svd_solver="randomized", random_state=seed).fit_transform(directions)
    cluster = KMeans(clusters, n_init=10, random_state=seed).fit_predict(points)
    return np.asarray(y * clusters + cluster, np.int64)


def dfr_head(features: Floats, y: Ints, groups: Ints, *, n_classes: int, seed: int) -> Head:
    """DFR, deep feature reweighting: the average of heads fitted to group-balanced draws of val; uses group labels.

    Parameters
    ----------
    features, y, groups
        (n, d), (n,) and (n,) of the val split. Half of it tunes the penalty on the other half's worst group.
    n_classes
        Number of logits.
    seed
        Random seed of the draws and halves.

    References
    ----------
    P. Kirichenko, P. Izmailov, A. G. Wilson, "Last layer re-training is sufficient for robustness to spurious
    correlations", ICLR 2023.
    """
    first, second = halves(groups, seed)
    least = int(np.bincount(groups[first])[np.unique(groups[first])].min()) * len(np.unique(groups))
    tried = first[balanced_subset(groups[first], least, seed)]
    held_out = HeldOut(features[second], y[second], groups[second])
    tuned = fit_head(features[tried], y[tried], groups[tried], held_out, n_classes=n_classes, seed=seed)
    settings = RetrainSettings(strength=tuned.strength, refits=1)
    least = int(np.bincount(groups)[np.unique(groups)].min()) * len(np.unique(groups))
    heads = []
    for draw in range(_DFR_DRAWS):
        index = balanced_subset(groups, least, seed * _DFR_DRAWS + draw)
        heads.append(fit_head(features[index], y[index], groups[index], settings=settings, n_classes=n_classes))
    return _averaged(heads, tuned)


def afr_head(features: Floats, y: Ints, groups: Ints, start: Head, *, seed: int) -> Head:
    """AFR, automatic feature reweighting: refits the reference's head where it is unsure; group labels only tune it.

    Parameters
    ----------
    features, y, groups
        (n, d), (n,) and (n,) of the val split, which the reference model was not trained on. Half of it is reweighted;
        the worst group of the other half selects the weighting and the penalty.
    start
        The head of the reference model.
    seed
        Random seed of the halves.

    References
    ----------
    S. Qiu, A. Potapczynski, P. Izmailov, A. G. Wilson, "Simple and fast group robustness by automatic feature
    reweighting", ICML 2023.
    """
    first, second = halves(groups, seed)
    inputs, labels = _tensors(features[first], y[first])
    initial = torch.from_numpy(start.weight).double(), torch.from_numpy(start.bias).double()
    logits = inputs @ initial[0].T + initial[1]
    confidence = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    class_weights = 1 / torch.bincount(labels).double()[labels]

    def heads() -> Iterator[Head]:
        for gamma in _AFR_GAMMAS:
            weights = class_weights * torch.exp(-gamma * confidence)
            weights = weights / weights.sum()
            for pull in _AFR_PULLS:

                def loss(
                    weight: torch.Tensor, bias: torch.Tensor, w: torch.Tensor = weights, p: float = pull
                ) -> torch.Tensor:
                    each = torch.nn.functional.cross_entropy(inputs @ weight.T + bias, labels, reduction="none")
                    return (w * each).sum() + p * ((weight - initial[0]) ** 2).sum()

                yield Head(*_minimised(loss, *initial), gamma, None)

    return best_head(heads(), HeldOut(features[second], y[second], groups[second]))


def group_dro_head(features: Floats, y: Ints, groups: Ints, held_out: HeldOut, *, n_classes: int) -> Head:
    """GroupDRO, group distributionally robust optimisation, of the last layer; uses group labels of train and val.

    Parameters
    ----------
    features, y, groups
        (n, d), (n,) and (n,) of the train split.
    held_out
        The val split with its groups; the worst-group accuracy selects the weight decay.
    n_classes
        Number of logits.

    References
    ----------
    S. Sagawa, P. W. Koh, T. B. Hashimoto, P. Liang, "Distributionally robust neural networks for group shifts",
    ICLR 2020.
    """
    scaled, mean, std = standardised(features)
    inputs, labels = _tensors(scaled, y)
    group_index = torch.from_numpy(np.unique(groups, return_inverse=True)[1])
    n_groups = int(group_index.max()) + 1

    def heads() -> Iterator[Head]:
        for decay in _DRO_DECAYS:
            weight = torch.zeros(n_classes, inputs.shape[1], dtype=torch.double, requires_grad=True)
            bias = torch.zeros(n_classes, dtype=torch.double, requires_grad=True)
            shares = torch.full((n_groups,), 1 / n_groups, dtype=torch.double)
            optimizer = torch.optim.Adam([weight, bias], lr=0.01)
            for _ in range(_STEPS):
                loss, shares = robust_loss(inputs @ weight.T + bias, labels, group_index, shares, step=0.1)
                optimizer.zero_grad()
                (loss + decay * (weight**2).sum()).backward()
                optimizer.step()
            rows, offset = weight.detach().numpy() / std, bias.detach().numpy()
            yield Head(rows, offset - rows @ mean, decay, None)

    return best_head(heads(), held_out)


def jtt_head(features: Floats, y: Ints, held_out: HeldOut, *, n_classes: int) -> Head:
    """JTT, just train twice: a last layer that upweights the errors of a first, weak one; group labels only tune it.

    Parameters
    ----------
    features, y
        (n, d) and (n,) of the train split.
    held_out
        The val split with its groups; the worst-group accuracy selects the penalties of both fits and the upweighting.
    n_classes
        Number of logits.

    Notes
    -----
    The paper's first model is stopped early and strongly regularised, since a model that fits all train images has no
    errors to learn from. Here it is a logistic regression whose strong l2 penalty is tuned in place of the number of
    epochs; at the strongest penalty it separates classes by the difference of their means.

    References
    ----------
    E. Z. Liu et al., "Just train twice: improving group robustness without training group information", ICML 2021.

    Examples
    --------
    >>> y, place = np.repeat([0, 1], 20), np.array([0] * 18 + [1] * 2 + [0] * 2 + [1] * 18)
    >>> features = np.stack([y, 4 * place], 1) + np.linspace(0, 0.1, 40)[:, None]
    >>> val = HeldOut(np.array([[0.0, 0], [0, 4], [1, 0], [1, 4]]), np.array([0, 0, 1, 1]), np.arange(4))
    >>> jtt_head(features, y, val, n_classes=2).predict(val.features).tolist()
    [0, 0, 1, 1]
    """
    scaled, mean, std = standardised(features)
    inputs, labels = _tensors(scaled, y)

    def fitted(weights: torch.Tensor, decay: float) -> Head:
        def loss(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            each = torch.nn.functional.cross_entropy(inputs @ weight.T + bias, labels, reduction="none")
            return (weights * each).sum() / weights.sum() + decay * (weight**2).sum()

        zeros = torch.zeros(n_classes, inputs.shape[1] + 1, dtype=torch.double)
        weight, bias = _minimised(loss, zeros[:, 1:], zeros[:, 0])
        return Head(weight / std, bias - weight / std @ mean, decay, None)

    def heads() -> Iterator[Head]:
        for first in _JTT_FIRST_DECAYS:
            wrong = torch.from_numpy(fitted(torch.ones(len(y)).double(), first).predict(features) != y)
            for upweight in _JTT_UPWEIGHTS:
                weights = torch.where(wrong, upweight, 1.0).double()
                yield from (fitted(weights, decay) for decay in _JTT_DECAYS)

    return best_head(heads(), held_out)


def halves(groups: Ints, seed: int) -> tuple[Ints, Ints]:
    """Positions of two halves that split every group evenly."""
    rng = np.random.default_rng((seed, 3))
    order = rng.permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    return np.sort(order[::2]), np.sort(order[1::2])


def _tensors(features: Floats, y: Ints) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(np.asarray(features, np.float64)), torch.from_numpy(np.asarray(y))


def _minimised(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], weight: torch.Tensor, bias: torch.Tensor
) -> tuple[Floats, Floats]:
    """The weight and bias that minimise a loss, starting from initial values."""
    values = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
    optimizer = torch.optim.LBFGS(values, max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(values[0], values[1])
        value.backward()
        return value

    optimizer.step(closure)
    return values[0].detach().numpy(), values[1].detach().numpy()


def standardised(features: Floats) -> tuple[Floats, Floats, Floats]:
    """(n, d) features scaled to mean 0 and standard deviation 1, and their original means and deviations, each (d,)."""
    mean, std = features.mean(0), features.std(0)
    std = np.where(std > 0, std, 1.0)
    return (features - mean) / std, mean, std


def best_head(heads: Iterator[Head], held_out: HeldOut) -> Head:
    """The head of the highest worst-group accuracy; the first among equals."""

    def worst(head: Head) -> float:
        right = head.predict(held_out.features) == held_out.y
        return min(float(right[held_out.cells == group].mean()) for group in np.unique(held_out.cells))

    return max(heads, key=worst)


def _averaged(heads: Sequence[Head], tuned: Head) -> Head:
    weight = np.mean([head.weight for head in heads], axis=0)
    bias = np.mean([head.bias for head in heads], axis=0)
    return Head(weight, bias, tuned.strength, tuned.held_out_accuracy)
