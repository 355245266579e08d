"""Image files of every kind as upright RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from slim.data import ImageTable
from slim.errors import DataError


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK", "I;16"])
def test_image_is_rgb_whatever_the_file_holds(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    grey = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8))
    wide = Image.fromarray(np.array([[0, 65535], [65535, 0]], dtype=np.uint16))
    (wide if mode == "I;16" else grey.convert("RGB").convert(mode)).save(path)
    image = ImageTable(pd.DataFrame({"path": [str(path)], "y": [0]}), ("a", "b")).image(0)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image)[..., 0] > 127, [[False, True], [True, False]])


def test_palette_image_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("P", (4, 4), 1).save(path, transparency=bytes([0, 128]))
    assert ImageTable(pd.DataFrame({"path": [str(path)], "y": [0]}), ("a", "b")).image(0).mode == "RGB"


def test_image_is_turned_upright_and_its_mask_must_fit_that(tmp_path: Path) -> None:
    image, exif = Image.new("RGB", (16, 12)), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "image.jpg", exif=exif)
    for name, size in (("upright.png", (12, 16)), ("stored.png", (16, 12))):
        Image.new("L", size, 255).save(tmp_path / name)
    paths = [str(tmp_path / "image.jpg")] * 2
    masks = [str(tmp_path / "upright.png"), str(tmp_path / "stored.png")]
    table = ImageTable(pd.DataFrame({"path": paths, "y": [0, 1], "mask": masks}), ("a", "b"))
    assert table.image(0).size == (12, 16)
    assert table.region(0, 4).all()
    with pytest.raises(DataError, match=r"image.jpg, 12 x 16 pixels. Got 16 x 12 in .*stored.png"):
        table.region(1, 4)


@pytest.mark.parametrize("damage", ["truncated", "text", "missing"])
def test_unreadable_image_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "image.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1500])
    elif damage == "text":
        path.write_text("no image")
    else:
        path.unlink()
    table = ImageTable(pd.DataFrame({"path": [str(path)], "y": [0]}), ("a", "b"))
    with pytest.raises(DataError, match=r"image\.jpg must be a readable image. Got: ") as caught:
        table.image(0)
    assert "\n" not in str(caught.value)
