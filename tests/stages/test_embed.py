"""The attention space: repeatable, of every image of the pool, and of the features that the settings name."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits
from umap import UMAP

from slim.clustering import Components
from slim.errors import DataError, SettingsError
from slim.stages.attend import Attention, SplitAttention
from slim.stages.embed import Space, embed
from slim.stages.settings import EmbedSettings

pytestmark = pytest.mark.usefixtures("small_and_quiet")

PUBLISHED = EmbedSettings(features="core", plane="umap", metric="euclidean")
UMAPS = EmbedSettings(plane="umap")


def blobs(n: int = 40, d: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) around two far points in turn, and which point."""
    rng = np.random.default_rng(seed)
    which = np.arange(n) % 2
    return rng.normal(size=(n, d)) + 20 * np.eye(d)[which], which


def embedded(
    core: np.ndarray,
    environment: np.ndarray,
    contrast: np.ndarray,
    settings: EmbedSettings | None = None,
    *,
    seed: int = 0,
    pool: str = "train",
) -> Space:
    """The space of these features, which are those of the pool."""
    other = SplitAttention(*np.zeros((6, 3, 1), np.float32))
    rest = np.zeros((len(core), 1), np.float32)
    split = SplitAttention(rest, core, environment, contrast, rest, rest)
    attention = Attention(**{name: split if name == pool else other for name in ("train", "val", "test")})
    return embed(attention, settings, seed=seed)


