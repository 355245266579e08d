"""Evaluation: accuracies over the right groups, and attention against masks and boxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from slim import processes
from slim.data import ImageTable
from slim.errors import DataError, ModelError, SettingsError
from slim.metrics import accuracy_by_group, inside_fraction, intersection_over_union
from slim.network.build import wrap
from slim.network.classifier import Classifier
from slim.network.gradcam import upsample
from slim.stages.attend import attend_split
from slim.stages.evaluate.evaluation import Groups
from slim.stages.evaluate.measuring import evaluate_classifier, evaluate_heads
from slim.stages.settings import AttendSettings, EvaluateSettings

pytestmark = pytest.mark.usefixtures("small_and_quiet")

Photos = Callable[..., ImageTable]
Nets = Callable[..., Classifier]
NAMES = ["inside_fraction", "iou", "aiou", "energy_inside", "pointing_game"]


def settings(**changed: Any) -> EvaluateSettings:
    return EvaluateSettings(**{"precision": "32-true", "batch_size": 3, **changed})


def sees_colours(n_classes: int = 3, size: int = 24) -> Classifier:
    """A network whose map of class 0 is the photo's red, of class 1 its green, and of class 2 its blue."""
    convolution = nn.Conv2d(3, n_classes, 1, bias=False)
    linear = nn.Linear(n_classes, n_classes, bias=False)
    with torch.no_grad():
        convolution.weight.copy_(torch.eye(3)[:n_classes, :, None, None])
        linear.weight.copy_(torch.eye(n_classes))
    module = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    return wrap(module, layer="1", image_size=size, mean=(0, 0, 0), std=(1, 1, 1))


def painted(folder: Path, parts: list[tuple[int, int, int, int, int]], box: tuple[int, ...], **columns: Any) -> Any:
    """A table of one photo, 48 wide and 24 high, black but for parts (colour, x, y, width, height)."""
    pixels = np.zeros((24, 48, 3), np.uint8)
    for colour, x, y, width, height in parts:
        pixels[y : y + height, x : x + width, colour] = 255
    Image.fromarray(pixels).save(folder / "painted.png")
    frame = pd.DataFrame([dict(zip(["box_x", "box_y", "box_width", "box_height"], map(float, box), strict=True))])
    frame.insert(0, "path", str(folder / "painted.png"))
    return ImageTable(frame.assign(**{"y": 0, **columns}), ("red", "green", "blue"), split="test")


def test_boxes_count_x_in_columns_and_y_in_rows(tmp_path: Path) -> None:
    """On a photo wider than high, the released code's [x, y] on (height, width) misses the object."""
    table = painted(tmp_path, [(0, 32, 0, 16, 8)], (32, 0, 16, 8))
    evaluation = evaluate_classifier(sees_colours(), table, settings())
    assert evaluation.attention is not None
    assert evaluation.attention["pointing_game"].value == 1
    assert evaluation.attention["inside_fraction"].value == 1
    assert evaluation.attention["iou"].value == pytest.approx(1, abs=0.1)
    swapped = painted(tmp_path, [(0, 32, 0, 16, 8)], (0, 16, 8, 8))
    other = evaluate_classifier(sees_colours(), swapped, settings()).attention
    assert other is not None
    assert other["inside_fraction"].value == 0


def test_aiou_takes_the_best_of_several_other_classes(tmp_path: Path) -> None:
    """Red covers the whole box, green a quarter of it, and blue half of it; all parts lie inside."""
    parts = [(0, 0, 0, 32, 16), (1, 0, 0, 16, 8), (2, 0, 0, 16, 16)]
    attention = evaluate_classifier(sees_colours(), painted(tmp_path, parts, (0, 0, 32, 16)), settings()).attention
    assert attention is not None
    assert attention["iou"].value == pytest.approx(1, abs=0.08)
    assert attention["aiou"].value == pytest.approx(1 / (1 + 0.5), abs=0.03)
    assert attention["aiou"].uniform == 0.5
    green = evaluate_classifier(sees_colours(), painted(tmp_path, parts, (0, 0, 32, 16), y=1), settings()).attention
    assert green is not None
    assert green["aiou"].value == pytest.approx(0.25 / (0.25 + 1), abs=0.03)


