"""The page's server: what it answers to each address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from slim.annotation.clusters import EnvironmentClusters
from slim.annotation.images import Pictures
from slim.annotation.security import Guard
from slim.annotation.session import Session
from slim.annotation.store import Post
from slim.errors import AnnotationError, DataError, SlimError

_STATIC = Path(__file__).parent / "static"
_MOST = 10_000_000  # bytes of a request; an answer has a few hundred
_TICK = 0.05  # seconds between two looks at whether the scores are new


@cache
def _template() -> Any:
    environment = Environment(loader=PackageLoader("slim.annotation"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("annotate.html.j2")


def build_app(
    session: Session, token: str, *, name: str = "", framed: bool = False, finish: Callable[[], None] = lambda: None
) -> Starlette:
    """The application that serves a session to whoever holds its token.

    Parameters
    ----------
    session
        What is asked and known.
    token
        The secret in the link.
    name
        The annotator's name that the page proposes.
    framed
        Whether a notebook on this machine may show the page.
    finish
        Called when somebody says that the judging is over.
    """
    pages = _Pages(session, token if framed else "", name, finish)
    routes = [
        Route("/", pages.home),
        Route("/api/session", pages.describe),
        Route("/api/posts", pages.keep, methods=["POST"]),
        Route("/api/more", pages.more, methods=["POST"]),
        Route("/api/add", pages.add, methods=["POST"]),
        Route("/api/finish", pages.finish, methods=["POST"]),
        Route("/api/events", pages.events),
        Route("/api/differences", pages.differences),
        Route("/api/points", pages.points),
        Route("/api/scores", pages.scores),
        Route("/api/clusters", pages.clusters),
        Route("/photo/{index:int}", pages.photo),
        Route("/thumbnail/{index:int}", pages.thumbnail),
        Route("/map/{index:int}", pages.map),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    handlers: dict[Any, Any] = {SlimError: _mistake}
    guard = Middleware(Guard, token=token, framed=framed)
    return Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)


async def _mistake(request: Request, error: Exception) -> Response:
    """A user's mistake as JSON."""
    return JSONResponse({"error": str(error)}, 404 if isinstance(error, DataError) else 400)


class _Pages:
    """The answer to each address."""

    def __init__(self, session: Session, token: str, name: str, finish: Callable[[], None]) -> None:
        self._session = session
        self._pictures = Pictures(session.pool)
        self._clusters = EnvironmentClusters(session.pool.environment)
        self._token = token
        self._name = name
        self._finish = finish

    def home(self, request: Request) -> Response:
        return HTMLResponse(_template().render(title=self._session.pool.title, token=self._token, name=self._name))

    def describe(self, request: Request) -> Response:
        return JSONResponse(self._session.describe(request.query_params.get("annotator", "")))

    async def keep(self, request: Request) -> Response:
        body = await _body(request)
        posts = [_post(one) for one in _list(body, "posts")]
        new = await run_in_threadpool(self._session.keep, posts, str(body.get("annotator", "")).strip())
        return JSONResponse({"new": new, "last": self._session.store.last_rows()})

    async def more(self, request: Request) -> Response:
        body = await _body(request)
        return JSONResponse({"queue": await run_in_threadpool(self._session.more, _whole(body.get("y")))})

    async def add(self, request: Request) -> Response:
        chosen = [_whole(index) for index in _list(await _body(request), "index")]
        return JSONResponse({"queue": await run_in_threadpool(self._session.add, chosen)})

    async def finish(self, request: Request) -> Response:
        await _body(request)
        self._finish()
        return JSONResponse({})

    async def events(self, request: Request) -> Response:
        return StreamingResponse(self._news(request), media_type="text/event-stream")

    async def _news(self, request: Request) -> AsyncIterator[str]:
        """The summary whenever there is a new one, until the browser goes."""
        told = -1
        while not self._session.closed and not await request.is_disconnected():
            if self._session.version != told:
                told = self._session.version
                summary = await run_in_threadpool(self._session.summary)
                yield f"data: {json.dumps(summary)}\n\n"
            await asyncio.sleep(_TICK)

    def differences(self, request: Request) -> Response:
        return JSONResponse({"differences": self._session.differences()})

    def points(self, request: Request) -> Response:
        """Of each image: x and y in the attention space (float32), label and prediction (uint16), confidence."""
        pool = self._session.pool
        if pool.coordinates is None:
            raise DataError("Points must come from an attention space. Got none. Open the page with slim annotate RUN.")
        n = len(pool.table)
        places = np.asarray(pool.coordinates, dtype="<f4")
        predicted, confidence = np.full(n, 65535, "<u2"), np.zeros(n, "<f4")
        if pool.probabilities is not None:
            probabilities = np.asarray(pool.probabilities)
            predicted, confidence = probabilities.argmax(1).astype("<u2"), probabilities.max(1).astype("<f4")
        parts = (places, confidence, pool.table.y.astype("<u2"), predicted)
        return _binary(b"".join(part.tobytes() for part in parts))

    def scores(self, request: Request) -> Response:
        """Of each image: its score from 0 to 254, or 255 where it has none."""
        scores = self._session.scores()
        levels = np.where(np.isnan(scores), 255, np.nan_to_num(scores) * 254).round().astype(np.uint8)
        return _binary(levels.tobytes())

    def clusters(self, request: Request) -> Response:
        """Of each image: its cluster of environment features, from 0."""
        return _binary(self._clusters())

    def photo(self, request: Request) -> Response:
        return self._picture(request, small=False)

    def thumbnail(self, request: Request) -> Response:
        return self._picture(request, small=True)

    def _picture(self, request: Request, *, small: bool) -> Response:
        index = self._index(request)
        return _kept(Response(self._pictures.photo(index, small=small), media_type="image/jpeg"))

    def map(self, request: Request) -> Response:
        return _kept(_binary(self._pictures.map(self._index(request))))

    def _index(self, request: Request) -> int:
        """The image that an address names."""
        index = int(request.path_params["index"])
        try:
            self._session.check(index)
        except AnnotationError as error:
            raise DataError(str(error)) from error
        return index


def _kept(response: Response) -> Response:
    """Let the browser keep it for as long as somebody judges."""
    response.headers["Cache-Control"] = "private, max-age=7200"
    return response


def _binary(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")


async def _body(request: Request) -> dict[str, Any]:
    """The request's JSON object."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise AnnotationError("Requests must hold JSON. Got another content type. Reload the page.")
    if int(request.headers.get("content-length", 0)) > _MOST:
        raise AnnotationError(f"Requests must be smaller than {_MOST} bytes. Got more. Send fewer answers at once.")
    try:
        body = await request.json()
    except ValueError as error:
        raise AnnotationError(f"Requests must hold JSON. Got something else: {error}. Reload the page.") from error
    if not isinstance(body, dict):
        raise AnnotationError(f"Requests must hold a JSON object. Got {type(body).__name__}. Reload the page.")
    return body


def _list(body: dict[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    if not isinstance(value, list):
        raise AnnotationError(f"A request must have a list named {name}. Got {value!r}. Reload the page.")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise AnnotationError(f"Images and classes must be whole numbers. Got {value!r}. Reload the page.")
    return value


def _post(one: Any) -> Post:
    """A post from its JSON."""
    try:
        seconds, note, settles = float(one.get("seconds", 0)), str(one.get("note", "")), one.get("settles") is True
        return Post(str(one["key"]), _whole(one["index"]), one["answer"], seconds, note, settles)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnnotationError(
            f"A post must have a key, an index and an answer. Got {one!r}. Reload the page."
        ) from error
