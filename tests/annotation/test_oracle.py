from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from slim.annotation import (
    AnnotateSettings,
    BoxOracle,
    MaskOracle,
    NoisyOracle,
    Oracle,
    Queries,
    Query,
    RecordedAnswers,
    Store,
    TerminalAnnotator,
    annotate,
    choose_annotator,
)
from slim.datasets import ImageTable
from slim.errors import AnnotationError, DataError, SettingsError, SlimWarning
from slim.overlay import overlay, spotlight, upsample

Ask = Callable[..., Queries]

ON_OBJECT = np.array([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
BESIDE = ON_OBJECT[:, ::-1].copy()


class Certain(Oracle):
    """Says the same of every image."""

    def __init__(self, answer: Any = "core") -> None:
        self.name = "certain"
        self.given = answer

    def answer(self, query: Query) -> Any:
        return self.given


def without(table: ImageTable, *columns: str) -> ImageTable:
    return replace(table, frame=table.frame.drop(columns=list(columns)))


@pytest.mark.parametrize("oracle", [MaskOracle, BoxOracle])
def test_oracle_says_core_where_the_attention_is_on_the_object(
    oracle: type[MaskOracle], pool: ImageTable, ask_about: Ask
) -> None:
    maps = np.stack([ON_OBJECT, BESIDE, np.zeros((2, 4)), np.full((2, 4), 0.7)])
    judgements = oracle(pool)(ask_about(2, 4, 1, 0, maps=maps))
    assert judgements.frame["index"].tolist() == [2, 4, 1, 0]
    assert judgements.frame["answer"].tolist() == ["core", "spurious", "unsure", "unsure"]
    assert judgements.frame["seconds"].tolist() == [0.0] * 4


def test_oracle_is_unsure_about_an_image_without_a_mask(pool: ImageTable, ask_about: Ask) -> None:
    assert MaskOracle(pool).answer(ask_about(7)[0]) == "unsure"
    assert BoxOracle(pool).answer(ask_about(7)[0]) == "core"


def test_oracle_threshold_separates_the_same_map(pool: ImageTable, ask_about: Ask) -> None:
    # Strong attention on both sides of the object's edge, somewhat more of it outside.
    query = ask_about(0, maps=np.array([[[0.0, 1.0, 0.9, 0.0]]]))[0]
    answers = [MaskOracle(pool, threshold).answer(query) for threshold in (0.0, 0.2, 0.8)]
    assert answers == ["core", "core", "spurious"]


def test_oracle_needs_more_than_the_threshold(pool: ImageTable, ask_about: Ask) -> None:
    even = ask_about(0, maps=np.array([[[0.0, 1.0, 1.0, 0.0]]]))[0]  # symmetric: exactly half is inside
    assert MaskOracle(pool, 0.5).answer(even) == "spurious"
    assert MaskOracle(pool, 0.49).answer(even) == "core"


def test_oracle_judges_a_scaled_map_alike(pool: ImageTable, ask_about: Ask) -> None:
    # Only the shape of a map counts, since a person sees it scaled to the full range.
    assert MaskOracle(pool).answer(ask_about(0, maps=0.3 * ON_OBJECT[None] + 0.2)[0]) == "core"


@pytest.mark.parametrize(
    ("oracle", "columns", "word"), [(MaskOracle, ["mask"], "Masks"), (BoxOracle, ["box_x"], "Boxes")]
)
def test_oracle_refuses_a_table_without_regions(
    oracle: type[MaskOracle], columns: list[str], word: str, pool: ImageTable
) -> None:
    with pytest.raises(AnnotationError, match=f"{word} must exist .*Got a data set without .*--annotator terminal"):
        oracle(without(pool, *columns))


def test_oracle_refuses_masks_that_are_all_empty(pool: ImageTable) -> None:
    with pytest.raises(AnnotationError, match="Masks must exist"):
        MaskOracle(pool[[7, 7]])


def test_oracle_refuses_queries_of_another_pool(pool: ImageTable, ask_about: Ask) -> None:
    with pytest.raises(AnnotationError, match="the pool that the queries were selected from"):
        MaskOracle(pool[::-1])(ask_about(1))
    with pytest.raises(AnnotationError, match="as image 6"):
        MaskOracle(pool[:3])(ask_about(6))


def test_oracle_lets_a_damaged_mask_be_seen(pool: ImageTable, ask_about: Ask) -> None:
    Path(pool.frame["mask"].iloc[0]).write_bytes(b"no image")
    with pytest.raises(DataError, match="readable image"):
        MaskOracle(pool)(ask_about(0))


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_oracle_refuses_a_threshold_out_of_range(threshold: float, pool: ImageTable) -> None:
    with pytest.raises(SettingsError, match="threshold must be"):
        MaskOracle(pool, threshold)


def query_at(index: int) -> Query:
    """A query that only has a position in the pool."""
    table = ImageTable.__new__(ImageTable)
    queries = Queries.__new__(Queries)
    object.__setattr__(queries, "index", np.array([index]))
    object.__setattr__(queries, "table", table)
    return Query(queries, 0)


def flipped(share: float, seed: int = 0, n: int = 2000, given: str | None = "core") -> np.ndarray:
    oracle = NoisyOracle(Certain(given), share, seed)
    return np.array([oracle.answer(query_at(index)) != given for index in range(n)])


def test_noise_flips_about_its_share_and_again_the_same() -> None:
    turned = flipped(0.1)
    assert abs(turned.mean() - 0.1) < 0.03
    np.testing.assert_array_equal(turned, flipped(0.1))
    assert (turned != flipped(0.1, seed=1)).any()


def test_noise_at_the_ends_flips_nothing_or_everything() -> None:
    assert not flipped(0.0, n=50).any()
    assert flipped(1.0, n=50).all()
    assert NoisyOracle(Certain("spurious"), 1.0).answer(query_at(0)) == "core"


def test_noise_flips_a_subset_of_what_more_noise_flips() -> None:
    assert not (flipped(0.1) & ~flipped(0.3)).any()


@pytest.mark.parametrize("given", ["unsure", None])
def test_noise_leaves_unsure_and_unasked(given: str | None) -> None:
    assert not flipped(1.0, n=20, given=given).any()


def test_noise_refuses_a_share_out_of_range() -> None:
    with pytest.raises(SettingsError, match="Got 1.2"):
        NoisyOracle(Certain(), 1.2)


def recorded(tmp_path: Path, text: str) -> RecordedAnswers:
    path = tmp_path / "answers.csv"
    path.write_text(text, encoding="utf-8")
    return RecordedAnswers(path)


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("core", "core"),
        ("YES", "core"),
        ("1", "core"),
        (" spurious ", "spurious"),
        ("no", "spurious"),
        ("0", "spurious"),
        ("unsure", "unsure"),
        ("maybe", "unsure"),
        ("", None),
    ],
)
def test_recorded_answers_know_the_usual_words(tmp_path: Path, ask_about: Ask, word: str, answer: str | None) -> None:
    assert recorded(tmp_path, f"index,answer\n3,{word}\n").answer(ask_about(3)[0]) == answer


