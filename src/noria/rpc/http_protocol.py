"""uvicorn's HTTP protocol with bounds on the request head, which it does not have itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from noria.rpc.corked import CorkedTransport

_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)

_CHUNK_OVERHEAD: Final = 8
"""Bytes on the wire for a byte of body, in the smallest chunks."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 over httptools, whose request heads are limited in bytes and in time.

    The time limit is kept by a sweep over all connections (`is_stuck`), not by a timer for each request.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        max_head_bytes: int,
        max_body_bytes: int,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._max_head_bytes = max_head_bytes
        self._max_request_bytes = max_head_bytes + _CHUNK_OVERHEAD * max_body_bytes
        self._in_head = True
        self._head_bytes = 0
        self._heads_in_data = 0
        self._request_bytes = 0
        self._head_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(CorkedTransport(transport, self.loop))
        self._head_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and end the connection if a head grows too long."""
        was_in_head = self._in_head
        self._heads_in_data = 0
        super().data_received(data)
        if not self._in_head:
            # Counted here too, because what surrounds the chunks of a body never reaches the application.
            self._request_bytes += len(data)
            if self._request_bytes > self._max_request_bytes:
                self.transport.abort()
        # What follows a head or body that ends within this data is no longer than one read from the socket,
        # and the limit on idle connections ends it.
        elif was_in_head and not self._heads_in_data and self.parser is not None:
            self._head_bytes += len(data)
            if self._head_since is None:
                self._head_since = self.loop.time()
            if self._head_bytes > self._max_head_bytes and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_headers_complete(self) -> None:
        """Start the request."""
        self._in_head = False
        self._heads_in_data += 1
        self._head_bytes = 0
        self._request_bytes = 0
        self._head_since = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Finish the request's body; a further head may follow."""
        self._in_head = True
        super().on_message_complete()

    def is_stuck(self, limit_seconds: float) -> bool:
        """Tell whether a head has been arriving, or a closing connection's rest leaving, for too long."""
        if self._head_since is None and self.transport.is_closing():
            self._head_since = self.loop.time()
        return self._head_since is not None and self.loop.time() - self._head_since > limit_seconds


def bounded(max_head_bytes: int, max_body_bytes: int) -> Callable[..., asyncio.Protocol]:
    """Return what uvicorn calls for each connection."""

    def protocol(**arguments: Any) -> asyncio.Protocol:
        return BoundedHttpProtocol(**arguments, max_head_bytes=max_head_bytes, max_body_bytes=max_body_bytes)

    return protocol
