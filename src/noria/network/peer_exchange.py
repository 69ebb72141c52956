"""Learning of further peers from those that are connected: whoever knows one address finds the others.

What a peer tells is a hint and no more. An address is dialled under the name that is told with it, so that
nobody else can answer there; never more often, nor more of them, than the numbers below say, whoever tells
them. A peer that tells what leads nowhere is asked no more.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import structlog

from noria.consensus.wire import InvalidMessage
from noria.network.errors import InvalidAddress, Refusal, RequestFailed, TransportBusy, TransportError
from noria.network.peer_lists import (
    PEERS_MAX,
    PeerRecord,
    Scope,
    SocketAddress,
    decode_peers,
    decode_peers_request,
    encode_peers,
    encode_peers_request,
    read_address,
    tellable,
)
from noria.network.peers import PeerEventKind, PeerId, PeerInfo
from noria.network.transport import Request, TransportProtocol
from noria.primitives.background import BackgroundTasks
from noria.primitives.subscriptions import SubscriptionClosed

TAKEN_MAX: Final = 8
"""Peers that are taken from one answer."""
TRIES_MAX: Final = 2
"""Addresses of one peer that are dialled."""
DIALS_AT_ONCE: Final = 4
DIALS_PER_MINUTE: Final = 30
"""Dials that follow from what peers tell, all together."""
DIALS_WAITING: Final = 64
"""Peers that wait to be dialled, or are. What is told beyond is not taken: it will be told again."""
FRUITLESS_MAX: Final = 8
"""Peers in a row that were told by one peer and not found, after which it is asked no more."""
LIE: Final = -100.0
"""Score of a peer whose answer is none."""
DISAPPOINTMENT: Final = -10.0
"""Score of a peer that only tells of peers that are not there."""
TOLD_MAX: Final = 1_024
"""Peers and addresses that are remembered as tried, and peers as asked."""


@dataclass(frozen=True, slots=True)
class ExchangePace:
    """How often things are done, seconds.

    Attributes
    ----------
    look
        Between two looks at whether peers are missing.
    ask
        Before the same peer is asked again.
    retry
        Before the same peer or address is dialled again because somebody tells of it.
    rest
        How long a peer that only told of what is not there is not asked.
    """

    look: float = 5.0
    ask: float = 30.0
    retry: float = 300.0
    rest: float = 3_600.0


PACE: Final = ExchangePace()

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Teller:
    """What came of what a peer told."""

    ask_from: float = 0.0
    fruitless: int = 0


class PeerExchange:
    """Tells peers of each other, and finds further ones while fewer than wanted are connected.

    Parameters
    ----------
    transport
        Whose configuration has the protocol.
    protocol
        Its name.
    wanted
        Peers that are enough.
    pace
        How often.
    """

    def __init__(
        self, transport: TransportProtocol, protocol: str, *, wanted: int, pace: ExchangePace = PACE
    ) -> None:
        self._transport, self._protocol, self._wanted, self._pace = transport, protocol, wanted, pace
        self._tellers: OrderedDict[PeerId, _Teller] = OrderedDict()
        self._tried: OrderedDict[PeerId | SocketAddress, float] = OrderedDict()
        self._dials: list[float] = []
        self._dialling = asyncio.Semaphore(DIALS_AT_ONCE)
        self._news = asyncio.Event()
        self._random = random.SystemRandom()
        self._tasks = BackgroundTasks("peer exchange")
        self._dialling_tasks = BackgroundTasks("peer exchange, dialling")

    def start(self) -> None:
        """Answer peers, and look for more of them."""
        self._transport.serve(self._protocol, self._answer)
        self._tasks.spawn(self._watch())
        self._tasks.spawn(self._look())

    async def stop(self) -> None:
        """Stop looking."""
        await self._tasks.stop()
        await self._dialling_tasks.stop()

    # ------------------------------------------------------------ what others ask

    async def _answer(self, request: Request) -> bytes:
        try:
            count = decode_peers_request(request.data)
        except InvalidMessage as error:
            raise Refusal(str(error)) from error
        peers = self._transport.peers()
        asker = next((info for info in peers if info.peer == request.peer), None)
        if asker is None:
            raise Refusal("not connected")
        records = tellable(peers, asker)
        return encode_peers(self._random.sample(records, min(count, len(records))))

    # ------------------------------------------------------------ asking

    async def _watch(self) -> None:
        while True:
            events = self._transport.events()
            self._news.set()
            try:
                async for event in events:
                    if event.kind is PeerEventKind.IDENTIFIED:
                        self._news.set()
            except SubscriptionClosed as closed:
                if closed.reason == "transport-closed":
                    return

    async def _look(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pace.look):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            for info in self._whom_to_ask():
                self._teller(info.peer).ask_from = self._now() + self._pace.ask
                self._tasks.spawn(self._ask(info))

    def _whom_to_ask(self) -> list[PeerInfo]:
        peers = self._transport.peers()
        if len(peers) >= self._wanted:
            return []
        now = self._now()
        return [info for info in peers if info.agent and self._teller(info.peer).ask_from <= now]

    async def _ask(self, teller: PeerInfo) -> None:
        try:
            answer = await self._transport.request(
                teller.peer, self._protocol, encode_peers_request(PEERS_MAX)
            )
            records = decode_peers(answer)
        except (RequestFailed, TransportBusy) as error:
            _log.debug("peers_not_told", peer=teller.peer, reason=str(error))
            return
        except TransportError as error:
            _log.debug("peers_not_asked", peer=teller.peer, reason=str(error))
            return
        except InvalidMessage as error:
            self._blame(teller.peer, LIE, str(error))
            return
        useful = [record for record in records if self._is_new(record.peer)]
        for record in self._random.sample(useful, min(TAKEN_MAX, len(useful))):
            if len(self._dialling_tasks) >= DIALS_WAITING:
                return
            addresses = self._usable(record, teller)
            if addresses and len(self._transport.peers()) < self._wanted:
                self._note(record.peer)
                self._dialling_tasks.spawn(self._dial(teller.peer, record.peer, addresses))

    def _is_new(self, peer: PeerId) -> bool:
        if peer == self._transport.peer_id or self._was_tried(peer):
            return False
        return all(info.peer != peer for info in self._transport.peers())

    def _usable(self, record: PeerRecord, teller: PeerInfo) -> list[SocketAddress]:
        """Return the addresses that the teller can know, and that were not dialled lately."""
        near = read_address(teller.address)
        least = Scope.PUBLIC if near is None or near.scope is None else near.scope
        return [
            address
            for address in record.addresses
            if (scope := address.scope) is not None and scope >= least and not self._was_tried(address)
        ][:TRIES_MAX]

    # ------------------------------------------------------------ dialling

    async def _dial(self, teller: PeerId, peer: PeerId, addresses: list[SocketAddress]) -> None:
        async with self._dialling:
            for address in addresses:
                connected = self._transport.peers()
                if len(connected) >= self._wanted or any(info.peer == peer for info in connected):
                    return
                if not self._may_dial() or self._was_tried(address):
                    return
                self._note(address)
                try:
                    await self._transport.dial(address.text(peer))
                except InvalidAddress as error:
                    self._blame(teller, LIE, f"it tells of a peer that cannot be: {error}")
                    return
                except TransportError as error:
                    _log.debug("told_peer_not_found", peer=peer, teller=teller, reason=str(error))
                else:
                    self._teller(teller).fruitless = 0
                    return
        if any(info.peer == peer for info in self._transport.peers()):
            return  # it has come by itself meanwhile
        told = self._teller(teller)
        told.fruitless += 1
        if told.fruitless >= FRUITLESS_MAX:
            told.fruitless = 0
            told.ask_from = self._now() + self._pace.rest
            self._blame(teller, DISAPPOINTMENT, f"{FRUITLESS_MAX} peers that it told of are not there")

    def _may_dial(self) -> bool:
        now = self._now()
        self._dials = [at for at in self._dials if at > now - 60.0]
        if len(self._dials) >= DIALS_PER_MINUTE:
            return False
        self._dials.append(now)
        return True

    def _was_tried(self, what: PeerId | SocketAddress) -> bool:
        return self._tried.get(what, float("-inf")) > self._now() - self._pace.retry

    def _note(self, what: PeerId | SocketAddress) -> None:
        self._tried[what] = self._now()
        self._tried.move_to_end(what)
        while len(self._tried) > TOLD_MAX:
            self._tried.popitem(last=False)

    # ------------------------------------------------------------ tellers

    def _teller(self, peer: PeerId) -> _Teller:
        found = self._tellers.setdefault(peer, _Teller())
        self._tellers.move_to_end(peer)
        while len(self._tellers) > TOLD_MAX:
            self._tellers.popitem(last=False)
        return found

    def _blame(self, peer: PeerId, score: float, reason: str) -> None:
        _log.warning("peer_blamed", peer=peer, score=score, reason=reason)
        try:
            self._transport.score(peer, score, reason)
        except TransportError as error:
            _log.debug("peer_not_scored", peer=peer, reason=str(error))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
