"""Each benchmark is read as published, tree or archives; what is wrong first is named, and nothing is written there."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.data.benchmarks import layouts
from tests.data.benchmarks.layouts import LAYOUTS, packed

from slim.data import Dataset, load_dataset
from slim.data.benchmarks import NAMES, copies
from slim.data.benchmarks.registry import BENCHMARKS
from slim.errors import DataError, SlimWarning
from slim.progress import quiet


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(name: str, root: Path, **options: object) -> Dataset:
    """A miniature, which differs from what was published."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", SlimWarning)
        return load_dataset(name, root=root, **options)  # type: ignore[arg-type]


def everything(folder: Path) -> dict[str, float]:
    return {str(path): path.stat().st_mtime for path in folder.rglob("*")}


def test_names_are_those_of_the_registry() -> None:
    assert tuple(BENCHMARKS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_tree_is_read_without_writing_into_it_and_loads_again_from_its_source(
    name: str, tmp_path: Path, own_cache: Path
) -> None:
    root = LAYOUTS[name](tmp_path / "copy")
    before = everything(root)
    data = load(name, root)
    assert everything(root) == before
    assert not own_cache.exists()
    assert data.name == name
    assert data.source["source"] == name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlimWarning)
        assert load_dataset(**data.source).fingerprint == data.fingerprint


def test_waterbirds_have_their_groups_masks_and_boxes_by_id(tmp_path: Path) -> None:
    data = load("waterbirds", layouts.waterbirds(tmp_path / "copy"))
    assert data.train.group_names[:2] == ("landbird, place=land", "landbird, place=water")
    table = pd.read_csv(tmp_path / "copy" / layouts.WATERBIRDS / "metadata.csv").sort_values("img_filename")
    for split, code in (("train", 0), ("val", 1), ("test", 2)):
        rows, part = table[table["split"] == code], data.split(split)
        assert part.y.tolist() == rows["y"].tolist()
        assert part.a is not None
        assert part.a.tolist() == rows["place"].tolist()
        assert [Path(path).stem for path in part.frame["mask"]] == [Path(p).stem for p in part.paths]
        # The box of an image begins at the column that is its id modulo 5.
        assert part.frame["box_x"].tolist() == (rows["img_id"] % 5).tolist()
    region = data.train.region(0, 20)
    assert region.mean() == pytest.approx(8 * 9 / (16 * 20), abs=0.05)  # what most people marked, and not the rest


def test_waterbirds_come_without_masks_or_with_some(tmp_path: Path) -> None:
    root = layouts.waterbirds(tmp_path / "copy")
    shutil.rmtree(root / "CUB_200_2011")
    next((root / "segmentations").rglob("bird_0000.png")).unlink()
    assert load("waterbirds", root).train.has_region.tolist()[:2] == [False, True]
    shutil.rmtree(root / "segmentations")
    assert load("waterbirds", root).train.regions is None


def test_fixed_waterbirds_label_the_landbirds_and_keep_their_backgrounds(tmp_path: Path) -> None:
    root = layouts.waterbirds(tmp_path / "copy")
    official, fixed = load("waterbirds", root), load("waterbirds-fixed", root)
    towhees = np.array(["Towhee" in path for path in official.train.paths])
    assert official.train.y[towhees].all()
    assert not fixed.train.y[towhees].any()
    assert (official.train.y == fixed.train.y)[~towhees].all()
    assert np.array_equal(official.train.a, fixed.train.a)  # type: ignore[arg-type]


@pytest.mark.parametrize("csv", [False, True])
def test_celeba_is_read_from_text_without_a_last_newline_and_from_csv(tmp_path: Path, csv: bool) -> None:
    data = load("celeba", layouts.celeba(tmp_path / "copy", csv=csv))
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [22, 4, 4]
    assert data.train.class_names == ("not blond", "blond")
    assert data.train.attribute_names == ("Male=0", "Male=1")
    assert data.train.y.tolist()[:4] == [0, 1, 0, 1]
    assert data.train.a is not None
    assert data.train.a.tolist()[:4] == [0, 0, 1, 1]


