"""The run folder: what is done is whole, what was interrupted does not look done, and warnings are remembered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import slim
from slim.artifacts import VERSION, Manifest, Run, read_json, write_json, write_text
from slim.errors import ArtifactError, SlimWarning

MADE: dict[str, Any] = {"settings": {"size": 3}, "seed": 7, "inputs": {"1-train": "abc"}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "runs" / "demo")


def test_the_manifest_says_what_made_the_stage(run: Run) -> None:
    with run.writing("2-attention", "attend", **MADE, device="cuda:0") as folder:
        write_text(folder / "maps.txt", "maps")
        assert run.manifest("2-attention") is None
    manifest = run.manifest("2-attention")
    assert manifest is not None
    assert replace(manifest, seconds=0.0) == Manifest(
        "attend", VERSION, {"size": 3}, 7, {"1-train": "abc"}, 0.0, "cuda:0", ()
    )
    assert manifest.seconds >= 0
    assert run.stage_folder("2-attention") == run.folder / "2-attention"
    assert sorted(path.name for path in run.stage_folder("2-attention").iterdir()) == ["manifest.json", "maps.txt"]
    assert not folder.exists()


def test_the_manifest_is_written_last(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    real = Path.replace

    def replaced(self: Path, target: Path) -> Path:
        written.append(target.name)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replaced)
    with run.writing("stage", "attend", **MADE) as folder:
        write_text(folder / "b.txt", "b")
        write_json(folder / "z.json", 1)
    assert written == ["b.txt", "z.json", "manifest.json"]


def test_a_stage_that_was_never_made_is_not_done(run: Run) -> None:
    assert run.manifest("stage") is None
    assert run.digest("stage") is None


@pytest.mark.parametrize("keep", [True, False])
def test_a_stage_that_fails_leaves_the_old_result_or_what_it_resumes_from(keep: bool, run: Run) -> None:
    with run.writing("stage", "attend", **MADE) as folder:
        write_text(folder / "old.txt", "old")
    before = run.digest("stage")

    def fail() -> None:
        with run.writing("stage", "attend", **MADE, keep=keep) as again:
            write_text(again / "new.txt", "new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert run.digest("stage") == (None if keep else before)
    assert (run.stage_folder("stage") / "old.txt").read_text() == "old"
    assert (run.stage_folder("stage") / "new.txt").exists() == keep


def test_a_stage_that_is_killed_leaves_nothing_that_looks_done(run: Run) -> None:
    script = f"""
        import os, signal, sys, types
        from pathlib import Path
        package = types.ModuleType("slim")  # without what the whole package imports, which takes seconds
        package.__path__ = [{str(Path(slim.__file__).parent)!r}]
        sys.modules["slim"] = package
        from slim.artifacts import Run, write_text
        with Run(Path({str(run.folder)!r})).writing("stage", "attend", settings={{}}, seed=0, inputs={{}}) as folder:
            write_text(folder / "new.txt", "new")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (run.stage_folder("stage.partial") / "new.txt").exists()
    assert run.manifest("stage") is None
    with run.writing("stage", "attend", **MADE) as folder:
        assert not list(folder.iterdir())


@pytest.mark.parametrize("keep", [True, False])
def test_making_a_stage_again_replaces_its_files_unless_it_resumes(keep: bool, run: Run) -> None:
    with run.writing("stage", "attend", **MADE) as folder:
        write_text(folder / "old.txt", "old")
    with run.writing("stage", "attend", **MADE, keep=keep) as again:
        assert (again / "old.txt").exists() == keep
        assert not (again / "manifest.json").exists()
    assert (run.stage_folder("stage") / "old.txt").exists() == keep
    assert run.manifest("stage") is not None


def test_the_digest_changes_with_what_made_the_stage(run: Run) -> None:
    """Else cached maps would be taken for another model, layer or split."""
    digests = set()
    for change in ({}, {"seed": 8}, {"settings": {"size": 4}}, {"inputs": {"1-train": "abd"}}):
        with run.writing("stage", "attend", **{**MADE, **change}):
            pass
        digest = run.digest("stage")
        assert digest == run.digest("stage")
        digests.add(digest)
    assert len(digests) == 4


