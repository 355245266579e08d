"""Files that lie where a checkpoint should be, and are something else."""

from __future__ import annotations

import zipfile
from pathlib import Path

from slim.errors import ModelError


def refuse_stand_in(path: Path, start: bytes) -> None:
    """Refuse what was saved in place of a checkpoint, and what PyTorch's reader would blame on something else.

    Parameters
    ----------
    path
        The file.
    start
        Its first bytes, 64 or more.

    Raises
    ------
    ModelError
        It is a pointer of Git LFS, a web page or a TorchScript archive.
    """
    if start.startswith(b"version https://git-lfs"):
        got, remedy = "a pointer of Git LFS, which stands for a file that was not fetched", "Run: git lfs pull"
    elif start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        got, remedy = "a web page", "Download the file itself."
    elif start.startswith(b"PK") and _is_torchscript(path):
        got, remedy = "a TorchScript archive, which holds code", "Save torch.jit.load(path).state_dict() in its place."
    else:
        return
    raise ModelError(f"{path} must be a PyTorch checkpoint or a safetensors file. Got {got}. {remedy}")


def _is_torchscript(path: Path) -> bool:
    """Whether an archive has the constants of TorchScript's code beside its tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:  # damaged, which PyTorch's reader says
        return False
