"""Which answer counts is the same for the stage, the page's trend, an export, and the file that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim import RecordedAnswers, Store
from slim.data import ImageTable
from slim.stages.annotate.formats import Sheet
from slim.stages.annotate.formats.tables import write_csv
from slim.stages.annotate.page.session import Pool
from slim.stages.annotate.page.trend import snapshots_by_class
from slim.stages.annotate.people import judgements_of_people
from slim.stages.annotate.store import Post
from slim.stages.judgements import ANSWERS


@pytest.mark.parametrize("seed", range(6))
def test_stage_trend_export_and_file_agree(seed: int, pool: ImageTable, tmp_path: Path, ask_about: Any) -> None:
    rng = np.random.default_rng(seed)
    everything = np.arange(len(pool))
    with Store(":memory:") as store:
        for key in range(40):
            settles = bool(rng.random() < 0.2)
            answer = str(rng.choice([*ANSWERS, "undone"]))
            post = Post(str(key), int(rng.integers(len(pool))), answer, settles=settles)  # type: ignore[arg-type]
            store.post([post], str(rng.choice(["ann", "bob", "cid"])))
        judgements = judgements_of_people(store, pool, everything.tolist()).frame
        sheet = Sheet.from_store(Pool(pool, np.zeros((len(pool), 2, 2))), everything, store)
        trend = snapshots_by_class(store.history(), pool.y)
    stage = dict(zip(judgements["index"], judgements["answer"], strict=True))
    write_csv(sheet, tmp_path / "answers.csv")
    recorded = RecordedAnswers(tmp_path / "answers.csv")
    file = {query.index: recorded.answer(query) for query in ask_about(*everything)}
    assert len(stage) >= 6
    assert {image.index: image.judgement for image in sheet if image.judgement is not None} == stage
    assert {index: answer for course in trend.values() for index, answer in course[-1].items()} == stage
    assert {index: answer for index, answer in file.items() if answer is not None} == stage
