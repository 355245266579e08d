"""What is done, stale or missing, and what makes it so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import Result

import slim
from slim.runs.run import open_run
from slim.stages import STAGES

pytestmark = [
    pytest.mark.usefixtures("small_and_quiet"),
    pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning"),
]
States = Callable[..., dict[str, str]]
Written = Callable[[Path], dict[str, int]]
Results = Callable[[Path], dict[str, bytes]]


def edit(table: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(table)).to_csv(table, index=False)


def test_folders_are_numbered_and_named_after_the_records(finished_run: Path) -> None:
    assert sorted(path.name for path in finished_run.iterdir() if path.is_dir()) == [
        "01-reference",
        "02-attention",
        "03-space",
        "04-judgements",
        "05-scores",
        "06-objects",
        "07-subset",
        "08-retrained",
        "09-evaluation",
        "10-report",
    ]
    assert repr(open_run(finished_run)) == f"Run({str(finished_run)!r})"


def test_second_call_writes_nothing_and_returns_the_same(finished_run: Path, states: States, written: Written) -> None:
    assert set(states(finished_run).values()) == {"done"}
    before = written(finished_run)
    assert slim.run(finished_run) == slim.run(finished_run)
    assert written(finished_run) == before


def test_stages_one_by_one_give_what_run_gives(
    finished_run: Path,
    tmp_path: Path,
    tiny: dict[str, Any],
    slim_command: Callable[..., Result],
    states: States,
    results: Results,
) -> None:
    again = tmp_path / "again"
    for verb in STAGES:
        values = tiny.get(verb, {})
        words = [text for name, value in values.items() for text in (f"--{name.replace('_', '-')}", value)]
        words += ["--data", tmp_path / "data"] if verb == "train" else []
        assert slim_command(verb, again, *words).exit_code == 0
    assert results(again) == results(finished_run)
    assert set(states(again).values()) == {"done"}


def test_changed_row_of_the_data_makes_every_stage_stale(finished_run: Path, tmp_path: Path, states: States) -> None:
    edit(tmp_path / "data/metadata.csv", lambda t: t.assign(place=t["place"].where(t.index != 3, 1 - t["place"])))
    assert set(states(finished_run).values()) == {"stale"}


def test_moved_data_makes_nothing_stale(finished_run: Path, tmp_path: Path, states: States, written: Written) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    before = written(finished_run)
    slim.run(finished_run, data=tmp_path / "elsewhere")
    assert written(finished_run) == before
    assert set(states(finished_run).values()) == {"done"}


def test_other_seed_makes_every_stage_stale(finished_run: Path, states: States) -> None:
    assert set(states(finished_run, seed=1).values()) == {"stale"}


@pytest.mark.parametrize("stage", [verb for verb in STAGES if verb != "report"])
def test_setting_makes_its_stage_and_all_that_depend_on_it_stale(
    finished_run: Path, stage: str, states: States, from_on: Callable[[str], list[str]]
) -> None:
    changes: dict[str, Any] = {"train": {"lr": 0.5}, "attend": {"pooling": "sum"}, "embed": {"neighbors": 7}}
    changes |= {"annotate": {"noise": 0.5}, "propagate": {"gamma": 2.0}, "curate": {"keep": 0.4}}
    changes |= {"locate": {"batch_size": 5}, "retrain": {"refits": 3}, "evaluate": {"batch_size": 8}}
    now = states(finished_run, settings={stage: changes[stage]})
    assert [verb for verb, state in now.items() if state == "stale"] == from_on(stage)


def test_opening_a_run_writes_nothing(finished_run: Path) -> None:
    before = (finished_run / "settings.json").stat().st_mtime_ns
    open_run(finished_run, settings={"curate": {"size": 10}})
    assert (finished_run / "settings.json").stat().st_mtime_ns == before


def test_message_names_the_first_stage_that_is_lacking(finished_run: Path) -> None:
    shutil.rmtree(finished_run / "02-attention")
    with pytest.raises(
        slim.ArtifactError, match=f"its attention up to date before report. Got none. Run: slim attend {finished_run}"
    ):
        open_run(finished_run).stage("report")


def test_stage_of_no_known_name_is_refused_with_the_one_that_is_meant(finished_run: Path) -> None:
    with pytest.raises(slim.ArtifactError, match="A stage must be one of train, .* Got 'retrained'. Try retrain."):
        slim.open_run(finished_run).load("retrained")


def test_edited_file_of_recorded_answers_is_read_again(finished_run: Path, tmp_path: Path, states: States) -> None:
    paths = open_run(finished_run).data.train.paths
    answers = tmp_path / "answers.csv"
    pd.DataFrame({"path": paths, "answer": "core"}).to_csv(answers, index=False)
    overrides = {"annotate": {"recorded": str(answers)}}
    assert open_run(finished_run, settings=overrides).stage("annotate")
    assert states(finished_run)["annotate"] == "done"
    edit(answers, lambda table: table.assign(answer="spurious"))
    assert states(finished_run)["annotate"] == "stale"
    assert open_run(finished_run).stage("annotate")
    assert set(pd.read_csv(finished_run / "04-judgements/judgements.csv")["answer"]) == {"spurious"}
    answers.unlink()
    assert states(finished_run)["annotate"] == "done"


@pytest.mark.parametrize("setting", ["checkpoint", "weights"])
def test_replaced_file_of_weights_makes_everything_stale(
    finished_run: Path, tmp_path: Path, states: States, setting: str
) -> None:
    checkpoint = tmp_path / "erm.pt"
    state = slim.Classifier.load(finished_run / "01-reference").module.state_dict()
    torch.save(state, checkpoint)
    open_run(finished_run, settings={"train": {setting: str(checkpoint)}}).stage("train")
    assert states(finished_run)["train"] == "done"
    torch.save({name: value * 2 for name, value in state.items()}, checkpoint)
    assert states(finished_run)["train"] == "stale"


def own_network(seed: int) -> slim.Classifier:
    built = slim.build("resnet10t", ["0", "1"], weights=None, image_size=32, seed=seed)
    built.linear.weight.data.abs_()  # every map shows attention, at any precision
    return slim.wrap(built.module, image_size=32)  # without a name, as a network of one's own


def test_own_network_is_the_reference_and_stays_as_it_is(finished_run: Path, states: States) -> None:
    reference = own_network(1)
    before = deepcopy(reference.module.state_dict())
    slim.run(finished_run, reference=reference)
    assert all(torch.equal(value, before[name]) for name, value in reference.module.state_dict().items())
    assert set(states(finished_run, reference=reference).values()) == {"done"}
    assert set(states(finished_run).values()) == {"done"}
    assert set(states(finished_run, reference=own_network(2)).values()) == {"stale"}
    with pytest.raises(slim.ModelError, match="reference="):
        slim.run(finished_run, settings={"retrain": {"refits": 3}})
    slim.run(finished_run, settings={"retrain": {"refits": 3}}, reference=reference)


def test_mistake_is_not_kept_where_the_run_was_begun_before(finished_run: Path) -> None:
    before = (finished_run / "settings.json").read_bytes()
    with pytest.raises(slim.SettingsError, match="--size"):
        open_run(finished_run, settings={"curate": {"size": 500}}).stage("curate")
    assert (finished_run / "settings.json").read_bytes() == before
    open_run(finished_run, settings={"curate": {"size": 10}}).stage("curate")
    assert open_run(finished_run).settings["curate"].size == 10


def test_budget_is_refused_with_one_message_wherever_it_is_set(finished_run: Path) -> None:
    too_many = {"annotate": {"budget": 25}}
    messages = []
    opened = open_run(finished_run, settings=too_many)
    about = opened.data, opened.load("attend"), opened.load("embed")
    for refused in (
        opened.all_stages,
        lambda: opened.stage("annotate"),
        lambda: slim.select_queries(*about, opened.settings["annotate"]),
        lambda: slim.annotate(*about, opened.settings["annotate"]),
    ):
        with pytest.raises(slim.SettingsError, match="budget 25 for '0', which has 24 in train") as error:
            refused()
        messages.append(str(error.value))
    assert len(set(messages)) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"annotate": {"budget": 25}}, "budget 25 for '0', which has 24 in train. Try --annotate.budget 12"),
        ({"curate": {"size": 49}}, "size 49 for 48 images in train"),
        ({"annotate": {"recorded": "nowhere.csv"}}, "nowhere.csv"),
        ({"annotate": {"annotator": "terminal", "noise": 0.0}, "curate": {"size": 49}}, "size 49"),
        ({"annotate": {"select": "centres"}}, "annotate.select centres must use UMAP's plane. Got pca"),
        ({"propagate": {"method": "spreading"}}, "Add --embed.plane umap"),
        ({"curate": {"cluster_on": "embedding"}}, "curate.cluster_on embedding must use UMAP's plane"),
        ({"locate": {"source": "boxes"}}, "Object maps from boxes need boxes of all train images"),
    ],
)
def test_what_a_late_stage_would_refuse_is_refused_before_training(
    squares: Callable[..., Path], tmp_path: Path, overrides: dict[str, Any], message: str, states: States
) -> None:
    with pytest.raises(slim.SlimError, match=message):
        slim.run(tmp_path / "run", data=squares(), settings=overrides)
    assert set(states(tmp_path / "run").values()) == {"missing"}


def test_a_subset_smaller_than_the_number_of_classes_is_refused_before_training(
    squares: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(slim.SettingsError, match="size 2 for 3 classes. Try --curate.size 30"):
        slim.run(
            tmp_path / "run", data=squares(n_classes=3), settings={"curate": {"size": 2}, "annotate": {"budget": 4}}
        )


@pytest.mark.skipif(os.name != "posix", reason="a folder that takes no files is made by its permissions")
def test_status_needs_no_permission_to_write(finished_run: Path, states: States) -> None:
    finished_run.chmod(0o555)
    assert set(states(finished_run).values()) == {"done"}
    finished_run.chmod(0o755)


def test_reference_without_a_shortcut_is_kept_and_the_report_says_so(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slim.stages.retrain.reliance.RELIES", 2.0)
    monkeypatch.setattr("slim.stages.curate.subset.SHORTCUT", 2.0)
    metrics = slim.run(finished_run, settings={"curate": {"size": 10}})
    measured = open_run(finished_run).load("evaluate")
    assert measured.retrained.as_dict() == measured.reference.as_dict()
    assert metrics["verdict"] == "kept"
    assert metrics["headline"].startswith("SLIM found no shortcut and kept the reference model")
    assert metrics["retrained"]["train_images"] == metrics["reference"]["train_images"]
    assert metrics["random_subset"]["train_images"] != metrics["reference"]["train_images"]
    assert metrics["headline"] in unescape((finished_run / "10-report" / "report.html").read_text())


def test_frame_of_a_run_has_a_row_per_image_with_what_its_stages_found(finished_run: Path) -> None:
    run = open_run(finished_run)
    frame, judgements = run.to_frame(), run.load("annotate").frame
    assert frame["path"].tolist() == run.data.train.paths
    assert frame["answer"].dropna().to_dict() == judgements.set_index("index")["answer"].sort_index().to_dict()
    assert frame["score"].tolist() == run.load("propagate").values.tolist()
    assert frame["copies"].sum() == len(run.load("curate"))
    assert frame["confidence"].between(0.5, 1).all()
    assert frame["object_area"].between(0, 1).all()
    (finished_run / "05-scores" / "manifest.json").unlink()
    assert not {"score", "copies"} & set(open_run(finished_run).to_frame())
