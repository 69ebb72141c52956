"""A node with all rooms that peers reach, an honest node beside it, and strangers that say anything.

All in memory and in virtual time; the network is `tests.network.memory`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import re
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import structlog

from noria.chain.findings import Finding, Ignored
from noria.chain.miner import Miner
from noria.chain.own_journal import OwnJournal
from noria.chain.own_work import OwnWork
from noria.consensus.sent_block import SentBlock, decode_sent_block, encode_sent_block
from noria.consensus.validity import Postponed, Rejected
from noria.market.messages import (
    decode_answer,
)
from noria.market.miner.deliveries import Deliveries
from noria.market.miner.journal import open_journal
from noria.market.miner.keeping import Keeper
from noria.market.miner.service import MinerService
from noria.market.miner.units import Signing
from noria.market.protocol import work_protocol
from noria.network.blobs import PROTOCOL as BLOBS
from noria.network.blobs import BlobServer
from noria.network.errors import (
    AnswerMalformed,
    DialFailed,
    InvalidAddress,
    PeerNotConnected,
    Refusal,
    RequestRefused,
    TransportError,
)
from noria.network.messages import (
    BLOCKS_MAX,
    decode_blocks,
    encode_blocks,
    encode_status,
)
from noria.network.peer_exchange import PeerExchange
from noria.network.peer_lists import PeerRecord, SocketAddress, encode_peers
from noria.network.peers import PeerEventKind, PeerId, PeerInfo
from noria.network.transport import Request, peer_id
from noria.node.bans import BanWatch
from noria.node.gossip import Gossip
from noria.node.programs import ProgramFiles, ProgramsMissing, fetch_programs
from noria.node.sync import Sync
from noria.primitives.background import BackgroundTasks
from noria.work.ids import program_id
from noria.work.receipts import Status
from noria.work.workers import Outcome
from tests.chain.drawn import PARAMETERS, Node, address
from tests.market.miner.world import DOMAIN, MINER, RULES, WEIGHT, FakeChain
from tests.market.miner.world import ROOT as MARKET_ROOT
from tests.network.memory import MemoryNetwork, MemoryTransport
from tests.node.forge import BLOCKS, LACKING, STOLEN, Forge, spoiled
from tests.node.networked import TOPICS, Networked, Speaker
from tests.work.modules import ECHO, SPIN

HONEST_MINERS: Final = (0, 1, STOLEN)
OWN_MINER: Final = 2
MINERS: Final = 4
GOSSIP: Final = (TOPICS.blocks, TOPICS.votes, TOPICS.evidence, TOPICS.alarms, TOPICS.transactions)
WORK: Final = work_protocol(MARKET_ROOT)
JOBS: Final = 3
BAN_SCORE: Final = -200.0
DIAL_SECONDS: Final = 10.0
NAME: Final = re.compile(r"[A-Z][A-Za-z]+")
TOO_VAGUE: Final = {"Exception", "ValueError", "KeyError", "TypeError", "RuntimeError", "OverflowError"}


# ---------------------------------------------------------------- what must not happen


class Watch:
    """Notes what no peer may bring about: failures of tasks, of judgements, of answers."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.findings: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()

    def log(self, _logger: object, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        """A processor of structlog."""
        if method in ("error", "critical", "exception") or event.get("exc_info"):
            self.failures.append(f"logged: {event}")
        raise structlog.DropEvent

    def loop(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A handler of what nobody has caught."""
        self.failures.append(f"not caught: {context}")

    def judged(self, topic: str, finding: Finding) -> None:
        """Insist on a name for what was found of a message."""
        self.findings[getattr(finding, "kind", type(finding).__name__)] += 1
        named: object
        if isinstance(finding, Rejected | Postponed):
            named = NAME.fullmatch(finding.kind) and finding.kind not in TOO_VAGUE and finding.message
        else:
            named = not isinstance(finding, Ignored) or finding.reason not in ("", "it failed")
        if not named:
            self.failures.append(f"no name: {finding} of a message of {topic}")

    def answered(self, protocol: str, error: BaseException | None) -> None:
        """Insist on an answer, or a refusal that says why."""
        self.answers["answered" if error is None else type(error).__name__] += 1
        if isinstance(error, RequestRefused) and str(error):
            return
        # The asker may have gone.
        if error is not None and not isinstance(error, PeerNotConnected):
            self.failures.append(f"no answer to a request of {protocol}: {error!r}")


class WatchedGossip(Gossip):
    """Gossip whose findings are looked at."""

    def __init__(self, watch: Watch, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._watch = watch

    def _judging(self, judge: Callable[[bytes, str], Awaitable[Finding]]) -> Any:
        async def watched(data: bytes, source: str) -> Finding:
            finding = await judge(data, source)
            self._watch.judged(judge.__name__, finding)
            return finding

        return super()._judging(watched)


# ---------------------------------------------------------------- transports


def attach(memory: MemoryNetwork, transport: MemoryTransport) -> None:
    """Connect a transport of a kind of its own; everybody is told."""
    memory.transports[transport.peer_id] = transport
    for other in memory.transports.values():
        if other is not transport:
            other.tell(PeerEventKind.IDENTIFIED, transport.peer_id)


class Ear(MemoryTransport):
    """The honest node's transport; what it says can be had again."""

    def __init__(self, memory: MemoryNetwork, peer: PeerId) -> None:
        super().__init__(memory, peer)
        self.said: dict[str, deque[bytes]] = {}

    async def publish(self, topic: str, data: bytes) -> bool:
        self.said.setdefault(topic, deque(maxlen=16)).append(data)
        return await super().publish(topic, data)


class Wire(MemoryTransport):
    """The node's own transport: peers have addresses, and who is blamed too often is sent away."""

    def __init__(self, memory: MemoryNetwork, peer: PeerId) -> None:
        super().__init__(memory, peer)
        self.left: deque[float] = deque(maxlen=999)
        """When peers have left lately."""

    def tell(self, kind: PeerEventKind, peer: PeerId) -> None:
        if kind in (PeerEventKind.DISCONNECTED, PeerEventKind.LAGGED):
            self.left.append(asyncio.get_running_loop().time())
        super().tell(kind, peer)

    async def dial(self, address: str) -> PeerId:
        await asyncio.sleep(DIAL_SECONDS)
        if "/p2p/1111" in address:
            raise InvalidAddress(address)
        raise DialFailed("nobody is there")

    def peers(self) -> Sequence[PeerInfo]:
        return [
            dataclasses.replace(info, address=f"/ip4/9.9.9.{number + 1}/tcp/9", agent="noria/0")
            for number, info in enumerate(super().peers())
        ]

    def score(self, peer: PeerId, delta: float, reason: str) -> None:
        super().score(peer, delta, reason)
        if sum(each for each, _ in self.scores[peer]) <= BAN_SCORE and peer not in self.banned:
            self.ban(peer, 3_600.0, reason)

    def ban(self, peer: PeerId, seconds: float, reason: str) -> None:
        super().ban(peer, seconds, reason)
        self.tell(PeerEventKind.BANNED, peer)
        self.tell(PeerEventKind.DISCONNECTED, peer)


# ---------------------------------------------------------------- nodes


class Surroundings(Networked):
    """A network whose clock can be looked at between two steps."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(folder, MINERS)
        self.loop = loop
        self.memory.protocols[WORK.name] = WORK

    def wall(self) -> float:
        return self.genesis_seconds + self.loop.time()


class Honest(Speaker):
    """A node that does what it should, with all miners but one."""

    ear: Ear

    async def start(self) -> None:
        await Node.start(self)
        assert isinstance(self.network, Networked)
        self.transport = self.ear = Ear(self.network.memory, self.peer)
        attach(self.network.memory, self.ear)
        self.gossip = Gossip(self.transport, TOPICS, self.chain, self.hearsay)
        self.sync = Sync(self.transport, TOPICS, self.chain)
        self.gossip.start()
        self.sync.start()
        module = self.folder / "lacking.wasm"
        module.write_bytes(LACKING)
        self.blobs = BlobServer(ProgramFiles({program_id(LACKING): module}))
        self.transport.serve(BLOBS.name, self.blobs.answer)
        for number in HONEST_MINERS[1:]:
            self._mine(number)

    def _mine(self, number: int) -> None:
        work = OwnWork(self.folder / f"work{number}", durable=False)
        self.network.batches[number].keep(work)
        root = self.chain.rules.genesis_root
        journal = OwnJournal(self.folder / f"journal{number}", root, address(number), new_from=(0, 0))
        key = self.network.signer(number)
        self.chain.spawn(Miner(self.chain, self.hearsay, address(number), key, journal, work=work).run())

    async def stop(self) -> None:
        if self.running:
            self.blobs.close()
        await super().stop()

    async def tell_truly(self, protocol: str, data: bytes) -> bytes:
        """Answer as an honest node does, on behalf of somebody else."""
        return await self.transport._handlers[protocol](Request(protocol, self.peer, data))


class Bench:
    """Stands for a pool of workers: what goes in comes out a little later."""

    def __init__(self, seconds: float = 0.2) -> None:
        self._seconds = seconds

    def put(self, unit: Any, *, is_bounded: bool) -> None:
        assert is_bounded
        asyncio.get_running_loop().call_later(self._seconds, self._run, unit)

    def _run(self, unit: Any) -> None:
        if unit.set_running_or_notify_cancel():
            fuel = min(unit.fuel_limit, len(unit.input))
            unit.settle(Outcome(Status.OK, unit.input, unit.input[:99], fuel, 0.001))

    def loading(self) -> None:
        return None


class House(Speaker):
    """The node under test: all rooms that peers reach, joined as `noria.node.full` joins them."""

    wire: Wire
    exchange: PeerExchange
    blobs: BlobServer
    service: MinerService

    def __init__(self, network: Networked, watch: Watch) -> None:
        super().__init__(network, OWN_MINER, True, "house")
        self.watch = watch
        self.market = FakeChain()

    async def start(self) -> None:
        await Node.start(self)
        assert isinstance(self.network, Networked)
        memory = self.network.memory
        self.transport = self.wire = Wire(memory, self.peer)
        attach(memory, self.wire)
        self.bans = BanWatch(self.wire)
        self.bans.start()
        self.exchange = PeerExchange(self.wire, TOPICS.peers, wanted=64)
        self.exchange.start()
        files = {program_id(module): self._module(module) for module in (SPIN, ECHO)}
        self.blobs = BlobServer(ProgramFiles(files))
        self.wire.serve(BLOBS.name, self.blobs.answer)
        self.gossip = WatchedGossip(self.watch, self.wire, TOPICS, self.chain, self.hearsay)
        self.sync = Sync(self.wire, TOPICS, self.chain)
        self.gossip.start()
        self.sync.start()
        await self._open_shop()

    def _module(self, module: bytes) -> Path:
        path = self.folder / f"{program_id(module).hex()}.wasm"
        path.write_bytes(module)
        return path

    async def _open_shop(self) -> None:
        folder = self.folder / "jobs"
        echo, module = program_id(ECHO), self._module(ECHO)
        self.market_journal = await open_journal(folder / "journal.sqlite", MARKET_ROOT, MINER.address)
        self.deliveries = Deliveries(
            folder, quota_bytes=4 << 20, pinned={echo: module}, program_bytes_max=1 << 20, durable=False
        )
        signing = Signing(MARKET_ROOT, MINER, b"secret", WEIGHT)
        work = OwnWork(folder / "work", durable=False)
        access: Any = self.market
        pool: Any = Bench()
        self.service = MinerService(
            access,
            self.market,
            self.wire,
            WORK.name,
            journal=self.market_journal,
            deliveries=self.deliveries,
            keeper=Keeper(self.market_journal, self.deliveries, work, signing),
            pool=pool,
            workers=1,
            signing=signing,
            domain=DOMAIN,
            rules=RULES,
            pinned=frozenset((echo,)),
            clock=lambda: self.market.times[-1],
        )
        await self.service.start()
        for number in range(1, JOBS + 1):
            self.market.open(number, program=echo)

    async def stop(self) -> None:
        if self.running:
            await self.service.stop()
            await self.market_journal.close()
            self.deliveries.close()
            self.blobs.close()
            await self.exchange.stop()
            await self.bans.stop()
        await super().stop()

    async def fetch_lacking(self, patience_seconds: float) -> None:
        """Fetch a module from whoever is there, as a node does before it looks at the chain."""
        folder = self.folder / "fetched"
        name = program_id(LACKING)
        try:
            found = await fetch_programs(self.wire, [name], folder, patience_seconds=patience_seconds)
        except ProgramsMissing:
            return
        except Exception as error:
            self.watch.failures.append(f"a module was not fetched: {error!r}")
            return
        if found[name].read_bytes() != LACKING:
            self.watch.failures.append("another module was fetched than was asked for")
        found[name].unlink()


# ---------------------------------------------------------------- strangers

MOODS: Final = (
    "true", "true", "garbage", "spoiled", "cut", "nothing", "long", "silent", "refuses", "gone", "other",
    "backwards", "more", "bare", "old", "ahead",
)  # fmt: skip
PROTOCOLS: Final = (TOPICS.status, TOPICS.range, TOPICS.roots, TOPICS.peers, BLOBS.name)


class Stranger:
    """A peer that knows no rules but those of the transport: how it answers is its mood."""

    def __init__(self, name: str, honest: Honest, house: House, forge: Forge, seed: int) -> None:
        assert isinstance(house.network, Networked)
        memory = self._memory = house.network.memory
        self._honest, self._house, self._forge, self._watch = honest, house, forge, house.watch
        self.name = PeerId(name)
        self.chance = random.Random(seed)
        self.moods = dict.fromkeys(PROTOCOLS, "true")
        self._tasks, self._going = BackgroundTasks("stranger"), BackgroundTasks("leaving stranger")
        self.transport = MemoryTransport(memory, self.name)
        # It is connected to the node under test and to nobody else.
        memory.cut |= {frozenset((self.name, other)) for other in memory.transports if other != house.peer}
        for protocol in PROTOCOLS:
            self.transport.serve(protocol, self._answer)
        attach(memory, self.transport)

    async def leave(self, *, unnoticed: bool) -> None:
        """Disconnect; unnoticed where the node's loop was too busy to be told of more than that."""
        await self._tasks.stop()
        if unnoticed:
            self.transport.closed = True
            self._memory.transports.pop(self.name, None)
            self._house.wire.tell(PeerEventKind.LAGGED, self._house.peer)
        else:
            await self.transport.close()

    # ------------------------------------------------------------ speaking

    def gossip(self, topic: str, data: bytes, later: float = 0.0) -> None:
        """Send a message, now or later, if any transport would."""
        self._tasks.spawn(self._publish(topic, data, later))

    async def _publish(self, topic: str, data: bytes, later: float) -> None:
        await asyncio.sleep(later)
        try:
            await self.transport.publish(topic, data)
        except TransportError:
            return

    def ask(self, protocol: str, data: bytes, *, then: Sequence[bytes] = ()) -> None:
        """Ask the node, and more when there is an answer; that there is one in time is looked at."""
        self._tasks.spawn(self._ask(protocol, data, then))

    async def _ask(self, protocol: str, data: bytes, then: Sequence[bytes]) -> None:
        error: BaseException | None = None
        if len(data) > self._memory.protocols[protocol].request_bytes_max:
            return
        try:
            answer = await self.transport.request(self._house.peer, protocol, data)
            if protocol == WORK.name:
                decode_answer(answer)
        except Exception as raised:
            error = raised
        self._watch.answered(protocol, error)
        for more in then:
            self.ask(protocol, more)

    # ------------------------------------------------------------ answering

    async def _answer(self, request: Request) -> bytes:
        protocol, mood, chance = request.protocol, self.moods[request.protocol], self.chance
        if mood == "silent":
            await asyncio.sleep(100.0)
        if mood == "refuses":
            raise Refusal(chance.choice(("no", "the budget is used up", "x" * 256)))
        if mood == "gone":
            self._going.spawn(self.leave(unnoticed=False))
            raise PeerNotConnected(self.name)
        limit = self._memory.protocols[protocol].response_bytes_max
        if mood == "long":
            raise AnswerMalformed(f"{limit + 1} bytes")
        if mood == "garbage":
            return chance.randbytes(chance.choice((0, 1, 50, 2_000)))[:limit]
        if mood == "nothing":
            return chance.choice((b"", b"\xc0"))
        truth = await self._truth(protocol, request.data, mood)
        if mood == "cut":
            return truth[: chance.randrange(len(truth) + 1)]
        if mood == "spoiled":
            return spoiled(chance, [truth], limit)
        return self._twisted(protocol, truth, mood)[:limit]

    async def _truth(self, protocol: str, data: bytes, mood: str) -> bytes:
        if protocol == TOPICS.peers:
            return self._invented()
        if mood == "other" and protocol in (TOPICS.range, TOPICS.roots):
            return encode_blocks(self._forge.recent(1))
        return await self._honest.tell_truly(protocol, data)

    def _twisted(self, protocol: str, truth: bytes, mood: str) -> bytes:
        chance, forge = self.chance, self._forge
        if protocol == TOPICS.status:
            status = forge.status(chance, ahead=mood == "ahead")
            return truth if mood == "true" else encode_status(status)
        if protocol not in (TOPICS.range, TOPICS.roots):
            return truth
        blocks = list(decode_blocks(truth, PARAMETERS))
        if mood == "backwards":
            blocks.reverse()
        elif mood == "more":
            blocks = [*blocks, *forge.recent(BLOCKS_MAX)][:BLOCKS_MAX]
        elif mood == "old":
            blocks = forge.recent(BLOCKS_MAX)[: len(blocks)]
        elif mood == "bare":
            copies = [decode_sent_block(data, PARAMETERS) for data in blocks]
            blocks = [encode_sent_block(SentBlock(copy.block, None)) for copy in copies]
        elif mood == "ahead":
            made = BLOCKS[chance.choice(sorted(BLOCKS))]
            blocks = made(forge, chance, chance.choice((1, 4, 30)))[:BLOCKS_MAX]
        return encode_blocks(blocks)

    def _invented(self) -> bytes:
        """Peers that nobody has ever seen."""
        chance = self.chance
        records = []
        for _ in range(chance.choice((1, 32))):
            name = peer_id(chance.randbytes(32)) if chance.random() < 0.95 else PeerId("1111" + "2" * 44)
            ips = [IPv4Address(chance.randrange(2**32)) for _ in range(chance.randrange(5))]
            records.append(PeerRecord(name, tuple(SocketAddress(ip, chance.randrange(2**16)) for ip in ips)))
        return encode_peers(records)
