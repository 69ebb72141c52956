"""Catching up of one node whose blocks are mere names: forks, peers that hold it up, how often it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from noria.chain.chain_service import ChainService
from noria.chain.findings import Finding, Ignored, Known
from noria.chain.import_queue import Arrival
from noria.consensus.fork_choice import BlockNode
from noria.consensus.validity import Accepted, Postponed
from noria.consensus.votes import Checkpoint
from noria.network.errors import PeerNotConnected
from noria.network.messages import PeerStatus, decode_range, encode_blocks, encode_status
from noria.network.peers import PeerEventKind, PeerId
from noria.network.topics import protocol_specs, topic_specs
from noria.network.transport import Request
from noria.node import sync as sync_module
from noria.node.full import FullNode
from noria.node.peer_heads import APART_SECONDS, REST_SECONDS
from noria.node.sync import CHUNK, CHUNKS_AHEAD, STATUS_SECONDS, Sync
from noria.primitives.hashes import blake3
from noria.primitives.types import Hash32
from tests.chain.drawn import PARAMETERS
from tests.network.memory import MemoryNetwork
from tests.node.networked import TOPICS
from tests.virtual_time import run_virtually

GENESIS = Hash32(b"\x01" * 32)
FINAL = 100
OWN = PeerId("own")


def made(height: int, parent: Hash32, word: str) -> bytes:
    """A block: its height, its parent, and a word that tells it from others or says what is wrong with it."""
    return f"{height} {parent.hex()} {word}".encode()


def root_of(data: bytes) -> Hash32:
    return Hash32(blake3(data))


def line(first: int, last: int, parent: Hash32, word: str) -> list[bytes]:
    """Blocks of which each follows the one before."""
    found: list[bytes] = []
    for height in range(first, last + 1):
        found.append(made(height, parent, word))
        parent = root_of(found[-1])
    return found


def forked(trunk: Sequence[bytes], fork: int, last: int, word: str) -> list[bytes]:
    """A chain that has another one's blocks up to a height, and its own above."""
    return [*trunk[:fork], *line(fork + 1, last, root_of(trunk[fork - 1]), word)]


