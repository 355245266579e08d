"""Progress without a terminal: lines of plain text, with the time left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slim.progress import announce, quiet, track


def slow(monkeypatch: pytest.MonkeyPatch, seconds: float, n: int) -> Iterator[int]:
    """Items each of which takes some seconds by the clock of progress."""
    now = [0.0]
    monkeypatch.setattr("slim.progress.perf_counter", lambda: now[0])

    def items() -> Iterator[int]:
        for i in range(n):
            now[0] += seconds
            yield i

    return items()


def test_long_work_says_how_far_it_is_and_how_long_the_rest_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(track(slow(monkeypatch, 6, 10), "reading", total=10)) == list(range(10))
    assert capsys.readouterr().err.splitlines() == [
        "  reading: 2 of 10, about 0:00:48 left",
        "  reading: 7 of 10, about 0:00:18 left",
        "  reading: 10 in 60.0 s",
    ]


def test_work_of_unknown_length_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    list(track(slow(monkeypatch, 11, 1), "reading"))
    assert capsys.readouterr().err.splitlines() == ["  reading: 1", "  reading: 1 in 11.0 s"]


def test_work_of_less_than_two_seconds_is_not_worth_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    list(track(slow(monkeypatch, 0.1, 10), "reading", total=10))
    assert capsys.readouterr().err == ""


def test_what_looks_like_markup_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    announce("Make runs/birds[v2]")
    assert capsys.readouterr().err == "Make runs/birds[v2]\n"


def test_quiet_work_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with quiet():
        assert list(track(slow(monkeypatch, 60, 3), "reading", total=3)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_notebook_without_ipywidgets_gets_lines_and_no_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as ipykernel does
    monkeypatch.setattr("slim.progress.find_spec", lambda name: None)
    announce("[1/10] train")
    assert list(track(slow(monkeypatch, 11, 1), "reading")) == [0]
    assert capsys.readouterr().err.splitlines() == ["[1/10] train", "  reading: 1", "  reading: 1 in 11.0 s"]


def test_a_log_gets_no_bar_where_colours_are_forced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    list(track(slow(monkeypatch, 11, 1), "reading"))
    assert [line.strip() for line in capsys.readouterr().err.splitlines()] == ["reading: 1", "reading: 1 in 11.0 s"]