@pytest.mark.parametrize("settings", [None, UMAPS], ids=["pca", "umap"])
def test_the_same_seed_gives_the_same_coordinates_and_leaves_the_global_state_alone(
    settings: EmbedSettings | None,
) -> None:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(30, 6)) for _ in range(3)]
    before = np.random.get_state()[1].copy()
    first, again, other = (embedded(*features, settings, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.plane, again.plane)
    np.testing.assert_array_equal(first.environment, again.environment)
    np.testing.assert_array_equal(first.components, again.components)
    assert settings is None or not np.array_equal(first.plane, other.plane)
    assert (np.random.get_state()[1] == before).all()


def test_torch_keeps_its_number_of_threads() -> None:
    """Numba changes it once per process, and torch's results depend on it."""
    code = """
import numpy as np, torch
from slim.stages.embed import _by_umap
from slim.stages.settings import EmbedSettings
torch.set_num_threads(1)
_by_umap(np.random.default_rng(0).normal(size=(30, 8)), EmbedSettings(), 0)
print(torch.get_num_threads())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_umap_is_not_even_imported_for_a_plane_of_two_components() -> None:
    """Its first call compiles for half a minute."""
    code = """
import sys
import numpy as np
from slim.stages.attend import Attention, SplitAttention
from slim.stages.embed import embed
split = SplitAttention(*np.random.default_rng(0).normal(size=(6, 30, 8)))
embed(Attention(split, split, split))
print([name for name in ("umap", "numba", "pynndescent") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("settings", [None, PUBLISHED], ids=["default", "published"])
def test_neighbours_stay_neighbours(settings: EmbedSettings | None) -> None:
    core, which = blobs()
    space = embedded(core, core[::-1], core, settings)
    assert len(space) == 40
    distance = np.linalg.norm(space.plane[:, None] - space.plane[None], axis=2)
    same = which[:, None] == which[None]
    assert distance[same].max() < distance[~same].min()


def test_the_plane_holds_the_directions_in_which_features_vary_most() -> None:
    rng = np.random.default_rng(0)
    contrast = rng.normal(size=(50, 6)) * np.array([1, 9, 1, 5, 1, 1])
    axes = np.linalg.svd(contrast - contrast.mean(0))[2][:2]
    plane = embedded(contrast, contrast, contrast, EmbedSettings(metric="euclidean")).plane
    np.testing.assert_allclose(np.abs(plane), np.abs((contrast - contrast.mean(0)) @ axes.T), atol=1e-3)


def test_the_cosine_plane_ignores_sizes() -> None:
    rng = np.random.default_rng(0)
    contrast, sizes = rng.normal(size=(30, 6)), rng.uniform(0.1, 10, size=(30, 1))
    planes = [embedded(values, contrast, values).plane for values in (contrast, sizes * contrast)]
    np.testing.assert_allclose(*planes, atol=1e-4)


def test_features_of_one_dimension_have_a_plane_too() -> None:
    values = np.random.default_rng(0).normal(size=(12, 1))
    plane = embedded(values, values, values, EmbedSettings(metric="euclidean")).plane
    assert plane.shape == (12, 2)
    assert (plane[:, 1] == 0).all()


def test_of_more_images_than_the_settings_allow_a_sample_is_fitted_and_the_rest_is_placed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fitted, placed = [], []
    fit_transform, transform = UMAP.fit_transform, UMAP.transform

    def fitting(self: UMAP, values: np.ndarray) -> np.ndarray:
        fitted.append(len(values))
        return fit_transform(self, values)

    def placing(self: UMAP, values: np.ndarray) -> np.ndarray:
        placed.append(len(values))
        return transform(self, values)

    monkeypatch.setattr(UMAP, "fit_transform", fitting)
    monkeypatch.setattr(UMAP, "transform", placing)
    core, which = blobs()
    space = embedded(core, core, core, EmbedSettings(features="core", plane="umap", fit_on=24))
    assert (fitted, placed) == ([24, 24], [16, 16])
    assert np.isfinite(space.plane).all()
    centres = np.stack([np.median(space.plane[which == k], axis=0) for k in (0, 1)])
    nearest = np.linalg.norm(space.plane[:, None] - centres, axis=2).argmin(1)
    np.testing.assert_array_equal(nearest, which)


def test_the_published_plane_shows_the_core_and_the_default_the_contrast() -> None:
    rng = np.random.default_rng(0)
    core, other, environment, contrast = (rng.normal(size=(20, 6)) for _ in range(4))
    published = [embedded(core, environment, values, PUBLISHED).plane for values in (contrast, other)]
    np.testing.assert_array_equal(*published)
    default = [embedded(values, environment, contrast).plane for values in (core, other)]
    np.testing.assert_array_equal(*default)


def test_components_are_those_of_the_contrast_at_a_mean_square_length_of_one() -> None:
    rng = np.random.default_rng(0)
    core, environment = rng.normal(size=(40, 6)), rng.normal(size=(40, 6))
    contrast = 7 * rng.normal(size=(40, 30))
    components = embedded(core, environment, contrast).components
    assert components.shape == (40, 20)
    assert np.square(components).sum(1).mean() == pytest.approx(1, rel=1e-5)
    apart = np.corrcoef(components.T) - np.eye(20)
    np.testing.assert_allclose(apart, 0, atol=1e-3)


@pytest.mark.parametrize("settings", [None, UMAPS], ids=["pca", "umap"])
def test_images_that_do_not_differ_are_placed_too(settings: EmbedSettings | None) -> None:
    """Flat maps pool nothing, and have no contrast."""
    rng = np.random.default_rng(0)
    core, environment, contrast = (rng.normal(size=(20, 6)) for _ in range(3))
    core[:3] = contrast[:3] = 0
    assert np.isfinite(embedded(core, environment, contrast, settings).plane).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PCA and UMAP, about points that are all the same
        space = embedded(core, environment, np.zeros((20, 6)), settings)
    assert (space.components == 0).all()
    assert np.isfinite(space.plane).all()


def test_each_method_of_selection_and_propagation_has_its_points() -> None:
    features = [np.random.default_rng(0).normal(size=(12, 4)) for _ in range(3)]
    space = embedded(*features, UMAPS)
    assert space.points("centres") is space.points("spreading") is space.plane
    assert space.points("information") is space.points("regression") is space.components


@pytest.mark.parametrize("method", ["centres", "spreading"])
def test_the_published_methods_are_refused_on_a_plane_that_is_not_umaps(method: Any) -> None:
    space = embedded(*(np.random.default_rng(0).normal(size=(12, 4)) for _ in range(3)))
    with pytest.raises(SettingsError, match=rf"UMAP's for {method}\. Got pca\. Run: slim embed RUN --plane umap"):
        space.points(method)
    assert space.points("information") is space.points("regression") is space.components


@pytest.mark.parametrize("pool", ["train", "val"])
def test_the_split_that_the_settings_name_is_embedded(pool: Any) -> None:
    core, _ = blobs(12)
    space = embedded(core, core, core, EmbedSettings(pool=pool), pool=pool)
    assert (len(space), space.pool) == (12, pool)
    assert repr(space) == f"Space(12 {pool} images, 8 components)"


def test_inputs_are_not_changed() -> None:
    core, _ = blobs(12)
    environment = core[::-1].copy()
    core.setflags(write=False)
    environment.setflags(write=False)
    assert len(embedded(core, environment, core)) == 12


def test_fewer_than_ten_images_are_refused() -> None:
    core, _ = blobs(10)
    assert len(embedded(core, core[::-1], core)) == 10
    with pytest.raises(DataError, match=r"at least 10 images\. Got 9"):
        embedded(core[:9], core[:0:-1], core[:9])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("settings", [None, PUBLISHED], ids=["default", "published"])
def test_features_that_are_not_finite_are_refused(value: float, which: int, settings: EmbedSettings | None) -> None:
    features = [blobs(12)[0] for _ in range(3)]
    features[which][3, 2] = value
    with pytest.raises(DataError, match=r"must be finite.*--precision 32-true"):
        embedded(*features, settings)


@pytest.mark.parametrize(("name", "value"), [("neighbors", 1), ("components", 1), ("fit_on", 9)])
def test_settings_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be at least {value + 1}. Got {value}"):
        EmbedSettings(**{name: value})


def test_a_saved_space_loads_as_it_was(tmp_path: Path) -> None:
    plane = np.arange(6, dtype=np.float32).reshape(3, 2)
    space = Space(plane, -np.ones((3, 2), np.float32), np.eye(3, dtype=np.float32), "val", "pca")
    space.save(tmp_path / "deep" / "folder")
    loaded = Space.load(tmp_path / "deep" / "folder")
    np.testing.assert_array_equal(loaded.plane, space.plane)
    np.testing.assert_array_equal(loaded.environment, space.environment)
    np.testing.assert_array_equal(loaded.components, space.components)
    assert (loaded.pool, loaded.made_by) == ("val", "pca")


def test_components_are_the_directions_of_most_variance() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 6)) * np.array([1, 9, 1, 5, 1, 1])
    centred = features - features.mean(0)
    directions = np.linalg.svd(centred)[2][:2]
    reduced = Components(features, seed=0, count=2, directions=False)(features)
    np.testing.assert_allclose(np.abs(reduced), np.abs(centred @ directions.T), atol=1e-3)
    assert Components(features, seed=0, count=40, directions=False)(features).shape == (50, 6)


def test_number_of_threads_does_not_matter() -> None:
    contrast = np.random.default_rng(0).normal(size=(3000, 128)).astype(np.float32)
    spaces = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            spaces.append(embedded(contrast, contrast, contrast))
    np.testing.assert_array_equal(spaces[0].components, spaces[1].components)
    np.testing.assert_array_equal(spaces[0].plane, spaces[1].plane)
