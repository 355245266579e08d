"""Who may reach the page: only those with its token, under this machine's own address, and from no other site."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
LOOPBACK = "127.0.0.1"
LOCAL = (LOOPBACK, "localhost", "::1")
"""Hosts at which only this machine reaches the page."""

_OPEN = "/static/"  # styles and scripts, which contain nothing about the run


def cookie_name(token: str) -> str:
    """Name of the cookie that holds a page's token: cookies are shared between the ports of a machine."""
    return f"slim-{hashlib.sha256(token.encode()).hexdigest()[:8]}"


class Guard:
    """Middleware that passes on only requests with the token, to this machine's own address, from the page itself.

    The token comes with the link, and in a cookie from then on. In a notebook's frame, where browsers block cookies,
    the page sends it with each request. Only the token counts then, since the page may come through a notebook server's
    proxy, under its name, and be framed by an editor: another site does not know the token, and no cookie helps it.

    Parameters
    ----------
    app
        The application behind it.
    token
        The secret in the link.
    framed
        Whether the page is shown in a notebook's frame.
    names
        This machine's names; see `own_names`.
    """

    def __init__(
        self, app: ASGIApp, token: str, *, framed: bool = False, names: Collection[str] = ("localhost",)
    ) -> None:
        self.app = app
        self.token = token
        self.framed = framed
        self.names = names
        self.cookie = cookie_name(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request or pass it on; every response gets the security headers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._secure(MutableHeaders(scope=message))
            await send(message)

        request = Request(scope)
        await (self._refusal(request) or self._entrance(request) or self.app)(scope, receive, guarded)

    def _refusal(self, request: Request) -> ASGIApp | None:
        """The response to a request that is not allowed; None where it is."""
        if self.framed:
            return None if self._is_open(request) or self._bears_token(request) else _no_token()
        host = request.headers.get("host", "")
        if not is_own_host(host, self.names):
            text = (
                f"The page must be opened at this machine's own address. Got {host!r} instead. Open the printed link."
            )
            return PlainTextResponse(text, 421)
        origin = request.headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2].lower() != host.lower()
        if foreign or (request.headers.get("sec-fetch-site") == "cross-site" and request.method != "GET"):
            text = f"A request must come from the page itself. Got one from {origin} instead. Open the printed link."
            return PlainTextResponse(text, 403)
        if self._is_open(request) or self._bears_token(request) or self._is_token(request.cookies.get(self.cookie, "")):
            return None
        return _no_token()

    def _is_open(self, request: Request) -> bool:
        return request.url.path.startswith(_OPEN)

    def _bears_token(self, request: Request) -> bool:
        """Whether the address has the token."""
        return self._is_token(request.query_params.get("token", ""))

    def _is_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.token.encode())

    def _entrance(self, request: Request) -> ASGIApp | None:
        """The response to the link: moves the token from the address, which the history keeps, into a cookie."""
        if request.url.path != "/" or "token" not in request.query_params or self.framed:
            return None
        response = RedirectResponse("/", 303)
        # Not strict, or the browser would not send it along when the link is followed from another site.
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="lax")
        return response

    def _secure(self, headers: MutableHeaders) -> None:
        """Add the headers that make the browser load nothing from other sites, and tell them nothing."""
        # No list of ancestors could name every editor (vscode-webview:) and notebook server.
        headers["Content-Security-Policy"] = _POLICY if self.framed else f"{_POLICY}; frame-ancestors 'none'"
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=()"
        headers.setdefault("Cache-Control", "no-store")


def _no_token() -> ASGIApp:
    text = "The page must be opened with the token in its link. Got no token or an outdated one instead. "
    return PlainTextResponse(text + "Open the link that slim printed last.", 403)


def own_names(host: str = LOOPBACK) -> set[str]:
    """Names in lower case by which browsers reach this machine where the page is served at a host.

    On a network, they include its full name, and its name there without a DNS server.

    Examples
    --------
    >>> {"localhost", "gpu1.lab.example"} <= own_names("GPU1.lab.example")
    True
    """
    name = socket.gethostname()
    names = {"localhost", name, host}
    if host not in LOCAL:
        short = name.partition(".")[0]
        names |= {short, f"{short}.local", socket.getfqdn()}  # the last one may ask the network, which takes time
    return {name.lower() for name in names}


def is_own_host(host: str, names: Collection[str] = ("localhost",)) -> bool:
    """Whether a Host header is an IP address or one of the names that belong to this machine alone.

    A site whose own name resolves to this machine (DNS rebinding) sends that name. Any port is accepted, because a
    tunnel may end at any.

    Examples
    --------
    >>> [is_own_host(host) for host in ("127.0.0.1:8000", "localhost:80", "[::1]:80", "evil.example:8000", "")]
    [True, True, True, False, False]
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
