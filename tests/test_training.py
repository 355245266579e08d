"""Training: what it leaves alone, how it goes on after a kill, which epoch it keeps, and training behind a cut."""

from __future__ import annotations

import logging
import math
import random
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from slim import activations
from slim.datasets import ImageTable, image_batches
from slim.errors import DataError, ModelError, SettingsError, SlimWarning
from slim.frozen import find_cut, last_stage
from slim.models import Classifier, load_classifier, wrap
from slim.progress import quiet
from slim.robust import robust_loss
from slim.training import Training, TrainSettings, fit, loop, train
from slim.training.sources import in_batches

SIZE = 16
FAST = TrainSettings(lr=0.05, epochs=3, batch_size=4, device="cpu", precision="32-true", weight_decay=0.0)


@pytest.fixture(autouse=True)
def _quiet_on_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small only wait for each other's threads
    with quiet():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    """Twelve noisy images, the red ones of class 0 and the blue ones of class 1, bright and dark."""
    return color_table(tmp_path_factory.mktemp("images"), 12)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The (epoch, step) of each step that is taken."""
    taken: list[tuple[int, int]] = []
    real = loop.Loop._step

    def step(self: Any, *args: Any) -> None:
        taken.append((self.state.epoch, self.state.step))
        real(self, *args)

    monkeypatch.setattr(loop.Loop, "_step", step)
    return taken


def color_table(folder: Path, n: int) -> ImageTable:
    rng = np.random.default_rng(0)
    y, a = np.arange(n) % 2, np.arange(n) // 2 % 2
    paths = [folder / f"{i}.png" for i in range(n)]
    for path, label, bright in zip(paths, y, a, strict=True):
        pixels = rng.integers(0, 60, (SIZE, SIZE, 3))
        pixels[..., 2 * label] += 100 + 90 * bright
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    frame = pd.DataFrame({"path": list(map(str, paths)), "y": y, "a": a})
    return ImageTable(frame, ("red", "blue"), ("dark", "bright"), "train", np.full(4, 0.25))


class Net(nn.Module):
    """Everything that a resumed training could get wrong: batch norm, dropout, and two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stage(self.stem(images)).mean((2, 3)))


def model_of(make: Callable[[], nn.Module] = Net, size: int = SIZE, seed: int = 0, **options: Any) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return wrap(make(), image_size=size, **options)


def state_of(model: Classifier) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_same_training(a: Training, b: Training) -> None:
    assert same(state_of(a.classifier), state_of(b.classifier))
    pd.testing.assert_frame_equal(a.history.drop(columns="seconds"), b.history.drop(columns="seconds"))
    assert a.best_epoch == b.best_epoch


class Killed(BaseException):
    """Stands for what ends a process."""


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int) -> Callable[[], None]:
    """Make a function raise at its n-th call, counted from 0; returns what undoes it."""
    real = getattr(owner, name)
    calls = iter(range(10**6))

    def killing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, killing)
    return lambda: monkeypatch.setattr(owner, name, real)


# --- settings and images


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0},
        {"lr": math.inf},
        {"lr": math.nan},
        {"momentum": 1},
        {"weight_decay": -0.1},
        {"warmup": 1},
        {"epochs": 0},
        {"batch_size": 1},
        {"image_size": 0},
        {"patience": 0},
        {"workers": -1},
        {"trainable": ""},
        {"optimizer": "adam"},
        {"schedule": "linear"},
        {"precision": "64-true"},
        {"class_weights": "yes"},
        {"augmentation": "heavy"},
        {"select_by": "val_accuracy"},
        {"device": "tpu"},
    ],
)
def test_settings_refuse_values_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=rf"^{next(iter(wrong))} must be .* Got "):
        TrainSettings(**wrong)


def test_train_refuses_images_that_cannot_be_trained_with(table: ImageTable) -> None:
    other = replace(table, class_names=("blue", "red"))
    for images, val, what in (
        (table[[0]], table, "Got 1 images of 1 classes"),
        (table[[0, 2, 4]], table, "Got 3 images of 1 classes"),
        (table, table[[]], "Got none"),
        (table, other, "same classes"),
    ):
        with pytest.raises(DataError, match=what):
            train(images, val, FAST, initial=model_of())


