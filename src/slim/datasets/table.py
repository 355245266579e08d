"""The records: `ImageTable`, one split's images, and `Dataset`, the three splits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from slim.datasets import pixels
from slim.errors import DataError

BOX_COLUMNS = ("box_x", "box_y", "box_width", "box_height")
_SHOWN = 8  # groups that a repr lists before it only counts the others

RegionKind = Literal["masks", "boxes"]
Indices = npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_] | list[int] | list[bool] | slice


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Images of one split: a table with a row an image. Pixels are read only when asked for.

    Index it with positions, a slice or a boolean array to get the table of those images; order and
    duplicates are kept.

    Parameters
    ----------
    frame
        One row an image, numbered from 0. Columns: ``path`` (text, absolute) and ``y`` (label, 0 to
        n_classes - 1); ``a`` (spurious attribute, 0 to n_attributes - 1), only with attributes; ``mask`` (text,
        absolute, ``""`` = none), only with masks; ``box_x``, ``box_y``, ``box_width``, ``box_height`` (pixels
        of the upright original image), only with boxes.
    class_names
        Name of each label.
    attribute_names
        Name of each value of ``a``, for instance ``("place=0", "place=1")``; empty without an attribute.
    split
        ``"train"``, ``"val"`` or ``"test"``.
    training_shares
        Share of each group among *all* train images of the data set, (n_groups,), which sums to 1; None
        without an attribute. A part of a table keeps the shares of the whole.

    Examples
    --------
    >>> frame = pd.DataFrame({"path": ["/a.jpg", "/b.jpg", "/c.jpg"], "y": [0, 1, 1], "a": [0, 0, 1]})
    >>> shares = np.array([1, 0, 1, 1]) / 3
    >>> table = ImageTable(frame, ("cat", "dog"), ("place=0", "place=1"), "train", shares)
    >>> table[[2, 2, 0]].paths
    ['/c.jpg', '/c.jpg', '/a.jpg']
    >>> table[table.y == 1].groups
    array([2, 3])
    >>> table
    ImageTable(train, 3 images, 2 classes: cat, place=0 (1); cat, place=1 (0); dog, place=0 (1); dog, place=1 (1))
    """

    frame: pd.DataFrame
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...] = ()
    split: str = "train"
    training_shares: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, indices: Indices) -> ImageTable:
        """The table of the chosen images, in the order given.

        Parameters
        ----------
        indices
            Positions (duplicates allowed, negative ones count from the end), a slice, or one bool an image.

        Raises
        ------
        IndexError
            A position outside the table, or a boolean array of another length.
        TypeError
            A single position: an image is `table.image(3)`, a table of one image is `table[[3]]`.
        """
        positions = chosen_positions(len(self), indices)
        return replace(self, frame=self.frame.iloc[positions].reset_index(drop=True))

    def __repr__(self) -> str:
        regions = f", {self.regions}" if self.regions else ""
        counts = _counts(self)
        listed = [f"{name} ({count})" for name, count in list(counts.items())[:_SHOWN]]
        if len(counts) > _SHOWN:
            listed.append(f"and {len(counts) - _SHOWN} more")
        return f"ImageTable({self.split}, {len(self)} images, {self.n_classes} classes{regions}: {'; '.join(listed)})"

    @property
    def paths(self) -> list[str]:
        """Absolute path of each image."""
        return [str(path) for path in self.frame["path"].tolist()]

    @property
    def y(self) -> npt.NDArray[np.int64]:
        """Label of each image, (n,), a copy."""
        return np.array(self.frame["y"], dtype=np.int64)

    @property
    def a(self) -> npt.NDArray[np.int64] | None:
        """Spurious attribute of each image, (n,), a copy; None without an attribute."""
        return np.array(self.frame["a"], dtype=np.int64) if self.attribute_names else None

    @property
    def groups(self) -> npt.NDArray[np.int64] | None:
        """Group of each image, ``y * n_attributes + a``, (n,); None without an attribute."""
        a = self.a
        return None if a is None else self.y * self.n_attributes + a

    @property
    def n_classes(self) -> int:
        """How many classes the data set has, also where this table lacks some."""
        return len(self.class_names)

    @property
    def n_attributes(self) -> int:
        """How many values the attribute has; 0 without an attribute."""
        return len(self.attribute_names)

    @property
    def n_groups(self) -> int:
        """``n_classes * n_attributes``; 0 without an attribute."""
        return self.n_classes * self.n_attributes

    @property
    def group_names(self) -> tuple[str, ...]:
        """Name of each group, for instance ``"cat, place=0"``; empty without an attribute."""
        return tuple(f"{label}, {attribute}" for label in self.class_names for attribute in self.attribute_names)

    @property
    def regions(self) -> RegionKind | None:
        """What says where the object is: masks where there are any, else boxes, else None."""
        kinds: tuple[RegionKind, ...] = ("masks", "boxes")
        return next((kind for kind in kinds if self._has(kind)), None)

    @property
    def has_region(self) -> npt.NDArray[np.bool_]:
        """Whether `region` knows where the object is, for each image, (n,)."""
        if self.regions == "masks":
            return np.array(self.frame["mask"] != "", dtype=bool)
        return np.full(len(self), self.regions == "boxes")

    def image(self, i: int) -> Image.Image:
        """Image `i` at its own size, RGB, turned upright as its EXIF orientation says.

        Raises
        ------
        DataError
            The file is missing, cut off, or no image.
        """
        return pixels.read_image(str(self.frame["path"].iloc[i]))

    def region(self, i: int, size: int, kind: RegionKind | None = None) -> npt.NDArray[np.bool_]:
        """Where the object is in image `i` after the evaluation transform.

        Parameters
        ----------
        i
            Position in this table.
        size
            Side of the square, in pixels.
        kind
            Masks or boxes; the table's `regions` when None.

        Returns
        -------
        (size, size) bool array
            True on the object. Rows count downwards. A box covers at least one pixel.

        Raises
        ------
        DataError
            The image has no such region, the mask is not as large as its image or has more than two values of
            which none is bright, or the box lies outside the image.

        Notes
        -----
        A mask pixel above 127 is the object; in a mask of 0 and one darker value, every pixel above 0.
        """
        row = self.frame.iloc[i]
        kind = kind or self.regions
        if kind is None or not self._has(kind) or (kind == "masks" and row["mask"] == ""):
            raise DataError(
                f"{row['path']} must have a {'box' if kind == 'boxes' else 'mask'} to say where the object is. "
                "Got none. Keep the images that have one: table[table.has_region]."
            )
        if kind == "masks":
            return pixels.mask_region(str(row["mask"]), str(row["path"]), size)
        x, y, width, height = (float(row[column]) for column in BOX_COLUMNS)
        return pixels.box_region((x, y, width, height), str(row["path"]), size)

    def _has(self, kind: RegionKind) -> bool:
        """Whether the table has a column for this kind of region."""
        return ("mask" if kind == "masks" else "box_x") in self.frame.columns