@pytest.mark.parametrize("version", ["999.0.0", "0.0.1"])
def test_a_run_of_another_version_is_refused(version: str, run: Run) -> None:
    with run.writing("stage", "attend", **MADE):
        pass
    path = run.stage_folder("stage") / "manifest.json"
    write_json(path, {**read_json(path), "version": version})
    with pytest.raises(ArtifactError, match=rf"Got a run of version {version}\. Use a new run folder"):
        run.manifest("stage")


def test_a_run_of_another_patch_of_the_same_version_is_read(run: Run) -> None:
    with run.writing("stage", "attend", **MADE):
        pass
    path = run.stage_folder("stage") / "manifest.json"
    later = ".".join([*VERSION.split(".")[:2], "99"])
    write_json(path, {**read_json(path), "version": later})
    manifest = run.manifest("stage")
    assert manifest is not None
    assert manifest.version == later


@pytest.mark.parametrize(
    ("text", "message"), [("[]", "must be a manifest"), ("{", "must hold JSON"), ("{}", "must be")]
)
def test_a_manifest_that_is_none_is_refused(text: str, message: str, run: Run) -> None:
    run.stage_folder("stage").mkdir(parents=True)
    (run.stage_folder("stage") / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        run.manifest("stage")


def test_warnings_of_a_stage_are_kept_in_its_manifest_and_still_reach_the_caller(run: Run) -> None:
    def stage() -> None:
        with run.writing("stage", "attend", **MADE):
            warnings.warn("most maps are flat", SlimWarning, stacklevel=1)
            warnings.warn("not above chance", SlimWarning, stacklevel=1)

    with pytest.warns(SlimWarning) as heard:
        stage()
    assert [str(warning.message) for warning in heard] == ["most maps are flat", "not above chance"]
    manifest = run.manifest("stage")
    assert manifest is not None
    assert manifest.warnings == ("most maps are flat", "not above chance")


def test_warnings_of_a_stage_that_fails_reach_the_caller_too(run: Run) -> None:
    def stage() -> None:
        with run.writing("stage", "attend", **MADE):
            warnings.warn("most maps are flat", SlimWarning, stacklevel=1)
            raise ArtifactError("no space left")

    with pytest.warns(SlimWarning, match="most maps are flat"), pytest.raises(ArtifactError, match="no space left"):
        stage()


def test_warnings_of_other_libraries_pass_but_are_not_kept(run: Run) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with run.writing("stage", "attend", **MADE):
            warnings.warn("changed in 2.0", FutureWarning, stacklevel=1)
            warnings.warn("look at this", SlimWarning, stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["changed in 2.0", "look at this"]
    manifest = run.manifest("stage")
    assert manifest is not None
    assert manifest.warnings == ("look at this",)


def test_a_warning_that_was_given_in_an_earlier_stage_is_kept_in_the_next_too(run: Run) -> None:
    """Python shows a warning of one place once; a manifest needs it each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for stage in ("one", "two"):
            with pytest.warns(SlimWarning, match="flat"), run.writing(stage, "attend", **MADE):
                warnings.warn("flat", SlimWarning, stacklevel=1)
    manifests = [run.manifest(stage) for stage in ("one", "two")]
    assert [manifest and manifest.warnings for manifest in manifests] == [("flat",), ("flat",)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, {"a": float("-inf")}]])
def test_nan_is_refused_in_json_and_the_old_file_stays(value: Any, tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == {"a": 1}
    assert os.listdir(tmp_path) == ["file.json"]


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    value = {"text": "ä → 猫", "numbers": [1, 0.1, None, True]}
    write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == value
    assert json.loads((tmp_path / "file.json").read_text(encoding="utf-8")) == value


def test_json_that_does_not_parse_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text('{"a": 1,\n"b" 2}')
    with pytest.raises(ArtifactError, match=r"file\.json must hold JSON.*line 2"):
        read_json(tmp_path / "file.json")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_file_is_the_old_or_the_new_one_and_never_a_part(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "file.txt", "the old text")

    def fail(*_: Any) -> None:
        raise OSError("no space left")

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_text(tmp_path / "file.txt", "the new text")
    assert (tmp_path / "file.txt").read_text() == "the old text"
    monkeypatch.undo()
    write_text(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["file.txt"]
