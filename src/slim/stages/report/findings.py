"""The result of a run: in words, as plainly when SLIM did not help as when it did, and as numbers for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from slim.stages.report.records import MODEL_KEYS, SPLIT_NAMES, ModelRow, ReportInput
from slim.stages.report.wording import percent, plain
from slim.stages.retrain.choices import ModelKey

Verdict = Literal["helped", "near_random", "within_error", "no_better_than_random", "did_not_help", "kept"]


@dataclass(frozen=True)
class Headline:
    """The result in words.

    Attributes
    ----------
    verdict
        ``helped``; ``near_random``: helped, but not clearly more than a random subset; ``within_error``: better, but
        the worst groups' intervals overlap; ``no_better_than_random``; ``did_not_help``; ``kept``: no shortcut was
        found, and the reference model is kept.
    text
        One sentence.
    detail
        Further sentences that put it into proportion.
    """

    verdict: Verdict
    text: str
    detail: str


def evaluations(report: ReportInput) -> dict[ModelKey, dict[str, Any]]:
    """Plain evaluation of each model, in the order of the page."""
    by_key = {row.key: plain(row.evaluation) for row in report.rows}
    return {key: by_key[key] for key in MODEL_KEYS if key in by_key}


def worst_line(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row of the group with the worst-group accuracy."""
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


def _verdict(evaluated: Mapping[ModelKey, Mapping[str, Any]]) -> Verdict:
    """The verdict on the three models' worst groups."""
    before, after, by_chance = evaluated["reference"], evaluated["retrained"], evaluated.get("random_subset")
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
    "its lead over a random subset is within the margin of error.",
    "within_error": "SLIM’s gain is within the margin of error: worst-group accuracy went from {before} to {after}.",
    "no_better_than_random": "SLIM did not help here: a random subset of the same size does as well or better.",
    "did_not_help": "SLIM did not help here: worst-group accuracy went from {before} to {after}.",
    "kept": "SLIM found no shortcut and kept the reference model: worst-group accuracy is {before}.",
}


def _comparison(evaluated: Mapping[ModelKey, Mapping[str, Any]]) -> list[str]:
    """Whether SLIM's worst-group accuracy differs from the other models' by more than the margin of error."""
    names: dict[ModelKey, str] = {"reference": "from the reference model"}
    if "random_subset" in evaluated:
        reached = percent(evaluated["random_subset"]["worst_group_accuracy"])
        names["random_subset"] = f"from a random subset of the same size ({reached})"
    endings = {
        False: "larger than the margin of error.",
        True: "within the margin of error: the 95\u00a0% intervals overlap.",
    }
    sentences = []
    for within, ending in endings.items():
        own = [name for key, name in names.items() if _overlap(evaluated[key], evaluated["retrained"]) is within]
        if own:
            subject, verb = ("The differences", "are") if len(own) > 1 else ("The difference", "is")
            sentences.append(f"{subject} {' and '.join(own)} {verb} {ending}")
    return sentences


def headline(report: ReportInput) -> Headline:
    """Put the result into words, as plainly when SLIM did not help as when it did.

    Two models count as different only if the Wilson intervals of their worst groups do not overlap, which is stricter
    than a test of the difference.

    Examples
    --------
    >>> from slim.stages.report.records import DataSummary, ModelRow, ReportInput
    >>> def row(key, accuracy, low, high):
    ...     group = {"name": "cat, place=1", "n": 100, "accuracy": accuracy, "low": low, "high": high}
    ...     evaluation = {"worst_group_accuracy": accuracy, "worst_group": "cat, place=1", "groups": [group],
    ...                   "average_accuracy": 0.9}
    ...     return ModelRow(key, key, "class labels", 200, evaluation)
    >>> report = ReportInput("demo", DataSummary("pets", {"train": 200}, ("cat", "dog")),
    ...                      [row("reference", 0.8, 0.71, 0.87), row("retrained", 0.7, 0.6, 0.78)],
    ...                      {"judged": 40, "share_of_pool": 0.2, "pool": "train"}, 20, seed=0, version="0.2.0",
    ...                      created="today")
    >>> headline(report).verdict
    'did_not_help'
    """
    evaluated = evaluations(report)
    verdict = "kept" if report.images == "none" else _verdict(evaluated)
    before, after = evaluated["reference"], evaluated["retrained"]
    numbers = {"before": percent(before["worst_group_accuracy"]), "after": percent(after["worst_group_accuracy"])}
    judgements = report.judgements
    share = f"{percent(plain(judgements['share_of_pool']))} of the {SPLIT_NAMES[judgements['pool']]} images"
    used = "recomposed images" if report.images == "recomposed" else f"a subset of {report.subset_size:,} images"
    cost = f"It took {judgements['judged']:,} judgements ({share}) and {used}."
    average = (
        f"Average accuracy went from {percent(before['average_accuracy'])} to {percent(after['average_accuracy'])}."
    )
    detail = " ".join([cost, *_comparison(evaluated), average])
    return Headline(verdict, _SENTENCES[verdict].format(**numbers), detail)


def notices(report: ReportInput) -> list[str]:
    """The run's warnings, and those that follow from the evaluations."""
    texts = list(report.warnings)
    for row in report.rows:
        if row.evaluation.get("predicts_one_class"):
            texts.append(f"{row.title} predicts one class for every test image. Check its training first.")
    missing = sorted({name for row in report.rows for name in row.evaluation.get("missing_groups", ())})
    if missing:
        texts.append(
            "These groups have no test image, so no worst-group accuracy on this page covers them: "
            f"{'; '.join(missing)}. The true worst group may be among them."
        )
    return texts


def _row_metrics(row: ModelRow) -> dict[str, Any]:
    """The metrics of one model."""
    evaluation: dict[str, Any] = plain(row.evaluation)
    named = {
        "title": row.title,
        "supervision": row.supervision,
        "train_images": row.train_images,
        "inside_fraction": measure(evaluation, "inside_fraction").get("value"),
    }
    return named | evaluation


def metrics(report: ReportInput) -> dict[str, Any]:
    """All numbers of a run as plain JSON values.

    Parameters
    ----------
    report
        The gathered results.

    Returns
    -------
    dict
        ``reference``, ``random_subset`` and ``retrained``, each the model's evaluation with ``inside_fraction`` (None
        without masks), ``train_images`` and ``supervision`` (None for a model that was not evaluated);
        ``judgements`` (how many images were judged), ``judgement_answers``, ``train_images`` (of the train split),
        ``subset_size``, ``trust``, ``verdict``, ``headline``, ``warnings`` and the run's settings and version. An
        undefined number is None, never NaN.
    """
    rows = {row.key: row for row in report.rows}
    result = headline(report)
    values = {
        "title": report.title,
        "verdict": result.verdict,
        "headline": result.text,
        **{str(key): _row_metrics(rows[key]) if key in rows else None for key in MODEL_KEYS},
        "judgements": report.judgements["judged"],
        "judgement_answers": report.judgements,
        "train_images": report.data.splits["train"],
        "subset_size": report.subset_size,
        "dataset": {item.name: getattr(report.data, item.name) for item in fields(report.data)},
        "trust": report.trust,
        "cells": report.subset,
        "warnings": notices(report),
        "stages": report.stages,
        "settings": report.settings,
        **{name: getattr(report, name) for name in ("seed", "version", "created", "device", "arithmetic")},
    }
    numbers: dict[str, Any] = plain(values)
    return numbers
