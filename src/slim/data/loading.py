"""`load_dataset`: from a folder, a CSV file or a DataFrame to a checked `Dataset`."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from slim.arrays import Floats
from slim.data.benchmarks import NAMES
from slim.data.checks import check, with_paths
from slim.data.coco import is_coco, with_coco_masks
from slim.data.hugging_face import hugging_face_frame, is_saved_dataset
from slim.data.inspection import faults_in
from slim.data.metadata import Rows, read_metadata, table_rows
from slim.data.shards import shard_files, shard_frame
from slim.data.splits import SPLITS
from slim.data.table import BOX_COLUMNS, Dataset, ImageTable
from slim.data.trees import tree_rows
from slim.errors import DataError, SettingsError, SlimWarning

if TYPE_CHECKING:
    from datasets import Dataset as ArrowDataset
    from datasets import DatasetDict


def load_dataset(
    source: str | Path | pd.DataFrame | ArrowDataset | DatasetDict,
    *,
    root: str | Path | None = None,
    attribute: str | Sequence[str] | None = None,
    mask: str | Path | None = None,
    seed: int = 0,
    without: str | Path | None = None,
) -> Dataset:
    """Load images with labels and splits, and with a spurious attribute and object regions if there are any.

    Parameters
    ----------
    source
        One of

        - a folder with ``metadata.csv``, or another CSV file: ``img_filename`` (or ``filename``), ``y``
          (whole numbers), ``split`` (0, 1, 2 or train, val, test) and, optionally, ``place`` or ``a`` (spurious
          attribute), ``mask_filename``, ``box_x``, ``box_y``, ``box_width``, ``box_height``, ``class_name``.
          Boxes may also come from a file ``boxes.csv`` beside it: ``x``, ``y``, ``width``, ``height``, joined by
          ``img_filename``, ``filename`` or ``img_id``. Other columns are ignored. CSV files are in UTF-8, with commas,
          semicolons, tabs or bars.
        - an ImageFolder tree, ``train/<class>/*.jpg`` with ``val`` and ``test`` beside ``train``, or
          ``<class>/*.jpg``.
        - a DataFrame with the columns of ``metadata.csv``.
        - shards of WebDataset, tar archives with ``7.jpg``, ``7.cls`` and ``7.json``, for instance: a folder of them,
          whose names or folders say the splits, or one of them. They are read in place. Values of the JSON are columns.
        - a ``Dataset`` or ``DatasetDict`` of Hugging Face's datasets, the folder that its ``save_to_disk`` wrote, or
          Parquet files as the Hub delivers them: an image feature, and ``label`` (or the only feature of classes).
          Splits are train, validation and test.
        - the name of a benchmark: ``"waterbirds"``, ``"waterbirds-fixed"``, ``"celeba"``, ``"isic"``, ``"nico"`` or
          ``"imagenet9"``, as it is published, unpacked or in archives. A folder of that name comes first, unless `root`
          is given.
    root
        Folder that the file names in a table are relative to: by default the folder of the table, or the working
        directory for a DataFrame. For a benchmark, the folder with your copy, by default what ``slim data`` downloaded.
    attribute
        Column of the spurious attribute, or several, which are crossed: ``"sticker=0, corners=1"``. ``[]`` means no
        attribute, whatever the table holds.
    mask
        Column of the mask files, where an empty value means that the image has no mask; in shards also the ending of
        their names, such as ``"mask.png"``; or a COCO annotation file (``.json``), whose segmentations or boxes become
        the masks.
    seed
        Random seed of missing splits: a tenth of the train images becomes val and a fifth test, stratified by label.
    without
        CSV file whose column ``path`` names images to leave out, absolute or as the table names them, as ``slim check
        DATA --write FILE`` writes it. The others keep their splits.

    Returns
    -------
    Dataset
        The images of each split are in the order of their file names, whatever the order of the table. Labels become 0
        to n_classes - 1 in the order of their values; `class_names` keeps the values. Attribute values are numbered in
        the same way, or in alphabetical order if they are text. Spaces around them are ignored.

    Raises
    ------
    DataError
        Files are missing, a split is empty, an image is in two splits (perhaps by a link), a class has no train images,
        a label is text, a value or a column is missing, or hardly any two images share an attribute.
    SettingsError
        `seed` is negative.

    Warns
    -----
    SlimWarning
        A copy of a benchmark does not have the published number of images; a folder holds more than images, masks among
        them, or folders inside those of the classes; a label is -1 beside several others; `without` names other images.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> for i in range(20):
    ...     Image.new("RGB", (30, 20)).save(folder / f"{i}.png")
    >>> table = pd.DataFrame({"filename": [f"{i}.png" for i in range(20)], "y": [0, 1] * 10})
    >>> load_dataset(table, root=folder).train
    ImageTable(train, 14 images, 2 classes: 0 (7); 1 (7))
    """
    if not isinstance(seed, Integral) or seed < 0:
        raise SettingsError(f"seed must be at least 0. Got {seed!r}. Use 0 or a larger whole number.")
    mask = None if mask is None else str(mask)
    of_datasets = type(source).__module__.partition(".")[0] == "datasets"
    if not of_datasets and not isinstance(source, str | os.PathLike | pd.DataFrame):
        raise DataError(
            f"A data set must be a folder, a table or a DataFrame. Got {type(source).__name__}. "
            "Make a DataFrame with the columns filename and y."
        )
    if isinstance(source, str) and source in NAMES and (root is not None or not Path(source).exists()):
        return _benchmark(source, root, attribute, mask, seed, without)
    if of_datasets:
        return _hugging_face(source, None, attribute, mask, seed, without)
    if not isinstance(source, pd.DataFrame) and is_saved_dataset(Path(source)):
        return _hugging_face(Path(source), Path(source).absolute(), attribute, mask, seed, without)
    column = None if is_coco(mask) else mask
    if isinstance(source, pd.DataFrame):
        name, home = "table", None if root is None else Path(root).absolute()
        rows = table_rows(source, "The table", attribute, column, seed)
    else:
        rows, name, home = _read_source(Path(source), root, attribute, column, seed)
    given = None if isinstance(source, pd.DataFrame) else str(Path(source).absolute())
    homes: tuple[Path, ...] = () if home is None else (home,)
    if mask is not None and is_coco(mask):
        mask = str(Path(mask).absolute())
        rows, folder = with_coco_masks(rows, Path(mask))
        homes = (*(homes or (Path.cwd(),)), folder)
    return _dataset(rows, name, homes, _arguments(given, root, attribute, mask, seed, without))


def _benchmark(
    name: str,
    root: str | Path | None,
    attribute: str | Sequence[str] | None,
    mask: str | None,
    seed: int,
    without: str | Path | None,
) -> Dataset:
    """A benchmark, by its name."""
    from slim.data.benchmarks.registry import BENCHMARKS, benchmark_rows, home_of

    folder = home_of(name, root)
    rows, homes = benchmark_rows(name, folder, attribute, mask, seed)
    data = _dataset(rows, name, homes, _arguments(name, folder, attribute, mask, seed, without))
    BENCHMARKS[name].warn_of_differences(data)
    return data


def _hugging_face(
    source: Any,
    folder: Path | None,
    attribute: str | Sequence[str] | None,
    mask: str | None,
    seed: int,
    without: str | Path | None,
) -> Dataset:
    """A data set of Hugging Face's datasets, in memory or in a folder."""
    frame, home = hugging_face_frame(source, mask, seed)
    rows = table_rows(frame, "The data set", attribute, mask, seed)
    given, name = (None, "dataset") if folder is None else (str(folder), folder.name)
    return _dataset(rows, name, (home,), _arguments(given, None, attribute, mask, seed, without))


def _dataset(rows: Rows, name: str, homes: Sequence[Path], arguments: dict[str, Any]) -> Dataset:
    """The checked data set; file names are relative to the first home."""
    home = homes[0] if homes else Path.cwd()
    frame = with_paths(rows.frame, home)
    if arguments.get("without") is not None:
        kept = ~frame["path"].isin(_left_out(arguments["without"], home, set(frame["path"]))).to_numpy()
        rows, frame = replace(rows, frame=rows.frame[kept].reset_index(drop=True)), frame[kept].reset_index(drop=True)
    check(rows, frame)
    # What is drawn at random later must not hang on the order of the table.
    names = [_relative_name(homes, name) for name in rows.frame["file"]]
    order = sorted(range(len(names)), key=names.__getitem__)
    rows, frame = replace(rows, frame=rows.frame.iloc[order].reset_index(drop=True)), frame.iloc[order]
    train, val, test = (_split_table(rows, frame, split) for split in SPLITS)
    return Dataset(train, val, test, fingerprint=_fingerprint(rows, homes), source=arguments, name=name)


def _left_out(file: str, home: Path, known: set[str]) -> list[str]:
    """The paths of the images that a file names, relative to `home` where they are not absolute."""
    paths = [os.path.normpath(os.path.join(home, fault.path)) for fault in faults_in(file)]
    others = [path for path in paths if path not in known]
    if others:
        warnings.warn(
            f"{len(others)} of {len(paths)} images in {file} are not in the data set, such as {others[0]}. To leave "
            "them out, name them as the data set does.",
            SlimWarning,
            stacklevel=5,
        )
    return paths


def _arguments(
    source: str | None,
    root: str | Path | None,
    attribute: str | Sequence[str] | None,
    mask: str | None,
    seed: int,
    without: str | Path | None,
) -> dict[str, Any]:
    """The arguments of `load_dataset` as plain values, with absolute paths; the source of a DataFrame is None."""
    return {
        "source": source,
        "root": None if root is None else str(Path(root).absolute()),
        "attribute": attribute if attribute is None or isinstance(attribute, str) else list(attribute),
        "mask": mask,
        "seed": int(seed),
        **({} if without is None else {"without": str(Path(without).absolute())}),
    }


def _read_source(
    source: Path, root: str | Path | None, attribute: str | Sequence[str] | None, mask: str | None, seed: int
) -> tuple[Rows, str, Path]:
    """Rows, name and folder of the images, from a path in any of the layouts."""
    if not source.exists():
        hint = "Check the path." if source.is_absolute() else f"Check the path, which is relative to {Path.cwd()}."
        raise DataError(f"{source} must be a folder of images or a table of image files. Got nothing there. {hint}")
    path = source / "metadata.csv" if source.is_dir() else source
    if (path == source or not path.is_file()) and (shards := shard_files(source)):
        _refuse_table_arguments(source, {"root": root})
        frame, home = shard_frame(source, shards, mask, seed)
        name = source.stem if path == source else source.absolute().name
        return table_rows(frame, f"The shards of {source}", attribute, mask, seed), name, home
    if not path.is_file():
        _refuse_table_arguments(source, {"root": root, "attribute": attribute, "mask": mask})
        return tree_rows(source, seed), source.absolute().name, source.absolute()
    rows = table_rows(read_metadata(path), str(path), attribute, mask, seed)
    name = path.absolute().parent.name if path.name == "metadata.csv" else path.stem
    return rows, name, Path(path.parent if root is None else root).absolute()


def _refuse_table_arguments(folder: Path, arguments: Mapping[str, object]) -> None:
    """Refuse arguments that have no meaning for an ImageFolder tree."""
    for argument, value in arguments.items():
        if value:
            raise DataError(
                f"With {argument}=, the source must be a table. Got {folder}, which has no metadata.csv. "
                f"Leave out {argument}=, or write metadata.csv."
            )


def _split_table(rows: Rows, frame: pd.DataFrame, split: str) -> ImageTable:
    """The table of one split; it has masks only if one of its images has one."""
    columns = [column for column in ("path", "y", "a", "mask", *BOX_COLUMNS) if column in frame]
    part = frame.loc[frame["split"] == split, columns].reset_index(drop=True)
    if "mask" in part and not part["mask"].any():
        part = part.drop(columns="mask")
    return ImageTable(part, rows.class_names, rows.attribute_names, split, _training_shares(rows))


def _training_shares(rows: Rows) -> Floats | None:
    """Share of each group among the train images."""
    if not rows.attribute_names:
        return None
    train = rows.frame[rows.frame["split"] == "train"]
    n_attributes = len(rows.attribute_names)
    groups = np.array(train["y"] * n_attributes + train["a"], dtype=np.int64)
    return np.bincount(groups, minlength=len(rows.class_names) * n_attributes) / len(train)


def _fingerprint(rows: Rows, homes: Sequence[Path]) -> str:
    """Digest of all rows, with file names relative to the home that they are in, so that the data set may move."""
    values = {column: rows.frame[column].tolist() for column in rows.frame.columns}
    for column in ("file", "mask"):
        if column in values:
            values[column] = [_relative_name(homes, name) if name else "" for name in values[column]]
    text = json.dumps([rows.class_names, rows.attribute_names, values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _relative_name(homes: Sequence[Path], name: str) -> str:
    """The name of a file relative to the first of the homes that it is below, else unchanged."""
    path = Path(os.path.normpath(name))
    return next((path.relative_to(home) for home in homes if path.is_relative_to(home)), path).as_posix()
