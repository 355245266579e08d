"""Options come from the settings records, each with its help, its type and its default."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal

import click
import pytest
from click.testing import CliRunner

from slim.cli.main import main
from slim.cli.options import Command, Option, descriptions, given, settings_options
from slim.runs.settings import RunSettings
from slim.stages import STAGES

RECORDS = {verb: stage.settings for verb, stage in STAGES.items() if stage.settings is not None}


@dataclass(frozen=True)
class Cooking:
    """How to cook.

    Parameters
    ----------
    minutes
        How long.
    heat
        How hot,
        over two lines.
    pan
        Which ``pan``; any by default.
    lid
        Whether it is covered.

    Raises
    ------
    ValueError
        Never.
    """

    minutes: int = 3
    heat: Literal["low", "high"] = "low"
    pan: str | None = None
    lid: bool = False


def cook(*words: str) -> dict[str, Any]:
    """What a command with the options of `Cooking` is called with."""
    called: dict[str, Any] = {}
    command = click.command(cls=Command)(settings_options(Cooking)(lambda **values: called.update(values)))
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0, result.output
    return called


@pytest.mark.parametrize("stage", RECORDS)
def test_every_setting_of_every_stage_has_a_help_text(stage: str) -> None:
    record = RECORDS[stage]
    texts = descriptions(record)
    assert list(texts) == [setting.name for setting in fields(record)]
    assert all(len(text) > 5 and text[-1] in ".?" for text in texts.values()), texts


@pytest.mark.parametrize("stage", RECORDS)
def test_every_setting_of_a_stage_is_an_option_of_its_command(stage: str) -> None:
    options = {option for parameter in main.commands[stage].params for option in parameter.opts}
    assert {f"--{setting.name.replace('_', '-')}" for setting in fields(RECORDS[stage])} <= options


@pytest.mark.parametrize("stage", STAGES)
def test_purpose_of_a_stage_is_a_plain_sentence(stage: str) -> None:
    """The help sets it in lower case within brackets, and as a sentence with a full stop."""
    purpose = STAGES[stage].purpose
    assert purpose[0].isupper()
    assert purpose[1].islower()
    assert not set(purpose) & set("?:;")


def test_description_is_one_line_without_the_marks_of_a_docstring() -> None:
    assert descriptions(Cooking)["heat"] == "How hot, over two lines."
    assert descriptions(Cooking)["pan"] == "Which pan; any by default."


def test_option_not_given_says_nothing() -> None:
    assert given(cook(), "cook") == {}


def test_options_have_the_types_of_their_settings() -> None:
    values = cook("--minutes", "5", "--heat", "high", "--pan", "wok", "--lid", "true")
    assert given(values, "cook") == {"cook": {"minutes": 5, "heat": "high", "pan": "wok", "lid": True}}


def test_none_on_the_command_line_empties_any_optional_setting() -> None:
    optional = 0
    for stage, record in RECORDS.items():
        for setting in fields(record):
            if setting.default is None or "None" in str(setting.type):
                changed = RunSettings().updated(given({f"{stage}__{setting.name}": "none"}))
                assert getattr(changed[stage], setting.name) is None
                optional += 1
    assert optional > 5


def test_prefixed_names_go_to_their_stages() -> None:
    assert given({"train__batch_size": 8, "curate__size": 60, "curate__keep": None}) == {
        "train": {"batch_size": 8},
        "curate": {"size": 60},
    }


@pytest.mark.parametrize(("words", "hint"), [(["--heat", "hi"], "'low', 'high'"), (["--minute", "3"], "--minutes")])
def test_wrong_usage_names_what_would_be_right(words: list[str], hint: str) -> None:
    command = click.command(cls=Command)(settings_options(Cooking)(lambda **_: None))
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 2
    assert hint in result.stderr


def test_help_shows_options_under_their_headings_with_defaults() -> None:
    command = click.command(cls=Command)(settings_options(Cooking, "cook", "Cooking")(lambda **_: None))
    command.params.append(Option(["--salt"], help="How much."))
    text = CliRunner().invoke(command, ["--help"]).stdout
    cooking, rest = text.split("Cooking:")[1].split("Options:")
    assert "--cook.minutes INTEGER" in cooking
    assert "How long.  [default: 3]" in cooking
    assert "any by default.\n" in cooking
    assert "--salt" in rest
    assert "--help" in rest


def test_long_help_of_run_shows_every_setting_under_its_stage() -> None:
    text = CliRunner().invoke(main, ["run", "--help"]).stdout
    headings = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert [word for heading in headings if (word := heading.split(" ")[0]) in RECORDS] == list(RECORDS)
    for stage, record in RECORDS.items():
        part = text.split(f"\n{stage} (")[1].split("\n\n")[0]
        assert all(f"--{stage}.{setting.name.replace('_', '-')} " in part for setting in fields(record))


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (["run", "r", "--lr", "0.1"], {"--train.lr", "--retrain.lr"}),
        (["run", "r", "--budget", "9"], {"--annotate.budget"}),
        (["train", "r", "--train.arch", "resnet18"], {"--arch"}),
        (["run", "r", "--atribute", "place"], {"--attribute"}),
    ],
)
def test_settings_are_suggested_as_the_command_calls_them(words: list[str], suggested: set[str]) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert set(re.findall(r"--[\w.]+", result.stderr.partition("No such option")[2])) == {words[2], *suggested}
