"""Image files of every kind as upright RGB."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import ExifTags, Image

from slim.data import ImageTable
from slim.data.pixels import mask_region, read_image, squared
from slim.errors import DataError, SlimWarning


def rgb(path: Path) -> npt.NDArray[np.uint8]:
    """The pixels of an image file, as a table reads them."""
    return np.asarray(ImageTable(pd.DataFrame({"path": [str(path)], "y": [0]}), ("a", "b")).image(0))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK", "I;16"])
def test_image_is_rgb_whatever_the_file_holds(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    grey = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8))
    wide = Image.fromarray(np.array([[0, 65535], [65535, 0]], dtype=np.uint16))
    (wide if mode == "I;16" else grey.convert("RGB").convert(mode)).save(path)
    image = ImageTable(pd.DataFrame({"path": [str(path)], "y": [0]}), ("a", "b")).image(0)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image)[..., 0] > 127, [[False, True], [True, False]])


def test_image_has_its_pixels_only_so_that_pictures_made_of_it_have_no_notes(tmp_path: Path) -> None:
    notes = Image.Exif()
    notes[0x010E] = "taken at home"
    Image.new("RGB", (12, 12)).save(tmp_path / "a.jpg", exif=notes, comment=b"by somebody", icc_profile=b"of somebody")
    read_image(str(tmp_path / "a.jpg")).save(tmp_path / "b.jpg")
    content = (tmp_path / "b.jpg").read_bytes()
    assert not any(note in content for note in (b"taken at home", b"by somebody", b"of somebody", b"Exif"))


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
    with pytest.raises(
        DataError, match=r"image.jpg, 12 x 16 pixels. Got 16 x 12 in .*stored.png. .*EXIF orientation, 6"
    ):
        table.region(1, 4)


@pytest.mark.parametrize(("orientation", "size"), [(6, (8, 8)), (3, (8, 6))], ids=["square", "upside down"])
def test_turned_photo_whose_mask_fits_both_ways_is_warned_about(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(tmp_path / "image.jpg", exif=exif)
    Image.new("L", size, 255).save(tmp_path / "plain.png")
    Image.new("L", size, 255).save(tmp_path / "turned.jpg", exif=exif)
    masks = [str(tmp_path / name) for name in ("plain.png", "turned.jpg")]
    box = {"box_x": 1, "box_y": 1, "box_width": 2, "box_height": 2}
    frame = pd.DataFrame({"path": [str(tmp_path / "image.jpg")] * 2, "y": [0, 1], "mask": masks, **box})
    table = ImageTable(frame, ("a", "b"))
    with pytest.warns(SlimWarning, match="turned by their EXIF orientation, and their masks"):
        table.region(0, 4)
    table.region(1, 4)  # a mask that is turned itself says how it is meant
    with pytest.warns(SlimWarning, match="turned by their EXIF orientation, and their boxes"):
        table.region(0, 4, "boxes")


RAMP = np.linspace(0, 1, 64).reshape(8, 8)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("8 of 16 bits.png", (RAMP * 255).astype(np.uint16)),
        ("12 of 16 bits.png", (RAMP * 4095).astype(np.uint16)),
        ("16 bits.png", (RAMP * 65535).astype(np.uint16)),
        ("big-endian.tif", (RAMP * 65535).astype(">u2")),
        ("integers.tif", (RAMP * 255).astype(np.int32)),
        ("12 of 32 bits.tif", (RAMP * 4095).astype(np.int32)),
        ("fractions.tif", RAMP.astype(np.float32)),
        ("floats.tif", (RAMP * 255).astype(np.float32)),
        ("missing.tif", np.where(RAMP == 0, np.nan, RAMP * 255).astype(np.float32)),
    ],
)
def test_grey_values_of_any_depth_fill_the_range(tmp_path: Path, name: str, values: npt.NDArray[Any]) -> None:
    Image.fromarray(values).save(tmp_path / name)
    np.testing.assert_allclose(rgb(tmp_path / name)[..., 0], RAMP * 255, atol=1)


@pytest.mark.parametrize("values", [RAMP * 2 - 1, RAMP * 1e6])
def test_grey_values_out_of_range_are_refused(tmp_path: Path, values: npt.NDArray[Any]) -> None:
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "image.tif")
    with pytest.raises(DataError, match=r"Grey values must be from 0 to 65535. Got .* in .*image\.tif"):
        rgb(tmp_path / "image.tif")


@pytest.mark.parametrize(("largest", "readable"), [(255, False), (4095, False), (65535, True)])
def test_colours_that_use_a_part_of_16_bits_are_refused(tmp_path: Path, largest: int, readable: bool) -> None:
    rows = [b"\0" + (row * largest).astype(">u2").repeat(3).tobytes() for row in RAMP]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"".join(rows)))]
    file = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in [*chunks, (b"IEND", b"")]:
        check = struct.pack(">I", zlib.crc32(kind + content))
        file += [struct.pack(">I", len(content)), kind, content, check]
    (tmp_path / "image.png").write_bytes(b"".join(file))
    if readable:
        np.testing.assert_allclose(rgb(tmp_path / "image.png")[..., 1], RAMP * 255, atol=1)
    else:
        with pytest.raises(DataError, match=r"16 bits per colour must use all of them. Got .* in .*image\.png"):
            rgb(tmp_path / "image.png")


@pytest.mark.parametrize("kind", ["RGBA", "palette", "grey", "colour key"])
def test_what_is_transparent_is_white(tmp_path: Path, kind: str) -> None:
    hidden, shown = (10, 20, 30), (200, 0, 0)
    image = Image.new("RGB", (4, 2), hidden)
    image.paste(shown, (0, 0, 2, 2))
    alpha = Image.new("L", (4, 2), 0)
    alpha.paste(255, (0, 0, 2, 2))
    path, options = tmp_path / "image.png", {}
    if kind == "palette":
        image = Image.fromarray(np.array([[1, 1, 0, 0]] * 2, dtype=np.uint8))
        image.putpalette([*hidden, *shown])
        options = {"transparency": 0}
    elif kind == "colour key":
        options = {"transparency": hidden}
    else:
        image = image.convert("RGB" if kind == "RGBA" else "L")
        image.putalpha(alpha)
    image.save(path, **options)
    pixels = rgb(path)
    assert (pixels[:, 2:] == 255).all()
    assert (pixels[:, :2] == (60 if kind == "grey" else shown)).all(), pixels[0, 0]


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
    if damage == "missing":
        assert str(caught.value).endswith("Got: no such file or directory. Check the path, or leave the image out.")


@pytest.mark.parametrize("bounds", [(0, 1), (-0.02, 1.03), (0, 1.0001)])
def test_fractions_may_overshoot_a_little(tmp_path: Path, bounds: tuple[float, float]) -> None:
    Image.fromarray(np.linspace(*bounds, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "image.tif")
    pixels = rgb(tmp_path / "image.tif")
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert 120 < pixels.mean() < 135


@pytest.mark.parametrize("name", ["image.png", "image.tif", "float.tif"])
def test_grey_values_that_would_come_out_black_are_refused(tmp_path: Path, name: str) -> None:
    values = np.arange(10).reshape(2, 5)
    Image.fromarray(values.astype(np.float32 if name == "float.tif" else np.uint16)).save(tmp_path / name)
    with pytest.raises(DataError, match=r"must fill 8, 12 or 16 bits. Got at most 9 in .*, which is black"):
        rgb(tmp_path / name)


def test_colours_of_12_bits_in_a_portable_pixmap_are_refused(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 12).astype(">u2")
    (tmp_path / "image.ppm").write_bytes(b"P6 2 2 65535\n" + values.tobytes())
    with pytest.raises(DataError, match="only the lower 12"):
        rgb(tmp_path / "image.ppm")


@pytest.mark.parametrize("array", [np.zeros((4, 4, 3)), np.zeros(4), np.zeros((0, 4)), np.zeros((4, 4), complex)])
def test_array_that_is_no_image_is_refused(tmp_path: Path, array: npt.NDArray[Any]) -> None:
    np.save(tmp_path / "image.npy", array)
    with pytest.raises(DataError, match=r"image\.npy must be a readable image. Got: an array of"):
        rgb(tmp_path / "image.npy")


@pytest.mark.parametrize("what", ["photo", "mask"])
def test_pages_of_a_tiff_file_beyond_the_first_are_told(tmp_path: Path, what: str) -> None:
    pages = [Image.new("L", (8, 6), grey) for grey in (255, 0)]
    pages[0].save(tmp_path / "photo.png")
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(SlimWarning, match="only the first page of each is read"):
        if what == "photo":
            assert rgb(tmp_path / "stack.tif").min() == 255
        else:
            assert mask_region(str(tmp_path / "stack.tif"), str(tmp_path / "photo.png"), 4).all()


@pytest.mark.parametrize(
    ("mode", "suffix", "orientation"),
    [("RGB", ".jpg", 1), ("RGB", ".jpg", 6), ("L", ".jpg", 1), ("CMYK", ".jpg", 1), ("RGB", ".mpo", 8)],
)
def test_camera_photo_is_decoded_small_and_looks_the_same(
    tmp_path: Path, mode: str, suffix: str, orientation: int
) -> None:
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (45, 60, 3), dtype=np.uint8)).resize(
        (1600, 1200), Image.Resampling.BICUBIC
    )
    noisy = np.clip(np.asarray(photo) + rng.normal(0, 8, (1200, 1600, 3)), 0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = str(tmp_path / f"photo{suffix}")
    options = {"save_all": True, "append_images": [photo]} if suffix == ".mpo" else {}
    Image.fromarray(noisy).convert(mode).save(path, quality=90, exif=exif, **options)
    whole, small = read_image(path), read_image(path, 64)
    assert whole.size == ((1600, 1200) if orientation == 1 else (1200, 1600))
    assert (small.width * 8, small.height * 8) == whole.size, "an eighth, still above twice 64 pixels"
    difference = np.abs(squared(small, 64).astype(int) - squared(whole, 64))
    assert difference.max() <= 6
    assert difference.mean() <= 1
    assert read_image(path, 400).size == whole.size, "half of it would be less than twice 400 pixels"
