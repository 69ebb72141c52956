"""Networks of drawn blocks in one process: real engines, stores and work, virtual time, links to cut."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from noria._core import Engine, Sandbox
from noria.chain.chain_service import ChainService
from noria.chain.findings import Finding
from noria.chain.genesis_work import GenesisBatch
from noria.chain.hearsay import Hearsay
from noria.chain.miner import Miner, first_unsigned
from noria.chain.own_journal import OwnJournal
from noria.chain.own_work import OwnWork, own_unit
from noria.chain.recovery import open_chain
from noria.chain.service import Chain
from noria.consensus.blocks import Block, decode_block, make_block
from noria.consensus.sent_block import SentBlock, encode_sent_block
from noria.consensus.signatures import BLS, SignatureScheme
from noria.consensus.validity import Accepted
from noria.execution.accounts import dev_accounts
from noria.execution.consensus_state import ConsensusState
from noria.execution.genesis import GenesisMiner, origin_root, possession_message
from noria.execution.parameters import DEVNET, ChainParameters
from noria.execution.spec import ChainSpec, dev_spec
from noria.primitives import rlp
from noria.primitives.hashes import blake3
from noria.primitives.keys import BlsSecretKey
from noria.primitives.types import NOR, Address, BlsPublicKey, BlsSignature, Hash32, Wei
from noria.work.batches import build_batch
from noria.work.ids import ProgramId, blob_id, program_id, unit_id
from noria.work.receipts import Receipt, status_of
from noria.work.workers import Outcome
from tests.consensus.world import FAKE
from tests.work.modules import SPIN, turns

GENESIS_SECONDS = 1_800_000_000
PROGRAM = program_id(SPIN)
PARAMETERS = dataclasses.replace(DEVNET, bond_per_weight_wei=4_000 * NOR // 10**9)
UNITS = 24


@functools.cache
def key(number: int) -> BlsSecretKey:
    return BlsSecretKey.from_seed(blake3(b"drawn chain" + number.to_bytes(8, "big")))


@functools.cache
def address(number: int) -> Address:
    return Address(dev_accounts()[number].address)


class Machine:
    """Runs units in this very process; `lie` makes an engine compute something else."""

    def __init__(self, cache: Path) -> None:
        self._sandboxes = {engine: Sandbox(cache, engine) for engine in ("wasmtime", "pulley")}
        self.runs: list[tuple[str, bytes]] = []
        self.broken: set[str] = set()

    def at_once(self, input: bytes, fuel_limit: int, engine: str = "wasmtime") -> Outcome:
        self.runs.append((engine, input))
        found = self._sandboxes[engine].load(SPIN).run(input, fuel_limit)
        output = found.output + (b"?" if engine in self.broken else b"")
        return Outcome(status_of(found.status), output, found.log, found.fuel, 0.001)

    async def run(self, program: ProgramId, input: bytes, fuel_limit: int, *, priority: int = 0) -> Outcome:
        assert program == PROGRAM
        return self.at_once(input, fuel_limit)

    async def confirm(self, program: ProgramId, input: bytes, fuel_limit: int) -> Outcome:
        return self.at_once(input, fuel_limit, "pulley")


def units_of(number: int, count: int = UNITS) -> list[bytes]:
    """Inputs of a miner's units, different ones for each miner."""
    return [turns(20_000 + 1_000 * number + index) for index in range(count)]


def claims_another_output(index: int, outcome: Outcome) -> Outcome:
    """What a miner tells of a unit that it did not compute."""
    return dataclasses.replace(outcome, output=b"what it did not compute")


def genesis_batch(
    machine: Machine, number: int, origin: Hash32, tell: Callable[[int, Outcome], Outcome] | None = None
) -> GenesisBatch:
    """Units that were really run; `tell` makes a miner claim something else about one."""
    limit, receipts, inputs = 10**7, [], units_of(number)
    for index, data in enumerate(inputs):
        outcome = machine.at_once(data, limit)
        if tell is not None:
            outcome = tell(index, outcome)
        receipts.append(
            Receipt(
                genesis_root=origin,
                job=number,
                k=0,
                miner=address(number),
                index=index,
                unit_id=unit_id(PROGRAM, blob_id(data), limit),
                output_id=blob_id(outcome.output),
                status=outcome.status,
                fuel=outcome.fuel,
                weight=outcome.fuel,
            )
        )
    units = tuple(own_unit(PROGRAM, data, limit) for data in inputs)
    return GenesisBatch(build_batch(receipts), units, tuple(inputs))


