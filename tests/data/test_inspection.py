"""All images are read first: what cannot be used comes in one list, and can be left out."""

from __future__ import annotations

import csv
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.data.conftest import N

from slim.data import Dataset, check, load_dataset
from slim.data.hugging_face import _file
from slim.data.inspection import faults_in
from slim.errors import DataError

pytestmark = pytest.mark.usefixtures("small_and_quiet")


def damage(folder: Path) -> dict[str, str]:
    """Damages files in every way, and says what the problem of each is called."""
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8))
    photo.save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-2000])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("<html>")
    (folder / "<b>\n.jpg").write_text("odd")
    header = struct.pack(">4sIIBBBBB", b"IHDR", 20_000, 20_000, 1, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (folder / "huge.png").write_bytes(start + bytes(4) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    Image.fromarray(np.full((4, 4), -1, dtype=np.float32)).save(folder / "negative.tif")
    (folder / "outside.jpg").symlink_to(folder / "text.jpg")
    return {
        "cut.jpg": "truncated",
        "empty.jpg": "an empty file",
        "text.jpg": "no format of images",
        "<b>\n.jpg": "<b>\\n.jpg must be a readable image",
        "huge.png": "exceeds limit",
        "negative.tif": "must be from 0 to 65535",
    }


def good(folder: Path) -> list[str]:
    """Saves images of every unusual kind that can be used."""
    rng = np.random.default_rng(1)
    photo = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    for mode, name in (("CMYK", "print.jpg"), ("LA", "la.png"), ("P", "palette.png"), ("RGB", "quo'te\".jpg")):
        photo.convert(mode).save(folder / name)
    Image.fromarray(rng.integers(0, 65536, (9, 9)).astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(rng.random((9, 9)).astype(np.float32)).save(folder / "float.tif")
    photo.save(folder / "animated.gif", save_all=True, append_images=[photo.transpose(Image.Transpose.ROTATE_90)])
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")
    return ["print.jpg", "la.png", "palette.png", "quo'te\".jpg", "deep.png", "float.tif", "animated.gif", "pixel.png"]


@pytest.fixture
def broken(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder with metadata.csv, some of whose images are damaged."""
    problems = damage(tmp_path)
    names = [*good(tmp_path), *problems]
    for i in range(12):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png"
        )
    names += [f"{i}.png" for i in range(12)]
    rows = {"img_filename": names, "y": np.arange(len(names)) % 2, "split": np.arange(len(names)) // 2 % 3}
    pd.DataFrame(rows).to_csv(tmp_path / "metadata.csv", index=False, lineterminator="\n")
    return tmp_path, problems


@pytest.mark.filterwarnings("ignore:.*has a line break in column")
def test_all_that_cannot_be_used_comes_in_one_list(broken: tuple[Path, dict[str, str]]) -> None:
    folder, problems = broken
    data = load_dataset(folder)
    found = check(data)
    assert found.n_images == len(data.train) + len(data.val) + len(data.test)
    problem = {Path(fault.path).name: fault.problem for fault in found.faults}
    assert problem.keys() == problems.keys()
    for name, text in problems.items():
        assert text in problem[name], name
    with pytest.raises(DataError, match=rf"Got {len(problems)} of {found.n_images} that cannot be used. The first: "):
        found.stop()


@pytest.mark.filterwarnings("ignore:.*has a line break in column")
def test_what_was_listed_is_left_out_and_the_others_keep_their_splits(
    broken: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, problems = broken
    whole, target = load_dataset(folder), tmp_path_factory.mktemp("lists") / "bad.csv"
    check(whole).write(target)
    part = load_dataset(folder, without=target)
    assert not check(part).faults
    for split in ("train", "val", "test"):
        kept = [path for path in whole.split(split).paths if Path(path).name not in problems]
        assert part.split(split).paths == kept
    assert load_dataset(**part.source).fingerprint == part.fingerprint != whole.fingerprint


@pytest.mark.parametrize(("content", "problem"), [(b"<html>", "no format of images"), (b"", "an empty file")])
def test_damaged_image_within_a_data_set_of_hugging_face_is_listed_too(
    content: bytes, problem: str, files: Path, frame: pd.DataFrame, tmp_path: Path
) -> None:
    frame.loc[5, "img_filename"] = _file({"bytes": content, "path": None}, tmp_path / "cache" / "train" / "5")
    (fault,) = check(load_dataset(frame, root=files)).faults
    assert problem in fault.problem
    assert Path(fault.path).read_bytes() == content


def test_mask_that_does_not_fit_is_listed(files: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    Image.new("L", (3, 3), 255).save(tmp_path / "small.png")
    masks = [str(files / f"{i:02}_mask.png") for i in range(N)]
    masks[5] = str(tmp_path / "small.png")
    (fault,) = check(load_dataset(frame.assign(mask_filename=masks), root=files)).faults
    assert (Path(fault.path).name, fault.split) == ("05.png", "train")
    assert "must have the size of its image" in fault.problem


def test_sound_images_have_no_faults_and_no_notes(plain: tuple[pd.DataFrame, Dataset]) -> None:
    found = check(plain[1])
    assert (found.n_images, found.faults, found.notes) == (N, (), ())
    found.stop()


def test_what_is_odd_is_noted(files: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    frame["img_filename"] = [str(files / name) for name in frame["img_filename"]]
    (tmp_path / "twin.png").write_bytes((files / "00.png").read_bytes())
    Image.new("RGB", (16, 12), "red").save(tmp_path / "red.png")
    Image.fromarray(np.pad(np.zeros((6, 10), dtype=np.uint8), 3, constant_values=255)).save(tmp_path / "mask.png")
    frame.loc[[18, 4], "img_filename"] = [str(tmp_path / "twin.png"), str(tmp_path / "red.png")]
    notes = check(load_dataset(frame.assign(mask_filename=str(tmp_path / "mask.png")))).notes
    assert [note.split(":")[0].split(" mark ")[0] for note in notes] == [
        "Identical files are in two splits, which leaks",
        "Images of a single colour",
        "20 of 20 masks",
    ]


def test_identical_files_with_two_labels_are_noted(files: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    frame["img_filename"] = [str(files / name) for name in frame["img_filename"]]
    train = frame[frame["split"] == frame["split"].iloc[0]]
    one, other = train.index[0], train.index[train["y"] != train["y"].iloc[0]][0]
    (tmp_path / "twin.png").write_bytes(Path(frame.loc[one, "img_filename"]).read_bytes())
    frame.loc[other, "img_filename"] = str(tmp_path / "twin.png")
    assert [note.split(":")[0] for note in check(load_dataset(frame)).notes] == ["Identical files have two labels"]


def test_list_of_images_to_leave_out_must_have_a_column_of_paths(tmp_path: Path) -> None:
    with (tmp_path / "list.csv").open("w") as stream:
        csv.writer(stream).writerows([["name"], ["a.png"]])
    for name, reason in (("list.csv", "column path.*Got:.*path"), ("gone.csv", "Got: No such file")):
        with pytest.raises(DataError, match=reason):
            faults_in(tmp_path / name)
