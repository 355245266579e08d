"""Data sets of the package ``datasets`` (Hugging Face): their images as files, their features as a metadata table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slim.data.columns import listed
from slim.data.pixels import image_format
from slim.data.splits import SPLIT_ALIASES, fill_splits
from slim.errors import DataError
from slim.files import cache_folder, made_once
from slim.optional import optional
from slim.progress import track

_LABELS = ("label", "labels", "y")
_MADE = ("filename", "y", "split", "class_name")


def is_saved_dataset(source: Path) -> bool:
    """Whether ``save_to_disk`` of datasets wrote a folder, or it holds Parquet, as from the Hub, or is such a file."""
    saved = any((source / name).is_file() for name in ("dataset_dict.json", "dataset_info.json"))
    return saved or source.suffix == ".parquet" or _is_of_parquet(source)


def _is_of_parquet(folder: Path) -> bool:
    """Whether a folder holds Parquet files, and neither a table for SLIM nor folders of images."""
    if (folder / "metadata.csv").exists() or any(
        path.is_dir() and path.name != "data" for path in folder.glob("[!.]*")
    ):
        return False
    found = (file for pattern in ("*.parquet", "data/*.parquet") for file in folder.glob(pattern))
    return next(found, None) is not None


def hugging_face_frame(source: Any, mask: str | None, seed: int) -> tuple[pd.DataFrame, Path]:
    """The metadata table of a data set of datasets, and the folder that its images are in.

    Images that are stored within the data set become files in the cache; others stay where they are.

    Parameters
    ----------
    source
        A folder that ``save_to_disk`` wrote, a folder or file of Parquet, a ``Dataset``, or a ``DatasetDict``.
    mask
        The feature with the masks, which are images too.
    seed
        Random seed of splits that are missing.

    Raises
    ------
    DataError
        There is no feature of images or of labels, an image has several labels or none, a split has another name than
        train, validation and test, or it streams.
    SlimError
        datasets is not installed.
    """
    datasets = optional("datasets", "transformers", "read what it saved")
    loaded = _loaded(datasets, source) if isinstance(source, Path) else source
    parts: Mapping[str, Any] = loaded if isinstance(loaded, Mapping) else {"all": loaded}
    if any(isinstance(part, datasets.IterableDataset) for part in parts.values()):
        raise DataError("A data set must be complete. Got one that streams. Load it without streaming=True.")
    home = cache_folder() / "datasets" / "-".join(str(part._fingerprint) for part in parts.values())
    parts = {name: _plain(datasets, part) for name, part in parts.items()}
    frames = [_frame(datasets, part, mask, home / name).assign(split=name) for name, part in parts.items()]
    frame = pd.concat(frames, ignore_index=True)
    if frame["y"].dtype.kind not in "iuf":  # classes by name alone, numbered in alphabetical order
        frame["y"] = np.unique(frame["y"].to_numpy(str), return_inverse=True)[1]
    return (frame.drop(columns="split") if len(parts) == 1 else _with_splits(frame, seed)), home


def _loaded(datasets: Any, source: Path) -> Any:
    """What is saved in a folder or file; datasets keeps a copy of what was Parquet in its cache."""
    if source.is_file():
        return datasets.Dataset.from_parquet(str(source))  # load_dataset would report its use to the Hub
    return datasets.load_dataset(str(source)) if _is_of_parquet(source) else datasets.load_from_disk(str(source))


def _plain(datasets: Any, part: Any) -> Any:
    """A split without the caller's format or transform, whose images are known as images.

    Other writers of Parquet than datasets leave them as bytes, beside a path.
    """
    part = part.with_format(None)
    for name, kind in part.features.items():
        if kind == datasets.Value("binary") or (isinstance(kind, Mapping) and set(kind) == {"bytes", "path"}):
            part = part.cast_column(name, datasets.Image())
    return part


def _frame(datasets: Any, part: Any, mask: str | None, folder: Path) -> pd.DataFrame:
    """One split: file, label, class name, and every other feature that is a plain value."""
    features: Mapping[str, Any] = part.features
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image) and name != mask]
    if not images:
        raise DataError(
            f"A data set must have a feature of images. Got {listed(list(features))}. "
            "Cast the one that holds them: dataset.cast_column(name, datasets.Image()). Save a table of files as CSV."
        )
    label = _label(datasets, features)
    columns = {"filename": _files(datasets, part, images[0], folder / images[0])}
    if mask is not None and isinstance(features.get(mask), datasets.Image):
        columns[mask] = _files(datasets, part, mask, folder / mask)
    for name, kind in features.items():
        if name not in (label, *_MADE) and isinstance(kind, datasets.Value | datasets.ClassLabel):
            named = isinstance(kind, datasets.ClassLabel)
            columns[name] = [kind.int2str(value) for value in part[name]] if named else list(part[name])
    return pd.DataFrame({**columns, **_labels(datasets, part, label)})


def _label(datasets: Any, features: Mapping[str, Any]) -> str:
    """The feature with the labels: by its name, else the only one of classes."""
    classes = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    name = next((name for name in _LABELS if name in features), classes[0] if len(classes) == 1 else None)
    if name is None:
        raise DataError(
            f"A data set must have a feature label with the classes. Got {listed(list(features))}. "
            "Rename the one that holds them: dataset.rename_column(name, 'label')."
        )
    if not isinstance(features[name], datasets.ClassLabel | datasets.Value):
        raise DataError(
            f"An image must have one label. Got a list of them in the feature {name!r}. "
            "Make a label of two classes out of the one to examine: dataset.map(...)."
        )
    return name


def _labels(datasets: Any, part: Any, name: str) -> dict[str, list[Any]]:
    """Label and class name of each image."""
    kind, values = part.features[name], list(part[name])
    missing = next((row for row, value in enumerate(values) if value is None or value == -1), None)
    if missing is not None:
        raise DataError(
            f"Every image must have a label. Got none (None or -1) in row {missing} of the feature {name!r}. "
            "Leave out the split without labels: datasets.DatasetDict({'train': ..., 'validation': ...})."
        )
    if isinstance(kind, datasets.ClassLabel):
        return {"y": values, "class_name": [kind.int2str(value) for value in values]}
    if any(isinstance(value, str) for value in values):
        return {"y": values, "class_name": values}
    return {"y": values}


def _files(datasets: Any, part: Any, feature: str, folder: Path) -> list[str]:
    """The file of each image: its own where it has one, else one in the cache."""
    rows = part.select_columns([feature]).cast_column(feature, datasets.Image(decode=False))
    values = (row[feature] for row in track(rows, f"reading {feature} of {len(part)} images", total=len(part)))
    return [_file(value, folder / str(number)) for number, value in enumerate(values)]


def _file(value: Mapping[str, Any] | None, stem: Path) -> str:
    """The file of one image; empty where there is none."""
    if value is None:
        return ""
    content = value["bytes"]
    if content is None:
        return str(Path(value["path"]).absolute())
    path = stem.with_suffix(f".{image_format(content)}")
    if not path.exists() or path.stat().st_size != len(content):
        with made_once(path) as partial:
            partial.write_bytes(content)
    return str(path)


def _with_splits(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table with SLIM's names of the splits; those that are missing are carved out of train."""
    names = {str(name): SPLIT_ALIASES.get(str(name).lower()) for name in frame["split"].unique()}
    unknown = [name for name, split in names.items() if split is None]
    if unknown or "train" not in names.values():
        raise DataError(
            f"Splits must be named train, validation and test. Got {listed(list(names))}. "
            "Rename them: datasets.DatasetDict({'train': ..., 'validation': ..., 'test': ...})."
        )
    split = np.array([names[str(name)] for name in frame["split"]], dtype=object)
    return frame.assign(split=fill_splits(split, frame["y"].to_numpy(), frame["filename"].tolist(), seed))
