"""`compose`: a benchmark out of cut-outs and scenes, as Waterbirds was made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from slim.arguments import checked
from slim.data.composing.card import BenchmarkCard, measure_card
from slim.data.composing.drawing import SPLITS, Cutout, cut_out, drawn, parted, paste, stick
from slim.data.composing.settings import ComposeSettings
from slim.data.pixels import read_cutout, read_image
from slim.errors import DataError
from slim.progress import track

_QUALITY = 92
_LEAST = 4  # objects of a class, or photographs of a scene, so that each split has one
_PICTURES = (".png", ".webp", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")

Pool = dict[str, list[Cutout]]
"""Objects of one class by split."""


@checked
def compose(
    objects: str | Path,
    scenes: str | Path,
    target: str | Path,
    settings: ComposeSettings | None = None,
    *,
    seed: int = 0,
) -> BenchmarkCard:
    """Compose a benchmark with a known shortcut.

    Parameters
    ----------
    objects
        A folder per class with cut-outs: images with an alpha channel.
    scenes
        A folder per scene with photographs.
    target
        Receives ``images``, ``masks``, ``metadata.csv`` and the card, ``card.json``; empty, or not there yet.
    settings
        See `ComposeSettings`.
    seed
        Random seed.

    Returns
    -------
    BenchmarkCard
        What was measured on the images.

    Raises
    ------
    DataError
        There are fewer than two classes or scenes, or too few objects or photographs for three splits; a cut-out is not
        transparent around its object; or the target is not empty.

    Notes
    -----
    No two splits share an object or a photograph of a scene. Val and test are balanced over classes and scenes, or
    classes and stickers.

    References
    ----------
    S. Sagawa et al., "Distributionally robust neural networks for group shifts", ICLR 2020: Waterbirds.

    Examples
    --------
    ``print(slim.compose("cutouts", "places", "benchmark"))``
    """
    settings = settings or ComposeSettings()
    target = Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"A benchmark must be composed into an empty folder. Got {target}. Name another one.")
    classes, places = _folders(Path(objects), "classes"), _folders(Path(scenes), "scenes")
    for name, files in classes.items() if settings.views else ():
        _check_enough(Path(objects) / name, len({_object(file) for file in files}))
    for path in (path for files in classes.values() for path in files):
        read_cutout(str(path))
    rng = np.random.default_rng(seed)
    grounds = {name: parted(files, rng) for name, files in places.items()}
    pools = [parted_objects(files, settings.views, rng) for files in classes.values()]
    table = compose_images(pools, grounds, target, settings, rng, tuple(classes))
    table.to_csv(target / "metadata.csv", index=False)
    card = measure_card(target, table, settings)
    card.save(target)
    return card


def parted_objects(files: Sequence[Path], views: bool, rng: np.random.Generator) -> Pool:
    """Distribute objects over the splits; with `views`, files that agree up to the first underscore are one object."""
    if not views:
        return parted(list(files), rng)
    pool = parted(sorted({_object(file) for file in files}), rng)
    return {split: [file for file in files if _object(file) in pool[split]] for split in SPLITS}


def _object(view: Path) -> str:
    """What identifies the object of a view."""
    return view.stem.split("_")[0]


def compose_images(
    pools: Sequence[Pool],
    grounds: dict[str, dict[str, list[Path]]],
    target: Path,
    settings: ComposeSettings,
    rng: np.random.Generator,
    class_names: Sequence[str],
) -> pd.DataFrame:
    """Write the images and masks, and return their table.

    Parameters
    ----------
    pools
        Objects by class and split.
    grounds
        Photographs by scene and split.
    target, settings
        As for `compose`.
    rng
        Source of all that is random.
    class_names
        Of each class.
    """
    for name in ("images", "masks"):
        (target / name).mkdir(parents=True, exist_ok=True)
    names, rows = tuple(grounds), []
    for split in SPLITS:
        plan = _plan(split, len(pools), len(names), settings, rng)
        for number, (y, scene, mark) in enumerate(track(plan, f"composing {len(plan)} {split} images")):
            cutout = cut_out(drawn(pools[y][split], rng))
            photo = read_image(str(drawn(grounds[names[scene]][split], rng)))
            photo = photo.resize((settings.side, settings.side), Image.Resampling.LANCZOS)
            mask = paste(photo, cutout, rng, (settings.smallest, settings.largest))
            if settings.shortcut == "sticker" and mark:
                stick(photo, rng, round(settings.sticker * settings.side))
            stem = f"{split}_{number:05d}"
            row = save_image(target, stem, photo, mask) | {"y": y, "class_name": class_names[y], "split": split}
            row |= {"scene": names[scene]} | ({"sticker": int(mark)} if settings.shortcut == "sticker" else {})
            rows.append(row)
    return pd.DataFrame(rows)


def save_image(target: Path, stem: str, photo: Image.Image, mask: Image.Image) -> dict[str, object]:
    """Write an image and its mask, and return their names."""
    photo.save(target / "images" / f"{stem}.jpg", quality=_QUALITY)
    mask.save(target / "masks" / f"{stem}.png")
    return {"img_filename": f"images/{stem}.jpg", "mask_filename": f"masks/{stem}.png"}


def _plan(
    split: str, n_classes: int, n_scenes: int, settings: ComposeSettings, rng: np.random.Generator
) -> list[tuple[int, int, bool]]:
    """The class, the scene and whether there is a sticker, of each image of a split."""
    n = getattr(settings, split) // n_classes
    plan = []
    for y in range(n_classes):
        scene, mark = np.arange(n) % n_scenes, np.arange(n) // n_scenes % 2 == 0
        if split == "train":
            share = (settings.correlation, 1 - settings.correlation)[y % 2]
            mark = rng.permutation(n) < round(share * n)
            if settings.shortcut == "scene":
                usual = y % n_scenes
                others = [other for other in range(n_scenes) if other != usual]
                scene = np.where(np.arange(n) < round(settings.correlation * n), usual, np.resize(others, n))
        plan += [(y, int(scene[i]), bool(mark[i])) for i in range(n)]
    return plan


def _folders(root: Path, kinds: str) -> dict[str, list[Path]]:
    """The pictures in each folder of a folder."""
    folders = sorted(one for one in root.iterdir() if one.is_dir() and one.name[0] != ".") if root.is_dir() else []
    if len(folders) < 2:
        got = f"{len(folders)} in {root}" if root.is_dir() else f"{root}, which is no folder"
        raise DataError(f"There must be a folder for each of at least two {kinds}. Got {got}. Check the path.")
    found = {folder.name: _pictures(folder) for folder in folders}
    for name, files in found.items():
        _check_enough(root / name, len(files))
    return found


def _check_enough(folder: Path, n: int) -> None:
    """Refuse what cannot be distributed over three splits."""
    if n < _LEAST:
        raise DataError(
            f"There must be at least {_LEAST} objects of a class, and {_LEAST} pictures of a scene, so that no two "
            f"splits share one. Got {n} in {folder}. Add some, or move the folder away."
        )


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in _PICTURES)
