"""Recomposed images: whose object, whose background, and the same ones every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from slim.arrays import Bytes
from slim.data import ImageTable, Recomposition, image_batches, recomposed_batches
from slim.errors import DataError, SettingsError

WIDTH, HEIGHT, SIZE = 60, 36, 48
N = 6
BACKGROUNDS = [(20 + 30 * i, 40, 60) for i in range(N)]
OBJECTS = [(40, 100 + 25 * i, 220) for i in range(N)]


@pytest.fixture
def scene(tmp_path: Path) -> tuple[ImageTable, Bytes]:
    """Photos, wider than high, of a rectangle before a plain background, all of different colours; and their maps."""
    maps = np.zeros((N, HEIGHT, WIDTH), np.uint8)
    paths = []
    for i in range(N):
        top, left = 4 + 2 * i, 6 + 5 * i
        maps[i, top : top + 14, left : left + 18] = 255
        pixels = np.where(maps[i, ..., None] > 0, np.uint8(OBJECTS[i]), np.uint8(BACKGROUNDS[i]))
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(pixels).save(paths[-1])
    frame = pd.DataFrame({"path": paths, "y": np.arange(N) % 2})
    return ImageTable(frame, ("cat", "dog")), maps


def all_of(table: ImageTable, recomposition: Recomposition, size: int = SIZE, **options: Any) -> Tensor:
    return torch.cat([images for images, _, _ in recomposed_batches(table, recomposition, size, **options)])


def inner(maps: Bytes, size: int, value: int) -> Tensor:
    """Pixels whose neighbourhood has this value in the resized map: edges are left out."""
    resized = np.stack([np.asarray(Image.fromarray(one).resize((size, size))) for one in maps])
    same = torch.from_numpy((resized == value).astype(np.float32))[:, None]
    return -torch.nn.functional.max_pool2d(-same, 5, 1, 2)[:, 0] == 1


def test_object_stays_and_everything_else_is_the_donors_background(scene: tuple[ImageTable, Bytes]) -> None:
    table, maps = scene
    recomposition = Recomposition(maps)
    batches = list(recomposed_batches(table, recomposition, SIZE, 4, seed=3, epoch=2))
    images = torch.cat([images for images, _, _ in batches])
    assert (images.dtype, images.shape) == (torch.uint8, (N, 3, SIZE, SIZE))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.cat([y for _, y, _ in batches]).tolist() == table.y.tolist()
    assert torch.cat([index for *_, index in batches]).tolist() == list(range(N))
    donors = recomposition.draw_donors(np.arange(N), 3, 2)
    assert len(set(donors.tolist()) - {0}) > 1
    on, off = inner(maps, SIZE, 255), inner(maps, SIZE, 0)
    for image, own, donor, inside, outside in zip(images, range(N), donors, on, off, strict=True):
        assert (image[:, inside].T - torch.tensor(OBJECTS[own]) == 0).all()
        # Nothing is left of the donor's object, nor of the background that the object came from.
        assert (image[:, outside].T.int() - torch.tensor(BACKGROUNDS[donor])).abs().max() <= 1


def test_hole_of_an_object_that_fills_the_photo_is_filled_with_something(scene: tuple[ImageTable, Bytes]) -> None:
    table, maps = scene
    everywhere, nowhere = np.full_like(maps, 255), np.zeros_like(maps)
    whole = torch.cat([images for images, _, _ in image_batches(table, SIZE)])
    assert torch.equal(all_of(table, Recomposition(everywhere)), whole)
    donors = Recomposition(nowhere).draw_donors(np.arange(N), 0, 0)
    assert torch.equal(all_of(table, Recomposition(nowhere)), whole[donors])


def test_images_depend_on_seed_and_epoch_and_not_on_batches(scene: tuple[ImageTable, Bytes]) -> None:
    table, maps = scene
    recomposition, order = Recomposition(maps), [3, 1, 3, 0, 5, 2]
    options: dict[str, Any] = {"order": order, "augmentation": "light", "seed": 5, "epoch": 2}
    expected = all_of(table, recomposition, **options)
    assert torch.equal(all_of(table, recomposition, batch_size=1, **options), expected)
    assert not torch.equal(expected[0], expected[2])  # a copy has another donor and another crop
    for start in (1, 4):
        options |= {"order": order[start:], "before": order[:start]}
        assert torch.equal(all_of(table, recomposition, batch_size=2, **options), expected[start:])
    for change in ({"seed": 6}, {"epoch": 3}):
        assert not torch.equal(all_of(table, recomposition, **{**options, **change}), expected[4:])


def test_batches_can_be_gone_through_twice_and_are_counted(scene: tuple[ImageTable, Bytes]) -> None:
    batches = recomposed_batches(scene[0], Recomposition(scene[1]), 8, 4)
    assert len(batches) == len(list(batches)) == 2
    assert torch.equal(next(iter(batches))[0], next(iter(batches))[0])


def test_donors_are_of_any_of_another_or_of_the_same_part() -> None:
    maps, parts = np.zeros((30, 4, 4), np.uint8), np.repeat([0, 1, 4], 10)
    order = np.random.default_rng(0).integers(0, 30, 3000)
    drawn = {
        kind: Recomposition(maps, kind, None if kind == "any" else parts).draw_donors(order, 0, 1)
        for kind in ("any", "other", "same")
    }
    own = parts[order]
    assert (parts[drawn["other"]] != own).all()
    assert (parts[drawn["same"]] == own).all()
    assert abs((parts[drawn["any"]] == own).mean() - 1 / 3) < 0.05
    for donors in drawn.values():  # each about equally often
        counts = np.bincount(donors, minlength=30)
        assert counts.min() > 60
        assert counts.max() < 140


def test_part_of_a_recomposition_has_only_its_own_donors(scene: tuple[ImageTable, Bytes]) -> None:
    table, maps = scene
    index = np.array([4, 1, 4])
    some = Recomposition(maps, "other", table.y)[index]
    np.testing.assert_array_equal(some.maps, maps[index])
    assert some.parts is not None
    assert some.parts.tolist() == [0, 1, 0]
    assert set(some.draw_donors(np.zeros(50, np.int64), 0, 0).tolist()) == {1}


def test_map_is_cropped_and_flipped_with_its_image(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:20, 8:30] = 255
    Image.fromarray(np.dstack([mask] * 3)).save(tmp_path / "mask.png")
    table = ImageTable(pd.DataFrame({"path": [str(tmp_path / "mask.png")], "y": [0]}), ("cat", "dog"))
    batches = image_batches(table, SIZE, 40, order=[0] * 40, augmentation="light", maps=mask[None])
    (images, _, _) = next(iter(batches))
    assert images.shape == (40, 4, SIZE, SIZE)
    assert torch.equal(images[:, 3], images[:, 0])
    assert len(torch.unique(images, dim=0)) == 40


def test_object_and_background_are_augmented_independently(tmp_path: Path) -> None:
    across = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    Image.fromarray(np.dstack([across] * 3)).save(tmp_path / "ramp.png")
    table = ImageTable(pd.DataFrame({"path": [str(tmp_path / "ramp.png")], "y": [0]}), ("cat", "dog"))
    below = np.zeros((1, 64, 64), np.uint8)
    below[:, 32:] = 255
    images = all_of(table, Recomposition(below), order=[0] * 60, augmentation="light", batch_size=60).int()
    flipped = (images[:, 0, :, -1] < images[:, 0, :, 0])[:, [4, -4]]  # of the background, and of the object
    assert 10 < int((flipped[:, 0] == flipped[:, 1]).sum()) < 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"donors": "all"}, "donors must be one of any, other, same. Got 'all'"),
        ({"donors": "other"}, "Each of the 6 images must have a part. Got none"),
        ({"donors": "same", "parts": np.zeros(5, np.int64)}, "Each of the 6 images must have a part. Got 5"),
        ({"donors": "other", "parts": np.zeros(6, np.int64)}, "another part to take backgrounds from. Got one part"),
    ],
)
def test_recomposition_refuses_what_it_cannot_do(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, SettingsError), match=message):
        Recomposition(np.zeros((N, 4, 4), np.uint8), **arguments)


def test_every_image_needs_a_map(scene: tuple[ImageTable, Bytes]) -> None:
    with pytest.raises(DataError, match="Each of the 6 images must have an object map. Got 4 maps"):
        recomposed_batches(scene[0], Recomposition(scene[1][:4]), 8)


def test_digest_changes_with_whatever_changes_the_images(scene: tuple[ImageTable, Bytes]) -> None:
    table, maps = scene
    other = maps.copy()
    other[2, 3, 3] ^= 1
    parts = table.y
    made = [
        Recomposition(maps),
        Recomposition(other),
        Recomposition(maps, "same", parts),
        Recomposition(maps, "other", parts),
        Recomposition(maps, "same", 1 - parts),
    ]
    assert len({one.digest() for one in made}) == len(made)
    assert Recomposition(maps.copy()).digest() == made[0].digest()