class Ahead:
    """Checks nothing ahead."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def passed(self, root: Hash32) -> None: ...

    def add(self, arrivals: Sequence[Arrival]) -> None: ...

    def moved(self, root: Hash32) -> None: ...


class Chain:
    """What `Sync` uses of a chain: the highest block is the head, unless its branch is disliked.

    From a height on a branch that is liked counts more than any other.
    """

    def __init__(self, blocks: Sequence[bytes], final: int = FINAL) -> None:
        self.rules = SimpleNamespace(genesis_root=GENESIS, parameters=PARAMETERS)
        self.clock = SimpleNamespace(milliseconds=lambda: 0)
        self.execution = SimpleNamespace(relax=self.idle, settle=self.idle)
        self.importer = SimpleNamespace(check=self.check)
        self.store = SimpleNamespace(block=lambda root: self.stored.get(root))
        self.stored: dict[Hash32, SimpleNamespace] = {}
        self.nodes: dict[Hash32, BlockNode] = {}
        self.tree = self
        self.final = Checkpoint(1, root_of(blocks[final - 1]) if final else GENESIS)
        self.slot = 10**9
        self.disliked = ""
        self.liked, self.liked_from = "", 0
        self.wanted: Any = None
        self.word = "genesis"
        if not final:
            self.nodes[GENESIS] = BlockNode(GENESIS, GENESIS, 0, 0, GENESIS, self.final, self.final)
            self.head = self.get(GENESIS)
        for height, data in enumerate(blocks, 1):
            if height < final:
                self.stored[root_of(data)] = SimpleNamespace(height=height)
            else:
                self.add(self.arrival(data, ""))

    def __contains__(self, root: Hash32) -> bool:
        return root in self.nodes

    def get(self, root: Hash32) -> Any:
        node = self.nodes.get(root)
        return None if node is None else SimpleNamespace(node=node, root=root)

    def arrival(self, data: bytes, source: str) -> Arrival:
        height, parent, word = data.decode().split(maxsplit=2)
        header = SimpleNamespace(parent_root=Hash32(bytes.fromhex(parent)), slot=int(height), word=word)
        return Arrival(cast(Any, SimpleNamespace(header=header)), root_of(data), data, None, source)

    def add(self, arrival: Arrival) -> None:
        header: Any = arrival.block.header
        parent = self.nodes.get(header.parent_root)
        height = parent.height + 1 if parent else FINAL
        node = BlockNode(
            arrival.root, header.parent_root, header.slot, height, arrival.root, self.final, self.final
        )
        self.nodes[arrival.root] = node
        self.stored[arrival.root] = SimpleNamespace(height=height)
        if parent is None or self._rank(header.word, height) > self._rank(self.word, self.head.node.height):
            self.head, self.word = self.get(arrival.root), header.word

    def _rank(self, word: str, height: int) -> tuple[bool, bool, int]:
        return word == self.liked and height >= self.liked_from, word != self.disliked, height

    def mine(self) -> None:
        """Make a block on the head."""
        height = self.head.node.height + 1
        self.add(self.arrival(made(height, self.head.root, "own"), ""))

    async def idle(self) -> None: ...

    def look_ahead(self) -> Ahead:
        return Ahead()

    async def check(self, arrival: Arrival, time_milliseconds: int) -> Accepted | Postponed:
        word = cast(Any, arrival.block.header).word
        missing = {"future": "FromTheFuture", "bare": "InputMissing"}.get(word)
        return Accepted() if missing is None else Postponed(missing, f"{word} block")

    async def take_line(self, blocks: Sequence[Arrival]) -> int:
        await asyncio.sleep(0.01)
        for number, arrival in enumerate(blocks):
            parent = arrival.block.header.parent_root
            sound = isinstance(await self.check(arrival, 0), Accepted)
            if arrival.root in self or parent not in self or not sound:
                return number
            self.add(arrival)
        return len(blocks)

    async def take_arrival(self, arrival: Arrival) -> Finding:
        if arrival.root in self.nodes:
            return Known()
        if isinstance(await self.check(arrival, 0), Postponed):
            await asyncio.sleep(60)
            return Ignored("it waited too long")
        self.add(arrival)
        return Accepted()


class Peer:
    """Serves a chain; `send` may be replaced."""

    def __init__(
        self, network: MemoryNetwork, name: str, chain: list[bytes], claim: int | None = None
    ) -> None:
        self.chain, self.asked, self.name = chain, list[int](), PeerId(name)
        self.claim: Callable[[], int] = lambda: len(self.chain) if claim is None else claim
        self.part: Callable[[int, int], Sequence[bytes]] = lambda first, count: self.chain[first - 1 :][
            :count
        ]
        self.delay = 0.0
        self.transport = network.connect(name)
        self.transport.serve(TOPICS.status, self._status)
        self.transport.serve(TOPICS.range, self._send)

    async def _status(self, request: Request) -> bytes:
        height = self.claim()
        head = root_of(self.chain[height - 1]) if 0 < height <= len(self.chain) else root_of(b"%d" % height)
        return encode_status(PeerStatus(GENESIS, 1, GENESIS, height, height, head, 0))

    async def _send(self, request: Request) -> bytes:
        wanted = decode_range(request.data)
        self.asked.append(wanted.first_height)
        await asyncio.sleep(self.delay)
        return encode_blocks(self.part(wanted.first_height, wanted.count))


class World:
    """A node with a chain, and peers in the order in which they came."""

    def __init__(self, chain: Chain) -> None:
        self.network = MemoryNetwork(topic_specs(TOPICS, PARAMETERS), protocol_specs(TOPICS, PARAMETERS))
        self.chain, self.peers = chain, list[Peer]()
        self.transport = self.network.connect(OWN)
        self.sync = Sync(self.transport, TOPICS, cast(ChainService, chain))

    def peer(self, chain: list[bytes], claim: int | None = None) -> Peer:
        self.peers.append(Peer(self.network, f"peer{len(self.peers)}", chain, claim))
        return self.peers[-1]

    async def run(self, seconds: float, *, until: int = 0) -> float:
        """Let time pass until the head is at a height; return how long that took."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while loop.time() < begun + seconds and not 0 < until <= self.chain.head.node.height:
            await asyncio.sleep(0.1)
        return loop.time() - begun

    async def start(self) -> None:
        # Peers come one after the other, so that the first is the oldest.
        for peer in self.peers:
            self.network.transports.pop(peer.name)
        self.sync.start()
        for peer in self.peers:
            self.network.transports[peer.name] = peer.transport
            await self.sync._ask_status(peer.name)
        assert set(self.sync.peers) == {peer.name for peer in self.peers}

    def score(self, peer: Peer) -> float:
        return sum(score for score, _ in self.transport.scores.get(peer.name, []))


