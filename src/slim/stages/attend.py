"""Where the model looks (Grad-CAM), what it sees there and elsewhere, and the places from which objects are found."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Literal, overload

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from slim import processes
from slim.arguments import checked
from slim.arrays import Ints
from slim.data import SPLITS, Dataset, ImageTable, image_batches
from slim.data.batches import ImageBatches
from slim.errors import DataError, SlimWarning
from slim.localization import Places
from slim.network.classifier import Classifier
from slim.network.gradcam import ForwardPass, GradCam, pool, upsample
from slim.network.look import Look, Looks, region_of
from slim.network.pace import Pace, announce_time, some_batches
from slim.network.places import COMPONENTS, GRID, PlaceBasis, PlaceRecorder, place_network
from slim.progress import track
from slim.quantized import Quantized, Vectors, level_type, to_levels, to_steps
from slim.record import ArrayToFill, Record
from slim.room import check_room
from slim.stages.settings import AttendSettings
from slim.training import TrainSettings

Floats = NDArray[np.float32]

_BASIS_IMAGES = 256
_BITS = {"core": 4, "environment": 4, "contrast": 8, "features": 8}
_SHOWN = 6  # images that a notebook shows of a split


@dataclass(frozen=True, eq=False)
class SplitAttention(Record):
    """Where the model looks in the images of one split, and what it sees; one row per image, in the table's order.

    Features and places are quantised to a few bits, as `attend` stores them, or ordinary arrays. Both are read in the
    same way: ``core[:10]`` and ``numpy.asarray(core)`` are floats.

    Attributes
    ----------
    maps
        (n, h, w) attention maps in [0, 1]; 1 = the strongest attention in its own image, all 0 = a flat map.
    core
        (n, d) features where the model looks.
    environment
        (n, d) features elsewhere.
    contrast
        (n, e) mean features where the model looks minus those elsewhere, at the classifier's finer layer; all 0 for a
        flat map.
    features
        (n, p) penultimate features, the input of the linear head; p is 0 where the network has no such head.
    probabilities
        (n, n_classes) predicted by the model, rows sum to 1.
    places
        (n, 16, 16, c) features of the cells of a grid over the image, 32 = one standard deviation, from which
        object maps are made; none for the test split, which is not trained on.
    table, explain
        The images, and whether maps are for their labels or the predictions, so that one image can be shown: a whole
        number as index gives a `Look`. Not saved: `of` adds them again.

    Examples
    --------
    ``slim.attend(data, reference).test[3].show()``
    """

    format: ClassVar[int] = 2  # 1 had features in float32

    maps: Floats
    core: Vectors
    environment: Vectors
    contrast: Vectors
    features: Vectors
    probabilities: Floats
    places: Places = field(default_factory=lambda: np.zeros((0, GRID, GRID, 0), np.int8))
    table: ImageTable | None = field(default=None, metadata={"saved": False})
    explain: Literal["label", "predicted"] = field(default="label", metadata={"saved": False})

    def __len__(self) -> int:
        return len(self.maps)

    @overload
    def __getitem__(self, index: int) -> Look: ...
    @overload
    def __getitem__(self, index: Ints) -> SplitAttention: ...
    def __getitem__(self, index: int | Ints) -> Look | SplitAttention:
        """One image, or the attention of some images of the split, in this order."""
        if isinstance(index, (int, np.integer)):
            return self._look(int(index))
        names = ("maps", "probabilities", *_BITS, *(["places"] if len(self.places) else []))
        arrays = {name: getattr(self, name) for name in names}
        table = None if self.table is None else self.table[index]
        some: dict[str, Any] = {
            name: array.part(index) if isinstance(array, Quantized) else array[index] for name, array in arrays.items()
        }
        return replace(self, table=table, **some)

    def of(self, table: ImageTable, explain: Literal["label", "predicted"] = "label") -> SplitAttention:
        """The same attention with its images, which a loaded record does not have."""
        if len(table) != len(self):
            raise DataError(f"The images must be those of the {len(self)} maps. Got {len(table)}. Pass their split.")
        return replace(self, table=table, explain=explain)

    def _look(self, i: int) -> Look:
        if self.table is None:
            raise DataError(
                "To be shown, attention must know its images. Got maps alone. Call attention.of(data) first."
            )
        i = range(len(self))[i]
        names, probabilities = self.table.class_names, np.asarray(self.probabilities[i])
        label, predicted = names[self.table.y[i]], int(probabilities.argmax())
        region, kind = region_of(self.table, i)
        return Look(
            source=self.table.paths[i],
            map=np.asarray(self.maps[i]),
            explained=label if self.explain == "label" else names[predicted],
            prediction=names[predicted],
            confidence=float(probabilities[predicted]),
            label=label,
            region=region,
            region_kind=kind,
        )

    def _repr_html_(self) -> str:
        if self.table is None or not len(self):
            return f"<p>{escape(repr(self))}</p>"
        shown = Looks([self[int(i)] for i in np.linspace(0, len(self) - 1, min(_SHOWN, len(self)))])
        return f"<p>{escape(repr(self))}</p>{shown._repr_html_()}"

    def to_frame(self) -> pd.DataFrame:
        """One row per image: ``prediction``, the number of a class, and its ``confidence``, a probability."""
        probabilities = np.asarray(self.probabilities)
        return pd.DataFrame({"prediction": probabilities.argmax(1), "confidence": probabilities.max(1)})

    def __repr__(self) -> str:
        return f"SplitAttention({len(self)} images; maps of {' x '.join(map(str, self.maps.shape[1:]))})"


@dataclass(frozen=True, eq=False)
class Attention(Record):
    """The attention of every split of a data set.

    Attributes
    ----------
    train, val, test
        See `SplitAttention`.
    """

    train: SplitAttention
    val: SplitAttention
    test: SplitAttention

    def split(self, name: str) -> SplitAttention:
        """The attention of the split ``"train"``, ``"val"`` or ``"test"``."""
        attention: SplitAttention = {"train": self.train, "val": self.val, "test": self.test}[name]
        return attention

    def of(self, data: Dataset, explain: Literal["label", "predicted"] = "label") -> Attention:
        """The same attention with its images, which a loaded record does not have; see `SplitAttention`."""
        return Attention(*(self.split(name).of(data.split(name), explain) for name in SPLITS))

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>{self.test._repr_html_()}"

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(self.split(name))}" for name in SPLITS)
        return f"Attention({sizes}; maps of {' x '.join(map(str, self.train.maps.shape[1:]))})"


@checked
def attend(
    data: Dataset,
    reference: Classifier,
    settings: AttendSettings | None = None,
    *,
    training: TrainSettings | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
) -> Attention:
    """Compute where the model looks, and what it sees there.

    Parameters
    ----------
    data
        The images.
    reference
        The model to explain.
    settings
        See `AttendSettings`.
    training
        How the reference model was trained. Places are described by the pretrained network that it started from, which
        has not learnt the shortcut; or by the reference model if there was no such network.
    seed
        Random seed of the images to which the compression of places is fitted.
    folder
        Where to write the arrays as they are computed, for data sets larger than memory; in memory by default.

    Returns
    -------
    Attention
        Of all three splits.

    Raises
    ------
    ModelError
        The outputs of the reference model are not the classes of the images.
    SlimError
        The disk, or the memory, cannot hold the arrays.

    Warns
    -----
    SlimWarning
        Maps are flat or not finite, which usually means that the layer is the wrong one.

    Examples
    --------
    ``attention = slim.attend(data, reference)``
    """
    settings = settings or AttendSettings()
    folders = {name: None if folder is None else Path(folder) / name for name in SPLITS}
    training = training or TrainSettings()
    network = place_network(reference, training.arch, training.weights)
    recorder = PlaceRecorder(*network, settings.precision)
    with GradCam(reference.for_classes(data.train.class_names), settings.method, settings.precision) as cam:
        check_room("attention and places", disk=_bytes(data, cam, settings), folder=folder)
        _announce_time(data, cam, recorder, settings)
        splits = {name: _attended(cam, data.split(name), settings, folders[name]) for name in SPLITS}
    with recorder:
        basis = processes.agreed(_basis(recorder, data.train, settings, seed))
        for name in ("train", "val"):
            places = _places(recorder, basis, data.split(name), settings, folders[name])
            splits[name] = replace(splits[name], places=places)
    return Attention(**splits)


def _bytes(data: Dataset, cam: GradCam, settings: AttendSettings) -> int:
    """The size of all arrays, from the rows of a pass over two images."""
    size = cam.classifier.image_size
    forward = cam(torch.zeros(2, 3, size, size, dtype=torch.uint8))
    classes = torch.zeros(2, dtype=torch.int64, device=forward.logits.device)
    row = sum(rows[0].nbytes for rows in _rows(forward, classes, settings.pooling).values())
    places = GRID * GRID * level_type(COMPONENTS).itemsize
    return int(row * sum(len(data.split(name)) for name in SPLITS) + places * (len(data.train) + len(data.val)))


def _announce_time(data: Dataset, cam: GradCam, recorder: PlaceRecorder, settings: AttendSettings) -> None:
    """Say about how long the attention and the places will take."""
    n, described = sum(len(data.split(name)) for name in SPLITS), len(data.train) + len(data.val)

    def seconds() -> float:
        passes = Pace.of_passes(cam, data.train, settings.batch_size)
        with recorder:
            places = Pace.measured(some_batches(data.train, recorder.image_size, settings.batch_size), recorder)
        return passes.seconds(n) + places.seconds(described + min(_BASIS_IMAGES, len(data.train)))

    announce_time("attention and places", f"{n:,} images, {described:,} of them twice", seconds)


def _basis(recorder: PlaceRecorder, table: ImageTable, settings: AttendSettings, seed: int) -> PlaceBasis:
    """The principal components of the places of some images."""
    drawn = np.random.default_rng((seed, 8)).permutation(len(table))[:_BASIS_IMAGES]
    batches = image_batches(
        table[np.sort(drawn)],
        recorder.image_size,
        settings.batch_size,
        workers=settings.workers,
        device=recorder.network.device,
    )
    return PlaceBasis.fit((recorder(images) for images, _, _ in batches), seed)


def _places(
    recorder: PlaceRecorder, basis: PlaceBasis, table: ImageTable, settings: AttendSettings, folder: Path | None
) -> Places:
    """The places of every image of a table."""
    places = ArrayToFill(folder, "places", (len(table), GRID, GRID), level_type(COMPONENTS))
    batches = _batches(table, recorder.image_size, settings, recorder.network.device)
    for images, _, index in track(batches, f"describing the places of {len(table)} {table.split} images"):
        places[index.numpy()] = to_levels(basis(recorder(images)).cpu().numpy())
    done: Places = places.filled()
    return done


@checked
def attend_split(
    classifier: Classifier,
    table: ImageTable,
    settings: AttendSettings | None = None,
    *,
    folder: str | Path | None = None,
) -> SplitAttention:
    """Compute the attention of a classifier for the images of one table; see `attend`.

    Raises
    ------
    ModelError
        The outputs of the classifier are not the classes of the images.
    DataError
        The table is empty.

    Examples
    --------
    ``maps = slim.attend_split(slim.wrap(my_module), data.test).maps``
    """
    settings = settings or AttendSettings()
    with GradCam(classifier.for_classes(table.class_names), settings.method, settings.precision) as cam:
        return _attended(cam, table, settings, folder)


def _attended(cam: GradCam, table: ImageTable, settings: AttendSettings, folder: str | Path | None) -> SplitAttention:
    """The attention for the images of one table."""
    if not len(table):
        raise DataError(f"There must be images to attend to. Got an empty {table.split} table. Select some.")
    arrays: dict[str, ArrayToFill] = {}
    counts = np.zeros(2, np.int64)  # of flat maps, and of those that are not finite
    batches = _batches(table, cam.classifier.image_size, settings, cam.classifier.device)
    for images, y, index in track(batches, f"computing the attention for {len(table)} {table.split} images"):
        forward = cam(images)
        classes = y.to(forward.logits.device) if settings.explain == "label" else forward.logits.argmax(1)
        made = _rows(forward, classes, settings.pooling)
        counts += [int((made["maps"].max((1, 2)) == 0).sum()), int((~forward.finite).sum())]
        for name, rows in made.items():
            if name not in arrays:
                arrays[name] = ArrayToFill(folder, name, (len(table), *rows.shape[1:]), rows.dtype)
            arrays[name][index.numpy()] = rows
    filled: dict[str, Any] = {name: array.filled() for name, array in arrays.items()}
    _warn_about_maps(len(table), processes.summed(counts), cam.classifier.layer)
    return SplitAttention(**filled, table=table, explain=settings.explain)


def _batches(table: ImageTable, image_size: int, settings: AttendSettings, device: torch.device) -> ImageBatches:
    """This process's share of the images."""
    if len(table) < processes.count():
        raise DataError(
            f"There must be at least as many images as processes. Got {len(table)} {table.split} images for "
            f"{processes.count()}. Start fewer (--nproc-per-node)."
        )
    order = np.arange(len(table))[processes.share(len(table))]
    return image_batches(table, image_size, settings.batch_size, order=order, workers=settings.workers, device=device)


