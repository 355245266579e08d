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
        It is a pointer of Git LFS, a web page, a JSON file, another archive, or a model of another format.
    """
    inside = _files(path) if start.startswith(b"PK") else ()
    if start.startswith(b"version https://git-lfs"):
        got, remedy = "a pointer of Git LFS, which stands for a file that was not fetched", "Run: git lfs pull"
    elif start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        got, remedy = "a web page", "Download the file itself."
    elif "constants.pkl" in inside:
        got, remedy = "a TorchScript archive, which holds code", "Save torch.jit.load(path).state_dict() in its place."
    elif "models/model.json" in inside:
        got, remedy = "an archive of torch.export", "Save torch.export.load(path).state_dict in its place."
    elif (inside and "data.pkl" not in inside) or start.startswith(b"\x1f\x8b"):
        got, remedy = "an archive that PyTorch did not write", "Unpack it, and name the checkpoint that was in it."
    elif path.suffix.lower() == ".onnx" or start.startswith((b"\x89HDF", b"GGUF")) or start[4:8] == b"TFL3":
        got, remedy = "a model of another format", "Save the network's state_dict from PyTorch."
    elif start.lstrip().startswith(b"{"):
        got, remedy = "a JSON file", "Name the file with the tensors, or the folder of the model."
    else:
        return
    raise ModelError(f"{path} must be a PyTorch checkpoint or a safetensors file. Got {got}. {remedy}")


def _files(path: Path) -> tuple[str, ...]:
    """The files of an archive, as they are called within its folder; none of a damaged one, which PyTorch names."""
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(file.partition("/")[2] or file for file in archive.namelist())
    except zipfile.BadZipFile:
        return ()