TRUNK = line(1, 1_000, GENESIS, "trunk")


# ------------------------------------------------------------ the ordinary way


@pytest.mark.parametrize("last", [2, 32, 34, 130, 1_000])
def test_one_request_brings_a_chunk_and_no_request_is_made_twice(last: int) -> None:
    async def story() -> None:
        world = World(Chain([], final=0))
        peers = [world.peer(TRUNK[:last]) for _ in range(3)]
        await world.start()
        await world.run(60, until=last)
        assert world.chain.head.node.height == last
        assert sorted(first for peer in peers for first in peer.asked) == list(range(1, last + 1, CHUNK))
        assert not world.transport.scores
        await world.sync.stop()

    run_virtually(story())


def test_answers_that_end_early_because_they_are_long_are_nobodys_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        monkeypatch.setattr(sync_module, "ANSWER_BYTES", 100)
        world = World(Chain([], final=0))
        peers = [world.peer(TRUNK[:300]) for _ in range(2)]
        for peer in peers:
            peer.part = lambda first, count: TRUNK[:300][first - 1 :][:5]
        await world.start()
        assert await world.run(60, until=300) < 30
        assert not world.transport.scores
        await world.sync.stop()

    run_virtually(story())


# ------------------------------------------------------------ forks


@pytest.mark.parametrize("fork", [100, 140, 227, 228, 300, 700])
def test_a_node_leaves_its_fork_however_far_that_is_above_its_final_block(fork: int) -> None:
    async def story() -> None:
        world = World(Chain(forked(TRUNK, fork, fork + 1, "own")))
        peer = world.peer(TRUNK[: fork + 100])
        await world.start()
        assert await world.run(60, until=fork + 100) < 20
        assert world.chain.head.root == root_of(TRUNK[fork + 99])
        # From the final block once, and what had failed before.
        assert len(peer.asked) <= (fork - FINAL + 100) / CHUNK + 10
        assert not world.transport.scores
        await world.sync.stop()

    run_virtually(story())


def test_blocks_of_its_own_do_not_keep_a_node_on_its_fork() -> None:
    async def story() -> None:
        world = World(Chain(forked(TRUNK, 300, 310, "own")))
        peer = world.peer(TRUNK[:900])
        # 128 blocks take longer than the next block of its own.
        peer.delay = 2.0
        await world.start()

        async def mine() -> None:
            while world.chain.head.root != root_of(TRUNK[world.chain.head.node.height - 1]):
                world.chain.mine()
                await asyncio.sleep(1)

        mining = asyncio.create_task(mine())
        assert await world.run(100, until=899) < 60
        assert world.chain.head.root == root_of(TRUNK[899])
        await mining
        await world.sync.stop()

    run_virtually(story())


def test_peers_on_its_own_fork_do_not_keep_a_node_there() -> None:
    async def story() -> None:
        own = forked(TRUNK, 150, 320, "own")
        world = World(Chain(own[:310]))
        for last in (312, 320):
            world.peer(own[:last])
        for _ in range(2):
            world.peer(TRUNK[:900])
        await world.start()
        assert await world.run(100, until=900) < 30
        assert not world.transport.scores
        await world.sync.stop()

    run_virtually(story())


def test_a_longer_chain_that_is_not_the_better_one_is_looked_at_once() -> None:
    async def story() -> None:
        chain = Chain(forked(TRUNK, 300, 310, "own"))
        chain.disliked = "trunk"
        world = World(chain)
        peer = world.peer(TRUNK)
        await world.start()
        await world.run(10 * REST_SECONDS)
        assert chain.head.node.height == 310
        assert len(peer.asked) <= (1_000 - FINAL) / CHUNK + 8
        assert not world.transport.scores
        # What is here already is nothing to catch up with.
        assert (world.sync.is_behind, world.sync.goal) == (False, 310)
        await world.sync.stop()

    run_virtually(story())