def _rows(forward: ForwardPass, classes: Tensor, pooling: Literal["mean", "sum"]) -> dict[str, NDArray[Any]]:
    """One batch's rows of each array, as they are stored; values that are not finite become zero."""
    maps = forward.maps(classes)
    core, environment = pool(maps, forward.activations.nan_to_num(0.0, 0.0, 0.0), pooling)
    finer = upsample(maps, forward.finer.shape[2])
    there, elsewhere = pool(finer, forward.finer.nan_to_num(0.0, 0.0, 0.0), "mean")
    contrast = torch.where(finer.amax((1, 2))[:, None] > 0, there - elsewhere, 0.0)
    probabilities = forward.logits.float().nan_to_num(0.0, 0.0, 0.0).softmax(1)
    features = forward.features.nan_to_num(0.0, 0.0, 0.0)
    rows = {
        "maps": maps,
        "core": core,
        "environment": environment,
        "contrast": contrast,
        "features": features,
        "probabilities": probabilities,
    }
    arrays = {name: values.detach().cpu().numpy() for name, values in rows.items()}
    return {name: to_steps(array, _BITS[name]) if name in _BITS else array for name, array in arrays.items()}


def _warn_about_maps(n: int, counts: Ints, layer: str) -> None:
    """Warn of maps that are flat or not finite."""
    flat, broken = counts.tolist()
    if broken:
        warnings.warn(
            f"{broken} of {n} images gave activations that are not finite; their maps are zero. "
            "Try --precision 32-true.",
            SlimWarning,
            stacklevel=4,
        )
    if flat > n / 2:
        warnings.warn(
            f"{flat} of {n} maps are flat: no activation at layer {layer} supports the class. In a "
            "transformer, the last block's output has no gradient on patch tokens: choose an earlier layer (--layer).",
            SlimWarning,
            stacklevel=4,
        )
