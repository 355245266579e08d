"""Rows: what each selects, fits and trains, from one seed's reference model, attention and space."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import slim
from slim.comparison import ROWS, networks, recomposed
from slim.comparison.bench import Bench, biased_positions
from slim.comparison.networks import group_dro_network, jtt_network
from slim.comparison.subsets import SelectedSubset, published_parts, summed, true_answers
from slim.runs.settings import RunSettings, read_recipe
from slim.stages.attend import attend
from slim.stages.judgements import CORE
from slim.stages.settings import AttendSettings

pytestmark = [
    pytest.mark.usefixtures("small_and_quiet"),
    pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning"),  # so small a run is not to be trusted
]


SUBSETS = [
    key for key, row in ROWS.items() if row.material is not None and key != "slim" and not key.startswith("recomposed")
]


def selected_by(key: str, bench: Bench) -> SelectedSubset:
    """The subset of a row."""
    make = ROWS[key].material
    assert make is not None
    material = make(bench)
    assert isinstance(material, SelectedSubset)
    return material


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference model does not rely on backgrounds."""
    monkeypatch.setattr("slim.stages.retrain.reliance.RELIES", 2.0)


@pytest.mark.parametrize("key", SUBSETS)
def test_every_subset_has_the_size_of_slims_and_each_class(key: str, bench: Bench) -> None:
    selected, y = selected_by(key, bench), bench.pool.y
    assert len(selected.selection.index) == bench.size
    assert set(y[selected.selection.index]) == {0, 1}
    uses_answers = key in ("published", "subset", "subset-alone") or "noise" in key
    expected = len(y) if key == "subset-all-judged" else 8
    assert selected.judgements == (expected if uses_answers or key == "subset-all-judged" else 0)


def test_with_every_image_judged_none_is_kept_before_one_that_looks_at_the_core(bench: Bench) -> None:
    selection, core = selected_by("subset-all-judged", bench).selection, true_answers(bench) == CORE
    assert core.any()
    cell = 2 * bench.pool.y + selection.cells
    for one in np.unique(cell):
        kept, left = (core[(cell == one) & (selection.tune_among == stays)] for stays in (True, False))
        assert kept.all() or not left.any()


def test_the_subsets_row_is_what_the_run_curates(bench: Bench) -> None:
    curated = bench.run.load("curate")
    assert sorted(selected_by("subset", bench).selection.index) == sorted(curated.index)


