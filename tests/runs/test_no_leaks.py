"""What is only there to measure with (group labels, masks, boxes, test labels) leads to nothing before evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from slim.runs.run import open_run

UP_TO_RETRAINING = ("train", "attend", "embed", "annotate", "propagate", "locate", "curate", "retrain")


def replace_by_noise(data: Path) -> None:
    """Replace the labels of test, and every group label, mask and box, by others of the same kind."""
    rng = np.random.default_rng(1)
    table = pd.read_csv(data / "metadata.csv")
    n, test = len(table), table["split"] == "test"
    table.loc[test, "y"] = rng.integers(0, 2, int(test.sum()))
    table["place"] = rng.integers(0, 2, n)
    table[["box_x", "box_y"]] = rng.integers(0, 20, (n, 2))
    table.to_csv(data / "metadata.csv", index=False)
    for mask in (data / "masks").iterdir():
        Image.fromarray(255 * rng.integers(0, 2, (36, 40), dtype=np.uint8)).save(mask)


def made_in(folder: Path) -> dict[str, bytes]:
    """All files with results but times; of test, only what does not say where the model looks for the label."""
    patterns = ("*.npy", "*.csv", "record.json", "model.*")
    made = [path.relative_to(folder) for pattern in patterns for path in folder.rglob(pattern)]
    return {
        str(path): (folder / path).read_bytes()
        for path in made
        if path.name != "history.csv" and (path.parts[1] != "test" or path.stem in ("features", "probabilities"))
    }


@pytest.mark.filterwarnings("ignore::slim.SlimWarning")
def test_noise_in_place_of_groups_masks_boxes_and_test_labels_changes_nothing_up_to_retraining(
    squares: Callable[..., Path], tiny: dict[str, Any], small_and_quiet: None, tmp_path: Path
) -> None:
    data, answers = squares(sizes=(32, 16, 8)), tmp_path / "answers.csv"
    table = pd.read_csv(data / "metadata.csv")
    table = table.assign(
        answer=np.arange(len(table)) // 2 % 2, x=(table["box_x"] + 7) / 40, y=(table["box_y"] + 7) / 36
    )
    table[["img_filename", "answer", "x", "y"]].to_csv(answers, index=False)

    def results(name: str) -> dict[str, dict[str, bytes]]:
        made = {}
        for images in ("recomposed", "subset"):  # of the second, only the retraining is to do
            settings = tiny | {
                "annotate": {"budget": 4, "recorded": str(answers)},
                "retrain": {"images": images, "draws": 1},
            }
            run = open_run(tmp_path / name, data=data, settings=settings)
            for verb in UP_TO_RETRAINING:
                run.stage(verb)
            made[images] = made_in(tmp_path / name)
        return made

    before = results("before")
    assert {name.split("/")[0] for name in before["subset"]} == {
        f"0{i}-{noun}"
        for i, noun in enumerate(
            ("reference", "attention", "space", "judgements", "scores", "objects", "subset", "retrained"), 1
        )
    }
    assert before["subset"] != before["recomposed"]
    replace_by_noise(data)
    after = results("after")
    for images, files in before.items():
        assert after[images].keys() == files.keys()
        assert [name for name, content in files.items() if after[images][name] != content] == []
