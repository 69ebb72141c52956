"""Invariant 7 as a machine: any bytes from a peer lead to acceptance, a named rejection or a disconnect.

Strangers say anything at any time to a node with all its rooms: bytes from nowhere, right messages that were
cut, joined or changed deep inside, or that come too early, too late, for another network, out of order, in
floods. They ask anything, answer what the node asks as they please or not at all, come, go and come back.
They have a miner's key. The honest chain goes on beside them, behind a link that is cut now and then.

After each step nothing has failed, everything that was judged has a name, and every container that a peer can
make grow is within its declared bound, which in half of the runs is so small that it is reached; a container
without a declared bound is a failure, too. In the end the node is where the honest chain is, and has taken no
more memory than it may.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import random
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from noria.chain import (
    admission,
    block_tree,
    certificates,
    chain_service,
    hearsay,
    import_queue,
    look_ahead,
    offences,
    own_work,
    recovery,
    under_way,
    vote_pool,
)
from noria.consensus import alarms
from noria.execution import kept_answers
from noria.market.miner import deliveries, journal, numbers, places, session, settling
from noria.market.miner import service as miner_service
from noria.network import blobs, peer_exchange
from noria.network.config import TransportLimits
from noria.network.peers import PeerEventKind
from noria.network.transport import Verdict
from noria.node import gossip, peer_heads, sync
from noria.primitives import line_budget
from noria.primitives.background import BackgroundTasks, cancel_all
from tests.chain.drawn import PARAMETERS, agree
from tests.node.any_peer import (
    GOSSIP,
    JOBS,
    MINERS,
    MOODS,
    PROTOCOLS,
    WORK,
    Honest,
    House,
    Stranger,
    Surroundings,
    Watch,
)
from tests.node.forge import BLOCKS, Forge, spoiled
from tests.node.networked import TOPICS, blamed
from tests.node.quiet import memory_bytes
from tests.virtual_time import VirtualLoop

STRANGERS: Final = 8
WHO: Final = st.integers(0, STRANGERS - 1)
SEEDS: Final = st.integers(0, 2**32 - 1)
KINDS: Final = st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=3, unique=True)
ASKED: Final = (*PROTOCOLS, WORK.name)
STEP_SECONDS: Final = 0.2
"""Messages take less from peer to peer."""
GROWTH_BYTES_MAX: Final = 48 << 20
"""By which this process may have grown since the first run began."""
BEHIND_SLOTS: Final = 6
FOLLOWS_SLOTS: Final = 12 * (STRANGERS + 1)
"""After which a node all of whose peers but one are strangers is where the honest chain is: each may keep it
for 10 s."""

# ---------------------------------------------------------------- bounds

Bound = Callable[[Any, House], int]
ROOMS: Final = (
    "noria.chain.", "noria.consensus.alarms", "noria.execution.consensus_state", "noria.execution.eviction",
    "noria.execution.kept_answers", "noria.execution.mempool", "noria.execution.sender_queue",
    "noria.market.miner.", "noria.network.", "noria.node.", "noria.primitives.background",
    "noria.primitives.line_budget", "noria.primitives.subscriptions",
)  # fmt: skip
LIMITS: Final = TransportLimits()


def of(module: Any, name: str, *, times: int = 1, more: int = 0) -> Bound:
    """A bound that is a constant of a module, as it is now."""
    return lambda owner, house: times * int(getattr(module, name)) + more


def at_most(number: int) -> Bound:
    return lambda owner, house: number


def connections_and(more: int, times: int = 1) -> Bound:
    """As many as there can be connections, and more."""
    return at_most(LIMITS.connections * times + more)


WAITING: Final[Bound] = of(import_queue, "BLOCKS_MAX")
BOUNDS: Final[Mapping[str, Bound]] = {
    # What comes as a block, and what is known of blocks.
    "ChainService._watched": lambda owner, house: (
        import_queue.BLOCKS_MAX + under_way.BLOCKS_MAX + sync.MISSING_MAX
    ),
    "ChainService._tasks": lambda owner, house: (
        2 * import_queue.BLOCKS_MAX + under_way.BLOCKS_MAX + sync.MISSING_MAX + 8
    ),
    "ChainService._invalid": of(chain_service, "INVALID_MAX"),
    "ChainService._seen": of(chain_service, "INVALID_MAX"),
    "ChainService._seen[]": of(chain_service, "COPIES_TAKEN"),
    "ChainService.refuted": lambda owner, house: len(house.chain.tree),
    "ChainService.doubted": lambda owner, house: len(house.chain.tree),
    "ChainService.listeners": at_most(8),
    "ChainService.restored": at_most(0),
    "UnderWay._sources": of(under_way, "BLOCKS_MAX"),
    "ImportQueue._waiting": WAITING,
    "ImportQueue._by_root": WAITING,
    "ImportQueue._by_root[]": of(import_queue, "COPIES_MAX"),
    "ImportQueue._children": WAITING,
    "ImportQueue._children[]": WAITING,
    "ImportQueue._sources": WAITING,
    "BlockTree._blocks": lambda owner, house: blocks_since_final(house),
    "BlockTree.nodes": lambda owner, house: blocks_since_final(house),
    "BlockTree._views": of(block_tree, "VIEWS_MAX"),
    "BlockTree._snapshots": of(block_tree, "SNAPSHOTS_MAX"),
    "BlockTree._grants": at_most(MINERS),
    "KnownSignatures._known": of(look_ahead, "KNOWN_MAX"),
    "CertificateChecker._states": of(certificates, "STATES_MAX"),
    "CertificateChecker._known": of(certificates, "WAITING_MAX"),
    "CertificateChecker._heap": of(certificates, "WAITING_MAX"),
    "CertificateChecker._budgets": at_most(2),
    # What is read of the contracts.
    "ConsensusState._closed": of(recovery, "CLOSED_MAX", more=PARAMETERS.leak_epochs),
    "ConsensusState._lines": at_most(PARAMETERS.miners_max),
    "ConsensusState._lines[]": at_most(1 << 20),
    "ConsensusState.miners": at_most(PARAMETERS.miners_max),
    "ContractView._records": at_most(PARAMETERS.miners_max),
    "KeptAnswers._roots": of(kept_answers, "BLOCKS_MAX"),
    "KeptAnswers._answers": of(kept_answers, "KEPT_MAX"),
    # Votes, evidence, alarms.
    "VotePool._votes": of(vote_pool, "VOTES_MAX"),
    "VotePool._votes[]": at_most(MINERS),
    "VotePool._counting": of(vote_pool, "VOTES_MAX"),
    "EvidencePool._pool": of(offences, "POOL_MAX"),
    "EvidencePool._about": at_most(MINERS),
    "OffenceWatch._proposals": of(offences, "PROPOSALS_MAX"),
    "OffenceWatch._votes": of(offences, "VOTERS_MAX"),
    "OffenceWatch._votes[]": of(offences, "VOTES_PER_VOTER"),
    "Hearsay._alarms": of(hearsay, "ALARMS_MAX"),
    "AlarmRecord.outstanding": of(alarms, "ALARMISTS_MAX"),
    "AlarmRecord.ignored": of(alarms, "ALARMISTS_MAX"),
    # Transactions.
    "Chain._tasks": at_most(3),
    "Chain._writes": at_most(4),
    "Admission._jobs": of(admission, "WAITING_MAX"),
    "Admission._accounts": of(admission, "_CACHE_MAX", more=admission.BATCH),
    "Waiters._futures": at_most(0),
    "Mempool._by_hash": lambda owner, house: owner.limits.count,
    "Mempool._senders": lambda owner, house: owner.limits.count,
    "Mempool._departed": lambda owner, house: owner.limits.departures,
    "SenderQueue.entries": lambda owner, house: house.execution.mempool.limits.account_slots,
    "EvictionOrder._heap": lambda owner, house: 4 * house.execution.mempool.limits.count + 1_024 + 1,
    # Gossip and sync.
    "Gossip._heard": of(gossip, "HEARD_MAX"),
    "Gossip._tasks": of(gossip, "SENDING_MAX", more=1),
    "Gossip.counts": at_most(len(GOSSIP) * 40),
    "PeerHeads._gone": of(peer_heads, "GONE_MAX"),
    "PeerHeads._peers": lambda owner, house: connected_lately(house),
    "PeerClocks._clocks": connections_and(1),
    "Sync._missing": of(sync, "MISSING_MAX"),
    "Sync._tasks": lambda owner, house: (
        3 + sync.CHUNKS_AHEAD + 1 + sync.MISSING_MAX + import_queue.BLOCKS_MAX + LIMITS.own_requests_open
    ),
    "LineBudget._kinds": of(line_budget, "KINDS_MAX"),
    # Peers and blobs.
    "PeerExchange._tellers": of(peer_exchange, "TOLD_MAX"),
    "PeerExchange._tried": of(peer_exchange, "TOLD_MAX"),
    "PeerExchange._dials": of(peer_exchange, "DIALS_PER_MINUTE"),
    "PeerExchange._tasks": connections_and(2),
    "PeerExchange._dialling_tasks": of(peer_exchange, "DIALS_WAITING"),
    "BanWatch._tasks": at_most(1),
    "BlobServer._open": of(blobs, "FILES_OPEN"),
    "BlobServer._opening": connections_and(0, times=LIMITS.peer_requests_open),
    "Topic._subscribers": at_most(8),
    "Subscription._queue": lambda owner, house: owner._capacity,
    # Work for others.
    "MinerService._tasks": at_most(2),
    "MinerService._assigned": of(miner_service, "ASSIGNED_MAX"),
    "Places._live": of(places, "PLACES_MAX"),
    "Places._at": of(places, "PLACES_MAX"),
    "Places._releasing": of(places, "PLACES_MAX"),
    "Places._tasks": of(places, "PLACES_MAX", times=2),
    "Workshop._sessions": of(places, "PLACES_MAX"),
    "Workshop._tasks": lambda owner, house: owner.workers * 2,
    "Session.units": of(session, "WINDOW"),
    "Session._queue": of(session, "WINDOW"),
    "Session._held": of(session, "UNRELEASED_MAX"),
    "Session.results": lambda owner, house: session.UNTAKEN_MAX + session.WINDOW,
    "Session.failures": lambda owner, house: session.FAILURES_MAX + session.WINDOW,
    "Session.offers": of(settling, "OFFERS_MAX"),
    "Session.unwanted": lambda owner, house: session.UNTAKEN_MAX + session.WINDOW,
    "Abandoned._seconds": of(session, "UNRELEASED_MAX"),
    "NumberSet._firsts": of(numbers, "RANGES_MAX"),
    "NumberSet._lasts": of(numbers, "RANGES_MAX"),
    "Places._pinned": at_most(1),
    "Settler._batches": at_most(numbers.RANGES_MAX),
    "Settler._approvals": at_most(numbers.RANGES_MAX),
    "Settler._unkept": at_most(numbers.RANGES_MAX),
    "Settler._done": at_most(numbers.RANGES_MAX),
    "Settler._not_before": at_most(numbers.RANGES_MAX),
    "Journal._waiting": of(journal, "WAITING_MAX", more=1_000),
    "Journal._waiters": of(journal, "WAITING_MAX", more=1_000),
    "Outputs._places": at_most(JOBS),
    "_Held.outputs": lambda owner, house: session.UNTAKEN_MAX + session.WINDOW,
    "Deliveries._here": of(places, "PLACES_MAX"),
    "Deliveries._here[]": of(deliveries, "BLOBS_MAX"),
    "Deliveries._here_bytes": of(places, "PLACES_MAX"),
    "Deliveries._cache": of(deliveries, "CACHE_BLOBS_MAX"),
    "Deliveries._locks": of(places, "PLACES_MAX"),
    "Deliveries._sources": of(deliveries, "PROGRAMS_MAX", more=1),
    "Deliveries._pinned": at_most(1),
    "Deliveries._refused": of(deliveries, "REFUSED_MAX"),
    "ProgramFiles._programs": at_most(2),
    "OwnWork._held": of(own_work, "_BATCHES_HELD"),
}


def connected_lately(house: House) -> int:
    """Peers that are connected, and those whose going need not have been noticed yet."""
    noticed = house.network.wall() - house.network.genesis_seconds - sync.STATUS_SECONDS - 0.1
    return len(house.wire.peers()) + sum(left > noticed for left in house.wire.left)


def blocks_since_final(house: House) -> int:
    """Blocks that may become final: of each slot and miner so many."""
    slots = house.chain.slot - house.chain._final_slot + 2
    return slots * MINERS * chain_service.COPIES_TAKEN


def sizes(house: House) -> Iterator[tuple[str, int, int]]:
    """Bytes that are kept, and how many they may be."""
    chain, execution = house.chain, house.execution
    yield "blocks that wait", chain._queue.size_bytes, import_queue.BYTES_MAX
    yield "blocks that are checked", chain._under_way.size_bytes, under_way.BYTES_MAX
    yield "transactions to be checked", execution._admission._waiting_bytes, admission.WAITING_BYTES_MAX
    yield "transactions", execution.mempool.size_bytes, execution.mempool.limits.size_bytes
    yield "inputs of certificates", house.chain.checker._known_bytes, certificates.INPUT_BYTES_MAX
    yield "blobs in memory", house.deliveries._cached_bytes, deliveries.CACHE_BYTES_MAX
    for live in house.service._places:
        yield "inputs", live.session._inline_bytes, session.INLINE_QUEUED_MAX


def containers(*roots: object) -> Iterator[tuple[str, object, int]]:
    """Walk through objects of the rooms, and return what they hold: (name, owner, length).

    What waits for a lock or an event is a task, and counted as such.
    """
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        owner = todo.pop()
        kind = room_of(owner)
        if kind is None or id(owner) in seen:
            continue
        seen.add(id(owner))
        for field, value in fields(owner):
            name = f"{kind.__name__}.{field}"
            if isinstance(value, BackgroundTasks):
                yield name, owner, len(value)
            elif isinstance(value, dict | list | set | deque):
                yield name, owner, len(value)
                inner = list(value.values() if isinstance(value, dict) else value)
                held = [each for each in inner if isinstance(each, dict | list | set | deque)]
                yield from ((f"{name}[]", owner, len(each)) for each in held)
                todo += [each for each in inner if room_of(each) is not None]
            else:
                todo.append(value)


def room_of(owner: object) -> type | None:
    """The class of the rooms that an object is of, perhaps by way of a test's."""
    return next((kind for kind in type(owner).__mro__ if kind.__module__.startswith(ROOMS)), None)


