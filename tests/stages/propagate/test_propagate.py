"""The stage: which points and labels `propagate` takes from the records."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from slim.errors import AnnotationError, SlimWarning
from slim.stages.judgements import Judgements
from slim.stages.propagate.propagate import propagate, propagate_answers
from slim.stages.settings import PropagateSettings

Make = Callable[..., Any]


@pytest.mark.parametrize("pool", ["train", "val"])
@pytest.mark.parametrize("method", ["regression", "spreading"])
def test_propagate_takes_components_or_the_plane_of_the_pool(method: Any, pool: str, records: Make) -> None:
    made = records(pool)
    table, settings = made.data.split(pool), PropagateSettings(method)
    points = made.space.components if method == "regression" else made.space.plane
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlimWarning)
        scores = propagate(made.data, made.space, made.judgements, settings)
        codes = made.judgements.codes(len(table))
        expected = propagate_answers(points, table.y, codes, settings, class_names=table.class_names)
    np.testing.assert_array_equal(scores.values, expected.values)
    assert scores.trust == expected.trust
    assert [one.class_name for one in scores.trust] == ["class 0", "class 1"]


def test_propagate_works_by_regression_unless_told_otherwise(records: Make) -> None:
    made = records()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlimWarning)
        default, named = (
            propagate(made.data, made.space, made.judgements, settings)
            for settings in (None, PropagateSettings("regression"))
        )
    np.testing.assert_array_equal(default.values, named.values)


def test_judgements_of_another_pool_are_refused(records: Make) -> None:
    made = records("val")
    frame = made.judgements.frame.assign(index=made.judgements.frame["index"] + 30)
    with pytest.raises(AnnotationError, match="Judged images must be among the pool's 16"):
        propagate(made.data, made.space, Judgements(frame))


def test_propagate_does_not_change_the_records(records: Make) -> None:
    made = records()
    components = made.space.components.copy()
    components.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlimWarning)
        propagate(made.data, replace(made.space, components=components), made.judgements)
    np.testing.assert_array_equal(components, made.space.components)
