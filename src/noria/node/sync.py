"""Catching up with the network: blocks by range from several peers, missing ones by their roots (protocol 8).

No peer is trusted: every block is checked like any other, who sends a wrong one loses score and is asked no
more, and what it withholds is asked of somebody else.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from noria._core import StoreError
from noria.chain.chain_service import ChainService
from noria.chain.findings import Finding, Known
from noria.chain.import_queue import Arrival
from noria.chain.look_ahead import LookAhead
from noria.consensus.blocks import decode_block
from noria.consensus.fork_choice import descends
from noria.consensus.sent_block import decode_sent_block
from noria.consensus.validity import Accepted, InputMissing, Postponed, Rejected
from noria.consensus.wire import InvalidMessage
from noria.network.errors import OverBudget, PeerNotConnected, Refusal, RequestFailed, TransportError
from noria.network.messages import (
    ANSWER_BYTES,
    PeerStatus,
    RangeRequest,
    decode_blocks,
    decode_status,
    encode_range,
    encode_roots,
    encode_status,
)
from noria.network.patience import request_patiently
from noria.network.peers import PeerEventKind, PeerId
from noria.network.topics import Topics
from noria.network.transport import Request, TransportProtocol
from noria.node.block_serving import BlockServing, decoded
from noria.node.peer_clocks import PeerClocks
from noria.node.peer_heads import PeerHeads
from noria.primitives.background import BackgroundTasks
from noria.primitives.subscriptions import SubscriptionClosed
from noria.primitives.types import Hash32

CHUNK: Final = 32
"""Blocks that are asked of one peer at once."""
CHUNKS_AHEAD: Final = 4
"""Chunks that are under way."""
LINE_BLOCKS: Final = 4
LINE_BYTES: Final = 1 << 20
"""Blocks that are taken as one, at most; other blocks wait meanwhile.

Their signatures are checked while those before them are taken, not beyond the next epoch: where epochs are
short, more would not be checked in time.
"""
STATUS_SECONDS: Final = 10.0
"""How often every peer is asked where it stands."""
ATTEMPTS: Final = 4
"""Peers that are asked for one missing block."""
MISSING_MAX: Final = 256
LIE: Final = -100.0
"""Score of a peer that sends a block which nobody could accept, or is on another chain."""
DISAPPOINTMENT: Final = -10.0
"""Score of a peer that does not send what it says it has."""
TIP_SLOTS: Final = 5
"""How old a head may be that is taken for the newest."""
PAUSE_SECONDS: Final = 1.0
"""After a round that led nowhere."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Branch:
    """A peer's chain, or that of several, and up to which block it is here."""

    peer: PeerId | None
    root: Hash32
    height: int


class _Broken(Exception):
    """A chunk that led nowhere."""


class _Unlinked(_Broken):
    """Blocks that follow nothing that is here."""


