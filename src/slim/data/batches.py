"""`image_batches`: the images of an `ImageTable` as batches of tensors, with or without augmentation."""

from __future__ import annotations

import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from slim import processes
from slim.arrays import Bytes, Ints
from slim.data.pixels import read_image
from slim.data.table import ImageTable, Indices, selected_positions
from slim.errors import DataError, SettingsError

Augmentation = Literal["none", "light"]
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
T = TypeVar("T")
_SMALLEST_AREA = 0.7
_WIDEST_RATIO = 4 / 3
_MOST_THREADS = 8
_BATCH, _GPU_BATCH = 32, 256
_SHARED_MEMORY = Path("/dev/shm")
"""Through which processes hand over what they read; a container has little of it by default."""


@dataclass(frozen=True, eq=False)
class ImageBatches:
    """The result of `image_batches`: iterate over it as often as you like; `len` is the number of batches."""

    table: ImageTable
    image_size: int
    batch_size: int
    order: Ints
    before: Ints
    augmentation: Augmentation
    seed: int
    epoch: int
    workers: int
    maps: Bytes | None = None
    spread: bool = False
    pinned: bool = False

    def __len__(self) -> int:
        return ceil(len(self.order) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        images = _Images(self)
        chunks: list[Sequence[int]] = [
            range(start, min(start + self.batch_size, len(self.order))) for start in self._starts()
        ]
        if self.spread:
            chunks = [processes.part(chunk) for chunk in chunks]
        if self.workers == 0:
            return _by_threads(images.pinned if self.pinned else images.batch, chunks)
        return _by_processes(images, chunks, self.workers, self.pinned)

    def _starts(self) -> range:
        """Start of each batch within the order."""
        return range(0, len(self.order), self.batch_size)


def image_batches(
    table: ImageTable,
    image_size: int,
    batch_size: int | None = None,
    *,
    order: Indices | None = None,
    before: Indices | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    epoch: int = 0,
    workers: int | None = None,
    device: torch.device | None = None,
    maps: Bytes | None = None,
    spread: bool = False,
) -> ImageBatches:
    """Read images in batches, the whole frame of each resized to a square (the evaluation transform).

    Parameters
    ----------
    table
        The images.
    image_size
        Side S of the square, in pixels.
    batch_size
        Images per batch; the last batch may be smaller. By default 32, and 256 for a GPU.
    order
        Positions in `table`, in the order to visit; duplicates are allowed. Each image once when None.
    before
        Positions that the epoch has already visited, when it resumes at `order`.
    augmentation
        ``"light"``: a horizontal flip with probability 1/2, and a random crop of 0.7 to 1 of the frame's area, with
        an aspect ratio between 3/4 and 4/3 relative to the frame. ``"none"`` or None: the evaluation transform.
    seed, epoch
        The augmentation of an image depends on seed, epoch, its position in `table` and how often `before` and
        `order` have visited it already, and on nothing else: not on `batch_size`, `workers` or global random state.
    workers
        Processes that read images; 0 reads them in threads of this process, which start at once and are enough
        unless a fast GPU waits for images. By default that is where processes do, as many as there are cores and room
        in shared memory.
    device
        Where the images go next; by default no GPU.
    maps
        (n, h, w) a map of each image of `table`, which becomes a fourth channel and is cropped and flipped with it.
    spread
        Of each batch, give every process that torchrun started its own part, all together what one process gets.

    Returns
    -------
    Sized iterable of (images, y, index)
        `images` uint8 (b, 3, S, S) in 0..255, not normalised, channels last in memory, or with `maps` (b, 4, S, S);
        `y` int64 (b,); `index` int64 (b,), the position in `table`.

    Raises
    ------
    SettingsError
        A size below 1, a negative number, or an unknown augmentation; or, while iterating, processes cannot start.
    IndexError
        A position in `order` outside the table.
    DataError
        While iterating: an image cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/red.png"
    >>> Image.new("RGB", (30, 20), "red").save(path)
    >>> table = ImageTable(pd.DataFrame({"path": [path], "y": [1]}), ("cat", "dog"))
    >>> batches = image_batches(table, 16, batch_size=2, order=[0, 0, 0])
    >>> [(tuple(images.shape), y.tolist()) for images, y, index in batches]
    [((2, 3, 16, 16), [1, 1]), ((1, 3, 16, 16), [1])]
    """
    augmentation = augmentation or "none"
    if augmentation not in get_args(Augmentation):
        raise SettingsError(
            f"augmentation must be one of {', '.join(get_args(Augmentation))}. Got {augmentation!r}. "
            "Use 'light' to train."
        )
    for_gpu = device is not None and device.type == "cuda"
    if batch_size is None:
        batch_size = _GPU_BATCH if for_gpu else _BATCH
    numbers = {"image_size": (image_size, 1), "batch_size": (batch_size, 1)}
    numbers |= {"seed": (seed, 0), "epoch": (epoch, 0), "workers": (workers or 0, 0)}
    for name, (value, least) in numbers.items():
        if value < least:
            raise SettingsError(f"{name} must be at least {least}. Got {value}. Raise it.")
    positions = selected_positions(len(table), slice(None) if order is None else order)
    earlier = selected_positions(len(table), [] if before is None else before)
    if workers is None:
        count = ceil(len(positions) / batch_size)
        workers = _reading_processes(count, batch_size * image_size**2 * 4) if for_gpu else 0
    return ImageBatches(
        table, image_size, batch_size, positions, earlier, augmentation, seed, epoch, workers, maps, spread, for_gpu
    )


def _reading_processes(batches: int, batch_bytes: int) -> int:
    """How many processes read images for a GPU; 0 where threads are as good or processes have no room.

    A process keeps two batches ready. A quarter of the shared memory is taken, since recomposed images are read by
    two groups of processes, and other programs use it too.
    """
    room = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else 0
    most = min(processes.cores() - 1, batches // 2, room // 4 // (2 * batch_bytes))
    return most if most > 1 else 0


class _Images(TorchDataset[Batch]):
    """Reads batches by their places in the order; small enough to be sent to another process."""

    def __init__(self, batches: ImageBatches) -> None:
        self._paths = batches.table.paths
        self._y = batches.table.y
        self._order = batches.order
        self._visits = _earlier_visits(np.concatenate([batches.before, batches.order]))[len(batches.before) :]
        self._size = batches.image_size
        self._key = (batches.seed, batches.epoch) if batches.augmentation == "light" else None
        self._maps = batches.maps

    def batch(self, places: Sequence[int]) -> Batch:
        """The images at these places of the order, their labels and positions."""
        index = self._order[list(places)]
        channels = 3 if self._maps is None else 4
        pixels = np.empty((len(index), self._size, self._size, channels), dtype=np.uint8)
        for row, place in enumerate(places):
            pixels[row] = self._pixels(place)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        return images, torch.from_numpy(self._y[index]), torch.from_numpy(index)

    def pinned(self, places: Sequence[int]) -> Batch:
        """The same in memory that a GPU copies from while other work goes on."""
        images, y, index = self.batch(places)
        return images.pin_memory(), y, index

    def __getitems__(self, places: Sequence[int]) -> Batch | DataError:
        """Called in a process of the DataLoader; an error is returned, since one raised there loses its message."""
        try:
            return self.batch(places)
        except DataError as error:
            return error

    def _pixels(self, place: int) -> npt.NDArray[np.uint8]:
        """One image, (S, S, 3), or with its map (S, S, 4)."""
        position = int(self._order[place])
        image, view = read_image(self._paths[position], self._size), View()
        if self._key is not None:
            view = _light(np.random.default_rng((*self._key, position, int(self._visits[place]))))
        pixels = view(image, self._size)
        if self._maps is None:
            return pixels
        return np.dstack([pixels, view(Image.fromarray(self._maps[position]), self._size)])


def _earlier_visits(order: Ints) -> Ints:
    """For each place in the order, how often its image occurred before."""
    return np.array(pd.Series(order).groupby(order).cumcount(), dtype=np.int64)


@dataclass(frozen=True)
class View:
    """Which part of an image is shown, relative to its frame, and whether it is mirrored."""

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    mirrored: bool = False

    def __call__(self, image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
        """The part as (size, size, ...), bilinear with antialiasing."""
        left, top = self.left * image.width, self.top * image.height
        # Rounding may put the far edge slightly outside the image, which Pillow refuses.
        right = min(left + self.width * image.width, image.width)
        bottom = min(top + self.height * image.height, image.height)
        part = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, right, bottom)))
        return part[:, ::-1] if self.mirrored else part


