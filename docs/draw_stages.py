"""Draws the stages from `slim.stages.STAGES`: docs/stages.svg, and the tables between markers in docs/*.md.

python docs/draw_stages.py
"""

from __future__ import annotations

import re
from pathlib import Path

from slim.stages import STAGES, Stage

DOCS = Path(__file__).parent
BEGIN, END = "<!-- drawn by docs/draw_stages.py -->", "<!-- end -->"

ROW, LANE, LEFT, TOP = 44, 86, 124, 64
"""Height of a stage, width of a record's lane, and where the first of each begins, in pixels."""


def picture() -> str:
    """A line down for each record, from the stage that makes it (a disc) to the last that reads it (a ring each)."""
    stages = list(STAGES.values())
    nouns = ["data", *(stage.noun for stage in stages)]
    width, height = LEFT + LANE * len(nouns), TOP + ROW * len(stages)
    parts = [f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for row, stage in enumerate(stages):
        y = TOP + ROW * row
        parts.append(f'<rect x="8" y="{y}" width="{width - 16}" height="{ROW - 8}" rx="6" fill="#f1f3f6"/>')
        parts.append(
            f'<text x="20" y="{_middle(row) + 5}"><tspan font-weight="700">{row + 1} {stage.verb}</tspan></text>'
        )
    for lane, noun in enumerate(nouns):
        x = LEFT + LANE * lane + LANE // 2
        made = lane - 1  # the data come from outside
        readers = [row for row, stage in enumerate(stages) if noun in stage.reads.split()]
        start = TOP - 14 if made < 0 else _middle(made)
        if readers:
            parts.append(f'<path d="M{x} {start}V{_middle(readers[-1])}" stroke="#3b6ea5" stroke-width="2"/>')
        if made >= 0:
            parts.append(f'<circle cx="{x}" cy="{start}" r="7" fill="#3b6ea5"/>')
        parts += [
            f'<circle cx="{x}" cy="{_middle(row)}" r="5" fill="#fff" stroke="#3b6ea5" stroke-width="2"/>'
            for row in readers
        ]
        parts.append(f'<text x="{x}" y="{TOP - 24}" text-anchor="middle" fill="#3b6ea5">{noun}</text>')
    label = "The stages, and which records each of them makes (discs) and reads (rings)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="sans-serif" font-size="13"><title>{label}</title>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _middle(row: int) -> int:
    return TOP + ROW * row + (ROW - 8) // 2


def table_of_records() -> str:
    """What each stage reads and returns."""
    lines = [
        "| | function and command | reads | settings | record | folder |",
        "|---|---|---|---|---|---|",
    ]
    for number, stage in enumerate(STAGES.values(), 1):
        settings = f"`{stage.settings.__name__}`" if stage.settings else ""
        reads = ", ".join(stage.reads.split())
        lines.append(
            f"| {number} | `slim.{stage.verb}`, `slim {stage.verb}` | {reads} | {settings} | `{stage.record.__name__}` "
            f"| `{stage.folder}` |"
        )
    return "\n".join(lines)


def table_of_commands() -> str:
    """What each stage does, and its page."""
    lines = ["| command | what it does | page |", "|---|---|---|"]
    return "\n".join(lines + [_command(stage) for stage in STAGES.values()])


def _command(stage: Stage) -> str:
    return f"| `slim {stage.verb}` | {stage.purpose} | [{stage.verb}]({stage.verb}.md) |"


def drawn() -> dict[Path, str]:
    """The content of every file that is drawn, by its path."""
    pages = {"architecture.md": table_of_records(), "stages.md": table_of_commands()}
    files = {DOCS / name: _between_markers((DOCS / name).read_text("utf-8"), table) for name, table in pages.items()}
    return {DOCS / "stages.svg": picture(), **files}


def _between_markers(page: str, table: str) -> str:
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table}\n{END}", page, flags=re.DOTALL)


if __name__ == "__main__":
    for path, content in drawn().items():
        path.write_text(content, encoding="utf-8")
