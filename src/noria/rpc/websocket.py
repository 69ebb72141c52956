"""One WebSocket connection: calls, answers and notifications."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import Final

from starlette.types import Receive, Send

from noria.rpc.context import Context, Services
from noria.rpc.dispatch import Dispatcher
from noria.rpc.subscriptions import Subscriptions

_numbers: Final = itertools.count(1)
_READ_AGAIN_BELOW: Final = 1024 * 1024
"""Unread bytes in the outbox above which no further message is read."""
_TRY_AGAIN_LATER: Final = 1013


class WebSocketSession:
    """Serves an accepted connection until it ends."""

    def __init__(self, services: Services, dispatcher: Dispatcher, receive: Receive, send: Send) -> None:
        self._config = services.config
        self._dispatcher = dispatcher
        self._receive = receive
        self._send = send
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._changed = asyncio.Event()
        self._emptier = asyncio.Event()
        self._too_slow = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._subscriptions = Subscriptions(services, self.queue, services.config.max_subscriptions)
        self._context = Context(services, f"websocket-{next(_numbers)}", self._subscriptions)

    async def serve(self) -> None:
        """Read calls and write answers until either side closes; leave nothing behind."""
        loop = asyncio.get_running_loop()
        ends = [
            loop.create_task(self._read(), name="rpc-websocket-read"),
            loop.create_task(self._write(), name="rpc-websocket-write"),
            loop.create_task(self._too_slow.wait(), name="rpc-websocket-slow"),
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._too_slow.is_set():
                ends[1].cancel()
                await self._close("the client does not read its messages")
        finally:
            self._subscriptions.close()
            self._context.node.filters.forget_owner(self._context.owner)
            for task in (*ends, *self._calls):
                task.cancel()
            await asyncio.gather(*ends, *self._calls, return_exceptions=True)

    def queue(self, message: bytes) -> None:
        """Queue a message for the client; one that leaves too much unread is disconnected."""
        if self._too_slow.is_set():
            return
        if self._outbox and self._outbox_bytes + len(message) > self._config.max_outbox_bytes:
            self._outbox.clear()
            self._too_slow.set()
            return
        self._outbox.append(message)
        self._outbox_bytes += len(message)
        self._changed.set()

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            task = asyncio.get_running_loop().create_task(
                self._answer(text if text is not None else message.get("bytes") or b"")
            )
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            if len(self._calls) >= self._config.max_websocket_calls:
                await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
            while self._outbox_bytes > _READ_AGAIN_BELOW:
                self._emptier.clear()
                await self._emptier.wait()

    async def _answer(self, body: bytes | str) -> None:
        answer = await self._dispatcher.answer(body, self._context)
        if answer is not None:
            self.queue(answer)
        self._subscriptions.release()

    async def _write(self) -> None:
        while True:
            while not self._outbox:
                self._changed.clear()
                await self._changed.wait()
            message = self._outbox.popleft()
            await self._send({"type": "websocket.send", "text": message.decode("utf-8", "replace")})
            self._outbox_bytes -= len(message)
            self._emptier.set()

    async def _close(self, reason: str) -> None:
        # The transport is stuck, that is why we are here: the close frame must not wait behind it for long.
        try:
            async with asyncio.timeout(1):
                await self._send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": reason})
        except (TimeoutError, OSError):
            return