def _light(rng: np.random.Generator) -> View:
    """A random crop of the frame, flipped horizontally with probability 1/2.

    The aspect ratio is relative to the frame, because the evaluation transform makes a square of every frame. Area
    and ratio are drawn such that the crop fits, so nothing is redrawn.
    """
    area = rng.uniform(_SMALLEST_AREA, 1)
    widest = np.log(min(_WIDEST_RATIO, 1 / area))
    ratio = np.exp(rng.uniform(-widest, widest))
    width, height = np.sqrt(area * ratio), np.sqrt(area / ratio)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return View(left, top, width, height, bool(rng.random() < 0.5))


def _by_threads(read: Callable[[Sequence[int]], Batch], chunks: Sequence[Sequence[int]]) -> Iterator[Batch]:
    """Batches in order, read ahead in threads: Pillow decodes without holding Python's lock."""
    threads = min(processes.cores(), _MOST_THREADS)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="slim-images")
    waiting: deque[Future[Batch]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(read, chunk))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _by_processes(images: _Images, chunks: Sequence[Sequence[int]], workers: int, pinned: bool) -> Iterator[Batch]:
    """Batches in order, read in other processes."""
    loader: DataLoader[Batch] = DataLoader(
        images,
        batch_sampler=[list(chunk) for chunk in chunks],
        num_workers=workers,
        pin_memory=pinned,
        collate_fn=_unchanged,
        generator=torch.Generator(),  # else the loader draws its seed from the global generator
    )
    try:
        with _without_script():
            batches = iter(loader)  # starts the processes
        for batch in batches:
            if isinstance(batch, DataError):
                raise batch
            yield batch
    except RuntimeError as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise SettingsError(
            f"The {workers} processes that read images must start and keep running. Got: {reason}. "
            "Use 0 workers: threads read images then."
        ) from error


@contextmanager
def _without_script() -> Iterator[None]:
    """Processes that start in the block do not run the caller's script again, so that it needs no guard."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _unchanged(batch: T) -> T:
    """A batch as it is: it needs no collating."""
    return batch
