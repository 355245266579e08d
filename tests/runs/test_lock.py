"""Two commands in one run folder: the second says so and leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import slim
from slim.errors import ArtifactError
from slim.runs.lock import alone_in

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is held there")
SCRIPT = """
    import os, sys, time, types
    from pathlib import Path
    package = types.ModuleType("slim")  # without what the whole package imports, which takes seconds
    package.__path__ = [{package!r}]
    sys.modules["slim"] = package
    from slim.runs.lock import alone_in
    with alone_in(Path({folder!r})):
        if {forks} and os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        print("held", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder of the test; with the parameter True, it has a forked worker."""
    values = {"package": str(Path(slim.__file__).parent), "folder": str(tmp_path), "forks": request.param}
    code = textwrap.dedent(SCRIPT).format(**values)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True) as p:
        assert p.stdout is not None
        assert p.stdout.readline() == "held\n"
        yield p
        with suppress(ProcessLookupError):  # where the test has killed it
            os.killpg(p.pid, signal.SIGKILL)


@pytest.mark.parametrize("holder", [False], indirect=True)
def test_second_command_says_so_and_leaves_while_the_first_lives(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    message = r"by one command at a time. Got .*, which another command is using"
    with pytest.raises(ArtifactError, match=message), alone_in(tmp_path):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("holder", [True, False], indirect=True)
def test_killed_command_holds_nothing_though_its_workers_live(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    deadline = time.monotonic() + 30
    while True:
        try:
            with alone_in(tmp_path):
                return
        except ArtifactError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_folder_is_held_once_and_let_go_of_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), alone_in(tmp_path / "run"):
        with pytest.raises(ArtifactError), alone_in(tmp_path / "run"):
            raise AssertionError
        raise KeyboardInterrupt
    with alone_in(tmp_path / "run"):
        pass
