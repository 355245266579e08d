"""Whole runs by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks only wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def metrics_of(slim_command: Command, tmp_path: Path, tiny_options: list[str]) -> Callable[..., dict[str, Any]]:
    """Makes a whole run with these options and returns its metrics."""

    def call(*words: object) -> dict[str, Any]:
        result = slim_command("run", tmp_path / "run", *tiny_options, *words, "--json")
        assert result.exit_code == 0, result.stderr
        metrics: dict[str, Any] = json.loads(result.stdout)
        return metrics

    return call
