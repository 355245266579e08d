"""A damaged run is not done: what can be made again is, and answers are refused by name."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result

import slim
from slim.files import check_seal, read_json, write_json
from slim.runs.run import open_run
from slim.stages import STAGES
from slim.stages.curate.curate import curate

pytestmark = [
    pytest.mark.usefixtures("small_and_quiet"),
    pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning"),
]
Command = Callable[..., Result]
States = Callable[..., dict[str, str]]
Results = Callable[[Path], dict[str, bytes]]


def flip(path: Path) -> None:
    """Change one bit in the middle, which leaves the size as it is."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))  # another version, however coarse the clock


def by_a_person(judgements: Path, target: Path) -> Path:
    """The judgements as a person's, about images named without the folder, which the test has moved."""
    table = pd.read_csv(judgements)
    table.assign(annotator="ann", path=[Path(path).name for path in table["path"]]).to_csv(target, index=False)
    return target


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("change", [Path.unlink, cut, empty, flip])
@pytest.mark.parametrize(
    "file",
    [
        "01-reference/history.csv",
        "01-reference/last.safetensors",
        "01-reference/model.safetensors",
        "02-attention/val/maps.npy",
        "03-space/components.npy",
        "05-scores/scores.npy",
        "08-retrained/model/model.safetensors",
    ],
)
def test_damaged_file_is_made_again_and_what_depends_on_it_stays(
    finished_run: Path, file: str, change: Callable[[Path], None], states: States, results: Results
) -> None:
    expected = results(finished_run)
    verb = next(verb for verb, stage in STAGES.items() if stage.folder == file.partition("/")[0])
    change(finished_run / file)
    later = {v: (finished_run / s.folder / "manifest.json").read_bytes() for v, s in STAGES.items() if v != verb}
    assert states(finished_run)[verb] == ("done" if change is flip else "damaged")
    slim.run(finished_run)
    assert results(finished_run) == expected
    assert set(states(finished_run).values()) == {"done"}
    assert open_run(finished_run).verify() == {}
    assert {v: (finished_run / STAGES[v].folder / "manifest.json").read_bytes() for v in later} == later
    assert (finished_run / file).exists()


def test_file_that_changes_while_a_stage_reads_it_stops_the_stage(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, states: States, results: Results
) -> None:
    expected = results(finished_run)
    (finished_run / "07-subset/manifest.json").unlink()

    def disturbed(*records: Any, **options: Any) -> Any:
        flip(finished_run / "02-attention/train/core.npy")
        return curate(*records, **options)

    with monkeypatch.context() as patched, pytest.raises(slim.ArtifactError, match="must stay as it was while curate"):
        patched.setattr("slim.stages.curate.curate.curate", disturbed)
        slim.run(finished_run)
    assert states(finished_run)["curate"] == "missing"
    slim.run(finished_run)
    assert results(finished_run) == expected


def test_damaged_judgements_are_made_again_from_the_answers(
    finished_run: Path, states: States, results: Results
) -> None:
    expected = results(finished_run)
    cut(finished_run / "04-judgements/judgements.csv")
    slim.run(finished_run)
    assert results(finished_run) == expected
    assert set(states(finished_run).values()) == {"done"}


@pytest.mark.parametrize("change", [Path.unlink, cut, empty, flip])
def test_damaged_answers_are_refused_by_name_and_stay(
    finished_run: Path, slim_command: Command, change: Callable[[Path], None]
) -> None:
    database = finished_run / "04-judgements/annotations.db"
    change(database)
    before = database.read_bytes() if database.exists() else None
    for verb in ("run", "annotate"):
        result = slim_command(verb, finished_run)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1].startswith(f"slim: {database} must be as it was written, since it holds")
    assert (database.read_bytes() if database.exists() else None) == before


def test_judgements_come_back_by_what_the_message_says(
    finished_run: Path, slim_command: Command, tmp_path: Path
) -> None:
    flip(finished_run / "04-judgements/annotations.db")
    assert slim_command("run", finished_run).exit_code == 1
    (finished_run / "04-judgements").rename(tmp_path / "aside")
    assert slim_command("run", finished_run).exit_code == 0
    answers = by_a_person(tmp_path / "aside/judgements.csv", tmp_path / "ann.csv")
    assert slim_command("import", finished_run, answers).exit_code == 0
    assert len(open_run(finished_run).load("annotate")) == 8


def test_a_row_changed_behind_the_database_is_refused(finished_run: Path) -> None:
    """SQLite itself would read it."""
    database = finished_run / "04-judgements/annotations.db"
    database.write_bytes(database.read_bytes().replace(b"masks over", b"casks over"))  # in the table and its index
    os.utime(database, ns=(1, 1))
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    with pytest.raises(slim.ArtifactError, match="since it holds answers"):
        slim.run(finished_run)


def test_export_leaves_the_answers_as_they_are(finished_run: Path, tmp_path: Path, states: States) -> None:
    before = (finished_run / "04-judgements/annotations.db").read_bytes()
    slim.export_judgements(finished_run, tmp_path / "out.csv")
    assert (finished_run / "04-judgements/annotations.db").read_bytes() == before
    assert open_run(finished_run).verify() == {}


