"""Answers of a run go out and come back in, and none that counted is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

import slim
from slim.runs.run import open_run

pytestmark = [
    pytest.mark.usefixtures("small_and_quiet"),
    pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning"),
]
Command = Callable[..., Result]


@pytest.fixture
def answers(finished_run: Path, tmp_path: Path) -> pd.DataFrame:
    """Somebody's answers about the run's eight queries: core and spurious in turn."""
    table = pd.read_csv(finished_run / "04-judgements/judgements.csv")
    return table[["path"]].assign(path=[Path(path).name for path in table["path"]], answer=["core", "spurious"] * 4)


def ask_the_terminal(run: Path, answers: pd.DataFrame, slim_command: Command) -> None:
    keys = "".join(f"{answer[0]}\n" for answer in answers["answer"])
    assert slim_command("annotate", run, "--annotator", "terminal", input=keys).exit_code == 0


def ask_a_file(run: Path, answers: pd.DataFrame, slim_command: Command) -> None:
    answers.to_csv(run.parent / "answers.csv", index=False)
    assert slim_command("annotate", run, "--recorded", run.parent / "answers.csv").exit_code == 0


@pytest.mark.parametrize("ask", [ask_the_terminal, ask_a_file])
def test_import_leaves_answers_at_the_terminal_and_recorded_ones_as_they_are(
    finished_run: Path, tmp_path: Path, answers: pd.DataFrame, slim_command: Command, ask: Callable[..., None]
) -> None:
    ask(finished_run, answers, slim_command)
    before = open_run(finished_run).load("annotate").frame
    assert before["answer"].tolist() == answers["answer"].tolist()
    kept = [(finished_run / file).read_bytes() for file in ("settings.json", "04-judgements/manifest.json")]
    slim.export_judgements(finished_run, tmp_path / "t.csv")
    assert slim.import_judgements(finished_run, tmp_path / "t.csv") == 0
    assert [(finished_run / file).read_bytes() for file in ("settings.json", "04-judgements/manifest.json")] == kept

    answers[:1].assign(answer="unsure").to_csv(tmp_path / "bob.csv", index=False)
    assert slim.import_judgements(finished_run, tmp_path / "bob.csv") == 1
    after = open_run(finished_run).load("annotate").frame
    assert after["answer"].tolist() == ["unsure", *before["answer"].tolist()[1:]]  # a tie
    assert after["annotator"].tolist() == [f"bob + {before['annotator'][0]}", *before["annotator"].tolist()[1:]]


def test_export_states_the_judgements_of_the_run_once_recorded_answers_were_edited(
    finished_run: Path, tmp_path: Path, answers: pd.DataFrame, slim_command: Command
) -> None:
    ask_a_file(finished_run, answers, slim_command)
    ask_a_file(finished_run, answers.assign(answer="unsure"), slim_command)
    slim.export_judgements(finished_run, tmp_path / "out.json", to="json")
    images = json.loads((tmp_path / "out.json").read_text())["images"]
    judged = {image["path"]: image["judgement"] for image in images if image["judgement"] is not None}
    frame = open_run(finished_run).load("annotate").frame
    assert judged == dict(zip(frame["path"], frame["answer"], strict=True))
    assert set(judged.values()) == {"unsure"}
