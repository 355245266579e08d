"""What is done, stale or missing, and what survives an interruption."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result

import slim
from slim import pipeline, work
from slim.annotation import MaskOracle, Query, TerminalAnnotator
from slim.baselines import random_subset
from slim.pipeline import open_run, status
from slim.workspace import STAGES

pytestmark = [
    pytest.mark.usefixtures("small_and_quiet"),
    pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning"),
]
SLIM = Path(sys.executable).with_name("slim")


def states(run: Path, **options: Any) -> dict[str, str]:
    return {stage.verb: state for stage, state, _ in status(open_run(run, **options))}


def from_on(verb: str) -> list[str]:
    """The stage and all after it."""
    return list(STAGES)[list(STAGES).index(verb) :]


def written(run: Path) -> dict[str, int]:
    """When each file of the stages was written."""
    return {str(path): path.stat().st_mtime_ns for path in run.glob("*/**/*") if path.is_file()}


def results(run: Path) -> dict[str, bytes]:
    """What the stages found, without times, and without the folder that the images are in."""
    wanted = ("*.npy", "*.npz", "*.csv", "model.safetensors", "cells.json", "trust.json", "judgements.csv")
    found = {path for name in wanted for path in run.glob(f"[2-8]*/**/{name}")}
    contents = {str(path.relative_to(run)): path.read_bytes() for path in found}
    return {n: re.sub(rb"[^,\n]*/images/", b"", c) if n.endswith(".csv") else c for n, c in contents.items()}


def edit(table: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(table)).to_csv(table, index=False)


def test_second_call_writes_nothing_and_returns_the_same(finished_run: Path) -> None:
    assert set(states(finished_run).values()) == {"done"}
    before = written(finished_run)
    assert slim.run(finished_run) == slim.run(finished_run)
    assert written(finished_run) == before


def test_stages_one_by_one_give_what_run_gives(
    finished_run: Path, tmp_path: Path, tiny: dict[str, Any], slim_command: Callable[..., Result]
) -> None:
    again = tmp_path / "again"
    for verb in STAGES:
        values = tiny.get(verb, {})
        words = [text for name, value in values.items() for text in (f"--{name.replace('_', '-')}", value)]
        words += ["--data", tmp_path / "data"] if verb == "train" else []
        assert slim_command(verb, again, *words).exit_code == 0
    assert results(again) == results(finished_run)
    assert set(states(again).values()) == {"done"}


def test_changed_row_of_the_data_makes_every_stage_stale(finished_run: Path, tmp_path: Path) -> None:
    edit(tmp_path / "data/metadata.csv", lambda t: t.assign(place=t["place"].where(t.index != 3, 1 - t["place"])))
    assert set(states(finished_run).values()) == {"stale"}


def test_moved_data_makes_nothing_stale(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    before = written(finished_run)
    slim.run(finished_run, data=tmp_path / "elsewhere")
    assert written(finished_run) == before
    assert set(states(finished_run).values()) == {"done"}


def test_other_seed_makes_every_stage_stale(finished_run: Path) -> None:
    assert set(states(finished_run, seed=1).values()) == {"stale"}


@pytest.mark.parametrize("stage", ["train", "attend", "embed", "annotate", "propagate", "curate", "retrain"])
def test_setting_makes_its_stage_and_all_after_it_stale(finished_run: Path, stage: str) -> None:
    changes: dict[str, Any] = {"train": {"lr": 0.5}, "attend": {"pooling": "sum"}, "embed": {"neighbors": 7}}
    changes |= {"annotate": {"noise": 0.5}, "propagate": {"gamma": 2.0}, "curate": {"keep": 0.4}}
    changes |= {"retrain": {"refits": 3}}
    found = states(finished_run, settings={stage: changes[stage]})
    assert [verb for verb, state in found.items() if state == "stale"] == from_on(stage)


def test_opening_a_run_writes_nothing(finished_run: Path) -> None:
    before = (finished_run / "settings.json").stat().st_mtime_ns
    open_run(finished_run, settings={"curate": {"size": 10}})
    assert (finished_run / "settings.json").stat().st_mtime_ns == before


def test_message_names_the_first_stage_that_is_lacking(finished_run: Path) -> None:
    shutil.rmtree(finished_run / "2-attention")
    with pytest.raises(slim.ArtifactError, match=f"attention maps .* Got none. Run: slim attend {finished_run}"):
        open_run(finished_run).stage("report")


@pytest.mark.parametrize("verb", STAGES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, slim.DataError])
def test_interrupted_stage_is_missing_and_all_after_it_not_done(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, verb: str, error: type[BaseException]
) -> None:
    def interrupted(_: Any, folder: Path) -> None:
        (folder / "half.npy").write_bytes(b"half")
        raise error

    (finished_run / STAGES[verb].folder / "manifest.json").unlink()
    monkeypatch.setitem(pipeline.WORK, verb, interrupted)
    with pytest.raises(error):
        slim.run(finished_run)
    found = states(finished_run)
    assert found[verb] == "missing"
    assert "done" not in [found[later] for later in from_on(verb)]


@pytest.mark.parametrize("verb", ["attend", "curate"])
def test_interrupted_run_is_finished_by_the_same_call(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    expected = results(finished_run)
    does = pipeline.WORK[verb]

    def interrupted(p: pipeline.Pipeline, folder: Path) -> None:
        does(p, folder)
        raise KeyboardInterrupt

    (finished_run / STAGES[verb].folder / "manifest.json").unlink()
    monkeypatch.setitem(pipeline.WORK, verb, interrupted)
    with pytest.raises(KeyboardInterrupt):
        slim.run(finished_run)
    monkeypatch.setitem(pipeline.WORK, verb, does)
    slim.run(finished_run)
    assert results(finished_run) == expected
    assert set(states(finished_run).values()) == {"done"}


def test_killed_process_leaves_what_the_same_command_finishes(
    squares: Callable[..., Path], tmp_path: Path, tiny_options: list[str], slim_command: Callable[..., Result]
) -> None:
    run, words = tmp_path / "killed", ["--data", str(squares()), *tiny_options]
    process = subprocess.Popen([SLIM, "run", run, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not (run / "3-space.partial").exists():  # embedding compiles for seconds, so that the signal comes within it
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    found = states(run)
    assert [verb for verb, state in found.items() if state == "done"] == ["train", "attend"]
    model = (run / "1-reference/model.safetensors").stat().st_mtime_ns
    assert slim_command("run", run, *words).exit_code == 0
    assert set(states(run).values()) == {"done"}
    assert (run / "1-reference/model.safetensors").stat().st_mtime_ns == model


class Forgetful(MaskOracle):
    """Stops in the middle, and counts what it is asked."""

    asked = 0
    patience = 3

    def answer(self, query: Query) -> Any:
        type(self).asked += 1
        if type(self).asked == type(self).patience:
            raise KeyboardInterrupt
        return super().answer(query)


def test_answers_before_an_interruption_are_not_asked_again(finished_run: Path) -> None:
    annotator = Forgetful(open_run(finished_run).data.train)
    shutil.rmtree(finished_run / "4-annotation")
    Forgetful.asked = 0
    with pytest.raises(KeyboardInterrupt):
        slim.run(finished_run, annotator=annotator)
    assert states(finished_run)["annotate"] == "missing"
    slim.run(finished_run, annotator=annotator)
    assert Forgetful.asked == 9  # 8 queries, and the one that was interrupted


def answered_by(keys: str) -> Callable[[], str]:
    pressed: Iterator[str] = iter(keys)
    return lambda: next(pressed)


def test_person_who_stops_goes_on_later_with_the_same_command(finished_run: Path, tmp_path: Path) -> None:
    shutil.rmtree(finished_run / "4-annotation")
    pictures = tmp_path / "pictures"
    with pytest.raises(slim.AnnotationError, match="Got 2, which are kept. Go on: slim annotate"):
        open_run(finished_run, annotator=TerminalAnnotator(pictures, read=answered_by("csq"))).stage("annotate")
    assert states(finished_run)["annotate"] == "missing"
    later = open_run(finished_run, annotator=TerminalAnnotator(pictures, read=answered_by("uccccc")))
    assert later.stage("annotate")
    judged = pd.read_csv(finished_run / "4-annotation/judgements.csv")
    assert judged["answer"].tolist() == ["core", "spurious", "unsure", *["core"] * 5]


def test_answers_about_another_pool_are_set_aside_and_come_back(finished_run: Path) -> None:
    folder = finished_run / "4-annotation"
    first = pd.read_csv(folder / "judgements.csv")
    slim.run(finished_run, pool="val")
    val = open_run(finished_run).data.val
    judged = pd.read_csv(folder / "judgements.csv")
    assert judged["path"].tolist() == [val.paths[i] for i in judged["index"]]
    expected = MaskOracle(val)(work.queries(open_run(finished_run))).frame["answer"]
    assert judged["answer"].tolist() == expected.tolist()
    assert len(list(folder.glob("annotations-*.db"))) == 1
    back = open_run(finished_run, pool="train", annotator=Forgetful(open_run(finished_run).data.train))
    Forgetful.asked = 10
    for verb in ("embed", "annotate"):
        back.stage(verb)
    assert Forgetful.asked == 10  # all of them are known from before
    columns = ["index", "y", "answer", "annotator"]
    assert pd.read_csv(folder / "judgements.csv")[columns].equals(first[columns])


def test_edited_file_of_recorded_answers_is_read_again(finished_run: Path, tmp_path: Path) -> None:
    paths = open_run(finished_run).data.train.paths
    answers = tmp_path / "answers.csv"
    pd.DataFrame({"path": paths, "answer": "core"}).to_csv(answers, index=False)
    overrides = {"annotate": {"recorded": str(answers)}}
    assert open_run(finished_run, settings=overrides).stage("annotate")
    assert states(finished_run)["annotate"] == "done"
    edit(answers, lambda table: table.assign(answer="spurious"))
    assert states(finished_run)["annotate"] == "stale"
    assert open_run(finished_run).stage("annotate")
    assert set(pd.read_csv(finished_run / "4-annotation/judgements.csv")["answer"]) == {"spurious"}
    answers.unlink()
    assert states(finished_run)["annotate"] == "done"


def test_replaced_checkpoint_makes_everything_stale(finished_run: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "erm.pt"
    state = slim.load_classifier(finished_run / "1-reference").module.state_dict()
    torch.save(state, checkpoint)
    open_run(finished_run, checkpoint=str(checkpoint)).stage("train")
    assert states(finished_run)["train"] == "done"
    torch.save({name: value * 2 for name, value in state.items()}, checkpoint)
    assert states(finished_run)["train"] == "stale"


def own_network(seed: int) -> slim.Classifier:
    built = slim.build("resnet10t", ["0", "1"], weights=None, image_size=32, seed=seed)
    built.linear.weight.data.abs_()  # every map shows attention, at any precision
    return slim.wrap(built.module, image_size=32)  # without a name, as a network of one's own


def test_own_network_is_the_reference_and_stays_as_it_is(finished_run: Path) -> None:
    reference = own_network(1)
    before = deepcopy(reference.module.state_dict())
    slim.run(finished_run, reference=reference)
    assert all(torch.equal(value, before[name]) for name, value in reference.module.state_dict().items())
    assert set(states(finished_run, reference=reference).values()) == {"done"}
    assert set(states(finished_run).values()) == {"done"}
    assert set(states(finished_run, reference=own_network(2)).values()) == {"stale"}
    with pytest.raises(slim.ModelError, match="reference="):
        slim.run(finished_run, settings={"retrain": {"refits": 3}})
    slim.run(finished_run, settings={"retrain": {"refits": 3}}, reference=reference)


def test_mistake_is_not_kept_where_the_run_was_begun_before(finished_run: Path) -> None:
    before = (finished_run / "settings.json").read_bytes()
    with pytest.raises(slim.SettingsError, match="--size"):
        open_run(finished_run, settings={"curate": {"size": 500}}).stage("curate")
    assert (finished_run / "settings.json").read_bytes() == before
    open_run(finished_run, settings={"curate": {"size": 10}}).stage("curate")
    assert open_run(finished_run).settings.curate.size == 10


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"annotate": {"budget": 25}}, "budget 25 for '0', which has 24 in train. Try --annotate.budget 12"),
        ({"curate": {"size": 49}}, "size 49 for 48 images in train"),
        ({"annotate": {"recorded": "nowhere.csv"}}, "nowhere.csv"),
        ({"annotate": {"annotator": "terminal", "noise": 0.0}, "curate": {"size": 49}}, "size 49"),
    ],
)
def test_what_a_late_stage_would_refuse_is_refused_before_training(
    squares: Callable[..., Path], tmp_path: Path, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(slim.SlimError, match=message):
        slim.run(tmp_path / "run", data=squares(), settings=overrides)
    assert set(states(tmp_path / "run").values()) == {"missing"}


@pytest.mark.skipif(os.name != "posix", reason="a folder that takes no files is made by its permissions")
def test_status_needs_no_permission_to_write(finished_run: Path) -> None:
    finished_run.chmod(0o555)
    assert set(states(finished_run).values()) == {"done"}
    finished_run.chmod(0o755)


def test_reference_without_a_shortcut_is_kept_and_the_report_says_so(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slim.curation.SHORTCUT", 2.0)
    metrics = slim.run(finished_run, settings={"curate": {"size": 10}})
    reference, retrained = (
        json.loads((finished_run / "8-evaluation" / f"{name}.json").read_text()) for name in ("reference", "retrained")
    )
    assert retrained == reference
    assert metrics["verdict"] == "kept"
    assert metrics["headline"].startswith("SLIM found no shortcut and kept the reference model")
    assert metrics["retrained"]["train_images"] == metrics["reference"]["train_images"]
    assert metrics["random_subset"]["train_images"] != metrics["reference"]["train_images"]
    assert "no shortcut to remove" in (finished_run / "8-report" / "report.html").read_text()


def test_random_subset_has_every_class_and_no_image_twice() -> None:
    y = np.array([0] * 95 + [1] * 5)
    drawn = random_subset(y, 20, seed=0)
    assert len(set(drawn.tolist())) == 20
    assert set(y[drawn].tolist()) == {0, 1}
    assert drawn.tolist() == random_subset(y, 20, seed=0).tolist()
    assert drawn.tolist() != random_subset(y, 20, seed=1).tolist()


def test_random_subset_that_cannot_have_every_class_is_refused() -> None:
    with pytest.raises(slim.SettingsError, match="larger --size"):
        random_subset(np.arange(5), 3, seed=0)
