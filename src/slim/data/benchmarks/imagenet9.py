"""ImageNet-9 and the Backgrounds Challenge (Xiao et al., 2021): nine coarse classes, tested on swapped backgrounds.

Training images come from ``in9l.tar.gz`` or ``original.tar.gz``, test images from
``backgrounds_challenge_data.tar.gz``, which unpacks to ``bg_challenge`` with a folder for each variation.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from slim.data.benchmarks.benchmark import WHOLE, Benchmark, Content
from slim.data.benchmarks.copies import Copy
from slim.data.benchmarks.download import RemoteFile
from slim.data.columns import listed
from slim.data.table import ImageTable
from slim.data.trees import files_below, is_image, subfolders
from slim.errors import DataError

_TEST = "bg_challenge"
_TEST_ARCHIVE = "backgrounds_challenge_data.tar.gz"
_FOLDER = re.compile(r"(\d+)_(.+)")


def read(copy: Copy, seed: int) -> Content:
    """Train and val of the training archive; test is the original variation, with the challenge's masks."""
    challenge = copy.need(_TEST, archives=(_TEST_ARCHIVE,))
    training = _training(copy, challenge)
    parts = {"train": training / "train", "val": training / "val", "test": challenge / "original" / "val"}
    frames = [_images(copy, folder).assign(split=split) for split, folder in parts.items()]
    frame = pd.concat(frames, ignore_index=True)
    frame["mask_filename"] = [_mask(Path(name), challenge) for name in frame["img_filename"]]
    return Content(frame, (challenge.parent, training.parent))


def variation_table(root: str | Path, name: str) -> ImageTable:
    """The test images of one variation, without masks.

    Parameters
    ----------
    root
        The folder with ``bg_challenge``, or with its archive.
    name
        Such as ``"mixed_rand"``.

    Raises
    ------
    DataError
        The variation is not there.
    """
    copy = Copy(IMAGENET9.title, Path(root), IMAGENET9.page)
    folder = copy.need(_TEST, archives=(_TEST_ARCHIVE,)) / name / "val"
    frame = _images(copy, folder)
    names = frame.drop_duplicates("y").sort_values("y")["class_name"]
    return ImageTable(frame.rename(columns={"img_filename": "path"})[["path", "y"]], tuple(names), split="test")


def _training(copy: Copy, challenge: Path) -> Path:
    """The folder with train and val; a folder `original` may be the challenge's, which has val alone."""
    for name in ("in9l", "original"):
        found = copy.find(name, archives=(f"{name}.tar.gz",))
        if found is not None and (found / "train").is_dir():
            return found
    raise DataError(
        f"{copy.title} must have training images, in in9l or original with train and val. Got {challenge} alone, which "
        f"holds test images. Get in9l.tar.gz from {copy.page} and put it there too."
    )


def _images(copy: Copy, folder: Path) -> pd.DataFrame:
    """The images in folders such as ``00_dog``, whose number is the label."""
    names = subfolders(folder) if folder.is_dir() else []
    matches = [match for name in names if (match := _FOLDER.fullmatch(name))]
    if not matches:
        raise DataError(
            f"{copy.title} must have folders of classes, such as 00_dog, in {folder}. Got {listed(names)}. "
            f"Unpack its archive again, or get it from {copy.page}."
        )
    rows = [
        (str(path), int(match[1]), match[2])
        for match in matches
        for path in files_below(folder / match[0])
        if is_image(path)
    ]
    return pd.DataFrame(rows, columns=["img_filename", "y", "class_name"])


def _mask(image: Path, challenge: Path) -> str:
    """The challenge's mask of an image; `""` without one, as in train and val."""
    mask = challenge / "fg_mask" / "val" / image.parent.name / f"{image.stem}.npy"
    return str(mask) if image.is_relative_to(challenge) and mask.exists() else ""


_CLASSES = ("dog", "bird", "wheeled vehicle", "reptile", "carnivore", "insect", "musical instrument", "primate", "fish")

IMAGENET9 = Benchmark(
    "ImageNet-9",
    read,
    None,
    {"test": {WHOLE: 4050, **dict.fromkeys(_CLASSES, 450)}},
    (
        RemoteFile(
            _TEST_ARCHIVE,
            (f"https://github.com/MadryLab/backgrounds_challenge/releases/download/data/{_TEST_ARCHIVE}",),
        ),
        RemoteFile(
            "in9l.tar.gz",
            (
                "https://www.dropbox.com/s/8w29bg9niya19rn/in9l.tar.gz?dl=1",
                "https://anonymousiclr3011.s3.us-east-2.amazonaws.com/in9l.tar.gz",
            ),
        ),
    ),
    "https://github.com/MadryLab/backgrounds_challenge",
    "The photographs are ImageNet's, for non-commercial research and education.",
)
