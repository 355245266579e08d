"""The stage: who answers by default, where answers are kept, what is asked again, and what an end leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim import (
    AnnotateSettings,
    Attention,
    BrowserAnnotator,
    Dataset,
    Space,
    Store,
    TerminalAnnotator,
    annotate,
    select_queries,
)
from slim.errors import AnnotationError, SettingsError, SlimWarning
from slim.stages.annotate.annotate import STORE
from slim.stages.annotate.page.session import Session

Inputs = Callable[..., tuple[Dataset, Attention, Space]]

TWO = AnnotateSettings(budget=2)
BESIDE = np.repeat(np.array([[[1.0, 0.0, 0.0, 0.0]]]), 8, axis=0)


def terminal(folder: Path, *keys: str) -> TerminalAnnotator:
    """A person who presses these keys, and then leaves."""
    rest = iter(keys)

    def read() -> str:
        try:
            return next(rest)
        except StopIteration:
            raise EOFError from None

    return TerminalAnnotator(folder, read=read)


def test_masks_answer_by_default_about_the_budget_of_each_class(inputs: Inputs) -> None:
    judgements = annotate(*inputs(), AnnotateSettings(budget=3))
    assert judgements.annotator == "masks over 0.5, clicks, seed 0"
    assert judgements.frame["y"].tolist() == [0, 1, 0, 1, 0, 1]
    answers = dict(zip(judgements.frame["index"], judgements.frame["answer"], strict=True))
    assert set(answers.values()) <= {"core", "unsure"}
    assert all((answer == "unsure") == (index == 7) for index, answer in answers.items())  # 7 has no mask


def test_settings_have_defaults(inputs: Inputs, scripted: Any) -> None:
    with pytest.raises(SettingsError, match="Got budget 20 for 'cat', which has 4 in train"):
        annotate(*inputs(), annotator=scripted())


def test_settings_and_seed_reach_the_oracle(inputs: Inputs) -> None:
    settings = AnnotateSettings(budget=2, annotator="boxes", threshold=0.3, noise=1.0)
    judgements = annotate(*inputs(), settings, seed=4)
    assert judgements.annotator == "boxes over 0.3, clicks, seed 4, noise 1, seed 4"
    assert judgements.frame["answer"].tolist() == ["spurious"] * 4


def test_seed_reaches_the_selection_by_centres(inputs: Inputs) -> None:
    settings = AnnotateSettings(budget=1, select="centres")
    queried = {tuple(annotate(*inputs(), settings, seed=seed).frame["index"]) for seed in range(8)}
    assert len(queried) > 1
    assert len({tuple(annotate(*inputs(), settings, seed=3).frame["index"]) for _ in range(2)}) == 1


def test_images_and_maps_are_those_of_the_pool(inputs: Inputs) -> None:
    data, attention, space = inputs(maps=BESIDE, pool_split="val")
    judgements = annotate(data, attention, space, AnnotateSettings(budget=2, annotator="boxes"))
    assert judgements.frame["answer"].tolist() == ["spurious"] * 4
    assert judgements.frame["path"].tolist() == [data.val.paths[index] for index in judgements.frame["index"]]


def test_without_a_folder_nothing_is_written(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certain: Any
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert len(annotate(*inputs(), TWO, annotator=certain())) == 4
    assert list((tmp_path / "empty").iterdir()) == []


def test_with_a_folder_the_result_is_the_same_and_the_store_has_every_answer(inputs: Inputs, tmp_path: Path) -> None:
    kept, in_memory = annotate(*inputs(), TWO, folder=tmp_path / "run" / "new"), annotate(*inputs(), TWO)
    assert kept.frame.equals(in_memory.frame)
    with Store(tmp_path / "run" / "new" / STORE) as store:
        assert store.answers()["index"].tolist() == kept.frame["index"].tolist()


def test_later_call_asks_only_about_images_without_an_answer(inputs: Inputs, tmp_path: Path, scripted: Any) -> None:
    first = scripted("core", "spurious", "stop")
    annotate(*inputs(), TWO, annotator=first, folder=tmp_path)
    second = scripted("unsure", "unsure")
    judgements = annotate(*inputs(), TWO, annotator=second, folder=tmp_path)
    assert second.asked == judgements.frame["index"].tolist()[2:]
    assert judgements.frame["answer"].tolist() == ["core", "spurious", "unsure", "unsure"]
    more = scripted("core", "core")
    annotate(*inputs(), AnnotateSettings(budget=3), annotator=more, folder=tmp_path)
    assert len(more.asked) == 2
    assert not set(more.asked) & set(judgements.frame["index"])


class Done(BrowserAnnotator):
    """A page on which somebody presses Done at once."""

    def _show(self, session: Session) -> None:
        self.queue = session.queue()


def test_answers_at_the_terminal_count_on_the_page_too(inputs: Inputs, tmp_path: Path) -> None:
    there = annotate(*inputs(), TWO, annotator=terminal(tmp_path, *"csuc"), folder=tmp_path)
    assert annotate(*inputs(), TWO, annotator=Done(), folder=tmp_path).frame.equals(there.frame)


def test_answers_under_another_budget_count_except_an_oracles(
    inputs: Inputs, tmp_path: Path, scripted: Any, certain: Any
) -> None:
    one, three = AnnotateSettings(budget=1), AnnotateSettings(budget=3)
    page = Done()
    for person in (terminal(tmp_path, *"csucsu"), scripted(*["core"] * 6), certain()):
        folder = tmp_path / person.name
        before = annotate(*inputs(), three, annotator=person, folder=folder)
        after = annotate(*inputs(), one, annotator=person, folder=folder)
        assert (len(before), len(after)) == (6, 2 if person.name == "certain" else 6)
        assert after.frame["index"].tolist()[:2] == select_queries(*inputs(), one).index.tolist()
        if person.name == "terminal":
            assert annotate(*inputs(), one, annotator=page, folder=folder).frame.equals(after.frame)
            assert page.queue == after.frame["index"].tolist()


def test_judgements_are_of_the_annotator_who_was_asked(inputs: Inputs, tmp_path: Path, scripted: Any) -> None:
    annotate(*inputs(), TWO, folder=tmp_path)
    person = scripted("spurious", "spurious", "spurious", "spurious")
    judgements = annotate(*inputs(), TWO, annotator=person, folder=tmp_path)
    assert judgements.annotator == "ann"
    assert judgements.frame["answer"].tolist() == ["spurious"] * 4


def test_answers_about_other_maps_are_archived_and_come_back(inputs: Inputs, tmp_path: Path, scripted: Any) -> None:
    annotate(*inputs(), TWO, annotator=scripted("core", "core", "core", "core"), folder=tmp_path)
    other = scripted("spurious", "spurious", "spurious", "spurious")
    judgements = annotate(*inputs(maps=BESIDE), TWO, annotator=other, folder=tmp_path)
    assert len(other.asked) == 4
    assert judgements.frame["answer"].tolist() == ["spurious"] * 4
    assert len(list(tmp_path.glob("annotations*.db"))) == 2
    nobody = scripted()
    assert annotate(*inputs(), TWO, annotator=nobody, folder=tmp_path).frame["answer"].tolist() == ["core"] * 4
    assert (
        annotate(*inputs(maps=BESIDE), TWO, annotator=nobody, folder=tmp_path).frame["answer"].tolist()
        == ["spurious"] * 4
    )
    assert nobody.asked == []


def test_answers_about_another_data_set_or_split_are_archived(inputs: Inputs, tmp_path: Path, scripted: Any) -> None:
    for split in ("train", "val"):
        person = scripted("core", "core", "core", "core")
        annotate(*inputs(pool_split=split), TWO, annotator=person, folder=tmp_path)
        assert len(person.asked) == 4


def test_person_who_stops_at_the_terminal_is_told_that_the_answers_are_kept(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="All 4 queries must be answered. Got 2, which are kept. Continue with"):
        annotate(*inputs(), TWO, annotator=terminal(tmp_path, "c", "s", "q"), folder=tmp_path)
    judgements = annotate(*inputs(), TWO, annotator=terminal(tmp_path, "u", "u"), folder=tmp_path)
    assert judgements.frame["answer"].tolist() == ["core", "spurious", "unsure", "unsure"]


def test_person_who_stops_without_a_folder_loses_no_answer(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.warns(SlimWarning, match="2 of 4 queries got no answer from terminal"):
        judgements = annotate(*inputs(), TWO, annotator=terminal(tmp_path, "c", "s", "q"))
    assert judgements.frame["answer"].tolist() == ["core", "spurious"]
    with pytest.raises(AnnotationError, match="At least one query must be answered"):
        annotate(*inputs(), TWO, annotator=terminal(tmp_path, "q"))


def test_end_of_the_input_says_whether_answers_are_kept(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"after 1. The 1 so far are saved in .*annotations.db"):
        annotate(*inputs(), TWO, annotator=terminal(tmp_path, "c"), folder=tmp_path)
    with pytest.raises(AnnotationError, match=r"after 1. The 1 so far are lost: name a folder"):
        annotate(*inputs(), TWO, annotator=terminal(tmp_path, "c"))


def test_page_gets_the_queries_and_everything_known_of_the_pool(inputs: Inputs, tmp_path: Path) -> None:
    class Page(BrowserAnnotator):
        """Shows nothing, and keeps what it would have shown."""

        def judge(self, queries: Any, store: Any, pool: Any) -> Any:
            self.shown = queries, store.on_disk, pool
            return "judgements"

    data, attention, space = inputs()
    page = Page()
    for folder, title, on_disk in ((tmp_path / "birds" / "04-judgements", "birds", True), (None, "pets", False)):
        assert annotate(data, attention, space, TWO, annotator=page, folder=folder) == "judgements"
        queries, kept, pool = page.shown
        assert (len(queries), pool.title, kept) == (4, title, on_disk)
        assert pool.table is data.train
        np.testing.assert_array_equal(pool.plane, space.plane)
        np.testing.assert_array_equal(pool.components, space.components)
        np.testing.assert_array_equal(pool.probabilities, attention.train.probabilities)
