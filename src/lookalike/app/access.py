"""Who may ask, and what browsers may do with the answer: host names, origins, a token, headers."""

import hmac
import ipaddress
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookalike.app.problems import RequestError, problem_response

COOKIE = "lookalike_session"
LOCAL = ("localhost", "127.0.0.1", "::1")
OPEN = ("/", "/session", "/health", "/favicon.ico")  # no token needed; and what is below /page/
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; manifest-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(frozen=True)
class Door:
    """Whom the server lets in.

    hosts: names under which it may be asked for, without ports; those of this machine always count.
    any_address: whether every IP address counts, too, because the server listens on all of them.
        A name that an attacker points at this machine is still rejected.
    token: that every request must show; None for none.
    """

    hosts: Collection[str] = ()
    any_address: bool = False
    token: str | None = None

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        return name in (*LOCAL, *self.hosts) or (self.any_address and _is_address(name))


LOCAL_DOOR = Door()


class Access:
    """ASGI middleware that checks host, origin and token, and adds the security headers.

    Args:
        app: behind it.
        door: whom it lets in.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app = app
        self.door = door
        self.session = secrets.token_urlsafe(32)  # what the cookie holds, instead of the token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or say why not."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        scope.setdefault("state", {})["access"] = self
        problem = self._problem(Headers(scope=scope), scope["path"])

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        behind = self.app if problem is None else problem_response(problem)
        await behind(scope, receive, send_with_headers)

    def accepts(self, token: str) -> bool:
        """Whether a token is the right one; takes the same time for every wrong one."""
        return hmac.compare_digest(token.encode(), (self.door.token or "").encode())

    def _problem(self, headers: Headers, path: str) -> RequestError | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.door.knows(host):
            return RequestError(
                421,
                f"this server is not known as {host!r}. Start it with hosts=[{host or 'NAME'}].",
            )
        if origin is not None and urlsplit(origin).netloc != host:
            return RequestError(403, "requests from pages of other sites are not answered")
        if self.door.token is None or path in OPEN or path.startswith("/page/"):
            return None
        if self._shows_token(headers):
            return None
        hint = "send the token of this server as: Authorization: Bearer TOKEN"
        return RequestError(401, hint, WWW_Authenticate="Bearer")

    def _shows_token(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.accepts(token.strip())
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(
            cookie.value.encode(), self.session.encode()
        )


def is_local(host: str) -> bool:
    """Whether only this machine reaches a server that listens there.

    >>> is_local("127.0.0.1"), is_local("0.0.0.0")
    (True, False)
    """
    return host in LOCAL or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