class Network:
    """Nodes, and how long what they say takes from one to another."""

    def __init__(
        self,
        folder: Path,
        miners: int = 4,
        *,
        scheme: SignatureScheme = BLS,
        signer: Callable[[int], Any] = key,
        parameters: ChainParameters = PARAMETERS,
        grant: int = 10**6,
        liars: dict[int, Callable[[int, Outcome], Outcome]] | None = None,
        genesis_seconds: int = GENESIS_SECONDS,
    ) -> None:
        self.folder, self.scheme, self.signer, self.genesis_seconds = folder, scheme, signer, genesis_seconds
        self.machine = Machine(folder / "compiled")
        base = dev_spec([account.address for account in dev_accounts()], genesis_seconds)
        origin = origin_root("drawn", base.chain_id, base.timestamp)
        self.batches = [
            genesis_batch(self.machine, number, origin, (liars or {}).get(number)) for number in range(miners)
        ]
        self.spec: ChainSpec = dataclasses.replace(
            base,
            name="drawn",
            parameters=parameters,
            programs=(PROGRAM,),
            miners=tuple(
                GenesisMiner(
                    address=address(number),
                    bls_key=BlsPublicKey(key(number).public_key),
                    proof_of_possession=key(number).sign(
                        possession_message(origin, address(number), key(number).public_key)
                    ),
                    peer_id=b"peer%d" % number,
                    capacity=1000,
                    ask_price=1,
                    bond=Wei(4_000 * NOR),
                    grant=grant,
                )
                for number in range(miners)
            ),
            genesis_work=tuple(batch.entry for batch in self.batches),
            reward_vault=Wei(1_000 * NOR),
        )
        self.delay = 0.05
        self.nodes: list[Node] = []
        self.cut: set[frozenset[int]] = set()

    def wall(self) -> float:
        return self.genesis_seconds + asyncio.get_running_loop().time()

    async def add(
        self, number: int | None = None, *, mines: bool = True, name: str = "", lag: float = 0.0
    ) -> Node:
        """Start a node; it mines for the miner of its number. Its clock may lag, in seconds."""
        node = Node(self, len(self.nodes) if number is None else number, mines, name, lag)
        self.nodes.append(node)
        await node.start()
        return node

    async def stop(self) -> None:
        for node in self.nodes:
            await node.stop()

    async def run_to(self, slot: int) -> None:
        """Let time pass until shortly before the end of a slot."""
        await asyncio.sleep(slot + 0.9 - asyncio.get_running_loop().time())

    async def run_until(self, done: Callable[[], object], slots: int = 400) -> None:
        """Let time pass slot by slot until something is so: what the lottery gives comes in some slot."""
        first = int(asyncio.get_running_loop().time())
        for slot in range(first, first + slots):
            await self.run_to(slot)
            if done():
                return
        raise AssertionError(f"not within {slots} slots")

    def others(self, node: Node) -> Iterable[Node]:
        return [
            other
            for other in self.nodes
            if other is not node and other.running and frozenset((node.number, other.number)) not in self.cut
        ]

    def partition(self, *groups: Sequence[int]) -> None:
        """Cut every link between nodes of different groups; without groups mend all."""
        self.cut = {
            frozenset((a, b))
            for i, group in enumerate(groups)
            for other in groups[i + 1 :]
            for a in group
            for b in other
        }