def test_train_refuses_a_model_of_other_classes(table: ImageTable) -> None:
    with pytest.raises(DataError, match="blue, red"):
        train(table, table, FAST, initial=model_of(class_names=("blue", "red")))


def test_train_refuses_what_does_not_go_together(table: ImageTable) -> None:
    bare = replace(table, attribute_names=())
    with pytest.raises(SettingsError, match="spurious attribute"):
        train(table, bare, replace(FAST, select_by="worst-group"), initial=model_of())
    with pytest.raises(SettingsError, match="16-mixed"):
        train(table, table, replace(FAST, precision="16-mixed"), initial=model_of())
    with pytest.raises(SettingsError, match="seed"):
        train(table, table, FAST, seed=-1, initial=model_of())


# --- what training does and leaves alone


def test_train_learns_and_returns_a_model_ready_for_use(table: ImageTable, tmp_path: Path) -> None:
    model = train(table, table, replace(FAST, epochs=6), folder=tmp_path, initial=model_of())
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["val_accuracy"].max() == 1
    assert model.class_names == ("red", "blue")
    assert not any(child.training for child in model.module.modules())
    assert same(state_of(load_classifier(tmp_path, Net())), state_of(model))


def test_history_has_one_row_an_epoch(table: ImageTable) -> None:
    result = fit(table, table, FAST, initial=model_of())
    expected = "epoch train_loss train_accuracy val_loss val_accuracy val_class_balanced_accuracy lr seconds"
    assert list(result.history) == expected.split()
    assert result.history["epoch"].tolist() == [1, 2, 3]
    grouped = fit(table, table, replace(FAST, epochs=1, select_by="worst-group"), initial=model_of())
    assert "val_worst_group_accuracy" in grouped.history


def test_train_builds_the_architecture_of_the_settings(table: ImageTable) -> None:
    settings = replace(FAST, arch="resnet10t", weights=None, image_size=32, layer="layer3", epochs=1)
    model = train(table[:4], table[[0, 2]], settings)
    assert (model.arch, model.image_size, model.layer) == ("resnet10t", 32, "layer3")


@pytest.mark.parametrize("trainable", ["all", "stage"])
def test_train_leaves_the_first_model_as_it_is(table: ImageTable, trainable: str) -> None:
    first = model_of()
    first.module.stage.eval()
    first.module.stem[0].bias.requires_grad_(False)
    before, modes = state_of(first), [child.training for child in first.module.modules()]
    result = train(table, table, replace(FAST, trainable=trainable), initial=first)
    assert same(before, state_of(first))
    assert modes == [child.training for child in first.module.modules()]
    for model in (first, result):
        flags = {name: values.requires_grad for name, values in model.module.named_parameters()}
        assert [name for name, flag in flags.items() if not flag] == ["stem.0.bias"]
    assert all(values.grad is None for values in first.module.parameters())
    assert torch.equal(result.module.stem[0].bias, first.module.stem[0].bias)


def test_train_leaves_the_global_random_state_alone(table: ImageTable) -> None:
    torch.manual_seed(5)
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    train(table, table, FAST, initial=model_of())
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (str(np.random.get_state()), random.getstate())


def test_train_depends_on_the_seed_and_not_on_the_global_random_state(table: ImageTable) -> None:
    results = []
    for seed, global_seed in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(global_seed)
        results.append(fit(table, table, FAST, seed=seed, initial=model_of()))
    assert_same_training(results[0], results[1])
    assert not same(state_of(results[0].classifier), state_of(results[2].classifier))


def test_train_writes_nothing_to_the_console_in_mixed_precision(
    table: ImageTable, capfd: pytest.CaptureFixture[str]
) -> None:
    logger, handler = logging.getLogger("lightning_fabric"), logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)  # as Fabric does where pytest has not set up logging
    level = logger.level
    try:
        train(table[:4], table[[0, 2]], replace(FAST, epochs=1, precision="bf16-mixed"), initial=model_of())
    finally:
        logger.removeHandler(handler)
    assert capfd.readouterr() == ("", "")
    assert logger.level == level


