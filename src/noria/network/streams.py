"""Two-way streams of bytes between connected peers.

What one end writes comes out at the other in the same order; how it was cut into pieces does not. The swarm
takes no more from a peer than the protocol's buffer holds until somebody reads, and a writer waits until
there is room at the other end. Bytes do not cross between the swarm and the event loop one by one: a read
brings all that has come, a write takes a buffer's worth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import structlog

from noria._core import NetworkStream
from noria.network.errors import StreamClosed, StreamFailed, TransportClosed, TransportError
from noria.network.outcomes import Outcomes
from noria.network.peers import PeerId

_log = structlog.get_logger(__name__)

_NOTHING: Final = memoryview(b"")


class Stream:
    """A stream to a peer; as an asynchronous context manager it is closed, or reset where something raised.

    Two tasks may use it at once, one to read and one to write; further ones wait for their turn. A stream
    that nobody holds any more is reset.

    Attributes
    ----------
    peer
        The other end.
    protocol
        What is spoken.

    Examples
    --------
    >>> async def ask(stream: Stream, question: bytes) -> bytes:
    ...     answer = b""
    ...     async with stream:
    ...         await stream.write(question)
    ...         await stream.close_write()
    ...         while data := await stream.read(1 << 16):
    ...             answer += data
    ...     return answer
    """

    def __init__(self, core: NetworkStream, outcomes: Outcomes) -> None:
        self.peer = PeerId(core.peer)
        self.protocol = core.protocol
        self._core, self._outcomes = core, outcomes
        self._reading, self._writing = asyncio.Lock(), asyncio.Lock()
        self._coming: asyncio.Future[bytes] | None = None
        self._unread = _NOTHING
        self._read_all = self._said_all = False

    def __repr__(self) -> str:
        return f"<Stream {self.protocol} {self.peer}>"

    async def __aenter__(self) -> Self:
        """Return the stream, which is open already."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; reset it where something was raised."""
        if kind is None:
            await self.close()
        else:
            self.reset()

    async def read(self, max_bytes: int) -> bytes:
        """Return what has come, as soon as something has. A read that is cancelled loses nothing.

        Parameters
        ----------
        max_bytes
            At most so many bytes, and at least 1.

        Returns
        -------
        bytes
            ``b""`` at the end of what the other end says.

        Raises
        ------
        StreamReset
            Where one of the ends has reset the stream, or the connection is gone.
        StreamTimeout
            Where nothing moved for the protocol's ``idle_seconds``, in either direction.
        TransportClosed
            Where the transport has been closed.
        """
        if max_bytes < 1:
            raise ValueError(f"at least 1 byte is read at a time, not {max_bytes}")
        async with self._reading:
            if not self._unread and not self._read_all:
                data = await self._next()
                self._unread, self._read_all = memoryview(data), not data
            taken, self._unread = self._unread[:max_bytes], self._unread[max_bytes:]
            return bytes(taken)

    async def _next(self) -> bytes:
        if self._coming is None:
            self._coming = self._outcomes.expect(self._core.read)
        try:
            data = await asyncio.shield(self._coming)
        except TransportError:
            self._coming = None
            raise
        self._coming = None
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes; wait while the other end does not read. A write that is cancelled resets the stream.

        Parameters
        ----------
        data
            As many as there are. When this returns, they are on their way, not yet read.

        Raises
        ------
        StreamClosed
            After `close_write`.
        StreamReset, StreamTimeout, TransportClosed
            As in `read`.
        """
        async with self._writing:
            if self._said_all:
                raise StreamClosed("this end has said all that it had to say")
            for start in range(0, len(data), self._core.buffer_bytes):
                piece = data[start : start + self._core.buffer_bytes]
                await self._say(lambda piece=piece: self._core.write(piece))  # type: ignore[misc]

    async def close_write(self) -> None:
        """Say that nothing more will be written; the other end goes on. Twice is no error."""
        async with self._writing:
            if not self._said_all:
                self._said_all = True
                await self._say(self._core.close_write)

    async def _say(self, call: Callable[[], int]) -> None:
        try:
            await self._outcomes.expect(call)
        except asyncio.CancelledError:
            self.reset()  # Nobody knows how much of it the other end will get.
            raise

    async def close(self) -> None:
        """Write no more, and let go: what was written arrives, what still comes is refused."""
        try:
            with suppress(TransportError):  # There is nobody any more to whom it could be said.
                await self.close_write()
        finally:
            self._core.reset()

    def reset(self) -> None:
        """End it at once, both ways: whoever waits gets `StreamReset`, at either end. Twice is no error."""
        self._unread, self._read_all = _NOTHING, False
        self._core.reset()


StreamHandler = Callable[[Stream], Awaitable[None]]
"""Has a stream that a peer has opened; it is closed when this returns, and reset when it raises."""


async def have(handler: StreamHandler, stream: Stream) -> None:
    """Let a handler have a stream, and end it afterwards."""
    try:
        async with stream:
            await handler(stream)
    except (StreamFailed, TransportClosed) as error:
        _log.debug("a stream has ended early", protocol=stream.protocol, peer=stream.peer, error=str(error))
    except Exception:
        _log.exception("a handler has failed", protocol=stream.protocol)