@pytest.mark.parametrize("kind", ["masks", "boxes"])
def test_a_uniform_map_gets_the_share_of_the_object_beside_each_measure(kind: str, photos: Photos) -> None:
    table = photos(6, n_classes=3, **{kind: True})
    attention = evaluate_classifier(sees_colours(), table, settings()).attention
    assert attention is not None
    assert list(attention) == NAMES
    share = np.mean([table.region(i, 24).mean() for i in range(6)])
    for name, measure in attention.items():
        assert measure.n == 6
        assert measure.value is not None
        assert 0 <= measure.value <= 1
        assert measure.uniform == pytest.approx(0.5 if name == "aiou" else share)


def test_a_network_that_sees_noise_gets_about_what_a_uniform_map_gets(photos: Photos) -> None:
    attention = evaluate_classifier(sees_colours(2), photos(40, masks=True), settings(batch_size=40)).attention
    assert attention is not None
    for name in ("inside_fraction", "energy_inside"):
        assert attention[name].value == pytest.approx(attention[name].uniform, abs=0.05)
    assert attention["aiou"].value == pytest.approx(0.5, abs=0.05)


def test_the_evaluation_transform_is_that_of_attend(photos: Photos, small_classifier: Nets) -> None:
    """The released code crops in training and squeezes in attention: maps and accuracies of other pixels."""
    table, classifier = photos(8, masks=True), small_classifier()
    attention = attend_split(classifier, table, AttendSettings(precision="32-true"))
    evaluation = evaluate_classifier(classifier, table, settings())
    np.testing.assert_array_equal(evaluation.predictions, attention.probabilities.argmax(1))
    np.testing.assert_allclose(evaluation.confidence, attention.probabilities.max(1), atol=1e-5)
    maps = upsample(torch.from_numpy(attention.maps), 16).numpy()
    masks = np.stack([table.region(i, 16) for i in range(8)])
    np.testing.assert_allclose(evaluation.inside, inside_fraction(maps, masks), atol=1e-4)
    assert evaluation.attention is not None
    expected = intersection_over_union(maps, masks).mean()
    assert evaluation.attention["iou"].value == pytest.approx(expected, abs=1e-4)


def test_the_batch_size_does_not_matter(photos: Photos, small_classifier: Nets) -> None:
    table, classifier = photos(7, masks=True, attribute=True), small_classifier()
    one, other = (evaluate_classifier(classifier, table, settings(batch_size=size)) for size in (2, 7))
    np.testing.assert_allclose(one.inside, other.inside, atol=1e-5)
    assert one.as_dict()["groups"] == other.as_dict()["groups"]


def test_without_masks_and_boxes_there_is_no_attention_but_accuracy(photos: Photos, small_classifier: Nets) -> None:
    table = photos(8)
    evaluation = evaluate_classifier(small_classifier(), table, settings())
    assert evaluation.attention is None
    assert evaluation.inside is None
    assert evaluation.average_accuracy == np.mean(evaluation.predictions == table.y)
    assert evaluation.groups_are == "label"
    assert evaluation.groups["name"].tolist() == ["class 0", "class 1"]


def test_masks_win_over_boxes_unless_boxes_are_asked_for(photos: Photos, small_classifier: Nets) -> None:
    table, classifier = photos(6, masks=True, boxes=True), small_classifier()
    moved = table.frame.assign(box_x=0.0, box_y=0.0, box_width=2.0, box_height=2.0)
    table = replace(table, frame=moved)
    automatic = evaluate_classifier(classifier, table, settings()).as_dict()["attention"]
    assert automatic == evaluate_classifier(classifier, table, settings(regions="masks")).as_dict()["attention"]
    assert automatic != evaluate_classifier(classifier, table, settings(regions="boxes")).as_dict()["attention"]


