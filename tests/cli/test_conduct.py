"""How commands behave among others: signals, exit codes, output for scripts, colours, completion."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from slim.cli.failure import EXIT_CODE
from slim.cli.main import main

Command = Callable[..., Result]
Squares = Callable[..., Path]
ROOT = Path(__file__).parents[2]
SLIM = Path(sys.executable).with_name("slim")


def test_every_command_has_output_for_scripts_and_can_be_quiet() -> None:
    options = {name: {word for item in command.params for word in item.opts} for name, command in main.commands.items()}
    assert {name for name, words in options.items() if not {"--json", "--quiet"} <= words} == set()


def test_quiet_command_shows_results_alone(finished_run: Path, slim_command: Command) -> None:
    assert slim_command("run", finished_run).stderr != ""
    result = slim_command("run", finished_run, "--quiet", "--json")
    assert result.stderr == ""
    assert result.stdout.startswith("{")


def test_quiet_command_warns_all_the_same(finished_run: Path, slim_command: Command) -> None:
    result = slim_command("propagate", finished_run, "--gamma", "2", "--quiet")
    assert result.exit_code == 0
    assert [line.partition(" ")[0] for line in result.stderr.splitlines()] == ["warning:"] * result.stderr.count("\n")
    assert "warning:" in result.stderr


def test_run_that_is_stopped_by_ctrl_c_goes_on(squares: Squares, slim_command: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", run, "--data", squares(), "--arch", "resnet10t", "--weights", "none"]
    words += ["--image-size", "32", "--epochs", "10"]
    with subprocess.Popen(
        [SLIM, *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    ) as command:
        while not (run / "01-reference/last.safetensors").exists():
            assert command.poll() is None
            time.sleep(0.02)
        command.send_signal(signal.SIGINT)
        last = command.communicate()[1].splitlines()[-1]
    assert command.returncode == 130
    assert last == "slim: Stopped. The same command continues from here."
    assert (run / "01-reference/last.safetensors").exists()
    assert not (run / "01-reference/manifest.json").exists()
    assert slim_command(*words).exit_code == 0


def test_sigterm_stops_in_an_orderly_way_with_its_own_exit_code(
    finished_run: Path, slim_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("slim.stages.curate.curate.curate", terminated)
    before = signal.getsignal(signal.SIGTERM)
    result = slim_command("curate", finished_run, "--size", "10")
    assert result.exit_code == 143
    assert result.stderr.splitlines()[-1] == "slim: Stopped. The same command continues from here."
    assert signal.getsignal(signal.SIGTERM) is before


def test_exit_codes_are_documented() -> None:
    page = (ROOT / "docs/scripts.md").read_text(encoding="utf-8")
    codes = {0, 1, 2, EXIT_CODE, 128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == codes


def test_colours_are_for_terminals_that_want_them(
    finished_run: Path, slim_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in slim_command("propagate", finished_run, "--gamma", "2").output
    assert "\x1b[33mwarning:" in slim_command("propagate", finished_run, "--gamma", "3", color=True).stderr
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[33m" not in slim_command("propagate", finished_run, "--gamma", "4", color=True).stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_written_for_each_documented_shell(shell: str) -> None:
    line = next(
        line for line in (ROOT / "docs/scripts.md").read_text("utf-8").splitlines() if line.startswith(f"| {shell}")
    )
    variable = re.search(r"_SLIM_COMPLETE=(\w+)", line)
    assert variable is not None
    done = subprocess.run(
        [SLIM], env={**os.environ, "_SLIM_COMPLETE": variable[1]}, capture_output=True, text=True, check=True
    )
    assert "_SLIM_COMPLETE" in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_tab_completes_commands_and_options_in_bash() -> None:
    script = """
eval "$(_SLIM_COMPLETE=bash_source slim)"
tab() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=(); _slim_completion slim; echo "${COMPREPLY[@]}"; }
tab slim sta
tab slim train --epo
tab slim annotate run --annotator ter
"""
    path = f"{SLIM.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["status", "--epochs", "terminal"]
