"""A person at the terminal: keys, pictures, and the end of the input."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slim import Queries, Store, TerminalAnnotator, ask
from slim.errors import AnnotationError
from slim.stages.annotate import terminal as module
from slim.stages.annotate.montage import PER_PAGE, TILE

Ask = Callable[..., Queries]


def keys(*pressed: str) -> Callable[[], str]:
    """Reads these keys, then the end of the input."""
    rest = iter(pressed)

    def read() -> str:
        try:
            return next(rest)
        except StopIteration:
            raise EOFError from None

    return read


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("c", "core"),
        ("1", "core"),
        ("S", "spurious"),
        ("0", "spurious"),
        ("u", "unsure"),
        (" ", "unsure"),
        (" c ", "core"),
    ],
)
def test_terminal_takes_one_key_per_answer(tmp_path: Path, ask_about: Ask, key: str, answer: str) -> None:
    judgements = ask(ask_about(0), TerminalAnnotator(tmp_path, read=keys(key)))
    assert judgements.frame["answer"].tolist() == [answer]


def test_terminal_takes_a_cell_of_the_grid_as_spurious_with_the_object_there(
    tmp_path: Path, ask_about: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    judgements = ask(ask_about(0, 1, 2), TerminalAnnotator(tmp_path, read=keys("a1", "d9", "c5", " D5 ", "c")))
    assert judgements.frame["answer"].tolist() == ["spurious", "spurious", "core"]
    x, y = np.array(judgements.places(3)[:, :2]).T
    np.testing.assert_allclose(x, [1 / 16, 5 / 16, np.nan])
    np.testing.assert_allclose(y, [1 / 16, 9 / 16, np.nan])
    shown = capsys.readouterr().err
    assert "a cell of the grid, such as d5" in shown
    assert "spurious, object at D5" in shown
    assert shown.count("is not an answer") == 2


def test_no_cell_of_the_grid_begins_like_an_answer() -> None:
    answers = {key for key in module.KEYS if len(key) == 1}
    cells = set(module.KEYS) - answers
    assert len(cells) == 64
    assert not {cell[0] for cell in cells} & answers


def test_terminal_asks_again_after_a_wrong_key(
    tmp_path: Path, ask_about: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    judgements = ask(ask_about(0), TerminalAnnotator(tmp_path, read=keys("x", "", "cc", "\r", "s")))
    assert judgements.frame["answer"].tolist() == ["spurious"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("is not an answer") == 4


def test_terminal_undoes_stops_and_continues(tmp_path: Path, ask_about: Ask) -> None:
    queries = ask_about(0, 1, 4)
    with Store(tmp_path / "annotations.db") as store:
        first = ask(queries, TerminalAnnotator(tmp_path, read=keys("z", "c", "c", "z", "u", "q")), store)
        assert first.frame["answer"].tolist() == ["core", "unsure"]
        second = ask(queries, TerminalAnnotator(tmp_path, read=keys("s")), store)
    assert second.frame["answer"].tolist() == ["core", "unsure", "spurious"]


def test_terminal_shows_all_classes_in_one_picture_and_says_where(
    tmp_path: Path, ask_about: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    ask(ask_about(0, 4, 1), TerminalAnnotator(folder, read=keys("c", "c", "c")))
    assert [path.name for path in folder.iterdir()] == ["queries-1.png"]
    shown = capsys.readouterr().err
    assert shown.count("Look at ") == 1
    assert f"Look at {(folder / 'queries-1.png').resolve()}" in shown
    assert "1/3 cat > core" in shown
    assert "2/3 n/a dog > core" in shown


def test_terminal_turns_the_page_of_a_large_budget(tmp_path: Path, ask_about: Ask) -> None:
    few = ask_about(*[0, 1, 2, 3])
    n = PER_PAGE + 1
    table = few.table[[0] * n]
    queries = Queries(np.arange(n), table.y, table, np.zeros((n, 2, 2)), table.class_names)
    ask(queries, TerminalAnnotator(tmp_path / "pictures", read=keys(*"c" * n)))
    pages = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in pages] == ["queries-1.png", "queries-2.png"]
    with Image.open(pages[0]) as first, Image.open(pages[1]) as second:
        assert first.height > 4 * TILE > second.height


def test_terminal_says_at_the_end_of_the_input_that_answers_are_saved(tmp_path: Path, ask_about: Ask) -> None:
    with (
        Store(tmp_path / "annotations.db") as store,
        pytest.raises(AnnotationError, match=r"Got the end of the input after 1. The 1 so far are saved"),
    ):
        ask(ask_about(0, 1), TerminalAnnotator(tmp_path, read=keys("c")), store)


def test_read_key_takes_a_line_from_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("c\n \n\nq"))
    assert [module.read_key() for _ in range(4)] == ["c", " ", "", "q"]
    with pytest.raises(EOFError):
        module.read_key()


def test_read_key_takes_a_single_key_from_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Screen())
    monkeypatch.setattr("click.getchar", keys("c", "D", "5"))
    assert [module.read_key() for _ in range(2)] == ["c", "D5"]
