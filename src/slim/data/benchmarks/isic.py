"""ISIC 2018, tasks 1 and 2: benign or malignant lesions, with the artefacts that Bissoto et al. (2020) annotated.

The layout is that of the challenge for images and masks, and of the repository debiasing-skin for ``isic_bias.csv``:
a column for each artefact, among them ``patches``, the coloured stickers beside a lesion, which are the spurious
attribute here. Neither publishes a split of all images, so one is drawn.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from slim.data.benchmarks.benchmark import EVERYTHING, WHOLE, Benchmark, Content
from slim.data.benchmarks.copies import Copy
from slim.data.benchmarks.download import RemoteFile
from slim.data.columns import listed
from slim.data.splits import carve
from slim.errors import DataError
from slim.files import read_cells

_IMAGES = "ISIC2018_Task1-2_Training_Input"
_MASKS = "ISIC2018_Task1_Training_GroundTruth"
_ARTEFACTS = ("patches", "dark_corner", "hair", "gel_border", "gel_bubble", "ruler", "ink")
_CLASSES = {"0": "benign", "1": "malignant"}


def read(copy: Copy, seed: int) -> Content:
    """The annotated images with the lesion masks of task 1, in splits stratified by diagnosis and patches."""
    path = copy.need("isic_bias.csv")
    table = read_cells(path)
    absent = [column for column in ("image", "label", *_ARTEFACTS) if column not in table]
    if absent:
        raise DataError(
            f"{path} must have the columns image, label, {', '.join(_ARTEFACTS)}. Got {listed(table.columns)}. "
            "Copy the file again."
        )
    coded = table[["label", *_ARTEFACTS]]
    for row, column in np.argwhere(~coded.isin(["0", "1"]).to_numpy())[:1]:
        raise DataError(
            f"Column {coded.columns[column]!r} of {path} must hold 0 and 1. Got {coded.iat[row, column]!r}. "
            "Copy the file again."
        )
    images = copy.need(_IMAGES, archives=(f"{_IMAGES}.zip",))
    masks = copy.find(_MASKS, archives=(f"{_MASKS}.zip",))
    ids = table["image"].str.rpartition(".")[0]  # the table says .png, the challenge has .jpg
    frame = table[list(_ARTEFACTS)].assign(
        img_filename=ids + ".jpg", y=table["label"], class_name=table["label"].map(_CLASSES)
    )
    if masks is not None:
        held = {path.name for path in masks.glob("*_segmentation.png")}
        names = [f"{name}_segmentation.png" for name in ids]
        frame["mask_filename"] = [str(masks / name) if name in held else "" for name in names]
    groups = pd.factorize(table["label"] + table["patches"], sort=True)[0]
    homes = (images, *([] if masks is None else [masks.parent]))
    return Content(frame.assign(split=carve(groups, ids.tolist(), seed)), homes)


_CHALLENGE = "https://isic-challenge-data.s3.amazonaws.com/2018"

ISIC = Benchmark(
    "ISIC 2018 with annotated artefacts",
    read,
    "patches",
    {EVERYTHING: {WHOLE: 2594}},
    (
        RemoteFile(
            "isic_bias.csv",
            (
                "https://raw.githubusercontent.com/alceubissoto/debiasing-skin/master/artefacts-annotation/isic_bias.csv",
                "https://github.com/alceubissoto/debiasing-skin/raw/master/artefacts-annotation/isic_bias.csv",
            ),
        ),
        RemoteFile(f"{_IMAGES}.zip", (f"{_CHALLENGE}/{_IMAGES}.zip",)),
        RemoteFile(f"{_MASKS}.zip", (f"{_CHALLENGE}/{_MASKS}.zip",), needed=False),
    ),
    "https://challenge.isic-archive.com/data (images) and https://github.com/alceubissoto/debiasing-skin (table)",
    "ISIC 2018 is for non-commercial use, and its authors ask to be cited.",
)
