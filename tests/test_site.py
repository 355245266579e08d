"""The documentation site: it is built without a warning, and documents every public name, command and setting."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from dataclasses import fields
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

import slim
from slim.cli.main import main
from slim.stages import STAGES

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; every warning is an error, all of them shown."""
    folder = tmp_path_factory.mktemp("site")
    words = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(folder / "doctrees"), "docs", str(folder / "html")]
    environment = {**os.environ, "PYTHONPATH": str(Path(slim.__file__).parents[1])}
    command = [sys.executable, "-m", "sphinx", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def documented(site: Path) -> dict[str, set[str]]:
    """The names of everything that the site documents, by kind."""
    content = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]  # behind four lines of text
    names: dict[str, set[str]] = {}
    for line in zlib.decompress(content).decode().splitlines():
        name, kind = line.split()[:2]
        names.setdefault(kind, set()).add(name)
    return names


def test_every_public_name_is_documented(documented: dict[str, set[str]]) -> None:
    names = documented["py:class"] | documented["py:function"]
    assert {f"slim.{name}" for name in slim.__all__ if name != "__version__"} - names == set()


def test_every_setting_is_documented(site: Path) -> None:
    page = (site / "api/settings.html").read_text("utf-8")
    for record in {stage.settings for stage in STAGES.values() if stage.settings}:
        described = page.partition(f'id="slim.{record.__name__}"')[2].partition("</section>")[0]
        assert [setting.name for setting in fields(record) if f"<strong>{setting.name}</strong>" not in described] == []


def test_every_command_and_option_is_documented(documented: dict[str, set[str]]) -> None:
    wanted = {
        f"slim-{name}.{word}"
        for name, command in main.commands.items()
        for option in command.params
        if isinstance(option, click.Option)
        for word in option.opts
    }
    assert wanted - documented["std:cmdoption"] == set()


def test_pages_of_the_site_request_nothing_from_elsewhere(site: Path) -> None:
    """Whoever reads them offline, or privately, sees the same."""
    found = {
        (page.name, word)
        for page in (site / "index.html", site / "method.html")
        for word in page.read_text("utf-8").split('"')
        if urlsplit(word).scheme in ("http", "https") and word.endswith((".js", ".css", ".woff2"))
    }
    assert found == set()