@pytest.mark.parametrize("last", [400, 700, 899, 900, 901])
def test_a_shorter_chain_that_is_the_better_one_is_found(last: int) -> None:
    async def story() -> None:
        chain = Chain(forked(TRUNK, 150, 900, "own"))
        # Near its end is what makes it the better one.
        chain.liked, chain.liked_from = "trunk", last - 5
        world = World(chain)
        own, other = world.peer(forked(TRUNK, 150, 900, "own")), world.peer(TRUNK[:last])
        await world.start()
        begun = asyncio.get_running_loop().time()
        while chain.head.root != root_of(TRUNK[last - 1]):
            assert asyncio.get_running_loop().time() - begun < APART_SECONDS + STATUS_SECONDS + 20
            await asyncio.sleep(0.1)
        assert (own.asked, world.transport.scores) == ([], {})
        assert len(other.asked) <= (last - FINAL) / CHUNK + 8
        await world.run(10 * REST_SECONDS)
        assert len(other.asked) <= (last - FINAL) / CHUNK + 8
        await world.sync.stop()

    run_virtually(story())


def test_who_says_to_be_far_ahead_does_not_hide_a_shorter_chain_that_is_the_better_one() -> None:
    async def story() -> None:
        chain = Chain(forked(TRUNK, 150, 400, "own"))
        chain.liked, chain.liked_from = "trunk", 290
        world = World(chain)
        for number in range(8):
            # Whoever is first fails before the others, whose turn comes then.
            world.peer(forked(TRUNK, 150, 400, "own"), claim=10**6).delay = 9.0 + number / 10
        world.peer(TRUNK[:300])
        await world.start()
        begun = asyncio.get_running_loop().time()
        while chain.head.root != root_of(TRUNK[299]):
            assert asyncio.get_running_loop().time() - begun < 8 * 25
            await asyncio.sleep(0.1)
        await world.sync.stop()

    run_virtually(story())


def test_a_peer_that_says_now_this_and_now_that_is_not_asked_all_the_time() -> None:
    async def story() -> None:
        chain = Chain(TRUNK[:400])
        world = World(chain)
        bad, honest = world.peer(TRUNK[:400], claim=10**6), world.peer(TRUNK[:400])
        given, claims = bad.part, [10**6]
        bad.claim = lambda: claims[-1]

        def flip(first: int, count: int) -> Sequence[bytes]:
            # Something that follows nothing, so that all of its chain is asked for; then a head that is here.
            if first > 400:
                return unlinked(first, count)
            claims.append(400 if claims[-1] != 400 else 10**6 + len(claims))
            return given(first, count)

        bad.part = flip

        async def tell() -> None:
            while True:
                await asyncio.sleep(0.2)
                await world.sync._ask_status(bad.name)

        await world.start()
        telling = asyncio.create_task(tell())
        await world.run(5 * REST_SECONDS)
        telling.cancel()
        assert len(bad.asked) < 90
        honest.chain = TRUNK[:900]
        assert await world.run(120, until=900) < 100
        await world.sync.stop()

    run_virtually(story())


@pytest.mark.parametrize("claim", [90, 120, 150])
def test_a_peer_whose_head_never_comes_costs_few_requests(claim: int) -> None:
    async def story() -> None:
        world = World(Chain(TRUNK[:150]))
        bad, honest = world.peer(TRUNK[:80], claim=claim), world.peer(TRUNK[:150])
        await world.start()
        await world.run(10 * REST_SECONDS)
        # Below the final block nothing is of use.
        assert (len(bad.asked) == 0) == (claim < FINAL)
        assert len(bad.asked) <= 11 * CHUNKS_AHEAD // 2
        honest.chain = TRUNK[:900]
        assert await world.run(60, until=900) < 20
        await world.sync.stop()

    run_virtually(story())


