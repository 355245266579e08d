"""Every error message says what must hold, what SLIM got instead, and what to do next."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import slim

SOURCE = Path(slim.__file__).parent
RAISED = {"SlimError", "DataError", "ModelError", "SettingsError", "AnnotationError", "ArtifactError", "UsageError"}
REQUIREMENT = r".*?\b(must|needs?|should|can|cannot)\b.*?[.)]"
TEMPLATE = re.compile(rf"(?P<requirement>{REQUIREMENT}) Got\b(?P<instead>.+?)\. (?P<next>[A-Z{{].*)", re.DOTALL)
COMMAND = re.compile(r".*: (slim|pip|fiftyone) [^.]+|.*(--\w[\w-]*|--data FOLDER|--budget N)")


def text(node: ast.expr) -> str | None:
    """A string as it stands in the source, its values as names in braces; None for any other expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [text(value) if isinstance(value, ast.Constant) else "{value}" for value in node.values]
        return "".join(part or "" for part in parts)
    return None


def messages(file: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each error that a module raises with a message of its own."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "id", getattr(node.func, "attr", None))
            message = text(node.args[0])
            if name in RAISED and message is not None and re.search(r"\w", message.replace("{value}", "")):
                yield node.lineno, message


MESSAGES = [
    pytest.param(message, id=f"{file.relative_to(SOURCE).as_posix()}:{line}")
    for file in sorted(SOURCE.rglob("*.py"))
    for line, message in messages(file)
]


def test_messages_are_found() -> None:
    assert len(MESSAGES) > 150


@pytest.mark.parametrize("message", MESSAGES)
def test_message_says_what_must_hold_what_came_and_what_to_do(message: str) -> None:
    follows = TEMPLATE.fullmatch(message)
    assert follows
    assert follows["next"].endswith((".", "{value}")) or COMMAND.fullmatch(follows["next"])
    assert "\n" not in message
