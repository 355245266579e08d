"""Every record saves itself and comes back the same, without a pickle, and refuses what another version wrote."""

from __future__ import annotations

import errno
import json
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from typing_extensions import TypeAliasType

from slim import Classifier, Space, run
from slim.errors import ArtifactError
from slim.quantized import Quantized
from slim.record import ArrayToFill, Record
from slim.stages import STAGES


def parts(record: Record) -> Iterator[Any]:
    """A record and all records inside it."""
    yield record
    for item in fields(record):  # type: ignore[arg-type]
        value = getattr(record, item.name)
        if isinstance(value, Record):
            yield from parts(value)


def same(one: Any, other: Any) -> bool:
    """Whether two values of a record are equal, NaN included."""
    if isinstance(one, Record):
        names = [item.name for item in fields(one)]  # type: ignore[arg-type]
        return type(one) is type(other) and all(same(getattr(one, n), getattr(other, n)) for n in names)
    if isinstance(one, Quantized):
        return same(one.stored, other.stored)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
        return True
    if isinstance(one, torch.nn.Module):
        ours, theirs = one.state_dict(), other.state_dict()
        return ours.keys() == theirs.keys() and all(torch.equal(ours[name].cpu(), theirs[name]) for name in ours)
    return bool(one == other)


Scalar = TypeVar("Scalar", bound=np.generic)
AliasedArray = TypeAliasType("AliasedArray", np.ndarray[tuple[Any, ...], np.dtype[Scalar]], type_params=(Scalar,))


@dataclass(frozen=True, eq=False)
class Aliased(Record):
    """A record whose array has a type that is an alias in itself, as numpy's NDArray is since 2.5."""

    values: AliasedArray[np.float64]
    more: AliasedArray[np.float64] | None = None


def test_array_whose_type_is_an_alias_is_loaded_from_its_file(tmp_path: Path) -> None:
    Aliased(np.arange(3.0), np.ones(2)).save(tmp_path)
    loaded = Aliased.load(tmp_path)
    assert loaded.values.tolist() == [0, 1, 2]
    assert loaded.more is not None
    assert loaded.more.tolist() == [1, 1]


@pytest.mark.parametrize("verb", STAGES)
def test_record_of_each_stage_is_the_same_after_saving_and_loading(
    verb: str, finished_run: Path, tmp_path: Path
) -> None:
    load = STAGES[verb].record.load
    record = load(finished_run / STAGES[verb].folder)
    record.save(tmp_path / "again")
    assert same(record, load(tmp_path / "again"))


def test_names_outside_utf_8_come_back(tmp_path: Path) -> None:
    @dataclass(frozen=True, eq=False)
    class Names(Record):
        paths: pd.DataFrame

    with pd.option_context("mode.string_storage", "python"):  # pyarrow takes no such names
        names = Names(pd.DataFrame({"path": pd.Series([os.fsdecode(b"/\xe4.png"), "/ä.png"], dtype=str)}))
        names.save(tmp_path)
        assert same(names, Names.load(tmp_path))


@pytest.mark.parametrize("verb", STAGES)
def test_record_of_another_format_is_refused_in_one_line(verb: str, finished_run: Path) -> None:
    stage = STAGES[verb]
    folder = finished_run / stage.folder
    file = folder / ("model.json" if stage.record is Classifier else "record.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "format": content["format"] + 1}))
    with pytest.raises(
        ArtifactError, match=rf"must hold {stage.record.__name__} in format .* Got .* Use a new run"
    ) as e:
        stage.record.load(folder)
    assert "\n" not in str(e.value)


def test_arrays_are_mapped_and_not_read(finished_run: Path) -> None:
    attention = STAGES["attend"].record.load(finished_run / STAGES["attend"].folder)
    assert isinstance(attention.train.maps, np.memmap)


@pytest.mark.filterwarnings("ignore::slim.SlimWarning")
def test_no_stage_writes_a_pickle(squares: Callable[..., Path], tiny: dict[str, Any], tmp_path: Path) -> None:
    """Neither by itself nor inside an archive, full retraining with its checkpoints included."""
    settings = {**tiny, "retrain": {"mode": "full", "epochs": 1}}
    run(tmp_path / "run", data=squares(), settings=settings)
    for file in (tmp_path / "run").rglob("*"):
        if not file.is_file():
            continue
        if file.suffix == ".npy":
            np.load(file, allow_pickle=False)
            continue
        assert file.suffix in {".json", ".csv", ".safetensors", ".html", ".db", ".log"}, file
        with pytest.raises(Exception):  # noqa: B017, PT011 (whatever a file that is no pickle makes of it)
            pickle.loads(file.read_bytes())


def test_saving_removes_the_mark_of_completeness_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = Space(*(np.zeros((3, 2), np.float32) for _ in range(3)))
    space.save(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="No space"):
        space.save(tmp_path)
    with pytest.raises(ArtifactError, match=r"must hold Space\. Got no record\.json"):
        Space.load(tmp_path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.unlink(), "No such file"),
        (lambda file: file.write_bytes(b""), "No data left"),
        (lambda file: file.write_bytes(file.read_bytes()[:40]), "Got: "),
    ],
)
def test_damaged_array_is_named(damage: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    Space(*(np.zeros((3, 2), np.float32) for _ in range(3))).save(tmp_path)
    damage(tmp_path / "plane.npy")
    with pytest.raises(ArtifactError, match=reason) as caught:
        Space.load(tmp_path)
    assert "plane.npy" in str(caught.value)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(2)), elements=st.floats(-1e6, 1e6, width=32)))
def test_space_is_the_same_after_saving_and_loading(
    tmp_path_factory: pytest.TempPathFactory, plane: np.ndarray[Any, Any]
) -> None:
    folder = tmp_path_factory.mktemp("space")
    space = Space(plane, plane[::-1], plane, "val")
    space.save(folder)
    assert same(space, Space.load(folder))


def test_array_has_its_room_on_the_disk_before_it_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else filling it would end the process where the disk is full."""
    array = ArrayToFill(tmp_path, "maps", (1000, 100))
    if hasattr(os, "posix_fallocate"):
        assert (tmp_path / "maps.npy").stat().st_blocks * 512 >= 1000 * 100 * 4
    assert not array.filled().any()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        ArrayToFill(tmp_path, "features", (1000, 100))


@pytest.mark.parametrize("verb", ["train", "embed", "annotate", "curate", "retrain", "report"])
@pytest.mark.parametrize("change", ["lost", "renamed"])
def test_values_of_another_structure_are_refused_in_one_line(verb: str, change: str, finished_run: Path) -> None:
    stage = STAGES[verb]
    folder = finished_run / stage.folder
    file = folder / ("model.json" if verb == "train" else "record.json")
    content = json.loads(file.read_text())
    values = content if verb == "train" or not content["values"] else content["values"]
    name = "layer" if verb == "train" else next(iter(values)) if values is not content else "values"
    value = values.pop(name)
    if change == "renamed":
        values[f"{name}x"] = value
    file.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=rf"must be as it was written. Got KeyError: '{name}'") as caught:
        stage.record.load(folder)
    assert "\n" not in str(caught.value)