def fields(owner: object) -> Iterator[tuple[str, object]]:
    """What an object holds, by name."""
    names = set(getattr(owner, "__dict__", ()))
    for kind in type(owner).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names.update((slots,) if isinstance(slots, str) else slots)
    for name in sorted(names - {"__dict__", "__weakref__"}):
        if hasattr(owner, name):
            yield name, getattr(owner, name)


def beyond_bounds(house: House) -> list[str]:
    """Say what is longer than it may be, and what nobody has declared how long it may be."""
    rooms = (
        house.chain, house.execution, house.hearsay, house.gossip, house.sync, house.exchange, house.bans,
        house.blobs, house.service,
    )  # fmt: skip
    found = []
    for name, owner, length in containers(*rooms):
        bound = BOUNDS.get(name)
        if bound is None:
            found.append(f"{name} has no declared bound")
        elif length > bound(owner, house):
            found.append(f"{name} has {length}, at most {bound(owner, house)} are declared")
    found += [f"{size} bytes of {what}, at most {most}" for what, size, most in sizes(house) if size > most]
    return sorted(set(found))


SMALL: Final[Mapping[tuple[Any, str], int]] = {
    (chain_service, "INVALID_MAX"): 2,
    (import_queue, "BLOCKS_MAX"): 4,
    (import_queue, "PER_SOURCE_MAX"): 3,
    (import_queue, "BYTES_MAX"): 7_000,
    (under_way, "BLOCKS_MAX"): 40,
    (block_tree, "VIEWS_MAX"): 8,
    (block_tree, "SNAPSHOTS_MAX"): 4,
    (look_ahead, "KNOWN_MAX"): 8,
    (certificates, "STATES_MAX"): 24,
    (certificates, "WAITING_MAX"): 2,
    (vote_pool, "VOTES_MAX"): 3,
    (offences, "PROPOSALS_MAX"): 6,
    (offences, "VOTERS_MAX"): 2,
    (offences, "VOTES_PER_VOTER"): 2,
    (offences, "POOL_MAX"): 2,
    (hearsay, "ALARMS_MAX"): 2,
    (alarms, "ALARMISTS_MAX"): 1,
    (admission, "WAITING_MAX"): 16,
    (admission, "_CACHE_MAX"): 2,
    (gossip, "HEARD_MAX"): 3,
    (gossip, "SENDING_MAX"): 16,
    (sync, "MISSING_MAX"): 3,
    (peer_exchange, "TOLD_MAX"): 8,
    (peer_exchange, "DIALS_WAITING"): 4,
    (blobs, "FILES_OPEN"): 1,
    (line_budget, "KINDS_MAX"): 4,
    (kept_answers, "BLOCKS_MAX"): 16,
    (kept_answers, "KEPT_MAX"): 64,
    (places, "PLACES_MAX"): 2,
    (session, "WINDOW"): 6,
    (session, "UNRELEASED_MAX"): 4,
    (session, "UNTAKEN_MAX"): 4,
    (session, "FAILURES_MAX"): 4,
}
"""Bounds that are reached in a few steps."""
FEW_TRANSACTIONS: Final = {
    "count": 8, "size_bytes": 1_200, "gapped": 3, "account_slots": 4, "account_gapped": 2, "departures": 4,
}  # fmt: skip


