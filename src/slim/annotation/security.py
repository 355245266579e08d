"""Who may talk to the page: whoever holds its token, from a page of its own, by a name that is its own."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
)
_NOTEBOOKS = "'self' http://localhost:* http://127.0.0.1:*"
_OPEN = "/static/"  # the page's own styles and scripts, which hold nothing of the run


class Guard:
    """Lets through only requests that bear the token, name this machine and come from the page itself.

    The token comes in the link once and in a cookie from then on. A page inside a notebook, where browsers hold
    cookies back, sends it with each request.

    Parameters
    ----------
    app
        What it guards.
    token
        The secret in the link.
    framed
        Whether a notebook on this machine may show the page.
    """

    def __init__(self, app: ASGIApp, token: str, *, framed: bool = False) -> None:
        self.app = app
        self.token = token
        self.framed = framed
        # Cookies do not tell ports apart: several pages at once need names of their own.
        self.cookie = f"slim-{hashlib.sha256(token.encode()).hexdigest()[:8]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that must not pass, or pass it on; every answer bears the headers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._mark(MutableHeaders(scope=message))
            await send(message)

        request = Request(scope)
        await (self._refusal(request) or self._entrance(request) or self.app)(scope, receive, guarded)

    def _refusal(self, request: Request) -> ASGIApp | None:
        """What to answer a request that must not pass."""
        host = request.headers.get("host", "")
        if not is_own_host(host):
            text = f"The page must be opened by this machine's own name. Got {host!r}. Open the link that slim printed."
            return PlainTextResponse(text, 421)
        origin = request.headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if foreign or (request.headers.get("sec-fetch-site") == "cross-site" and request.method != "GET"):
            text = f"Requests must come from the page itself. Got one from {origin}. Open the link that slim printed."
            return PlainTextResponse(text, 403)
        if request.url.path.startswith(_OPEN) or self._knows(request):
            return None
        text = "The page must be opened by its link, which holds a token. Got none, or one of another start. "
        return PlainTextResponse(text + "Open the link that slim printed last.", 403)

    def _knows(self, request: Request) -> bool:
        """Whether the request bears the token."""
        given = request.query_params.get("token") or request.cookies.get(self.cookie, "")
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _entrance(self, request: Request) -> ASGIApp | None:
        """The link's answer: the token moves from the address into a cookie, where no history keeps it."""
        if request.url.path != "/" or "token" not in request.query_params or self.framed:
            return None
        response = RedirectResponse("/", 303)
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
        return response

    def _mark(self, headers: MutableHeaders) -> None:
        """The headers that tell the browser to load nothing from elsewhere, and to tell nobody."""
        ancestors = _NOTEBOOKS if self.framed else "'none'"
        headers["Content-Security-Policy"] = _POLICY.format(ancestors=ancestors)
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=()"
        headers.setdefault("Cache-Control", "no-store")


def is_own_host(host: str) -> bool:
    """Whether a Host header is an address, or a name that only this machine bears.

    A site that points a name of its own at this machine (DNS rebinding) cannot send an address here. Ports do not
    matter: a tunnel may end at any.

    Examples
    --------
    >>> [is_own_host(host) for host in ("127.0.0.1:8000", "localhost:80", "[::1]:80", "evil.example:8000", "")]
    [True, True, True, False, False]
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", socket.gethostname().lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
