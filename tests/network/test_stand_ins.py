"""Files that lie where a checkpoint should be: they are named for what they are."""

from __future__ import annotations

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