@pytest.mark.parametrize(("has", "wanted"), [("masks", "boxes"), ("boxes", "masks"), ("neither", "boxes")])
def test_regions_that_are_not_there_are_refused(has: str, wanted: Any, photos: Photos, small_classifier: Nets) -> None:
    table = photos(4, masks=has == "masks", boxes=has == "boxes")
    with pytest.raises(SettingsError, match=rf"compared with {wanted} only.*a test split without.*--regions"):
        evaluate_classifier(small_classifier(), table, settings(regions=wanted))


def test_images_without_a_mask_count_for_accuracy_only(photos: Photos) -> None:
    table = photos(6, masks=True)
    table.frame.loc[[0, 1, 2, 4], "mask"] = ""  # none of the first batch
    evaluation = evaluate_classifier(sees_colours(2), table, settings())
    assert evaluation.attention is not None
    assert evaluation.attention["iou"].n == 2
    assert evaluation.inside is not None
    assert np.isnan(evaluation.inside).tolist() == [True, True, True, False, True, False]
    assert evaluation.groups["n"].sum() == 6


def test_a_part_of_a_table_without_any_mask_has_no_measures(photos: Photos) -> None:
    table = photos(4, masks=True)
    table.frame["mask"] = ""
    evaluation = evaluate_classifier(sees_colours(2), table, settings())
    assert evaluation.attention == {}
    assert np.isnan(evaluation.inside).all()
    assert json.dumps(evaluation.as_dict(), allow_nan=False)


def test_boxes_count_for_images_whose_mask_is_missing(photos: Photos) -> None:
    table = photos(4, masks=True, boxes=True)
    table.frame.loc[[0, 1], "mask"] = ""
    evaluation = evaluate_classifier(sees_colours(2), table, settings(regions="boxes"))
    assert evaluation.attention is not None
    assert evaluation.attention["iou"].n == 4


def test_empty_masks_and_flat_maps_are_left_out_of_the_means(tmp_path: Path, photos: Photos) -> None:
    table = photos(4, masks=True)
    Image.new("L", (24, 16)).save(tmp_path / "empty.png")
    Image.new("RGB", (24, 16), (90, 90, 90)).save(tmp_path / "grey.png")
    table.frame.loc[0, "mask"] = str(tmp_path / "empty.png")
    table.frame.loc[1, "path"] = str(tmp_path / "grey.png")
    evaluation = evaluate_classifier(sees_colours(2), table, settings())
    assert evaluation.attention is not None
    assert {name: measure.n for name, measure in evaluation.attention.items()} == {
        "inside_fraction": 2,
        "iou": 3,
        "aiou": 2,
        "energy_inside": 2,
        "pointing_game": 2,
    }
    assert evaluation.inside is not None
    assert np.isnan(evaluation.inside[1])


def test_groups_come_from_the_split_that_is_evaluated_and_missing_ones_are_named(
    photos: Photos, small_classifier: Nets
) -> None:
    """The released code lets groups that the subset lacks drop out of the test split's worst group."""
    table, classifier = photos(16, attribute=True), small_classifier()
    whole = evaluate_classifier(classifier, table, settings())
    assert whole.groups_are == "label x attribute"
    assert whole.groups["n"].tolist() == [4, 4, 4, 4]
    expected = accuracy_by_group(whole.predictions == table.y, table.groups, table.group_names)
    assert whole.worst_group_accuracy == expected.worst_group_accuracy
    part = evaluate_classifier(classifier, table[table.groups != 2], settings())
    assert part.missing_groups == ("class 1, place=0",)
    assert part.groups["accuracy"].isna().tolist() == [False, False, True, False]
    assert part.adjusted_average_accuracy == pytest.approx(part.group_mean_accuracy)


def test_other_groups_may_be_given(photos: Photos, small_classifier: Nets) -> None:
    table = photos(8, attribute=True)
    groups = Groups(np.arange(8) % 3, ["x", "y", "z", "never"], None, "label x curated cell")
    evaluation = evaluate_classifier(small_classifier(), table, settings(), groups=groups)
    assert evaluation.groups_are == "label x curated cell"
    assert evaluation.groups["n"].tolist() == [3, 3, 2, 0]
    assert evaluation.missing_groups == ("never",)
    assert evaluation.adjusted_average_accuracy is None


