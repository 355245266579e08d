"""Attention over a table: order, memory, warnings, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from slim.data import Dataset, ImageTable, image_batches
from slim.errors import DataError, ModelError, SettingsError, SlimWarning
from slim.network.build import build, wrap
from slim.network.classifier import Classifier
from slim.network.gradcam import GradCam, upsample
from slim.stages import attend as stage
from slim.stages.attend import Attention, SplitAttention, attend, attend_split
from slim.stages.settings import AttendSettings
from slim.training import TrainSettings

pytestmark = pytest.mark.usefixtures("small_and_quiet")

NAMES = [field.name for field in fields(SplitAttention) if field.name not in ("places", "table", "explain")]
UNTRAINED = TrainSettings(weights=None)
Photos = Callable[..., ImageTable]
Nets = Callable[..., Classifier]


def settings(**changed: Any) -> AttendSettings:
    return AttendSettings(**{"precision": "32-true", "batch_size": 3, **changed})


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features as they are, in float32."""
    monkeypatch.setattr(stage, "_BITS", {})


def assert_equal(one: SplitAttention, other: SplitAttention, rows: Any = slice(None)) -> None:
    for name in NAMES:
        np.testing.assert_allclose(getattr(one, name)[rows], getattr(other, name), atol=1e-5, err_msg=name)


def spoiling(classifier: Classifier, layer: int, value: float, images: int) -> Any:
    """Make the first so many images of each batch come out of a layer with a value that is not finite."""

    def spoil(_: nn.Module, __: object, output: Tensor) -> Tensor:
        spoiled = output.clone()
        spoiled[:images, 0, 0, 0] = value
        return spoiled

    return classifier.module[layer].register_forward_hook(spoil)


def test_every_array_has_a_row_per_image_and_its_documented_range(photos: Photos, small_classifier: Nets) -> None:
    attention = attend_split(small_classifier(3), photos(8, n_classes=3), settings())
    shapes = {name: getattr(attention, name).shape for name in NAMES}
    assert shapes == {
        "maps": (8, 8, 8),
        "core": (8, 12),
        "environment": (8, 12),
        "contrast": (8, 8),
        "features": (8, 12),
        "probabilities": (8, 3),
    }
    assert len(attention) == 8
    np.testing.assert_allclose(attention.probabilities.sum(1), 1, atol=1e-5)
    assert attention.maps.min() == 0
    assert attention.maps.max() == 1
    assert (attention.maps.max((1, 2)) > 0).sum() >= 4


def test_contrast_is_what_the_finer_layer_sees_where_the_model_looks_beyond_what_it_sees_elsewhere(
    photos: Photos, small_classifier: Nets, exact: None
) -> None:
    table, classifier = photos(6), small_classifier()
    assert (classifier.layer, classifier.finer) == ("5", "1")
    attention = attend_split(classifier, table, settings())
    images = torch.cat([images for images, *_ in image_batches(table, 16, 6)])
    with torch.no_grad():
        finer = classifier.module[:2](classifier.normalize(images)).numpy()
    looked_at = 0
    for one, features, contrast in zip(attention.maps, finer, attention.contrast, strict=True):
        larger = np.asarray(upsample(torch.from_numpy(np.array(one))[None], 16)[0], np.float64)
        if larger.max() == 0:
            assert (contrast == 0).all()
            continue
        looked_at += 1
        there = (features * larger).sum((1, 2)) / larger.sum()
        elsewhere = (features * (1 - larger)).sum((1, 2)) / (1 - larger).sum()
        np.testing.assert_allclose(contrast, there - elsewhere, atol=1e-4)
    assert looked_at >= 3


def test_rows_follow_the_order_of_the_table(photos: Photos, small_classifier: Nets) -> None:
    table, classifier = photos(8), small_classifier()
    order = np.random.default_rng(0).permutation(8)
    assert_equal(attend_split(classifier, table, settings()), attend_split(classifier, table[order], settings()), order)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_the_batch_size_does_not_matter(batch_size: int, photos: Photos, small_classifier: Nets) -> None:
    table, classifier = photos(8), small_classifier()
    assert_equal(
        attend_split(classifier, table, settings(batch_size=batch_size)),
        attend_split(classifier, table, settings(batch_size=3)),
    )


def test_methods_agree(photos: Photos, small_classifier: Nets) -> None:
    table, classifier = photos(8), small_classifier()
    closed = attend_split(classifier, table, settings(method="closed-form"))
    assert_equal(closed, attend_split(classifier, table, settings(method="autograd")))


