"""A requester's line to one miner: dial, ask, and what a refusal means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from noria.market.access import MinerContact
from noria.market.messages import (
    MalformedWorkMessage,
    Piece,
    Stored,
    WorkAnswer,
    WorkRequest,
    decode_answer,
    encode_message,
)
from noria.network.errors import PeerNotConnected, RequestRefused, TransportError
from noria.network.patience import Asking, request_patiently
from noria.network.peers import PeerId, PeerInfo

Answer = TypeVar("Answer")

REQUESTS_PER_SECOND: Final = 300.0
REQUESTS_AT_ONCE: Final = 300.0
"""Less than a miner takes of one peer (`noria.market.protocol.WORK_LIMITS`)."""
DIAL_SECONDS: Final = 10.0


class WorkTransport(Asking, Protocol):
    """The part of a transport that a requester needs."""

    @property
    def peer_id(self) -> PeerId:
        """Name of this peer."""
        ...

    async def dial(self, address: str) -> PeerId:
        """Connect to an address; fails where its peer is connected already."""
        ...

    def peers(self) -> Sequence[PeerInfo]:
        """Return who is connected."""
        ...


class Refused(Exception):
    """A miner refused a request.

    Attributes
    ----------
    name
        As ``docs/market.md`` lists them.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}" if message else name)
        self.name = name


class NotReachable(Exception):
    """There is no line to the miner now; the message says why."""


class WorkLink:
    """A line to a miner.

    Parameters
    ----------
    transport
        Of this peer.
    protocol
        Name of the work protocol.
    clock
        Seconds, for tests.

    Attributes
    ----------
    pieces
        Pieces of long inputs and outputs that have gone over it.
    """

    def __init__(
        self, transport: WorkTransport, protocol: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._clock = clock
        self._peer: PeerId | None = None
        self.pieces = 0
        self._tokens = REQUESTS_AT_ONCE
        self._filled_at = clock()

    async def connect(self, contact: MinerContact) -> None:
        """Connect to a miner by its name, wherever it is.

        Raises
        ------
        NotReachable
            Where no address leads to it.
        """
        if any(info.peer == contact.peer for info in self._transport.peers()):
            # The line has held: what was asked was not answered in time.
            self._peer = PeerId(contact.peer)
            return
        reasons = []
        for address in contact.addresses:
            named = address if "/p2p/" in address else f"{address}/p2p/{contact.peer}"
            try:
                async with asyncio.timeout(DIAL_SECONDS):
                    peer = await self._transport.dial(named)
            except (TransportError, TimeoutError) as error:
                reasons.append(str(error) or "it took too long")
                continue
            if peer == contact.peer:
                self._peer = peer
                return
            reasons.append(f"{peer} answers at {address}")
        raise NotReachable("; ".join(dict.fromkeys(reasons)) or "no address is known")

    def disconnected(self) -> None:
        """Note that the line is gone."""
        self._peer = None

    async def ask(self, request: WorkRequest, kind: type[Answer], *, timeout_seconds: float) -> Answer:
        """Ask the miner, and return its answer.

        Raises
        ------
        Refused
            Where it refused.
        NotReachable
            Where it did not answer.
        MalformedWorkMessage
            Where it answered with something else.
        """
        if self._peer is None:
            raise NotReachable("not connected")
        await self._pace()
        try:
            data = await request_patiently(
                self._transport,
                self._peer,
                self._protocol,
                encode_message(request),
                timeout_seconds=timeout_seconds,
            )
        except RequestRefused as error:
            name, _, message = str(error).partition(":")
            raise Refused(name.strip()[:40], message.strip()[:300]) from None
        except PeerNotConnected as error:
            self._peer = None
            raise NotReachable(str(error)) from None
        except TransportError as error:
            raise NotReachable(str(error)) from None
        answer: WorkAnswer = decode_answer(data)
        if not isinstance(answer, kind):
            raise MalformedWorkMessage(f"the answer is a {type(answer).__name__}, not a {kind.__name__}")
        self.pieces += isinstance(answer, Stored | Piece)
        return answer

    async def _pace(self) -> None:
        now = self._clock()
        grown = self._tokens + (now - self._filled_at) * REQUESTS_PER_SECOND
        self._tokens, self._filled_at = min(REQUESTS_AT_ONCE, grown) - 1.0, now
        if self._tokens < 0:
            with suppress(TimeoutError):
                await asyncio.sleep(-self._tokens / REQUESTS_PER_SECOND)
