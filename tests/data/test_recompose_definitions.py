"""Erasing and putting together, against their definitions written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slim.arrays import Floats
from slim.data.recompose import compose, erase_objects


def _images(size: int, seed: int = 0) -> torch.Tensor:
    """Two random images with maps that have an object, an edge and a background."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, 4, size, size), dtype=torch.uint8, generator=generator)
    images[:, 3] = 0
    images[0, 3, size // 4 : size // 2, size // 5 : size // 2] = 255
    images[1, 3, -size // 3 :, : size // 3] = 130
    images[1, 3, -size // 4 :, : size // 4] = 255
    return images


def _opacity(maps: Floats) -> Floats:
    """0.5 at half of the values, and four times as steep as the map."""
    return np.clip(0.5 + 4 * (maps / 255 - 0.5), 0, 1)


def _halved(values: Floats) -> Floats:
    """(c, h, w) means of 2 x 2 pixels, of fewer at an odd end."""
    rows, columns = (-length % 2 for length in values.shape[1:])
    padded = np.pad(values, [(0, 0), (0, rows), (0, columns)], constant_values=np.nan)
    c, h, w = padded.shape
    return np.nanmean(padded.reshape(c, h // 2, 2, w // 2, 2), axis=(2, 4))


def _resized(values: Floats, shape: tuple[int, ...]) -> Floats:
    size = (shape[-2], shape[-1])
    tensor = torch.from_numpy(values)[None]
    return torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False)[0].numpy()


def _filled(pixels: Floats, known: Floats) -> Floats:
    """What is not known is taken from the means of the known pixels at half the resolution, filled in the same way."""
    if min(pixels.shape[1:]) == 1:
        return pixels
    share = _halved(known)
    coarse = _filled(_halved(pixels * known) / np.maximum(share, 1e-6), np.minimum(2 * share, 1))
    finer = _resized(coarse, pixels.shape)
    return known * pixels + (1 - known) * finer


def _erased(image: Floats) -> Floats:
    """The object and a thirty-second of the side around it, filled at half the resolution."""
    size = image.shape[-1]
    margin, half = -(-size // 32), -(-size // 2)
    opacity, hole = _opacity(image[3]), np.zeros((1, half, half))
    for row in range(half):
        for column in range(half):
            rows = slice(max(2 * row - margin, 0), 2 * row + margin + 2)
            columns = slice(max(2 * column - margin, 0), 2 * column + margin + 2)
            hole[0, row, column] = opacity[rows, columns].max()
    filled = _resized(_filled(_halved(image[:3]), 1 - hole), image.shape)
    hole = _resized(hole, image.shape)
    return image[:3] * (1 - hole) + filled * hole


@pytest.mark.parametrize("size", [20, 33, 48])
def test_objects_are_erased_as_defined(size: int) -> None:
    images = _images(size)
    before = images.clone()
    expected = np.stack([_erased(image) for image in images.numpy().astype(np.float64)])
    np.testing.assert_allclose(erase_objects(images).numpy(), expected, atol=0.01)
    assert torch.equal(images, before)


def test_recomposed_image_is_the_object_over_the_erased_donor() -> None:
    objects, donors = _images(33), _images(33, seed=1).flip(0)
    objects[:, 3, :3] = torch.arange(66, 165, dtype=torch.uint8).reshape(3, 33)  # the edge, and some around it
    opacity = _opacity(objects[:, 3:].numpy().astype(np.float64))
    background = erase_objects(donors).numpy().astype(np.float64)
    expected = background * (1 - opacity) + objects[:, :3].numpy() * opacity
    found = compose(objects, donors).numpy()
    np.testing.assert_allclose(found, expected, atol=0.51)
    assert found.shape == (2, 3, 33, 33)
