"""The ASGI application: JSON-RPC in the body of a POST, and WebSocket connections."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from noria.rpc import errors
from noria.rpc.context import Context, Services
from noria.rpc.dispatch import Dispatcher, failure
from noria.rpc.origins import header, origin_allowed
from noria.rpc.websocket import WebSocketSession

_log = structlog.get_logger(__name__)

_JSON_TYPES: Final = (b"application/json", b"application/json-rpc", b"application/jsonrequest")
_CLOSE: Final = (b"connection", b"close")
_CONTEXTS_KEPT: Final = 256
HTTP_TOO_LARGE: Final = 413
_PIECE_BYTES: Final = 256 * 1024
_DISCARD_BYTES: Final = 64 * 1024 * 1024
_DISCARD_IDLE_SECONDS: Final = 0.5


class _Refused(Exception):
    """A request that is answered without being dispatched; the connection cannot be used again."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


@dataclass(slots=True)
class RpcApp:
    """Serves one node. Lifespan events are not used: `noria.rpc.RpcServer` owns the life of its parts."""

    services: Services
    dispatcher: Dispatcher
    _contexts: dict[str, Context] = field(default_factory=dict)
    _buffered: int = 0
    _websockets: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, or serve one WebSocket connection."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)

    # -- HTTP

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST" or scope["path"] not in ("/", ""):
            if not await self._told(scope, send):
                await _other_request(scope, send)
            return
        length, content_type = 0, b""
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = int(value) if value.isdigit() else 0
            elif name == b"content-type":
                content_type = value
        if content_type not in _JSON_TYPES and content_type.split(b";")[0].strip().lower() not in _JSON_TYPES:
            # Demanding this type makes browsers ask before they send anything from a page of another origin.
            refusal = errors.invalid_request("invalid content type, only application/json is supported")
            await _respond(send, 415, failure(refusal), close=True)
            return
        try:
            body = await self._body(receive, length)
        except _Refused as refused:
            if refused.status == HTTP_TOO_LARGE and header(scope, b"expect") is None:
                await _discard(receive)
            await _respond(send, refused.status, refused.body, close=True)
            return
        if body is None:
            return
        answer = await self.dispatcher.answer(body, self._context(scope)) or b""
        if len(answer) > _PIECE_BYTES:
            await self._respond_in_pieces(send, answer)
        else:
            await _respond(send, 200, answer)

    async def _told(self, scope: Scope, send: Send) -> bool:
        """Answer whoever watches over the node, if this is such a request."""
        view = self.services.consensus
        if view is None or scope["method"] not in ("GET", "HEAD"):
            return False
        if scope["path"] == "/health":
            well, report = view.health()
            await _respond(send, 200 if well else 503, msgspec.json.encode(report))
            return True
        if scope["path"] == "/metrics":
            kind, text = view.metrics()
            await _respond(send, 200, text, content_type=kind.encode())
            return True
        return False

    async def _body(self, receive: Receive, length: int) -> bytes | None:
        """Read the body; ``None`` if the client has gone."""
        limit = self.services.config.max_body_bytes
        if length > limit:
            raise self._too_large()
        message = await receive() if length else None
        if message is not None and not message.get("more_body", False):
            # The usual case: it has all arrived with the head.
            if message["type"] == "http.disconnect":
                return None
            whole: bytes = message["body"]
            if len(whole) > limit:
                raise self._too_large()
            return whole
        chunks: list[bytes] = []
        held = 0
        try:
            async with asyncio.timeout(self.services.config.request_seconds):
                while True:
                    if message is None:
                        message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunk = message.get("body", b"")
                    chunks.append(chunk)
                    held += len(chunk)
                    self._buffered += len(chunk)
                    if held > limit:
                        raise self._too_large()
                    if self._buffered > self.services.config.max_buffered_bytes:
                        busy = errors.limit_exceeded("server busy: too many large requests, try again later")
                        raise _Refused(503, failure(busy))
                    if not message.get("more_body", False):
                        return b"".join(chunks)
                    message = None
        except TimeoutError:
            raise _Refused(408, failure(errors.timed_out())) from None
        finally:
            self._buffered -= held

    async def _respond_in_pieces(self, send: Send, answer: bytes) -> None:
        """Send a long answer no faster than the client reads, for as long as a request may take."""
        if self._buffered + len(answer) > self.services.config.max_buffered_bytes:
            busy = errors.limit_exceeded("server busy: too many large answers, try again later")
            await _respond(send, 503, failure(busy))
            return
        self._buffered += len(answer)
        try:
            async with asyncio.timeout(self.services.config.request_seconds):
                await send({"type": "http.response.start", "status": 200, "headers": _headers(len(answer))})
                for start in range(0, len(answer), _PIECE_BYTES):
                    piece, last = answer[start : start + _PIECE_BYTES], start + _PIECE_BYTES >= len(answer)
                    await send({"type": "http.response.body", "body": piece, "more_body": not last})
                    # The transport writes, and notices a client that does not read, in the loop's next turn.
                    await asyncio.sleep(0)
        except TimeoutError:
            # uvicorn closes the connection, because the answer is not complete.
            _log.debug("rpc_client_does_not_read")
        finally:
            self._buffered -= len(answer)

    def _too_large(self) -> _Refused:
        limit = self.services.config.max_body_bytes
        return _Refused(
            413, failure(errors.invalid_request(f"request body too large: at most {limit} bytes"))
        )

    def _context(self, scope: Scope) -> Context:
        client = scope.get("client")
        owner = client[0] if client else ""
        found = self._contexts.get(owner)
        if found is None:
            if len(self._contexts) >= _CONTEXTS_KEPT:
                self._contexts.clear()
            found = self._contexts[owner] = Context(self.services, owner)
        return found

    # -- WebSocket

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        config = self.services.config
        if not origin_allowed(header(scope, b"origin"), config.cors_origins):
            await _reject_websocket(send, 403, b"origin not allowed")
            return
        if self._websockets >= config.max_websockets:
            await _reject_websocket(send, 503, b"too many WebSocket connections")
            return
        self._websockets += 1
        try:
            await send({"type": "websocket.accept"})
            await WebSocketSession(self.services, self.dispatcher, receive, send).serve()
        except OSError:
            # The client has gone while we were talking to it.
            _log.debug("rpc_websocket_lost")
        finally:
            self._websockets -= 1


