"""Serves the run in a folder; also the main program of a server process, which tests may kill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np
import pandas as pd

from slim.data import ImageTable
from slim.stages.annotate.page.server import serving
from slim.stages.annotate.page.session import Pool, Session
from slim.stages.annotate.store import Store
from slim.stages.propagate.incremental import IncrementalScores
from slim.stages.settings import PropagateSettings


@contextmanager
def served(run: Path, database: Path, port: int = 0) -> Iterator[tuple[str, Event, Session]]:
    """The link to the page, what is set once somebody presses Done, and the session."""
    table = ImageTable(pd.read_csv(run / "table.csv"), ("cat", "sea dog"))
    arrays = np.load(run / "arrays.npz")
    space = arrays["space"]
    scoring = IncrementalScores(space, table.y, PropagateSettings(), table.class_names)
    environment = np.eye(4)[np.arange(len(table)) % 3] + 0.01 * space[:, :1]
    known = arrays["maps"], "pets", arrays["probabilities"], space, space, scoring, environment, arrays["places"]
    pool = Pool(table, *known)
    with Store(database) as store:
        session = Session(pool, arrays["queries"], store)
        with serving(session, "127.0.0.1", port, "token-of-the-test") as (link, finished):
            yield link, finished, session
        session.close()


if __name__ == "__main__":  # with `run`, `database`, `port` and the connection `parent` among its globals
    with served(run, database, port) as (link, finished, _):  # type: ignore[name-defined]  # noqa: F821
        parent.send(link)  # type: ignore[name-defined]  # noqa: F821
        finished.wait()
