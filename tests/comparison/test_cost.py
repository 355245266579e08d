"""The cost curve: what it measures at each budget, what it continues and what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result

from slim.comparison import compare, cost, cost_curve, cost_table, summarize_cost
from slim.comparison.bench import Bench
from slim.stages.judgements import Judgements, queried_images
from slim.stages.propagate.scores import ClassTrust, Scores

pytestmark = [
    pytest.mark.usefixtures("small_and_quiet"),
    pytest.mark.filterwarnings("ignore::slim.errors.SlimWarning"),  # so small a run is not to be trusted
]


def test_the_curve_at_the_runs_own_budget_is_slims_row(bench: Bench) -> None:
    scores, judgements = cost.judged_scores(bench, bench.settings, bench.attention, bench.space)
    np.testing.assert_array_equal(scores.values, bench.run.load("propagate").values)
    assert (judgements.codes(len(bench.pool)) != 3).sum() == 8


def test_the_true_auc_is_over_the_images_that_were_not_judged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    y, judged = bench.pool.y, np.arange(len(bench.pool)) < 8
    values = np.linspace(0, 1, len(y), dtype=np.float32)
    truth = (values > 0.5).astype(np.int8)  # the score is right
    queried = queried_images(bench.pool, np.flatnonzero(judged))
    answers = np.where(truth[judged] == 1, "core", "spurious")
    judgements = Judgements(queried.assign(answer=answers, annotator="oracle", seconds=0.0))
    truth[judged] = 1  # but where it was judged
    trust = [
        ClassTrust(name, 2, 2, 0, 20, 5.0, 0.9, 0.6, high, "above chance")
        for name, high in zip(("one", "two"), (1.0, 0.99), strict=True)
    ]
    monkeypatch.setattr(cost, "judged_scores", lambda *_: (Scores(values, tuple(trust)), judgements))
    assert cost._aucs(bench, truth) == {
        "true_auc": 1.0,
        "reported_auc": pytest.approx(0.9),
        "reported_low": pytest.approx(0.6),
        "reported_high": pytest.approx(0.995),
        "intervals": 2,
        "covering": 1,
    }


def test_a_cost_curve_continues_where_it_stopped_and_starts_unjudged(
    comparison_folder: Path, slim_command: Callable[..., Result]
) -> None:
    folder = comparison_folder
    first = cost_curve(folder, [0, 4], seeds=[0])
    assert first["budget"].tolist() == [0, 4]
    assert first["judgements"].tolist() == [0, 8]
    assert first["true_auc"].isna().tolist() == [True, False]
    kept = {path: os.stat(path).st_mtime_ns for path in (folder / "seed-0/rows").glob("cost-*.json")}
    assert len(kept) == 2
    result = slim_command("compare", folder, "--budgets", "0,4,6", "--seeds", 1, "--json")
    assert result.exit_code == 0
    assert {path: os.stat(path).st_mtime_ns for path in kept} == kept
    rows = json.loads(result.stdout)["rows"]
    assert [row["budget"] for row in rows] == [0, 4, 6]
    assert [row["judgements"] for row in rows] == [0, 8, 12]
    table = compare(folder, seeds=[0], rows=["recomposed-unanswered", "slim"])
    expected = table["worst_group_accuracy"].tolist()
    assert [row["worst_group_accuracy"] for row in rows[:2]] == pytest.approx(expected, abs=0.26)  # one image of four
    assert len(pd.read_csv(folder / "cost.csv")) == 3
    assert "nan" not in (folder / "cost.md").read_text()
    assert "judgements" in (folder / "cost.svg").read_text()


def test_the_summary_of_a_curve_adds_up_its_intervals() -> None:
    names = ("worst_group_accuracy", "true_auc", "reported_auc", "reported_low", "reported_high")
    values = [
        (20, (0.4, 0.8, 0.7, 0.5, 0.9), 2, 1),
        (20, (0.6, 0.6, 0.9, 0.7, 1.0), 1, 1),
        (0, (0.3, *[None] * 4), 0, 0),
    ]
    results = pd.DataFrame(
        [
            dict(zip(names, v, strict=True)) | {"budget": n, "judgements": 2 * n, "intervals": i, "covering": c}
            for n, v, i, c in values
        ]
    )
    summary = summarize_cost(results).set_index("budget")
    assert summary["judgements"].tolist() == [0, 40]
    assert summary.loc[20, ["true_auc", "intervals", "covering"]].tolist() == pytest.approx([0.7, 3, 2])
    table = cost_table(summary.reset_index())
    assert table.row_count == 2
    assert [str(cell) for cell in table.columns[-1].cells] == ["", "2 of 3"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--budgets", "0,-2"], 1, "judgements per class, at least 0. Got -2"),
        (["--budgets", "0,30"], 1, "must not exceed the images of a class. Got budget 30"),
        (["--budgets", "few"], 2, "must be whole numbers separated by commas"),
        (["--budgets", "8", "--rows", "erm"], 2, "must come without --rows, --modes and --vals"),
    ],
)
def test_budgets_that_cannot_be_are_refused(
    words: list[str], code: int, message: str, comparison_folder: Path, slim_command: Callable[..., Result]
) -> None:
    result = slim_command("compare", comparison_folder, "--seeds", 1, *words)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