def test_a_model_that_predicts_one_class_is_said_to(photos: Photos, small_classifier: Nets) -> None:
    classifier, table = small_classifier(), photos(8)
    assert not evaluate_classifier(classifier, table, settings()).predicts_one_class
    collapsed = classifier.with_head(torch.zeros(2, 12), torch.tensor([0.0, 1.0]))
    evaluation = evaluate_classifier(collapsed, table, settings())
    assert evaluation.predicts_one_class
    assert evaluation.as_dict()["predicts_one_class"] is True
    assert evaluation.worst_group_accuracy == 0


@pytest.mark.parametrize("regions", [{}, {"masks": True}])
def test_plain_values_are_json_without_nan(regions: dict[str, bool], photos: Photos, small_classifier: Nets) -> None:
    table = photos(8, attribute=True, **regions)
    evaluation = evaluate_classifier(small_classifier(), table[table.groups != 3], settings())
    values = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))
    assert values == evaluation.as_dict()
    assert values["missing_groups"] == ["class 1, place=1"]
    assert values["groups"][3]["accuracy"] is None
    assert values["groups"][0]["n"] == 2
    assert (values["attention"] is None) == (not regions)


def test_plain_values_of_measures_that_no_image_defines_are_none(tmp_path: Path, photos: Photos) -> None:
    table = photos(2, masks=True)
    Image.new("L", (24, 16)).save(tmp_path / "empty.png")
    table.frame["mask"] = str(tmp_path / "empty.png")
    evaluation = evaluate_classifier(sees_colours(2), table, settings())
    assert evaluation.as_dict()["attention"]["iou"] == {"value": None, "uniform": None, "n": 0}
    assert "iou" not in str(evaluation)


def test_printing_names_every_average_and_measure(photos: Photos, small_classifier: Nets) -> None:
    table = photos(8, attribute=True, masks=True)
    evaluation = evaluate_classifier(small_classifier(), table[table.groups != 3], settings())
    text = str(evaluation)
    for name in ["worst group ", "average ", "adjusted average ", "group mean ", *NAMES, "uniform map"]:
        assert name in text
    assert "missing groups    class 1, place=1" in text
    assert f"{evaluation.worst_group_accuracy:.3f}  ({evaluation.worst_group})" in text


@pytest.mark.parametrize("regions", [{}, {"masks": True}], ids=["none", "masks"])
def test_table_of_measures_holds_every_figure_that_is_known(
    regions: dict[str, bool], photos: Photos, small_classifier: Nets
) -> None:
    evaluation = evaluate_classifier(small_classifier(), photos(8, **regions), settings())
    expected = {
        "worst group accuracy": evaluation.worst_group_accuracy,
        "average accuracy": evaluation.average_accuracy,
        "group mean accuracy": evaluation.group_mean_accuracy,
    }
    expected |= {name.replace("_", " "): one.value for name, one in (evaluation.attention or {}).items()}
    assert len(expected) == (8 if regions else 3)
    assert evaluation._tables()["measures"].set_index("measure")["value"].to_dict() == expected


@pytest.mark.parametrize("layer", ["5", "4"])
def test_evaluating_leaves_the_network_and_the_table_as_they_were(
    layer: str, photos: Photos, small_classifier: Nets
) -> None:
    """With closed-form maps, and with those of autograd."""
    classifier, table = small_classifier(layer=layer), photos(4, masks=True)
    module = classifier.module.train()
    module[4].eval()
    module[0].requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    frame = table.frame.copy()
    evaluate_classifier(classifier, table, settings())
    assert [child.training for child in module] == [True] * 4 + [False] + [True] * 5
    assert [p.requires_grad for p in module.parameters()] == [False] * 2 + [True] * 6
    assert all(p.grad is None for p in module.parameters())
    assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in module.modules())
    pd.testing.assert_frame_equal(table.frame, frame)


