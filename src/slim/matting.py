"""From scores of places to object maps: an opacity for each cell, which the photo's colours and edges then correct."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d, pad

from slim.arrays import Bytes, Floats

SIDE = 64
"""Side of an object map."""

CUT = 0.53
"""The object begins this far from the background to the peak of its image's scores, if answers do not say more."""

_BACKGROUND = 0.3  # quantile of an image's scores: an object may cover more than half of the image

_STEEPNESS = 6.0
_COLOUR, _MOST, _SPREAD = 0.5, 2.0, 1e-3
_SURE, _REACH = 0.7, 6
_RADIUS, _SMOOTHNESS = 5, 1e-3
_LEAST = 0.02  # of an opacity, and of its complement, as odds


def relative_scores(scores: Floats) -> Floats:
    """Scores (n, h, w) relative to their own image: 0 in its background (their 30th percentile), 1 at its peak.

    Examples
    --------
    >>> relative_scores(np.arange(11.0).reshape(1, 1, 11))[0, 0, [0, 3, 10]].round(2).tolist()
    [-0.43, 0.0, 1.0]
    """
    background = np.quantile(scores, _BACKGROUND, axis=(1, 2), keepdims=True)
    return np.asarray((scores - background) / np.maximum(scores.max((1, 2), keepdims=True) - background, 1e-6))


def resized(maps: Floats, side: int) -> Floats:
    """Maps (n, h, w) interpolated to (n, side, side)."""
    tensor = torch.from_numpy(np.ascontiguousarray(maps, np.float32))[:, None]
    return interpolate(tensor, (side, side), mode="bilinear", align_corners=False)[:, 0].numpy()


def object_maps(scores: Floats, images: Tensor, cut: float = CUT) -> Bytes:
    """Object maps that follow the photo.

    Parameters
    ----------
    scores
        (b, g, g) scores of places.
    images
        uint8 (b, 3, SIDE, SIDE), the whole frames.
    cut
        Of the `Localizer` that made the scores.

    Returns
    -------
    ndarray of shape (b, SIDE, SIDE)
        uint8; above 127 = the object.

    Notes
    -----
    Places are coarse. First each cell's colour is compared with the object's colours and with the background's, then
    the edges are moved to those of the photo.

    References
    ----------
    C. Rother, V. Kolmogorov, A. Blake, "GrabCut", SIGGRAPH 2004, for a colour model of either side; one Gaussian and
    one round here. K. He, J. Sun, X. Tang, "Guided image filtering", IEEE TPAMI 2013.
    """
    relative = relative_scores(resized(scores, SIDE)) - cut
    opacity = torch.from_numpy(np.asarray(1 / (1 + np.exp(-_STEEPNESS * relative)), np.float32))[:, None]
    photos = images.float() / 255
    filtered = _guided(photos, _coloured(photos, opacity))[:, 0]
    return np.asarray((filtered.clamp(0, 1) * 255).round().to(torch.uint8))


def _coloured(photos: Tensor, opacity: Tensor) -> Tensor:
    """Opacity (b, 1, h, w), with half of what each cell's colour says for or against the object, in log odds.

    Only near what is surely the object does a colour speak for it: a bright thing elsewhere, such as a sticker, is as
    unlike the background as the object is.
    """
    for_object, against = (_colour_likelihood(photos, weights) for weights in (opacity, 1 - opacity))
    evidence = (_COLOUR * (for_object - against)).clamp(-_MOST, _MOST)
    near = max_pool2d((opacity > _SURE).float(), 2 * _REACH + 1, 1, _REACH) > 0
    return (opacity.clamp(_LEAST, 1 - _LEAST).logit() + torch.where(near, evidence, evidence.clamp(max=0))).sigmoid()


def _colour_likelihood(photos: Tensor, weights: Tensor) -> Tensor:
    """Log likelihood (b, 1, h, w) of colours under the Gaussian of those with weights, but for a constant."""
    shares = weights / weights.sum((2, 3), keepdim=True).clamp_min(1e-6)
    centred = photos - (shares * photos).sum((2, 3), keepdim=True)
    spread = {
        (i, j): (shares * centred[:, i : i + 1] * centred[:, j : j + 1]).sum((2, 3), keepdim=True) for i, j in _PAIRS
    }
    rows, determinant = _adjugate(spread, _SPREAD)
    distance = sum((row * centred).sum(1, keepdim=True) * centred[:, i : i + 1] for i, row in enumerate(rows))
    return -(distance / determinant + determinant.log()) / 2


def _guided(guide: Tensor, values: Tensor) -> Tensor:
    """Values (b, 1, h, w) filtered along the edges of a colour image (b, 3, h, w)."""
    mean, mean_value = _boxed(guide), _boxed(values)
    covariance = _boxed(guide * values) - mean * mean_value
    spread = {
        (i, j): _boxed(guide[:, i : i + 1] * guide[:, j : j + 1]) - mean[:, i : i + 1] * mean[:, j : j + 1]
        for i, j in _PAIRS
    }
    rows, determinant = _adjugate(spread, _SMOOTHNESS)
    slope = torch.cat([(row * covariance).sum(1, keepdim=True) for row in rows], 1) / determinant
    offset = mean_value - (slope * mean).sum(1, keepdim=True)
    return (_boxed(slope) * guide).sum(1, keepdim=True) + _boxed(offset)


_PAIRS = [(i, j) for i in range(3) for j in range(i, 3)]


def _adjugate(spread: dict[tuple[int, int], Tensor], ridge: float) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Rows (b, 3, h, w) of the adjugate of symmetric 3 x 3 matrices, and the determinants (b, 1, h, w).

    Written out, so that an image's numbers do not depend on how many others there are.
    """
    a, d, f = (spread[i, i] + ridge for i in range(3))
    b, c, e = spread[0, 1], spread[0, 2], spread[1, 2]
    rows = (
        torch.cat([d * f - e * e, c * e - b * f, b * e - c * d], 1),
        torch.cat([c * e - b * f, a * f - c * c, b * c - a * e], 1),
        torch.cat([b * e - c * d, b * c - a * e, a * d - b * b], 1),
    )
    return rows, a * rows[0][:, :1] + b * rows[0][:, 1:2] + c * rows[0][:, 2:]


def _boxed(values: Tensor) -> Tensor:
    """The mean of each pixel's square neighbourhood: differences of running sums, along one side and then the other."""
    width = 2 * _RADIUS + 1
    values = pad(values.contiguous(), (_RADIUS + 1, _RADIUS) * 2, mode="replicate")
    for side in (2, 3):
        sums, n = values.cumsum(side), values.shape[side] - width
        values = (sums.narrow(side, width, n) - sums.narrow(side, 0, n)) / width
    return values
