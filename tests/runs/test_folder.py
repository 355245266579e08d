"""The run folder: what is done is whole, what was interrupted does not look done, and warnings are remembered."""

from __future__ import annotations

import re
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
from slim.errors import ArtifactError, SlimWarning
from slim.files import VERSION, read_json, write_json, write_text
from slim.runs.folder import Manifest, RunFolder

MADE: dict[str, Any] = {"settings": {"size": 3}, "seed": 7, "inputs": {"train": "abc"}}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "demo")


def test_the_manifest_says_what_made_the_stage(run: RunFolder) -> None:
    with run.writing("02-attention", "attend", **MADE, device="cuda:0") as folder:
        write_text(folder / "maps.txt", "maps")
        assert run.manifest("02-attention") is None
    manifest = run.manifest("02-attention")
    assert manifest is not None
    assert replace(manifest, seconds=0.0) == Manifest(
        "attend", VERSION, {"size": 3}, 7, {"train": "abc"}, 0.0, "cuda:0", ()
    )
    assert manifest.seconds >= 0
    assert run.stage("02-attention") == run.path / "02-attention"
    assert sorted(path.name for path in run.stage("02-attention").iterdir()) == ["manifest.json", "maps.txt"]
    assert not folder.exists()


def test_the_manifest_is_written_last(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_stage_that_was_never_made_is_not_done(run: RunFolder) -> None:
    assert run.manifest("stage") is None
    assert run.digest("stage") is None


@pytest.mark.parametrize("keep", [True, False])
def test_a_stage_that_fails_leaves_the_old_result_or_what_it_resumes_from(keep: bool, run: RunFolder) -> None:
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
    assert (run.stage("stage") / "old.txt").read_text() == "old"
    assert (run.stage("stage") / "new.txt").exists() == keep


def test_a_stage_that_is_killed_leaves_nothing_that_looks_done(run: RunFolder) -> None:
    script = f"""
        import os, signal, sys, types
        from pathlib import Path
        package = types.ModuleType("slim")  # without what the whole package imports, which takes seconds
        package.__path__ = [{str(Path(slim.__file__).parent)!r}]
        sys.modules["slim"] = package
        from slim.files import write_text
        from slim.runs.folder import RunFolder
        run = RunFolder(Path({str(run.path)!r}))
        with run.writing("stage", "attend", settings={{}}, seed=0, inputs={{}}) as folder:
            write_text(folder / "new.txt", "new")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (run.stage("stage.partial") / "new.txt").exists()
    assert run.manifest("stage") is None
    with run.writing("stage", "attend", **MADE) as folder:
        assert not list(folder.iterdir())


@pytest.mark.parametrize("keep", [True, False])
def test_making_a_stage_again_replaces_its_files_unless_it_resumes(keep: bool, run: RunFolder) -> None:
    with run.writing("stage", "attend", **MADE) as folder:
        write_text(folder / "old.txt", "old")
    with run.writing("stage", "attend", **MADE, keep=keep) as again:
        assert (again / "old.txt").exists() == keep
        assert not (again / "manifest.json").exists()
    assert (run.stage("stage") / "old.txt").exists() == keep
    assert run.manifest("stage") is not None


def test_the_digest_changes_with_what_made_the_stage(run: RunFolder) -> None:
    """Else cached maps would be taken for another model, layer or split."""
    digests = set()
    for change in ({}, {"seed": 8}, {"settings": {"size": 4}}, {"inputs": {"train": "abd"}}):
        with run.writing("stage", "attend", **{**MADE, **change}):
            pass
        digest = run.digest("stage")
        assert digest == run.digest("stage")
        digests.add(digest)
    assert len(digests) == 4


@pytest.mark.parametrize("version", ["999.0.0", "0.1.0"])
def test_a_run_of_another_version_is_refused(version: str, run: RunFolder) -> None:
    with run.writing("stage", "attend", **MADE):
        pass
    path = run.stage("stage") / "manifest.json"
    write_json(path, {**read_json(path), "version": version})
    message = rf"{re.escape(str(run.path))} must be .* Got version {version}\. Use a new run folder"
    with pytest.raises(ArtifactError, match=message):
        run.manifest("stage")


def test_a_run_of_another_patch_of_the_same_version_is_read(run: RunFolder) -> None:
    with run.writing("stage", "attend", **MADE):
        pass
    path = run.stage("stage") / "manifest.json"
    later = ".".join([*VERSION.split(".")[:2], "99"])
    write_json(path, {**read_json(path), "version": later})
    manifest = run.manifest("stage")
    assert manifest is not None
    assert manifest.version == later


NO_MANIFESTS = {
    "[]": "must be a manifest",
    "{": "must hold JSON",
    "{}": "must be a manifest",
    '{"version": 1}': "Got version 1",
}


@pytest.mark.parametrize(("text", "message"), NO_MANIFESTS.items())
def test_a_manifest_that_is_none_is_refused(text: str, message: str, run: RunFolder) -> None:
    run.stage("stage").mkdir(parents=True)
    (run.stage("stage") / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        run.manifest("stage")


def test_warnings_of_a_stage_are_kept_in_its_manifest_and_still_reach_the_caller(run: RunFolder) -> None:
    def stage() -> None:
        with run.writing("stage", "attend", **MADE):
            warnings.warn("most maps are flat", SlimWarning, stacklevel=1)
            warnings.warn("not above chance", SlimWarning, stacklevel=1)

    with pytest.warns(SlimWarning) as caught:
        stage()
    assert [str(warning.message) for warning in caught] == ["most maps are flat", "not above chance"]
    manifest = run.manifest("stage")
    assert manifest is not None
    assert manifest.warnings == ("most maps are flat", "not above chance")


def test_warning_that_a_stage_repeats_is_kept_once(run: RunFolder) -> None:
    with pytest.warns(SlimWarning, match="masks are empty"), run.writing("stage", "annotate", **MADE):
        for _ in range(3):
            warnings.warn("some masks are empty", SlimWarning, stacklevel=1)
    manifest = run.manifest("stage")
    assert manifest is not None
    assert manifest.warnings == ("some masks are empty",)


def test_warnings_of_a_stage_that_fails_reach_the_caller_too(run: RunFolder) -> None:
    def stage() -> None:
        with run.writing("stage", "attend", **MADE):
            warnings.warn("most maps are flat", SlimWarning, stacklevel=1)
            raise ArtifactError("no space left")

    with pytest.warns(SlimWarning, match="most maps are flat"), pytest.raises(ArtifactError, match="no space left"):
        stage()


def test_warnings_of_other_libraries_pass_but_are_not_kept(run: RunFolder) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with run.writing("stage", "attend", **MADE):
            warnings.warn("changed in 2.0", FutureWarning, stacklevel=1)
            warnings.warn("look at this", SlimWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["changed in 2.0", "look at this"]
    manifest = run.manifest("stage")
    assert manifest is not None
    assert manifest.warnings == ("look at this",)


def test_a_warning_that_was_given_in_an_earlier_stage_is_kept_in_the_next_too(run: RunFolder) -> None:
    """Python shows a warning of one place once; a manifest needs it each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for stage in ("one", "two"):
            with pytest.warns(SlimWarning, match="flat"), run.writing(stage, "attend", **MADE):
                warnings.warn("flat", SlimWarning, stacklevel=1)
    manifests = [run.manifest(stage) for stage in ("one", "two")]
    assert [manifest and manifest.warnings for manifest in manifests] == [("flat",), ("flat",)]
