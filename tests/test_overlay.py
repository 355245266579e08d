"""Attention maps as people see them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from slim.overlay import overlay, spotlight, upsample

MAP = np.array([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])


@settings(max_examples=60, deadline=None)
@given(
    npst.arrays(
        np.float32, st.tuples(st.just(2), st.integers(1, 6), st.integers(1, 6)), elements=st.floats(0, 1, width=32)
    ),
    st.integers(1, 40),
)
def test_upsample_spans_the_whole_range_or_is_zero(maps: np.ndarray, size: int) -> None:
    before = maps.copy()
    result = upsample(maps, size)
    assert result.shape == (2, size, size)
    assert np.isfinite(result).all()
    for one in result:
        assert (one.min(), one.max()) in {(0.0, 1.0), (0.0, 0.0)}
    np.testing.assert_array_equal(maps, before)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_upsample_leaves_a_flat_map_zero(value: float) -> None:
    assert upsample(np.full((1, 7, 7), value), 224).max() == 0


def test_upsample_handles_each_image_alone() -> None:
    maps = np.random.default_rng(0).random((4, 7, 7)).astype(np.float16)
    alone = np.concatenate([upsample(one[None], 30) for one in maps])
    np.testing.assert_array_equal(upsample(maps, 30), alone)


def test_overlay_and_spotlight_keep_the_proportions_or_take_a_size() -> None:
    photo = Image.new("L", (40, 20), 120)
    for draw in (overlay, spotlight):
        assert draw(photo, MAP, 100).size == (100, 50)
        assert draw(photo, MAP, (30, 60)).size == (30, 60)
        assert draw(photo, MAP, 100).mode == "RGB"


def test_overlay_of_a_flat_map_is_the_photo_and_its_spotlight_is_dark() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    np.testing.assert_array_equal(overlay(photo, np.ones((2, 2)), 8), photo)
    assert np.asarray(spotlight(photo, np.ones((2, 2)), 8)).max() < 30


def test_overlay_colours_grow_lighter_with_attention() -> None:
    ramp = np.linspace(0, 1, 64)[None]
    grey = np.asarray(overlay(Image.new("RGB", (64, 1)), ramp, (64, 1)).convert("L"), dtype=int)[0]
    assert (np.diff(grey) >= 0).all()
    assert grey[-1] > grey[0] + 100
