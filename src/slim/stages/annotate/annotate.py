"""Stage 4: annotators judge whether the model looks at the object in a few images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np

from slim.arguments import checked
from slim.arrays import Ints
from slim.data import Dataset, ImageTable
from slim.errors import AnnotationError
from slim.files import read_json, write_json
from slim.stages.annotate.annotator import Annotator, Oracle, ask, check_answered
from slim.stages.annotate.page.server import BrowserAnnotator
from slim.stages.annotate.page.session import Pool
from slim.stages.annotate.people import judgements_of_people
from slim.stages.annotate.registry import choose_annotator
from slim.stages.annotate.selection import select_queries
from slim.stages.annotate.settings import AnnotateSettings
from slim.stages.annotate.settling import Objects, Progress
from slim.stages.annotate.store import MEMORY, Store
from slim.stages.annotate.terminal import TerminalAnnotator
from slim.stages.attend import Attention
from slim.stages.embed import Space
from slim.stages.judgements import Judgements, queried_images
from slim.stages.settings import PropagateSettings

STORE = "annotations.db"


@checked
def annotate(
    data: Dataset,
    attention: Attention,
    space: Space,
    settings: AnnotateSettings | None = None,
    *,
    annotator: Annotator | BrowserAnnotator | None = None,
    propagation: PropagateSettings | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
) -> Judgements:
    """Ask whether the model looks at the object, for a few images.

    Parameters
    ----------
    data, attention, space
        The images, their attention, and the attention space of the pool.
    settings
        Query selection, who answers, and when an annotator without a person ends; see `AnnotateSettings`.
    annotator
        Who answers, instead of the annotator that the settings name.
    propagation
        How the page generalises the answers so far to all images.
    seed
        Random seed of the query selection and of an oracle's noise.
    folder
        Receives every answer at once, the page's address and the terminal's pictures; a later call asks only about
        images without an answer. Without a folder, answers exist only in the result.

    Returns
    -------
    Judgements
        One row per answered image: an oracle's and recorded answers about the queries, all of a person's answers about
        these maps, and everybody's on the page and at the terminal.

    Raises
    ------
    AnnotationError
        No query was answered; or a person at the terminal stopped before the end, and the folder keeps the answers.

    Warns
    -----
    SlimWarning
        Some queries were left unanswered.

    Notes
    -----
    In a notebook, the page is shown inline, and the cell ends when you press Done. A script opens the browser and
    waits; over SSH, it prints how to reach the page.

    Examples
    --------
    ``judgements = slim.annotate(data, attention, space)``
    """
    settings, table = settings or AnnotateSettings(), data.split(space.pool)
    if annotator is None:
        annotator = choose_annotator(settings, table, folder, seed)
    queries = select_queries(data, attention, space, settings, seed=seed)
    with judgement_store(data, attention, space, folder) as store:
        if isinstance(annotator, BrowserAnnotator):
            return annotator.judge(queries, store, annotation_pool(data, attention, space, propagation, folder))
        objects = Objects(attention.split(space.pool).places, attention.split(space.pool).maps)
        judgements = ask(queries, annotator, store, enough=_enough(settings, annotator, objects))
        kept = judgements if isinstance(annotator, Oracle) else _of_person(annotator, store, table, queries.index)
    if isinstance(annotator, TerminalAnnotator) and len(judgements) < len(queries):
        if folder is not None:
            raise AnnotationError(
                f"All {len(queries)} queries must be answered. Got {len(judgements)}, which are kept. "
                "Continue with: slim annotate RUN, or ask for fewer: --budget N"
            )
        check_answered(judgements, queries, annotator)  # there is nowhere to continue from
    return kept


def _of_person(annotator: Annotator, store: Store, table: ImageTable, index: Ints) -> Judgements:
    """What counts after a person was asked: no answer of theirs is left out because the budget was another one then.

    At the terminal they are one of the people of the run; an annotator of your own answers alone.
    """
    if isinstance(annotator, TerminalAnnotator):
        return judgements_of_people(store, table, index.tolist())
    answers = store.answers()
    own = answers[answers["annotator"] == annotator.name]
    judged = np.array(list(dict.fromkeys([*index.tolist(), *own["index"].tolist()])), dtype=np.int64)
    return Judgements.from_answers(queried_images(table, judged), own)


def _enough(settings: AnnotateSettings, annotator: Annotator, objects: Objects) -> Callable[[Judgements], bool] | None:
    """When to end before the budget is spent: an annotator without a person ends, and one at the terminal is told."""
    if not len(objects.places):
        return None
    if isinstance(annotator, TerminalAnnotator):
        return _telling(objects)
    return (lambda judgements: objects.progress_of(judgements).settled) if settings.until == "settled" else None


def _telling(objects: Objects) -> Callable[[Judgements], bool]:
    """Tells a person at the terminal once that more answers hardly change the maps, and goes on."""
    told = False

    def tell(judgements: Judgements) -> bool:
        nonlocal told
        progress = Progress() if told else objects.progress_of(judgements)
        if progress.settled:
            told = True
            click.echo(f"\n{progress.note} q stops for now.", err=True)
        return False

    return tell


def annotation_pool(
    data: Dataset,
    attention: Attention,
    space: Space,
    propagation: PropagateSettings | None = None,
    folder: str | Path | None = None,
) -> Pool:
    """What a page or an export shows of the pool, titled after the run that the folder belongs to."""
    title = data.name if folder is None else Path(folder).absolute().parent.name
    return Pool.of_run(data.split(space.pool), attention.split(space.pool), space, propagation, title)


@contextmanager
def judgement_store(data: Dataset, attention: Attention, space: Space, folder: str | Path | None) -> Iterator[Store]:
    """The store of answers about these attention maps; answers about other maps are archived, never deleted."""
    if folder is None:
        with Store(MEMORY) as store:
            yield store
        return
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    about = hashlib.sha256(f"{data.fingerprint} {space.pool}".encode())
    about.update(np.ascontiguousarray(attention.split(space.pool).maps).data)
    _archive_other_answers(folder, about.hexdigest()[:16])
    with Store(folder / STORE) as store:
        yield store


def _archive_other_answers(folder: Path, about: str) -> None:
    """Rename a store of answers about other maps; restore the one about these maps, if there is one."""
    marker = folder / "asked-about.json"
    before = read_json(marker) if marker.exists() else about
    if before != about:
        for old in folder.glob(f"{STORE}*"):
            old.rename(old.with_name(old.name.replace("annotations", f"annotations-{before}", 1)))
    write_json(marker, about)
    if not (folder / STORE).exists():
        for same in folder.glob(f"annotations-{about}.db*"):
            same.rename(same.with_name(same.name.replace(f"annotations-{about}", "annotations", 1)))