def test_another_attribute_of_celeba_may_be_the_spurious_one(tmp_path: Path) -> None:
    data = load("celeba", layouts.celeba(tmp_path / "copy"), attribute=["Male", "Young"])
    assert data.train.attribute_names == ("Male=0, Young=0", "Male=1, Young=0")


def test_isic_joins_jpg_images_masks_and_patches(tmp_path: Path) -> None:
    data = load("isic", layouts.isic(tmp_path / "copy"))
    assert data.train.group_names[:2] == ("benign, patches=0", "benign, patches=1")
    for part in (data.train, data.val, data.test):
        assert part.groups is not None
        assert len(set(part.groups)) == 4  # each split has every group
        numbers = np.array([int(Path(path).stem[5:]) for path in part.paths])
        assert part.y.tolist() == (numbers % 2).tolist()
        assert part.a is not None
        assert part.a.tolist() == (numbers // 2 % 2).tolist()
        assert [Path(mask).name for mask in part.frame["mask"]] == [f"ISIC_{i:07}_segmentation.png" for i in numbers]
    assert load("isic", tmp_path / "copy", seed=1).fingerprint != data.fingerprint
    assert load("isic", tmp_path / "copy", attribute="hair").train.attribute_names == ("hair=0", "hair=1")


@pytest.mark.parametrize("part", ["", "Animal"])
def test_nico_has_contexts_of_classes(tmp_path: Path, part: str) -> None:
    data = load("nico", layouts.nico(tmp_path / "copy") / part)
    assert data.train.class_names == (("bear", "dog") if part else ("bear", "boat", "dog"))
    assert "bear, context=on snow" in data.train.group_names
    assert data.test.groups is not None
    assert len(set(data.test.groups)) == (4 if part else 6)


def test_nico_plus_has_classes_of_contexts(tmp_path: Path) -> None:
    data = load("nico", layouts.nico_plus(tmp_path / "copy"))
    assert data.train.class_names == ("cow", "hot air balloon")
    assert data.train.attribute_names == ("context=autumn", "context=dim", "context=grass")
    assert sum(len(data.split(name)) for name in ("train", "val", "test")) == 60  # the unlabelled test images stay out


def test_imagenet9_is_tested_on_the_original_variation_with_its_masks(tmp_path: Path) -> None:
    data = load("imagenet9", layouts.imagenet9(tmp_path / "copy"))
    assert data.train.class_names == ("dog", "bird", "wheeled vehicle")
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [48, 24, 24]
    assert data.train.regions is None  # so that nobody takes masks for answers about train
    assert data.test.regions == "masks"
    assert all("bg_challenge/original/val" in path for path in data.test.paths)
    assert data.test.region(0, 20).mean() == pytest.approx(8 * 9 / (16 * 20), abs=0.05)


ARCHIVES: dict[str, Callable[[Path, Path], object]] = {
    "waterbirds": lambda root, to: (
        packed(root, to / f"{layouts.WATERBIRDS}.tar.gz", layouts.WATERBIRDS),
        packed(root, to / "segmentations.tgz", "segmentations"),
        packed(root, to / "CUB_200_2011.tgz", "CUB_200_2011"),
    ),
    "celeba": lambda root, to: (
        packed(root, to / "img_align_celeba.zip", "img_align_celeba"),
        [shutil.copy(path, to) for path in root.glob("*.txt")],
    ),
    "isic": lambda root, to: (
        packed(root, to / "ISIC2018_Task1-2_Training_Input.zip", "ISIC2018_Task1-2_Training_Input"),
        packed(root, to / "ISIC2018_Task1_Training_GroundTruth.zip", "ISIC2018_Task1_Training_GroundTruth"),
        shutil.copy(root / "isic_bias.csv", to),
    ),
    "imagenet9": lambda root, to: (
        packed(root, to / "backgrounds_challenge_data.tar.gz", "bg_challenge"),
        packed(root, to / "in9l.tar.gz", "in9l"),
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_are_read_as_the_tree_is_and_unpacked_once_elsewhere(
    name: str, tmp_path: Path, own_cache: Path
) -> None:
    tree = LAYOUTS[name](tmp_path / "tree")
    ARCHIVES[name](tree, tmp_path / "archives")
    before = everything(tmp_path / "archives")
    data = load(name, tmp_path / "archives")
    assert everything(tmp_path / "archives") == before
    assert data.fingerprint == load(name, tree).fingerprint
    assert all(path.startswith(str(own_cache)) for path in data.train.paths)
    unpacked = everything(own_cache)
    load(name, tmp_path / "archives")
    assert everything(own_cache) == unpacked


def test_another_process_may_unpack_the_same_archive_at_the_same_time(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = layouts.celeba(tmp_path / "copy")
    packed(tree, tree / "img_align_celeba.zip", "img_align_celeba")
    shutil.rmtree(tree / "img_align_celeba")
    us, unpack = os.getpid(), copies._unpack

    def other_first(archive: Path, folder: Path) -> None:
        unpack(archive, folder)
        if os.getpid() == us:
            with monkeypatch.context() as other:
                other.setattr(os, "getpid", lambda: us + 1)
                load("celeba", tree)

    monkeypatch.setattr(copies, "_unpack", other_first)
    assert Path(load("celeba", tree).train.paths[0]).exists()
    assert len(list((own_cache / "unpacked").iterdir())) == 1


def test_archive_of_wilds_has_no_folder_of_its_own(tmp_path: Path) -> None:
    tree = layouts.waterbirds(tmp_path / "tree")
    packed(tree, tmp_path / "archives/waterbirds_v1.0.tar.gz", layouts.WATERBIRDS, flat=True)
    assert load("waterbirds", tmp_path / "archives").train.paths[0].endswith("bird_0000.jpg")


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_incomplete_archive_is_named_and_leaves_nothing(tmp_path: Path, own_cache: Path, suffix: str) -> None:
    tree = layouts.celeba(tmp_path / "copy") if suffix == ".zip" else layouts.waterbirds(tmp_path / "copy")
    name, folder = ("celeba", "img_align_celeba") if suffix == ".zip" else ("waterbirds", layouts.WATERBIRDS)
    archive = packed(tree, tree / f"{folder}{suffix}", folder)
    shutil.rmtree(tree / folder)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(DataError, match=f"{folder}{suffix} must be a complete archive.*Download it again"):
        load(name, tree)
    assert list((own_cache / "unpacked").iterdir()) == []


def test_what_a_killed_process_left_half_unpacked_goes_after_a_day(tmp_path: Path, own_cache: Path) -> None:
    tree = layouts.celeba(tmp_path / "copy")
    packed(tree, tree / "img_align_celeba.zip", "img_align_celeba")
    shutil.rmtree(tree / "img_align_celeba")
    load("celeba", tree)
    (folder,) = (own_cache / "unpacked").iterdir()
    killed, alive = (folder.with_name(f"{folder.name}.{number}.partial") for number in (1, 2))
    for half in (killed, alive):
        half.mkdir()
    os.utime(killed, (0, 0))
    shutil.rmtree(folder)
    load("celeba", tree)
    assert set((own_cache / "unpacked").iterdir()) == {folder, alive}


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "waterbirds",
            lambda r: (r / layouts.WATERBIRDS / "metadata.csv").unlink(),
            "must have metadata.csv, unpacked",
        ),
        (
            "waterbirds",
            lambda r: replace_in(r / layouts.WATERBIRDS / "metadata.csv", "place,", "where,"),
            "official table, with columns img_filename, y, split, place",
        ),
        (
            "waterbirds",
            lambda r: replace_in(r / layouts.WATERBIRDS / "metadata.csv", ",1,0,0,", ",1,0,2,"),
            "'place' .* must hold 0 and 1. Got '2'",
        ),
        ("waterbirds", lambda r: next(r.rglob("bird_0003.jpg")).unlink(), "1 of 40 missing.*bird_0003.jpg"),
        (
            "celeba",
            lambda r: (r / "list_eval_partition.txt").unlink(),
            "must have list_eval_partition.txt or list_eval",
        ),
        (
            "celeba",
            lambda r: shutil.rmtree(r / "img_align_celeba"),
            "must have img_align_celeba, unpacked or in img_al",
        ),
        (
            "celeba",
            lambda r: replace_in(r / "list_attr_celeba.txt", "30\n", "202599\n"),
            "first line says, 202599. Got 30",
        ),
        (
            "celeba",
            lambda r: replace_in(r / "list_attr_celeba.txt", "000003.jpg -1", "000003.jpg  0"),
            "'0' as Blond_Hair",
        ),
        ("celeba", lambda r: replace_in(r / "list_attr_celeba.txt", "Blond_Hair", "Hair"), "the attribute Blond_Hair"),
        (
            "celeba",
            lambda r: replace_in(r / "list_eval_partition.txt", "000005.jpg 0\n", ""),
            "split of every image. Got none for 000005.jpg, and for 1 images",
        ),
        ("isic", lambda r: replace_in(r / "isic_bias.csv", "patches", "stickers"), "columns image, label, patches"),
        ("isic", lambda r: replace_in(r / "isic_bias.csv", ";1;malignant", ";x;malignant"), "'label' .* Got 'x'"),
        ("isic", lambda r: (r / "isic_bias.csv").unlink(), "must have isic_bias.csv. Got ISIC2018"),
        (
            "nico",
            lambda r: layouts.save(r / "Animal/cat/0.jpg", 0, 0),
            "a folder for each context of a class. Got 0.jpg in",
        ),
        (
            "nico",
            lambda r: [shutil.rmtree(path) for path in r.glob("*/*") if path.name != "dog"],
            "folders of several classes. Got dog alone in",
        ),
        ("nico", lambda r: [shutil.rmtree(path) for path in r.iterdir()], "images in folders of classes and contexts"),
        ("imagenet9", lambda r: shutil.rmtree(r / "in9l"), "must have training images.*Get in9l.tar.gz"),
        (
            "imagenet9",
            lambda r: shutil.rmtree(r / "bg_challenge"),
            "must have bg_challenge, unpacked or in backgrounds",
        ),
        ("imagenet9", lambda r: shutil.rmtree(r / "in9l/val"), "folders of classes, such as 00_dog, in .*in9l/val"),
    ],
)
def test_first_thing_wrong_is_named_with_its_fix(
    name: str, change: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    root = LAYOUTS[name](tmp_path / "copy")
    change(root)
    with pytest.raises(DataError, match=message) as refused:
        load(name, root)
    assert len(str(refused.value).splitlines()) == 1


def test_miniature_is_read_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(SlimWarning, match="CelebA as published has 162,770 train images, this copy has 22: figures"):
        load_dataset("celeba", root=layouts.celeba(tmp_path / "copy"))


def test_name_alone_is_a_folder_or_what_was_downloaded(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"nico must be a folder here, or a copy.*slim data nico.*--root"):
        load_dataset("nico")
    layouts.nico(own_cache / "nico")
    assert load_dataset("nico").source["root"] == str(own_cache / "nico")
    (tmp_path / "nico").mkdir()
    with pytest.raises(DataError, match="nico must have metadata.csv or a folder of images for each class"):
        load_dataset("nico")
    with pytest.raises(DataError, match="root= of nico must be a folder that holds a copy. Got nowhere"):
        load_dataset("nico", root="nowhere")


def test_counts_as_published_pass_without_a_warning(tmp_path: Path) -> None:
    data = load("waterbirds", layouts.waterbirds(tmp_path / "copy"))
    rows = BENCHMARKS["waterbirds"].count(data)
    assert [row.published for row in rows[:5]] == [4795, 3498, 184, 56, 1057]
    assert [row.found for row in rows if not row.group] == [len(data.train), len(data.val), len(data.test)]
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        counts.setdefault(row.split, {})[row.group] = row.found
    replace(BENCHMARKS["waterbirds"], counts=counts).warn_of_differences(data)


@pytest.mark.parametrize("name", ["waterbirds", "waterbirds-fixed", "celeba"])
def test_published_groups_of_a_split_add_up_to_it_and_have_the_names_of_those_in_a_copy(
    name: str, tmp_path: Path
) -> None:
    data = load(name, LAYOUTS[name.removesuffix("-fixed")](tmp_path / "copy"))
    for rows in (
        [row for row in BENCHMARKS[name].count(data) if row.split == split] for split in ("train", "val", "test")
    ):
        whole, *groups = [row.published for row in rows]
        assert len(groups) == 4
        assert sum(count or 0 for count in groups) == whole
