"""Compose benchmark data sets whose shortcut is known, from cut-outs and scenes.

    python benchmarks/compose.py KIND PARTS PETS FOLDER

KIND is one of:

multi    apple, car, cup, pear and tomato, each with a usual scene out of three (90 % of train; the rest is split
         evenly between the other two). Attribute: scene.
hard     cats and dogs on three scenes that dominate the features but do not depend on the class; a small sticker of
         random colour in the corner of 95 % of the cats of train and 5 % of its dogs. Attribute: sticker.
two      like hard, with the scene as a second shortcut: 80 % of the cats of train in the forest, 80 % of its dogs by
         the sea. Attribute: sticker.
clean    like hard, without stickers. Attribute: scene.
company  like clean, with a second thing of about the same size in the other half of the picture: a cup beside 95 % of
         the cats of train and 5 % of its dogs, else an apple. The mask shows the animal only. Attribute: companion.
coat     like clean, with tinted fur: warm for 95 % of the cats of train and 5 % of its dogs, else cold.
         Attribute: coat.

PARTS holds ``objects/CLASS/OBJECT_VIEW.png`` (with an alpha channel) and ``scenes/SCENE/*.jpg``. PETS holds a table
``metadata.csv`` of photographs with masks; its column ``object`` identifies the individual animal. Splits share no
objects, animals or scenes; val and test are balanced over class and attribute.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

SIDE = 128
SCENES = ("forest", "sea", "street")
SPLITS = ("train", "val", "test")
SHARES = {"train": 0.6, "val": 0.15, "test": 0.25}
SIZES = {
    "multi": {"train": 1500, "val": 300, "test": 900},
    "hard": {"train": 1200, "val": 240, "test": 720},
    "two": {"train": 1200, "val": 240, "test": 720},
    "clean": {"train": 900, "val": 240, "test": 720},
    "company": {"train": 1200, "val": 240, "test": 720},
    "coat": {"train": 1200, "val": 240, "test": 720},
}
MARKS = {
    "hard": ("sticker", (0, 1)),
    "two": ("sticker", (0, 1)),
    "company": ("companion", ("apple", "cup")),
    "coat": ("coat", ("cold", "warm")),
}
"""The attribute of a kind besides the scene, and its values: the usual one of dogs, the usual one of cats."""
FRUIT = ("apple", "car", "cup", "pear", "tomato")
STICKER = 18
"""Diameter of a sticker in pixels."""
TINTS = {"cold": (80, 150, 255), "warm": (240, 125, 20)}
"""Colours of about the same brightness."""


def compose(kind: str, parts: Path, pets: Path, folder: Path, seed: int = 0) -> None:
    """Write ``images``, ``masks`` and ``metadata.csv``."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    scenes = {scene: _parted(sorted((parts / "scenes" / scene).glob("*.jpg")), rng) for scene in SCENES}
    cutouts = _things(parts, FRUIT, rng) if kind == "multi" else _animals(pets)
    column, values = MARKS.get(kind, (None, (None, None)))
    companions = _things(parts, values, rng) if kind == "company" else []
    rows = []
    for split in SPLITS:
        for number, (y, scene, mark) in enumerate(_plan(kind, split, len(cutouts), rng)):
            cutout = _cutout(_drawn(cutouts[y][split], rng))
            photo = Image.open(_drawn(scenes[SCENES[scene]][split], rng)).convert("RGB")
            photo = photo.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            if column == "coat":
                _tint(cutout, TINTS[values[mark]], rng)
            if column == "companion":
                half = int(rng.integers(2))
                mask = _paste(photo, cutout, rng, (0.44, 0.5), half)
                # Cups and apples fill more of their extent than animals do: a shorter edge gives the same area.
                _paste(photo, _cutout(_drawn(companions[mark][split], rng)), rng, (0.34, 0.4), 1 - half)
            else:
                mask = _paste(photo, cutout, rng)
            if column == "sticker" and mark:
                _stick(photo, rng)
            name = f"{split}_{number:05d}"
            photo.save(folder / "images" / f"{name}.jpg", quality=92)
            mask.save(folder / "masks" / f"{name}.png")
            label = FRUIT[y] if kind == "multi" else ("cat", "dog")[y]
            row = {
                "img_filename": f"images/{name}.jpg",
                "mask_filename": f"masks/{name}.png",
                "y": y,
                "class_name": label,
                "split": split,
                "scene": SCENES[scene],
            }
            rows.append(row if column is None else {**row, column: values[mark]})
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)


