"""Several processes that torchrun starts: the same run as by one process, and clear refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from slim import processes
from slim.arrays import Floats
from slim.data import ImageTable
from slim.errors import SettingsError
from slim.quantized import Quantized
from slim.runs.run import run
from slim.training import TrainSettings, train_classifier

SETTINGS: dict[str, dict[str, object]] = {
    "train": {
        "arch": "convnext_atto",
        "weights": "none",
        "image_size": 32,
        "epochs": 2,
        "batch_size": 8,
        "precision": "32-true",
        "device": "cpu",
    },
    "attend": {"precision": "32-true"},
    "evaluate": {"precision": "32-true"},
    "annotate": {"budget": 4},
    "curate": {"size": 8},
    "retrain": {"mode": "full", "images": "recomposed", "epochs": 2},
}
OPTIONS = [
    word
    for stage, values in SETTINGS.items()
    for name, value in values.items()
    for word in (f"--{stage}.{name.replace('_', '-')}", str(value))
]


AUXILIARY = """
import sys, torch, slim
from torch import nn
from slim import processes
from slim.training import TrainSettings, train_classifier
class Network(nn.Module):
    def __init__(self, idle):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.head, self.auxiliary = nn.Linear(8, 2), nn.Linear(8, 2) if idle else None
    def forward(self, images):
        features = self.stem(images).relu().mean((2, 3))
        logits = self.head(features)
        return (logits, self.auxiliary(features)) if self.training and self.auxiliary else logits
with processes.connected():
    for idle in (True, False):
        torch.manual_seed(0)
        model = slim.wrap(Network(idle), image_size=32)
        data = slim.load_dataset(sys.argv[1])
        settings = TrainSettings(epochs=2, batch_size=4, device="cpu", precision="32-true")
        trained = train_classifier(data.train, data.val, settings, initial=model)
        if processes.first():
            trained.save(f"{sys.argv[2]}-{idle}")
"""
"""Trains a network whose auxiliary head gets no gradient, and one without such a head."""


def together(*words: object, program: Sequence[object] = ("-m", "slim")) -> subprocess.CompletedProcess[str]:
    """``slim``, or another program, in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *map(str, program)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, *map(str, words)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def numbers(path: Path) -> tuple[Floats, float]:
    """A file's numbers, and by how much two runs may differ: by rounding, or by one step where they are in few bits."""
    array = np.load(path)
    if array.dtype.names:
        step = float(array["step"].max()) * 1.01 if "step" in array.dtype.names else 11
        return np.asarray(Quantized(array), float), step
    return array.astype(float), 2 if array.dtype == np.uint8 else 1e-4


@pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="torchrun on Windows has no gloo over TCP by default")
def test_two_processes_make_the_run_of_one(squares: Callable[..., Path], tmp_path: Path, small_and_quiet: None) -> None:
    data = squares(sizes=(25, 9, 9))  # the last batch has one image, so that the second process has none of its own
    result = together("run", tmp_path / "two", "--data", data, "--attribute", "place", *OPTIONS)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Report: ") == 1
    run(tmp_path / "one", data=data, load={"attribute": "place"}, settings=SETTINGS)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*")]
    for name in (name for name in files if name.name == "model.safetensors"):
        ours, others = (load_file(tmp_path / folder / name) for folder in ("one", "two"))
        assert max(float((ours[key] - others[key]).abs().max()) for key in ours) < 1e-5
    arrays = [name for name in files if name.suffix == ".npy"]
    assert len(arrays) > 20
    for name in arrays:
        (mine, rounding), (theirs, _) = (numbers(tmp_path / folder / name) for folder in ("one", "two"))
        np.testing.assert_allclose(theirs, mine, atol=rounding, err_msg=str(name))


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun on Windows has no gloo over TCP by default")
def test_two_processes_train_a_network_some_of_which_gets_no_gradient(
    squares: Callable[..., Path], tmp_path: Path
) -> None:
    data, script = squares(sizes=(12, 4, 4)), tmp_path / "train.py"
    script.write_text(AUXILIARY)
    result = together(data, tmp_path / "two", program=[script])
    assert result.returncode == 0, result.stderr
    subprocess.run([sys.executable, script, data, tmp_path / "one"], check=True, timeout=300, capture_output=True)
    for idle in (True, False):
        one, two = (load_file(tmp_path / f"{name}-{idle}" / "model.safetensors") for name in ("one", "two"))
        assert one.keys() == two.keys()
        assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-5


def test_several_processes_do_only_what_they_can_share(tmp_path: Path) -> None:
    result = together("demo", tmp_path / "demo")
    assert result.returncode != 0
    assert "Several processes can do run, train" in result.stderr
    assert not (tmp_path / "demo").exists()


def test_every_process_gets_a_part_and_all_together_get_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_count", 3)
    shares, parts = [], []
    for number in range(3):
        monkeypatch.setattr(processes, "_number", number)
        shares.append(list(range(10))[processes.share(10)])
        parts.append(processes.part([5, 6]))
    assert shares == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert parts == [[5], [6], [5]]
    with processes.alone():
        assert processes.count() == 1
    assert processes.count() == 3


def test_group_dro_is_refused_in_several_processes(
    photos: Callable[..., ImageTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_count", 2)
    table = photos(n=8, attribute=True)
    settings = TrainSettings(arch="resnet10t", weights=None, image_size=32, device="cpu")
    with pytest.raises(SettingsError, match="GroupDRO must run in one process. Got 2"):
        train_classifier(table, table, settings, group_dro=0.01)
