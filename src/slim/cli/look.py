"""The commands ``slim look`` and ``slim attention``."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from slim.cli.group import main
from slim.cli.shared import JSON, RUN, load_and_warn
from slim.errors import DataError
from slim.progress import track
from slim.runs.run import Run, open_run

if TYPE_CHECKING:
    from slim.arrays import Bytes, Ints
    from slim.data import ImageTable
    from slim.network.classifier import Classifier
    from slim.network.look import Look, Looks

Only = Literal["all", "right", "wrong"]
_ON_SHEET = 60  # images; a picture of thousands would fill the memory


@main.command("look", short_help="See where any model looks in your images.")
@click.argument("model")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path())
@click.option("--out", type=click.Path(), help="Folder of the pictures.  [default: looks]")
@click.option("--explain", default="predicted", show_default=True, help="The class whose attention is shown.")
@click.option("--arch", help="timm name of a checkpoint's architecture.")
@click.option("--classes", help="Classes of a checkpoint, in the order of its outputs: cat,dog.  [default: numbers]")
@click.option("--image-size", type=click.IntRange(1), help="Side of the network's input.  [default: its own]")
@click.option("--layer", help="Submodule to attend to.  [default: the last with a grid]")
@JSON
def look_command(
    model: str,
    images: tuple[str, ...],
    out: str | None,
    explain: str,
    arch: str | None,
    classes: str | None,
    image_size: int | None,
    layer: str | None,
    as_json: bool,
) -> None:
    """Print what MODEL predicts for each IMAGE, and draw where it looks. No run is needed.

    MODEL is a run folder (its reference model), the folder of a saved classifier, a checkpoint (with --arch), or a timm
    name with its ImageNet weights. IMAGE is a file, or a folder of files.
    """
    from slim.network.look import Looks
    from slim.runs.look import looks
    from slim.runs.models import open_model

    names = None if classes is None else [name.strip() for name in classes.split(",")]
    opened = open_model(model, arch=arch, class_names=names, image_size=image_size, layer=layer)
    paths = _files(images)
    found = track(looks(opened, paths, explain=explain), f"looking at {len(paths)} images", total=len(paths))
    seen = Looks(list(found))
    _write(seen, [Path(path).stem for path in paths], Path(out or "looks"), as_json)


@main.command("attention", short_help="Draw where a run's models look, image by image.")
@RUN
@click.option("--out", type=click.Path(), help="Folder of the pictures.  [default: attention]")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option("--model", type=click.Choice(["reference", "retrained"]), default="reference", show_default=True)
@click.option("--class", "class_name", help="Only images of this class.")
@click.option("--only", type=click.Choice(["all", "right", "wrong"]), default="all", show_default=True)
@click.option("--show", type=click.IntRange(1), default=24, show_default=True, help="Number of images.")
@click.option("--explain", default="label", show_default=True, help="label, predicted, or a class by its name.")
@JSON
def attention_command(
    run: str,
    out: str | None,
    split: str,
    model: str,
    class_name: str | None,
    only: Only,
    show: int,
    explain: str,
    as_json: bool,
) -> None:
    """Draw photo, attention, overlay and object of randomly chosen images of RUN.

    Each picture shows the prediction, the label and, if the data have masks or boxes, the AIoU. In train and val, the
    object is taken from the object maps of the stage locate, otherwise from masks or boxes.
    """
    from slim.network.look import Looks

    opened = open_run(run)
    table = opened.data.split(split)
    index = _drawn(table, class_name, opened.settings.seed)
    seen = _matching(_run_model(opened, model), table, index, only, show, explain, _objects(opened, split))
    if not seen:
        raise DataError(f"There must be images to draw. Got none with --only {only}. Leave out --only and --class.")
    stems = [f"{split}-{i:05d}" for i in seen]
    _write(Looks(list(seen.values())), stems, Path(out or "attention"), as_json)


def _files(images: tuple[str, ...]) -> list[str]:
    """The files that the words name; a folder stands for the images in it."""
    from slim.data.trees import is_image

    files: list[str] = []
    for path in map(Path, images):
        inside = sorted(filter(is_image, path.iterdir())) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"A folder must hold images. Got none in {path}. Name files, or another folder.")
        files += map(str, inside)
    return files


def _run_model(run: Run, model: str) -> Classifier:
    reference: Classifier = load_and_warn(run, "train")
    if model == "reference":
        return reference
    retrained: Classifier = load_and_warn(run, "retrain").models(reference)["retrained"]
    return retrained


def _objects(run: Run, split: str) -> Bytes | None:
    """The object maps of a split, where they are made; the test split has none."""
    if split == "test" or run.state("locate") != "done":
        return None
    maps: Bytes = run.load("locate").split(split)
    return maps


def _drawn(table: ImageTable, class_name: str | None, seed: int) -> Ints:
    """The images of a class, or all, in a random order."""
    import numpy as np

    names = table.class_names
    if class_name is not None and class_name not in names:
        raise DataError(f"A class must be one of the data's. Got {class_name!r}. Choose from: {', '.join(names[:10])}.")
    order = np.random.default_rng((seed, 12)).permutation(len(table))
    return order if class_name is None else order[table.y[order] == names.index(class_name)]


def _matching(
    model: Classifier, table: ImageTable, index: Ints, only: Only, show: int, explain: str, objects: Bytes | None
) -> dict[int, Look]:
    """The first images, by position, that the model is right or wrong about, sorted."""
    from slim.runs.look import looks

    own = None if objects is None else objects[index]
    stream = zip(index.tolist(), looks(model, table[index], explain=explain, objects=own), strict=True)
    fitting = ((i, one) for i, one in stream if only == "all" or one.is_right is (only == "right"))
    found = track(islice(fitting, show), f"looking at {table.split} images", total=min(show, len(index)))
    return dict(sorted(found))


def _write(seen: Looks, stems: list[str], folder: Path, as_json: bool) -> None:
    """Write the sheet and a picture of each image, and print what the model says."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:03d}-{stem}.png" for number, stem in enumerate(stems, 1)]
    for file, one in zip(files, seen, strict=True):
        one.image().save(file)
    seen[:_ON_SHEET].image().save(folder / "sheet.png")
    rows = [
        {"path": one.path, "label": one.label, "prediction": one.prediction, "confidence": one.confidence}
        | {"aiou": one.aiou, "marked": one.region_kind or None, "picture": str(file)}
        for file, one in zip(files, seen, strict=True)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for one in seen:
        click.echo(one.caption)
    some = f" (the first {_ON_SHEET})" if len(seen) > _ON_SHEET else ""
    click.echo(f"Pictures: {folder / 'sheet.png'}{some}, and one picture per image next to it")
