"""Masks and boxes as regions of the resized frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.data.conftest import N, one_image, quick

from slim.data import load_dataset
from slim.errors import DataError, SlimWarning


def test_mask_region_is_aligned_with_the_resized_frame(tmp_path: Path) -> None:
    mask = np.zeros((12, 24), dtype=np.uint8)
    mask[:6, 16:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    table = one_image(tmp_path, np.zeros((12, 24, 3), dtype=np.uint8), mask=[str(tmp_path / "mask.png")])
    expected = np.zeros((6, 6), dtype=bool)
    expected[:3, 4:] = True
    np.testing.assert_array_equal(table.region(0, 6), expected)
    assert table.regions == "masks"


@pytest.mark.parametrize("kind", ["255", "1", "bool", "palette", "rgb", "16 bit", "soft"])
def test_mask_of_any_usual_kind_is_understood(tmp_path: Path, kind: str) -> None:
    inside = np.arange(48).reshape(6, 8) % 3 == 0
    whole = inside.astype(np.uint8)
    palette = Image.fromarray(whole)
    palette.putpalette([0, 0, 0, 128, 0, 0])
    mask = {
        "255": Image.fromarray(whole * 255),
        "1": Image.fromarray(whole),
        "bool": Image.fromarray(inside),
        "palette": palette,
        "rgb": Image.fromarray(whole * 255).convert("RGB"),
        "16 bit": Image.fromarray(whole.astype(np.uint16) * 65535),
        "soft": Image.fromarray(np.where(inside, 128, 127).astype(np.uint8)),
    }[kind]
    mask.save(tmp_path / "mask.png")
    table = one_image(tmp_path, np.zeros((6, 8, 3), dtype=np.uint8), mask=[str(tmp_path / "mask.png")])
    np.testing.assert_array_equal(table.region(0, 24)[::4, ::3], inside)


@pytest.mark.parametrize("kind", ["palette", "white at 0", "colour", "cut-out", "clear palette"])
def test_mask_in_colours_or_in_the_alpha_channel_is_understood(tmp_path: Path, kind: str) -> None:
    inside = np.zeros((6, 8), dtype=bool)
    inside[1:4, 2:5] = True
    whole = inside.astype(np.uint8)
    if kind == "colour":
        mask = Image.fromarray(whole[..., None] * np.array([0, 90, 0], dtype=np.uint8))
    elif kind == "cut-out":
        photo = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        mask = Image.fromarray(np.dstack([photo, whole * 255]))
    else:
        mask = Image.fromarray(whole if kind != "white at 0" else 1 - whole)
        mask.putpalette({"palette": [0, 0, 0, 220, 220, 0], "white at 0": [255] * 3 + [0] * 3}.get(kind, [9, 9, 9] * 2))
    mask.save(tmp_path / "mask.png", **({"transparency": 0} if kind == "clear palette" else {}))
    table = one_image(tmp_path, np.zeros((6, 8, 3), dtype=np.uint8), mask=[str(tmp_path / "mask.png")])
    np.testing.assert_array_equal(table.region(0, 24)[::4, ::3], inside)


@pytest.mark.parametrize("kind", ["void border", "classes", "on white"])
def test_mask_of_several_colours_is_refused(tmp_path: Path, kind: str) -> None:
    numbers = np.zeros((6, 8), dtype=np.uint8)
    numbers[1:5, 1:5], numbers[2:4, 2:4] = 2, 1
    colours = {
        "void border": [(0, 0, 0), (64, 0, 128), (224, 224, 192)],
        "classes": [(0, 0, 0), (70, 130, 180), (220, 20, 60)],
        "on white": [(255, 255, 255), (255, 0, 0), (255, 0, 0)],
    }[kind]
    mask = Image.fromarray(numbers)
    mask.putpalette([value for colour in colours for value in colour])
    (mask if kind == "void border" else mask.convert("RGB")).save(tmp_path / "mask.png")
    table = one_image(tmp_path, np.zeros((6, 8, 3), dtype=np.uint8), mask=[str(tmp_path / "mask.png")])
    with pytest.raises(DataError, match=r"must have one colour on black. Got [23] colours in .*mask\.png"):
        table.region(0, 4)


def test_object_of_a_pixel_is_not_lost(tmp_path: Path) -> None:
    mask = np.zeros((100, 200), dtype=np.uint8)
    mask[70, 30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    table = one_image(tmp_path, np.zeros((100, 200, 3), dtype=np.uint8), mask=[str(tmp_path / "mask.png")])
    assert np.argwhere(table.region(0, 10)).tolist() == [[7, 1]]


def test_mask_of_nothing_is_empty(tmp_path: Path) -> None:
    Image.new("L", (8, 6)).save(tmp_path / "mask.png")
    table = one_image(tmp_path, np.zeros((6, 8, 3), dtype=np.uint8), mask=[str(tmp_path / "mask.png")])
    assert not table.region(0, 4).any()


def test_mask_of_several_dark_values_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1, 2, 3]], dtype=np.uint8)).save(tmp_path / "mask.png")
    table = one_image(tmp_path, np.zeros((1, 3, 3), dtype=np.uint8), mask=[str(tmp_path / "mask.png")])
    with pytest.raises(DataError, match=r"0 and 1, or 0 and 255. Got several values up to 3"):
        table.region(0, 4)


def test_image_without_mask_is_allowed_until_its_region_is_needed(files: Path, frame: pd.DataFrame) -> None:
    frame["own"] = ["" if i % 2 else f"{i:02}_mask.png" for i in range(N)]
    table = load_dataset(frame, root=files, mask="own").train
    assert table.has_region.tolist() == [True, False] * 6
    assert table.region(0, 5).shape == (5, 5)
    with pytest.raises(DataError, match=r"01.png must have a mask .*table\[table.has_region\]"):
        table.region(1, 5)
    with pytest.raises(DataError, match="must have a box"):
        table.region(0, 5, kind="boxes")


def test_mask_column_without_any_mask_is_no_mask_column(files: Path, frame: pd.DataFrame) -> None:
    table = load_dataset(frame.assign(mask_filename=np.nan), root=files).train
    assert table.regions is None
    assert not table.has_region.any()


def test_box_rows_are_y_and_columns_are_x(tmp_path: Path) -> None:
    box = {"box_x": [20.0], "box_y": [0.0], "box_width": [10.0], "box_height": [10.0]}
    table = one_image(tmp_path, np.zeros((20, 40, 3), dtype=np.uint8), **box)
    expected = np.zeros((4, 4), dtype=bool)
    expected[0:2, 2] = True  # upper half, third quarter from the left
    expected[0:2, 3] = False
    np.testing.assert_array_equal(table.region(0, 4), expected)
    assert table.regions == "boxes"
    assert table.has_region.all()


@quick
@given(data=st.data(), size=st.sampled_from([1, 2, 4, 8, 16, 64]))
def test_box_region_equals_that_of_the_same_box_drawn_as_a_mask(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, size: int
) -> None:
    folder = tmp_path_factory.mktemp("box")
    x, y = data.draw(st.integers(0, 15)), data.draw(st.integers(0, 7))
    width, height = data.draw(st.integers(1, 16 - x)), data.draw(st.integers(1, 8 - y))
    mask = np.zeros((8, 16), dtype=np.uint8)
    mask[y : y + height, x : x + width] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    box = {"box_x": [x], "box_y": [y], "box_width": [width], "box_height": [height]}
    table = one_image(folder, np.zeros((8, 16, 3), dtype=np.uint8), mask=[str(folder / "mask.png")], **box)
    by_mask, by_box = table.region(0, size), table.region(0, size, kind="boxes")
    np.testing.assert_array_equal(by_box, by_mask)


def test_tiny_box_covers_one_pixel_and_box_beyond_the_edge_is_cut(tmp_path: Path) -> None:
    box = {"box_x": [38.0], "box_y": [0.1], "box_width": [6.0], "box_height": [0.1]}
    table = one_image(tmp_path, np.zeros((20, 40, 3), dtype=np.uint8), **box)
    with pytest.warns(SlimWarning, match="reach far beyond their photos"):
        assert np.argwhere(table.region(0, 4)).tolist() == [[0, 3]]


def test_box_outside_its_image_is_refused(tmp_path: Path) -> None:
    box = {"box_x": [40.0], "box_y": [0.0], "box_width": [5.0], "box_height": [5.0]}
    table = one_image(tmp_path, np.zeros((20, 40, 3), dtype=np.uint8), **box)
    with pytest.raises(DataError, match="must overlap its image .*40 x 20 pixels. Got x 40"):
        table.region(0, 4)


def region_of(folder: Path, mask: npt.NDArray[Any], name: str = "mask.png") -> npt.NDArray[np.bool_]:
    """The region that a mask of a 16 x 16 image gives."""
    if name.endswith(".npy"):
        np.save(folder / name, mask)
    else:
        Image.fromarray(mask).save(folder / name)
    photo = np.zeros((16, 16, 3), dtype=np.uint8)
    return one_image(folder, photo, mask=[str(folder / name)]).region(0, 16)


@pytest.mark.parametrize("levels", [(0, 100, 200), (0, 15, 255), (150, 200, 200)], ids=["objects", "border", "grey"])
def test_mask_that_may_number_several_objects_is_refused(tmp_path: Path, levels: tuple[int, int, int]) -> None:
    outside, left, right = levels
    mask = np.full((16, 16), outside, dtype=np.uint8)
    mask[2:14, 2:12], mask[2:14, 12:14] = left, right
    with pytest.raises(DataError, match=r"Got .* in .*mask\.png, which may number several objects"):
        region_of(tmp_path, mask)


def test_soft_edges_noise_and_votes_of_annotators_are_no_objects(tmp_path: Path) -> None:
    inside = np.zeros((16, 16), dtype=bool)
    inside[3:13, 3:13] = True
    soft = np.zeros((16, 16), dtype=np.uint8)
    soft[2:14, 2:14], soft[3:13, 3:13] = 90, 255
    votes = np.where(inside, 204, 51).astype(np.uint8)
    noisy = np.where(inside, 252, np.random.default_rng(0).integers(0, 4, (16, 16))).astype(np.uint8)
    for mask in (soft, votes, noisy):
        np.testing.assert_array_equal(region_of(tmp_path, mask), inside)


@pytest.mark.parametrize("axis", [0, 2])
def test_mask_in_an_array_may_have_one_channel(tmp_path: Path, axis: int) -> None:
    inside = np.zeros((16, 16), dtype=bool)
    inside[2:5, 7:9] = True
    np.testing.assert_array_equal(region_of(tmp_path, np.expand_dims(inside, axis), "mask.npy"), inside)


@pytest.mark.parametrize(
    ("box", "message"),
    [((20, 10, 30, 30), "less than a quarter of it inside"), ((12, 9, 16, 12), "less than a quarter")],
    ids=["corner", "edge"],
)
def test_box_that_is_mostly_outside_its_image_is_refused(
    tmp_path: Path, box: tuple[int, int, int, int], message: str
) -> None:
    columns = dict(zip(("box_x", "box_y", "box_width", "box_height"), ([value] for value in box), strict=True))
    with pytest.raises(DataError, match=message):
        one_image(tmp_path, np.zeros((12, 24, 3), dtype=np.uint8), **columns).region(0, 8)
