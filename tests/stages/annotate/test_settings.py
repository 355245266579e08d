"""Settings of the annotation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slim import AnnotateSettings
from slim.errors import SettingsError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"budget": 0}, "budget must be at least 1"),
        ({"candidates": -1}, "candidates must be at least 1"),
        ({"noise": 1.5}, "noise must be from 0 to 1"),
        ({"noise": float("nan")}, "noise must be from 0 to 1"),
        ({"click_noise": 0.6}, "click_noise must be from 0 to 0.5"),
        ({"click_noise": 0.1, "clicks": False}, "click_noise must be used with clicks"),
        ({"annotator": "browser", "click_noise": 0.1}, "click_noise must be used with an oracle .*Drop --click-noise"),
        ({"threshold": 1.0}, "threshold must be at least 0 and below 1"),
        ({"annotator": "crowd"}, "one of auto, masks, boxes, recorded, browser, terminal. Got 'crowd'"),
        ({"annotator": "recorded"}, "without one. Add --recorded"),
        ({"annotator": "masks", "recorded": "a.csv"}, "needs annotator recorded or auto"),
        ({"annotator": "terminal", "noise": 0.1}, "with annotator terminal"),
        ({"recorded": "a.csv", "noise": 0.1}, "with recorded answers"),
    ],
)
def test_settings_refuse_values_out_of_range_and_pairs_that_do_not_go_together(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        AnnotateSettings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"noise": 0.1}, "--noise 0"),
        ({"click_noise": 0.1}, "--click-noise 0"),
        ({"until": "settled"}, "--until budget"),
        ({"recorded": "a.csv"}, "--recorded none"),
    ],
)
def test_settings_that_were_saved_are_told_apart_with_how_to_reset_them(values: dict[str, object], option: str) -> None:
    saved = AnnotateSettings(**values)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=f"if an earlier command saved .*, add {option}\\."):
        replace(saved, annotator="browser")


def test_settings_refuse_a_selection_that_does_not_exist() -> None:
    with pytest.raises(SettingsError, match="select must be information or centres. Got 'random'"):
        AnnotateSettings(select="random")  # type: ignore[arg-type]
