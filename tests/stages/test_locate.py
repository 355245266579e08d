"""The stage: maps of every image from answers, masks or boxes, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.test_localization import GRID, Scenes, scenes

from slim.arrays import Floats
from slim.data import Dataset, ImageTable, image_batches
from slim.errors import DataError, SettingsError, SlimWarning
from slim.localization import Localizer
from slim.matting import SIDE
from slim.metrics import wilson_interval
from slim.stages.attend import Attention, SplitAttention
from slim.stages.embed import Space
from slim.stages.judgements import PLACE_COLUMNS, Judgements, queried_images
from slim.stages.locate.locate import locate
from slim.stages.locate.object_maps import ObjectMaps
from slim.stages.settings import LocateSettings

pytestmark = pytest.mark.usefixtures("small_and_quiet")

SIZES = {"train": 24, "val": 9, "test": 4}
Photos = Callable[..., ImageTable]


class World:
    """Photos of noise, whose places say where the objects and the shortcuts are."""

    def __init__(self, photos: Photos, pool: str = "train", **columns: Any) -> None:
        tables = {split: photos(n, split=split, seed=i, **columns) for i, (split, n) in enumerate(SIZES.items())}
        self.data = Dataset(**tables, fingerprint="0123456789abcdef", name="noise")
        self.scenes = {split: scenes(n, seed, central=False) for seed, (split, n) in enumerate(SIZES.items())}
        self.attention = Attention(**{split: _attended(one) for split, one in self.scenes.items()})
        plane = np.zeros((SIZES[pool], 2), np.float32)
        self.space, self.pool = Space(plane, plane, plane, pool), pool

    def judged(self, answers: list[str], where: Floats | None = None) -> Judgements:
        """The first images of the pool judged in this way."""
        frame = queried_images(self.data.split(self.pool), np.arange(len(answers)))
        frame = frame.assign(answer=answers, annotator="ann", seconds=1.0)
        if where is not None:
            frame[list(PLACE_COLUMNS)] = where[: len(answers)]
        return Judgements(frame)

    def locate(self, judgements: Judgements, settings: LocateSettings | None = None, **options: Any) -> ObjectMaps:
        return locate(self.data, self.attention, self.space, judgements, settings, **options)

    def clicks(self) -> Floats:
        return self.scenes[self.pool].clicks()


def _attended(one: Scenes) -> SplitAttention:
    """The attention of a model that looks at the shortcut in every other image."""
    n = len(one.places)
    nothing = np.zeros((n, 1), np.float32)
    maps = one.attention(np.arange(n) % 2 == 0)
    return SplitAttention(maps, nothing, nothing, nothing, nothing, np.full((n, 2), 0.5, np.float32), one.places)


def agreement(maps: Any, one: Scenes) -> float:
    """Mean intersection over union of maps and objects."""
    truth = np.kron(one.objects, np.ones((SIDE // GRID, SIDE // GRID), bool))
    found = maps > 127
    return float(((found & truth).sum((1, 2)) / (found | truth).sum((1, 2))).mean())


def test_maps_are_of_every_image_of_train_and_val_and_find_the_objects(photos: Photos) -> None:
    world = World(photos)
    maps = world.locate(world.judged(["spurious"] * 8, world.clicks()))
    for split in ("train", "val"):
        found = maps.split(split)
        assert (found.dtype, found.shape) == (np.uint8, (SIZES[split], SIDE, SIDE))
        assert agreement(found, world.scenes[split]) > 0.4
    assert maps.source == "answers"
    assert repr(maps) == "ObjectMaps(train 24, val 9; from answers; 8 of 8 left-out places inside)"


def test_answers_without_places_are_enough_for_maps_but_not_for_trust(photos: Photos) -> None:
    world = World(photos)
    maps = world.locate(world.judged(["core", "spurious"] * 4))
    assert agreement(maps.val, world.scenes["val"]) > 0.4
    assert maps.trust is not None
    assert (maps.trust.n, maps.trust.hits, maps.trust.share) == (0, 0, None)
    assert (maps.trust.low, maps.trust.high) == (0, 1)
    assert repr(maps) == "ObjectMaps(train 24, val 9; from answers)"


@pytest.mark.parametrize("answers", [[], ["unsure", "unsure"]])
def test_maps_need_no_answers(photos: Photos, answers: list[str], tmp_path: Path) -> None:
    world = World(photos)
    maps = world.locate(world.judged(answers))
    assert maps.train.shape == (24, SIDE, SIDE)
    assert 0 < (maps.train > 127).mean() < 0.7
    maps.save(tmp_path)
    assert ObjectMaps.load(tmp_path).trust == maps.trust


def test_judgements_are_about_the_pool(photos: Photos) -> None:
    world = World(photos, "val")
    maps = world.locate(world.judged(["spurious"] * 8, world.clicks()))
    assert agreement(maps.train, world.scenes["train"]) > 0.4
    assert maps.trust is not None
    assert maps.trust.area == pytest.approx((maps.val > 127).mean())


def test_trust_counts_the_places_that_maps_made_without_them_contain(photos: Photos) -> None:
    world = World(photos)
    where = world.clicks()
    where[1] = [0.02, 0.98, 0, 0]  # in the corner, where no object is
    where[2] = np.nan
    where[3, 2:] = 0.25  # a box
    maps = world.locate(world.judged(["spurious"] * 10, where))
    trust = maps.trust
    assert trust is not None
    assert (trust.n, trust.hits, trust.share) == (9, 8, 8 / 9)
    assert (trust.low, trust.high) == pytest.approx(wilson_interval(8, 9))
    assert trust.area == pytest.approx((maps.train > 127).mean())
    assert trust.area < trust.low


def test_each_left_out_image_is_mapped_from_its_own_photo_and_tried_at_its_place(
    photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, tried = World(photos), []
    where = world.clicks()
    where[1], where[2], where[5] = [1, 0.5, 0, 0], [0.5, 1, 0, 0], [0.5, 0.5, 0, 0]
    where[[0, 3, 4]] = np.nan

    def maps(scores: Any, images: Any, cut: float) -> Any:
        if len(images) == 1:
            tried.append(images[0])
        made = np.full((len(images), SIDE, SIDE), 127, np.uint8)  # just not the object
        made[:, 32, 63] = 128
        return made

    monkeypatch.setattr("slim.stages.locate.locate.object_maps", maps)
    monkeypatch.setattr("slim.stages.locate.locate._MOST_LEFT_OUT", 3)
    monkeypatch.setattr("slim.stages.locate.locate._CHUNK", 7)
    trust = world.locate(
        world.judged(["unsure", "spurious", "core", "spurious", "unsure", "spurious", "core"], where)
    ).trust
    assert trust is not None
    assert (trust.n, trust.hits) == (3, 1)  # of images 1, 2 and 5
    assert trust.area == 1 / SIDE**2
    ((expected, _, _),) = image_batches(world.data.train, SIDE, 3, order=[1, 2, 5])
    assert all(map(np.array_equal, tried, expected))


def test_localizer_without_answers_is_made_from_a_few_images_drawn_by_the_seed(
    photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, samples = World(photos), []
    monkeypatch.setattr("slim.stages.locate.locate._SAMPLE", 5)
    monkeypatch.setattr(
        "slim.stages.locate.locate.fit_localizer",
        lambda answers, sample: samples.append(sample) or Localizer(np.ones(12), 0.0),
    )
    for seed in (0, 0, 1):
        world.locate(world.judged([]), seed=seed)
    places = world.scenes["train"].places
    chosen = [[int(np.flatnonzero((places == one).all((1, 2, 3)))[0]) for one in sample] for sample in samples]
    assert [len(set(one)) for one in chosen] == [5, 5, 5]
    assert chosen[0] == chosen[1] != chosen[2]


def test_maps_take_the_room_that_was_asked_for(photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        "slim.stages.locate.locate.check_room", lambda what, disk, folder: asked.append((what, disk, folder))
    )
    world = World(photos, masks=True)
    maps = world.locate(world.judged([]), LocateSettings(source="masks"), folder=tmp_path)
    assert asked == [("object maps", maps.train.nbytes + maps.val.nbytes, tmp_path)]


def test_random_places_are_noticed(photos: Photos) -> None:
    world = World(photos)
    where = np.zeros((12, 4))
    where[:, :2] = np.random.default_rng(1).random((12, 2))
    with pytest.warns(
        SlimWarning, match=r"no evidence that the object maps find the object: \d+ of 12 maps made without a place"
    ):
        world.locate(world.judged(["spurious"] * 12, where))


@pytest.mark.parametrize("kind", ["masks", "boxes"])
def test_maps_from_masks_and_boxes_are_these(photos: Photos, kind: Any) -> None:
    world = World(photos, masks=True, boxes=True)
    if kind == "boxes":
        world = World(photos, boxes=True)
    maps = world.locate(world.judged([]), LocateSettings(source=kind))
    for split in ("train", "val"):
        table = world.data.split(split)
        for i in (0, len(table) - 1):
            np.testing.assert_array_equal(maps.split(split)[i], 255 * table.region(i, SIDE, kind))
    assert (maps.source, maps.trust) == (kind, None)


def test_missing_masks_are_refused_and_the_image_is_named(photos: Photos) -> None:
    world = World(photos, masks=True)
    world.data.val.frame.loc[3, "mask"] = ""
    message = f"Object maps from masks need masks of all val images. Got none of {world.data.val.paths[3]}. Make them"
    with pytest.raises(DataError, match=message):
        world.locate(world.judged([]), LocateSettings(source="masks"))
    with pytest.raises(DataError, match="need boxes of all train images. Got none of .*--locate.source answers"):
        World(photos).locate(world.judged([]), LocateSettings(source="boxes"))


def test_empty_mask_is_refused_and_the_image_is_named(photos: Photos, tmp_path: Path) -> None:
    world = World(photos, masks=True)
    table = world.data.val
    Image.new("L", table.image(1).size).save(tmp_path / "empty.png")
    table.frame.loc[1, "mask"] = str(tmp_path / "empty.png")
    with pytest.raises(DataError, match=f"need an object in every mask. Got an empty mask of {table.paths[1]}"):
        world.locate(world.judged([]), LocateSettings(source="masks"))


def test_attention_without_places_is_refused(photos: Photos) -> None:
    world = World(photos)
    splits = {
        name: replace(world.attention.split(name), places=np.zeros((0, GRID, GRID, 0), np.int8)) for name in SIZES
    }
    world.attention = Attention(**splits)
    with pytest.raises(DataError, match=r"places of all 24 images\. Got 0\. Compute it with slim\.attend"):
        world.locate(world.judged(["spurious"]))


def test_maps_on_disk_are_those_in_memory_and_come_back(photos: Photos, tmp_path: Path) -> None:
    world = World(photos)
    judgements = world.judged(["spurious"] * 6, world.clicks())
    in_memory = world.locate(judgements)
    on_disk = world.locate(judgements, LocateSettings(batch_size=5), folder=tmp_path)
    on_disk.save(tmp_path)
    loaded = ObjectMaps.load(tmp_path)
    assert isinstance(loaded.train, np.memmap)
    for split in ("train", "val"):
        np.testing.assert_array_equal(loaded.split(split), in_memory.split(split))
    assert (loaded.trust, loaded.source) == (in_memory.trust, "answers")


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(SettingsError, match="at least 1. Got 0. Try 64"):
        LocateSettings(batch_size=0)