def test_labels_are_explained_unless_the_settings_name_predictions(photos: Photos, small_classifier: Nets) -> None:
    table, classifier = photos(8), small_classifier()
    labelled = attend_split(classifier, table, settings())
    predicted = attend_split(classifier, table, settings(explain="predicted"))
    classes = predicted.probabilities.argmax(1)
    assert 0 < (classes == table.y).sum() < 8
    relabelled = ImageTable(table.frame.assign(y=classes), table.class_names)
    assert_equal(predicted, attend_split(classifier, relabelled, settings()))
    assert (labelled.maps != predicted.maps).any((1, 2)).tolist() == (classes != table.y).tolist()


def test_sum_pooled_features_add_up_to_the_activations(photos: Photos, small_classifier: Nets, exact: None) -> None:
    table, classifier = photos(4), small_classifier()
    attention = attend_split(classifier, table, settings(pooling="sum"))
    with GradCam(classifier) as cam:
        activations = torch.cat([cam(images).activations for images, _, _ in image_batches(table, 16, 4)])
    np.testing.assert_allclose(attention.core + attention.environment, activations.sum((2, 3)), rtol=1e-4)


def test_mean_pooled_features_do_not_depend_on_the_size_of_the_region(
    photos: Photos, small_classifier: Nets, exact: None
) -> None:
    table, classifier = photos(4), small_classifier()
    mean = attend_split(classifier, table, settings(pooling="mean"))
    total = attend_split(classifier, table, settings(pooling="sum"))
    mass = mean.maps.sum((1, 2))[:, None]
    np.testing.assert_allclose(mean.core * mass, total.core, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mean.environment * (64 - mass), total.environment, rtol=1e-4, atol=1e-4)


def dataset(photos: Photos, sizes: tuple[int, int, int] = (8, 5, 6)) -> Dataset:
    tables = [photos(n, split=name) for name, n in zip(("train", "val", "test"), sizes, strict=True)]
    return Dataset(*tables, fingerprint="0123456789abcdef")


def test_attention_is_of_every_split(photos: Photos, small_classifier: Nets) -> None:
    data, classifier = dataset(photos), small_classifier()
    attention = attend(data, classifier, settings(), training=UNTRAINED)
    assert repr(attention) == "Attention(train 8, val 5, test 6; maps of 8 x 8)"
    for name in ("train", "val", "test"):
        assert_equal(attention.split(name), attend_split(classifier, data.split(name), settings()))


def test_settings_have_defaults(photos: Photos, small_classifier: Nets) -> None:
    table, classifier = photos(4), small_classifier()
    assert_equal(attend_split(classifier, table), attend_split(classifier, table, AttendSettings()))


def test_arrays_on_disk_equal_those_in_memory(tmp_path: Path, photos: Photos, small_classifier: Nets) -> None:
    data, classifier = dataset(photos), small_classifier()
    in_memory = attend(data, classifier, settings(), training=UNTRAINED)
    folder = tmp_path / "not" / "there"
    on_disk = attend(data, classifier, settings(), folder=folder, training=UNTRAINED)
    on_disk.save(folder)
    in_memory.save(tmp_path / "copy")
    for attention in (on_disk, Attention.load(folder), Attention.load(tmp_path / "copy")):
        for name in ("train", "val", "test"):
            split = attention.split(name)
            assert_equal(split, in_memory.split(name))
            arrays = [getattr(split, array) for array in NAMES]
            assert all(isinstance(getattr(array, "stored", array), np.memmap) for array in arrays)