def test_recorded_answers_name_the_line_of_an_unknown_word(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"Got '-1' in line 4 of .*answers.csv"):
        recorded(tmp_path, "index,answer\n3,core\n\n5,-1\n")


@pytest.mark.parametrize("column", ["path", "img_filename", " Filename", "image", "file"])
def test_recorded_answers_join_by_path_whatever_the_order(tmp_path: Path, ask_about: Ask, column: str) -> None:
    text = f"{column},index,answer\npool/5.png,0,core\n./pool/1.png,5,spurious\npool\\2.png,9,unsure\n"
    oracle = recorded(tmp_path, text)
    assert [oracle.answer(query) for query in ask_about(0, 1, 2, 5)] == [None, "spurious", "unsure", "core"]


def test_recorded_answers_join_by_the_whole_path(tmp_path: Path, pool: ImageTable, ask_about: Ask) -> None:
    assert recorded(tmp_path, f"path,answer\n{pool.paths[2]},core\n").answer(ask_about(2)[0]) == "core"


def test_recorded_answers_do_not_match_half_a_name(tmp_path: Path, ask_about: Ask) -> None:
    assert recorded(tmp_path, "path,answer\nol/2.png,core\n").answer(ask_about(2)[0]) is None


def test_recorded_answers_refuse_a_name_of_several_queries(tmp_path: Path, ask_about: Ask) -> None:
    queries = ask_about(0, 1)
    frame = queries.table.frame.assign(path=["/cats/1.png", "/dogs/1.png"])
    both = replace(queries, table=replace(queries.table, frame=frame))
    with pytest.raises(AnnotationError, match=r"'1.png', which is /cats/1.png and /dogs/1.png"):
        recorded(tmp_path, "path,answer\n1.png,core\n")(both)
    judgements = recorded(tmp_path, "path,answer\ncats/1.png,core\ndogs/1.png,spurious\n")(both)
    assert judgements.frame["answer"].tolist() == ["core", "spurious"]


