"""The model card of an exported model: what it is, what it was measured at, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slim.network.adapters import LogitsOf
from slim.network.classifier import Classifier
from slim.network.export import Exported
from slim.stages.report.wording import interval, percent

_MODELS = ("reference", "random_subset", "retrained")
_RETRAINED = {
    "recomposed": "on the object of each image, pasted onto the backgrounds of other images",
    "subset": "on a curated subset, balanced over what the model sees",
}


def model_card(name: str, classifier: Classifier, exported: Exported, metrics: Mapping[str, Any], images: str) -> str:
    """The card, as Hugging Face's hub reads it.

    Parameters
    ----------
    name
        What the model is called.
    classifier
        The exported classifier.
    exported
        How to load it.
    metrics
        Of the report.
    images
        What it was retrained on: "recomposed", "subset" or "none".

    Returns
    -------
    str
        Markdown, to be saved as ``README.md``.
    """
    settings, data = metrics["settings"], metrics["dataset"]
    part = "the last layer" if settings["retrain"]["mode"] == "last-layer" else "the whole network"
    how = f" SLIM retrained {part} {_RETRAINED[images]}." if images in _RETRAINED else ""
    size, (mean, std) = classifier.image_size, (classifier.mean, classifier.std)
    takes_pixels = exported.library == "onnx"
    return (
        "\n\n".join(
            [
                f"---\nlibrary_name: {exported.library}\npipeline_tag: image-classification\n"
                "tags:\n- spurious-correlations\n- slim\n---",
                f"# {name}",
                f"{_architecture(classifier)} for {classifier.n_classes} classes, examined on {data['name']}. "
                f"{metrics['headline']}{how}",
                "## Use",
                f"```python\n{exported.code}\n```",
                f"Input: RGB, the whole frame resized to {size} x {size} (bilinear, without cropping), divided by 255"
                + (
                    "; the model normalises by itself."
                    if takes_pixels
                    else f", normalised with mean ({_plain(mean)}) and standard deviation ({_plain(std)})."
                ),
                _table(["Output", "Class"], list(enumerate(classifier.class_names))),
                "## Test accuracy, before and after",
                _overview(metrics),
                _groups(metrics),
                f"Groups are {metrics['retrained']['groups_are']}; intervals are Wilson's, 95 %. Images: "
                + ", ".join(f"{n} {split}" for split, n in data["splits"].items())
                + ".",
                "## How it was made",
                f"SLIM {metrics['version']}, seed {metrics['seed']}, {metrics['created']}. "
                f"Judgements: {metrics['judgements']}, by {metrics['judgement_answers']['annotator']}. "
                "What was learnt about one data set need not hold for photographs from other sources.",
                _warnings(metrics["warnings"]),
            ]
        ).rstrip()
        + "\n"
    )


def _architecture(classifier: Classifier) -> str:
    """The name of the architecture, without the folder that it may have come from."""
    module = classifier.module.model if isinstance(classifier.module, LogitsOf) else classifier.module
    arch = classifier.arch or ""
    return arch if arch and not arch.startswith(("transformers:", "local-dir:")) else type(module).__name__


def _plain(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def _overview(metrics: Mapping[str, Any]) -> str:
    """A row per model: its worst group, its average, and what it was told."""
    rows = []
    for key in _MODELS:
        model = metrics[key]
        worst: Mapping[str, Any] = next(
            (group for group in model["groups"] if group["name"] == model["worst_group"]), {}
        )
        accuracy = f"{percent(model['worst_group_accuracy'])} ({interval(worst)})"
        adjusted = percent(model["adjusted_average_accuracy"])
        rows.append([model["title"], accuracy, percent(model["average_accuracy"]), adjusted, model["supervision"]])
    return _table(["Model", "Worst group", "Average", "Adjusted average", "Supervision"], rows)


def _groups(metrics: Mapping[str, Any]) -> str:
    """A row per group, before and after."""
    before, after = (metrics[key]["groups"] for key in ("reference", "retrained"))
    rows = [
        [one["name"], one["n"], *(f"{percent(group['accuracy'])} ({interval(group)})" for group in (one, other))]
        for one, other in zip(before, after, strict=True)
    ]
    return _table(["Group", "Images", "Before", "After"], rows)


def _warnings(texts: Sequence[str]) -> str:
    """What to know before the numbers are trusted."""
    return "\n".join(["Warnings of the run:", "", *(f"- {text}" for text in texts)]) if texts else ""
