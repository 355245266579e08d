"""`slim.look`: where a model looks, in files, PIL images and tables, and what a notebook shows of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import slim
from slim.data import ImageTable
from slim.network.classifier import Classifier
from slim.network.look import Looks
from slim.runs.look import looks
from slim.stages.evaluate.measuring import evaluate_classifier

Photos = Callable[..., ImageTable]
Small = Callable[..., Classifier]

pytestmark = pytest.mark.usefixtures("small_and_quiet")


def test_look_sees_files_as_the_stage_attend_does(photos: Photos, small_classifier: Small) -> None:
    table, model = photos(20), small_classifier()
    seen = slim.look(model, table.paths, explain="predicted")
    attention = slim.attend_split(model, table, slim.AttendSettings(explain="predicted", precision="32-true"))
    assert [one.prediction for one in seen] == [f"class {k}" for k in attention.probabilities.argmax(1)]
    np.testing.assert_allclose([one.map for one in seen], attention.maps, atol=1e-5)
    np.testing.assert_allclose([one.confidence for one in seen], attention.probabilities.max(1), atol=1e-5)
    assert {one.label for one in seen} == {None}


def test_look_at_a_table_knows_labels_masks_and_the_aiou_that_evaluate_measures(
    photos: Photos, small_classifier: Small
) -> None:
    table, model = photos(20, masks=True), small_classifier()
    seen = slim.look(model, table)
    measured = evaluate_classifier(model, table, slim.EvaluateSettings(precision="32-true")).attention
    values = [one.aiou for one in seen if one.aiou is not None]
    assert measured is not None
    assert np.mean(values) == pytest.approx(measured["aiou"].value, abs=1e-6)
    assert [one.label for one in seen] == [one.explained for one in seen] == [f"class {k}" for k in table.y]
    assert {one.region_kind for one in seen} == {"mask"}
    assert seen.frame["aiou"].notna().sum() == len(values)


def test_attention_indexes_to_the_same_looks(photos: Photos, small_classifier: Small) -> None:
    table, model = photos(6, masks=True), small_classifier()
    attention = slim.attend_split(model, table, slim.AttendSettings(precision="32-true"))
    seen = slim.look(model, table)
    assert [one.caption for one in attention] == [one.caption.replace(_aiou(one), "") for one in seen]
    np.testing.assert_allclose(attention[-1].map, seen[5].map, atol=1e-5)
    assert len(list(attention)) == 6
    with pytest.raises(IndexError):
        attention[6]


def _aiou(one: slim.Look) -> str:
    return "" if one.aiou is None else f" · AIoU {one.aiou:.2f}"


def test_loaded_attention_shows_images_once_it_has_them(
    photos: Photos, small_classifier: Small, tmp_path: Path
) -> None:
    table = photos(4)
    slim.attend_split(small_classifier(), table).save(tmp_path / "maps")
    loaded = slim.SplitAttention.load(tmp_path / "maps")
    with pytest.raises(slim.DataError, match="Call attention.of"):
        loaded[0]
    assert loaded.of(table)[0].path == table.paths[0]
    with pytest.raises(slim.DataError, match="must be those of the 4 maps. Got 3"):
        loaded.of(table[:3])


def test_look_takes_an_image_in_memory_a_plain_module_and_the_class_to_explain() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
    )
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 90), dtype=np.uint8))
    maps = [slim.look(net, grey, explain=name)[0] for name in ("0", "1")]
    assert [one.explained for one in maps] == ["0", "1"]
    assert not np.allclose(maps[0].map, maps[1].map)
    with pytest.raises(slim.ModelError, match="one of the model's, such as 0, 1. Got 'zebra'"):
        slim.look(net, grey, explain="zebra")


@pytest.mark.parametrize(("size", "height"), [((400, 300), 120), ((30, 900), 120), ((900, 30), 8)])
def test_picture_is_as_high_as_it_should_be_and_holds_every_panel(
    size: tuple[int, int], height: int, small_classifier: Small
) -> None:
    (seen,) = slim.look(small_classifier(), Image.new("RGB", size, "grey"))
    picture = seen.image(120)
    assert picture.height == height + 64
    assert picture.width == 3 * round(size[0] * height / size[1]) + 32


def test_looks_are_computed_as_they_are_taken(photos: Photos, small_classifier: Small) -> None:
    table = photos(40)
    Path(table.paths[-1]).unlink()
    assert next(looks(small_classifier(), table)).path == table.paths[0]


def test_sheet_and_html_hold_all_and_escape_names(photos: Photos, small_classifier: Small) -> None:
    model = small_classifier()
    table = photos(3)
    evil = ImageTable(table.frame, ("<script>", "class 1"), split="test")
    names = type(model)(**{**vars(model), "class_names": ("<script>", "class 1")})
    seen = slim.look(names, evil)
    html = seen._repr_html_() + seen[0]._repr_html_() + evil._repr_html_()
    assert "<script>" not in html
    assert html.count("data:image/jpeg;base64,") == 3
    one = seen[0].image()
    assert seen.image().size == (2 * one.width, 2 * one.height)
    assert Looks([])._repr_html_() == "Looks(0 images)"


def test_reference_of_a_run_is_named_by_its_folder(finished_run: Path) -> None:
    data = slim.open_run(finished_run).data
    by_run = slim.look(finished_run, data.test[:2])
    by_folder = slim.look(str(finished_run / "01-reference"), data.test[:2])
    retrained = slim.look(finished_run / "08-retrained", data.test[:2])
    assert by_run.frame.equals(by_folder.frame)
    assert not by_run.frame.equals(retrained.frame)


def test_a_network_of_imagenet_is_named_alone_though_two_classes_are_cranes(photos: Photos) -> None:
    (seen,) = slim.look("tf_efficientnet_lite0", photos(1).paths, explain="crane (517)")
    assert seen.explained == "crane (517)"


def test_model_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(slim.ModelError, match="Got 'resnet999'"):
        slim.look("resnet999", tmp_path / "a.png")
    with pytest.raises(slim.ModelError, match="must hold model.json"):
        slim.look(tmp_path, tmp_path / "a.png")


@pytest.mark.parametrize("image", [np.zeros((8, 8, 3), np.uint8), torch.zeros(3, 8, 8), 3, [None]])
def test_an_image_of_another_kind_is_refused(image: object, small_classifier: Small) -> None:
    with pytest.raises(slim.DataError, match="a file or a PIL image. Got (ndarray|Tensor|int|NoneType)"):
        slim.look(small_classifier(), image)  # type: ignore[arg-type]


def test_any_collection_of_files_is_several(photos: Photos, small_classifier: Small) -> None:
    paths = photos(3).frame["path"]
    assert len(slim.look(small_classifier(), paths)) == len(slim.look(small_classifier(), iter(paths))) == 3  # type: ignore[arg-type]