class Node:
    """A node without a network: what it says reaches the others as function calls."""

    chain: ChainService
    hearsay: Hearsay
    miner: Miner | None

    def __init__(self, network: Network, number: int, mines: bool, name: str = "", lag: float = 0.0) -> None:
        self.network, self.number, self.mines, self.lag = network, number, mines, lag
        self.folder = network.folder / (name or f"node{number}")
        self.running = False
        self.said: list[tuple[str, bytes]] = []
        self.findings: list[Finding] = []
        self.mute = False
        self.wrap: Callable[[Engine], Any] = lambda engine: engine
        self.ready: Callable[[], object] = lambda: None
        self.is_level: Callable[[], bool] = lambda: True
        self._tasks: set[asyncio.Task[Any]] = set()

    def wall(self) -> float:
        return self.network.wall() - self.lag

    async def start(self) -> None:
        network = self.network
        self.folder.mkdir(exist_ok=True)
        self.engine = self.wrap(Engine(str(self.folder / "engine"), network.spec.engine_json(), sync=False))
        self.execution = Chain(self.engine, network.spec, automine=False, clock=self.wall)
        await self.execution.start()
        self.chain = await open_chain(
            self.execution,
            self.folder / "blocks.sqlite",
            wall=self.wall,
            runner=network.machine,
            scheme=network.scheme,
            durable=False,
        )
        self.hearsay = Hearsay(self.chain)
        self.hearsay.mouth = self
        self.chain.wanted = self.fetch
        self.miner = None
        await self.chain.start()
        if self.mines:
            self.work = OwnWork(self.folder / "work", durable=False)
            batch = network.batches[self.number]
            if not self.work.roots():
                batch.keep(self.work)
            self.journal = OwnJournal(
                self.folder / "journal",
                self.chain.rules.genesis_root,
                address(self.number),
                new_from=first_unsigned(self.chain),
            )
            self.ready()
            self.miner = Miner(
                self.chain,
                self.hearsay,
                address(self.number),
                network.signer(self.number),
                self.journal,
                work=self.work,
                is_level=lambda: self.is_level(),
            )
            self.chain.spawn(self.miner.run())
        self.running = True

    async def stop(self) -> None:
        if not self.running:
            return
        self.running = False
        await self.chain.stop()
        await self.execution.stop()
        for task in list(self._tasks):
            task.cancel()
        self.chain.store.close()
        self.engine.close()

    # ------------------------------------------------------------ what it says, and what it is asked

    def say_block(self, data: bytes) -> None:
        self._say("block", data)

    def say_vote(self, data: bytes) -> None:
        self._say("vote", data)

    def say_evidence(self, data: bytes) -> None:
        self._say("evidence", data)

    def say_alarm(self, data: bytes) -> None:
        self._say("alarm", data)

    def _say(self, kind: str, data: bytes) -> None:
        self.said.append((kind, data))
        if not self.mute:
            self._pass_on(kind, data)

    def _pass_on(self, kind: str, data: bytes) -> None:
        for other in self.network.others(self):
            self._spawn(other.hear(kind, data, self))

    async def hear(self, kind: str, data: bytes, source: Node) -> None:
        await asyncio.sleep(self.network.delay)
        if not self.running:
            return
        chain, hearsay = self.chain, self.hearsay
        judge = {
            "block": chain.judge,
            "vote": hearsay.judge_vote,
            "evidence": hearsay.judge_evidence,
            "alarm": hearsay.judge_alarm,
        }[kind]
        finding = await judge(data, str(source.number))
        self.findings.append(finding)
        if isinstance(finding, Accepted) and self.running:
            self._pass_on(kind, data)

    def fetch(self, root: Hash32, source: str) -> None:
        self._spawn(self._fetch(root))

    async def _fetch(self, root: Hash32) -> None:
        await asyncio.sleep(2 * self.network.delay)
        for other in self.network.others(self):
            body = other.chain.block_by_root(root)
            if body is not None and self.running:
                await self.chain.take(encode_sent_block(SentBlock(body.block, body.input)), str(other.number))
                return

    async def catch_up(self, other: Node) -> None:
        """Take what is missing of another node's chain in its order, as `noria.node.sync` would.

        Block after block by the parent that is missing, no more than a source may have waiting are made good.
        """
        for block in chain_of(other):
            root = block.root(self.chain.rules.genesis_root)
            if self.chain.knows(root):
                continue
            if other.chain.block_by_root(root) is None:
                # It has left this chain meanwhile: take the one that it has now.
                return await self.catch_up(other)
            await self.chain.take(sent(other, root), str(other.number))
        return None

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class FakeKey:
    """A miner's key under the scheme that anybody can sign for; its public key is the real one."""

    def __init__(self, number: int) -> None:
        self.public_key = BlsPublicKey(key(number).public_key)

    def sign(self, message: bytes) -> BlsSignature:
        return FAKE.sign(self.public_key, message)


def fast_network(folder: Path, miners: int = 4, **options: Any) -> Network:
    """A network whose signatures cost nothing."""
    return Network(folder, miners, scheme=FAKE, signer=FakeKey, **options)


async def running(network: Network, nodes: int | None = None) -> Network:
    """The network with all its miners' nodes started."""
    for _ in range(len(network.batches) if nodes is None else nodes):
        await network.add()
    return network


def heads(network: Network) -> set[Hash32]:
    return {node.chain.head.root for node in network.nodes if node.running}


def final_roots(node: Node) -> list[Hash32]:
    """The roots of a node's final blocks, from the first one on."""
    found: list[Hash32] = []
    while part := node.chain.store.final_range(len(found) + 1, 1024):
        found += [block.root for block in part]
    return found


def agree(network: Network) -> bool:
    """Whether no two nodes have different final blocks."""
    longest = max((final_roots(node) for node in network.nodes if node.running), key=len)
    return all(
        final_roots(node) == longest[: len(final_roots(node))] for node in network.nodes if node.running
    )


def chain_of(node: Node, root: Hash32 | None = None) -> list[Block]:
    """The blocks of a node's chain, oldest first."""
    found = []
    root = root or node.chain.head.root
    while (body := node.chain.block_by_root(root)) is not None:
        found.append(decode_block(body.block))
        root = found[-1].header.parent_root
    return found[::-1]


def sent(node: Node, root: Hash32) -> bytes:
    """A stored block as it travels."""
    body = node.chain.block_by_root(root)
    assert body is not None
    return encode_sent_block(SentBlock(body.block, body.input))


def with_payload_header(block: Block, field: int, value: bytes) -> Block:
    """A block of the same proposer for the same slot, whose payload's header differs; unsigned."""
    decoded = rlp.decode(block.payload, max_bytes=16 << 20)
    assert isinstance(decoded, list)
    header, *rest = decoded
    assert isinstance(header, list)
    return make_block(
        slot=block.header.slot,
        parent_root=block.header.parent_root,
        proposer=block.header.proposer,
        vrf_proof=block.header.vrf_proof,
        certificate=block.certificate,
        votes=block.votes,
        evidence=block.evidence,
        payload=rlp.encode([[*header[:field], value, *header[field + 1 :]], *rest]),
        signature=BlsSignature(bytes(96)),
    )


def state_of(node: Node) -> ConsensusState:
    """What the contracts hold after a node's head."""
    view = node.chain.tree.view(node.chain.head.root)
    assert view is not None
    return view.state.contracts
