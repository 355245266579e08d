"""What survives an interruption: whole stages, checkpoints, and every answer."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result

import slim
from slim.runs.run import open_run
from slim.stages import STAGES
from slim.stages.annotate.oracle import MaskOracle
from slim.stages.annotate.queries import Query
from slim.stages.annotate.selection import select_queries
from slim.stages.annotate.terminal import TerminalAnnotator

pytestmark = [
    pytest.mark.usefixtures("small_and_quiet"),
    pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning"),
]
SLIM = Path(sys.executable).with_name("slim")
States = Callable[..., dict[str, str]]
Results = Callable[[Path], dict[str, bytes]]


@pytest.mark.parametrize("verb", STAGES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, slim.DataError])
def test_interrupted_stage_is_missing_and_all_that_depend_on_it_not_done(
    finished_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    error: type[BaseException],
    states: States,
    from_on: Callable[[str], list[str]],
) -> None:
    def interrupted(*_: Any, folder: Path) -> None:
        (folder / "half.npy").write_bytes(b"half")
        raise error

    (finished_run / STAGES[verb].folder / "manifest.json").unlink()
    monkeypatch.setattr(f"slim.stages.{STAGES[verb].module}.{verb}", interrupted)
    with pytest.raises(error):
        slim.run(finished_run)
    now = states(finished_run)
    assert now[verb] == "missing"
    assert "done" not in [now[later] for later in from_on(verb)]


@pytest.mark.parametrize("verb", ["attend", "curate", "evaluate"])
def test_run_interrupted_before_a_manifest_is_finished_by_the_same_call(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, verb: str, states: States, results: Results
) -> None:
    expected = results(finished_run)
    record = STAGES[verb].record
    save = record.save

    def interrupted(self: Any, folder: Path) -> None:
        save(self, folder)
        raise KeyboardInterrupt

    (finished_run / STAGES[verb].folder / "manifest.json").unlink()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(record, "save", interrupted)
        slim.run(finished_run)
    slim.run(finished_run)
    assert results(finished_run) == expected
    assert set(states(finished_run).values()) == {"done"}


def test_killed_process_leaves_what_the_same_command_finishes(
    squares: Callable[..., Path],
    tmp_path: Path,
    tiny_options: list[str],
    slim_command: Callable[..., Result],
    states: States,
) -> None:
    run, words = tmp_path / "killed", ["--data", str(squares()), *tiny_options, "--embed.plane", "umap"]
    process = subprocess.Popen([SLIM, "run", run, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not (run / "03-space.partial").exists():  # UMAP compiles for seconds, so that the signal comes within it
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    now = states(run)
    assert [verb for verb, state in now.items() if state == "done"] == ["train", "attend"]
    model = (run / "01-reference/model.safetensors").stat().st_mtime_ns
    assert slim_command("run", run, *words).exit_code == 0
    assert set(states(run).values()) == {"done"}
    assert (run / "01-reference/model.safetensors").stat().st_mtime_ns == model


class Impatient(MaskOracle):
    """Stops at the third query, and counts the queries."""

    queries = 0

    def answer(self, query: Query) -> Any:
        type(self).queries += 1
        if type(self).queries == 3:
            raise KeyboardInterrupt
        return super().answer(query)


def test_answers_before_an_interruption_are_not_asked_again(finished_run: Path, states: States) -> None:
    annotator = Impatient(open_run(finished_run).data.train)
    shutil.rmtree(finished_run / "04-judgements")
    Impatient.queries = 0
    with pytest.raises(KeyboardInterrupt):
        slim.run(finished_run, annotator=annotator)
    assert states(finished_run)["annotate"] == "missing"
    slim.run(finished_run, annotator=annotator)
    assert Impatient.queries == 9  # 8 queries, and the one that was interrupted


def answered_by(keys: str) -> Callable[[], str]:
    pressed: Iterator[str] = iter(keys)
    return lambda: next(pressed)


def test_person_who_stops_continues_later_with_the_same_command(
    finished_run: Path, tmp_path: Path, states: States
) -> None:
    shutil.rmtree(finished_run / "04-judgements")
    pictures = tmp_path / "pictures"
    with pytest.raises(slim.AnnotationError, match="Got 2, which are kept. Continue with: slim annotate"):
        open_run(finished_run, annotator=TerminalAnnotator(pictures, read=answered_by("csq"))).stage("annotate")
    assert states(finished_run)["annotate"] == "missing"
    later = open_run(finished_run, annotator=TerminalAnnotator(pictures, read=answered_by("uccccc")))
    assert later.stage("annotate")
    judged = pd.read_csv(finished_run / "04-judgements/judgements.csv")
    assert judged["answer"].tolist() == ["core", "spurious", "unsure", *["core"] * 5]


def test_answers_about_another_pool_are_archived_and_come_back(finished_run: Path) -> None:
    folder = finished_run / "04-judgements"
    first = pd.read_csv(folder / "judgements.csv")
    slim.run(finished_run, settings={"embed": {"pool": "val"}})
    val = open_run(finished_run).data.val
    judged = pd.read_csv(folder / "judgements.csv")
    assert judged["path"].tolist() == [val.paths[i] for i in judged["index"]]
    opened = open_run(finished_run)
    about = (opened.data, opened.load("attend"), opened.load("embed"), opened.settings["annotate"])
    expected = MaskOracle(val)(select_queries(*about, seed=opened.settings.seed)).frame["answer"]
    assert judged["answer"].tolist() == expected.tolist()
    assert len(list(folder.glob("annotations-*.db"))) == 1
    from_train = {"embed": {"pool": "train"}}
    back = open_run(finished_run, settings=from_train, annotator=Impatient(open_run(finished_run).data.train))
    Impatient.queries = 10
    for verb in ("embed", "annotate"):
        back.stage(verb)
    assert Impatient.queries == 10  # all of them are known from before
    columns = ["index", "y", "answer", "annotator"]
    assert pd.read_csv(folder / "judgements.csv")[columns].equals(first[columns])
