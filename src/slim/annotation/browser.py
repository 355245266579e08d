"""Asking people on a page in their browser: serve it, say where it is, and wait until they are done."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import warnings
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread
from time import sleep
from urllib.parse import urlsplit

import click
import numpy as np
import uvicorn

from slim.annotation.app import build_app
from slim.annotation.judgements import Judgements
from slim.annotation.queries import Queries
from slim.annotation.session import Pool, Session
from slim.annotation.store import Store
from slim.artifacts import read_json
from slim.errors import AnnotationError, SlimError, SlimWarning

LOOPBACK = "127.0.0.1"
_ADDRESS = "page.json"


class BrowserAnnotator:
    """Asks people on a page; several may answer at once, each by a name.

    Parameters
    ----------
    host
        Address to serve at. The loopback address reaches this machine only; 0.0.0.0 every machine in the network.
    port
        Port to serve at; 0 takes the one that the folder remembers, or one that is free.
    folder
        Keeps the page's address, readable by its owner alone: after a restart the page that is open goes on.
    """

    name = "browser"

    def __init__(self, host: str = LOOPBACK, port: int = 0, folder: str | Path | None = None) -> None:
        self.host = host
        self.port = port
        self.folder = None if folder is None else Path(folder)

    def __repr__(self) -> str:
        return f"BrowserAnnotator({self.host!r}, port={self.port})"

    def judge(self, queries: Queries, store: Store | None = None, pool: Pool | None = None) -> Judgements:
        """Show the page until somebody says that it is enough.

        Parameters
        ----------
        queries
            Whom to ask about first.
        store
            Where each answer is kept at once. Without one, answers live only in the result.
        pool
            All images that may be shown, which `queries` index; the queries' own where there is none.

        Returns
        -------
        Judgements
            Of the queries, and of the images that people added.

        Raises
        ------
        AnnotationError
            Nothing was answered.

        Warns
        -----
        SlimWarning
            Some queries got no answer.
        """
        shown, index = (pool, queries.index) if pool is not None else (Pool.of(queries), np.arange(len(queries)))
        with nullcontext(store) if store is not None else Store(":memory:") as book:
            session = Session(shown, index, book)
            try:
                self._show(session)
            finally:
                session.close()
            judgements = judgements_of(session)
            _check(judgements, session.queue())
        return judgements if pool is not None else _at(judgements, queries)

    def _show(self, session: Session) -> None:
        """Serve the page until it says that it is done."""
        port, token = self._address()
        with serving(session, self.host, port, token, notebook=in_notebook()) as (link, finished):
            self._keep_address(link, token)
            _announce(link, self.host)
            _wait(finished)

    def _address(self) -> tuple[int, str]:
        """The port to serve at and the token: those of the last time, where they are free and wanted."""
        file = None if self.folder is None else self.folder / _ADDRESS
        kept = read_json(file) if file is not None and file.exists() else {}
        port = self.port or int(kept.get("port", 0))
        if not self.port and not _is_free(self.host, port):
            port = 0
        return port, str(kept.get("token") or secrets.token_urlsafe(24))

    def _keep_address(self, link: str, token: str) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / _ADDRESS
        file.touch(mode=0o600)
        file.chmod(0o600)
        file.write_text(json.dumps({"port": urlsplit(link).port, "token": token}), encoding="utf-8")


def judgements_of(session: Session) -> Judgements:
    """What the people on the page have said, of everything that they were asked about."""
    return Judgements.of_people(session.store, session.pool.table, session.queue())


def _at(judgements: Judgements, queries: Queries) -> Judgements:
    """Judgements whose positions are those of the pool that queries were selected from."""
    return Judgements(judgements.frame.assign(index=queries.index[judgements.frame["index"].to_numpy()]))


def _check(judgements: Judgements, asked: list[int]) -> None:
    """Say so where queries went unanswered."""
    if not len(judgements):
        raise AnnotationError(
            f"At least one query must be answered. Got no answer to {len(asked)} on the page. "
            "Run the same command again."
        )
    missing = len(asked) - len(judgements)
    if missing:
        warnings.warn(
            f"{missing} of {len(asked)} queries got no answer on the page; they count as not asked.",
            SlimWarning,
            stacklevel=3,
        )


@contextmanager
def serving(
    session: Session, host: str, port: int, token: str, *, notebook: bool = False
) -> Iterator[tuple[str, Event]]:
    """Serve a session while the block runs.

    Yields
    ------
    link, finished
        The page's address with its token, and what is set once somebody says that it is enough.

    Raises
    ------
    SlimError
        The address cannot be had.
    """
    finished = Event()
    app = build_app(session, token, name=_login(), framed=notebook, finish=finished.set)
    listener = _listen(host, port)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off")
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="slim-annotator", daemon=True)
    thread.start()
    name = LOOPBACK if host == "0.0.0.0" else host
    shown = f"[{name}]" if ":" in name else name
    try:
        yield f"http://{shown}:{listener.getsockname()[1]}/?token={token}", finished
    finally:
        session.closed = True  # streams end by themselves
        server.should_exit = True
        thread.join(5)
        listener.close()


def _is_free(host: str, port: int) -> bool:
    """Whether a port can be had."""
    try:
        _listen(host, port).close()
    except SlimError:
        return False
    return True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SlimError(
            f"The page must have an address of its own. Got {host}, port {port}: {error.strerror or error}. "
            "Leave out --port, or name another."
        ) from error


def _login() -> str:
    """The name that the page proposes."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def in_notebook() -> bool:
    """Whether this runs in a notebook, which can show the page inline."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return type(get_ipython()).__name__ == "ZMQInteractiveShell"


def _announce(link: str, host: str) -> None:
    """Show the page where that can be done, and say where it is."""
    if in_notebook():
        from IPython.display import IFrame, display

        display(IFrame(link, "100%", 860))
        print(f"The page is above, or alone at {link}. Press Done there to go on.")
        return
    for line in announcement(link, host, ssh="SSH_CONNECTION" in os.environ):
        click.echo(line, err=True)
    if "SSH_CONNECTION" not in os.environ:
        webbrowser.open(link)


def announcement(link: str, host: str, *, ssh: bool) -> list[str]:
    """What the terminal says while a page is served.

    Examples
    --------
    >>> announcement("http://127.0.0.1:8000/?token=t", "127.0.0.1", ssh=False)[0]
    'Judge on this page: http://127.0.0.1:8000/?token=t'
    """
    port = link.split("/")[2].rpartition(":")[2]
    lines = [f"Judge on this page: {link}"]
    if ssh and host == LOOPBACK:
        lines.append(f"  On your own machine, first: ssh -N -L {port}:{LOOPBACK}:{port} {_login()}@{_server_address()}")
    if host not in (LOOPBACK, "localhost", "::1"):
        lines.append(f"  Served at {host}: every machine that reaches this one, and has the link, sees the photos.")
        lines.append(f"  Others put this machine's name for {LOOPBACK}. Nothing is encrypted: prefer ssh -L.")
    return [*lines, "  Every answer is saved at once. Press Done on the page to go on, Ctrl-C to go on later."]


def _server_address() -> str:
    """This machine as the SSH client knows it."""
    parts = os.environ.get("SSH_CONNECTION", "").split()
    return parts[2] if len(parts) == 4 else socket.gethostname()


def _wait(finished: Event) -> None:
    """Until the page says so; in short naps, so that Ctrl-C is heard on every system."""
    while not finished.wait(0.25):
        pass
    sleep(0.3)  # the browser gets its answer
