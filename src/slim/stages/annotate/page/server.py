"""Asks people on a page in their browser: serves it, prints its address, and waits until they are done."""

from __future__ import annotations

import asyncio
import getpass
import json
import logging
import os
import secrets
import socket
import warnings
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import Any
from urllib.parse import urlsplit

import click
import h11
import uvicorn
from starlette.types import ASGIApp

from slim.errors import AnnotationError, ArtifactError, SlimError, SlimWarning
from slim.files import MALFORMED, read_json
from slim.notebook import in_notebook
from slim.stages.annotate.page.app import build_app
from slim.stages.annotate.page.security import LOCAL, LOOPBACK
from slim.stages.annotate.page.session import Pool, Session
from slim.stages.annotate.people import judgements_of_people
from slim.stages.annotate.queries import Queries
from slim.stages.annotate.store import Store
from slim.stages.judgements import Judgements

_ADDRESS = "page.json"
_SECRET_BYTES = 24  # of the token


class BrowserAnnotator:
    """Asks people on a page; several can answer at once, each under their own name.

    Parameters
    ----------
    host
        Address to serve at. The loopback address is reachable from this machine only, 0.0.0.0 from the whole network.
    port
        Port to serve at; 0 takes the last one that the folder remembers, or else any free port.
    folder
        Stores the page's address, readable by its owner alone, so that an open page continues after a restart.
    """

    name = "browser"

    def __init__(self, host: str = LOOPBACK, port: int = 0, folder: str | Path | None = None) -> None:
        self.host = host
        self.port = port
        self.folder = None if folder is None else Path(folder)

    def __repr__(self) -> str:
        return f"BrowserAnnotator({self.host!r}, port={self.port})"

    def judge(self, queries: Queries, store: Store, pool: Pool) -> Judgements:
        """Show the page until somebody presses Done.

        Parameters
        ----------
        queries
            The images to judge first.
        store
            Keeps each answer as soon as it arrives.
        pool
            All images that can be shown, which `queries` index.

        Returns
        -------
        Judgements
            Of the queries and of the images that people added.

        Raises
        ------
        AnnotationError
            No query was answered.

        Warns
        -----
        SlimWarning
            Some queries were not answered.
        """
        session = Session(pool, queries.index, store)
        try:
            self._show(session)
        finally:
            session.close()
        queue = session.queue()
        judgements = judgements_of_people(store, pool.table, queue)
        _check(judgements, len(queue))
        return judgements

    def _show(self, session: Session) -> None:
        """Serve the page until somebody presses Done on it."""
        port, token = self._address()
        with serving(session, self.host, port, token, notebook=in_notebook()) as (link, finished):
            self._keep_address(link, token)
            _announce(link, self.host)
            _wait(finished)

    def _address(self) -> tuple[int, str]:
        """The port and the token: the last ones, unless the port is taken or another one is set.

        A notebook keeps its output, with the link, and may be published: it gets another token each time.
        """
        port, token = self._last_address()
        if self.port or not _is_free(self.host, port):
            port = self.port
        return port, secrets.token_urlsafe(_SECRET_BYTES) if in_notebook() or not token else token

    def _last_address(self) -> tuple[int, str]:
        """The last port and token in the folder; 0 and an empty one where there are none of ours."""
        file = None if self.folder is None else self.folder / _ADDRESS
        try:
            kept = read_json(file) if file is not None and file.exists() else {}
            port, token = int(kept["port"]), str(kept["token"])
        except (*MALFORMED, ArtifactError):
            return 0, ""
        return port, token if len(token) == len(secrets.token_urlsafe(_SECRET_BYTES)) else ""

    def _keep_address(self, link: str, token: str) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / _ADDRESS
        file.touch(mode=0o600)
        file.chmod(0o600)
        file.write_text(json.dumps({"port": urlsplit(link).port, "token": token}), encoding="utf-8")


def _check(judgements: Judgements, n: int) -> None:
    """Refuse no answer at all, and warn about unanswered ones of n queries."""
    if not len(judgements):
        raise AnnotationError(
            f"At least one query must be answered. Got no answer to {n} on the page. Run the same command again."
        )
    missing = n - len(judgements)
    if missing:
        warnings.warn(
            f"{missing} of {n} queries got no answer on the page; they count as not asked.", SlimWarning, stacklevel=3
        )


@contextmanager
def serving(
    session: Session, host: str, port: int, token: str, *, notebook: bool = False
) -> Iterator[tuple[str, Event]]:
    """Serve a session while the block runs.

    Yields
    ------
    link, finished
        The page's address with its token, and an event that is set once somebody presses Done.

    Raises
    ------
    SlimError
        The address is not available.
    """
    finished = Event()
    app = build_app(session, token, host=host, name=_login(), framed=notebook, finish=finished.set)
    listener = _listen(host, port)
    server = uvicorn.Server(_config(app))
    logging.getLogger("uvicorn.error").addFilter(_is_of_our_making)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="slim-annotator", daemon=True)
    thread.start()
    name = LOOPBACK if host == "0.0.0.0" else host
    shown = f"[{name}]" if ":" in name else name
    try:
        yield f"http://{shown}:{listener.getsockname()[1]}/?token={token}", finished
    finally:
        server.should_exit = True
        thread.join(5)
        listener.close()


def _config(app: ASGIApp) -> uvicorn.Config:
    """The same server whatever else is installed: h11 limits the size of headers, and nothing but HTTP is spoken."""
    parser: dict[str, Any] = {"http": "h11", "ws": "none", "lifespan": "off", "proxy_headers": False}
    return uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, **parser)