def test_a_lone_last_image_joins_the_batch_before(tmp_path: Path, steps: list[tuple[int, int]]) -> None:
    def net() -> nn.Module:  # batch norm of one value an image, which fails on a batch of one
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)
        )

    nine = color_table(tmp_path, 9)
    result = fit(nine, nine, replace(FAST, epochs=1), initial=model_of(net, layer="0"))
    assert len(steps) == 2
    assert np.isfinite(result.history["train_loss"]).all()


@given(n=st.integers(2, 60), batch_size=st.integers(2, 20))
def test_batches_drop_nothing(n: int, batch_size: int) -> None:
    chunks = in_batches(np.arange(n), batch_size)
    assert np.concatenate(chunks).tolist() == list(range(n))
    assert all(2 <= len(chunk) <= batch_size + 1 for chunk in chunks)
    assert all(len(chunk) == batch_size for chunk in chunks[:-1])


@given(n=st.integers(1, 300), warmup=st.floats(0, 0.99), schedule=st.sampled_from(["constant", "cosine"]))
def test_learning_rate_rises_then_never_rises_again(n: int, warmup: float, schedule: Any) -> None:
    settings = TrainSettings(lr=0.3, warmup=warmup, schedule=schedule)
    rates = np.array([loop._learning_rate(settings, step, n) for step in range(n)])
    rising = round(warmup * n)
    assert ((rates > 0) & (rates <= 0.3)).all()
    assert (np.diff(rates[:rising]) > 0).all()
    assert (np.diff(rates[rising:]) <= 0).all()
    assert rising == n or rates[rising] == pytest.approx(0.3)


def test_balanced_class_weights_are_n_over_classes_times_n_of_the_class(table: ImageTable) -> None:
    skewed = table[[0, 1, 2, 4]]  # three red, one blue
    weights = loop._class_weights(skewed, replace(FAST, class_weights="balanced"))
    assert weights.tolist() == pytest.approx([4 / (2 * 3), 4 / (2 * 1)])
    plain = fit(skewed, skewed[:1], FAST, initial=model_of())
    balanced = fit(skewed, skewed[:1], replace(FAST, class_weights="balanced"), initial=model_of())
    assert not same(state_of(plain.classifier), state_of(balanced.classifier))


# --- GroupDRO


