"""Settings of the annotation: query selection, and who answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from slim.errors import SettingsError

Selection = Literal["information", "centres"]
Until = Literal["budget", "settled"]
AnnotatorKind = Literal["auto", "masks", "boxes", "recorded", "browser", "terminal"]


@dataclass(frozen=True)
class AnnotateSettings:
    """Which images a person judges, and who answers.

    Parameters
    ----------
    budget
        Judgements per class.
    until
        When an oracle or recorded answers stop: when the "budget" is spent, or earlier, once the object maps are
        "settled", that is, once more answers would hardly change them. A person is told when that is so, and decides
        when to stop.
    select
        Query selection: the images whose answers are most informative about their class ("information"), or one near
        each of `budget` k-means "centres" of the plane (published).
    candidates
        With centres: each query is drawn from this many images nearest to its centre.
    annotator
        Who answers: masks or boxes (an oracle checks whether the attention lies on the object), recorded (answers from
        a CSV file), browser (you, on a page), terminal (you, with pictures in a folder). auto takes recorded answers
        if there is a file, else masks, else boxes, else asks you.
    recorded
        CSV file of recorded answers, with a column "path" or "index", a column "answer", and optionally "x" and "y" of
        clicks.
    noise
        Probability that an oracle's answer is flipped, from 0 to 1.
    clicks
        Whether an oracle that answers spurious also clicks on the object; False = core and spurious only.
    click_noise
        How far off an oracle's clicks are: up to this share of the image's side, from 0 to 0.5.
    threshold
        An oracle answers core when more than this share of the strong attention lies on the object.

    Examples
    --------
    >>> AnnotateSettings(budget=10, noise=0.1).annotator
    'auto'
    """

    budget: int = 20
    until: Until = "budget"
    select: Selection = "information"
    candidates: int = 5
    annotator: AnnotatorKind = "auto"
    recorded: str | None = None
    noise: float = 0.0
    clicks: bool = True
    click_noise: float = 0.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("budget", "candidates"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1. Got {getattr(self, name)}. Try --{name} 5.")
        if self.select not in get_args(Selection):
            known = " or ".join(get_args(Selection))
            raise SettingsError(f"select must be {known}. Got {self.select!r}. Try --select information.")
        if self.until not in get_args(Until):
            known = " or ".join(get_args(Until))
            raise SettingsError(f"until must be {known}. Got {self.until!r}. Try --until budget.")
        if not 0 <= self.noise <= 1:
            raise SettingsError(f"noise must be from 0 to 1. Got {self.noise}. Try --noise 0.1.")
        if not 0 <= self.click_noise <= 0.5:
            raise SettingsError(f"click_noise must be from 0 to 0.5. Got {self.click_noise}. Try --click-noise 0.1.")
        if self.click_noise and not self.clicks:
            raise SettingsError(
                f"click_noise must be used with clicks. Got {self.click_noise} without them. Drop --click-noise."
            )
        if not 0 <= self.threshold < 1:
            raise SettingsError(f"threshold must be at least 0 and below 1. Got {self.threshold}. Try --threshold 0.5.")
        self._check_annotator()

    def _check_annotator(self) -> None:
        """Refuse an annotator that does not exist, or settings that would have no effect on it."""
        if self.annotator not in get_args(AnnotatorKind):
            known = ", ".join(get_args(AnnotatorKind))
            raise SettingsError(f"annotator must be one of {known}. Got {self.annotator!r}. Try --annotator auto.")
        if self.annotator == "recorded" and not self.recorded:
            raise SettingsError(
                "Recorded answers must come from a file. Got annotator recorded without one. Add --recorded FILE.csv."
            )
        if self.recorded and self.annotator not in ("auto", "recorded"):
            raise SettingsError(
                f"A file of recorded answers needs annotator recorded or auto. Got {self.annotator}. "
                "Drop one of them; if an earlier command saved the file, add --recorded none."
            )
        if self.until == "settled" and self.annotator in ("browser", "terminal"):
            raise SettingsError(
                f"until settled must be used with an oracle or recorded answers. Got annotator {self.annotator}, with "
                "which you decide yourself when to stop. Drop --until; if an earlier command saved it, add "
                "--until budget."
            )
        if self.noisy and (self.recorded or self.annotator in ("browser", "terminal")):
            kind = "recorded answers" if self.recorded else f"annotator {self.annotator}"
            option = self.noisy.replace("_", "-")
            raise SettingsError(
                f"{self.noisy} must be used with an oracle (masks or boxes). Got it with {kind}. Drop --{option}; if "
                f"an earlier command saved it, add --{option} 0."
            )

    @property
    def noisy(self) -> str:
        """The setting that asks for errors of an oracle: "noise", "click_noise" or "" (none)."""
        return "noise" if self.noise else "click_noise" if self.click_noise else ""