def _is_of_our_making(record: logging.LogRecord) -> bool:
    """Whether a line of the server's log is about more than what senders did.

    They may take too long when the page is closed, or send bytes that are no HTTP behind a request: uvicorn has then
    refused it already when the page answers.
    """
    error = None if record.exc_info is None else record.exc_info[1]
    cut_off = isinstance(error, asyncio.CancelledError) or str(record.msg).startswith("Cancel %s running task(s)")
    refused = isinstance(error, h11.LocalProtocolError) and str(error).startswith("can't handle event type")
    return not cut_off and not refused


def _is_free(host: str, port: int) -> bool:
    """Whether a port is available."""
    try:
        _listen(host, port).close()
    except SlimError:
        return False
    return True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not (isinstance(port, int) and 0 <= port <= 65535):
        raise _unavailable(host, port, "ports are numbered from 0 to 65535")
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a name
        raise _unavailable(host, port, getattr(error, "strerror", None) or str(error)) from error


def _unavailable(host: str, port: int, reason: str) -> SlimError:
    return SlimError(
        f"The page must have an address of its own. Got {host}, port {port}: {reason}. "
        "Omit --port, or choose another one."
    )


def _login() -> str:
    """The name that the page suggests."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _announce(link: str, host: str) -> None:
    """Show the page in the notebook or the browser, and print its address."""
    if in_notebook():
        from IPython.display import IFrame, display

        display(IFrame(frame_address(link, os.environ), "100%", 860))
        print("\n".join(notebook_announcement(link, os.environ)))
        return
    for line in announcement(link, host, ssh="SSH_CONNECTION" in os.environ):
        click.echo(line, err=True)
    if "SSH_CONNECTION" not in os.environ:
        webbrowser.open(link)


def frame_address(link: str, environment: Mapping[str, str]) -> str:
    """Where a notebook's frame finds the page: through the notebook server's proxy where there is one.

    Parameters
    ----------
    link
        The page's address on this machine.
    environment
        Variables of the kernel: JupyterHub names its path of this user, and code-server and others the address under
        which a port is reached.

    Examples
    --------
    >>> frame_address("http://127.0.0.1:8000/?token=t", {"JUPYTERHUB_SERVICE_PREFIX": "/user/ann/"})
    '/user/ann/proxy/8000/?token=t'
    >>> frame_address("http://127.0.0.1:8000/?token=t", {"VSCODE_PROXY_URI": "https://code.example/proxy/{{port}}/"})
    'https://code.example/proxy/8000/?token=t'
    >>> frame_address("http://127.0.0.1:8000/?token=t", {})
    'http://127.0.0.1:8000/?token=t'
    """
    address = urlsplit(link)
    if "VSCODE_PROXY_URI" in environment:
        base = environment["VSCODE_PROXY_URI"].replace("{{port}}", str(address.port))
    elif "JUPYTERHUB_SERVICE_PREFIX" in environment:  # relative to the hub, whose name a kernel does not know
        base = f"{environment['JUPYTERHUB_SERVICE_PREFIX'].rstrip('/')}/proxy/{address.port}/"
    else:
        return link
    return f"{base.rstrip('/')}/?{address.query}"


def notebook_announcement(link: str, environment: Mapping[str, str]) -> list[str]:
    """What a notebook shows below the page: what to do where the frame stays empty.

    Examples
    --------
    >>> notebook_announcement("http://127.0.0.1:8000/?token=t", {})[0]
    'The page is above and at http://127.0.0.1:8000/?token=t. Press Done there to continue.'
    """
    lines = [f"The page is above and at {link}. Press Done there to continue."]
    if "JUPYTERHUB_SERVICE_PREFIX" in environment:
        lines.append("If it stays empty, the notebook server needs its proxy: pip install jupyter-server-proxy.")
    if any(name.startswith("VSCODE_") for name in environment):
        port = urlsplit(link).port
        lines.append(f"If it stays empty, add port {port} in the panel Ports of VS Code, and run the cell again.")
    return [
        *lines,
        "If nothing else works, open the link in a browser; where the notebook runs on another machine, first run on "
        f"your own: {_tunnel(link)}",
    ]


def _tunnel(link: str) -> str:
    """The command that makes the page reachable from another machine."""
    port = urlsplit(link).port
    return f"ssh -N -L {port}:{LOOPBACK}:{port} {_login()}@{_server_address()}"


def announcement(link: str, host: str, *, ssh: bool) -> list[str]:
    """What the terminal shows while a page is served.

    Examples
    --------
    >>> announcement("http://127.0.0.1:8000/?token=t", "127.0.0.1", ssh=False)[0]
    'Judge the images on this page: http://127.0.0.1:8000/?token=t'
    """
    lines = [f"Judge the images on this page: {link}"]
    if ssh and host == LOOPBACK:
        lines.append(f"  On your own machine, run first: {_tunnel(link)}")
    if host not in LOCAL:
        lines.append(f"  Served at {host}: anyone who can reach this machine and has the link sees the photos.")
        if host == "0.0.0.0":
            lines.append(f"  Others replace {LOOPBACK} with this machine's name or address.")
        lines.append("  Nothing is encrypted: prefer ssh -L.")
    return [*lines, "  Every answer is saved immediately. Press Done on the page to continue, Ctrl-C to stop for now."]


def _server_address() -> str:
    """The address under which the SSH client reaches this machine."""
    parts = os.environ.get("SSH_CONNECTION", "").split()
    return parts[2] if len(parts) == 4 else socket.gethostname()


def _wait(finished: Event) -> None:
    """Wait for Done; in short intervals, so that Ctrl-C works on every system."""
    while not finished.wait(0.25):
        pass
    sleep(0.3)  # until the browser has the response
