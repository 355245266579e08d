"""The run in short, for readers who will read nothing else: what was wrong, what is better, what is worse, the cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slim.stages.report.findings import evaluations
from slim.stages.report.records import ReportInput
from slim.stages.report.wording import duration, percent

Line = Mapping[str, Any]


def summary(report: ReportInput) -> list[tuple[str, str]]:
    """Pairs of a heading and a sentence or two.

    Groups count as better or worse only where their Wilson intervals before and after do not overlap.
    """
    evaluated = evaluations(report)
    before, after = (evaluated[key]["groups"] for key in ("reference", "retrained"))
    later = {line["name"]: line for line in after}
    pairs = [(line, later[line["name"]]) for line in before if line["n"] and line["name"] in later]
    kept = report.images == "none"
    parts = [("What was found", _found(report))]
    parts += [] if kept else [("What got better", _changed(pairs, 1)), ("What got worse", _changed(pairs, -1))]
    return [(title, text) for title, text in [*parts, ("What it cost", _cost(report))] if text]


def _found(report: ReportInput) -> str:
    """Whether the reference model relies on backgrounds."""
    reliance = report.reliance
    if reliance is None:
        return ""
    verdict = "The model relies on the background" if reliance.on_background else "The background hardly matters"
    return (
        f"{verdict}: of objects that were cut out and put on other photographs, it recognises {percent(reliance.same)} "
        f"on backgrounds of their own class and {percent(reliance.other)} on backgrounds of other classes."
    )


def _changed(pairs: list[tuple[Line, Line]], sign: int) -> str:
    """The groups that are clearly better (sign 1) or worse (-1), and by how much the first of them."""
    clear = [(old, new) for old, new in pairs if sign * (new["accuracy"] - old["accuracy"]) > 0 and _apart(old, new)]
    if not clear:
        return f"No group is clearly {'better' if sign > 0 else 'worse'}."
    old, new = max(clear, key=lambda pair: sign * (pair[1]["accuracy"] - pair[0]["accuracy"]))
    most = f"“{old['name']}” went from {percent(old['accuracy'])} to {percent(new['accuracy'])}"
    return f"{len(clear)} of {len(pairs)} groups; {'most of all, ' if len(clear) > 1 else ''}{most}."


def _apart(one: Line, other: Line) -> bool:
    """Whether two intervals do not overlap; unknown ones count as overlapping."""
    if any(line.get(side) is None for line in (one, other) for side in ("low", "high")):
        return False
    return bool(one["low"] > other["high"] or other["low"] > one["high"])


def _cost(report: ReportInput) -> str:
    """What people and the machine spent."""
    judgements = report.judgements
    seconds = judgements.get("seconds", 0)
    by = f"in {duration(seconds)}" if seconds else f"({judgements['annotator']}; no time recorded)"
    places = judgements.get("places", 0)
    clicked = f", {places:,} of them with a click on the object" if places else ""
    total = sum(stage["seconds"] for stage in report.stages)
    computing = f" Computing took {duration(total)} on {report.device}." if total else ""
    return f"{judgements['judged']:,} photographs judged {by}{clicked}.{computing}"
