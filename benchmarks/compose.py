"""Compose the project's own benchmarks with `slim.compose`, and others with a second shortcut or an unusual one.

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
from PIL import Image

from slim.data.composing.compose import Pool, compose_images, parted_objects, save_image
from slim.data.composing.drawing import SPLITS, cut_out, drawn, parted, paste, stick, tint
from slim.data.composing.settings import ComposeSettings

SCENES = ("forest", "sea", "street")
COMPOSED = {
    "multi": ComposeSettings(correlation=0.9, train=1500, val=300, test=900, views=True),
    "hard": ComposeSettings(shortcut="sticker"),
    "clean": ComposeSettings(shortcut="none", train=900),
}
"""Kinds that `slim.compose` makes."""

MARKS = {
    "two": ("sticker", (0, 1)),
    "company": ("companion", ("apple", "cup")),
    "coat": ("coat", ("cold", "warm")),
}
"""The attribute of the other kinds besides the scene, and its values: that usual of dogs, and that usual of cats."""

FRUIT = ("apple", "car", "cup", "pear", "tomato")
TINTS = {"cold": (80, 150, 255), "warm": (240, 125, 20)}
"""Colours of about the same brightness."""

LIKE_HARD = COMPOSED["hard"]
EDGES = (LIKE_HARD.smallest, LIKE_HARD.largest)


def compose_kind(kind: str, parts: Path, pets: Path, folder: Path, seed: int = 0) -> None:
    """Write ``images``, ``masks`` and ``metadata.csv``."""
    rng = np.random.default_rng(seed)
    scenes = {scene: parted(sorted((parts / "scenes" / scene).glob("*.jpg")), rng) for scene in SCENES}
    pools = _things(parts, FRUIT, rng) if kind == "multi" else _animals(pets)
    if kind in COMPOSED:
        names = FRUIT if kind == "multi" else ("cat", "dog")
        table = compose_images(pools, scenes, folder, COMPOSED[kind], rng, names)
    else:
        companions = _things(parts, MARKS[kind][1], rng) if kind == "company" else []
        table = _marked(kind, pools, scenes, companions, folder, rng)
    table.to_csv(folder / "metadata.csv", index=False)


def _marked(
    kind: str,
    pools: Sequence[Pool],
    scenes: dict[str, dict[str, list[Path]]],
    companions: Sequence[Pool],
    folder: Path,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """The images of a kind that `slim.compose` does not make."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    column, values = MARKS[kind]
    rows = []
    for split in SPLITS:
        for number, (y, scene, mark) in enumerate(_plan(kind, split, rng)):
            cutout = cut_out(drawn(pools[y][split], rng))
            photo = Image.open(drawn(scenes[SCENES[scene]][split], rng)).convert("RGB")
            photo = photo.resize((LIKE_HARD.side, LIKE_HARD.side), Image.Resampling.LANCZOS)
            if column == "coat":
                tint(cutout, TINTS[values[mark]], rng)
            if column == "companion":
                half = int(rng.integers(2))
                mask = paste(photo, cutout, rng, (0.44, 0.5), half)
                # Cups and apples fill more of their extent than animals do: a shorter edge gives the same area.
                paste(photo, cut_out(drawn(companions[mark][split], rng)), rng, (0.34, 0.4), 1 - half)
            else:
                mask = paste(photo, cutout, rng, EDGES)
            if column == "sticker" and mark:
                stick(photo, rng, round(LIKE_HARD.sticker * LIKE_HARD.side))
            row = save_image(folder, f"{split}_{number:05d}", photo, mask)
            row |= {"y": y, "class_name": ("cat", "dog")[y], "split": split, "scene": SCENES[scene]}
            rows.append(row | {column: values[mark]})
    return pd.DataFrame(rows)


def _plan(kind: str, split: str, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """The class, scene and mark (an index of the values in `MARKS`) of each photograph of a split."""
    n = getattr(LIKE_HARD, split) // 2
    plan = []
    for y in range(2):
        scene = np.arange(n) % 3
        mark = np.arange(n) // 3 % 2 == 0
        if split == "train":
            mark = rng.permutation(n) < round((0.95, 0.05)[y] * n)
            if kind == "two":
                others = [s for s in range(3) if s != y]
                scene = np.where(np.arange(n) < round(0.8 * n), y, np.resize(others, n))
        plan += [(y, int(scene[i]), int(mark[i])) for i in range(n)]
    return plan


def _things(parts: Path, names: Sequence[str], rng: np.random.Generator) -> list[Pool]:
    """The views of the objects of the named classes, by class and split."""
    return [parted_objects(sorted((parts / "objects" / name).glob("*.png")), True, rng) for name in names]


def _animals(pets: Path) -> list[Pool]:
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted({*COMPOSED, *MARKS}))
    for name in ("parts", "pets", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    compose_kind(options.kind, options.parts, options.pets, options.folder, options.seed)
