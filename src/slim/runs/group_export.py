"""Exports the groups that SLIM found to methods that need group labels, in the formats of WILDS and SpuCo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slim.arguments import checked
from slim.data import Dataset
from slim.data.splits import SPLITS
from slim.errors import DataError
from slim.files import guarded, write_json, write_table
from slim.runs.formats import GroupFormat
from slim.runs.run import Run, open_run
from slim.stages.attend import Attention
from slim.stages.curate.subset import Subset


@checked
def group_table(data: Dataset, attention: Attention, subset: Subset) -> pd.DataFrame:
    """The groups that SLIM found: label x cluster of what the model sees beside the object.

    Parameters
    ----------
    data
        The images.
    attention
        Of all splits.
    subset
        The curated subset, whose environment clusters images of other splits join.

    Returns
    -------
    DataFrame
        One row per image, train first, in the columns of Waterbirds' ``metadata.csv``: ``img_id``, ``img_filename``
        (absolute), ``y``, ``split`` (0, 1, 2 = train, val, test), ``place`` (the cluster).

    Examples
    --------
    SpuCo's group partition of the train images: ``table[table["split"] == 0].groupby(["y", "place"]).indices``
    """
    parts = []
    for number, split in enumerate(SPLITS):
        table, clusters = data.split(split), subset.environment_cluster
        if split != subset.pool:
            clusters = subset.join(attention.split(subset.pool), attention.split(split))
        columns = {"img_filename": table.paths, "y": table.y, "split": number, "place": np.asarray(clusters)}
        parts.append(pd.DataFrame(columns))
    frame = pd.concat(parts, ignore_index=True)
    frame.insert(0, "img_id", np.arange(len(frame)))
    return frame


@checked
def export_groups(run: str | Path | Run, target: str | Path, to: GroupFormat = "wilds") -> int:
    """Write the groups that a run found for another program.

    Parameters
    ----------
    run
        The run folder, which must have its curated subset.
    target
        The file to write.
    to
        "wilds": ``metadata.csv`` as WILDS and the code of GroupDRO and DFR read it for Waterbirds; see `group_table`.
        "spuco": JSON, the positions of the train images in each group, ``{"0,1": [...]}`` for label 0 and place 1.

    Returns
    -------
    int
        Number of images.

    Raises
    ------
    ArtifactError
        The run has no curated subset yet.
    DataError
        The target is, or would be, the table that the run's images are read from.

    Examples
    --------
    ``slim.export_groups("runs/birds", "groups/metadata.csv")``
    """
    opened = run if isinstance(run, Run) else open_run(run)
    opened.check_ready("retrain")
    _check_target(Path(target), opened)
    table = group_table(opened.data, opened.load("attend"), opened.load("curate"))
    _WRITERS[to](_with_relative_names(table, opened), Path(target))
    return len(table)


def _check_target(target: Path, run: Run) -> None:
    """Refuse the table of the run's images as a target, also where there is none yet and a tree is read."""
    source = run.data.source.get("source")
    tables = () if source is None else (Path(source), Path(source) / "metadata.csv")
    if target.resolve() in [table.resolve() for table in tables]:
        raise DataError(
            f"The groups must not overwrite the table that the images are read from. Got {target}. Write them "
            "elsewhere, and copy them into a copy of the image folder, for which links to the images are enough."
        )


def _with_relative_names(table: pd.DataFrame, run: Run) -> pd.DataFrame:
    """File names relative to the folder of the images, if all are in it."""
    names = run.data.source.get("root") or run.data.source.get("source")
    home = None if names is None else Path(names)
    home = home.parent if home is not None and home.is_file() else home
    paths = [Path(name) for name in table["img_filename"]]
    if home is None or not all(path.is_relative_to(home) for path in paths):
        return table
    return table.assign(img_filename=[path.relative_to(home).as_posix() for path in paths])


def _write_wilds(table: pd.DataFrame, target: Path) -> None:
    """For programs that know no apostrophe: a name that is like a formula becomes ``./=1.jpg``, the same file."""
    names = [f"./{name}" if guarded(name) != name else name for name in table["img_filename"]]
    write_table(target, table.assign(img_filename=names))


def _write_spuco(table: pd.DataFrame, target: Path) -> None:
    train = table[table["split"] == 0]
    groups: Any = train.groupby(["y", "place"]).indices  # (y, place) to positions
    write_json(target, {f"{y},{place}": rows.tolist() for (y, place), rows in groups.items()})


_WRITERS: dict[GroupFormat, Callable[[pd.DataFrame, Path], None]] = {"wilds": _write_wilds, "spuco": _write_spuco}