def test_a_missing_block_of_a_peer_that_is_near_is_asked_for_whoever_else_is_far_ahead() -> None:
    async def story() -> None:
        world = World(Chain(TRUNK[:150]))
        far, near = world.peer(TRUNK, claim=10**6), world.peer(TRUNK[:140])
        far.delay = 1_000.0
        await world.start()
        names = [Hash32(bytes([number]) * 32) for number in range(3)]
        for name, source in zip(names, (far.name, near.name, PeerId("stranger")), strict=True):
            world.sync._wanted(name, source)
        assert world.sync._missing == {names[1]}
        await world.sync.stop()

    run_virtually(story())


def test_a_branch_that_is_not_the_better_one_does_not_hide_the_one_that_is() -> None:
    async def story() -> None:
        chain = Chain(forked(TRUNK, 300, 310, "own"))
        chain.disliked = "other"
        world = World(chain)
        world.peer(forked(TRUNK, 200, 1_000, "other"))
        world.peer(TRUNK[:900])
        await world.start()
        assert await world.run(60, until=900) < 30
        assert not world.transport.scores
        await world.sync.stop()

    run_virtually(story())


# ------------------------------------------------------------ peers that hold it up


def unlinked(first: int, count: int) -> Sequence[bytes]:
    return line(first, first + count - 1, Hash32(b"\x77" * 32), "stray")


def old(first: int, count: int) -> Sequence[bytes]:
    return TRUNK[:count]


def other_heights(first: int, count: int) -> Sequence[bytes]:
    return TRUNK[FINAL : FINAL + count]


def future(first: int, count: int) -> Sequence[bytes]:
    return [made(first, root_of(TRUNK[first - 2]), "future"), *TRUNK[first : first + count - 1]]


def bare(first: int, count: int) -> Sequence[bytes]:
    return [made(first, root_of(TRUNK[first - 2]), "bare"), *TRUNK[first : first + count - 1]]


def known_then_unlinked(first: int, count: int) -> Sequence[bytes]:
    return TRUNK[first - 1 :][:count] if first + count <= 150 else unlinked(first, count)


def one_by_one(first: int, count: int) -> Sequence[bytes]:
    return TRUNK[first - 1 : first]


HOLDING = [unlinked, old, other_heights, future, bare, known_then_unlinked, one_by_one]


@pytest.mark.parametrize("part", HOLDING)
def test_one_peer_does_not_hold_a_node_up(part: Callable[[int, int], Sequence[bytes]]) -> None:
    async def story() -> None:
        world = World(Chain(TRUNK[:150]))
        bad = world.peer(TRUNK, claim=10**6)
        bad.part, bad.delay = part, 5.0
        honest = world.peer(TRUNK)
        await world.start()
        assert await world.run(200, until=1_000) < 60
        assert not world.score(honest)
        # What may be this node's own fault, its clock's or its fork's, costs the peer its turn and no score.
        assert (world.score(bad) < 0) == (part in (old, other_heights, bare))
        await world.sync.stop()

    run_virtually(story())


@pytest.mark.parametrize("count", [3, 9, 20])
def test_silent_peers_hold_a_node_up_once_each_however_many(count: int) -> None:
    async def story() -> None:
        world = World(Chain(TRUNK[:150]))
        for _ in range(count):
            world.peer(TRUNK, claim=10**6).delay = 1_000.0
        honest = world.peer(TRUNK)
        await world.start()
        # With as many as that, the first of them has rested when the last one is given up.
        assert await world.run(1_000, until=151) < 12 * (count + 1)
        assert not world.score(honest)
        await world.sync.stop()

    run_virtually(story())


@pytest.mark.parametrize("is_told_of_loss", [True, False])
def test_a_peer_whose_going_nobody_has_told_is_forgotten(is_told_of_loss: bool) -> None:
    async def story() -> None:
        world = World(Chain(TRUNK[:150]))
        peer = world.peer(TRUNK[:150], claim=10**6)
        await world.start()
        await asyncio.sleep(1)
        assert set(world.sync.peers) == {peer.name}
        world.network.transports.pop(peer.name)
        if is_told_of_loss:
            world.transport.tell(PeerEventKind.LAGGED, OWN)
        await asyncio.sleep(0.1 if is_told_of_loss else STATUS_SECONDS + 0.1)
        assert world.sync.peers == {}
        assert world.sync.goal == 150
        await world.sync.stop()

    run_virtually(story())


