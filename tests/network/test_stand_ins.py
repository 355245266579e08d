"""Files that lie where a checkpoint should be: they are named for what they are."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from slim.errors import ModelError
from slim.network.checkpoints import read_state_dict


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            r"pointer of Git LFS.* Run: git lfs pull",
        ),
        (b"\n<!DOCTYPE html>\n<html><head>", r"a web page\. Download the file itself\."),
        (
            b'{\n  "weight_map": {"fc.weight": "model-1-of-2.safetensors"}}',
            r"a JSON file\. Name the file with the tensors",
        ),
        (b"\x1f\x8b\x08\x00" + bytes(60), r"an archive that PyTorch did not write\. Unpack it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), r"a model of another format\. Save the network's state_dict"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), r"a file of another kind\. Name the file that torch\.save wrote"),
    ],
)
def test_what_was_saved_in_place_of_a_checkpoint_is_named(content: bytes, named: str, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(ModelError, match=named):
        read_state_dict(tmp_path / "model.pth")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_torchscript_is_named_and_pytorchs_advice_to_run_its_code_is_not_passed_on(tmp_path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "model.pt")
    with pytest.raises(ModelError, match="TorchScript archive") as refusal:
        read_state_dict(tmp_path / "model.pt")
    assert "weights_only" not in str(refusal.value)


def test_archive_of_torch_export_is_named(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), tmp_path / "model.pt2")
    with pytest.raises(
        ModelError, match=r"an archive of torch\.export\. Save torch\.export\.load\(path\)\.state_dict in"
    ):
        read_state_dict(tmp_path / "model.pt2")


def test_archive_around_a_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.write(tmp_path / "model.pt", "models/model.pt")
    with pytest.raises(ModelError, match=r"an archive that PyTorch did not write\. Unpack it"):
        read_state_dict(tmp_path / "model.zip")
