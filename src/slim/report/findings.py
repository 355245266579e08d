"""What a run found: in words, as plainly when it is no success as when it is, and as numbers for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from slim.report.records import MODEL_KEYS, ModelKey, ModelRow, ReportInput
from slim.report.wording import percent, plain

Verdict = Literal["helped", "near_random", "within_error", "no_better_than_random", "did_not_help", "kept"]


@dataclass(frozen=True)
class Headline:
    """What the run found, in words.

    Attributes
    ----------
    verdict
        ``helped``; ``near_random``: helped, but not clearly more than a random subset; ``within_error``: better, but
        the worst groups' intervals overlap; ``no_better_than_random``; ``did_not_help``; ``kept``: no shortcut was
        found, and the reference stays.
    text
        One sentence.
    detail
        The sentences that put it in proportion.
    """

    verdict: Verdict
    text: str
    detail: str


def evaluations(report: ReportInput) -> dict[ModelKey, dict[str, Any]]:
    """Plain evaluation of each model, in the order of the page."""
    found = {row.key: plain(row.evaluation) for row in report.rows}
    return {key: found[key] for key in MODEL_KEYS if key in found}


def worst_line(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    """The line of the group that gives the worst-group accuracy."""
    return next((g for g in evaluation["groups"] if g["name"] == evaluation["worst_group"]), {})


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the intervals of the two worst groups overlap; unknown intervals count as overlapping."""
    first, second = worst_line(one), worst_line(other)
    if any(line.get(side) is None for line in (first, second) for side in ("low", "high")):
        return True
    return bool(first["low"] <= second["high"] and second["low"] <= first["high"])


