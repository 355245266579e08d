"""How long work will take is measured on a few images, said before it starts, and not worth a line if it is short."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from slim import processes
from slim.data import ImageTable
from slim.network import pace as module
from slim.network.pace import Pace, announce_time, some_batches
from slim.progress import quiet
from slim.training import TrainSettings, train_classifier


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which stands still unless a test changes it."""
    now = [0.0]
    monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    return now


def test_pace_is_that_of_all_readings_and_of_the_passes_after_the_first(clock: list[float]) -> None:
    def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for size in (4, 6, 2):
            clock[0] += 0.5 * size
            yield torch.zeros(size), torch.zeros(size), torch.zeros(size)

    def work(images: Tensor) -> Tensor:
        clock[0] += 100 if len(images) == 4 else 2 * len(images)
        return images

    pace = Pace.measured(batches(), work)
    assert pace == Pace(0.5, 2.0)
    assert pace.seconds(10, passes=3) == 65


def test_measured_images_are_spread_over_the_table_in_batches_as_small_as_those_of_the_work(
    photos: Callable[..., ImageTable],
) -> None:
    positions = [index.tolist() for _, _, index in some_batches(photos(12), 8, 3)]
    assert positions == [[0, 2, 4], [6, 8, 10]]
    assert [len(index) for _, _, index in some_batches(photos(5), 8, 1000)] == [16, 16]


@pytest.mark.parametrize(
    ("seconds", "count", "said"),
    [
        (9.9, 1, ""),
        (10, 1, "  training: about 10 seconds, estimated (3 epochs)\n"),
        (50, 1, "  training: about 50 seconds, estimated (3 epochs)\n"),
        (1430, 2, "  training: about 12 minutes, estimated (3 epochs)\n"),
        (19, 2, ""),
    ],
)
def test_time_is_said_from_ten_seconds_on_and_shared_by_the_processes(
    seconds: float, count: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_count", count)
    announce_time("training", "3 epochs", lambda: seconds)
    assert capsys.readouterr().err == said


def test_nothing_is_measured_where_nothing_would_be_said(clock: list[float]) -> None:
    with quiet():
        announce_time("training", "3 epochs", lambda: pytest.fail("measured"))


@pytest.mark.usefixtures("small_and_quiet")
@pytest.mark.parametrize(
    ("trainable", "seconds"),
    [("all", 2 * (12 * (0.5 + 6) + 5 * (0.5 + 2))), ("head", (12 + 5) * (0.5 + 6))],
)
def test_training_foretells_its_epochs_and_is_not_changed_by_it(
    trainable: str,
    seconds: float,
    photos: Callable[..., ImageTable],
    small_classifier: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[tuple[str, str, float]] = []
    table, val = photos(12), photos(5, split="val")
    initial = replace(small_classifier(), class_names=table.class_names)
    settings = TrainSettings(epochs=2, batch_size=4, trainable=trainable, device="cpu", precision="32-true")
    plain = train_classifier(table, val, settings, initial=initial)

    def announce(what: str, of: str, seconds: Callable[[], float]) -> None:
        real = Pace.measured
        monkeypatch.setattr(Pace, "measured", lambda *given: real(*given) and Pace(0.5, 6.0))
        said.append((what, of, seconds()))

    monkeypatch.setattr("slim.training.loop.announce_time", announce)
    trained = train_classifier(table, val, settings, initial=initial)
    assert said == [("training", "2 epochs of 12 images", seconds)]
    for name, value in plain.module.state_dict().items():
        assert torch.equal(trained.module.state_dict()[name], value)
