"""Batches: their order, the evaluation transform, and augmentation that depends on the seed alone."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.data.conftest import one_image, quick

import slim.data.batches
import slim.processes
from slim.data import Dataset, ImageTable, image_batches
from slim.errors import DataError, SettingsError


def pixels(table: ImageTable, size: int = 8, **arguments: object) -> torch.Tensor:
    """All images of the batches, one after another."""
    return torch.cat([images for images, _, _ in image_batches(table, size, **arguments)])  # type: ignore[arg-type]


@quick
@given(order=st.lists(st.integers(0, 6), max_size=15), batch_size=st.integers(1, 5))
def test_batches_follow_the_order(plain: tuple[pd.DataFrame, Dataset], order: list[int], batch_size: int) -> None:
    table = plain[1].train
    batches = image_batches(table, 8, batch_size, order=order)
    seen = list(batches)
    assert len(batches) == len(seen) == -(-len(order) // batch_size)
    assert [i for _, _, index in seen for i in index.tolist()] == order
    assert [y for _, labels, _ in seen for y in labels.tolist()] == table.y[order].tolist()
    assert all(len(images) == batch_size for images, _, _ in seen[:-1])


def test_batches_are_the_whole_frame_resized(plain: tuple[pd.DataFrame, Dataset]) -> None:
    table = plain[1].train
    images, y, index = next(iter(image_batches(table, 8)))
    assert (images.dtype, y.dtype, index.dtype) == (torch.uint8, torch.int64, torch.int64)
    assert images.shape == (len(table), 3, 8, 8)
    assert images.is_contiguous(memory_format=torch.channels_last)
    expected = np.asarray(table.image(2).resize((8, 8), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(images[2].permute(1, 2, 0).numpy(), expected)


def test_batches_can_be_gone_through_twice_and_left_early(plain: tuple[pd.DataFrame, Dataset]) -> None:
    batches = image_batches(plain[1].train, 8, 1, augmentation="light")
    iterator = iter(batches)
    first = next(iterator)[0]
    del iterator
    assert torch.equal(next(iter(batches))[0], first)


# Python 3.12 and later warn of every fork of a process with threads, which is how torch starts its own.
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_augmentation_does_not_depend_on_workers_batch_size_or_order(plain: tuple[pd.DataFrame, Dataset]) -> None:
    table, order = plain[1].train, [3, 1, 3, 0]
    expected = pixels(table, order=order, augmentation="light", seed=5, epoch=2)
    small = pixels(table, order=order, augmentation="light", seed=5, epoch=2, batch_size=1)
    processes = pixels(table, order=order, augmentation="light", seed=5, epoch=2, batch_size=3, workers=1)
    turned = pixels(table, order=[0, 3, 1, 3], augmentation="light", seed=5, epoch=2)
    assert torch.equal(small, expected)
    assert torch.equal(processes, expected)
    assert torch.equal(turned, expected[[3, 0, 1, 2]])


def test_augmentation_differs_between_copies_epochs_and_seeds(plain: tuple[pd.DataFrame, Dataset]) -> None:
    table = plain[1].train
    drawn = [pixels(table, order=[0, 0], augmentation="light", seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    images = [image.numpy().tobytes() for pair in drawn for image in pair]
    assert len(set(images)) == 6


def test_augmentation_keeps_most_of_the_frame_and_flips_half(tmp_path: Path) -> None:
    across, down = np.meshgrid(np.linspace(0, 255, 300), np.linspace(0, 255, 100))
    ramp = np.stack([across, down, down], axis=-1).astype(np.uint8)
    table = one_image(tmp_path, ramp)
    images = pixels(table, 32, order=[0] * 200, augmentation="light").numpy().astype(float)
    width = (images[:, 0, 16, -1] - images[:, 0, 16, 0]) / 255 * 32 / 31
    height = (images[:, 1, -1, 16] - images[:, 1, 0, 16]) / 255 * 32 / 31
    area, ratio = np.abs(width) * height, np.abs(width) / height
    assert 0.66 < area.min() < 0.75
    assert 0.95 < area.max() < 1.03
    assert ratio.min() > 0.72
    assert ratio.max() < 1.39
    assert 70 < (width < 0).sum() < 130


@pytest.mark.parametrize(
    ("cores", "room", "images", "workers"),
    [
        (16, 16 << 30, 5_760, 11),  # as many as half the batches
        (8, 16 << 30, 50_000, 7),  # all cores but one
        (16, 2 << 30, 50_000, 5),  # what they hand over fits into a quarter of shared memory
        (16, 64 << 20, 50_000, 0),  # a container's
        (2, 16 << 30, 50_000, 0),
        (16, 16 << 30, 700, 0),
    ],
)
def test_for_a_gpu_batches_are_larger_and_read_by_processes_that_have_room(
    plain: tuple[pd.DataFrame, Dataset],
    cores: int,
    room: int,
    images: int,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slim.processes, "cores", lambda: cores)
    monkeypatch.setattr(slim.data.batches.shutil, "disk_usage", lambda _: SimpleNamespace(free=room))
    order, gpu = np.zeros(images, np.int64), torch.device("cuda")
    batches = image_batches(plain[1].train, 224, order=order, device=gpu)
    assert (batches.batch_size, batches.workers, batches.pinned) == (256, workers, True)
    chosen = image_batches(plain[1].train, 224, 64, order=order, workers=1, device=gpu)
    assert (chosen.batch_size, chosen.workers) == (64, 1)
    for device in (None, torch.device("cpu")):
        batches = image_batches(plain[1].train, 224, order=order, device=device)
        assert (batches.batch_size, batches.workers, batches.pinned) == (32, 0, False)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_leave_global_random_state_alone(plain: tuple[pd.DataFrame, Dataset], workers: int) -> None:
    before = torch.get_rng_state(), str(np.random.get_state(legacy=False)), random.getstate()
    pixels(plain[1].train, augmentation="light", workers=workers)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (str(np.random.get_state(legacy=False)), random.getstate()) == before[1:]


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_image_stops_the_batches_with_its_name_in_one_line(
    plain: tuple[pd.DataFrame, Dataset], tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "broken.png"
    path.write_text("no image")
    frame = plain[1].train.frame.copy()
    frame.loc[3, "path"] = str(path)
    with pytest.raises(DataError, match="broken.png must be a readable image") as caught:
        pixels(ImageTable(frame, ("0", "1")), batch_size=2, workers=workers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 0}, "image_size must be at least 1. Got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1. Got 0"),
        ({"seed": -1}, "seed must be at least 0. Got -1"),
        ({"workers": -2}, "workers must be at least 0. Got -2"),
        ({"augmentation": "heavy"}, "one of none, light. Got 'heavy'"),
    ],
)
def test_batches_refuse_wrong_settings(
    plain: tuple[pd.DataFrame, Dataset], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        image_batches(plain[1].train, **{"image_size": 8, **arguments})  # type: ignore[arg-type]


def test_batches_refuse_positions_outside_the_table(plain: tuple[pd.DataFrame, Dataset]) -> None:
    with pytest.raises(IndexError):
        image_batches(plain[1].train, 8, order=[99])


@pytest.mark.parametrize(
    "reason",
    [
        "DataLoader worker (pid(s) 1) exited unexpectedly",
        "\n        An attempt has been made to start a new process before the\n        current process is done. Or",
    ],
    ids=["in the script", "in a process that ran the script again"],
)
def test_processes_that_do_not_start_say_what_a_script_needs(
    plain: tuple[pd.DataFrame, Dataset], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the spawn start method, of a script that starts them without asking whether it is the main one."""

    def fail(_: object) -> None:
        raise RuntimeError(reason)

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", fail)
    with pytest.raises(SettingsError, match=r"The 2 processes .* Got: (DataLoader|An attempt).*Use 0 workers") as error:
        list(image_batches(plain[1].train, 8, workers=2))
    assert "\n" not in str(error.value)


def test_processes_start_in_a_script_without_a_guard(plain: tuple[pd.DataFrame, Dataset], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    paths = [Path(path).as_posix() for path in plain[1].train.paths]
    script.write_text(
        "import multiprocessing\nimport pandas as pd\nfrom slim.data import ImageTable, image_batches\n"
        "multiprocessing.set_start_method('spawn', force=True)\n"
        f"table = ImageTable(pd.DataFrame({{'path': {paths}, 'y': {plain[1].train.y.tolist()}}}), ('a', 'b'))\n"
        "print(sum(len(y) for _, y, _ in image_batches(table, 8, workers=1)))\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100, check=False)
    assert (ended.stdout, ended.returncode) == (f"{len(paths)}\n", 0), ended.stderr
