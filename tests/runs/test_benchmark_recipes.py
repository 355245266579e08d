"""The recipes of the benchmarks make whole runs, here on miniatures with a tiny network."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from tests.data.benchmarks.layouts import LAYOUTS

import slim
from slim.errors import SettingsError, SlimWarning
from slim.runs.settings import RunSettings, read_recipe, recipes

pytestmark = pytest.mark.usefixtures("small_and_quiet")
NAMES = ("waterbirds", "celeba", "isic", "nico", "imagenet9")


class Alternating:
    """Calls every other attention right, whatever is on the picture."""

    name = "alternating"

    def __init__(self) -> None:
        self.asked = 0

    def answer(self, query: slim.Query) -> str:
        self.asked += 1
        return ("core", "spurious")[self.asked % 2]


@pytest.mark.parametrize("recipe", [f"{name}{kind}" for name in NAMES for kind in ("", "-default")])
def test_recipe_runs_on_a_miniature_of_its_benchmark(
    recipe: str, tmp_path: Path, tiny: dict[str, dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIM_CACHE", str(tmp_path / "cache"))
    name = recipe.removesuffix("-default")
    settings = {**tiny, "annotate": {"budget": 3}, "curate": {"size": 9}, "retrain": {"epochs": 1}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlimWarning)
        data = slim.load_dataset(name, root=LAYOUTS[name](tmp_path / "copy"))
        result = slim.fit(data, recipe=recipe, settings=settings, annotator=Alternating())
    assert result.retrained.mode == ("last-layer" if recipe.endswith("-default") else "full")
    assert len(result.evaluation.images) == len(data.test)
    if name == "imagenet9":
        found = slim.evaluate_backgrounds(result.model, tmp_path / "copy")
        assert found.original == result.evaluation.retrained.average_accuracy
        assert found.background_gap == found.mixed_same - found.mixed_rand
        assert "BG-gap" in repr(found)


@pytest.mark.parametrize("name", NAMES)
def test_published_recipe_keeps_the_papers_constants_and_ours_the_defaults(name: str) -> None:
    published, ours = (RunSettings().updated(read_recipe(f"{name}{kind}")) for kind in ("", "-default"))
    constants = RunSettings().updated(read_recipe("published"))
    for stage in ("attend", "embed", "annotate", "propagate"):
        assert published[stage] == constants[stage]
        assert ours[stage] == RunSettings()[stage]
    assert (published["curate"].allocation, ours["curate"].allocation) == ("spread", "uniform")
    assert (published["retrain"].images, published["retrain"].mode) == ("subset", "full")
    assert ours["retrain"] == RunSettings()["retrain"]
    assert published["train"].arch == ours["train"].arch == "resnet50"
    assert published["curate"].size == ours["curate"].size


def test_recipe_overrides_the_one_that_it_is_based_on(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('based_on = "waterbirds"\n[curate]\nsize = 60\n[locate]\nbatch_size = 8\n')
    values = read_recipe(path)
    assert values["curate"] == {**read_recipe("waterbirds")["curate"], "size": 60}
    assert values["train"] == read_recipe("waterbirds")["train"]
    assert values["locate"] == {"batch_size": 8}
    assert "based_on" not in values
    path.write_text('based_on = "mine"\n')
    with pytest.raises(SettingsError, match=f"must be one of {', '.join(recipes())}. Got 'mine'"):
        read_recipe(path)
