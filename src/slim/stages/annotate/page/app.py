"""The web application behind the page: one method per address."""

from __future__ import annotations

import io
import json
import secrets
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from slim.errors import AnnotationError, ArtifactError, DataError, SlimError
from slim.files import parse_json
from slim.overlay import colour_layer, colour_scale, spotlight_layer
from slim.stages.annotate.page.clusters import EnvironmentClusters
from slim.stages.annotate.page.images import Layer, Pictures
from slim.stages.annotate.page.security import LOOPBACK, Guard, own_names
from slim.stages.annotate.page.session import Session
from slim.stages.annotate.store import Post
from slim.stages.judgements import Place

_STATIC = Path(__file__).parent / "static"
_MAX_BYTES = 10_000_000  # of a request; an answer takes a few hundred
_LONGEST_NAME = 200  # characters; the page itself stops at 60
_CONTROL = ("Cc", "Zl", "Zp")  # Unicode's control characters and ends of lines; joiners (Cf) spell names
_THRESHOLD = 50  # per cent of the strongest attention above which a region counts as attended


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("slim.stages.annotate.page"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("annotate.html.j2")


def build_app(
    session: Session,
    token: str,
    *,
    host: str = LOOPBACK,
    name: str = "",
    framed: bool = False,
    finish: Callable[[], None] = lambda: None,
) -> Starlette:
    """The application that serves a session to everyone with its token.

    Parameters
    ----------
    session
        The queries and the answers.
    token
        The secret in the link.
    host
        Address that the page is served at.
    name
        The name that the page suggests to the annotator.
    framed
        Whether the page is shown in a notebook's frame; see `Guard`.
    finish
        Called when somebody presses Done.
    """
    pages = _Pages(session, token if framed else "", name, finish)
    routes = [
        Route("/", pages.home),
        Route("/api/session", pages.describe),
        Route("/api/posts", pages.keep, methods=["POST"]),
        Route("/api/more", pages.more, methods=["POST"]),
        Route("/api/add", pages.add, methods=["POST"]),
        Route("/api/finish", pages.finish, methods=["POST"]),
        Route("/api/summary", pages.summary),
        Route("/api/differences", pages.differences),
        Route("/api/points", pages.points),
        Route("/api/scores", pages.scores),
        Route("/api/clusters", pages.clusters),
        Route("/photo/{index:int}", pages.photo),
        Route("/map/{index:int}", pages.map),
        Route("/spotlight/{index:int}", pages.spotlight),
        Route("/outline/{index:int}", pages.outline),
        Route("/static/scale.png", pages.scale),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    handlers: dict[Any, Any] = {SlimError: _refusal, ClientDisconnect: _left}
    guard = Middleware(Guard, token=token, framed=framed, names=own_names(host))
    return Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)


class _NameError(AnnotationError):
    """A name under which nobody can answer, whatever the answers are."""


# What the page does: 400 sets a post aside, 422 asks for another name, and 507, the store's, tries again.
_STATUS: dict[type[Exception], int] = {DataError: 404, _NameError: 422, ArtifactError: 507}


async def _refusal(request: Request, error: Exception) -> Response:
    """An error that the page shows, as JSON."""
    return JSONResponse({"error": str(error)}, _STATUS.get(type(error), 400))


async def _left(request: Request, error: Exception) -> Response:
    """A response to a sender that has hung up halfway, whom it does not reach."""
    return Response(status_code=400)


class _Pages:
    """One method per address."""

    def __init__(self, session: Session, token: str, name: str, finish: Callable[[], None]) -> None:
        self._session = session
        self._pictures = Pictures(session.pool)
        self._clusters = EnvironmentClusters(session.pool.environment)
        self._start = secrets.token_hex(4)  # versions count from zero again after a restart
        self._token = token
        self._name = name
        self._finish = finish

    def home(self, request: Request) -> Response:
        return HTMLResponse(_template().render(title=self._session.pool.title, token=self._token, name=self._name))

    def describe(self, request: Request) -> Response:
        return JSONResponse(self._session.describe(_name(request.query_params.get("annotator", ""))))

    async def keep(self, request: Request) -> Response:
        body = await _body(request)
        posts = [_post(one) for one in _list(body, "posts")]
        new = await run_in_threadpool(self._session.keep, posts, _name(body.get("annotator", "")))
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

    def summary(self, request: Request) -> Response:
        """Scores, trust and agreement from all answers; empty (204) if the version in the query is the latest."""
        version = f"{self._start}-{self._session.version}"
        if request.query_params.get("version") == version:
            return Response(status_code=204)
        return JSONResponse({**self._session.summary(), "version": version})

    def differences(self, request: Request) -> Response:
        return JSONResponse({"differences": self._session.differences()})

    def points(self, request: Request) -> Response:
        """All images: plane of the attention space, confidence (float32 each), label and prediction (uint16 each)."""
        pool = self._session.pool
        if pool.plane is None:
            raise DataError("The map must have an attention space. Got none. Open the page with slim annotate RUN.")
        n = len(pool.table)
        plane = np.asarray(pool.plane, dtype="<f4")
        predicted, confidence = np.full(n, 65535, "<u2"), np.zeros(n, "<f4")
        if pool.probabilities is not None:
            probabilities = np.asarray(pool.probabilities)
            predicted, confidence = probabilities.argmax(1).astype("<u2"), probabilities.max(1).astype("<f4")
        parts = (plane, confidence, pool.table.y.astype("<u2"), predicted)
        return _binary(b"".join(part.tobytes() for part in parts))

    def scores(self, request: Request) -> Response:
        """One byte per image: its score times 254, or 255 if it has none."""
        scores = self._session.scores()
        levels = np.where(np.isnan(scores), 255, np.nan_to_num(scores) * 254).round().astype(np.uint8)
        return _binary(levels.tobytes())

    def clusters(self, request: Request) -> Response:
        """One byte per image: its cluster of environment features, from 0."""
        return _binary(self._clusters())

    def photo(self, request: Request) -> Response:
        return _picture(self._pictures.photo(self._index(request), small=_is_small(request)), "jpeg")

    def map(self, request: Request) -> Response:
        """The attention in colour with an outline of the attended region, to be laid over the photo."""
        return self._layer(request, colour_layer)

    def spotlight(self, request: Request) -> Response:
        """Darkness outside the attended region, to be laid over the photo."""
        return self._layer(request, spotlight_layer)

    def outline(self, request: Request) -> Response:
        """The photo with what SLIM takes for the object; the version in the query is for the browser's cache."""
        index, outlines = self._index(request), self._session.outlines
        if outlines is None:
            raise DataError("An outline must have features of places. Got none. Open the page with slim annotate RUN.")
        return _picture(self._pictures.outline(index, *outlines.scores(index)), "jpeg")

    def scale(self, request: Request) -> Response:
        """The colour scale, from no attention to the strongest."""
        buffer = io.BytesIO()
        colour_scale(128).save(buffer, "PNG")
        return _picture(buffer.getvalue(), "png")

    def _layer(self, request: Request, draw: Layer) -> Response:
        """A layer of the image in the address."""
        small = _is_small(request)
        return _picture(self._pictures.layer(self._index(request), draw, _threshold(request), small=small), "png")

    def _index(self, request: Request) -> int:
        """The position in the address."""
        index = int(request.path_params["index"])
        try:
            self._session.check(index)
        except AnnotationError as error:
            raise DataError(str(error)) from error
        return index


def _is_small(request: Request) -> bool:
    """Whether the page asks for a thumbnail."""
    return "small" in request.query_params


def _threshold(request: Request) -> float:
    """The attention above which a region counts as attended, as a fraction."""
    text = request.query_params.get("threshold", str(_THRESHOLD))
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 100:
        raise AnnotationError(f"The threshold must be a whole number from 1 to 99. Got {text!r}. Reload the page.")
    return int(text) / 100


def _picture(content: bytes, kind: str) -> Response:
    """An image file that the browser may cache for two hours."""
    return Response(content, media_type=f"image/{kind}", headers={"Cache-Control": "private, max-age=7200"})


def _binary(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")


async def _body(request: Request) -> dict[str, Any]:
    """The request's JSON object."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise AnnotationError("A request must contain JSON. Got another content type instead. Reload the page.")
    content = bytearray()
    async for chunk in request.stream():  # its header may say another size
        content += chunk
        if len(content) > _MAX_BYTES:
            raise AnnotationError(
                f"A request must have at most {_MAX_BYTES} bytes. Got more instead. Send fewer answers at once."
            )
    try:
        body = parse_json(bytes(content))
        json.dumps(body, ensure_ascii=False).encode()  # half a character, "\ud800", cannot be stored
    except ValueError as error:
        raise AnnotationError(
            f"A request must contain JSON. Got invalid JSON instead: {error}. Reload the page."
        ) from error
    if not isinstance(body, dict):
        raise AnnotationError(f"A request must be a JSON object. Got {type(body).__name__} instead. Reload the page.")
    return body


def _list(body: dict[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    if not isinstance(value, list):
        raise AnnotationError(f"A request must contain a list {name!r}. Got {value!r} instead. Reload the page.")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise AnnotationError(f"Images and classes must be whole numbers. Got {value!r} instead. Reload the page.")
    return value


def _place(value: Any) -> Place | None:
    """Where the object is, from its JSON; None = not said."""
    if value is None:
        return None
    known = isinstance(value, dict) and {"x", "y"} <= value.keys()
    numbers = [value.get(name, 0.0) for name in ("x", "y", "width", "height")] if known else []
    if not known or any(type(number) not in (int, float) for number in numbers):
        raise AnnotationError(
            "A place must have numbers x and y, and may have width and height, relative to the photo, from 0 to 1. "
            f"Got {value!r} instead. Reload the page."
        )
    return Place(*numbers)


def _name(value: Any) -> str:
    """An annotator's name: a line that can be printed in a terminal; the store refuses an empty one."""
    name = value.strip() if isinstance(value, str) else None
    if name is None or len(name) > _LONGEST_NAME or any(unicodedata.category(char) in _CONTROL for char in name):
        raise _NameError(
            f"A name must have at most {_LONGEST_NAME} characters, and no control characters. "
            f"Got {str(value)[:80]!r}. Enter another one on the page."
        )
    return name


def _post(one: Any) -> Post:
    """A post from its JSON."""
    try:
        seconds = max(float(one.get("seconds", 0)), 0.0)  # pages of earlier versions may send less
        note, settles, place = str(one.get("note", "")), one.get("settles") is True, _place(one.get("place"))
        return Post(str(one["key"]), _whole(one["index"]), one["answer"], seconds, note, settles, place=place)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise AnnotationError(
            f"A post must have a key, an index and an answer. Got {one!r} instead. Reload the page."
        ) from error
