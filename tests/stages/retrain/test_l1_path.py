"""Paths of l1 fits: as good as liblinear's, at every strength, with weights, and whatever the features."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from slim.stages.retrain.l1_path import l1_path

STRENGTHS = (0.01, 0.1, 1.0, 10.0)


def drawn(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features that are at least zero, as those of a network, standardised; labels."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.5
    latent = rng.normal(size=(n, 16)) + np.where(y[:, None], rng.normal(size=16), 0)
    features = np.maximum(latent @ rng.normal(size=(16, d)) + 2 * rng.normal(size=(n, d)), 0)
    return (features - features.mean(0)) / features.std(0), y


def objective(
    features: np.ndarray, y: np.ndarray, weights: np.ndarray, strength: float, w: np.ndarray, b: float
) -> float:
    margins = np.where(y, 1, -1) * (features @ w + b)
    return float(np.abs(w).sum() + abs(b) + strength * weights @ np.logaddexp(0, -margins))


@pytest.mark.parametrize(("n", "d"), [(300, 400), (60, 200), (400, 8)], ids=["like", "more features", "more images"])
@pytest.mark.parametrize("ratio", [1.0, 30.0], ids=["equal weights", "unequal weights"])
def test_each_fit_is_as_good_as_that_of_liblinear_at_its_end(n: int, d: int, ratio: float) -> None:
    features, y = drawn(n, d)
    weights = np.where(y, ratio, 1.0) / (1 + ratio) * 2
    for strength, (w, b) in zip(STRENGTHS, l1_path(features, y, weights, STRENGTHS), strict=True):
        peer = LogisticRegression(
            l1_ratio=1.0, C=strength, solver="liblinear", tol=1e-7, max_iter=20_000, random_state=0
        ).fit(features, y, sample_weight=weights)
        best = objective(features, y, weights, strength, peer.coef_[0], float(peer.intercept_[0]))
        assert objective(features, y, weights, strength, w, b) <= 1.003 * best


def test_strengths_in_another_order_or_alone_give_fits_as_good() -> None:
    features, y = drawn(120, 60)
    weights = np.ones(120)
    path = dict(zip(STRENGTHS, l1_path(features, y, weights, STRENGTHS), strict=True))
    backwards = dict(zip(STRENGTHS[::-1], l1_path(features, y, weights, STRENGTHS[::-1]), strict=True))
    for strength in STRENGTHS:
        alone = next(l1_path(features, y, weights, [strength]))
        values = [
            objective(features, y, weights, strength, *fit) for fit in (path[strength], backwards[strength], alone)
        ]
        assert max(values) <= 1.003 * min(values)


def test_zero_features_and_a_penalty_that_keeps_nothing_give_zeros() -> None:
    features, y = drawn(40, 5)
    features[:, 2] = 0
    (none, bias), (some, _) = l1_path(features, y, np.ones(40), [1e-4, 1.0])
    assert not none.any()
    assert bias == 0
    assert some[2] == 0
    assert some.any()


def test_images_of_one_kind_only_move_the_bias() -> None:
    w, b = next(l1_path(np.zeros((6, 3)), np.ones(6, bool), np.ones(6), [10.0]))
    assert not w.any()
    # 1 = 10 * 6 / (1 + exp(b)) at the minimum
    assert b == pytest.approx(np.log(59), rel=0.05)


def test_features_that_part_the_classes_end_with_finite_weights() -> None:
    features = np.repeat([[-1.0, 1.0], [1.0, -1.0]], 10, axis=0)
    for w, b in l1_path(features, np.repeat([False, True], 10), np.ones(20), [1.0, 1e3, 1e6]):
        assert np.isfinite([*w, b]).all()
        assert (features[10:] @ w + b > 0).all()