async def _discard(receive: Receive) -> None:
    """Read what a client is still sending, within bounds.

    Many clients look for an answer only when they have sent all, and find a closed connection instead of it
    if the rest is left unread.
    """
    discarded = 0
    while discarded < _DISCARD_BYTES:
        try:
            async with asyncio.timeout(_DISCARD_IDLE_SECONDS):
                message = await receive()
        except TimeoutError:
            return
        discarded += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


async def _respond(
    send: Send, status: int, body: bytes, *, close: bool = False, content_type: bytes = b"application/json"
) -> None:
    headers = _headers(len(body), content_type)
    if close:
        headers.append(_CLOSE)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(length: int, content_type: bytes = b"application/json") -> list[tuple[bytes, bytes]]:
    return [(b"content-type", content_type), (b"content-length", str(length).encode())]


async def _other_request(scope: Scope, send: Send) -> None:
    """Answer what is not a call: a health check, or a mistake."""
    if scope["path"] not in ("/", ""):
        status, body = 404, failure(errors.invalid_request("nothing here: calls are POSTed to /"))
    elif scope["method"] in ("GET", "HEAD"):
        status, body = 200, b""
    else:
        status, body = 405, failure(errors.invalid_request("method not allowed: calls are POSTed"))
    await _respond(send, status, body, close=scope["method"] not in ("GET", "HEAD"))


async def _reject_websocket(send: Send, status: int, words: bytes) -> None:
    await send({"type": "websocket.http.response.start", "status": status, "headers": []})
    await send({"type": "websocket.http.response.body", "body": words})
