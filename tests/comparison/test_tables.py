"""Tables: means, intervals and paired tests over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slim.comparison import comparison_table, summarize
from slim.comparison.table import against_markdown, markdown, slim_against


def lines(**values: list[float]) -> pd.DataFrame:
    rows = [
        {
            "row": row,
            "title": row,
            "mode": "reference" if row == "erm" else "last-layer",
            "val": "any" if row in ("erm", "random") else "whole",
            "group_labels": "none",
            "seed": seed,
            "worst_group_accuracy": value,
            **dict.fromkeys(("average_accuracy", "adjusted_average_accuracy", "seconds"), 0.5),
            **dict.fromkeys(("inside_fraction", "inside_fraction_uniform", "aiou", "aiou_uniform")),
            "minority_share": None,
            "judgements": 0,
            "train_images": 10,
        }
        for row, numbers in values.items()
        for seed, value in enumerate(numbers)
    ]
    return pd.DataFrame(rows)


def test_intervals_and_paired_tests_follow_the_textbook() -> None:
    summary = summarize(lines(erm=[0.1, 0.2, 0.3], random=[0.1, 0.1, 0.1], slim=[0.4, 0.6, 0.5])).set_index("row")
    own = summary.loc["slim"]
    assert own["worst_group_accuracy"] == pytest.approx(0.5)
    assert (own["low"], own["high"]) == pytest.approx((0.5 - 0.24841, 0.5 + 0.24841), abs=1e-4)  # t(0.975; 2) = 4.3027
    assert own["over_erm"] == pytest.approx(0.3)
    assert own["p_erm"] == pytest.approx(0.0352, abs=1e-3)  # t = 0.3 / (0.1 / sqrt 3), two degrees of freedom
    assert np.isnan(summary.loc["erm", "p_erm"])


def test_slim_is_tested_against_each_other_row_within_its_mode() -> None:
    results = lines(erm=[0.1, 0.2, 0.3], random=[0.1, 0.1, 0.1], slim=[0.4, 0.6, 0.5])
    full = results[results["row"] == "slim"].assign(mode="full", worst_group_accuracy=[0.1, 0.2, 0.6])
    against = slim_against(pd.concat([results, full]))
    assert against[["mode", "row"]].to_numpy().tolist() == [
        ["last-layer", "erm"],
        ["last-layer", "random"],
        ["full", "erm"],
    ]
    first = against.iloc[0]
    # t(0.975; 2) = 4.3027, and the differences 0.3, 0.4, 0.2 have the deviation 0.1
    assert (first["low"], first["high"]) == pytest.approx((0.3 - 0.24841, 0.3 + 0.24841), abs=1e-4)
    assert first["p"] == pytest.approx(0.0352, abs=1e-3)
    text = against_markdown(against)
    assert "| random | +0.400 (+0.152 to +0.648) | 0.020 | 3 |" in text
    own, full = text.split("| SLIM, full, against |")
    assert "| SLIM, against |" in own
    assert full.count("| erm | ") == 1
    assert slim_against(results[results["row"] != "slim"]).empty


def test_with_several_vals_each_is_summarised_and_tested_by_itself_and_all_stand_side_by_side() -> None:
    whole = lines(erm=[0.1, 0.2], val=[0.4, 0.5], slim=[0.6, 0.8])
    none = whole[whole["row"] == "slim"].assign(val="none", worst_group_accuracy=[0.5, 0.6])
    results = pd.concat([whole, none])
    against = slim_against(results)
    assert against.set_index(["val", "row"])["difference"].round(3).to_dict() == {
        ("whole", "erm"): 0.55,
        ("whole", "val"): 0.25,
        ("none", "erm"): 0.4,
    }
    text = markdown(summarize(results))
    side_by_side, _, every = text.partition("\n\n")
    assert "| erm | 0.150 (0.000 to 0.785) | 0.150 (0.000 to 0.785) | none |" in side_by_side
    assert [cell.split(" ")[0] for cell in side_by_side.split("| val | ")[1].splitlines()[0].split(" | ")] == [
        "0.450",
        "",
        "none",
    ]
    assert "| slim, no val | 0.550" in every
    assert markdown(summarize(whole)).startswith("| | worst group")


def test_tables_without_masks_and_of_one_seed_have_gaps_and_no_nan() -> None:
    summary = summarize(lines(erm=[0.1], random=[0.2]))
    text = markdown(summary)
    assert "nan" not in text
    assert comparison_table(summary).row_count == 2