def test_recorded_answers_of_several_people_count_by_majority(tmp_path: Path, ask_about: Ask) -> None:
    oracle = recorded(tmp_path, "index,answer\n0,core\n0,core\n0,no\n1,core\n1,no\n2,\n2,core\n")
    assert [oracle.answer(query) for query in ask_about(0, 1, 2)] == ["core", "unsure", "core"]


@pytest.mark.parametrize("text", ["", "answer\ncore\n", "path\n/a.jpg\n", "img_id,answer\n3,core\n"])
def test_recorded_answers_refuse_a_file_without_the_columns(tmp_path: Path, text: str) -> None:
    with pytest.raises(AnnotationError, match="Recorded answers must"):
        recorded(tmp_path, text)


def test_recorded_answers_refuse_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"nowhere.csv: .*No such file"):
        RecordedAnswers(tmp_path / "nowhere.csv")


def test_recorded_answers_that_were_edited_are_asked_anew(tmp_path: Path, ask_about: Ask) -> None:
    queries = ask_about(0)
    with Store(":memory:") as store:
        annotate(queries, recorded(tmp_path, "index,answer\n0,core\n"), store)
        after = annotate(queries, recorded(tmp_path, "index,answer\n0,spurious\n"), store)
    assert after.frame["answer"].tolist() == ["spurious"]


def test_annotate_warns_of_queries_without_an_answer(tmp_path: Path, ask_about: Ask) -> None:
    oracle = recorded(tmp_path, "index,answer\n0,core\n")
    with pytest.warns(SlimWarning, match="2 of 3 queries got no answer"):
        judgements = annotate(ask_about(0, 1, 2), oracle)
    assert judgements.frame["index"].tolist() == [0]


def test_annotate_refuses_to_go_on_without_any_answer(tmp_path: Path, ask_about: Ask) -> None:
    with pytest.raises(AnnotationError, match=r"Got no answer to 1 from recorded answers.csv.*/2.png"):
        annotate(ask_about(2), recorded(tmp_path, "path,answer\n/elsewhere/9.png,core\n"))


def test_annotate_refuses_another_word_from_an_annotator(ask_about: Ask) -> None:
    with pytest.raises(AnnotationError, match="Got 'perhaps' from certain"):
        annotate(ask_about(0), Certain("perhaps"))


def test_annotate_records_each_answer_before_the_next_question(ask_about: Ask) -> None:
    with Store(":memory:") as store:
        seen = []

        class Watching(Certain):
            def answer(self, query: Query) -> Any:
                seen.append(store.answers()["index"].tolist())
                return super().answer(query)

        annotate(ask_about(4, 2, 6), Watching(), store)
    assert seen == [[], [4], [4, 2]]


def test_annotate_resumes_where_it_was_left(ask_about: Ask, scripted: Any) -> None:
    with Store(":memory:") as store:
        first = annotate(ask_about(0, 1, 2), scripted("core", "stop"), store)
        person = scripted("spurious", "unsure")
        second = annotate(ask_about(0, 1, 2), person, store)
    assert first.frame["answer"].tolist() == ["core"]
    assert person.asked == [1, 2]
    assert second.frame["answer"].tolist() == ["core", "spurious", "unsure"]


def test_annotate_gives_only_the_answers_of_this_annotator_to_these_queries(ask_about: Ask, scripted: Any) -> None:
    with Store(":memory:") as store:
        annotate(ask_about(0, 5), scripted("core", "core", name="bob"), store)
        judgements = annotate(ask_about(0), scripted("spurious"), store)
    assert judgements.frame[["index", "answer", "annotator"]].to_numpy().tolist() == [[0, "spurious", "ann"]]


def test_annotate_undo_asks_again_also_about_an_earlier_session(ask_about: Ask, scripted: Any) -> None:
    queries = ask_about(0, 1, 2)
    with Store(":memory:") as store:
        annotate(queries, scripted("core", "core", "stop"), store)
        person = scripted("undo", "undo", "undo", "spurious", "unsure", "core")
        judgements = annotate(queries, person, store)
        assert store.history()["answer"].tolist().count("undone") == 2
    assert person.asked == [2, 1, 0, 0, 1, 2]
    assert judgements.frame["answer"].tolist() == ["spurious", "unsure", "core"]


