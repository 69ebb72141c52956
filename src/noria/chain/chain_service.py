"""A chain of drawn blocks: what comes is checked, executed and stored; one of what is stored is the head.

Protocol 4. All methods belong to one event loop. Blocks are imported one at a time; what takes long runs in
threads. Votes, evidence and alarms are in `noria.chain.hearsay`, what a miner does in `noria.chain.miner`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

import structlog

from noria._core import Header as PayloadHeader
from noria.chain.block_import import BlockImport
from noria.chain.block_store import BlockBody, BlockStore
from noria.chain.block_tree import BlockTree, KnownBlock
from noria.chain.certificates import CertificateChecker, CheckState, receipt_id
from noria.chain.consensus_events import ConsensusEvents, NewFinality, NewHead
from noria.chain.findings import ChainStatus, Finding, Ignored, Known
from noria.chain.import_queue import Arrival, ImportQueue, Missing
from noria.chain.look_ahead import KnownSignatures, LookAhead
from noria.chain.service import Chain
from noria.chain.slot_clock import SlotClock
from noria.chain.under_way import UnderWay
from noria.chain.unit_runner import UnitRunner
from noria.consensus.blocks import Block, decode_block
from noria.consensus.fork_choice import choose_head, final_checkpoint, line
from noria.consensus.sent_block import SentBlock, decode_sent_block
from noria.consensus.slots import epoch_of
from noria.consensus.validity import Accepted, ChainRules, InvalidBlock, NotYet, Postponed, Rejected
from noria.consensus.weight import Snapshot
from noria.consensus.wire import InvalidMessage
from noria.primitives.background import BackgroundTasks
from noria.primitives.types import Address, Hash32

INVALID_MAX: Final = 4096
"""Roots that are remembered as invalid."""
COPIES_FORWARDED: Final = 2
"""Different blocks of one proposer for one slot that are passed on (protocol 4.6)."""
COPIES_TAKEN: Final = 16
"""The same, where others wait for them. More come by range, if they are on a peer's chain."""
CHECKS_AT_ONCE: Final = 4

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Listener(Protocol):
    """What else wants to hear of blocks, in the order of import: `Hearsay`."""

    def forwardable(self, block: Block) -> None:
        """Take note of a block that has passed the checks before forwarding."""
        ...

    def imported(self, block: Block, known: KnownBlock) -> None:
        """Take note of an imported block."""
        ...

    def settled(self, root: Hash32, state: CheckState) -> None:
        """Take note of what came of a certificate's check."""
        ...

    def finalised(self, final: KnownBlock) -> None:
        """Take note that a block is final."""
        ...


@dataclass(slots=True)
class _Watched:
    """Who waits for what becomes of an arrival."""

    judged: asyncio.Future[Finding]
    done: asyncio.Future[Finding]