def test_arrays_filled_where_they_belong_survive_saving_under_another_spelling_of_the_folder(
    tmp_path: Path, photos: Photos, small_classifier: Nets
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    table, classifier = photos(4), small_classifier()
    in_memory = attend_split(classifier, table, settings())
    for folder in (tmp_path / "run" / ".." / "run", tmp_path / "link"):
        attend_split(classifier, table, settings(), folder=folder).save(folder)
        assert_equal(SplitAttention.load(tmp_path / "run"), in_memory)


def test_a_network_without_a_linear_head_has_maps_but_no_penultimate_features(tmp_path: Path, photos: Photos) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = wrap(module, layer="1", image_size=16, class_names=["class 0", "class 1"])
    attention = attend_split(classifier, photos(4), settings(), folder=tmp_path / "out")
    attention.save(tmp_path / "out")
    assert attention.features.shape == (4, 0)
    assert attention.maps.max() == 1
    assert SplitAttention.load(tmp_path / "out").features.shape == (4, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_activations_that_are_not_finite_give_zero_maps_and_a_warning(
    value: float, photos: Photos, small_classifier: Nets
) -> None:
    table, classifier = photos(6), small_classifier()
    clean = attend_split(classifier, table, settings())
    hook = spoiling(classifier, 5, value, images=1)
    with pytest.warns(SlimWarning, match=r"^2 of 6 images gave activations that are not finite"):
        attention = attend_split(classifier, table, settings(method="autograd"))
    hook.remove()
    assert (attention.maps[[0, 3]] == 0).all()
    assert all(np.isfinite(np.asarray(getattr(attention, name))).all() for name in NAMES)
    np.testing.assert_allclose(attention.maps[[1, 2, 4, 5]], clean.maps[[1, 2, 4, 5]], atol=1e-5)


def test_a_majority_of_flat_maps_is_warned_of(photos: Photos, small_classifier: Nets) -> None:
    classifier = small_classifier()
    weight = classifier.linear.weight.detach().clone()
    weight[0], weight[1] = -weight[0].abs(), weight[1].abs()  # no activation supports class 0
    against = classifier.with_head(weight, torch.zeros(2))
    table = photos(9)  # classes 0, 1, 0, 1, ..., 0
    with pytest.warns(SlimWarning, match=r"^5 of 9 maps are flat: no activation at layer 5 supports"):
        attention = attend_split(against, table, settings())
    assert (attention.maps[table.y == 0] == 0).all()
    assert (attention.maps[table.y == 1].max((1, 2)) == 1).all()
    assert len(attend_split(against, table[1:], settings())) == 8  # half of them flat is not most of them


def test_the_last_block_of_a_vit_gives_a_warning_and_zero_maps(photos: Photos) -> None:
    """With a class-token head, patch tokens of the last block's output have no gradient."""
    classifier = build("vit_tiny_patch16_224", ["class 0", "class 1"], weights=None, image_size=32, layer="blocks.11")
    nn.init.normal_(classifier.linear.weight)
    with pytest.warns(SlimWarning, match=r"3 of 3 maps are flat: no activation at layer blocks\.11.*--layer"):
        attention = attend_split(classifier, photos(3), settings())
    assert (attention.maps == 0).all()
    assert np.isfinite(attention.core).all()


def test_min_max_is_per_image_even_when_one_image_has_far_stronger_activations(
    photos: Photos, small_classifier: Nets
) -> None:
    table, classifier = photos(6), small_classifier()
    clean = attend_split(classifier, table, settings(batch_size=6))
    factor = torch.ones(6, 1, 1, 1)
    factor[2] = 1e4
    hook = classifier.module[5].register_forward_hook(lambda _, __, output: output * factor[-len(output) :])
    amplified = attend_split(classifier, table, settings(batch_size=6, method="autograd"))
    hook.remove()
    assert clean.maps[2].max() == 1
    np.testing.assert_allclose(amplified.maps, clean.maps, atol=1e-4)


@pytest.mark.parametrize("method", ["closed-form", "autograd"])
def test_attending_leaves_the_network_as_it_was(method: Any, photos: Photos, small_classifier: Nets) -> None:
    classifier = small_classifier()
    module = classifier.module.train()
    module[4].eval()
    module[0].requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    attend_split(classifier, photos(4), settings(method=method))
    assert [child.training for child in module] == [True] * 4 + [False] + [True] * 5
    assert [p.requires_grad for p in module.parameters()] == [False] * 2 + [True] * 6
    assert all(p.grad is None for p in module.parameters())
    assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in module.modules())


def test_attending_does_not_touch_the_global_random_state(photos: Photos, small_classifier: Nets) -> None:
    classifier, table = small_classifier(), photos(4)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    attend_split(classifier, table, settings())
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"batch size must be at least 1\. Got 0"):
        AttendSettings(batch_size=0)


@pytest.mark.parametrize("names", [["class 1", "class 0"], ["cat", "dog"], ["class 0", "class 1", "class 2"]])
def test_a_classifier_of_other_classes_is_refused(photos: Photos, small_classifier: Nets, names: list[str]) -> None:
    classifier = wrap(small_classifier(len(names)).module, image_size=16, class_names=names)
    with pytest.raises(ModelError, match=r"outputs of the model must be the classes of the images"):
        attend_split(classifier, photos(4), settings())


def test_an_empty_table_is_refused(photos: Photos, small_classifier: Nets) -> None:
    with pytest.raises(DataError, match="Got an empty test table"):
        attend_split(small_classifier(), photos(4)[[]], settings())
