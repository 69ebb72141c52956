"""Blobs for peers, in pieces that each can be checked on arrival (protocol 8).

A blob's name is a BLAKE3 hash, and BLAKE3 is a tree: a list of one value per piece of 256 KiB is either
proven by the name alone, or wrong. Whoever serves a blob gives that list first and so vouches for it; then
a piece that does not fit is that peer's own lie, and no other's.

The tag before the bytes (``noria/blob/1``, ``noria/program/1``) is hashed with them: the first piece is
shorter by it on the wire.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Final, Protocol

from noria._core import BLAKE3_LEAF_BYTES, blake3_leaf
from noria.network.config import ProtocolSpec
from noria.network.errors import Refusal
from noria.network.transport import Request
from noria.primitives.types import HASH_BYTES
from noria.work.ids import BLOB_TAG, PROGRAM_TAG

PIECE_BYTES: Final = BLAKE3_LEAF_BYTES
PROTOCOL: Final = ProtocolSpec("/noria/blob/1", 64, PIECE_BYTES, 20.0)
BLOB_BYTES_MAX: Final = PIECE_BYTES // HASH_BYTES * PIECE_BYTES - len(PROGRAM_TAG)
"""The longest blob, 2 GiB: the list of its values fits one answer."""

FILES_OPEN: Final = 8
"""Blobs that are kept open while they are served."""

REQUEST: Final = struct.Struct(">BB32sI")
"""The kind, 0 for the list of values or 1 for a piece, the hash, the piece's place."""


class BlobKind(Enum):
    """What a blob is, which is part of its name."""

    BLOB = 0
    """Any bytes: an input, an output."""
    PROGRAM = 1
    """A module: runtimes are served too."""

    @property
    def tag(self) -> bytes:
        """What is hashed before the bytes."""
        return BLOB_TAG if self is BlobKind.BLOB else PROGRAM_TAG


@dataclass(frozen=True, slots=True)
class BlobName:
    """A kind, and the hash of its tag and the bytes."""

    kind: BlobKind
    id: bytes


class BlobSource(Protocol):
    """Where served blobs come from."""

    def open(self, name: BlobName) -> BinaryIO | None:
        """Open a blob that is here whole; called in a thread."""


# ---------------------------------------------------------------- serving


@dataclass(slots=True)
class _Served:
    """An open blob; closed when it is not among the latest any more and nobody reads it."""

    name: BlobName
    file: BinaryIO
    size: int
    users: int = 0
    evicted: bool = False
    leaves: asyncio.Task[bytes] | None = None


class BlobServer:
    """Answers requests for blobs; ``transport.serve(PROTOCOL.name, BlobServer(source).answer)``."""

    def __init__(self, source: BlobSource) -> None:
        self._source = source
        self._open: OrderedDict[BlobName, _Served] = OrderedDict()
        self._opening: dict[BlobName, asyncio.Lock] = {}
        self._closed = False

    async def answer(self, request: Request) -> bytes:
        """Return the values of a blob's pieces, or one piece.

        Raises
        ------
        Refusal
            Where the request is none, or the blob or the piece is not here.
        """
        try:
            kind, what, blob, place = REQUEST.unpack(request.data)
            name = BlobName(BlobKind(kind), blob)
            if what not in (0, 1):
                raise ValueError(what)
        except (struct.error, ValueError):
            raise Refusal("not a request for a blob") from None
        served = await self._get(name)
        served.users += 1
        try:
            if what == 0:
                return await self._leaves(served)
            piece = await asyncio.to_thread(read_piece, served.file, name, place)
        finally:
            served.users -= 1
            _close_unused(served)
        if not piece and (place or served.size):
            raise Refusal("no such piece")
        return piece

    def close(self) -> None:
        """Close all files, those that are being read when they have been; nothing is served from now on."""
        self._closed = True
        while self._open:
            self._evict()

    async def _get(self, name: BlobName) -> _Served:
        lock = self._opening.setdefault(name, asyncio.Lock())
        try:
            async with lock:
                if (served := self._open.get(name)) is None:
                    file = await asyncio.to_thread(self._source.open, name)
                    if file is None:
                        raise Refusal("not here")
                    if self._closed:
                        file.close()
                        raise Refusal("not served any more")
                    served = self._open[name] = _Served(name, file, os.fstat(file.fileno()).st_size)
                    if len(self._open) > FILES_OPEN:
                        self._evict()
        finally:
            if not lock.locked():
                self._opening.pop(name, None)
        self._open.move_to_end(name)
        return served

    async def _leaves(self, served: _Served) -> bytes:
        if served.size > BLOB_BYTES_MAX:
            raise Refusal("too long to be served")
        if served.leaves is None:
            served.leaves = asyncio.create_task(_all_leaves(served))
        # Many may wait for it; whoever stops waiting does not stop the others.
        leaves: bytes = await asyncio.shield(served.leaves)
        return leaves

    def _evict(self) -> None:
        _, oldest = self._open.popitem(last=False)
        oldest.evicted = True
        _close_unused(oldest)


def _close_unused(served: _Served) -> None:
    if served.evicted and not served.users:
        served.file.close()


async def _all_leaves(served: _Served) -> bytes:
    def read() -> bytes:
        count, file, name = piece_count(served.size, served.name.kind), served.file, served.name
        return b"".join(leaf(name, place, read_piece(file, name, place), count) for place in range(count))

    served.users += 1
    try:
        return await asyncio.to_thread(read)
    finally:
        served.users -= 1
        _close_unused(served)


# ---------------------------------------------------------------- pieces


def piece_count(size: int, kind: BlobKind) -> int:
    """Return how many pieces so many bytes have."""
    return max(1, -(-(len(kind.tag) + size) // PIECE_BYTES))


def span(place: int, kind: BlobKind) -> tuple[int, int]:
    """Return where a piece begins in the blob, and how long it is where it is not the last."""
    begin = place * PIECE_BYTES - len(kind.tag)
    return (0, PIECE_BYTES - len(kind.tag)) if place == 0 else (begin, PIECE_BYTES)


def read_piece(file: BinaryIO, name: BlobName, place: int) -> bytes:
    """Return a piece as it is in a file: empty beyond its end."""
    begin, length = span(place, name.kind)
    return os.pread(file.fileno(), length, begin)


def leaf(name: BlobName, place: int, piece: bytes, count: int) -> bytes:
    """Return the value of a piece, or nothing where it cannot be one."""
    try:
        return blake3_leaf(place, name.kind.tag + piece if place == 0 else piece, count == 1)
    except ValueError:
        return b""
