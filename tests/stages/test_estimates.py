"""What stages foretell: the time of all images that they will read and pass through a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from slim.data import Recomposition
from slim.network.pace import Pace
from slim.stages.attend import attend
from slim.stages.evaluate.measuring import evaluate_classifier
from slim.stages.retrain.recomposed import recomposed_head
from slim.stages.retrain.reliance import background_reliance
from slim.stages.settings import AttendSettings, EvaluateSettings, RetrainSettings
from slim.training import TrainSettings

pytestmark = pytest.mark.usefixtures("small_and_quiet")


@pytest.fixture
def foretold(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, float]]:
    """What is announced where an image takes half a second to read and two seconds to pass."""
    said: list[tuple[str, str, float]] = []

    def announce(what: str, of: str, seconds: Callable[[], float]) -> None:
        said.append((what, of, seconds()))

    monkeypatch.setattr(Pace, "measured", lambda *_: Pace(0.5, 2.0))
    for place in ("network.pace", "stages.attend", "stages.evaluate.measuring", "stages.retrain.recomposed"):
        monkeypatch.setattr(f"slim.{place}.announce_time", announce)
    return said


def test_stages_foretell_the_time_of_all_their_images(
    records: Callable[..., Any], foretold: list[tuple[str, str, float]]
) -> None:
    made = records()  # of 40, 16 and 12 images
    training = TrainSettings(weights=None, precision="32-true")
    (attended,) = foretold
    assert attended == ("attention and places", "68 images, 56 of them twice", (68 + 56 + 40) * 2.5)
    foretold.clear()
    attend(made.data, made.reference, AttendSettings(method="autograd", precision="32-true"), training=training)
    background_reliance(made.reference, made.data.train, made.objects.train, "32-true", seed=0)
    recompositions = {name: Recomposition(made.objects.split(name)) for name in ("train", "val")}
    recomposed_head(made.data, made.reference, recompositions, RetrainSettings(draws=3), training, seed=0)
    evaluate_classifier(made.reference, made.data.test, EvaluateSettings(precision="32-true"))
    assert foretold == [
        attended,
        ("predictions on other backgrounds", "40 images, twice", 80 * 2.5),
        ("features of recomposed images", "168, 3 of each image", 168 * 2.5),
        ("evaluation", "12 test images", 12 * 2.5),
    ]