@pytest.mark.parametrize(("relies", "images"), [(-2.0, "recomposed"), (2.0, "subset")])
def test_slims_row_is_the_head_that_retrain_fits(
    relies: float, images: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slim.stages.retrain.reliance.RELIES", relies)
    objects, subset = bench.run.load("locate"), bench.run.load("curate")
    settings, training = bench.settings["retrain"], bench.settings["train"]
    retrained = slim.retrain(
        bench.data, bench.reference, bench.attention, objects, subset, settings, training=training, seed=bench.seed
    )
    make = ROWS["slim"].material
    assert make is not None
    head = make(bench).fit_head(bench)
    assert retrained.images == images
    assert head is not None
    assert head.strength == retrained.strength
    np.testing.assert_allclose(head.weight, retrained.model.head_weight, atol=1e-6)


def test_a_biased_val_has_the_group_shares_of_train_and_its_own_attention(bench: Bench) -> None:
    biased, train = bench.at("biased"), np.bincount(bench.groups("train"), minlength=4) / len(bench.data.train)
    counts = np.bincount(biased.groups("val"), minlength=4)
    total = counts[train > 0].sum()
    assert 4 <= total < len(bench.data.val)
    np.testing.assert_allclose(counts, np.maximum(1, train * total), atol=1)
    whole = bench.data.val.paths
    index = [whole.index(path) for path in biased.data.val.paths]
    np.testing.assert_array_equal(biased.attention.val.features, bench.attention.val.features[index])
    np.testing.assert_array_equal(biased.attention.val.places, bench.attention.val.places[index])


@pytest.mark.parametrize(
    ("counts", "shares", "drawn"),
    [
        ([20, 20, 0, 20], [0.49, 0.01, 0.01, 0.49], [20, 1, 0, 20]),  # val lacks a group of train
        ([20, 20, 20, 20], [0.5, 0.0, 0.0, 0.5], [20, 1, 1, 20]),  # train lacks two groups of val
        ([20, 20, 0, 0], [0.0, 0.0, 0.5, 0.5], [1, 1, 0, 0]),
    ],
)
def test_groups_that_a_split_lacks_do_not_limit_a_biased_val(
    counts: list[int], shares: list[float], drawn: list[int]
) -> None:
    groups = np.repeat(np.arange(4), counts)
    positions = biased_positions(groups, np.array(shares), seed=0)
    assert np.bincount(groups[positions], minlength=4).tolist() == drawn


def test_a_crop_is_the_box_around_what_is_attended_to(bench: Bench) -> None:
    maps = np.zeros((len(bench.data.train), 8, 8), np.float32)
    maps[:, 2, 3] = maps[:, 5, 4] = 1.0
    maps[:, 0, 0] = 0.3
    train = replace(bench.attention.train, maps=maps)
    vars(bench).update(attention=replace(bench.attention, train=train))
    boxes = recomposed.from_attention_crop(bench).objects.train
    rows, columns = boxes[0].any(1).nonzero()[0], boxes[0].any(0).nonzero()[0]
    assert (boxes[0] > 0).sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((16, 47, 24, 39), abs=4)
    assert (boxes == boxes[0]).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_component_of_places_is_the_object_and_not_the_border(sign: int, bench: Bench) -> None:
    inside = np.zeros((16, 16, 1), np.int8)
    inside[5:11, 5:11] = 1
    direction = sign * np.array([40, -30, 20], np.int8)

    def placed(attention: Any) -> Any:
        shifts = np.random.default_rng(0).integers(-3, 4, (len(attention), 1, 1, 3), np.int8)
        return replace(attention, places=inside * direction + 20 * shifts)

    train, val = placed(bench.attention.train), placed(bench.attention.val)
    vars(bench).update(attention=replace(bench.attention, train=train, val=val))
    for maps in vars(recomposed.from_component(bench).objects).values():
        if isinstance(maps, np.ndarray):
            assert (maps[:, 28:36, 28:36] > 127).mean() > 0.9
            assert (maps[:, :8] > 127).mean() < 0.1


def test_features_of_recomposed_train_images_are_computed_once_for_every_val(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, splits = recomposed.recomposed_features, []

    def spy(reference: Any, table: Any, *rest: Any, into: Any) -> None:
        splits.append(table.split)
        real(reference, table, *rest, into=into)

    monkeypatch.setattr(recomposed, "recomposed_features", spy)
    heads = [recomposed.from_centre(bench.at(val)).fit_head(bench.at(val)) for val in ("whole", "none", "biased")]
    assert splits == ["train", "val", "val"]
    assert not np.allclose(heads[0].weight, heads[1].weight)


def test_the_random_row_is_the_baseline_of_the_run(bench: Bench) -> None:
    np.testing.assert_array_equal(selected_by("random", bench).selection.index, bench.run.load("retrain").random_index)


def test_the_published_row_has_the_recipes_settings_with_the_budget_and_size_of_the_run(bench: Bench) -> None:
    settings, attention, space = published_parts(bench)
    recipe = RunSettings().updated(read_recipe("published"))
    assert settings["annotate"] == replace(bench.settings["annotate"], select="centres")
    assert settings["annotate"].budget == 4
    assert settings["curate"] == replace(recipe["curate"], size=12)
    for verb in ("embed", "propagate", "retrain"):
        assert settings[verb] == recipe[verb]
    assert settings["propagate"].method == "spreading"
    assert space.pool == bench.space.pool
    expected = slim.embed(attention, recipe["embed"], seed=bench.seed)
    np.testing.assert_array_equal(space.plane, expected.plane)


def test_only_the_rows_that_say_so_fit_to_val(bench: Bench) -> None:
    fits_val = {key: selected_by(key, bench).selection.fits_val for key in SUBSETS}
    joined = {key for key, fits in fits_val.items() if fits}
    alone = {"subset-alone", "random", "class-balanced", "cluster-balanced", "group-balanced", "published"}
    assert joined == fits_val.keys() - alone


def test_a_subset_alone_counts_core_and_environment_clusters_together(bench: Bench) -> None:
    together, alone = (selected_by(key, bench).selection for key in ("subset", "subset-alone"))
    pairs = {(int(one), int(other)) for one, other in zip(alone.cells, together.cells, strict=True)}
    assert len(pairs) == len(set(alone.cells.tolist())) > len(set(together.cells.tolist()))


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("key", ["slim", "subset"])
def test_where_no_shortcut_was_found_the_row_is_the_reference(
    key: str, bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("slim.stages.curate.subset.SHORTCUT", 2.0)
    selected = selected_by(key, bench)
    assert not selected.shortcut
    assert selected.fit_head(bench) is None
    assert selected.train(bench, tmp_path) is bench.reference


def test_features_pooled_by_sum_follow_from_those_pooled_by_mean(bench: Bench) -> None:
    expected = attend(bench.data, bench.reference, AttendSettings(pooling="sum"), training=bench.settings["train"])
    converted = summed(bench.attention)
    for split in ("train", "val", "test"):
        for name in ("core", "environment"):
            own, other = (getattr(attention.split(split), name) for attention in (converted, expected))
            np.testing.assert_allclose(own, other, rtol=1e-3, atol=1e-4)


def test_group_dro_of_the_network_is_not_the_mean_loss_and_gives_the_same_again(bench: Bench, tmp_path: Path) -> None:
    robust = group_dro_network(bench, tmp_path / "dro")
    settings = replace(bench.settings["train"], select_by="worst-group")
    plain = slim.train_classifier(bench.data.train, bench.data.val, settings, seed=0)
    assert not torch.equal(robust.linear.weight, plain.linear.weight)
    again = group_dro_network(bench, tmp_path / "dro")
    assert torch.equal(robust.linear.weight, again.linear.weight)


def test_jtt_sees_what_its_first_network_got_wrong_twenty_times(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[int, Any]] = []
    real = networks.train_classifier

    def spy(table: Any, val: Any, settings: Any, **options: Any) -> Any:
        trained.append((len(table), settings))
        return real(table, val, settings, **options)

    monkeypatch.setattr(networks, "train_classifier", spy)
    jtt_network(bench, tmp_path)
    train = bench.data.train
    first = slim.Classifier.load(tmp_path / "first")
    wrong = int((slim.evaluate_classifier(first, train).predictions != train.y).sum())
    assert wrong > 0
    assert [size for size, _ in trained] == [len(train), len(train) + 19 * wrong]
    assert [settings.epochs for _, settings in trained] == [1, bench.settings["train"].epochs]


@pytest.mark.skipif(not ROWS["spuco-dfr"].installed, reason="spuco is not installed")
@pytest.mark.parametrize("key", ["spuco-dfr", "spuco-group-dro"])
def test_rows_of_spuco_are_heads_for_the_features(key: str, bench: Bench) -> None:
    head = ROWS[key].head
    assert head is not None
    fitted, val = head(bench), bench.by_group("val")
    assert fitted.weight.shape == (2, val.features.shape[1])
    assert (fitted.predict(val.features) == val.y).mean() > 0.5
