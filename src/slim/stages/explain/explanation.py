"""What `slim.explain` found: concepts that the model relies on, and properties associated with a label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from slim.arrays import Bytes, Flags
from slim.errors import SettingsError
from slim.metrics import difference_interval
from slim.record import Record
from slim.stages.explain.effects import LEAST, Effect
from slim.stages.explain.properties import Property

LEAST_IMAGES = 5
"""Held-out images with a concept from which errors count."""

Verdict = Literal["misleads", "needed", "no effect shown"]


@dataclass(frozen=True)
class Errors:
    """Accuracy on held-out images of other classes than a concept's, with and without the concept.

    Attributes
    ----------
    n_with, accuracy_with
        Images that show it, and the model's accuracy on them; None without any.
    n_without, accuracy_without
        The same for images that do not show it.
    low, high
        Interval of ``accuracy_with - accuracy_without``, at 95 % for all intervals of an explanation together.
    """

    n_with: int
    accuracy_with: float | None
    n_without: int
    accuracy_without: float | None
    low: float
    high: float

    @classmethod
    def measured(cls, right: Flags, shown: Flags, z: float) -> Errors:
        """From whether the model is right about each image (n,), and whether each shows the concept (n,)."""
        n, m, hits, others = int(shown.sum()), int((~shown).sum()), int(right[shown].sum()), int(right[~shown].sum())
        bounds = difference_interval((hits, n), (others, m), z)
        return cls(n, hits / n if n else None, m, others / m if m else None, *bounds)

    @property
    def change(self) -> float:
        """``accuracy_with - accuracy_without``; 0 where either is unknown."""
        if self.accuracy_with is None or self.accuracy_without is None:
            return 0.0
        return self.accuracy_with - self.accuracy_without

    @property
    def are_shown(self) -> bool:
        """Whether the model is wrong more often where the concept is, and not by little."""
        return self.n_with >= LEAST_IMAGES and self.high < 0 and self.change <= -LEAST


@dataclass(frozen=True)
class Concept:
    """A kind of place that is associated with a class.

    Attributes
    ----------
    number
        Names it in commands.
    class_name
        The class that it is associated with.
    area
        Share of all places of the train images, in [0, 1].
    attention
        Mean attention of its places, relative to that of all places: 2 = looked at twice as much.
    own, others
        Share of the train images of the class, and of other classes, that show it.
    errors
        The model's errors on other classes, with and without it.
    needs
        Effect of erasing it, and of swapping it, on images of its class; None where this could not be measured.
    misleads
        The same on images of other classes.
    """

    number: int
    class_name: str
    area: float
    attention: float
    own: float
    others: float
    errors: Errors
    needs: dict[str, Effect | None]
    misleads: dict[str, Effect | None]

    @property
    def verdict(self) -> Verdict:
        """What is shown.

        "misleads": the model is wrong more often about images of other classes that show it, and swapping it corrects
        them (or erasing it, where it cannot be swapped). "needed": its own class is recognised less without it.
        """
        if self.errors.are_shown and _is_shown(self.misleads, 1):
            return "misleads"
        return "needed" if _is_shown(self.needs, -1) else "no effect shown"


def _is_shown(effects: Mapping[str, Effect | None], sign: Literal[-1, 1]) -> bool:
    """Whether swapping changes accuracy, or erasing, where swapping was not measured."""
    effect = effects["swapped"] or effects["erased"]
    return effect is not None and effect.is_shown(sign)


@dataclass(frozen=True, eq=False)
class Explanation(Record):
    """What a model relies on; see `slim.explain`.

    Attributes
    ----------
    concepts
        Those associated with a class, misleading ones first.
    properties
        Properties of whole images that are associated with a class, the strongest first.
    pictures
        (n_concepts, 2, m, s, s, 3) for each concept, m images with its places outlined, and close-ups of the same
        places.
    extremes
        (n_properties, m, s, s, 3) the m train images where each property is most extreme, on the side in question.
    n_concepts
        Number of concepts found; those associated with no class are not in `concepts`.
    names
        What people call the concepts, by number as text.
    """

    concepts: tuple[Concept, ...]
    properties: tuple[Property, ...]
    pictures: Bytes
    extremes: Bytes
    n_concepts: int
    names: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Explanation({self.summary()})"

    def _repr_html_(self) -> str:
        from slim.stages.explain.page import in_notebook  # which shows explanations, and so imports this module

        return in_notebook(self)

    @property
    def misleading(self) -> tuple[Concept, ...]:
        """The concepts that are shown to mislead the model."""
        return tuple(one for one in self.concepts if one.verdict == "misleads")

    def summary(self) -> str:
        """What was found, in one line."""
        named = ", ".join(self.name(one) for one in self.misleading) or "nothing shown"
        if not self.concepts:
            named += f", since none of {self.n_concepts} kinds of places is associated with a class"
        n = len({one.name for one in self.properties})
        properties = (
            f"{n} {'property is' if n == 1 else 'properties are'} associated with a class"
            if n
            else "no property is associated with a class"
        )
        return f"misleading: {named}; {properties}"

    def name(self, concept: Concept) -> str:
        """What people call a concept, or its number."""
        return self.names.get(str(concept.number), f"concept {concept.number}")

    def named(self, names: Mapping[int, str]) -> Explanation:
        """With names for some concepts; an empty one removes it.

        Raises
        ------
        SettingsError
            There is no such concept.
        """
        known = [one.number for one in self.concepts]
        for number in names:
            if number not in known:
                listed = ", ".join(map(str, known)) or "none"
                raise SettingsError(f"A name needs the number of a concept. Got {number}. There are: {listed}.")
        merged = self.names | {str(number): name.strip() for number, name in names.items()}
        return replace(self, names={number: name for number, name in merged.items() if name})