@pytest.mark.parametrize("regions", [{"masks": True}, {}])
@pytest.mark.parametrize("name", ["cnn", "head of two layers"])
def test_heads_are_measured_in_one_pass_as_each_by_itself(
    regions: dict[str, bool], name: str, photos: Photos, small_classifier: Nets
) -> None:
    table = photos(7, **regions)
    first = small_classifier() if name == "cnn" else _with_two_layers(small_classifier())
    generator = torch.Generator().manual_seed(1)
    shape = first.linear.weight.shape
    other = first.with_head(torch.randn(shape, generator=generator), torch.randn(shape[0], generator=generator))
    together = evaluate_heads({"first": first, "other": other}, table, settings())
    for model, shared in ((first, together["first"]), (other, together["other"])):
        alone = evaluate_classifier(model, table, settings())
        assert shared.predictions.tolist() == alone.predictions.tolist()
        np.testing.assert_allclose(shared.confidence, alone.confidence, atol=1e-5)
        assert (shared.attention is None) == (not regions)
        for measure, value in (shared.attention or {}).items():
            assert value.value == pytest.approx((alone.attention or {})[measure].value, abs=1e-5)


def test_equal_heads_predict_the_same_in_bfloat16(photos: Photos, small_classifier: Nets) -> None:
    table, model = photos(40), small_classifier()
    weight, bias = model.linear.weight.detach(), model.linear.bias.detach() + 1000  # which bfloat16 rounds to 4
    first, copy = (model.with_head(weight, bias) for _ in range(2))
    found = evaluate_heads({"first": first, "copy": copy}, table, settings(precision="bf16-mixed"))
    assert found["first"].confidence.tolist() == found["copy"].confidence.tolist()


def _with_two_layers(model: Classifier) -> Classifier:
    """The same network with another layer before its head, so that the closed form does not hold."""
    module = nn.Sequential(model.module, nn.Tanh(), nn.Linear(model.n_classes, model.n_classes))
    return wrap(module, layer=f"0.{model.layer}", image_size=model.image_size)


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"batch size must be at least 1\. Got 0"):
        EvaluateSettings(batch_size=0)


@pytest.mark.parametrize("names", [["class 1", "class 0"], ["cat", "dog"], ["class 0", "class 1", "class 2"]])
def test_a_model_of_other_classes_is_refused(photos: Photos, small_classifier: Nets, names: list[str]) -> None:
    classifier = wrap(small_classifier(len(names)).module, image_size=16, class_names=names)
    with pytest.raises(ModelError, match=r"outputs of the model must be the classes of the images"):
        evaluate_classifier(classifier, photos(4), settings())


def test_an_empty_table_is_refused(photos: Photos, small_classifier: Nets) -> None:
    with pytest.raises(DataError, match="Got an empty test table"):
        evaluate_classifier(small_classifier(), photos(4)[[]], settings())


def test_processes_share_the_images_and_measure_what_one_does(
    photos: Photos, small_classifier: Nets, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, classifier = photos(7, masks=True), small_classifier()
    alone = evaluate_classifier(classifier, table, settings())
    sums: list[list[Any]] = [[], []]
    monkeypatch.setattr(processes, "_count", 2)
    for number in range(2):
        monkeypatch.setattr(processes, "_number", number)
        monkeypatch.setattr(processes, "summed", lambda part, mine=sums[number]: mine.append(part) or part)
        evaluate_classifier(classifier, table, settings())
    predictions, confidence, measures = (one + other for one, other in zip(*sums, strict=True))
    assert all((one == 0).sum() >= 3 for one, _ in zip(*sums, strict=True))  # the other's images were left to it
    np.testing.assert_array_equal(predictions, alone.predictions)
    np.testing.assert_allclose(confidence, alone.confidence, atol=1e-6)
    np.testing.assert_allclose(measures[:, 0], alone.inside, atol=1e-6)
