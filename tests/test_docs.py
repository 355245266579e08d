"""The documentation: its snippets run, its commands exist, and its drawings and figures are up to date."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import pytest

from slim.cli.main import main
from slim.cli.options import given
from slim.comparison import ROWS
from slim.errors import SlimWarning
from slim.runs.settings import RunSettings
from slim.stages import STAGES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PRESENT = [page for page in PAGES if page.name != "log.md"]  # the log quotes commands as they were


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `<!-- test: skip (reason) -->` on the line before keeps it from being run."""

    page: Path
    line: int
    language: str
    code: str
    skipped: bool


def blocks(page: Path, language: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fence = re.compile(r"(<!-- test: skip \(.+\) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    found = [
        Block(page, text[: match.start(3)].count("\n"), match[2], match[3], match[1] is not None)
        for match in fence.finditer(text)
    ]
    return [block for block in found if block.language == language and not block.skipped]


def run(page: Path) -> dict[str, Any]:
    """Run a page's Python blocks, one after the other; the names that they leave."""
    names: dict[str, Any] = {}
    for block in blocks(page, "python"):
        code = compile("\n" * block.line + block.code, str(page), "exec")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SlimWarning)  # so little data is not to be trusted, and SLIM says so
            exec(code, names)
    return names


def commands(page: Path) -> list[str]:
    lines = "".join(block.code for block in blocks(page, "sh")).splitlines()
    return [line for line in lines if line.startswith("slim ")]


def parse(line: str) -> None:
    """Parse a command without running it; its settings are checked as the command checks them."""
    _, name, *words = shlex.split(line, comments=True)
    values = main.commands[name].make_context(name, words).params
    stage = name if name in STAGES else None
    names = [item.name for item in fields(STAGES[name].settings)] if stage and STAGES[name].settings else []
    settings = {key: value for key, value in values.items() if key in names or "__" in key}
    RunSettings().updated(given(settings, stage))


@pytest.fixture
def small_world(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    squares: Callable[..., Path],
    tiny: dict[str, dict[str, object]],
    small_and_quiet: None,
) -> Path:
    """A working folder with the data set that the pages name, and defaults with which a stage takes a moment."""
    squares("waterbirds")
    monkeypatch.chdir(tmp_path)
    for verb in tiny:
        record = RunSettings().updated(tiny)[verb]
        values = tuple(getattr(record, item.name) for item in fields(record))
        monkeypatch.setattr(type(record).__init__, "__defaults__", values)
    return tmp_path


def test_readme_runs_and_both_tours_give_the_same_result(small_world: Path) -> None:
    names = run(ROOT / "README.md")
    for model in ("reference", "random_subset", "retrained"):
        assert names["result"].evaluation[model].as_dict() == names["evaluation"][model].as_dict()
    assert names["result"].subset.index.tolist() == names["subset"].index.tolist()
    assert (small_world / "debiased/model.safetensors").exists()
    assert (small_world / "report/report.html").exists()


@pytest.mark.parametrize("page", [page for page in PAGES[1:] if blocks(page, "python")], ids=lambda page: page.name)
def test_python_snippets_run(page: Path, small_world: Path) -> None:
    run(page)


@pytest.mark.parametrize("page", [page for page in PRESENT if commands(page)], ids=lambda page: page.name)
def test_commands_parse(page: Path) -> None:
    for line in commands(page):
        try:
            parse(line)
        except click.UsageError as error:
            pytest.fail(f"{page.name}: {line}: {error.format_message()}")


@pytest.mark.parametrize("line", ["slim run runs/birds --pool val", "slim embed runs/birds --neighbors few"])
def test_command_that_does_not_exist_is_noticed(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(line)


@pytest.mark.parametrize("page", PRESENT, ids=lambda page: page.name)
def test_options_in_the_text_exist(page: Path) -> None:
    known = {name for command in main.commands.values() for item in command.params for name in item.opts}
    spans = re.findall(r"`((?:--|slim )[^`\n]+)`", page.read_text(encoding="utf-8"))
    named = {name for span in spans for name in re.findall(r"--[a-z][\w.-]*", span)}
    assert named <= known


def test_every_row_of_a_comparison_is_described() -> None:
    text = (ROOT / "docs/compare.md").read_text(encoding="utf-8")
    assert [key for key in ROWS if f"`{key}`" not in text] == []


def test_drawings_are_those_of_the_stages() -> None:
    spec = importlib.util.spec_from_file_location("draw_stages", ROOT / "docs/draw_stages.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for path, content in script.drawn().items():
        assert path.read_text(encoding="utf-8") == content, f"{path} is stale. Run: python docs/draw_stages.py"


def test_run_folder_holds_the_files_that_its_page_names(finished_run: Path) -> None:
    for folder, _, files in table((ROOT / "docs/runs.md").read_text(encoding="utf-8"))[1:]:
        for name in re.findall(r"`([^`]+)`", files):
            assert list((finished_run / folder.strip("`")).glob(name)), f"{folder} holds no {name}"
    folders = {row[0].strip("`") for row in table((ROOT / "docs/runs.md").read_text(encoding="utf-8"))}
    assert {stage.folder for stage in STAGES.values()} <= folders


def test_figures_of_the_readme_are_measured() -> None:
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    titles = {"": "No val", "as biased as train": "A val as biased", "balanced": "A val balanced"}
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What it brings")[2]
    names, *shown = table(readme.partition("\n## ")[0])
    assert len(shown) == 13
    note = next(i for i, row in enumerate(shown) if row[0].startswith("*with"))
    for i, (title, val, *values) in enumerate(shown):
        if i == note:
            continue
        heading = "## With present code" if i < note else f"### {titles[val]}"
        columns, *rows = table(page.partition(f"\n{heading}")[2].partition("\n\n- ")[0].partition("\n##")[0])
        assert columns[1:] == names[2:]
        measured = {row[0]: row[1:] for row in rows}
        assert values == [value.partition(" ")[0] for value in measured[title]], (title, val)


def test_layers_are_those_that_imports_are_checked_by() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## Layers")[2]
    described = [re.findall(r"`([^`]+)`", row[0]) for row in table(page)[1:]]
    assert described == [re.findall(r"[\w.]+", layer) for layer in contracts[0]["layers"]]


def test_files_that_are_named_exist() -> None:
    examples = {"audit", "centred", "jsonl", "coco"}  # those that a reader of how-to.md makes
    for name in ("docs/architecture.md", "docs/how-to.md", "docs/results.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for path in re.findall(r"\b((?:src|tests|docs|benchmarks)/[\w/.-]+\w)", text):
            assert (ROOT / path).exists() or Path(path).stem.removeprefix("test_") in examples, (name, path)


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    rows = [row[-2] for row in table((ROOT / "docs/dependencies.md").read_text(encoding="utf-8"))]
    listed = {name for cell in rows for name in re.findall(r"`([^`]+)`", cell)}
    assert listed == {re.split(r"[><=]", name)[0] for name in wanted}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        name, _, heading = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


def table(text: str) -> list[list[str]]:
    """The cells of every table's rows, without the lines under the headers."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not set(line) <= set("|-: ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