class ChainService:
    """The chain of one node. Made by `noria.chain.recovery.open_chain`.

    Parameters
    ----------
    rules, tree, store, execution, clock
        The chain's, open; the service closes none of them.
    runner
        Runs units of certificates again.
    draw
        A private random number from 0 to 1, for what is checked.

    Attributes
    ----------
    head
        The head, as consensus sees it.
    refuted
        Blocks whose certificates were found to be lies and that are not final.
    doubted
        Blocks of which a second engine is to say whether they are: not built on meanwhile.
    events
        Subscriptions.
    lock
        Held by whoever changes the chain.
    restored
        Blocks from the store that listeners have not heard of, until the start.
    wanted
        Called with the root of a block that is missing, and who may have it.
    """

    def __init__(
        self,
        rules: ChainRules,
        tree: BlockTree,
        store: BlockStore,
        execution: Chain,
        clock: SlotClock,
        runner: UnitRunner,
        *,
        draw: Callable[[], float] | None = None,
    ) -> None:
        self._known_signatures = KnownSignatures(rules.scheme)
        self.rules = replace(rules, scheme=self._known_signatures)
        self.tree, self.store, self.execution, self.clock = tree, store, execution, clock
        self.events = ConsensusEvents()
        self.refuted: set[Hash32] = set()
        self.doubted: set[Hash32] = set()
        self.head = tree.genesis
        self.wanted: Callable[[Hash32, str], None] = lambda root, source: None
        self.listeners: list[Listener] = []
        options: dict[str, Any] = {} if draw is None else {"draw": draw}
        self.checker = CertificateChecker(
            runner,
            store,
            parameters=rules.parameters,
            settled=self._settled,
            doubted=self._doubt,
            **options,
        )
        self._threads = ThreadPoolExecutor(2, "noria-consensus")
        self.importer = BlockImport(self.rules, tree, store, execution, self._threads)
        self.lock = asyncio.Lock()
        self._queue = ImportQueue()
        self._under_way = UnderWay()
        self._watched: dict[Hash32, _Watched] = {}
        self._invalid: OrderedDict[Hash32, str] = OrderedDict()
        self._seen: OrderedDict[tuple[Address, int], set[Hash32]] = OrderedDict()
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._tasks = BackgroundTasks("chain")
        self._stopped = False
        self._followed_epoch = 0
        self._told = NewFinality(tree.final, tree.final)
        self.restored: list[KnownBlock] = []

    # ------------------------------------------------------------ life

    @property
    def running(self) -> bool:
        """Whether the chain has not been stopped."""
        return not self._stopped

    async def start(self) -> None:
        """Choose the head among what is known, and begin to work."""
        restored, self.restored = self.restored, []
        for known in restored:
            # One by one: where nothing has become final for long, they are too many for the memory.
            body = await self.importer.thread(self.store.body, known.root)
            assert body is not None
            block = decode_block(body.block)
            for listener in self.listeners:
                listener.forwardable(block)
                listener.imported(block, known)
            if known.root != self.tree.final.root:
                self.checker.submit(known.root, known.node.slot, known.certificate, body.input)
        async with self.lock:
            await self.follow()
        self.spawn(self.checker.run())
        self.spawn(self._tick())

    async def stop(self) -> None:
        """Finish the import that is under way and stop."""
        if self._stopped:
            return
        self._stopped = True
        async with self.lock:
            self._tasks.cancel()
        await self._tasks.wait()
        for arrival in self._queue.clear():
            self._conclude(arrival, Ignored("the chain has been stopped"))
        self.events.close()
        await asyncio.to_thread(self._threads.shutdown)

    async def __aenter__(self) -> ChainService:
        """Start the chain."""
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stop the chain."""
        await self.stop()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something until it ends or the chain stops."""
        return self._tasks.spawn(work)

    # ------------------------------------------------------------ reading

    @property
    def slot(self) -> int:
        """The slot that it is now."""
        return self.clock.slot()

    @property
    def status(self) -> ChainStatus:
        """Where the chain stands."""
        slot = self.slot
        return ChainStatus(
            slot=slot,
            epoch=epoch_of(self.rules.parameters, slot),
            head_root=self.head.root,
            head_slot=self.head.node.slot,
            head_height=self.head.node.height,
            justified=max(self.head.node.justified, self.tree.final),
            finalised=self.tree.final,
            waiting=len(self._queue),
        )

    def payload_at(self, tag: str) -> PayloadHeader:
        """Return the payload that a tag names: ``"latest"``, ``"safe"`` (justified) or ``"finalized"``."""
        roots = {
            "latest": self.head.root,
            "safe": self.head.node.justified.root,
            "finalized": self.tree.final.root,
        }
        # What is justified may be final already, and older than the tree.
        known = self.tree.get(roots[tag]) or self.tree.get(self.tree.final.root) or self.tree.genesis
        header = self.execution.engine.header(known.payload_hash)
        assert header is not None
        return header

    def knows(self, root: Hash32) -> bool:
        """Tell whether a block is stored, or waits."""
        return root in self.tree or self._queue.has(root) or self.store.block(root) is not None

    def block_by_root(self, root: Hash32) -> BlockBody | None:
        """Return a stored block as it is sent. Reads the disk."""
        return self.store.body(root)

    def root_of(self, payload_hash: Hash32) -> Hash32 | None:
        """Return the root of the block with a payload. Reads the disk."""
        if payload_hash == self.tree.genesis.payload_hash:
            return self.tree.genesis.root
        stored = self.store.by_payload(payload_hash)
        return None if stored is None else stored.root

    def certificate_state(self, root: Hash32) -> CheckState | None:
        """Return what is known about a block's certificate; `None` for an unknown block. Reads the disk."""
        state = self.checker.state(root)
        if state is not None:
            return state
        body = self.store.body(root)
        if body is None:
            return None
        certificate = decode_block(body.block).certificate
        if certificate is None:
            return CheckState.EMPTY
        is_right = self.store.verdict(receipt_id(certificate))
        return {True: CheckState.RIGHT, False: CheckState.REFUTED, None: CheckState.NOT_DRAWN}[is_right]

    def snapshot(self, epoch: int) -> Snapshot | None:
        """Return an epoch's snapshot on the head's chain: who may win and vote. Reads contracts."""
        return self.tree.snapshot(self.head.root, epoch)

    def blocks_by_height(self, first: int, count: int) -> list[Hash32]:
        """Return the roots of the head's chain from a height on. Reads the disk."""
        found = [block.root for block in self.store.final_range(first, count)]
        if len(found) < count:
            above = [node.root for node in line(self.tree.nodes, self.head.root) if node.height >= first]
            known = set(found)
            found += [
                root for root in reversed(above) if root not in known and root != self.tree.genesis.root
            ]
        return found[:count]

    # ------------------------------------------------------------ blocks that come

    async def judge(self, data: bytes, source: str = "") -> Finding:
        """Take a block that came by gossip; return whether it may be passed on, as soon as that is known."""
        arrival = self.arrival(data, source)
        if not isinstance(arrival, Arrival):
            return arrival
        if arrival.key not in self._watched and not self._under_way.has_room(arrival):
            return Ignored("too many blocks are being checked")
        return await asyncio.shield(self._take(arrival).judged)

    async def take(self, data: bytes, source: str = "") -> Finding:
        """Take a block that was asked for; return what has become of it."""
        arrival = self.arrival(data, source)
        if not isinstance(arrival, Arrival):
            return arrival
        return await self.take_arrival(arrival)

    async def take_arrival(self, arrival: Arrival) -> Finding:
        """Take a block that was asked for and has been read; return what has become of it."""
        return await asyncio.shield(self._take(arrival).done)

    async def take_line(self, line: Sequence[Arrival]) -> int:
        """Take blocks that were asked for and of which each is the next one's parent, all at once.

        Returns
        -------
        int
            How many are taken; what is wrong with the next one `take_arrival` tells.
        """
        async with self.lock:
            if self._stopped:
                return 0
            done = await self.importer.run_line(line, self.clock.milliseconds())
            for arrival, known in zip(line, done, strict=False):
                for listener in self.listeners:
                    listener.forwardable(arrival.block)
                self._imported(arrival.block, known, arrival.input)
            if done:
                await self.follow()
            for known in done:
                self._wake(known)
        return len(done)

    def look_ahead(self) -> LookAhead:
        """Return what checks signatures of a line of blocks while it is imported."""
        return LookAhead(self.rules, self.tree, self._known_signatures, self.importer.thread)

    def arrival(self, data: bytes, source: str) -> Arrival | Rejected:
        """Read a block as it came with its input."""
        try:
            sent: SentBlock = decode_sent_block(data, self.rules.parameters)
            block = decode_block(sent.block)
        except InvalidMessage as error:
            return Rejected(type(error).__name__, str(error), False)
        return Arrival(block, block.root(self.rules.genesis_root), sent.block, sent.input, source)

    def _take(self, arrival: Arrival) -> _Watched:
        watched = self._watched.get(arrival.key)
        if watched is None:
            loop = asyncio.get_running_loop()
            watched = self._watched[arrival.key] = _Watched(loop.create_future(), loop.create_future())
            self._begin(arrival)
        return watched

    def _begin(self, arrival: Arrival) -> None:
        self._under_way.begin(arrival)
        self.spawn(self._process(arrival))

    async def _process(self, arrival: Arrival) -> None:
        finding: Finding = Ignored("it failed")
        try:
            async with self._checks:
                found = await self._examine(arrival)
            if found is None:
                return
            finding = found
            if isinstance(finding, Accepted):
                self._judged(arrival, finding)
                async with self.lock:
                    finding = await self._import(arrival)
        except asyncio.CancelledError:
            finding = Ignored("the chain has been stopped")
            raise
        finally:
            self._under_way.end(arrival)
            if not self._queue_has(arrival):
                self._conclude(arrival, finding)

    def _queue_has(self, arrival: Arrival) -> bool:
        return self._queue.waits(arrival)

    async def _examine(self, arrival: Arrival) -> Finding | None:
        """Run the checks before forwarding; `None` where the arrival waits for something."""
        root, parent = arrival.root, arrival.block.header.parent_root
        if root in self.tree:
            return Known()
        if arrival.block.header.slot <= self._final_slot:
            return Known() if self.store.block(root) is not None else Ignored("older than what is final")
        for bad in (root, parent):
            if (reason := self._invalid.get(bad)) is not None:
                self._remember(root, reason)
                return Rejected("InvalidAncestor", reason, True)
        finding = await self.importer.check(arrival, self.clock.milliseconds())
        if isinstance(finding, Postponed):
            if finding.kind == "ParentMissing" and parent in self.tree:
                return await self._examine(arrival)  # it has come meanwhile
            return self._wait(arrival, finding)
        if isinstance(finding, Rejected):
            return self._reject(arrival, finding)
        for listener in self.listeners:
            listener.forwardable(arrival.block)
        key = (arrival.block.header.proposer, arrival.block.header.slot)
        seen = self._seen.setdefault(key, set())
        if root not in seen and arrival.source:
            most = COPIES_TAKEN if self._asked(root) else COPIES_FORWARDED
            if len(seen) >= most:
                return Ignored(f"block {len(seen) + 1} of 0x{key[0].hex()} for slot {key[1]}")
        seen.add(root)
        while len(self._seen) > INVALID_MAX:
            self._seen.popitem(last=False)
        return finding

    def _asked(self, root: Hash32) -> bool:
        """Tell whether other blocks wait for this one."""
        return self._queue.has_children(root)

    def _wait(self, arrival: Arrival, finding: Postponed) -> Finding | None:
        missing = {
            "ParentMissing": Missing.PARENT,
            "InputMissing": Missing.INPUT,
            "SnapshotMissing": Missing.SNAPSHOT,
        }.get(finding.kind, Missing.SLOT)
        if (
            missing is Missing.SLOT
            and arrival.block.header.slot > self.slot + self.rules.parameters.epoch_slots
        ):
            return Ignored("too far in the future")
        for gone in self._queue.add(arrival, missing, self._now()):
            if gone is arrival:
                return Ignored("too many blocks wait")
            self._conclude(gone, Ignored("too many blocks wait"))
        if missing is Missing.PARENT:
            self.wanted(self._queue.ancestor(arrival.block.header.parent_root), arrival.source)
        elif missing is Missing.INPUT:
            self.wanted(arrival.root, arrival.source)
        return None

    def _reject(self, arrival: Arrival, finding: Rejected) -> Rejected:
        _log.warning(
            "block_rejected",
            block=arrival.root.hex(),
            slot=arrival.block.header.slot,
            proposer="0x" + arrival.block.header.proposer.hex(),
            source=arrival.source,
            kind=finding.kind,
            reason=finding.message,
        )
        if finding.remember:
            self._remember(arrival.root, f"{finding.kind}: {finding.message}")
        return finding

    def _remember(self, root: Hash32, reason: str) -> None:
        """Remember that a root is invalid; what waits below it is so too."""
        self._invalid[root] = reason
        while len(self._invalid) > INVALID_MAX:
            self._invalid.popitem(last=False)
        for arrival in [*self._queue.copies(root), *self._queue.descendants(root)]:
            self._conclude(arrival, Rejected("InvalidAncestor", reason, True))

    def _judged(self, arrival: Arrival, finding: Finding) -> None:
        watched = self._watched.get(arrival.key)
        if watched is not None and not watched.judged.done():
            watched.judged.set_result(finding)

    def _conclude(self, arrival: Arrival, finding: Finding) -> None:
        self._judged(arrival, finding)
        watched = self._watched.pop(arrival.key, None)
        if watched is not None and not watched.done.done():
            watched.done.set_result(finding)

    # ------------------------------------------------------------ import

    async def _import(self, arrival: Arrival) -> Finding:
        if arrival.root in self.tree:
            return Known()
        try:
            known = await self.importer.run(arrival)
        except InvalidBlock as error:
            return self._reject(arrival, Rejected(type(error).__name__, str(error), error.remember))
        except NotYet as error:
            return Ignored(str(error))
        await self.adopt(arrival.block, known, arrival.input)
        return Accepted()

    async def adopt(self, block: Block, known: KnownBlock, input: bytes | None) -> None:
        """Follow a block that has been stored. Only while holding `lock`."""
        self._imported(block, known, input)
        await self.follow()
        self._wake(known)

    def _imported(self, block: Block, known: KnownBlock, input: bytes | None) -> None:
        for listener in self.listeners:
            listener.imported(block, known)
        self.checker.submit(known.root, known.node.slot, block.certificate, input)

    def _wake(self, known: KnownBlock) -> None:
        """Go on with what has waited for a block."""
        for copy in self._queue.copies(known.root):
            self._conclude(copy, Known())
        for child in self._queue.children(known.root):
            self._begin(child)

    async def follow(self) -> None:
        """Finalise and choose the head anew. Only while holding `lock`."""
        await self.finalise()
        self._followed_epoch = epoch_of(self.rules.parameters, self.slot)
        root = choose_head(self.tree.nodes, self.tree.final, self._followed_epoch, self.refuted, self.doubted)
        new, old = self.tree.get(root), self.head
        assert new is not None
        # Also where the head stays: execution follows a block as soon as it is stored, also a refuted one, on
        # which nothing is to be built.
        await self.execution.switch_to(new.payload_hash)
        if root == old.root:
            self._tell_finality()
            return
        depth = self._depth(old, new)
        self.head = new
        if depth:
            _log.info("chain_reorganised", depth=depth, head=root.hex(), slot=new.node.slot)
        self.events.heads.publish(
            NewHead(root, new.node.slot, new.node.height, Hash32(new.payload_hash), depth)
        )
        self._tell_finality()

    def _tell_finality(self) -> None:
        found = NewFinality(max(self.head.node.justified, self.tree.final), self.tree.final)
        if found != self._told:
            self._told = found
            self.events.finality.publish(found)

    async def finalise(self) -> None:
        """Move the final checkpoint as far as it goes. Only while holding `lock`, or before the start."""
        final = final_checkpoint(self.tree.nodes, self.tree.final)
        if final == self.tree.final:
            return
        became = [node.root for node in line(self.tree.nodes, final.root)]
        known = self.tree.get(final.root)
        assert known is not None
        dropped = self.tree.dropped_by(final)
        await self.importer.thread(self.store.finalise, final, became, dropped)
        window = self.rules.parameters.window_epochs * self.rules.parameters.epoch_slots
        await self.importer.thread(self.store.forget_verdicts, known.node.slot - window)
        self.tree.finalise(final)
        self.checker.forget(dropped)
        self.refuted &= set(self.tree.nodes) - {final.root}
        self.doubted &= set(self.tree.nodes) - {final.root}
        for arrival in self._queue.expire(self._now(), known.node.slot):
            self._conclude(arrival, Ignored("older than what is final"))
        for listener in self.listeners:
            listener.finalised(known)
        _log.info("finalised", epoch=final.epoch, root=final.root.hex(), slot=known.node.slot)

    def _depth(self, old: KnownBlock, new: KnownBlock) -> int:
        line_of_new = {node.root for node in line(self.tree.nodes, new.root)}
        depth = 0
        for node in line(self.tree.nodes, old.root):
            if node.root in line_of_new:
                break
            depth += 1
        return depth

    # ------------------------------------------------------------ certificates

    def _may_be_left(self, root: Hash32) -> bool:
        return root in self.tree and root != self.tree.final.root

    def _doubt(self, root: Hash32) -> None:
        if self._may_be_left(root):
            self.doubted.add(root)
            self._follow_soon()

    def _settled(self, root: Hash32, state: CheckState) -> None:
        was_doubted = root in self.doubted
        self.doubted.discard(root)
        if state is CheckState.REFUTED and self._may_be_left(root):
            self.refuted.add(root)
            _log.warning("certificate_refuted", block=root.hex())
            self._follow_soon()
        elif was_doubted:
            self._follow_soon()
        for listener in self.listeners:
            listener.settled(root, state)

    def _follow_soon(self) -> None:
        if not self._stopped:
            self.spawn(self._refollow())

    async def _refollow(self) -> None:
        async with self.lock:
            await self.follow()

    # ------------------------------------------------------------ time

    @property
    def _final_slot(self) -> int:
        known = self.tree.get(self.tree.final.root)
        return known.node.slot if known else 0

    async def _tick(self) -> None:
        slot = self.slot
        while True:
            slot = max(slot + 1, self.slot)
            await self.clock.wait_for(slot)
            for arrival in self._queue.due(slot):
                self._begin(arrival)
            for arrival in self._queue.expire(self._now(), self._final_slot):
                self._conclude(arrival, Ignored("it waited too long"))
            if epoch_of(self.rules.parameters, slot) != self._followed_epoch:
                # What another chain knows may be old enough now.
                self._follow_soon()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