def test_a_peer_that_says_it_is_just_ahead_does_not_let_a_node_crawl() -> None:
    async def story() -> None:
        chain = Chain(TRUNK[:150])
        world = World(chain)
        bad = world.peer(TRUNK)
        bad.claim = lambda: chain.head.node.height + 2
        bad.part, bad.delay = one_by_one, 5.0
        world.peer(TRUNK)
        await world.start()

        async def tell() -> None:
            while True:
                await asyncio.sleep(0.2)
                await world.sync._ask_status(bad.name)

        telling = asyncio.create_task(tell())
        assert await world.run(300, until=990) < 100
        telling.cancel()
        await world.sync.stop()

    run_virtually(story())


def test_what_a_node_cannot_take_of_its_only_peer_costs_few_requests() -> None:
    async def story() -> None:
        for part in HOLDING[:-1]:
            world = World(Chain(TRUNK[:150]))
            bad = world.peer(TRUNK, claim=10**6)
            bad.part = part
            await world.start()
            await world.run(10 * REST_SECONDS)
            assert len(bad.asked) <= 11 * 16
            await world.sync.stop()

    run_virtually(story())


def test_a_node_whose_only_peer_has_failed_once_does_not_think_that_it_has_caught_up() -> None:
    async def story() -> None:
        chain = Chain(TRUNK[:150])
        world = World(chain)
        peer = world.peer(TRUNK)

        given = peer.part

        def fail_once(first: int, count: int) -> Sequence[bytes]:
            peer.part = given
            return []

        peer.part = fail_once
        await world.start()
        node: Any = SimpleNamespace(sync=world.sync, chain=chain)
        await FullNode._caught_up(node, 5.0)
        # It has waited until the peer was asked again, and for what came then.
        assert chain.head.node.height == 1_000
        assert (world.sync.is_behind, world.sync.goal) == (False, 1_000)
        await world.sync.stop()

    run_virtually(story())


def test_a_peer_that_goes_in_the_middle_is_not_blamed_and_asked_again_when_it_is_back() -> None:
    async def story() -> None:
        chain = Chain(TRUNK[:150])
        world = World(chain)
        peer = world.peer(TRUNK)
        given = peer.part

        def go(first: int, count: int) -> Sequence[bytes]:
            peer.part = given
            raise PeerNotConnected(peer.name)

        peer.part = go
        await world.start()
        await world.run(1.0)
        assert len(peer.asked) <= CHUNKS_AHEAD
        assert chain.head.node.height < 150 + CHUNKS_AHEAD * CHUNK
        assert await world.run(2 * REST_SECONDS, until=1_000) >= REST_SECONDS - 2.0
        assert (chain.head.node.height, world.score(peer)) == (1_000, 0)
        await world.sync.stop()

    run_virtually(story())


@pytest.mark.parametrize("bootstrap", [(), ("/ip4/127.0.0.1/tcp/1",)])
def test_a_node_is_level_when_it_has_what_its_peers_have(bootstrap: tuple[str, ...]) -> None:
    async def story() -> None:
        chain = Chain(TRUNK[:150])
        world = World(chain)
        config = SimpleNamespace(bootstrap=bootstrap, mdns=False)
        node: Any = SimpleNamespace(sync=world.sync, config=config)
        # Who knows nobody is level only if it is to know nobody.
        assert FullNode._is_level(node) is not bool(bootstrap)
        peer = world.peer(TRUNK)
        peer.delay = 1.0
        await world.start()
        assert not FullNode._is_level(node)
        await world.run(100, until=1_000)
        assert FullNode._is_level(node)
        # A head that is not here, however low, may tell of something.
        other = world.peer(forked(TRUNK, 150, 300, "other"))
        await world.sync._ask_status(other.name)
        assert (FullNode._is_level(node), world.sync.is_behind) == (False, False)
        await world.run(2 * STATUS_SECONDS + 5)
        assert FullNode._is_level(node)
        config.bootstrap, config.mdns = (), True
        assert FullNode._is_level(node)
        await world.sync.stop()