# ---------------------------------------------------------------- the machine


def inside(body: Callable[..., None]) -> Callable[..., None]:
    """Run a step where the node runs, and let it have some effect."""

    @functools.wraps(body)
    def run(machine: AnyPeer, **drawn: Any) -> None:
        async def work() -> None:
            body(machine, **drawn)
            await asyncio.sleep(STEP_SECONDS)

        machine.do(work())

    return run


class AnyPeer(RuleBasedStateMachine):
    """Strangers, an honest chain and a node between them, in any order."""

    resident: ClassVar[int] = 0
    """Memory of this process when the first run had begun."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="noria-strangers-"))
        self.loop = VirtualLoop()
        self.watch = Watch()
        self.loop.set_exception_handler(self.watch.loop)
        structlog.configure(processors=[self.watch.log])
        self.patch = pytest.MonkeyPatch()
        self.is_begun = False
        self.strangers: dict[int, Stranger] = {}
        self.come = 0
        self.others: set[asyncio.Task[None]] = set()
        self.cut = False

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something happen, and what goes on beside it."""
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(work)
        finally:
            asyncio.set_event_loop(None)

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin something that goes on beside the next steps."""
        task = self.loop.create_task(work)
        self.others.add(task)
        task.add_done_callback(self.others.discard)

    @initialize(
        small=st.booleans(),
        careless=st.booleans(),
        slots=st.integers(2, 24),
        last_mood=st.one_of(st.just("silent"), st.sampled_from(MOODS)),
    )
    def begin(self, small: bool, careless: bool, slots: int, last_mood: str) -> None:
        self.last_mood = last_mood
        if small:
            for (module, name), number in SMALL.items():
                self.patch.setattr(module, name, number)
        self.network = Surroundings(self.folder, self.loop)
        self.honest = Honest(self.network, 0, True)
        self.house = House(self.network, self.watch)
        self.network.nodes += [self.honest, self.house]

        async def start() -> None:
            await self.honest.start()
            await self.house.start()
            if small:
                pool = self.house.execution.mempool
                pool.limits = msgspec.structs.replace(pool.limits, **FEW_TRANSACTIONS)
            if careless:
                # It looks at no certificate of its own accord, so that alarms are about something.
                checker = self.house.chain.checker
                checker._draw = lambda: 1.0
                checker._budget(0)._demand = 1e12
            await self.network.run_to(slots)
            await self.network.run_until(lambda: self.honest.chain.head.node.height)

        self.do(start())
        self.forge = Forge(
            self.honest.chain, self.house.chain.tree, lambda topic: self.honest.ear.said.get(topic, ())
        )
        self.is_begun = True
        gc.collect()
        AnyPeer.resident = AnyPeer.resident or memory_bytes(os.getpid())

    def stranger(self, number: int) -> Stranger:
        """A stranger; whoever is gone comes back, under a new name where the old one is banned."""
        found = self.strangers.get(number)
        is_banned = found is not None and found.name in self.house.wire.banned
        if found is None or found.transport.closed or is_banned:
            self.come += 1
            name = found.name if found is not None and not is_banned else f"stranger{self.come}"
            if found is not None and not found.transport.closed:
                self.beside(found.leave(unnoticed=False))
            found = Stranger(name, self.honest, self.house, self.forge, self.come)
            self.strangers[number] = found
        return found

    # ------------------------------------------------------------ what strangers do

    @rule(who=WHO, seed=SEEDS, count=st.sampled_from([1, 3, 9]))
    @inside
    def somebody_gossips_what_is_nearly_right(self, who: int, seed: int, count: int) -> None:
        chance, stranger = random.Random(seed), self.stranger(who)
        for topic in GOSSIP:
            bytes_max = self.network.memory.topics[topic].bytes_max
            samples = self.forge.samples(chance, topic)
            for _ in range(count):
                data = spoiled(chance, samples, bytes_max)
                if topic == TOPICS.blocks and chance.random() < 0.4:
                    data = self.forge.signed_again(data)
                stranger.gossip(topic, data)

    @rule(who=WHO, seed=SEEDS)
    @inside
    def somebody_gossips_what_is_right_elsewhere_or_at_another_time(self, who: int, seed: int) -> None:
        chance, stranger = random.Random(seed), self.stranger(who)
        for topic in GOSSIP:
            for data in self.forge.samples(chance, topic)[-4:]:
                stranger.gossip(chance.choice(GOSSIP) if chance.random() < 0.3 else topic, data)
            stranger.gossip(TOPICS.blocks, self.forge.moved(chance))

    @rule(who=WHO, what=KINDS, seed=SEEDS, count=st.sampled_from([8, 40, 140]))
    @inside
    def somebody_floods_with_blocks(self, who: int, what: list[str], seed: int, count: int) -> None:
        chance = random.Random(seed)
        sources = [self.stranger((who + number) % STRANGERS) for number in range(chance.choice((1, 3)))]
        for kind in what:
            first, *others = BLOCKS[kind](self.forge, chance, count)
            sources[0].gossip(TOPICS.blocks, first)
            # What follows from the first one may also come before it.
            later = chance.choice((0.0, STEP_SECONDS / 2))
            for data in others:
                chance.choice(sources).gossip(TOPICS.blocks, data, later)

    @rule(who=WHO, topic=st.sampled_from(GOSSIP[1:]), seed=SEEDS, count=st.sampled_from([8, 40, 140]))
    @inside
    def somebody_floods_with_words(self, who: int, topic: str, seed: int, count: int) -> None:
        chance = random.Random(seed)
        for _ in range(count):
            self.stranger(who).gossip(topic, self.forge.word(chance, topic))

    @rule(who=WHO, seed=SEEDS, count=st.sampled_from([2, 8]))
    @inside
    def somebody_asks(self, who: int, seed: int, count: int) -> None:
        chance, stranger = random.Random(seed), self.stranger(who)
        for protocol in ASKED * count:
            bytes_max = self.network.memory.protocols[protocol].request_bytes_max
            data = self.forge.request(chance, protocol)
            stranger.ask(protocol, data if chance.random() < 0.6 else spoiled(chance, [data], bytes_max))

    @rule(who=WHO, job=st.integers(1, JOBS), seed=SEEDS, count=st.sampled_from([5, 20]))
    @inside
    def somebody_has_work_done(self, who: int, job: int, seed: int, count: int) -> None:
        chance, stranger = random.Random(seed), self.stranger(who)
        said = [self.forge.work(chance, stranger.name, job) for _ in range(count)]
        half = [data if chance.random() < 0.8 else spoiled(chance, [data], len(data)) for data in said]
        stranger.ask(WORK.name, self.forge.hello(job, 0, stranger.name), then=half)

    @rule(who=WHO, moods=st.lists(st.sampled_from(MOODS), min_size=len(PROTOCOLS), max_size=len(PROTOCOLS)))
    @inside
    def somebody_answers_in_another_mood(self, who: int, moods: list[str]) -> None:
        self.stranger(who).moods.update(zip(PROTOCOLS, moods, strict=True))

    @rule(mood=st.sampled_from(MOODS))
    @inside
    def all_say_that_they_are_ahead_and_are_of_one_mood(self, mood: str) -> None:
        self._agree(mood)

    def _agree(self, mood: str) -> None:
        for who in range(STRANGERS):
            self.stranger(who).moods.update(dict.fromkeys(PROTOCOLS, mood) | {TOPICS.status: "ahead"})

    @precondition(lambda self: self.strangers)
    @rule(who=WHO, unnoticed=st.booleans())
    def somebody_leaves(self, who: int, unnoticed: bool) -> None:
        stranger = self.strangers.get(who)
        if stranger is not None and not stranger.transport.closed:
            self.do(stranger.leave(unnoticed=unnoticed))
        if unnoticed:
            self.do(asyncio.sleep(sync.STATUS_SECONDS + STEP_SECONDS))

    # ------------------------------------------------------------ what goes on beside

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 3.0, 12.0]))
    def time_passes(self, seconds: float) -> None:
        self.do(asyncio.sleep(seconds))

    @precondition(lambda self: not self.others)
    @rule(seconds=st.sampled_from([0.5, 4.0]))
    @inside
    def something_long_is_written(self, seconds: float) -> None:
        async def write() -> None:
            async with self.house.chain.lock:
                await asyncio.sleep(seconds)

        self.beside(write())

    @precondition(lambda self: not self.others)
    @rule(seconds=st.sampled_from([2.0, 30.0]))
    @inside
    def a_module_is_fetched(self, seconds: float) -> None:
        self.beside(self.house.fetch_lacking(seconds))

    @rule(slots=st.sampled_from([2, 6, 20]))
    def the_honest_are_out_of_reach_for_a_time(self, slots: int) -> None:
        """What strangers send meanwhile they know before the node does."""
        self.do(self._without_the_honest(slots))

    async def _without_the_honest(self, slots: int) -> None:
        self._cut(PeerEventKind.DISCONNECTED)
        await asyncio.sleep(slots)

    @rule(who=WHO, seed=SEEDS, slots=st.sampled_from([2, 6]), count=st.sampled_from([10, 60]))
    def somebody_is_faster_than_the_honest(self, who: int, seed: int, slots: int, count: int) -> None:
        """It has false copies of what the node needs next where the node needs it."""
        self.do(self._be_faster(who, random.Random(seed), slots, count))

    async def _be_faster(self, who: int, chance: random.Random, slots: int, count: int) -> None:
        await self._without_the_honest(slots)
        for data in self.forge.copies(chance, count):
            self.stranger(who).gossip(TOPICS.blocks, data)
        await asyncio.sleep(STEP_SECONDS)
        self._cut(PeerEventKind.IDENTIFIED)
        await asyncio.sleep(STEP_SECONDS)

    @precondition(lambda self: self.cut)
    @rule()
    @inside
    def the_honest_are_back(self) -> None:
        self._cut(PeerEventKind.IDENTIFIED)

    def _cut(self, kind: PeerEventKind) -> None:
        """Cut the link between the two nodes, or mend it, as the event says."""
        self.cut = kind is PeerEventKind.DISCONNECTED
        link = frozenset((self.honest.peer, self.house.peer))
        self.network.memory.cut = self.network.memory.cut - {link} | ({link} if self.cut else set())
        for node, other in ((self.honest, self.house), (self.house, self.honest)):
            node.transport.tell(kind, other.peer)

    # ------------------------------------------------------------ what must hold

    @invariant()
    def nothing_has_failed_and_all_is_named(self) -> None:
        if self.is_begun:
            assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", found) for _, found in self.house.gossip.counts)
        assert not self.watch.failures, "\n".join(self.watch.failures)

    @invariant()
    def everything_is_within_its_bound(self) -> None:
        if self.is_begun:
            assert not (found := beyond_bounds(self.house)), "\n".join(found)

    @invariant()
    def nobody_honest_is_blamed(self) -> None:
        """Neither by the node, nor the node for what it passes on; but for being cut off from one another."""
        if self.is_begun:
            for node, other in ((self.house, self.honest), (self.honest, self.house)):
                blames = blamed(node, other.peer)
                assert [each for each in blames if not each[1].endswith(f": {other.peer}")] == []
            passed_on = [each for each in self.honest.transport.verdicts if each[0] == self.house.peer]
            assert [each for each in passed_on if each[2] is Verdict.REJECT] == []

    def teardown(self) -> None:
        try:
            if self.is_begun:
                self.do(self._end())
        finally:
            cancel_all(self.loop)
            self.loop.close()
            self.patch.undo()
            structlog.reset_defaults()
            shutil.rmtree(self.folder)

    async def _end(self) -> None:
        """Once the honest are in reach the node comes to where they are, however strangers hold it up."""
        house, honest = self.house, self.honest
        self._agree(self.last_mood)
        await self._without_the_honest(BEHIND_SLOTS)
        self._cut(PeerEventKind.IDENTIFIED)
        for _ in range(FOLLOWS_SLOTS):
            await self.network.run_to(house.chain.slot + 1)
            if house.chain.head.root == honest.chain.head.root:
                break
        else:
            raise AssertionError(f"at {house.chain.status}, the honest at {honest.chain.status}")
        await asyncio.gather(*self.others)
        assert agree(self.network)
        self.nothing_has_failed_and_all_is_named()
        assert not (found := beyond_bounds(house)), "\n".join(found)
        self.nobody_honest_is_blamed()
        gc.collect()
        grown = memory_bytes(os.getpid()) - AnyPeer.resident
        assert grown <= GROWTH_BYTES_MAX, grown
        for stranger in self.strangers.values():
            if not stranger.transport.closed:
                await stranger.leave(unnoticed=False)
        await self.network.stop()
        self.nothing_has_failed_and_all_is_named()


TestAnyPeer = pytest.mark.timeout(300)(AnyPeer.TestCase)
# Nothing is made smaller: a failure says what was done.
TestAnyPeer.settings = settings(
    phases=[Phase.generate],
    max_examples=8,
    stateful_step_count=36,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_every_container_of_the_rooms_is_found() -> None:
    class TestsOwn(vote_pool.VotePool):
        pass

    pool: Any = TestsOwn()
    pool.strays = {"one": [1, 2], "two": deque([3])}
    pool.inner = offences.EvidencePool()
    found = {name: length for name, _, length in containers(pool)}
    assert found.keys() >= {"VotePool._votes", "VotePool._counting", "EvidencePool._pool"}
    assert found["VotePool.strays"] == 2
    assert found["VotePool.strays[]"] in (1, 2)
    assert "VotePool.strays" not in BOUNDS
