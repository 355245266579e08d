"""Attention maps: scaled to [0, 1], enlarged, and pooled under, on grids that need not be square."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from slim.network.gradcam import pool, scale, upsample


def test_upsampling_a_grid_that_is_not_square_keeps_rows_and_columns() -> None:
    columns = torch.tensor([[[0.0, 0.0, 0.5, 1.0]]]).expand(1, 2, 4)
    larger = upsample(columns, 8)
    assert larger.shape == (1, 8, 8)
    assert larger[0, 0].tolist() == [0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1]
    assert (larger == larger[:, :1]).all()
    torch.testing.assert_close(upsample(columns.mT, 8), larger.mT)


def test_pooling_a_grid_that_is_not_square_takes_each_value_with_its_own_weight() -> None:
    maps = torch.tensor([[[1.0, 0.5, 0.0], [0.0, 0.0, 0.5]]])
    activations = torch.arange(12.0).reshape(1, 2, 2, 3)
    core, environment = pool(maps, activations, "sum")
    assert core.tolist() == [[0 + 0.5 + 2.5, 6 + 3.5 + 5.5]]
    assert environment.tolist() == [[0.5 + 2 + 3 + 4 + 2.5, 3.5 + 8 + 9 + 10 + 5.5]]
    assert pool(maps, activations, "mean")[0].tolist() == [[1.5, 7.5]]
    assert pool(maps, activations, "mean")[1].tolist() == [[3, 9]]
    for flat, transposed in zip((core, environment), pool(maps.mT, activations.mT, "sum"), strict=True):
        torch.testing.assert_close(flat, transposed)


def test_min_max_is_over_each_map_and_not_over_the_batch() -> None:
    maps = torch.tensor([[[0.0, 1.0, 2.0]], [[100.0, 150.0, 200.0]]])
    assert scale(maps).tolist() == [[[0.0, 0.5, 1.0]], [[0.0, 0.5, 1.0]]]


@pytest.mark.parametrize("value", [0.0, 1e-30, 0.3, 7e8, float("nan"), float("inf")])
def test_a_flat_map_is_zero_and_never_nan(value: float) -> None:
    maps = torch.full((2, 3, 3), value)
    maps[1] = torch.arange(9.0).reshape(3, 3)
    assert (scale(maps)[0] == 0).all()
    assert scale(maps)[1].max() == 1


@given(arrays(np.float32, (2, 3, 4), elements=st.floats(0, 1e6, width=32)), st.floats(2**-10, 2**10))
def test_scaled_maps_lie_in_the_unit_interval_whatever_their_size(values: np.ndarray, factor: float) -> None:
    maps = torch.from_numpy(values)
    scaled = scale(maps)
    assert ((scaled >= 0) & (scaled <= 1)).all()
    assert set(scaled.amax((1, 2)).tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(scale(scaled), scaled)
    moved = scaled.amax((1, 2)) == scale(maps * factor).amax((1, 2))  # rounding may make a nearly flat map flat
    torch.testing.assert_close(scale(maps * factor)[moved], scaled[moved], atol=1e-3, rtol=0)


def test_upsampling_keeps_the_peak_at_one_and_a_flat_map_at_zero() -> None:
    maps = torch.zeros(2, 2, 2)
    maps[0, 1, 1] = 1
    large = upsample(maps, 9)
    assert large.shape == (2, 9, 9)
    assert large[0, 8, 8] == 1
    assert large[0, 0, 0] == 0
    assert (large[1] == 0).all()


@given(
    arrays(np.float64, (2, 3, 4), elements=st.floats(0, 1)),
    arrays(np.float64, (2, 5, 3, 4), elements=st.floats(-100, 100)),
)
def test_core_and_environment_sums_add_up_to_all_activations(maps: np.ndarray, activations: np.ndarray) -> None:
    core, environment = pool(torch.from_numpy(maps), torch.from_numpy(activations), "sum")
    np.testing.assert_allclose((core + environment).numpy(), activations.sum((2, 3)), atol=1e-9)


@given(
    arrays(np.float64, (2, 3, 4), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    arrays(np.float64, (2, 5, 3, 4), elements=st.floats(-100, 100)),
)
def test_mean_pooling_is_the_sum_over_the_weight_of_the_map(maps: np.ndarray, activations: np.ndarray) -> None:
    weights, values = torch.from_numpy(maps), torch.from_numpy(activations)
    for mean, total, mass in zip(
        pool(weights, values, "mean"),
        pool(weights, values, "sum"),
        (maps.sum((1, 2)), (1 - maps).sum((1, 2))),
        strict=True,
    ):
        np.testing.assert_allclose(mean.numpy() * mass[:, None], total.numpy(), atol=1e-9)
        assert mean.isfinite().all()
        assert (mean[torch.from_numpy(mass == 0)] == 0).all()
