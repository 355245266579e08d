"""What was answered: one judgement a query, whoever gave it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from slim.annotation.queries import ANSWERS, Answer, Queries
from slim.annotation.store import Store
from slim.artifacts import write_text
from slim.datasets import ImageTable
from slim.errors import AnnotationError, ArtifactError

COLUMNS = {"index": "int64", "y": "int64", "path": "str", "answer": "str", "annotator": "str", "seconds": "float64"}
FILE = "judgements.csv"


@dataclass(frozen=True, eq=False)
class Judgements:
    """The judgement of each image that was answered. A query without an answer has no row.

    Parameters
    ----------
    frame
        One row a judged image. Columns: ``index`` (position in the pool, no duplicates), ``y`` (label), ``path``,
        ``answer`` ("core", "spurious" or "unsure"), ``annotator`` (who; several joined by " + "), ``seconds``
        (what the answers took, 0 for oracles).

    Examples
    --------
    >>> columns = ["index", "y", "path", "answer", "annotator", "seconds"]
    >>> rows = [(4, 0, "/a.jpg", "core", "ann", 1.5), (7, 1, "/b.jpg", "unsure", "ann", 4.0)]
    >>> judgements = Judgements(pd.DataFrame(rows, columns=columns))
    >>> judgements
    Judgements(2: 1 core, 0 spurious, 1 unsure)
    >>> judgements.counts().loc[0, "core"]
    np.int64(1)
    """

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        missing = [column for column in COLUMNS if column not in self.frame.columns]
        if missing:
            raise AnnotationError(
                f"Judgements must have the columns {', '.join(COLUMNS)}. Got none named {', '.join(missing)}. "
                "Make them with slim.annotate."
            )
        unknown = sorted(set(self.frame["answer"].map(str)) - set(ANSWERS))
        if unknown or self.frame["index"].duplicated().any():
            got = f"the answer {unknown[0]!r}" if unknown else "an image twice"
            raise AnnotationError(
                f"Judgements must be core, spurious or unsure, one an image. Got {got}. Make them with slim.annotate."
            )
        frame = self.frame[list(COLUMNS)].astype(COLUMNS).reset_index(drop=True)
        object.__setattr__(self, "frame", frame)

    @classmethod
    def of(cls, queries: Queries, answers: pd.DataFrame, settled: pd.DataFrame | None = None) -> Judgements:
        """The judgements of these queries, in their order, from the answers in a store.

        Parameters
        ----------
        queries
            Answers about other images are left out.
        answers
            As `Store.answers` gives them. Where several annotators have answered, the most frequent answer counts,
            a tie counts as unsure, and seconds are summed.
        settled
            As `Store.settled` gives them: where an image has one of these, it counts instead.
        """
        known = answers[answers["index"].isin(queries.index)]
        merged = of_record(known, known.iloc[:0] if settled is None else settled[settled["index"].isin(queries.index)])
        asked = pd.DataFrame({"index": queries.index, "y": queries.y, "path": queries.table.paths})
        return cls(asked.join(merged, on="index", how="inner"))

    @classmethod
    def of_people(cls, store: Store, table: ImageTable, asked: Sequence[int]) -> Judgements:
        """What people have said, on the page or elsewhere, of everything that they were asked about.

        Parameters
        ----------
        store
            Of the answers, and of the images that were added to the queries.
        table
            The pool.
        asked
            Positions of the queries in it.
        """
        index = np.array(list(dict.fromkeys([*map(int, asked), *store.added()])), dtype=np.int64)
        rows = table[index]
        queries = Queries(index, rows.y, rows, np.zeros((len(index), 1, 1)), rows.class_names)
        answers = store.answers()
        return cls.of(queries, answers[answers["annotator"].isin(store.people())], store.settled())

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        found = self.frame["answer"].value_counts()
        return f"Judgements({len(self)}: {', '.join(f'{found.get(answer, 0)} {answer}' for answer in ANSWERS)})"

    def counts(self) -> pd.DataFrame:
        """How often each answer came: one row a judged class (indexed by ``y``), one column an answer."""
        counts = pd.crosstab(self.frame["y"], self.frame["answer"])
        return counts.reindex(columns=list(ANSWERS), fill_value=0).rename_axis(columns=None)

    def save(self, folder: str | Path) -> None:
        """Write ``judgements.csv`` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FILE, self.frame.to_csv(index=False, lineterminator="\n"))

    @classmethod
    def load(cls, folder: str | Path) -> Judgements:
        """Read what `save` wrote.

        Raises
        ------
        ArtifactError
            There is none, or it is something else.
        """
        path = Path(folder) / FILE
        if not path.exists():
            raise ArtifactError(
                f"{folder} must hold {FILE}. Got no such file. Run: slim annotate {Path(folder).parent}"
            )
        try:
            return cls(pd.read_csv(path, dtype=COLUMNS, keep_default_na=False))
        except (ValueError, AnnotationError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise ArtifactError(
                f"{path} must be a file of judgements. Got one that does not fit: {reason}. "
                f"Remove it and run: slim annotate {Path(folder).parent}"
            ) from error


def of_record(answers: pd.DataFrame, settled: pd.DataFrame) -> pd.DataFrame:
    """The answer that counts about each image, with who gave it and the seconds of all; see `Judgements.of`."""
    given = pd.concat([answers, settled]).groupby("index", sort=False)
    voted = answers.groupby("index", sort=False)["answer"].agg(majority)
    return pd.DataFrame(
        {
            "answer": settled.set_index("index")["answer"].combine_first(voted),
            "annotator": given["annotator"].agg(lambda names: " + ".join(sorted(set(names)))),
            "seconds": given["seconds"].sum(),
        }
    )


def majority(answers: Iterable[Answer]) -> Answer:
    """The most frequent answer; "unsure" where two are equally frequent.

    Examples
    --------
    >>> majority(["core", "core", "spurious"]), majority(["core", "spurious"])
    ('core', 'unsure')
    """
    (first, most), *others = Counter(answers).most_common()
    return first if all(count < most for _, count in others) else "unsure"
