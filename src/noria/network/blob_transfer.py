"""Fetching a blob from several peers at once, some of which may lie.

A list of values that is proven by the blob's name may still be too short: made of inner nodes of the tree,
which no piece fits. So every peer vouches with a list of its own. Of two that are proven the longer one is
true, and whoever gave the shorter one lies; a piece that does not fit the list of the peer that sent it is
a lie of that peer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from noria._core import blake3_root
from noria.network.blobs import (
    BLOB_BYTES_MAX,
    PIECE_BYTES,
    PROTOCOL,
    REQUEST,
    BlobName,
    leaf,
    piece_count,
    read_piece,
    span,
)
from noria.network.errors import RequestFailed, RequestRefused, TransportBusy
from noria.network.patience import request_patiently
from noria.network.peers import PeerId
from noria.network.transport import TransportProtocol
from noria.primitives.types import HASH_BYTES

LIE: Final = -1_000.0
"""What a lie costs: a ban."""
FAILURES_MAX: Final = 3
"""Requests in a row that a peer may leave unanswered."""
PAUSE_SECONDS: Final = 0.5
"""Before a peer is asked again."""
PAUSES_MAX: Final = 60
"""Times that a peer may say that its budget is used up: many pieces are asked of it."""
PIECES_AT_ONCE: Final = 2
"""Of one peer; they are all the memory that a transfer takes."""
SLOW_SECONDS: Final = 3.0
"""After which a piece is asked of another peer too, where nothing else is left to ask."""


class BlobUnavailable(Exception):
    """No peer, or none that is honest, has the blob; the message says what each of them did."""


class BlobTooLong(Exception):
    """The blob is longer than it may be."""


class _Lie(Exception):
    """What a peer sent is provably wrong."""


async def fetch(
    transport: TransportProtocol,
    name: BlobName,
    peers: Sequence[PeerId],
    path: Path,
    *,
    bytes_max: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Fetch a blob into a file. What is at the path afterwards is the blob.

    What has arrived stays beside it as ``….partial`` when the transfer fails or is cancelled, and is not
    fetched again. A peer that lies is banned, and the transfer goes on with the others.

    Parameters
    ----------
    transport
        Whose configuration has `PROTOCOL`.
    name
        What to fetch.
    peers
        Whom to ask; connected.
    path
        Where to put it. Its folder is there, and nobody else fetches to the same path.
    bytes_max
        The longest that it may be.
    progress
        Called with how many pieces are here, and how many there are, for every one that has come.

    Raises
    ------
    BlobUnavailable
        Where no peer has it.
    BlobTooLong
        Where it is longer than it may be.
    OSError
        Where it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    file = await asyncio.to_thread(_open_partial, partial)
    try:
        transfer = _Transfer(name, file, min(bytes_max, BLOB_BYTES_MAX), progress)
        said = await _ask_all(transport, transfer, peers)
        if not transfer.complete.is_set():
            if any(isinstance(error, BlobTooLong) for error in said.values()):
                raise BlobTooLong(f"blob {name.id.hex()} is longer than {transfer.bytes_max} bytes")
            reasons = "; ".join(f"{peer}: {error}" for peer, error in said.items()) or "nobody was asked"
            raise BlobUnavailable(f"blob {name.id.hex()} cannot be had: {reasons}")
        await asyncio.to_thread(_finish, file, transfer.end, partial, path)
    finally:
        file.close()


@dataclass(slots=True)
class _Transfer:
    """A blob that is being fetched."""

    name: BlobName
    file: BinaryIO
    bytes_max: int
    progress: Callable[[int, int], None] | None = None
    leaves: bytes = b""
    missing: set[int] = field(default_factory=set)
    asked: dict[int, dict[PeerId, float]] = field(default_factory=dict)
    end: int = 0
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def count(self) -> int:
        return len(self.leaves) // HASH_BYTES

    def fits(self, place: int, piece: bytes) -> bool:
        """Tell whether a piece is the one that belongs there."""
        wanted = self.leaves[place * HASH_BYTES : (place + 1) * HASH_BYTES]
        return leaf(self.name, place, piece, self.count) == wanted

    def write(self, place: int, piece: bytes) -> None:
        os.pwrite(self.file.fileno(), piece, span(place, self.name.kind)[0])

    def done(self, place: int, size: int) -> None:
        self.missing.discard(place)
        if place == self.count - 1:
            self.end = span(place, self.name.kind)[0] + size
        if self.progress is not None:
            self.progress(self.count - len(self.missing), self.count)
        if not self.missing:
            self.complete.set()

    def take(self, peer: PeerId) -> int | None:
        """Return a piece to ask of a peer: one that nobody is asked for, or that another is slow to send."""
        now = asyncio.get_running_loop().time()
        free = min(self.missing - self.asked.keys(), default=None)
        if free is None:
            slow = (
                place
                for place, askers in self.asked.items()
                if place in self.missing and peer not in askers and max(askers.values()) + SLOW_SECONDS < now
            )
            free = min(slow, default=None)
        if free is not None:
            self.asked.setdefault(free, {})[peer] = now
        return free

    def give_back(self, place: int, peer: PeerId) -> None:
        if (askers := self.asked.get(place)) is not None:
            askers.pop(peer, None)
            if not askers:
                del self.asked[place]


def _open_partial(partial: Path) -> BinaryIO:
    return os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0)


def _finish(file: BinaryIO, size: int, partial: Path, path: Path) -> None:
    os.ftruncate(file.fileno(), size)
    os.fsync(file.fileno())
    partial.replace(path)


async def _ask_all(
    transport: TransportProtocol, transfer: _Transfer, peers: Sequence[PeerId]
) -> dict[PeerId, Exception]:
    """Ask all peers until the blob is complete or none is left; return why each stopped."""
    said: dict[PeerId, Exception] = {}

    async def ask(peer: PeerId) -> None:
        try:
            await _ask_one(transport, transfer, peer)
        except _Lie as lie:
            said[peer] = lie
            transport.score(peer, LIE, f"a blob: {lie}")
        except (RequestFailed, TransportBusy, BlobTooLong) as error:
            said[peer] = error

    asking = [asyncio.create_task(ask(peer)) for peer in dict.fromkeys(peers)]
    try:
        await asyncio.gather(*asking)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return said


async def _ask_one(transport: TransportProtocol, transfer: _Transfer, peer: PeerId) -> None:
    """Take the list of values from a peer, then pieces, until nothing is missing anywhere."""
    work = asyncio.create_task(_vouch_and_take(transport, transfer, peer))
    complete = asyncio.create_task(transfer.complete.wait())
    try:
        await asyncio.wait((work, complete), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        for task in (work, complete):
            task.cancel()
        await asyncio.gather(work, complete, return_exceptions=True)


async def _vouch_and_take(transport: TransportProtocol, transfer: _Transfer, peer: PeerId) -> None:
    await _vouch(transfer, await _request(transport, transfer.name, peer, None))
    workers = [asyncio.create_task(_take_pieces(transport, transfer, peer)) for _ in range(PIECES_AT_ONCE)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _vouch(transfer: _Transfer, leaves: bytes) -> None:
    proven = False
    with suppress(ValueError):
        proven = blake3_root(leaves) == transfer.name.id
    if not proven:
        raise _Lie("values that do not give its name")
    if len(leaves) // HASH_BYTES > piece_count(transfer.bytes_max, transfer.name.kind):
        raise BlobTooLong(f"about {len(leaves) // HASH_BYTES * PIECE_BYTES} bytes")
    if len(leaves) < len(transfer.leaves):
        raise _Lie("a list of inner nodes")
    if len(leaves) > len(transfer.leaves):
        # Whoever vouched for a shorter list has no piece that fits this one.
        transfer.leaves = leaves
        transfer.missing = set(range(transfer.count))
        transfer.asked.clear()
        await _resume(transfer)


async def _resume(transfer: _Transfer) -> None:
    """Keep the pieces that are in the file already."""
    leaves = transfer.leaves
    for place in range(transfer.count):
        piece = await asyncio.to_thread(read_piece, transfer.file, transfer.name, place)
        if not piece:
            return
        fits = await asyncio.to_thread(transfer.fits, place, piece)
        if transfer.leaves is not leaves:
            return
        if fits:
            transfer.done(place, len(piece))


async def _take_pieces(transport: TransportProtocol, transfer: _Transfer, peer: PeerId) -> None:
    while not transfer.complete.is_set():
        if (place := transfer.take(peer)) is None:
            # The others have all of it in hand: perhaps one of them gives something back.
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        leaves = transfer.leaves
        try:
            piece = await _request(transport, transfer.name, peer, place)
            fits = await asyncio.to_thread(transfer.fits, place, piece)
            if transfer.leaves is not leaves:
                continue
            if not fits:
                raise _Lie(f"piece {place} is wrong")
            end = span(place, transfer.name.kind)[0] + len(piece)
            if end > transfer.bytes_max:
                raise BlobTooLong(f"{end} bytes")
            if place in transfer.missing:
                await asyncio.to_thread(transfer.write, place, piece)
                transfer.done(place, len(piece))
        finally:
            transfer.give_back(place, peer)


async def _request(transport: TransportProtocol, name: BlobName, peer: PeerId, place: int | None) -> bytes:
    """Ask for a piece, or without a place for the list of values, as often as is reasonable."""
    data = REQUEST.pack(name.kind.value, place is not None, name.id, place or 0)
    failures = 0
    while True:
        try:
            return await request_patiently(transport, peer, PROTOCOL.name, data, pauses_max=PAUSES_MAX)
        except RequestRefused:
            raise
        except (RequestFailed, TransportBusy):
            failures += 1
            if failures >= FAILURES_MAX:
                raise
        await asyncio.sleep(PAUSE_SECONDS)