class Sync:
    """Keeps a chain at the head of its network, and serves others what they lack.

    Parameters
    ----------
    transport
        The network.
    topics
        The chain's names on it.
    chain
        What is kept up.

    Attributes
    ----------
    clocks
        How this clock differs from peers'.
    """

    def __init__(self, transport: TransportProtocol, topics: Topics, chain: ChainService) -> None:
        self._transport, self._topics, self._chain = transport, topics, chain
        self._heads = PeerHeads(chain)
        self._missing: set[Hash32] = set()
        self._tasks = BackgroundTasks("sync", expected=(_Broken,))
        self._behind = asyncio.Event()
        self._blocks = BlockServing(chain)
        self.clocks = PeerClocks(chain.rules.parameters.slot_seconds)
        self._relaxed = False

    def start(self) -> None:
        """Answer peers, learn where they stand, and catch up."""
        topics, serve = self._topics, self._transport.serve
        serve(topics.status, self._serve_status)
        serve(topics.range, self._blocks.by_range)
        serve(topics.roots, self._blocks.by_roots)
        self._chain.wanted = self._wanted
        self._tasks.spawn(self._watch_peers())
        self._tasks.spawn(self._ask_statuses())
        self._tasks.spawn(self._catch_up())

    async def stop(self) -> None:
        """Stop asking."""
        await self._tasks.stop()
        await self._settle()

    @property
    def peers(self) -> dict[PeerId, PeerStatus]:
        """Where peers say they stand."""
        return self._heads.statuses

    @property
    def goal(self) -> int:
        """The highest height that a peer has claimed for a block that is not here, at least the head's."""
        return max([self._chain.head.node.height, *self._heads.claimed()])

    @property
    def is_behind(self) -> bool:
        """Whether some peer says that it is further, with what is not here, and was not asked in vain."""
        return self.goal > self._chain.head.node.height

    @property
    def has_all(self) -> bool:
        """Whether the head of each peer is here, of those that were not asked in vain for it."""
        return not self._heads.claimed()

    @property
    def is_far_behind(self) -> bool:
        """Whether it is behind with a head so old that there is more than it, whatever peers say."""
        return self.is_behind and self._chain.slot - self._chain.head.node.slot > TIP_SLOTS

    @property
    def is_resting(self) -> bool:
        """Whether only peers that have just failed say that they are further: they are asked again soon."""
        return self.is_behind and self._heads.best_height() <= self._chain.head.node.height

    # ------------------------------------------------------------ what others ask

    def own_status(self) -> PeerStatus:
        """Return what this node tells about itself."""
        chain = self._chain
        final, head = chain.tree.final, chain.head
        return PeerStatus(
            chain.rules.genesis_root,
            final.epoch,
            final.root,
            head.node.slot,
            head.node.height,
            head.root,
            chain.clock.milliseconds(),
        )

    async def _serve_status(self, request: Request) -> bytes:
        status = decoded(decode_status, request.data)
        if status.genesis_root != self._chain.rules.genesis_root:
            raise Refusal(f"this is chain 0x{self._chain.rules.genesis_root.hex()}")
        self._note(request.peer, status)
        return encode_status(self.own_status())

    # ------------------------------------------------------------ where others stand

    async def _watch_peers(self) -> None:
        while True:
            events = self._transport.events()
            self._ask_all()
            try:
                async for event in events:
                    if event.kind is PeerEventKind.IDENTIFIED:
                        self._tasks.spawn(self._ask_status(event.peer))
                    elif event.kind in (PeerEventKind.DISCONNECTED, PeerEventKind.BANNED):
                        self._heads.forget(event.peer)
                    elif event.kind is PeerEventKind.LAGGED:
                        break
            except SubscriptionClosed as closed:
                if closed.reason == "transport-closed":
                    return

    async def _ask_statuses(self) -> None:
        while True:
            await asyncio.sleep(STATUS_SECONDS)
            self._ask_all()

    def _ask_all(self) -> None:
        """Ask whoever is there where it stands, and forget who is not: word of its going may be lost."""
        present = [info.peer for info in self._transport.peers()]
        self._heads.keep(present)
        for peer in present:
            self._tasks.spawn(self._ask_status(peer))

    async def _ask_status(self, peer: PeerId) -> None:
        begun = self._chain.clock.milliseconds()
        try:
            answer = await self._transport.request(
                peer, self._topics.status, encode_status(self.own_status())
            )
            status = decode_status(answer)
        except TransportError as error:
            # What it has said before still helps; who is gone is forgotten with the connection.
            _log.debug("status_not_known", peer=peer, reason=str(error))
            return
        except InvalidMessage as error:
            self._blame(peer, LIE, str(error))
            return
        if status.genesis_root != self._chain.rules.genesis_root:
            self._blame(peer, LIE, f"it is on chain 0x{status.genesis_root.hex()}")
            return
        # The answer was written about halfway.
        ahead = (begun + self._chain.clock.milliseconds()) / 2 - status.milliseconds
        self.clocks.note(peer, ahead, self.peers)
        self._note(peer, status)

    def _note(self, peer: PeerId, status: PeerStatus) -> None:
        if self._heads.note(peer, status):
            self._behind.set()

    def _blame(self, peer: PeerId, score: float, reason: str) -> None:
        _log.warning("peer_blamed", peer=peer, score=score, reason=reason)
        self._heads.rest(peer)
        try:
            self._transport.score(peer, score, reason)
        except TransportError as error:
            _log.debug("peer_not_scored", peer=peer, reason=str(error))

    # ------------------------------------------------------------ ranges

    async def _catch_up(self) -> None:
        while True:
            await self._behind.wait()
            self._behind.clear()
            branch: _Branch | None = None
            while (branch := self._next(branch)) is not None:
                before, first = self._chain.head.root, branch.height + 1
                try:
                    branch = await self._round(first, branch.peer)
                except _Broken as broken:
                    _log.info("sync_round_failed", first_height=first, reason=str(broken))
                    branch = None
                    await self._settle()
                    if self._chain.head.root == before:
                        await asyncio.sleep(PAUSE_SECONDS)
                except Exception as error:
                    # A full disk, for example: it may pass.
                    _log.exception("sync_round_failed", first_height=first, reason=repr(error))
                    branch = None
                    await self._settle()
                    await asyncio.sleep(PAUSE_SECONDS)
                # Until the head is on it a branch is gone on with: blocks of this node's move the head too.
                head = self._chain.head.root
                if branch and head != before and descends(self._chain.tree.nodes, branch.root, head):
                    if branch.peer is not None:
                        self._heads.has_helped(branch.peer)
                    branch = None
            await self._settle()

    def _next(self, branch: _Branch | None) -> _Branch | None:
        """Return what is to be gone on with; `None` if nobody is known to have more."""
        heights, head = self._heads.heights(), self._chain.head
        if branch is not None and branch.peer in heights:
            return branch
        if branch is not None and branch.peer is not None and not self._is_head_of(branch.peer, branch.root):
            # It says something else now than what it was followed for.
            self._heads.rest(branch.peer)
        # In this order, in which who has failed comes last: else some could keep others from being asked.
        for peer, height in heights.items():
            # One block more is on its way by gossip, most of the time.
            if height > head.node.height + 1:
                return _Branch(None, head.root, head.node.height)
            if self._heads.is_apart(peer):
                return self._from_final(peer)
        return None

    def _is_head_of(self, peer: PeerId, root: Hash32) -> bool:
        """Tell whether a block is a peer's head."""
        status = self.peers.get(peer)
        return status is not None and status.head_root == root

    def _from_final(self, peer: PeerId) -> _Branch:
        self._heads.follow(peer)
        return _Branch(peer, self._chain.tree.final.root, self._heads.final_height)

    async def _relax(self) -> None:
        """Let blocks not wait for the disk: there are many, and others have them."""
        if not self._relaxed:
            await self._chain.execution.relax()
            self._relaxed = True

    async def _settle(self) -> None:
        if self._relaxed:
            self._relaxed = False
            try:
                await self._chain.execution.settle()
            except StoreError as error:
                _log.error("store_not_settled", reason=str(error))

    async def _round(self, first: int, alone: PeerId | None) -> _Branch:
        """Ask for the blocks from a height on, and take them in order.

        Parameters
        ----------
        first
            The height.
        alone
            Who is asked for them on its own, because others may be on other branches; `None` to ask several.

        Returns
        -------
        _Branch
            Where to go on if the head has not moved.
        """
        heights = self._heads.heights()
        if alone is not None:
            heights = {peer: at for peer, at in heights.items() if peer == alone}
        best = max(heights.values(), default=0)
        tasks = []
        used: dict[PeerId, int] = {}
        for start in range(first, best + 1, CHUNK)[:CHUNKS_AHEAD]:
            able = [peer for peer, height in heights.items() if height >= start]
            peer = min(able, key=lambda peer: used.get(peer, 0))
            used[peer] = used.get(peer, 0) + 1
            last = min(start + CHUNK - 1, best)
            asking = self._tasks.spawn(self._ask_range(peer, start, last, min(last, heights[peer])))
            tasks.append((peer, start, last, asking))
        if not tasks:
            if alone is not None:
                self._heads.rest(alone)
            raise _Broken("nobody can be asked for what follows")
        ahead = self._chain.look_ahead()
        checking = self._tasks.spawn(ahead.run())
        try:
            for number, (peer, start, last, task) in enumerate(tasks):
                blocks = self._read(peer, await task)
                ahead.add(blocks)
                if number == 1:
                    await self._relax()
                try:
                    await self._take(peer, blocks, ahead)
                except _Unlinked:
                    if alone is None and number == 0:
                        # This node may be on another branch: the peer is asked for all of its own.
                        return self._from_final(peer)
                    self._heads.rest(peer)
                    raise
                found = _Branch(peer, blocks[-1].root, start + len(blocks) - 1)
                self._require_height(peer, found)
                if found.height < last:
                    # What others were asked for does not follow. Who brought less is asked after them.
                    self._heads.ask_last(peer)
                    break
        finally:
            checking.cancel()
            for _, _, _, task in tasks:
                task.cancel()
        return found

    def _require_height(self, peer: PeerId, found: _Branch) -> None:
        """Let nobody bring other blocks than those that follow: old ones would be taken in for ever."""
        known, stored = self._chain.tree.get(found.root), self._chain.store.block
        at = known.node if known is not None else stored(found.root)
        if at is None or at.height != found.height:
            reason = f"it sent other blocks than those up to height {found.height}"
            self._blame(peer, DISAPPOINTMENT, reason)
            raise _Broken(reason)

    async def _ask_range(self, peer: PeerId, first: int, last: int, promised: int) -> tuple[bytes, ...]:
        """Ask a peer for blocks; it has promised those up to a height, and may have got more."""
        count = last - first + 1
        try:
            request = encode_range(RangeRequest(first, count))
            answer = await request_patiently(self._transport, peer, self._topics.range, request)
            blocks = decode_blocks(answer, self._chain.rules.parameters)
        except (PeerNotConnected, OverBudget) as error:
            # It may come back, or have room.
            self._heads.rest(peer)
            raise _Broken(str(error)) from error
        except RequestFailed as error:
            self._blame(peer, DISAPPOINTMENT, f"blocks from height {first}: {error}")
            raise _Broken(str(error)) from error
        except TransportError as error:
            raise _Broken(str(error)) from error
        except InvalidMessage as error:
            self._blame(peer, LIE, str(error))
            raise _Broken(str(error)) from error
        if not blocks or len(blocks) > count:
            self._blame(
                peer, DISAPPOINTMENT, f"{len(blocks)} blocks from height {first}, {count} were asked for"
            )
            raise _Broken("nothing came")
        if first + len(blocks) <= promised and len(answer) <= ANSWER_BYTES:
            self._heads.rest(peer)
        return blocks

    def _read(self, peer: PeerId, blocks: tuple[bytes, ...]) -> list[Arrival]:
        found: list[Arrival] = []
        for data in blocks:
            arrival = self._chain.arrival(data, peer)
            if isinstance(arrival, Rejected):
                self._blame(peer, LIE, arrival.message)
                raise _Broken(arrival.message)
            found.append(arrival)
        return found

    async def _take(self, peer: PeerId, arrivals: list[Arrival], ahead: LookAhead) -> None:
        """Take a chunk in lines, and by itself whatever cannot go on in one."""
        chain, at = self._chain, 0
        while at < len(arrivals):
            if arrivals[at].root in chain.tree:
                ahead.moved(arrivals[at].root)
                at += 1
                continue
            line = _line(arrivals, at)
            await ahead.passed(line[-1].root)
            if line[0].block.header.parent_root in chain.tree and (taken := await chain.take_line(line)):
                at += taken
                ahead.moved(line[taken - 1].root)
                continue
            await self._take_one(peer, arrivals[at])
            ahead.moved(arrivals[at].root)
            at += 1

    async def _take_one(self, peer: PeerId, arrival: Arrival) -> None:
        chain, header = self._chain, arrival.block.header
        # What does not link to anything would wait, and this would wait for it.
        if header.parent_root not in chain.tree:
            if chain.store.block(arrival.root) is not None:
                return
            raise _Unlinked(f"a block of slot {header.slot} of another branch")
        finding: Finding = await chain.importer.check(arrival, chain.clock.milliseconds())
        if not isinstance(finding, Postponed):
            finding = await chain.take_arrival(arrival)
        if isinstance(finding, Accepted | Known):
            return
        if isinstance(finding, Rejected):
            self._blame(peer, LIE, f"{finding.kind}: {finding.message}")
        elif isinstance(finding, Postponed) and finding.kind == InputMissing.__name__:
            self._blame(peer, DISAPPOINTMENT, finding.message)
        else:
            # The fault may be this node's own, for example its clock's.
            self._heads.rest(peer)
        raise _Broken(repr(finding))

    # ------------------------------------------------------------ single blocks

    def _wanted(self, root: Hash32, source: str) -> None:
        """Fetch a block that others wait for."""
        if root in self._missing or len(self._missing) >= MISSING_MAX:
            return
        far, status = self._chain.head.node.height + CHUNK, self.peers.get(PeerId(source))
        if self._heads.best_height() > far and (status is None or status.head_height > far):
            # One by one, from the newest backwards, would take as many requests as there are blocks.
            self._behind.set()
            return
        self._missing.add(root)
        self._tasks.spawn(self._fetch(root, PeerId(source)))

    async def _fetch(self, root: Hash32, source: PeerId) -> None:
        try:
            others = [peer for peer in self.peers if peer != source]
            for peer in [source, *others][:ATTEMPTS]:
                if root in self._chain.tree or await self._fetch_from(peer, root):
                    break
            if source in self.peers:
                await self._ask_status(source)
        finally:
            self._missing.discard(root)

    async def _fetch_from(self, peer: PeerId, root: Hash32) -> bool:
        parameters = self._chain.rules.parameters
        try:
            answer = await self._transport.request(peer, self._topics.roots, encode_roots([root]))
            blocks = decode_blocks(answer, parameters)
            if len(blocks) != 1:
                return False
            sent = decode_sent_block(blocks[0], parameters)
            found = decode_block(sent.block).root(self._chain.rules.genesis_root)
        except TransportError as error:
            _log.debug("block_not_fetched", block=root.hex(), peer=peer, reason=str(error))
            return False
        except InvalidMessage as error:
            self._blame(peer, LIE, str(error))
            return False
        if found != root:
            self._blame(peer, LIE, f"it sent block {found.hex()} where {root.hex()} was asked for")
            return False
        self._missing.discard(root)
        self._tasks.spawn(self._offer(peer, blocks[0]))
        return True

    async def _offer(self, peer: PeerId, data: bytes) -> None:
        finding = await self._chain.take(data, peer)
        if isinstance(finding, Rejected):
            self._blame(peer, LIE, f"{finding.kind}: {finding.message}")
        elif not isinstance(finding, Accepted):
            _log.debug("fetched_block_unused", peer=peer, finding=repr(finding))


def _line(arrivals: list[Arrival], at: int) -> list[Arrival]:
    """Return blocks from a place on of which each is the next one's parent: not too many, nor too long."""
    line, size = [arrivals[at]], arrivals[at].size
    for arrival in arrivals[at + 1 : at + LINE_BLOCKS]:
        size += arrival.size
        if arrival.block.header.parent_root != line[-1].root or size > LINE_BYTES:
            break
        line.append(arrival)
    return line
