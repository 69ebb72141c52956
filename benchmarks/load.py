"""A load generator: keep-alive HTTP connections over uvloop that send bodies encoded beforehand.

It does as little as possible per answer, so that the node and not the generator is measured;
`calibrate` shows what it reaches against a server that does nothing.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from multiprocessing.connection import Connection as Pipe
from typing import cast

import uvloop


class LoadFailed(Exception):
    """A server closed the connection or gave a wrong answer; the message quotes it."""


class LoadStalled(Exception):
    """The load was not through when its time was up."""


@dataclass(slots=True)
class Load:
    """What one run of load achieved."""

    requests: int = 0
    seconds: float = 0.0
    latencies_seconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests (HTTP posts) per second."""
        return self.requests / self.seconds

    def percentile_milliseconds(self, percent: float) -> float:
        ordered = sorted(self.latencies_seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000


def http_post(body: bytes) -> bytes:
    """The whole HTTP/1.1 request that carries this JSON body."""
    head = "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def run_load(
    address: tuple[str, int],
    requests: Sequence[Iterable[bytes]],
    accept: Callable[[bytes], bool],
    *,
    seconds: float | None = None,
    limit_seconds: float = 600.0,
) -> Load:
    """Open one connection per element of ``requests`` and send its requests, each after the answer before.

    Parameters
    ----------
    address
        Host and port.
    requests
        One iterable of `http_post` requests for each connection.
    accept
        Says whether an answer's body is right; a wrong one ends the run with `LoadFailed`.
    seconds
        Stop after this long; without it, when all requests are answered.
    limit_seconds
        Raise `LoadStalled` if that has not happened by then.
    """
    run = _run_load(address, requests, accept, seconds)
    try:
        return uvloop.run(_within(run, limit_seconds))
    except TimeoutError:
        raise LoadStalled(f"not all requests were answered within {limit_seconds:g} s") from None


def calibrate(connections: int, request: bytes, answer: bytes, seconds: float) -> Load:
    """Measure the generator against a server that sends ``answer`` to whatever comes."""
    ours, theirs = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    server = spawn.Process(target=_serve_nothing, args=(theirs, answer), daemon=True)
    server.start()
    try:
        port = ours.recv()
        return run_load(("127.0.0.1", port), [repeat(request)] * connections, lambda _: True, seconds=seconds)
    finally:
        server.terminate()
        server.join()


class _Client(asyncio.Protocol):
    """One connection: a request is in flight, the answer is awaited, then the next one goes out."""

    def __init__(
        self, requests: Iterator[bytes], accept: Callable[[bytes], bool], load: Load, deadline: float
    ) -> None:
        self._requests = requests
        self._accept = accept
        self._load = load
        self._deadline = deadline
        self._buffer = b""
        self._needed = 0
        self._sent_at = 0.0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer = self._buffer + data if self._buffer else data
        if len(buffer) < self._needed:
            return
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = buffer[:end].lower()
        at = head.find(b"content-length:")
        if at < 0:
            self._fail(f"an answer without Content-Length: {buffer[:200]!r}")
            return
        line_end = head.find(b"\r\n", at)
        self._needed = end + 4 + int(head[at + 15 : line_end if line_end >= 0 else None])
        if len(buffer) < self._needed:
            return
        self._needed = 0
        self._buffer = b""
        if not self._accept(buffer[end + 4 :]):
            self._fail(f"a wrong answer: {buffer[:500]!r}")
            return
        now = time.perf_counter()
        self._load.requests += 1
        self._load.latencies_seconds.append(now - self._sent_at)
        if now < self._deadline:
            self._next()
        else:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self._fail(f"the connection was closed: {exc}")

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._end()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def _end(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)
        self._transport.close()

    def _fail(self, reason: str) -> None:
        if not self.finished.done():
            self.finished.set_exception(LoadFailed(reason))
        self._transport.close()


async def _within(run: Coroutine[None, None, Load], limit_seconds: float) -> Load:
    return await asyncio.wait_for(run, limit_seconds)


async def _run_load(
    address: tuple[str, int],
    requests: Sequence[Iterable[bytes]],
    accept: Callable[[bytes], bool],
    seconds: float | None,
) -> Load:
    load = Load()
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    deadline = began + seconds if seconds is not None else float("inf")
    clients = []
    for each in requests:
        factory = partial(_Client, iter(each), accept, load, deadline)
        _, client = await loop.create_connection(factory, *address)
        clients.append(client.finished)
    await asyncio.gather(*clients)
    load.seconds = time.perf_counter() - began
    return load


class _NothingServer(asyncio.Protocol):
    """Answers every complete request with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, _, body = self._received.partition(b"\r\n\r\n")
        length = int(head[head.lower().find(b"content-length:") + 15 :].split(b"\r\n")[0])
        if len(body) >= length:
            self._received = b""
            self._transport.write(self._answer)


def _serve_nothing(pipe: Pipe, answer: bytes) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n".encode()
        server = await loop.create_server(lambda: _NothingServer(head + answer), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())
