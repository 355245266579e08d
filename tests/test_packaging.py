"""What is installed, cited and built from the repository agrees with the project's metadata."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import slim

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == slim.__version__
    assert citation["license"] == PROJECT["license"]


def test_conda_environment_has_a_python_and_extras_that_exist() -> None:
    python, _, installed = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    assert python.partition("=")[2] in SpecifierSet(PROJECT["requires-python"])
    (editable,) = installed["pip"]
    assert editable.startswith("-e .")
    assert Requirement(f"slim{editable.removeprefix('-e .')}").extras <= set(PROJECT["optional-dependencies"])


def test_container_copies_files_that_exist_and_are_not_ignored() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert names == sent
    assert [name for name in names if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", ["LICENSE", "README.md"])
def test_files_that_the_metadata_name_are_sent_to_the_container(name: str) -> None:
    """Without them, the package cannot be built there."""
    assert f"!{name}" in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert name in [PROJECT["readme"], *PROJECT["license-files"]]


def test_source_distribution_names_files_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [name for name in included if not (ROOT / name).exists()] == []
