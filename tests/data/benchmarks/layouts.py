"""Miniature copies of the benchmarks, in the layouts in which they are published."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

SIZE = (20, 16)  # width and height
WATERBIRDS = "waterbird_complete95_forest2water2"
CUB_IDS = 500  # what CUB adds to the position of an image here
VARIATIONS = ("original", "mixed_same", "mixed_rand", "only_fg")


def save(path: Path, label: int, shade: int) -> None:
    """A noisy image whose colour tells the label and whose brightness the place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    pixels = rng.integers(0, 40, (SIZE[1], SIZE[0], 3)) + 60 * shade
    pixels[4:12, 5:14, label % 3] = 250
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def save_mask(path: Path) -> None:
    """The mask of the coloured part, in the grey values of CUB: how many people marked a pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[3:13, 4:15] = 51
    mask[4:12, 5:14] = 204
    Image.fromarray(mask).save(path)


def waterbirds(root: Path, *, n: int = 40) -> Path:
    """The official folder, and beside it CUB's segmentations and boxes, whose rows stand in another order."""
    rows = []
    species = ("001.Black_footed_Albatross", "021.Eastern_Towhee", "009.Brewer_Blackbird", "010.Red_winged_Blackbird")
    for i in range(n):
        y, place = int(i % 4 < 2), i // 4 % 2
        name = f"{species[i % 4]}/bird_{i:04}.jpg"
        save(root / WATERBIRDS / name, y, place)
        save_mask(root / "segmentations" / name.replace(".jpg", ".png"))
        rows.append((i + 1, name, y, (0, 0, 1, 0, 2)[i // 8 % 5], place, "/o/ocean/00002178.jpg"))
    columns = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
    pd.DataFrame(rows, columns=columns).to_csv(root / WATERBIRDS / "metadata.csv", index=False)
    (root / "CUB_200_2011").mkdir()
    backwards = [(CUB_IDS + row[0], row[1], row[0] % 5) for row in rows[::-1]]
    lines = {
        "images": [f"{cub_id} {name}" for cub_id, name, _ in backwards],
        "bounding_boxes": [f"{cub_id} {x}.0 4.0 9.0 8.0" for cub_id, _, x in backwards[::-1]],
    }
    for table, text in lines.items():
        (root / "CUB_200_2011" / f"{table}.txt").write_text("\n".join(text) + "\n")
    return root


def celeba(root: Path, *, csv: bool = False, n: int = 30) -> Path:
    """The lists as text, with the number of images first and no newline last, or as the CSV files of Kaggle."""
    names = [f"{i + 1:06}.jpg" for i in range(n)]
    values = [(1 if i % 2 else -1, 1 if i // 2 % 2 else -1, -1) for i in range(n)]
    splits = [(0, 0, 0, 0, 1, 2)[i // 4 % 6] for i in range(n)]
    columns = ("Blond_Hair", "Male", "Young")
    images = root / "img_align_celeba" / ("img_align_celeba" if csv else "")
    for name, (blond, male, _) in zip(names, values, strict=True):
        save(images / name, int(blond > 0), int(male > 0))
    if csv:
        table = pd.DataFrame(values, columns=columns)
        table.insert(0, "image_id", names)
        table.to_csv(root / "list_attr_celeba.csv", index=False)
        pd.DataFrame({"image_id": names, "partition": splits}).to_csv(root / "list_eval_partition.csv", index=False)
        return root
    lines = [str(n), " ".join(columns) + " "]
    lines += [f"{name} " + " ".join(f"{value:2}" for value in row) for name, row in zip(names, values, strict=True)]
    (root / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    listed = "\n".join(f"{name} {split}" for name, split in zip(names, splits, strict=True))
    (root / "list_eval_partition.txt").write_text(listed)
    return root


def isic(root: Path, *, n: int = 60) -> Path:
    """The challenge's folders, and the table of artefacts, separated by semicolons and naming .png files."""
    lines = [";image;dark_corner;hair;gel_border;gel_bubble;ruler;ink;patches;label;label_string"]
    for i in range(n):
        label, patches = i % 2, i // 2 % 2
        name = f"ISIC_{i:07}"
        save(root / "ISIC2018_Task1-2_Training_Input" / f"{name}.jpg", label, patches)
        save_mask(root / "ISIC2018_Task1_Training_GroundTruth" / f"{name}_segmentation.png")
        lines.append(f"{i};{name}.png;0;{i // 4 % 2};0;0;0;0;{patches};{label};{('benign', 'malignant')[label]}")
    (root / "isic_bias.csv").write_text("\n".join(lines) + "\n")
    return root


def nico(root: Path, *, n: int = 10) -> Path:
    """NICO: the contexts of each class."""
    for superclass, label, contexts in (
        ("Animal", "bear", ("in forest", "on snow")),
        ("Animal", "dog", ("on snow", "at home")),
        ("Vehicle", "boat", ("in water", "at wharf")),
    ):
        for place, context in enumerate(contexts):
            for i in range(n):
                save(root / superclass / label / context / f"{i}.jpg", len(label), place)
    return root


def nico_plus(root: Path, *, n: int = 10) -> Path:
    """NICO++ as released for its challenge: the classes of each context."""
    for place, context in enumerate(("autumn", "dim", "grass")):
        for y, label in enumerate(("hot air balloon", "cow")):
            for i in range(n):
                save(root / "track_1/public_dg_0416/train" / context / label / f"{context}_{i:06}.jpg", y, place)
    (root / "track_1/public_dg_0416/public_test_flat").mkdir()
    save(root / "track_1/public_dg_0416/public_test_flat/0.jpg", 0, 0)
    return root


def imagenet9(root: Path, *, variations: Sequence[str] = VARIATIONS, n: int = 8) -> Path:
    """The training archive's folder and the challenge's, with the masks of the original images as arrays."""
    for y, label in enumerate(("00_dog", "01_bird", "02_wheeled vehicle")):
        for split, size in (("train", 2 * n), ("val", n)):
            for i in range(size):
                save(root / "in9l" / split / label / f"n020_{split}_{i}.JPEG", y, y)
        for variation in variations:
            for i in range(n):
                save(root / "bg_challenge" / variation / "val" / label / f"fg_n020_{i}.JPEG", y, i % 3)
        masks = root / "bg_challenge" / "fg_mask" / "val" / label
        masks.mkdir(parents=True)
        for i in range(n):
            mask = np.zeros((SIZE[1], SIZE[0]), bool)
            mask[4:12, 5:14] = True
            np.save(masks / f"fg_n020_{i}.npy", mask)
    return root


LAYOUTS = {
    "waterbirds": waterbirds,
    "waterbirds-fixed": waterbirds,
    "celeba": celeba,
    "isic": isic,
    "nico": nico,
    "imagenet9": imagenet9,
}


def packed(source: Path, target: Path, *names: str, flat: bool = False) -> Path:
    """Pack parts of a folder into an archive, as its suffix says; `flat` leaves out the name of the part."""
    target.parent.mkdir(parents=True, exist_ok=True)
    files = [path for name in names for path in sorted((source / name).rglob("*")) if path.is_file()]
    above = source / names[0] if flat else source
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            for path in files:
                archive.write(path, path.relative_to(above))
        return target
    with tarfile.open(target, "w:gz") as archive:
        for path in files:
            archive.add(path, path.relative_to(above))
    return target
