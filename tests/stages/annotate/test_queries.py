"""Queries and what each knows of its image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slim import Queries
from slim.data import ImageTable
from slim.errors import AnnotationError


def table_of(y: list[int]) -> ImageTable:
    return ImageTable(pd.DataFrame({"path": [f"/{i}.jpg" for i in range(len(y))], "y": y}), ("cat", "dog"))


def test_queries_refuse_an_image_twice() -> None:
    table = table_of([0, 1])
    with pytest.raises(AnnotationError, match=r"1 different"):
        Queries(np.array([3, 3]), table.y, table, np.zeros((2, 1, 1)), table.class_names)


def test_query_knows_its_image() -> None:
    table = table_of([1, 0, 1])
    maps = np.arange(3.0).reshape(3, 1, 1)
    query = Queries(np.array([9, 4, 2]), table.y, table, maps, table.class_names)[0]
    assert (query.index, query.y, query.class_name, query.path) == (9, 1, "dog", "/0.jpg")
    assert query.row == {"path": "/0.jpg", "y": 1}
    assert query.map.tolist() == [[0.0]]


def test_queries_are_reached_by_position() -> None:
    table = table_of([0, 1, 1])
    queries = Queries(np.array([9, 4, 2]), table.y, table, np.zeros((3, 1, 1)), table.class_names)
    assert [query.position for query in queries] == [0, 1, 2]
    assert queries[-1].index == 2
    with pytest.raises(IndexError):
        queries[3]


def test_judgements_of_queries_are_in_their_order_with_settled_answers_first(ask_about: Any) -> None:
    columns = ["index", "answer", "annotator", "seconds"]
    answers = pd.DataFrame([(0, "core", "ann", 1.0), (5, "core", "ann", 1.0), (3, "core", "ann", 1.0)], columns=columns)
    settled = pd.DataFrame([(0, "spurious", "bob", 2.0)], columns=columns)
    frame = ask_about(5, 0, 1).judgements(answers, settled).frame
    assert frame[["index", "y", "answer", "seconds"]].values.tolist() == [[5, 1, "core", 1.0], [0, 0, "spurious", 3.0]]
    assert [Path(path).name for path in frame["path"]] == ["5.png", "0.png"]