def test_who_has_the_newest_blocks_waits_for_nobody_who_says_that_there_are_more() -> None:
    async def story() -> None:
        chain = Chain(TRUNK[:150])
        world = World(chain)
        for _ in range(8):
            world.peer(TRUNK, claim=10**6).delay = 9.0
        await world.start()
        node: Any = SimpleNamespace(sync=world.sync, chain=chain)
        waiting = asyncio.create_task(FullNode._caught_up(node, 5.0))
        await asyncio.sleep(1)
        assert not waiting.done()
        chain.slot = chain.head.node.slot + sync_module.TIP_SLOTS
        async with asyncio.timeout(2):
            await waiting
        assert world.sync.is_behind
        await world.sync.stop()

    run_virtually(story())


@pytest.mark.parametrize("part", [unlinked, future, bare])
def test_a_peer_that_is_never_what_it_says_keeps_no_node_from_its_work(
    part: Callable[[int, int], Sequence[bytes]],
) -> None:
    async def story() -> None:
        chain = Chain(TRUNK[:150])
        world = World(chain)
        liar = world.peer(TRUNK, claim=10**6)
        liar.part = part
        await world.start()
        node: Any = SimpleNamespace(sync=world.sync, chain=chain)
        begun = asyncio.get_running_loop().time()
        await FullNode._caught_up(node, 5.0)
        assert asyncio.get_running_loop().time() - begun < 2 * REST_SECONDS
        # Once it is known for what it is, its word counts only while it is asked again.
        behind = 0
        for _ in range(1_000):
            await asyncio.sleep(1)
            behind += world.sync.is_behind
        assert 0 < behind < 250
        assert (world.sync.goal == 150) is not world.sync.is_behind
        await world.sync.stop()

    run_virtually(story())


def test_a_peer_that_fails_now_and_then_is_believed_as_long_as_it_helps() -> None:
    async def story() -> None:
        world = World(Chain(TRUNK[:150]))
        peer = world.peer(TRUNK)
        given, failed = peer.part, list[int]()

        def fail_at_times(first: int, count: int) -> Sequence[bytes]:
            if first >= 151 + 256 * len(failed):
                failed.append(first)
                return []
            return given(first, count)

        peer.part = fail_at_times
        await world.start()
        for times in (1, 2, 3):
            while len(failed) < times:
                await asyncio.sleep(1)
            await asyncio.sleep(1)
            assert world.sync.is_resting
            assert world.sync.goal == 1_000
        await world.sync.stop()

    run_virtually(story())


def test_who_goes_and_comes_back_is_no_better_than_before() -> None:
    async def story() -> None:
        world = World(Chain(TRUNK[:150]))
        bad = world.peer(TRUNK[:150], claim=10**6)
        await world.start()
        await world.run(2 * REST_SECONDS + 10)
        behind = 0
        for _ in range(100):
            world.transport.tell(PeerEventKind.DISCONNECTED, bad.name)
            await asyncio.sleep(0.1)
            assert world.sync.peers == {}
            world.transport.tell(PeerEventKind.IDENTIFIED, bad.name)
            await asyncio.sleep(1.9)
            behind += world.sync.is_behind
        # It is believed while it is asked again, once a minute.
        assert (behind <= 4, world.sync.goal) == (True, 150)
        await world.sync.stop()

    run_virtually(story())


def test_a_node_one_block_behind_does_not_wait_long() -> None:
    """Where a whole network has stopped, somebody must go on."""

    async def story() -> None:
        chain = Chain(TRUNK[:150])
        world = World(chain)
        world.peer(TRUNK[:151])
        await world.start()
        node: Any = SimpleNamespace(sync=world.sync, chain=chain)
        begun = asyncio.get_running_loop().time()
        await FullNode._caught_up(node, 5.0)
        assert world.sync.is_behind
        assert asyncio.get_running_loop().time() - begun < 6
        await world.sync.stop()

    run_virtually(story())


def test_a_peer_that_reorganises_meanwhile_is_asked_again_later() -> None:
    async def story() -> None:
        world = World(Chain(TRUNK[:150]))
        peer = world.peer(forked(TRUNK, 250, 500, "first"))
        await world.start()
        await world.run(60, until=170)
        peer.chain = forked(TRUNK, 155, 600, "second")
        assert await world.run(200, until=600) < 2 * REST_SECONDS
        assert world.chain.head.root == root_of(peer.chain[-1])
        assert not world.transport.scores
        await world.sync.stop()

    run_virtually(story())