def _plan(kind: str, split: str, n_classes: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """The class, scene and mark (an index of the values in `MARKS`) of each photograph of a split."""
    n = SIZES[kind][split] // n_classes
    plan = []
    for y in range(n_classes):
        scene = np.arange(n) % 3
        mark = np.arange(n) // 3 % 2 == 0
        if split == "train":
            mark = rng.permutation(n) < round((0.95, 0.05)[y % 2] * n)
            usual = {"multi": 0.9, "two": 0.8}.get(kind)
            if usual is not None:
                others = [s for s in range(3) if s != y % 3]
                scene = np.where(np.arange(n) < round(usual * n), y % 3, np.resize(others, n))
        plan += [(y, int(scene[i]), int(mark[i])) for i in range(n)]
    return plan


def _drawn(items: list, rng: np.random.Generator):
    """One of the items at random."""
    return items[int(rng.integers(len(items)))]


def _parted(items: list[Path], rng: np.random.Generator) -> dict[str, list[Path]]:
    """Distribute items over the splits at random."""
    order = [items[i] for i in rng.permutation(len(items))]
    ends = [0, *(round(len(order) * share) for share in np.cumsum(list(SHARES.values())))]
    return {split: order[ends[i] : ends[i + 1]] for i, split in enumerate(SPLITS)}


def _things(parts: Path, names: Sequence[str], rng: np.random.Generator) -> list[dict[str, list[Path]]]:
    """The views of the objects of the named classes, by class and split."""
    classes = []
    for name in names:
        views = sorted((parts / "objects" / name).glob("*.png"))
        objects = _parted(sorted({Path(view.stem.split("_")[0]) for view in views}), rng)
        classes.append({split: [v for v in views if Path(v.stem.split("_")[0]) in objects[split]] for split in SPLITS})
    return classes


def _animals(pets: Path) -> list[dict[str, list[tuple[Path, Path]]]]:
    """Photographs and masks of animals, by class and split."""
    table = pd.read_csv(pets / "metadata.csv").drop_duplicates(["object", "split"])
    split_names = {0: "train", 1: "val", 2: "test"}
    return [
        {
            split_names[int(split)]: [
                (pets / row.img_filename, pets / row.mask_filename) for row in photos.itertuples(index=False)
            ]
            for split, photos in table[table["y"] == y].groupby("split")
        }
        for y in (0, 1)
    ]


def _cutout(source: Path | tuple[Path, Path]) -> Image.Image:
    """An object with an alpha channel, cropped to its extent."""
    if isinstance(source, tuple):
        cutout = Image.open(source[0]).convert("RGB")
        cutout.putalpha(Image.open(source[1]).convert("L").resize(cutout.size))
    else:
        cutout = Image.open(source).convert("RGBA")
    return cutout.crop(cutout.getchannel("A").point(lambda v: 255 * (v > 127)).getbbox())


def _tint(cutout: Image.Image, color: tuple[int, int, int], rng: np.random.Generator) -> None:
    """Blend a colour into the object."""
    alpha = cutout.getchannel("A")
    cutout.paste(color, mask=Image.new("L", cutout.size, round(255 * rng.uniform(0.35, 0.45))))
    cutout.putalpha(alpha)


def _paste(
    photo: Image.Image,
    cutout: Image.Image,
    rng: np.random.Generator,
    edges: tuple[float, float] = (0.35, 0.6),
    half: int | None = None,
) -> Image.Image:
    """Paste the object at a random position and return its mask.

    Its longer edge is between the two shares of the photograph's. It stays in the left (0) or right (1) half, if given.
    """
    room = SIDE if half is None else SIDE // 2
    side = float(rng.uniform(*edges)) * SIDE / max(cutout.size)
    cutout = cutout.resize([max(8, round(edge * side)) for edge in cutout.size], Image.Resampling.LANCZOS)
    left = int(rng.integers(0, room - cutout.width + 1)) + room * (half or 0)
    corner = (left, int(rng.integers(0, SIDE - cutout.height + 1)))
    photo.paste(cutout, corner, cutout)
    mask = Image.new("L", photo.size)
    mask.paste(cutout.getchannel("A").point(lambda v: 255 * (v > 127)), corner)
    return mask


def _stick(photo: Image.Image, rng: np.random.Generator) -> None:
    """Draw a round sticker into a corner of the photograph."""
    color = tuple(int(v) for v in 255 * np.array(np.random.default_rng(rng.integers(6)).permutation([1.0, 0.85, 0.1])))
    left, top = (int(rng.choice([3, SIDE - STICKER - 3])) + int(rng.integers(-2, 3)) for _ in range(2))
    ImageDraw.Draw(photo).ellipse((left, top, left + STICKER, top + STICKER), fill=color)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(SIZES))
    for name in ("parts", "pets", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    compose(options.kind, options.parts, options.pets, options.folder, options.seed)
