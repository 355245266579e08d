from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slim.annotation import Queries, Store, TerminalAnnotator, annotate
from slim.annotation import terminal as module
from slim.annotation.montage import PER_PAGE, TILE, montage
from slim.errors import AnnotationError

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
def test_terminal_takes_one_key_an_answer(tmp_path: Path, ask_about: Ask, key: str, answer: str) -> None:
    judgements = annotate(ask_about(0), TerminalAnnotator(tmp_path, read=keys(key)))
    assert judgements.frame["answer"].tolist() == [answer]


def test_terminal_asks_again_after_a_wrong_key(
    tmp_path: Path, ask_about: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    judgements = annotate(ask_about(0), TerminalAnnotator(tmp_path, read=keys("x", "", "cc", "\r", "s")))
    assert judgements.frame["answer"].tolist() == ["spurious"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("is no answer") == 4


def test_terminal_undo_and_stop_and_going_on(tmp_path: Path, ask_about: Ask) -> None:
    queries = ask_about(0, 1, 4)
    with Store(tmp_path / "annotations.db") as store:
        first = annotate(queries, TerminalAnnotator(tmp_path, read=keys("z", "c", "c", "z", "u", "q")), store)
        assert first.frame["answer"].tolist() == ["core", "unsure"]
        second = annotate(queries, TerminalAnnotator(tmp_path, read=keys("s")), store)
    assert second.frame["answer"].tolist() == ["core", "unsure", "spurious"]


def test_terminal_shows_one_picture_a_class_and_says_where(
    tmp_path: Path, ask_about: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    annotate(ask_about(0, 1, 4), TerminalAnnotator(folder, read=keys("c", "c", "c")))
    assert sorted(path.name for path in folder.iterdir()) == ["0-cat-1.png", "1-n_a_dog-1.png"]
    shown = capsys.readouterr().err
    assert shown.count("Look at ") == 2
    assert f"Look at {(folder / '0-cat-1.png').resolve()}" in shown
    assert "cat 2/2 > core" in shown
    assert "n/a dog 1/1 > core" in shown


def test_terminal_turns_the_page_of_a_large_budget(tmp_path: Path, pool: object, ask_about: Ask) -> None:
    few = ask_about(*[0, 1, 2, 3])
    n = PER_PAGE + 1
    table = few.table[[0] * n]
    queries = Queries(np.arange(n), table.y, table, np.zeros((n, 2, 2)), table.class_names)
    annotate(queries, TerminalAnnotator(tmp_path / "pictures", read=keys(*"c" * n)))
    pages = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in pages] == ["0-cat-1.png", "0-cat-2.png"]
    with Image.open(pages[0]) as first, Image.open(pages[1]) as second:
        assert first.height > 4 * TILE > second.height


def test_terminal_end_of_input_says_that_answers_are_saved(tmp_path: Path, ask_about: Ask) -> None:
    with (
        Store(tmp_path / "annotations.db") as store,
        pytest.raises(AnnotationError, match=r"Got the end of the input after 1. The 1 so far are saved"),
    ):
        annotate(ask_about(0, 1), TerminalAnnotator(tmp_path, read=keys("c")), store)


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
    monkeypatch.setattr("click.getchar", lambda: "c")
    assert module.read_key() == "c"


def test_montage_shows_the_photo_beside_its_attention(ask_about: Ask) -> None:
    queries = ask_about(0, 1, maps=np.array([[[0.0, 1.0]], [[0.0, 0.0]]]))
    page = np.asarray(montage(list(queries), "cat"))
    photos = [np.array(query.photo().getpixel((0, 0))) for query in queries]
    plain = [(page == colour).all(-1).sum() for colour in photos]
    # The attended image is plain only in its photo (and where it is not looked at), the other one in both pictures.
    assert TILE * TILE <= plain[0] < 1.6 * TILE * TILE
    assert plain[1] == 2 * TILE * TILE
