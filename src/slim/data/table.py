"""`ImageTable`, the images of one split, and `Dataset`, the three splits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageOps

from slim.arrays import Flags, Floats, Ints
from slim.data import pixels
from slim.errors import DataError
from slim.notebook import picture_html, table_html
from slim.sheets import row

BOX_COLUMNS = ("box_x", "box_y", "box_width", "box_height")
_SHOWN = 8  # groups that a repr lists; it only counts the others
_PICTURED, _THUMBNAIL = 6, 120  # images that a notebook shows, and their longer side in pixels

RegionKind = Literal["masks", "boxes"]
Indices = npt.NDArray[np.integer[Any]] | Flags | list[int] | list[bool] | slice


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Images of one split: a table with one row per image. Pixels are read only when needed.

    Index it with positions, a slice or a boolean array to get a table of the selected images, in this order and with
    duplicates.

    Parameters
    ----------
    frame
        One row per image, numbered from 0. Columns: ``path`` (text, absolute) and ``y`` (label, 0 to
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
        (n_groups,) share of each group among *all* train images of the data set, summing to 1; None without an
        attribute. A part of a table keeps the shares of the whole.

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
    training_shares: Floats | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, indices: Indices) -> ImageTable:
        """The table of the selected images, in the order of `indices`.

        Parameters
        ----------
        indices
            Positions (duplicates allowed, negative ones count from the end), a slice, or one bool per image.

        Raises
        ------
        IndexError
            A position outside the table, or a boolean array of another length.
        TypeError
            A single position. Use `table.image(3)` for an image and `table[[3]]` for a table of one image.
        """
        positions = selected_positions(len(self), indices)
        return replace(self, frame=self.frame.iloc[positions].reset_index(drop=True))

    def __repr__(self) -> str:
        regions = f", {self.regions}" if self.regions else ""
        counts = _counts(self)
        listed = [f"{name} ({count})" for name, count in list(counts.items())[:_SHOWN]]
        if len(counts) > _SHOWN:
            listed.append(f"and {len(counts) - _SHOWN} more")
        return f"ImageTable({self.split}, {len(self)} images, {self.n_classes} classes{regions}: {'; '.join(listed)})"

    def _repr_html_(self) -> str:
        counts = pd.DataFrame(
            list(_counts(self).items()), columns=["group" if self.attribute_names else "class", "images"]
        )
        head = f"{self.split}, {len(self)} images" + (f", {self.regions}" if self.regions else "")
        return table_html(counts, head) + (picture_html(self._sheet(), head) if len(self) else "")

    def _sheet(self) -> Image.Image:
        """A few of the images, spread over the table, under their classes."""
        drawn = np.linspace(0, len(self) - 1, min(_PICTURED, len(self))).astype(int)
        photos = [ImageOps.contain(self.image(int(i)), (_THUMBNAIL, _THUMBNAIL)) for i in drawn]
        return row([(self.class_names[self.y[i]], photo) for i, photo in zip(drawn, photos, strict=True)], "")

    @property
    def paths(self) -> list[str]:
        """Absolute path of each image."""
        return [str(path) for path in self.frame["path"].tolist()]

    @property
    def y(self) -> Ints:
        """(n,) label of each image; a copy."""
        return np.array(self.frame["y"], dtype=np.int64)

    @property
    def a(self) -> Ints | None:
        """(n,) spurious attribute of each image, a copy; None without an attribute."""
        return np.array(self.frame["a"], dtype=np.int64) if self.attribute_names else None

    @property
    def groups(self) -> Ints | None:
        """(n,) group of each image, ``y * n_attributes + a``; None without an attribute."""
        a = self.a
        return None if a is None else self.y * self.n_attributes + a

    @property
    def n_classes(self) -> int:
        """Number of classes of the data set, even if some have no image in this table."""
        return len(self.class_names)

    @property
    def n_attributes(self) -> int:
        """Number of values of the attribute; 0 without an attribute."""
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
        """What marks the objects: masks if there are any, else boxes, else None."""
        kinds: tuple[RegionKind, ...] = ("masks", "boxes")
        return next((kind for kind in kinds if self._has(kind)), None)

    @property
    def has_region(self) -> Flags:
        """(n,) whether `region` is available for each image."""
        if self.regions == "masks":
            return np.array(self.frame["mask"] != "", dtype=bool)
        return np.full(len(self), self.regions == "boxes")

    def image(self, i: int, side: int | None = None) -> Image.Image:
        """Image `i` in RGB, upright according to its EXIF orientation, on white where transparent.

        Grey values of 16 or 32 bits and fractions are scaled to bytes by the largest in the file: up to 1 for
        fractions, 255, 4095 or 65535.

        Parameters
        ----------
        i
            Position in this table.
        side
            Pixels per side that are needed. To save time, a large JPEG is then decoded at a half, a quarter or an
            eighth of its size, but never at fewer than twice as many pixels per side. When None, at its own size.

        Raises
        ------
        DataError
            The file is missing, truncated, or not an image, or its values are out of range.
        """
        return pixels.read_image(str(self.frame["path"].iloc[i]), side)

    def region(self, i: int, size: int, kind: RegionKind | None = None) -> Flags:
        """The object in image `i`, after the evaluation transform.

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
            True on the object. Rows count downwards. A box covers at least one pixel, and so does an object in a mask.

        Raises
        ------
        DataError
            The image has no such region, the mask does not have the size of its image, has several colours or has
            more than two values of which none is bright, or the box is outside the image.

        Warns
        -----
        SlimWarning
            The photo is turned by its EXIF orientation, and the region fits it both turned and as stored.

        Notes
        -----
        Mask pixels above 127 are the object; in a mask of 0 and one value up to 127, all pixels above 0; in one of a
        single colour on black, all in that colour; in a partly transparent one, the opaque pixels.
        """
        row = self.frame.iloc[i]
        kind = kind or self.regions
        if kind is None or not self._has(kind) or (kind == "masks" and row["mask"] == ""):
            raise DataError(
                f"{row['path']} must have a {'box' if kind == 'boxes' else 'mask'} that marks the object. Got none. "
                "Keep only images that have one: table[table.has_region]."
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
        16 hexadecimal digits that change when an image's name, label, split, attribute, mask or box changes; not when
        the folder moves, or when the order of the rows or an unrelated column changes.
    source
        Arguments that load it again: ``load_dataset(**source)``. Its ``"source"`` is None for a DataFrame.
    name
        Name of the folder, or ``"table"``.

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

    def split(self, name: str) -> ImageTable:
        """The images of the split ``"train"``, ``"val"`` or ``"test"``."""
        table: ImageTable = {"train": self.train, "val": self.val, "test": self.test}[name]
        return table

    def _repr_html_(self) -> str:
        tables = (self.train, self.val, self.test)
        counts = pd.DataFrame({table.split: pd.Series(_counts(table)) for table in tables})
        counts = counts.rename_axis("group" if self.train.attribute_names else "class").reset_index()
        pictures = picture_html(self.train._sheet(), f"some images of {self.name}") if len(self.train) else ""
        return table_html(counts, f"{self.name}, fingerprint {self.fingerprint}") + pictures

    def __repr__(self) -> str:
        lines = (f"\n  {table!r}" for table in (self.train, self.val, self.test))
        return f"Dataset({self.name}, fingerprint {self.fingerprint}){''.join(lines)}"


def selected_positions(n: int, indices: Indices) -> Ints:
    """The positions, 0 to n - 1, that an index of any kind selects."""
    if isinstance(indices, slice):
        return np.arange(n, dtype=np.int64)[indices]
    index = np.asarray(indices)
    if index.ndim != 1:
        raise TypeError(f"An index of images must have one dimension, as in table[[3]]. Got {indices!r}.")
    if index.size == 0 and index.dtype != bool:
        index = index.astype(np.int64)  # numpy makes floats of an empty list
    positions: Ints = np.arange(n, dtype=np.int64)[index]
    return positions


def _counts(table: ImageTable) -> dict[str, int]:
    """Number of images per group, or per class without an attribute."""
    groups = table.groups
    codes, names = (table.y, table.class_names) if groups is None else (groups, table.group_names)
    return dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))
