"""The card of a composed benchmark: what was measured on its images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from slim.arrays import Floats
from slim.data.composing.drawing import SPLITS
from slim.data.composing.settings import ComposeSettings
from slim.files import write_json
from slim.progress import track

_SIDE = 16
_STRENGTH = 0.01
_FOLDS = 3
_GREY = 127

View = Literal["image", "object", "background"]
VIEWS: tuple[View, ...] = ("image", "object", "background")


@dataclass(frozen=True)
class BenchmarkCard:
    """What was measured on a composed benchmark.

    Attributes
    ----------
    settings
        How it was composed.
    images
        Number of images, by split.
    correlation
        Cramér's V between class and attribute, by attribute and split: 0 = independent, 1 = one determines the other.
    area
        Share of the image that the object covers, by split: the 5th percentile, median and 95th.
    probe
        Accuracy of a linear probe, by what it sees: "image", "object" (on grey) or "background" (the object greyed
        out); then on "train" and "test". It is a logistic regression on the colours of 16 x 16 pixels, fitted to train;
        accuracy on train is cross-validated in three folds. A background that predicts the class in train and not in
        test is the shortcut.
    chance
        Share of the largest class of test.
    """

    settings: dict[str, object]
    images: dict[str, int]
    correlation: dict[str, dict[str, float]]
    area: dict[str, tuple[float, float, float]]
    probe: dict[View, dict[str, float]]
    chance: float

    def __repr__(self) -> str:
        lines = [f"BenchmarkCard({', '.join(f'{n} {split}' for split, n in self.images.items())} images)"]
        for name, values in self.correlation.items():
            shown = ", ".join(f"{value:.2f} in {split}" for split, value in values.items())
            lines.append(f"  class and {name}: Cramér's V {shown}")
        low, middle, high = (100 * value for value in self.area["train"])
        lines.append(f"  object: {middle:.0f} % of the image ({low:.0f} to {high:.0f} %) in train")
        lines += [
            f"  linear probe of the {view}: accuracy {scores['train']:.2f} in train, {scores['test']:.2f} in test"
            for view, scores in self.probe.items()
        ]
        return "\n".join([*lines, f"  chance: {self.chance:.2f} in test"])

    def save(self, folder: Path) -> None:
        """Write ``card.json``."""
        write_json(folder / "card.json", asdict(self))


def measure_card(folder: Path, table: pd.DataFrame, settings: ComposeSettings) -> BenchmarkCard:
    """Measure the card of a composed benchmark.

    Parameters
    ----------
    folder
        Holds the images and masks.
    table
        One row per image.
    settings
        How it was composed.
    """
    parts = {split: table[table["split"] == split] for split in SPLITS}
    attributes = [name for name in ("scene", "sticker") if name in table]
    seen = {split: _views(folder, part) for split, part in parts.items() if split != "val"}
    areas = {split: [_area(folder / name) for name in part["mask_filename"]] for split, part in parts.items()}
    low_middle_high = {
        split: tuple(float(value) for value in np.percentile(values, (5, 50, 95))) for split, values in areas.items()
    }
    return BenchmarkCard(
        asdict(settings),
        {split: len(part) for split, part in parts.items()},
        {name: {split: cramers_v(part["y"], part[name]) for split, part in parts.items()} for name in attributes},
        {split: (one[0], one[1], one[2]) for split, one in low_middle_high.items()},
        {view: _probe(view, seen, parts) for view in VIEWS},
        float(parts["test"]["y"].value_counts(normalize=True).max()),
    )


def cramers_v(first: pd.Series[int], second: pd.Series[str]) -> float:
    """Cramér's V of two columns: 0 = independent, 1 = one tells the other.

    Examples
    --------
    >>> y = pd.Series([0, 0, 1, 1])
    >>> cramers_v(y, pd.Series(["sea", "sea", "forest", "forest"])), cramers_v(y, pd.Series(list("abab")))
    (1.0, 0.0)
    """
    counts = pd.crosstab(first, second).to_numpy(float)
    fewer = min(counts.shape) - 1
    if fewer == 0:
        return 0.0
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
    return float(np.sqrt(((counts - expected) ** 2 / expected).sum() / (counts.sum() * fewer)))


def _area(mask: Path) -> float:
    return float((np.asarray(Image.open(mask)) > _GREY).mean())


def _views(folder: Path, part: pd.DataFrame) -> dict[View, Floats]:
    """The pixels (n, 3 * 16 * 16) of images, whole, and with the background or the object grey."""
    rows: dict[View, list[Floats]] = {view: [] for view in VIEWS}
    files = list(zip(part["img_filename"], part["mask_filename"], strict=True))
    for image, mask in track(files, f"measuring {len(files)} images"):
        photo, inside = Image.open(folder / image).convert("RGB"), Image.open(folder / mask).convert("L")
        grey = Image.new("RGB", photo.size, (_GREY, _GREY, _GREY))
        shown = (photo, Image.composite(photo, grey, inside), Image.composite(grey, photo, inside))
        for view, one in zip(VIEWS, shown, strict=True):
            rows[view].append(np.asarray(one.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64).ravel())
    return {view: np.stack(values) for view, values in rows.items()}


def _probe(view: View, seen: dict[str, dict[View, Floats]], parts: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Accuracy on test of a probe that is fitted to train, and on the thirds of train that it is not fitted to."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=1000))
    train, y = seen["train"][view], parts["train"]["y"].to_numpy()
    beyond = probe.fit(train, y).score(seen["test"][view], parts["test"]["y"])
    folds = min(_FOLDS, np.bincount(y).min())
    if folds < 2:  # a class of one image
        within = probe.predict(train)
    else:
        within = cross_val_predict(probe, train, y, cv=StratifiedKFold(folds, shuffle=True, random_state=0))
    return {"train": float((within == y).mean()), "test": float(beyond)}
