"""Writes the reference pages of the site, docs/api and docs/cli, from the docstrings and the commands.

`make docs` calls it through docs/conf.py; neither folder is kept in the repository.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import click

import slim
from slim.cli.main import main
from slim.cli.options import GENERAL
from slim.stages import STAGES

TOPICS: dict[str, Callable[[str, str], bool]] = {
    "Stages": lambda name, home: name in STAGES,
    "Settings": lambda name, home: name.endswith("Settings"),
    "Data": lambda name, home: home.startswith("slim.data"),
    "Models": lambda name, home: home.startswith(("slim.network", "slim.training")),
    "Asking people": lambda name, home: home.startswith(("slim.stages.annotate", "slim.stages.judgements")),
    "Results": lambda name, home: home.startswith("slim.stages"),
    "Runs": lambda name, home: home.startswith("slim.runs"),
    "Errors and warnings": lambda name, home: home == "slim.errors",
    "More": lambda name, home: True,
}
"""The first topic that takes a public name, by the name and its module, is where the reference lists it."""


def public_names() -> dict[str, list[str]]:
    """The names of `slim.__all__` by topic, all but the version."""
    stub = ast.parse(Path(slim.__file__).with_suffix(".pyi").read_text("utf-8"))
    homes = {name.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for name in node.names}
    topics: dict[str, list[str]] = {topic: [] for topic in TOPICS}
    for name in sorted(set(slim.__all__) & set(homes), key=str.lower):
        topics[next(topic for topic, takes in TOPICS.items() if takes(name, str(homes[name])))].append(name)
    topics["Stages"] = list(STAGES)
    return topics


def topic_page(topic: str, names: list[str]) -> str:
    """A table of the names, and the documentation of each."""
    rows = "".join(f"   {name}\n" for name in names)
    table = f".. currentmodule:: slim\n\n.. autosummary::\n   :nosignatures:\n\n{rows}"
    kinds = {name: "class" if isinstance(getattr(slim, name), type) else "function" for name in names}
    return "\n".join(
        [_title(topic, "="), table, *(f"{_title(name, '-')}\n.. auto{kinds[name]}:: {name}\n" for name in names)]
    ).replace(
        # Most of what a run can do is written in its base class, which has no public name.
        ".. autoclass:: Run\n",
        ".. autoclass:: Run\n   :inherited-members:\n",
    )


def command_page(name: str, command: click.Command) -> str:
    """What the command's help says, each option with an anchor of its own."""
    context = click.Context(command, info_name=f"slim {name}".strip(), max_content_width=100)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [
        _title(context.info_name or "slim", "="),
        f"::\n\n   {context.info_name} {usage}\n",
        _prose(command.help or ""),
    ]
    sections: dict[str, list[str]] = {}
    for option in command.get_params(context):
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record is not None:
            heading = getattr(option, "heading", GENERAL)
            sections.setdefault(heading, []).append(f".. option:: {record[0]}\n\n   {_escaped(record[1])}\n")
    parts.append(f".. program:: {context.info_name}\n")
    parts += ["\n".join([_title(heading, "-"), *options]) for heading, options in sections.items()]
    return "\n".join(parts)


def _title(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


def _prose(text: str) -> str:
    """Paragraphs of a help text; those after a line with a backspace keep their lines."""
    return "\n\n".join(_paragraph(paragraph) for paragraph in text.split("\n\n")) + "\n"


def _paragraph(text: str) -> str:
    if text.startswith("\b\n"):
        return "::\n\n" + "\n".join(f"   {line}" for line in text.splitlines()[1:])
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def write() -> None:
    """Write the pages that are missing or stale, and remove those of names that are gone."""
    docs = Path(__file__).parent
    pages = {
        docs / "api" / f"{topic.lower().replace(' ', '-')}.rst": topic_page(topic, names)
        for topic, names in public_names().items()
    }
    listed = main.list_commands(click.Context(main))
    numbered = {name: f"{number:02}-{name}" for number, name in enumerate(listed, 1)}
    pages[docs / "cli" / "00-slim.rst"] = command_page("", main)
    pages |= {docs / "cli" / f"{numbered[name]}.rst": command_page(name, main.commands[name]) for name in listed}
    for folder in ("api", "cli"):
        (docs / folder).mkdir(exist_ok=True)
        for path in set((docs / folder).glob("*.rst")) - set(pages):
            path.unlink()
    for path, text in pages.items():
        if not path.exists() or path.read_text("utf-8") != text:  # Sphinx reads again what is newer
            path.write_text(text, encoding="utf-8")
