"""Draws the pictures of the stages' pages, docs/stage-*.webp, from a finished run of the demo.

slim demo && python docs/draw_demo.py runs/demo
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import slim
from slim.data.sheet import recomposed_sheet
from slim.overlay import outlined, overlay

DOCS = Path(__file__).parent
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#888888"
SIDE = 160
"""Side of a photo, in pixels."""


def main(folder: str) -> None:
    """Draw a picture for each stage that has something to show."""
    run = slim.open_run(folder)
    pictures = {
        "train": groups(run),
        "attend": attention(run),
        "embed": space(run),
        "propagate": scores(run),
        "locate": objects(run),
        "curate": balance(run),
        "retrain": recomposed_sheet(run.data.train, run.load("locate").train, 6, 4),
        "evaluate": accuracies(run),
    }
    for stage, picture in pictures.items():
        picture.convert("RGB").save(DOCS / f"stage-{stage}.webp", quality=82, method=6)


def groups(run: slim.Run) -> Image.Image:
    """Photos of each group, under its share of the train images."""
    table = run.data.train
    figure = Figure(figsize=(8, 2.3), dpi=120, layout="constrained")
    axes = figure.subplots(2, 8)
    for group, name in enumerate(table.group_names):
        members = np.flatnonzero(table.groups == group)
        for panel, i in zip(axes[:, 2 * group : 2 * group + 2].ravel(), members[:4], strict=True):
            panel.imshow(table.image(int(i)))
            panel.axis("off")
        digit, _, background = name.partition(", background=")
        axes[0, 2 * group].set_title(f"{digit} on a {background}: {len(members)} images", loc="left", fontsize=9)
    return saved(figure)


def attention(run: slim.Run) -> Image.Image:
    """Photos beside where the reference model looks."""
    table, maps = run.data.train, run.load("attend").train.maps
    some = [int(np.flatnonzero(table.groups == group)[n]) for n in range(2) for group in range(4)]
    pairs = [
        (table.image(i).resize((SIDE, SIDE)), overlay(table.image(i), np.asarray(maps[i]), (SIDE, SIDE))) for i in some
    ]
    return sheet([picture for pair in pairs for picture in pair], 8)


def objects(run: slim.Run) -> Image.Image:
    """Photos with the outline of what is taken for the object."""
    table, maps = run.data.train, run.load("locate").train
    some = [int(np.flatnonzero(table.groups == group)[n]) for n in range(4) for group in range(4)]
    return sheet([outlined(table.image(i), np.asarray(maps[i]), (SIDE, SIDE)) for i in some], 8)


def space(run: slim.Run) -> Image.Image:
    """The attention space by class and by background."""
    table, plane = run.data.train, run.load("embed").plane
    figure = Figure(figsize=(8, 3.6), dpi=120, layout="constrained")
    codes = (table.y, table.class_names), (table.a, [name.partition("=")[2] for name in table.attribute_names])
    for panel, (values, names), title in zip(figure.subplots(1, 2), codes, ("by class", "by background"), strict=True):
        for code, colour in enumerate((BLUE, ORANGE)):
            panel.scatter(*plane[values == code].T, 9, colour, linewidths=0, label=names[code])
        panel.set(xticks=[], yticks=[], title=title)
        panel.legend(frameon=False, markerscale=2)
    return saved(figure)


def scores(run: slim.Run) -> Image.Image:
    """The attention space by score, judged images marked."""
    plane, judged = run.load("embed").plane, run.load("annotate").frame
    figure = Figure(figsize=(8, 4), dpi=120, layout="constrained")
    panel = figure.subplots()
    cloud = panel.scatter(*plane.T, 12, run.load("propagate").values, cmap="viridis", vmin=0, vmax=1, linewidths=0)
    for answer, marker in (("core", "o"), ("spurious", "X")):
        chosen = plane[judged.loc[judged["answer"] == answer, "index"]]
        panel.scatter(
            *chosen.T,
            60,
            "none" if marker == "o" else "black",
            marker=marker,
            edgecolors="black",
            label=f"judged {answer}",
        )
    panel.set(xticks=[], yticks=[])
    panel.legend(frameon=False)
    figure.colorbar(cloud, label="attention score (1 = looks at the object)")
    return saved(figure)


def balance(run: slim.Run) -> Image.Image:
    """Each class's share of the clusters, in the pool and in the subset."""
    rows, names = run.load("curate").balance, run.data.train.class_names
    figure = Figure(figsize=(8, 2.4), dpi=120, layout="constrained")
    for panel, column, title in zip(
        figure.subplots(1, 2, sharey=True), ("pool_share", "subset_share"), ("train", "subset"), strict=True
    ):
        for cluster, colour in enumerate((BLUE, ORANGE)):
            part = rows[rows["environment_cluster"] == cluster]
            left = (
                rows[rows["environment_cluster"] < cluster].groupby("y")[column].sum().reindex(part["y"], fill_value=0)
            )
            panel.barh([names[y] for y in part["y"]], part[column], left=left, color=colour, label=f"cluster {cluster}")
        panel.set(title=title, xlim=(0, 1), xlabel="share of the class")
    panel.legend(frameon=False, bbox_to_anchor=(1, 1))
    return saved(figure)


def accuracies(run: slim.Run) -> Image.Image:
    """The accuracy of each group by each model, with its interval."""
    evaluations = run.load("evaluate")
    models = {
        "reference": ("reference model", ORANGE),
        "random_subset": ("random subset", GREY),
        "retrained": ("SLIM", BLUE),
    }
    figure = Figure(figsize=(8, 3), dpi=120, layout="constrained")
    panel = figure.subplots()
    for n, (key, (title, colour)) in enumerate(models.items()):
        rows = evaluations[key].as_dict()["groups"]
        value, low, high = (np.array([row[name] for row in rows]) for name in ("accuracy", "low", "high"))
        height = np.arange(len(rows)) - 0.22 * n
        panel.errorbar(value, height, xerr=(value - low, high - value), fmt="o", color=colour, label=title)
    panel.set(
        yticks=np.arange(len(rows)) - 0.22,
        yticklabels=[row["name"] for row in rows],
        xlim=(0, 1),
        xlabel="accuracy on test",
    )
    panel.legend(frameon=False, bbox_to_anchor=(1, 1))
    return saved(figure)


def sheet(pictures: list[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size in rows."""
    drawn = Image.new("RGB", (columns * SIDE, -(-len(pictures) // columns) * SIDE), "white")
    for n, picture in enumerate(pictures):
        drawn.paste(picture, (n % columns * SIDE, n // columns * SIDE))
    return drawn


def saved(figure: Figure) -> Image.Image:
    """A figure as a picture."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return Image.open(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