def measure(evaluation: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """One measure of attention quality; empty where it was not taken."""
    return (evaluation.get("attention") or {}).get(name) or {}


def _verdict(found: Mapping[ModelKey, Mapping[str, Any]]) -> Verdict:
    """What the worst groups of the three models say."""
    before, after, by_chance = found["reference"], found["retrained"], found.get("random_subset")
    accuracy = after["worst_group_accuracy"]
    if accuracy <= before["worst_group_accuracy"]:
        return "did_not_help"
    if by_chance and accuracy <= by_chance["worst_group_accuracy"]:
        return "no_better_than_random"
    if _overlap(before, after):
        return "within_error"
    return "near_random" if by_chance and _overlap(by_chance, after) else "helped"


_SENTENCES: dict[Verdict, str] = {
    "helped": "SLIM raised worst-group accuracy from {before} to {after}.",
    "near_random": "SLIM raised worst-group accuracy from {before} to {after}; "
    "its lead over a random subset is within the error.",
    "within_error": "SLIM’s gain is within the error: worst-group accuracy went from {before} to {after}.",
    "no_better_than_random": "SLIM did not help here: a random subset of the same size does as well or better.",
    "did_not_help": "SLIM did not help here: worst-group accuracy went from {before} to {after}.",
    "kept": "SLIM found no shortcut and kept the reference model: worst-group accuracy is {before}.",
}


def _comparison(found: Mapping[ModelKey, Mapping[str, Any]]) -> list[str]:
    """Whether SLIM's worst group differs from the other models' by more than the error."""
    names: dict[ModelKey, str] = {"reference": "from the reference model"}
    if "random_subset" in found:
        reached = percent(found["random_subset"]["worst_group_accuracy"])
        names["random_subset"] = f"from a random subset of the same size ({reached})"
    endings = {False: "larger than the error.", True: "within the error: the 95\u00a0% intervals overlap."}
    sentences = []
    for within, ending in endings.items():
        own = [name for key, name in names.items() if _overlap(found[key], found["retrained"]) is within]
        if own:
            subject, verb = ("The differences", "are") if len(own) > 1 else ("The difference", "is")
            sentences.append(f"{subject} {' and '.join(own)} {verb} {ending}")
    return sentences


def headline(report: ReportInput) -> Headline:
    """Say what the run found, as plainly when SLIM did not help as when it did.

    Two models differ only where the Wilson intervals of their worst groups do not overlap, which is stricter than a
    test of the difference.

    Examples
    --------
    >>> from slim.report import DataSummary, ModelRow, ReportInput
    >>> def row(key, accuracy, low, high):
    ...     group = {"name": "cat, place=1", "n": 100, "accuracy": accuracy, "low": low, "high": high}
    ...     evaluation = {"worst_group_accuracy": accuracy, "worst_group": "cat, place=1", "groups": [group],
    ...                   "average_accuracy": 0.9}
    ...     return ModelRow(key, key, "class labels", 200, evaluation)
    >>> report = ReportInput("demo", DataSummary("pets", {"train": 200}, ("cat", "dog")),
    ...                      [row("reference", 0.8, 0.71, 0.87), row("retrained", 0.7, 0.6, 0.78)],
    ...                      {"asked": 40, "share_of_train": 0.2}, 20, seed=0, version="0.1.0", created="today")
    >>> headline(report).verdict
    'did_not_help'
    """
    found = evaluations(report)
    verdict = _verdict(found) if report.shortcut else "kept"
    before, after = found["reference"], found["retrained"]
    numbers = {"before": percent(before["worst_group_accuracy"]), "after": percent(after["worst_group_accuracy"])}
    asked = report.judgements
    cost = (
        f"It took {asked['asked']:,} judgements ({percent(plain(asked['share_of_train']))} of the training images) "
        f"and a subset of {report.subset_size:,} images."
    )
    average = (
        f"Average accuracy went from {percent(before['average_accuracy'])} to {percent(after['average_accuracy'])}."
    )
    detail = " ".join([cost, *_comparison(found), average])
    return Headline(verdict, _SENTENCES[verdict].format(**numbers), detail)


def notices(report: ReportInput) -> list[str]:
    """The run's warnings, and what the evaluations themselves warn of."""
    found = list(report.warnings)
    for row in report.rows:
        if row.evaluation.get("predicts_one_class"):
            found.append(f"{row.title} predicts one class for every test image. Look at its training first.")
    missing = sorted({name for row in report.rows for name in row.evaluation.get("missing_groups", ())})
    if missing:
        found.append(
            "Without a test image, and so in no worst-group accuracy on this page: "
            f"{'; '.join(missing)}. The true worst group may be among them."
        )
    return found


def _row_metrics(row: ModelRow) -> dict[str, Any]:
    """One model's part of the metrics."""
    evaluation: dict[str, Any] = plain(row.evaluation)
    named = {
        "title": row.title,
        "supervision": row.supervision,
        "train_images": row.train_images,
        "inside_fraction": measure(evaluation, "inside_fraction").get("value"),
    }
    return named | evaluation


def metrics(report: ReportInput) -> dict[str, Any]:
    """All numbers of a run as JSON knows them.

    Parameters
    ----------
    report
        What the run found.

    Returns
    -------
    dict
        ``reference``, ``random_subset`` and ``retrained``, each the model's evaluation with ``inside_fraction`` (None
        without masks), ``train_images`` and ``supervision`` (None for a model that was not evaluated);
        ``judgements`` (how many were asked), ``judgement_answers``, ``train_images`` (of the train split),
        ``subset_size``, ``trust``, ``verdict``, ``headline``, ``warnings`` and what made the run. Where a number is
        undefined there is None, never NaN.
    """
    rows = {row.key: row for row in report.rows}
    found = headline(report)
    values = {
        "title": report.title,
        "verdict": found.verdict,
        "headline": found.text,
        **{str(key): _row_metrics(rows[key]) if key in rows else None for key in MODEL_KEYS},
        "judgements": report.judgements["asked"],
        "judgement_answers": report.judgements,
        "train_images": report.data.splits["train"],
        "subset_size": report.subset_size,
        "dataset": {item.name: getattr(report.data, item.name) for item in fields(report.data)},
        "trust": report.trust,
        "cells": report.subset,
        "warnings": notices(report),
        "stages": report.stages,
        "settings": report.settings,
        **{name: getattr(report, name) for name in ("seed", "version", "created", "device")},
    }
    numbers: dict[str, Any] = plain(values)
    return numbers
