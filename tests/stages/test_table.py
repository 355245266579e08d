"""The table of stages agrees with the functions, and stages hand records to each other and nothing else."""

from __future__ import annotations

import ast
import inspect
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest

import slim
from slim.record import Record
from slim.stages import STAGES

SOURCE = Path(slim.__file__).parent / "stages"

# The page scores all images after each answer with the stage that does so later for good.
LIVE = {("annotate", "IncrementalScores"), ("annotate", "no_scores"), ("report", "section")}


@pytest.mark.parametrize("verb", STAGES)
def test_stage_is_the_public_function_of_its_name(verb: str) -> None:
    assert getattr(slim, verb) is STAGES[verb].function


@pytest.mark.parametrize("verb", STAGES)
def test_table_says_what_the_function_takes_and_returns(verb: str) -> None:
    stage, hints = STAGES[verb], get_type_hints(STAGES[verb].function)
    parameters = inspect.signature(stage.function).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [*stage.reads.split(), *(["settings"] if stage.settings else [])]
    assert hints["return"] is stage.record
    assert issubclass(stage.record, Record)
    if stage.settings is not None:
        assert hints["settings"] == stage.settings | None
        assert is_dataclass(stage.settings)


@pytest.mark.parametrize("verb", STAGES)
def test_purpose_is_the_first_sentence_of_the_functions_docstring(verb: str) -> None:
    assert f"{STAGES[verb].purpose}." == (inspect.getdoc(STAGES[verb].function) or "").splitlines()[0]


@pytest.mark.parametrize("verb", STAGES)
def test_stage_reads_only_what_comes_before_it(verb: str) -> None:
    order = ["data", *(stage.noun for stage in STAGES.values())]
    reads = STAGES[verb].reads.split()
    assert max(order.index(noun) for noun in reads) < order.index(STAGES[verb].noun)
    assert [order.index(noun) for noun in reads] == sorted(order.index(noun) for noun in reads)


def test_folders_are_numbered_without_a_gap() -> None:
    assert [int(stage.folder.partition("-")[0]) for stage in STAGES.values()] == list(range(1, 11))


def imports(file: Path) -> list[tuple[str, str]]:
    """Stage and name of everything that a module imports from the stages."""
    tree = ast.parse(file.read_text())
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [
        (node.module, alias.name)
        for node in froms
        if node.module is not None and node.module.startswith("slim.stages.")
        for alias in node.names
    ]


def test_stages_import_nothing_but_records_settings_and_constants_of_each_other() -> None:
    for file in SOURCE.rglob("*.py"):
        own = file.relative_to(SOURCE).parts[0].removesuffix(".py")
        for module, name in imports(file):
            other = module.split(".")[2]
            value = getattr(import_module(module), name)
            if own in ("__init__", "table", other) or other in ("judgements", "settings") or (own, name) in LIVE:
                continue
            assert not inspect.isfunction(value) or name == "join_clusters", (file, module, name)