def test_group_dro_weighs_groups_by_their_losses() -> None:
    logits, y = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1, 0])
    shares = torch.tensor([0.2, 0.3, 0.5])
    loss, after = robust_loss(logits, y, torch.tensor([0, 0, 2]), shares, step=0.7)
    losses = torch.tensor([(math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2, 0, math.log(2)])
    expected = shares * torch.exp(0.7 * losses)
    expected /= expected.sum()
    torch.testing.assert_close(after, expected)  # the absent group's loss is 0
    torch.testing.assert_close(loss, (expected * losses).sum())


def test_group_dro_serves_a_rare_group_that_the_mean_loss_gives_up(tmp_path: Path) -> None:
    table = color_table(tmp_path, 40)
    # The rare group has the label of the other colour: what is right for it is wrong for most others.
    y = np.where(np.arange(40) < 2, 1 - table.y, table.y)
    odd = replace(table, frame=table.frame.assign(y=y, a=(np.arange(40) < 2).astype(int)))
    settings = replace(FAST, epochs=12, select_by="loss")
    trained = {step: fit(odd, odd, settings, initial=model_of(), group_dro=step) for step in (None, 0.5)}
    images, labels, _ = next(iter(image_batches(odd, SIZE, 2)))
    with torch.no_grad():
        losses = {
            step: float(cross_entropy(one.classifier.module(one.classifier.normalize(images)), labels))
            for step, one in trained.items()
        }
    assert losses[0.5] < losses[None] / 1.5


@pytest.mark.parametrize(
    ("step", "attributes", "message"), [(0.01, (), "needs train images with a spurious"), (0.0, ("a", "b"), "above 0")]
)
def test_group_dro_without_groups_or_with_no_step_is_refused(
    table: ImageTable, step: float, attributes: tuple[str, ...], message: str
) -> None:
    given = table if attributes else replace(table, frame=table.frame.drop(columns="a"), attribute_names=())
    with pytest.raises(SettingsError, match=message):
        fit(given, table, FAST, initial=model_of(), group_dro=step)


def test_a_checkpoint_of_the_mean_loss_is_not_gone_on_with_by_group_dro(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revive = kill_at(monkeypatch, *VALIDATION, 1)
    with pytest.raises(Killed):
        fit(table, table, FAST, folder=tmp_path, initial=model_of())
    revive()
    with pytest.warns(SlimWarning, match="The training starts again"):
        fit(table, table, FAST, folder=tmp_path, initial=model_of(), group_dro=0.01)


# --- going on after a kill

SETUPS = {
    "sgd": FAST,
    "adamw behind a cut": replace(FAST, optimizer="adamw", lr=0.01, trainable="stage", select_by="loss"),
    "bfloat16": replace(FAST, precision="bf16-mixed", class_weights="balanced", select_by="loss", patience=1),
    "group-dro": replace(FAST, select_by="worst-group"),
}
GROUP_DRO = {"group-dro": 0.5}
STEP, VALIDATION, CHECKPOINT = (loop.Loop, "_step"), (loop, "_val_columns"), (torch, "save")
KILLS = [("sgd", STEP, call) for call in (0, 2, 3, 4, 8)]
KILLS += [("sgd", VALIDATION, 0), ("sgd", VALIDATION, 2), ("sgd", (Classifier, "save"), 0)]
KILLS += [("sgd", CHECKPOINT, call) for call in (0, 3, 11)]
KILLS += [("group-dro", STEP, call) for call in (2, 4)] + [("group-dro", CHECKPOINT, 4)]
KILLS += [("adamw behind a cut", STEP, 4), ("adamw behind a cut", CHECKPOINT, 4), ("bfloat16", STEP, 2)]


@pytest.mark.parametrize(("setup", "what", "call"), KILLS)
def test_killed_training_ends_as_if_it_had_not_been(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setup: str, what: tuple[Any, str], call: int
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    whole = uninterrupted(table, setup)
    revive = kill_at(monkeypatch, *what, call)
    step = GROUP_DRO.get(setup)
    with pytest.raises(Killed):
        fit(table, table, SETUPS[setup], seed=1, folder=tmp_path, initial=model_of(), group_dro=step)
    assert not (tmp_path / "model.json").exists()
    revive()
    resumed = fit(table, table, SETUPS[setup], seed=1, folder=tmp_path, initial=model_of(), group_dro=step)
    assert_same_training(whole, resumed)


_whole: dict[str, Training] = {}


def uninterrupted(table: ImageTable, setup: str) -> Training:
    """The same training in one go, without a folder; made once."""
    if setup not in _whole:
        step = GROUP_DRO.get(setup)
        _whole[setup] = fit(table, table, SETUPS[setup], seed=1, initial=model_of(), group_dro=step)
    return _whole[setup]


def test_resumed_training_repeats_no_step_before_the_checkpoint(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[int, int]]
) -> None:
    revive = kill_at(monkeypatch, loop.Loop, "_add", 7)
    with pytest.raises(Killed):
        fit(table, table, FAST, folder=tmp_path, initial=model_of())
    revive()
    steps.clear()
    fit(table, table, FAST, folder=tmp_path, initial=model_of())
    assert steps == [(3, 0), (3, 1), (3, 2)]  # the checkpoint at the end of epoch 2
    fit(table, table, FAST, folder=tmp_path, initial=model_of())
    assert len(steps) == 3  # a finished training is not repeated


SUICIDE = """
    import os, pickle, signal, sys
    sys.path[:0] = [{tests!r}]
    import torch
    torch.set_num_threads(1)
    from slim.training import fit, loop
    from test_training import FAST, model_of

    loop.CHECKPOINT_SECONDS, saves, save = 0, [], torch.save

    def half(value, path):
        saves.append(path)
        save(value, path)
        if len(saves) == 5:
            with open(path, "r+b") as stream:
                stream.truncate(1000)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half
    table = pickle.load(open({pickled!r}, "rb"))
    fit(table, table, FAST, seed=1, folder={folder!r}, initial=model_of())
"""


def test_training_survives_sigkill_in_the_middle_of_a_checkpoint(table: ImageTable, tmp_path: Path) -> None:
    pd.to_pickle(table, tmp_path / "table.pkl")
    folder = tmp_path / "run"
    code = textwrap.dedent(SUICIDE).format(
        tests=str(Path(__file__).parent), pickled=str(tmp_path / "table.pkl"), folder=str(folder)
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["history.csv", "last.ckpt", "last.ckpt.partial"]
    resumed = fit(table, table, FAST, seed=1, folder=folder, initial=model_of())
    assert_same_training(uninterrupted(table, "sgd"), resumed)


SHORT = replace(FAST, epochs=2)


@pytest.fixture(scope="module")
def finished(table: ImageTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that came to its end."""
    folder = tmp_path_factory.mktemp("finished")
    with quiet():
        train(table, table, SHORT, folder=folder, initial=model_of())
    return folder


@pytest.mark.parametrize("changed", ["settings", "seed", "train images", "validation images", "weights", "damaged"])
def test_checkpoint_of_another_training_is_not_used(
    table: ImageTable, finished: Path, tmp_path: Path, changed: str
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    if changed == "damaged":
        (tmp_path / "last.ckpt").write_bytes((tmp_path / "last.ckpt").read_bytes()[:2000])
    settings = replace(SHORT, weight_decay=0.01) if changed == "settings" else SHORT
    seed = 1 if changed == "seed" else 0
    images = table[::-1] if changed == "train images" else table
    val = table[2:] if changed == "validation images" else table
    first = model_of(seed=9 if changed == "weights" else 0)
    with pytest.warns(SlimWarning, match="starts again"):
        again = fit(images, val, settings, seed=seed, folder=tmp_path, initial=first)
    assert_same_training(again, fit(images, val, settings, seed=seed, initial=first))


# --- which epoch is kept


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Tensor]]]:
    """Give the epochs these validation accuracies; returns where each epoch's weights are noted."""

    def script(*accuracies: float) -> list[dict[str, Tensor]]:
        left, weights = list(accuracies), list[dict[str, Tensor]]()
        real = loop.Loop._val_logits

        def logits(self: Any, source: Any) -> Tensor:
            weights.append(state_of(self.model))
            return real(self, source)

        def columns(*_: object) -> dict[str, float]:
            accuracy = left.pop(0)
            return {"val_loss": 1 - accuracy, "val_accuracy": accuracy, "val_class_balanced_accuracy": 1 - accuracy}

        monkeypatch.setattr(loop.Loop, "_val_logits", logits)
        monkeypatch.setattr(loop, "_val_columns", columns)
        return weights

    return script


def test_early_stopping_counts(table: ImageTable, scripted: Any) -> None:
    scripted(0.5, 0.7, 0.6, 0.7, 0.6, 0.9)
    result = fit(table, table, replace(FAST, epochs=6, patience=3), initial=model_of())
    assert len(result.history) == 5  # three epochs no better than the second
    assert result.best_epoch == 2


@pytest.mark.parametrize(("select_by", "best"), [("accuracy", 2), ("class-balanced-accuracy", 1), ("loss", 2)])
def test_best_epoch_is_returned_and_not_the_last(table: ImageTable, scripted: Any, select_by: Any, best: int) -> None:
    weights = scripted(0.5, 0.9, 0.9, 0.6)
    result = fit(table, table, replace(FAST, epochs=4, select_by=select_by), initial=model_of())
    assert result.best_epoch == best
    assert same(state_of(result.classifier), weights[best - 1])
    assert not same(weights[best - 1], weights[-1])


def test_worst_group_selection_uses_the_smallest_group_accuracy(table: ImageTable) -> None:
    logits = torch.tensor([[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 2)
    columns = loop._val_columns(logits, table, replace(FAST, select_by="worst-group"))
    correct = logits.argmax(1).numpy() == table.y
    worst = min(correct[table.groups == group].mean() for group in range(4))
    assert columns["val_worst_group_accuracy"] == pytest.approx(worst)
    assert columns["val_accuracy"] == pytest.approx(correct.mean())


# --- trainings that went wrong


def biased() -> nn.Module:
    """Answers the first class whatever it sees."""
    net = Net()
    nn.init.zeros_(net.head.weight)
    net.head.bias.data = torch.tensor([5.0, 0.0])
    return net


def test_train_warns_of_a_model_that_always_gives_the_same_answer(table: ImageTable) -> None:
    with pytest.warns(SlimWarning, match=r"answers red for every validation image.*--lr, here 1e-09"):
        train(table, table, replace(FAST, lr=1e-9), initial=model_of(biased))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(table, table[::2], replace(FAST, lr=1e-9), initial=model_of(biased))  # red is all there is


def test_loss_that_is_not_finite_ends_the_training(table: ImageTable, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"must stay finite.*epoch 1.*--lr"):
        train(table, table, replace(FAST, lr=1e30, warmup=0), folder=tmp_path, initial=model_of())
    assert not {"model.json", "model.safetensors", "history.csv"} & {path.name for path in tmp_path.iterdir()}


def test_another_training_clears_what_an_earlier_one_left(table: ImageTable, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    with pytest.warns(SlimWarning), pytest.raises(SettingsError):
        train(table, table, replace(FAST, lr=1e30), folder=tmp_path, initial=model_of())
    assert not (tmp_path / "model.json").exists()


# --- training behind a cut


def shallow(arch: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(arch, num_classes=2, **options)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "resnet": (shallow("resnet10t", channels=(8, 8, 16, 16)), 64, "layer4"),
    "efficientnet": (shallow("tf_efficientnet_lite0"), 64, "blocks.6"),
    "vit": (shallow("vit_tiny_patch16_224", img_size=48, embed_dim=48, depth=3, drop_path_rate=0.2), 48, "blocks.2"),
    "convnext": (shallow("convnext_atto", depths=(1, 1, 1, 2), dims=(8, 8, 16, 16), ls_init_value=0.1), 64, "stages.3"),
    "swin": (
        shallow(
            "swin_tiny_patch4_window7_224", img_size=112, embed_dim=24, depths=(1, 1, 1, 2), num_heads=(1, 1, 2, 2)
        ),
        112,
        "layers.3",
    ),
    "wrapped timm": (
        lambda: Around(timm.create_model("resnet10t", num_classes=2, channels=(8, 8, 16, 16))),
        64,
        "inner.layer4",
    ),
    "own": (Net, SIZE, "stage"),
}


class Around(nn.Module):
    """Somebody's module around a network."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images * 2)


def layers_from(module: nn.Module, name: str) -> set[str]:
    """Names of the parameters and buffers from a submodule on, in the order of definition."""
    names = list(module.state_dict())
    return set(names[next(i for i, key in enumerate(names) if key.startswith(f"{name}.")) :])


@pytest.mark.parametrize("network", NETWORKS)
def test_training_the_last_stage_changes_it_and_nothing_before(table: ImageTable, tmp_path: Path, network: str) -> None:
    make, size, stage = NETWORKS[network]
    first = model_of(make, size)
    before = state_of(first)
    assert last_stage(first) == stage
    settings = replace(FAST, epochs=1, batch_size=2, trainable="last-stage", schedule="constant")
    model = train(table[:4], table[[0, 2]], settings, folder=tmp_path, initial=first)
    after, behind = state_of(model), layers_from(first.module, stage)
    assert 0 < len(behind) < len(before)
    unchanged = {name for name in before if torch.equal(before[name], after[name])}
    constant = {name for name in behind if name.endswith(("relative_position_index", "attn_mask"))}
    assert unchanged == before.keys() - behind | constant
    assert same(state_of(load_classifier(tmp_path, make())), after)


def test_training_the_head_trains_only_the_head(table: ImageTable) -> None:
    first = model_of()
    model = train(table, table, replace(FAST, trainable="head", epochs=10), initial=first)
    before, after = state_of(first), state_of(model)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}


class Plain(nn.Module):
    """No batch norm before the cut, so that training it whole with a frozen part is the same thing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stage(self.stem(images)).mean((2, 3)))


def test_training_behind_a_cut_equals_training_with_a_frozen_part(table: ImageTable) -> None:
    settings = replace(FAST, augmentation="none")
    frozen_by_hand = model_of(Plain)
    frozen_by_hand.module.stem.requires_grad_(False)
    slow = fit(table, table, settings, initial=frozen_by_hand)
    fast = fit(table, table, replace(settings, trainable="stage"), initial=model_of(Plain))
    a, b = state_of(slow.classifier), state_of(fast.classifier)
    assert all(torch.allclose(a[name], b[name], atol=1e-5) for name in a)
    assert not torch.equal(a["stage.0.weight"], state_of(frozen_by_hand)["stage.0.weight"])
    np.testing.assert_allclose(slow.history["val_loss"], fast.history["val_loss"], rtol=1e-4)


def test_frozen_part_runs_once_an_image(table: ImageTable, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = Classifier.normalize

    def normalize(self: Classifier, images: Tensor) -> Tensor:
        seen.append(len(images))
        return real(self, images)

    monkeypatch.setattr(Classifier, "normalize", normalize)
    train(table, table[:6], replace(FAST, trainable="stage"), initial=model_of())
    assert sum(seen) == len(table) + 6


@pytest.mark.parametrize("network", NETWORKS)
def test_replay_equals_the_whole_network_for_any_batch(network: str) -> None:
    make, size, stage = NETWORKS[network]
    model = model_of(make, size)
    cut = find_cut(model.module.eval(), stage, size)
    images = torch.randn(5, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(cut.replay(cut.activations(images)), model.module(images), atol=1e-5, rtol=1e-4)
    assert all("forward" not in vars(child) for child in model.module.modules())
    assert all(not child._forward_pre_hooks and not child._forward_hooks for child in model.module.modules())


class Skipping(Net):
    """What the stem gives also goes around the stage."""

    def forward(self, images: Tensor) -> Tensor:
        early = self.stem(images)
        return self.head((self.stage(early) + early).mean((2, 3)))


class Twice(Net):
    """The stage runs two times."""

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stage(self.stage(self.stem(images))).mean((2, 3)))


@pytest.mark.parametrize(
    ("net", "name", "what"),
    [
        (Skipping, "stage", "goes around"),
        (Twice, "stage", "2 calls"),
        (Net, "stages", "Got 'stages'.*stem, stage, head"),
    ],
)
def test_cut_is_refused_where_the_network_cannot_be_cut(
    table: ImageTable, net: type[nn.Module], name: str, what: str
) -> None:
    with pytest.raises(ModelError, match=what):
        train(table, table, replace(FAST, trainable=name), initial=model_of(net))


def test_stage_that_requires_no_gradient_is_refused(table: ImageTable) -> None:
    model = model_of()
    model.module.requires_grad_(False)
    for trainable in ("all", "stage"):
        with pytest.raises(SettingsError, match="parameters to train"):
            train(table, table, replace(FAST, trainable=trainable), initial=model)


def test_activations_are_kept_in_half_precision_or_refused_when_memory_is_short(
    table: ImageTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = 8 * (SIZE // 2) ** 2 * len(table) * 2  # train and validation images
    settings = replace(FAST, trainable="stage")
    full = fit(table, table, settings, initial=model_of())
    monkeypatch.setattr(activations, "_free_memory", lambda: values * 4)
    half = fit(table, table, settings, initial=model_of())
    assert not same(state_of(full.classifier), state_of(half.classifier))
    np.testing.assert_allclose(full.history["val_loss"], half.history["val_loss"], atol=0.01)
    monkeypatch.setattr(activations, "_free_memory", lambda: values * 4 - 1)
    with pytest.raises(SettingsError, match=r"free memory, 0\.0 GB\. Got 0\.0 GB"):
        train(table, table, settings, initial=model_of())


def test_activations_too_large_for_half_precision_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(SettingsError, match="65,504"):
        activations.keep_activations(find_cut(net, "3", 8), [torch.full((2, 3, 8, 8), 1e6)], 2, dtype=torch.float16)


def test_free_memory_is_known_here() -> None:
    free = activations._free_memory()
    assert free is None or free > 10**6
