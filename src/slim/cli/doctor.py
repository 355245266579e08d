"""The command ``slim doctor``."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import click

from slim.cli.group import main
from slim.cli.shared import JSON
from slim.errors import SlimError
from slim.files import VERSION
from slim.room import free_disk, free_memory, size_text
from slim.runs.run import open_run

_PACKAGES = ("torchvision", "timm", "numpy", "pandas", "scikit-learn", "safetensors", "umap-learn")


@main.command("doctor", short_help="Print what a bug report needs.")
@click.argument("run", metavar="[RUN]", required=False, type=click.Path())
@JSON
def doctor_command(run: str | None, as_json: bool) -> None:
    """Print what a bug report needs: versions, device, memory and disk, and the states of RUN's stages.

    It names no user, no computer, no image and no folder, so that it can be posted as it is.
    """
    facts = {**_versions(), **_machine(Path(run or ".")), **(_states(run) if run is not None else {})}
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for name, fact in facts.items():
        click.echo(f"{name}: {fact}")


def _versions() -> dict[str, str]:
    import torch

    packages = {"torch": torch.__version__, **{name: version(name) for name in _PACKAGES}}  # which says for what GPU
    system = f"{platform.system()} {platform.machine()}"
    return {"slim": VERSION, "python": platform.python_version(), "system": system, **packages}


def _machine(folder: Path) -> dict[str, str]:
    """What a stage would use here; `folder` says which disk."""
    import torch

    from slim.network.devices import resolve_device, resolve_precision

    device = resolve_device("auto")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    bfloat16 = resolve_precision("auto", device) == "bf16-mixed"
    return {
        "device": where,
        "bfloat16": "supported" if bfloat16 else "not supported",
        "threads": f"{torch.get_num_threads()} on {os.cpu_count()} processors",
        "memory": _memory(),
        "disk": f"{size_text(free_disk(folder))} left",
    }


def _memory() -> str:
    """The memory that a stage may use, where the system says so."""
    free = free_memory()
    return "unknown" if free is None else f"{size_text(free)} left"


def _states(run: str) -> dict[str, str]:
    """The state of each stage, and what is damaged."""
    try:
        opened = open_run(run)
        states = [(stage.verb, state, opened.damage(stage.verb)) for stage, state, _ in opened.status()]
    except SlimError as error:  # its text may name folders; slim status shows it
        return {"run": f"cannot be opened ({type(error).__name__})"}
    return {verb: f"{state}, {damage}" if damage else state for verb, state, damage in states}
