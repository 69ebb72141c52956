"""Who may call from a browser: the Host header against DNS rebinding, the Origin header of WebSockets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from noria.rpc.config import LOCAL_HOSTS

_REMEMBERED: Final = 64


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header of this lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


class HostGate:
    """Refuses requests that name a host which is not ours.

    Starlette decides; a ``Host`` value that it let through once is remembered, since nearly all requests of a
    server carry the same one.
    """

    def __init__(self, app: ASGIApp, allowed: Iterable[str]) -> None:
        self._app = app
        self._accepted: set[bytes] = set()
        self._decide = TrustedHostMiddleware(self._remember, list(allowed), www_redirect=False)

    async def _remember(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = header(scope, b"host")
        if host is not None and len(self._accepted) < _REMEMBERED:
            self._accepted.add(host)
        await self._app(scope, receive, send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 400."""
        if header(scope, b"host") in self._accepted:
            await self._app(scope, receive, send)
        else:
            await self._decide(scope, receive, send)


def origin_allowed(origin: bytes | None, allowed: tuple[str, ...]) -> bool:
    """Tell whether a page of this origin may open a WebSocket; browsers do not guard that themselves.

    Programs send no origin. Pages served from this machine are allowed, others must be configured.
    """
    if origin is None or "*" in allowed:
        return True
    text = origin.decode("latin-1").lower()
    if text in (one.lower() for one in allowed):
        return True
    try:
        host = urlsplit(text).hostname or ""
    except ValueError:
        return False
    return (f"[{host}]" if ":" in host else host) in LOCAL_HOSTS