@dataclass(frozen=True, eq=False)
class Dataset:
    """The three splits of a data set.

    Parameters
    ----------
    train, val, test
        The images of each split. They share `class_names`, `attribute_names` and `training_shares`.
    fingerprint
        16 hexadecimal digits that change when an image, label, split, attribute, mask, box or the order of
        the rows changes; not when the folder moves or an unrelated column changes.
    source
        How to load it again: ``load_dataset(**source)``. Its ``"source"`` is None where a DataFrame was given.
    name
        The folder's name, or ``"table"``.

    Examples
    --------
    >>> frame = pd.DataFrame({"path": ["/a.jpg", "/b.jpg"], "y": [0, 1]})
    >>> train, val, test = (ImageTable(frame, ("cat", "dog"), split=split) for split in ("train", "val", "test"))
    >>> Dataset(train, val, test, fingerprint="0123456789abcdef", name="pets")
    Dataset(pets, fingerprint 0123456789abcdef)
      ImageTable(train, 2 images, 2 classes: cat (1); dog (1))
      ImageTable(val, 2 images, 2 classes: cat (1); dog (1))
      ImageTable(test, 2 images, 2 classes: cat (1); dog (1))
    """

    train: ImageTable
    val: ImageTable
    test: ImageTable
    fingerprint: str
    source: dict[str, Any] = field(default_factory=dict)
    name: str = "table"

    def __repr__(self) -> str:
        lines = (f"\n  {table!r}" for table in (self.train, self.val, self.test))
        return f"Dataset({self.name}, fingerprint {self.fingerprint}){''.join(lines)}"


def chosen_positions(n: int, indices: Indices) -> npt.NDArray[np.int64]:
    """Positions 0..n-1 that an index of any allowed kind means."""
    if isinstance(indices, slice):
        return np.arange(n, dtype=np.int64)[indices]
    chosen = np.asarray(indices)
    if chosen.ndim != 1:
        raise TypeError(f"An index of images must have one dimension, as in table[[3]]. Got {indices!r}.")
    if chosen.size == 0 and chosen.dtype != bool:
        chosen = chosen.astype(np.int64)  # numpy takes an empty list for floats
    positions: npt.NDArray[np.int64] = np.arange(n, dtype=np.int64)[chosen]
    return positions


def _counts(table: ImageTable) -> dict[str, int]:
    """Images in each group, or in each class without an attribute."""
    groups = table.groups
    codes, names = (table.y, table.class_names) if groups is None else (groups, table.group_names)
    return dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))
