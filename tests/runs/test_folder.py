"""The run folder: what is done is whole, what was interrupted does not look done, and warnings are remembered."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import slim
from slim.errors import ArtifactError, SlimWarning
from slim.files import VERSION, check_seal, file_digest, read_json, write_json, write_sealed, write_text
from slim.runs.folder import Manifest, RunFolder
from slim.runs.outputs import Output

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
    outputs = {"maps.txt": Output(4, file_digest(run.path / "02-attention" / "maps.txt"))}
    assert replace(manifest, seconds=0.0) == Manifest(
        "attend", VERSION, {"size": 3}, 7, {"train": "abc"}, 0.0, "cuda:0", (), outputs
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
    write_sealed(path, {**check_seal(path, read_json(path)), "version": later})
    manifest = run.manifest("stage")
    assert manifest is not None
    assert manifest.version == later


def without(name: str, text: str) -> str:
    return json.dumps({key: value for key, value in json.loads(text).items() if key not in (name, "digest")})


CHANGES: dict[str, Callable[[str], str | bytes]] = {
    "another value": lambda text: text.replace('"seed": 7', '"seed": 8'),
    "another key": lambda text: text.replace('"digest"', '"ligest"'),
    "more space": lambda text: text + " ",
    "cut": lambda text: text[:60],
    "empty": lambda text: "",
    "not UTF-8": lambda text: b"\xff\xfe\x80" + text.encode(),
    "a list": lambda text: "[]",
    "nested deep": lambda text: "[" * 50_000,
    "no version": lambda text: "{}",
    "a version that is none": lambda text: '{"version": 1}',
    "no settings": lambda text: without("settings", text),
    "other types": lambda text: json.dumps({**json.loads(without("seed", text)), "seed": "7"}),
    "other outputs": lambda text: json.dumps({**json.loads(without("outputs", text)), "outputs": {"a": 1}}),
    "typed outputs": lambda text: json.dumps({**json.loads(without("outputs", text)), "outputs": [1]}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_manifest_is_none_and_named(change: str, run: RunFolder) -> None:
    with run.writing("stage", "attend", **MADE):
        pass
    path = run.stage("stage") / "manifest.json"
    changed = CHANGES[change](path.read_text())
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    assert run.manifest("stage") is None
    assert run.digest("stage") is None
    assert list(run.faults("stage")) == ["manifest.json"]
    with run.writing("stage", "attend", **MADE):
        pass
    assert run.manifest("stage") is not None
    assert run.faults("stage", read=True) == {}


def test_a_manifest_of_a_version_that_knew_no_outputs_is_read(run: RunFolder) -> None:
    with run.writing("stage", "attend", **MADE) as folder:
        write_text(folder / "maps.txt", "maps")
    path = run.stage("stage") / "manifest.json"
    path.write_text(without("outputs", path.read_text()))
    (path.parent / "maps.txt").unlink()
    manifest = run.manifest("stage")
    assert manifest is not None
    assert manifest.outputs is None
    assert run.digest("stage") == file_digest(path)
    assert run.faults("stage", read=True) == {}


def test_digest_is_of_the_result_and_not_of_the_time_it_took(run: RunFolder) -> None:
    digests = []
    for content in ("maps", "maps", "spam"):
        with run.writing("stage", "attend", **MADE) as folder:
            write_text(folder / "maps.txt", content)
            write_text(folder / "history.csv", str(len(digests)))
        digests.append(run.digest("stage"))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("change", "fault", "cheap"),
    [
        (lambda path: path.unlink(), "is missing", True),
        (lambda path: path.write_text(""), "has 0 bytes instead of 4", True),
        (lambda path: path.write_text("spam"), "has another content", False),
    ],
)
def test_what_was_damaged_is_found(change: Callable[[Path], object], fault: str, cheap: bool, run: RunFolder) -> None:
    with run.writing("stage", "attend", **MADE) as folder:
        (folder / "test").mkdir()
        write_text(folder / "test" / "maps.txt", "maps")
    assert run.faults("stage", read=True) == {}
    file = run.stage("stage") / "test" / "maps.txt"
    change(file)
    if file.exists():
        os.utime(file, ns=(1, 1))  # another version, however coarse the clock
    assert run.faults("stage") == ({"test/maps.txt": fault} if cheap else {})
    assert run.faults("stage", read=True) == {"test/maps.txt": fault}
    assert run.faults("stage") == {"test/maps.txt": fault}  # what was read is known


def test_what_is_no_result_is_not_compared(run: RunFolder) -> None:
    with run.writing("stage", "annotate", **MADE, keep=True) as folder:
        for name in ("page.json", "annotations.db-wal", "annotations.db-shm", "maps.npy.partial"):
            write_text(folder / name, "text")
    manifest = run.manifest("stage")
    assert manifest is not None
    assert manifest.outputs == {}


def test_a_stage_that_resumes_does_so_without_what_was_damaged(run: RunFolder) -> None:
    with run.writing("stage", "train", **MADE, keep=True) as folder:
        write_text(folder / "last.safetensors", "last")
        write_text(folder / "model.safetensors", "model")
    (folder / "last.safetensors").write_text("tsal")
    os.utime(folder / "last.safetensors", ns=(1, 1))
    with run.writing("stage", "train", **MADE, keep=True) as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors"]


@pytest.mark.parametrize("damage", ["other", "", None])
def test_damaged_answers_are_refused_and_stay(damage: str | None, run: RunFolder) -> None:
    with run.writing("stage", "annotate", **MADE, keep=True) as folder:
        write_text(folder / "annotations.db", "answers")
    file, manifest = folder / "annotations.db", (folder / "manifest.json").read_bytes()
    file.unlink() if damage is None else file.write_text(damage)
    message = r"annotations\.db must be as it was written, since it holds answers\. Got .* Restore it from a backup"

    def again() -> None:
        with run.writing("stage", "annotate", **MADE, keep=True):
            raise AssertionError

    def change() -> None:
        with run.changing("stage"):
            raise AssertionError

    for refused in (again, change):
        with pytest.raises(ArtifactError, match=message):
            refused()
    assert (folder / "manifest.json").read_bytes() == manifest
    assert file.exists() == (damage is not None)


def test_archived_answers_are_not_lost(run: RunFolder) -> None:
    with run.writing("stage", "annotate", **MADE, keep=True) as folder:
        write_text(folder / "annotations.db", "answers")
    (folder / "annotations.db").rename(folder / "annotations-0a1b.db")
    with run.writing("stage", "annotate", **MADE, keep=True):
        pass
    assert (folder / "annotations-0a1b.db").exists()


@pytest.mark.parametrize("changed", [True, False])
def test_stage_is_not_done_while_its_files_change(changed: bool, run: RunFolder) -> None:
    with run.writing("stage", "annotate", **MADE, keep=True) as folder:
        write_text(folder / "annotations.db", "answers")
    before = run.digest("stage")
    with run.changing("stage"):
        assert run.manifest("stage") is None
        if changed:
            write_text(folder / "annotations.db", "more answers")
    assert run.digest("stage") == (None if changed else before)
    assert not list(folder.glob("*.partial"))


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