def test_export_of_a_stale_run_archives_answers_that_come_back(finished_run: Path, tmp_path: Path) -> None:
    pool = {"embed": {"pool": "val"}}
    open_run(finished_run, settings=pool).stage("embed")
    slim.export_judgements(finished_run, tmp_path / "out.csv")
    slim.run(finished_run, settings={"embed": {"pool": "train"}})
    assert len(open_run(finished_run).load("annotate")) == 8


def test_import_that_changes_nothing_leaves_the_stage_done(finished_run: Path, tmp_path: Path, states: States) -> None:
    by_a_person(finished_run / "04-judgements/judgements.csv", tmp_path / "ann.csv")
    assert slim.import_judgements(finished_run, tmp_path / "ann.csv") == 8
    slim.run(finished_run)
    before = (finished_run / "04-judgements/manifest.json").read_bytes()
    assert slim.import_judgements(finished_run, tmp_path / "ann.csv") == 0
    assert (finished_run / "04-judgements/manifest.json").read_bytes() == before
    assert set(states(finished_run).values()) == {"done"}


def test_import_that_is_cut_off_leaves_the_stage_to_be_made(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: States
) -> None:
    """Else the answers would be in the database, and the stage done without them."""
    by_a_person(finished_run / "04-judgements/judgements.csv", tmp_path / "ann.csv")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("slim.runs.run.Run.replace", interrupted)
        slim.import_judgements(finished_run, tmp_path / "ann.csv")
    assert states(finished_run)["annotate"] == "missing"
    assert slim.import_judgements(finished_run, tmp_path / "ann.csv") == 0
    assert states(finished_run)["annotate"] == "done"
    assert set(open_run(finished_run).load("annotate").frame["annotator"]) == {"ann"}


def test_status_names_what_is_damaged(finished_run: Path, slim_command: Command) -> None:
    (finished_run / "05-scores/scores.npy").unlink()
    flip(finished_run / "03-space/plane.npy")
    shown = slim_command("status", finished_run)
    assert shown.exit_code == 0
    assert "05-scores: scores.npy is missing" in shown.stdout
    assert "plane.npy" not in shown.stdout
    verified = slim_command("status", finished_run, "--verify", "--json")
    assert verified.exit_code == 1
    rows = {row["stage"]: (row["state"], row["damage"]) for row in json.loads(verified.stdout)}
    assert rows["embed"] == ("damaged", "plane.npy has another content")
    assert rows["propagate"] == ("damaged", "scores.npy is missing")
    assert rows["curate"] == ("stale", None)
    assert rows["train"] == ("done", None)


def test_verifying_a_whole_run_finds_nothing(finished_run: Path, slim_command: Command) -> None:
    assert slim_command("status", finished_run, "--verify").exit_code == 0


def test_a_single_stage_is_refused_on_damaged_records_and_makes_its_own_again(
    finished_run: Path, slim_command: Command
) -> None:
    flip(finished_run / "05-scores/scores.npy")
    refused = slim_command("curate", finished_run, "--size", "10")
    assert refused.exit_code == 1
    assert "Got one where scores.npy has another content. Run: slim propagate" in refused.stderr
    with pytest.raises(slim.ArtifactError, match="Got a folder where scores.npy has another content"):
        open_run(finished_run).load("propagate")
    assert slim_command("propagate", finished_run).exit_code == 0
    assert slim_command("curate", finished_run, "--size", "10").exit_code == 0


def test_damaged_manifest_is_made_again(finished_run: Path, states: States, results: Results) -> None:
    expected = results(finished_run)
    (finished_run / "05-scores/manifest.json").write_bytes(b"\xff\xfe\x80")
    assert states(finished_run)["propagate"] == "damaged"
    slim.run(finished_run)
    assert results(finished_run) == expected
    assert set(states(finished_run).values()) == {"done"}


def test_changed_settings_are_refused_and_taken_once_their_digest_is_removed(
    finished_run: Path, slim_command: Command
) -> None:
    slim.run(finished_run)  # seals the settings
    path = finished_run / "settings.json"
    path.write_text(path.read_text().replace('"size": 12', '"size": 10'))
    result = slim_command("status", finished_run)
    assert result.exit_code == 1
    assert "settings.json must be as SLIM wrote it. Got a changed file. Undo the change, or remove" in result.stderr
    values = read_json(path)
    del values["digest"]
    write_json(path, values)
    assert open_run(finished_run).settings["curate"].size == 10


def test_run_without_outputs_is_read_as_before(finished_run: Path, states: States) -> None:
    """As an earlier version of SLIM left it."""
    digests: dict[str, str] = {}
    for stage in STAGES.values():
        path = finished_run / stage.folder / "manifest.json"
        values = check_seal(path, read_json(path))
        del values["outputs"]
        values["inputs"] |= {verb: digests[verb] for verb in stage.before}
        write_json(path, values)
        digests[stage.verb] = open_run(finished_run).folder.digest(stage.folder) or ""
    assert set(states(finished_run).values()) == {"done"}
    assert open_run(finished_run).verify() == {}
    slim.run(finished_run, settings={"curate": {"size": 10}})
    assert set(states(finished_run).values()) == {"done"}
