"""Object maps follow the colours and the edges of their photos."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import maximum_filter
from scipy.stats import multivariate_normal

from slim.arrays import Floats
from slim.matting import CUT, SIDE, object_maps, relative_scores

GRID = 16


def _windows(values: Floats) -> Floats:
    """(h, w, ..., 121) the 11 x 11 pixels around each pixel; beyond the border, the border's."""
    width = [(5, 5), (5, 5)] + [(0, 0)] * (values.ndim - 2)
    windows = sliding_window_view(np.pad(values, width, mode="edge"), (11, 11), axis=(0, 1))
    return windows.reshape(*windows.shape[:-2], 121)


def _guided(photo: Floats, values: Floats) -> Floats:
    """The guided filter by its definition: in each window, values are a linear function of the colours."""
    colours, targets = _windows(photo), _windows(values)
    mean, mean_value = colours.mean(-1), targets.mean(-1)
    covariance = np.einsum("hwik,hwjk->hwij", colours, colours) / 121 - mean[..., None] * mean[..., None, :]
    with_values = np.einsum("hwik,hwk->hwi", colours, targets) / 121 - mean * mean_value[..., None]
    slope = np.linalg.solve(covariance + 1e-3 * np.eye(3), with_values[..., None])[..., 0]
    offset = mean_value - (slope * mean).sum(-1)
    return (_windows(slope).mean(-1) * photo).sum(-1) + _windows(offset).mean(-1)


def _coloured(photo: Floats, opacity: Floats) -> Floats:
    """Half of what the Gaussians of the colours of both sides say, at most 2, added to the log odds.

    More than 6 cells from where the opacity exceeds 0.7, it is added only where it speaks against the object.
    """
    pixels = photo.reshape(-1, 3)
    likelihoods = []
    for weights in (opacity.ravel(), 1 - opacity.ravel()):
        covariance = np.cov(pixels.T, aweights=weights, ddof=0) + 1e-3 * np.eye(3)
        mean = np.average(pixels, axis=0, weights=weights)
        likelihoods.append(multivariate_normal(mean, covariance).logpdf(pixels).reshape(opacity.shape))
    clipped = opacity.clip(0.02, 0.98)
    evidence = (0.5 * (likelihoods[0] - likelihoods[1])).clip(-2, 2)
    near = maximum_filter(opacity > 0.7, 13, mode="constant")
    odds = np.log(clipped / (1 - clipped)) + np.where(near, evidence, np.minimum(evidence, 0))
    return 1 / (1 + np.exp(-odds))


@pytest.mark.parametrize("options", [{}, {"cut": 0.3}, {"cut": -0.7}])  # the last one leaves the range
def test_map_is_the_opacity_of_the_scores_along_the_edges_of_the_photo(options: dict[str, float]) -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=generator)
    photos = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3)
    scores = np.random.default_rng(0).normal(size=(2, 8, 8)).repeat(2, 1).repeat(2, 2)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(scores)[:, None], (SIDE, SIDE), mode="bilinear", align_corners=False
    )
    maps = object_maps(scores, photos, **options)
    for found, photo, one in zip(maps, photos.numpy() / 255, resized[:, 0].numpy(), strict=True):
        background = np.quantile(one, 0.3)
        relative = (one - background) / (one.max() - background)
        opacity = 1 / (1 + np.exp(-6 * (relative - options.get("cut", 0.53))))
        colours = photo.transpose(1, 2, 0)
        expected = _guided(colours, _coloured(colours, opacity))
        assert (expected.max() > 1.01) == (options == {"cut": -0.7})
        np.testing.assert_allclose(found, 255 * expected.clip(0, 1), atol=1)


def test_map_is_the_object_and_its_edge_is_that_of_the_photo() -> None:
    scores = np.zeros((2, GRID, GRID), np.float32)
    scores[:, 4:12, 4:12] = 1
    edge = 45  # of the photo; that of the scores lies at 48
    photos = torch.full((2, 3, SIDE, SIDE), 128, dtype=torch.uint8)
    photos[0, :, :, :edge] = 230
    maps = object_maps(scores, photos)
    assert (maps.dtype, maps.shape) == (np.uint8, (2, SIDE, SIDE))
    assert (maps[:, 24:40, 24:40] > 127).all()
    assert (maps[:, :8] < 127).all()
    across = np.diff(maps[:, 32].astype(int), axis=1)
    assert across[0].argmin() == edge - 1
    assert -across[0].min() > 2 * -across[1].min()


def test_map_does_not_depend_on_the_scale_of_the_scores() -> None:
    scores = np.random.default_rng(0).normal(size=(3, GRID, GRID)).astype(np.float32)
    photos = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    difference = object_maps(scores, photos).astype(int) - object_maps(100 * scores - 7, photos)
    assert np.abs(difference).max() <= 1
    assert 0 < (relative_scores(scores) > CUT).mean() < 0.5


def test_map_grows_over_the_colours_of_the_object_and_recedes_from_those_of_the_background() -> None:
    scores = np.zeros((1, GRID, GRID), np.float32)
    scores[:, 4:12, 6:14] = 1  # the object lies from 4 to 12, both ways
    photo = torch.full((1, 3, SIDE, SIDE), 60, dtype=torch.uint8)
    photo[:, 0, 16:48, 16:48] = 200
    grey, coloured = object_maps(scores, torch.full_like(photo, 60))[0], object_maps(scores, photo)[0]
    assert not (grey[20:44, 21:24] > 127).any()
    assert (coloured[20:44, 22:24] > 127).all()
    assert (coloured[20:44, 21:24] > grey[20:44, 21:24].astype(int) + 15).all()
    assert (coloured[28:36, 50:55] < grey[28:36, 50:55]).all()


def test_something_bright_elsewhere_is_not_taken_for_the_object_because_of_its_colour() -> None:
    scores = np.zeros((1, GRID, GRID), np.float32)
    scores[:, 8:13, 8:13] = 1
    scores[:, 1:3, 1:3] = 0.3  # not quite enough
    photo = torch.full((1, 3, SIDE, SIDE), 60, dtype=torch.uint8)
    photo[:, 0, 32:52, 32:52] = 200
    photo[:, 0, 4:12, 4:12] = 200
    maps = object_maps(scores, photo)[0]
    assert (maps[34:50, 34:50] > 127).all()
    assert not (maps[:16, :16] > 127).any()


def test_map_does_not_depend_on_the_images_beside_it() -> None:
    scores = np.random.default_rng(0).normal(size=(9, GRID, GRID)).astype(np.float32)
    photos = torch.randint(0, 256, (9, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    together = object_maps(scores, photos)
    alone = [object_maps(scores[[i]], photos[[i]])[0] for i in range(9)]
    np.testing.assert_array_equal(together, np.stack(alone))