def test_annotate_stopped_at_once_gives_no_judgement(ask_about: Ask, scripted: Any) -> None:
    assert len(annotate(ask_about(0, 1), scripted("stop"))) == 0


def test_annotate_measures_the_seconds_of_a_person(ask_about: Ask, scripted: Any) -> None:
    seconds = annotate(ask_about(0), scripted("core")).frame["seconds"].iloc[0]
    assert 0 < seconds < 5


def test_annotate_says_what_became_of_the_answers_when_nobody_is_left(
    tmp_path: Path, ask_about: Ask, scripted: Any
) -> None:
    with (
        Store(tmp_path / "annotations.db") as store,
        pytest.raises(AnnotationError, match=r"after 1. The 1 so far are saved in .*annotations.db: run the same"),
    ):
        annotate(ask_about(0, 1), scripted("core"), store)
    with Store(tmp_path / "annotations.db") as store:
        assert store.answers()["index"].tolist() == [0]
    with pytest.raises(AnnotationError, match="The 1 so far are lost: pass a store"):
        annotate(ask_about(0, 1), scripted("core"))


def test_choose_annotator_auto_takes_recorded_then_masks_then_boxes_then_a_person(
    tmp_path: Path, pool: ImageTable
) -> None:
    file = tmp_path / "answers.csv"
    file.write_text("index,answer\n")
    boxes_only = without(pool, "mask")
    bare = without(pool, "mask", "box_x", "box_y", "box_width", "box_height")
    assert isinstance(choose_annotator(AnnotateSettings(recorded=str(file)), pool, tmp_path), RecordedAnswers)
    assert choose_annotator(AnnotateSettings(), pool, tmp_path).name == "masks over 0.5"
    assert choose_annotator(AnnotateSettings(threshold=0.3), boxes_only, tmp_path).name == "boxes over 0.3"
    assert isinstance(choose_annotator(AnnotateSettings(), bare, tmp_path), TerminalAnnotator)


def test_choose_annotator_obeys_the_settings(tmp_path: Path, pool: ImageTable) -> None:
    noisy = choose_annotator(AnnotateSettings(noise=0.2), pool, tmp_path, seed=4)
    assert noisy.name == "masks over 0.5, noise 0.2, seed 4"
    assert choose_annotator(AnnotateSettings(annotator="boxes"), pool, tmp_path).name == "boxes over 0.5"
    assert isinstance(choose_annotator(AnnotateSettings(annotator="terminal"), pool, tmp_path), TerminalAnnotator)
    with pytest.raises(AnnotationError, match="Masks must exist"):
        choose_annotator(AnnotateSettings(annotator="masks"), without(pool, "mask"), tmp_path)


def test_choose_annotator_refuses_noise_where_only_a_person_can_answer(tmp_path: Path, pool: ImageTable) -> None:
    bare = without(pool, "mask", "box_x", "box_y", "box_width", "box_height")
    with pytest.raises(SettingsError, match="Drop --noise"):
        choose_annotator(AnnotateSettings(noise=0.1), bare, tmp_path)


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


def test_overlay_and_spotlight_keep_the_proportions_or_take_the_given_size() -> None:
    photo = Image.new("L", (40, 20), 120)
    for draw in (overlay, spotlight):
        assert draw(photo, ON_OBJECT, 100).size == (100, 50)
        assert draw(photo, ON_OBJECT, (30, 60)).size == (30, 60)
        assert draw(photo, ON_OBJECT, 100).mode == "RGB"


def test_overlay_of_a_flat_map_is_the_photo_and_its_spotlight_is_dark() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    np.testing.assert_array_equal(overlay(photo, np.ones((2, 2)), 8), photo)
    assert np.asarray(spotlight(photo, np.ones((2, 2)), 8)).max() < 30


def test_overlay_colours_grow_lighter_with_attention() -> None:
    ramp = np.linspace(0, 1, 64)[None]
    grey = np.asarray(overlay(Image.new("RGB", (64, 1)), ramp, (64, 1)).convert("L"), dtype=int)[0]
    assert (np.diff(grey) >= 0).all()
    assert grey[-1] > grey[0] + 100
