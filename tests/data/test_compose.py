"""`slim.compose`: a benchmark whose shortcut, masks and splits are as they were asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from PIL import Image, ImageDraw

from slim.data import load_dataset
from slim.data.composing.card import cramers_v
from slim.data.composing.compose import compose, parted_objects
from slim.data.composing.settings import ComposeSettings
from slim.errors import DataError, SettingsError

pytestmark = pytest.mark.usefixtures("small_and_quiet")

SMALL = {"side": 32, "train": 60, "val": 12, "test": 24}
COLOURS = {"cup": (200, 60, 60), "pear": (60, 200, 60)}
GROUNDS = {"sea": (20, 20, 160), "street": (120, 120, 120)}


@pytest.fixture
def material(tmp_path: Path) -> tuple[Path, Path]:
    """Round cut-outs of two classes, each object of another shade and in two views, and scenes of one colour."""
    for name, colour in COLOURS.items():
        (tmp_path / "objects" / name).mkdir(parents=True)
        for i in range(8):
            for view in range(2):
                cutout = Image.new("RGBA", (24, 20))
                ImageDraw.Draw(cutout).ellipse((4, 2, 18, 16), fill=(*colour[:2], colour[2] + i, 255))
                cutout.save(tmp_path / "objects" / name / f"{i}_{view}.png")
    for name, colour in GROUNDS.items():
        (tmp_path / "scenes" / name).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (50, 40), (*colour[:2], colour[2] + 10 * i)).save(tmp_path / "scenes" / name / f"{i}.png")
    return tmp_path / "objects", tmp_path / "scenes"


def _table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "metadata.csv")


def test_train_has_the_correlation_and_the_other_splits_are_balanced(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    card = compose(*material, tmp_path / "set", ComposeSettings(correlation=0.9, **SMALL))
    table = _table(tmp_path / "set")
    counts = table.groupby(["split", "class_name", "scene"]).size()
    assert counts["train"].to_dict() == {
        ("cup", "sea"): 27,
        ("cup", "street"): 3,
        ("pear", "sea"): 3,
        ("pear", "street"): 27,
    }
    assert set(counts["test"]) == {6}
    assert card.correlation["scene"] == pytest.approx({"train": 0.8, "val": 0.0, "test": 0.0})
    assert card.images == {"train": 60, "val": 12, "test": 24}


def test_the_card_finds_the_class_in_the_background_of_train_only(material: tuple[Path, Path], tmp_path: Path) -> None:
    card = compose(*material, tmp_path / "set", ComposeSettings(correlation=1, **SMALL))
    assert card.probe["background"]["train"] > 0.95
    assert card.probe["background"]["test"] < 0.6
    assert card.probe["object"]["test"] > 0.9
    assert json.loads((tmp_path / "set" / "card.json").read_text())["probe"]["object"] == card.probe["object"]
    assert "class and scene: Cramér's V 1.00 in train, 0.00 in val" in repr(card)


def test_the_card_finds_nothing_in_the_background_where_there_is_no_shortcut(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for photo in material[1].glob("*/*.png"):  # which a probe could learn by heart
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(photo)
    card = compose(*material, tmp_path / "set", ComposeSettings(shortcut="none", **SMALL))
    assert card.probe["background"]["train"] < 0.7


def test_masks_are_where_the_objects_are(material: tuple[Path, Path], tmp_path: Path) -> None:
    card = compose(*material, tmp_path / "set", ComposeSettings(shortcut="none", **SMALL))
    table = _table(tmp_path / "set")
    pear = table[(table["class_name"] == "pear") & (table["scene"] == "sea")].iloc[0]
    pixels = np.asarray(Image.open(tmp_path / "set" / pear["img_filename"])).astype(int)
    inside = np.asarray(Image.open(tmp_path / "set" / pear["mask_filename"])) > 127
    green = pixels[..., 1] > pixels[..., 2]
    assert (green == inside).mean() > 0.95
    assert card.area["train"][1] == pytest.approx(inside.mean(), rel=0.8)


def test_splits_share_no_photograph_of_a_scene(material: tuple[Path, Path], tmp_path: Path) -> None:
    compose(*material, tmp_path / "set", ComposeSettings(shortcut="none", views=True, smallest=0.6, **SMALL))
    seen: dict[str, set[tuple[str, int]]] = {}
    for row in _table(tmp_path / "set").itertuples():
        pixels = np.asarray(Image.open(tmp_path / "set" / row.img_filename)).astype(int)
        outside = np.asarray(Image.open(tmp_path / "set" / row.mask_filename)) <= 127
        shade = round(float(np.median(pixels[outside][:, 2])) / 10)
        seen.setdefault(row.split, set()).add((row.scene, shade))
    assert len(seen["train"]) > 4
    assert not seen["train"] & (seen["val"] | seen["test"])


def test_views_of_an_object_stay_in_one_split(material: tuple[Path, Path]) -> None:
    files = sorted((material[0] / "cup").iterdir())
    pool = parted_objects(files, True, np.random.default_rng(0))
    objects = {split: {file.stem[0] for file in pool[split]} for split in pool}
    assert sum(map(len, objects.values())) == 8
    assert [len(pool[split]) for split in ("train", "val", "test")] == [10, 2, 4]


def test_stickers_are_on_every_other_class(material: tuple[Path, Path], tmp_path: Path) -> None:
    card = compose(*material, tmp_path / "set", ComposeSettings(shortcut="sticker", correlation=0.9, **SMALL))
    table = _table(tmp_path / "set")
    shares = table.groupby(["split", "class_name"])["sticker"].mean()
    assert shares["train"].to_dict() == pytest.approx({"cup": 0.9, "pear": 0.1})
    assert shares["test"].to_dict() == pytest.approx({"cup": 0.5, "pear": 0.5})
    assert card.correlation["sticker"]["train"] == pytest.approx(0.8)
    assert abs(card.correlation["scene"]["train"]) < 0.01


def test_the_same_seed_composes_the_same_bytes(material: tuple[Path, Path], tmp_path: Path) -> None:
    few = ComposeSettings(side=32, train=8, val=4, test=4)
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        compose(*material, tmp_path / name, few, seed=seed)
    files = [file.relative_to(tmp_path / "one") for file in sorted((tmp_path / "one").rglob("*.*"))]
    contents = {name: [(tmp_path / name / file).read_bytes() for file in files] for name in ("one", "again", "other")}
    assert contents["one"] == contents["again"] != contents["other"]


def test_the_result_loads_with_masks_and_attribute(material: tuple[Path, Path], tmp_path: Path) -> None:
    compose(*material, tmp_path / "set", ComposeSettings(**SMALL))
    data = load_dataset(tmp_path / "set", attribute="scene")
    assert data.train.regions == "masks"
    assert data.train.group_names[0] == "cup, scene=sea"


def _opaque(objects: Path, scenes: Path) -> None:
    Image.new("RGB", (9, 9)).save(objects / "cup" / "0_0.png")


def _invisible(objects: Path, scenes: Path) -> None:
    Image.new("RGBA", (9, 9)).save(objects / "pear" / "0_0.png")


def _damaged(objects: Path, scenes: Path) -> None:
    (objects / "pear" / "0_0.png").write_bytes(b"\x89PNG")


def _few(objects: Path, scenes: Path) -> None:
    for file in sorted((scenes / "sea").iterdir())[3:]:
        file.unlink()


def _one_class(objects: Path, scenes: Path) -> None:
    (objects / "cup").rename(objects.parent / "cup")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_opaque, r"transparent around its object. Got one that is opaque everywhere in .*0_0.png"),
        (_invisible, r"Got one that is transparent everywhere in .*pear"),
        (_damaged, r"0_0.png must be a readable image"),
        (_few, r"4 pictures of a scene.*Got 3 in .*sea"),
        (_one_class, r"at least two classes. Got 1"),
    ],
)
def test_material_that_does_not_do_is_named(
    spoil: Callable[[Path, Path], None], message: str, material: tuple[Path, Path], tmp_path: Path
) -> None:
    spoil(*material)
    with pytest.raises(DataError, match=message):
        compose(*material, tmp_path / "set", ComposeSettings(**SMALL))
    assert not (tmp_path / "set").exists()


def test_objects_in_too_many_views_of_too_few_are_refused(material: tuple[Path, Path], tmp_path: Path) -> None:
    for file in (material[0] / "cup").glob("[3-7]_*.png"):
        file.unlink()
    with pytest.raises(DataError, match="Got 3 in .*cup"):
        compose(*material, tmp_path / "set", ComposeSettings(views=True, **SMALL))


def test_a_folder_with_something_in_it_is_left_alone(material: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="empty folder"):
        compose(*material, tmp_path / "set", ComposeSettings(**SMALL))


@pytest.mark.parametrize(
    "values", [{"correlation": 1.2}, {"smallest": 0.7}, {"largest": 1.5}, {"side": 8}, {"val": 1}, {"sticker": 0}]
)
def test_settings_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"Try|must"):
        ComposeSettings(**values)


def test_cramers_v_does_not_depend_on_the_number_of_images() -> None:
    y, a = pd.Series([0, 0, 0, 1, 1, 1]), pd.Series(list("aabbba"))
    assert cramers_v(y, a) == pytest.approx(1 / 3)
    assert cramers_v(pd.Series([*y] * 5), pd.Series([*a] * 5)) == pytest.approx(1 / 3)


def test_the_command_prints_the_card_and_what_to_do_next(
    material: tuple[Path, Path], tmp_path: Path, slim_command: Callable[..., Result]
) -> None:
    words = ["compose", tmp_path / "set", "--objects", material[0], "--scenes", material[1]]
    sizes = [word for name, value in SMALL.items() for word in (f"--{name}", value)]
    result = slim_command(*words, *sizes, "--json")
    assert result.exit_code == 0, result.stderr
    card = json.loads(result.stdout)
    assert card["next"] == f"slim run runs/composed --data {tmp_path / 'set'} --attribute scene"
    assert card["images"]["train"] == 60
    assert slim_command(*words).exit_code == 1
