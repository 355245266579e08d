"""An explanation for people: a table in the terminal, and a page that makes no request."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment
from PIL import Image
from rich import box
from rich.table import Table
from rich.text import Text

from slim.arrays import Bytes
from slim.pages import data_uri, templates
from slim.stages.explain.effects import Effect
from slim.stages.explain.explanation import Concept, Explanation
from slim.stages.explain.properties import Property

VERDICTS = {
    "misleads": "misleads the model",
    "needed": "needed by its own class",
    "no effect shown": "no effect shown",
}
MEANING = (
    "A concept misleads if the model is wrong more often about images of other classes that show it, and swapping it "
    "corrects them: suspect a shortcut. If only its own class needs it, it may be the object itself: look at the "
    "pictures. Changes are in points of accuracy, relative to a control; the intervals hold jointly at 95 %."
)


def points(effect: Effect | None) -> str:
    """A change in points of accuracy with its interval.

    Examples
    --------
    >>> points(Effect(60, 0.37, 0.93, 0.23, 0.7, 0.5, 0.86))
    '+70 (+50 to +86)'
    """
    if effect is None:
        return "not measured"
    change, low, high = (f"{100 * value:+.0f}" for value in (effect.change, effect.low, effect.high))
    return f"{change} ({low} to {high})"


def accuracy(value: float | None, n: int) -> str:
    """An accuracy with the number of its images.

    Examples
    --------
    >>> accuracy(0.302, 53), accuracy(None, 0)
    ('30 % of 53', 'no image')
    """
    return "no image" if value is None else f"{100 * value:.0f} % of {n}"


def described(one: Property) -> str:
    """What ties a property to a class, in one sentence.

    Examples
    --------
    >>> described(Property("brightness", "dog", "level", 900, 0.83, 0.8, 0.86, 0.5, 0, None, 0, None, 9.0))
    'dog: higher values (AUC 0.83, 0.80 to 0.86)'
    """
    if one.kind == "level":
        side = "higher" if one.effect > one.expected else "lower"
        return f"{one.class_name}: {side} values (AUC {one.effect:.2f}, {one.low:.2f} to {one.high:.2f})"
    shares = [f"{100 * share:.0f}" for share in (one.effect, one.low, one.high, one.expected)]
    return (
        f"{one.class_name}: {shares[0]} % ({shares[1]} to {shares[2]} %) of the {one.n} images with unusually "
        f"{one.kind} values, {shares[3]} % of all"
    )


def tables(explanation: Explanation) -> list[Table]:
    """The concepts and the properties for the terminal."""
    concepts = Table("Concept", box=box.SIMPLE_HEAD, header_style="bold", caption=MEANING, caption_justify="left")
    for title in ("Images\nthat show it", "Their\naccuracy", "Change when\nerased", "Change when\nswapped"):
        concepts.add_column(title, justify="right", no_wrap=True)
    for one in explanation.concepts:
        style = "bold" if one.verdict == "misleads" else None
        concepts.add_row(Text(f"{explanation.name(one)}: {VERDICTS[one.verdict]}"), style=style)
        own = points(one.needs["erased"]), points(one.needs["swapped"])
        concepts.add_row(Text(f"  {one.class_name}"), f"{100 * one.own:.0f} %", "", *own)
        others = points(one.misleads["erased"]), points(one.misleads["swapped"])
        concepts.add_row("  other classes, with it", f"{100 * one.others:.0f} %", _with(one), *others)
        concepts.add_row("  other classes, without it", "", _without(one), "", "", end_section=True)
    properties = Table("Property", "Associated with", box=box.SIMPLE_HEAD, header_style="bold")
    for column in ("Accuracy where\nit fits the class", "Accuracy where\nit does not"):
        properties.add_column(column, justify="right")
    for item in explanation.properties:
        fits = accuracy(item.accuracy_usual, item.n_usual), accuracy(item.accuracy_unusual, item.n_unusual)
        properties.add_row(*map(Text, (item.name, f"{described(item)}{_swapped(item)}", *fits)))
    return [table for table in (concepts, properties) if table.row_count]


def _swapped(one: Property) -> str:
    """What swapping a part of the image changes, where that was measured."""
    if one.needs is None and one.misleads is None:
        return ""
    return f"; swapped: {points(one.needs)} points, other classes {points(one.misleads)}"


def _with(one: Concept) -> str:
    return accuracy(one.errors.accuracy_with, one.errors.n_with)


def _without(one: Concept) -> str:
    return accuracy(one.errors.accuracy_without, one.errors.n_without)


def page(explanation: Explanation, title: str) -> str:
    """A page of its own, which needs no other file and no network.

    Parameters
    ----------
    explanation
        What to show.
    title
        Of the page, for instance the name of the data set.
    """
    return _environment().get_template("explain.html.j2").render(title=title, **_view(explanation))


def section(explanation: Explanation) -> str:
    """The same as a section of another page, in HTML."""
    return _environment().get_template("section.html.j2").render(_view(explanation))


def in_notebook(explanation: Explanation) -> str:
    """The same for a notebook, in colours that can be read on light and on dark pages."""
    colours = "--line: #8886; --soft: inherit; --reference: #c2500a"
    return f'<div style="{colours}; max-width: 900px">{section(explanation)}</div>'


def _view(explanation: Explanation) -> dict[str, Any]:
    """Everything that the templates show."""
    concepts = [
        {
            "one": one,
            "name": explanation.name(one),
            "verdict": VERDICTS[one.verdict],
            "errors": f"{_with(one)} / {_without(one)}",
            "rows": [_addresses(row) for row in pictures],
        }
        for one, pictures in zip(explanation.concepts, explanation.pictures, strict=True)
    ]
    properties = [
        {"one": one, "pictures": _addresses(pictures)}
        for one, pictures in zip(explanation.properties, explanation.extremes, strict=True)
    ]
    return {"explanation": explanation, "concepts": concepts, "properties": properties, "meaning": MEANING}


@cache
def _environment() -> Environment:
    """The template engine, with every text escaped."""
    environment = templates("slim.stages.explain")
    environment.globals |= {"points": points, "swapped": _swapped, "accuracy": accuracy, "described": described}
    return environment


def _addresses(pictures: Bytes) -> list[str]:
    """Pictures (m, s, s, 3) as addresses that hold them, without black ones."""
    return [data_uri(Image.fromarray(picture)) for picture in pictures if picture.any()]
