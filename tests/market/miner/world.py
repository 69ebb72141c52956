"""A miner's service over a chain in memory, and a requester that speaks to it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from noria.chain.own_work import OwnWork
from noria.market.access import CallReverted, ChainAccessError, Head, TransactionResult
from noria.market.contracts import Job, JobState, MarketRules, Place, SettledBatch
from noria.market.messages import (
    Allow,
    Approval,
    BatchOffer,
    BlobPart,
    BytesPart,
    Collect,
    Collected,
    Hello,
    Order,
    Ordered,
    Piece,
    Put,
    Read,
    Stored,
    Unit,
    Welcome,
    WorkRequest,
    decode_answer,
    encode_message,
)
from noria.market.miner.admission import Declined
from noria.market.miner.deliveries import Deliveries
from noria.market.miner.journal import Journal, open_journal
from noria.market.miner.keeping import Keeper
from noria.market.miner.service import MinerService
from noria.market.miner.terms import HeldAllow, MarketChain
from noria.market.miner.units import Signing
from noria.market.typed_data import (
    Domain,
    allow_digest,
    approval_digest,
    details_hash,
    sign_allow,
    sign_approval,
    sign_session,
    signer_of,
    terms_hash,
)
from noria.network.peers import PeerId
from noria.network.transport import Request
from noria.primitives.hashes import blake3, keccak256
from noria.primitives.keys import PrivateKey, recover_address
from noria.primitives.types import Address, Hash32, Signature, Wei
from noria.work.batches import BatchCommitment
from noria.work.ids import BlobId, ProgramId, unit_id
from noria.work.receipts import Receipt, Status, WeightRules
from noria.work.workers import ProgramSource, WorkerPool
from tests.network.memory import MemoryNetwork
from tests.work.modules import ECHO, SPIN, place

MINER = PrivateKey(keccak256(b"miner"))
BOSS = PrivateKey(keccak256(b"requester"))
SESSION = PrivateKey(keccak256(b"session"))
STRANGER = PrivateKey(keccak256(b"stranger"))
ROOT = Hash32(b"\x31" * 32)
DOMAIN = Domain(7, ROOT)
RULES = MarketRules(challenge_blocks=4, close_blocks=4, fee_basis_points=500)
WEIGHT = WeightRules(fuel_limit_max=10**8, input_bytes_max=256 << 10)
PROTOCOL = "/noria/work/1"
PRICE = 10
FUEL = 10**7
T = TypeVar("T")


# ---------------------------------------------------------------- the chain


@dataclass
class State:
    """What a block leaves behind."""

    jobs: dict[int, Job] = field(default_factory=dict)
    places: dict[tuple[int, int], Place] = field(default_factory=dict)
    batches: dict[Hash32, SettledBatch] = field(default_factory=dict)
    indices: dict[Hash32, int] = field(default_factory=dict)


class FakeChain:
    """The market's contracts as `docs/market.md` has them, with blocks that tests make and take back.

    Attributes
    ----------
    automine
        Whether a transaction makes a block at once.
    gas_price_wei
        What gas costs.
    calls
        Transactions that have taken effect, in order.
    """

    chain_id = DOMAIN.chain_id
    genesis_root = ROOT

    def __init__(self) -> None:
        self.blocks: list[State] = [State()]
        self.times = [1_000]
        self.final = 0
        self.automine = True
        self.gas_price_wei = 0
        self.calls: list[str] = []
        self.broken: str | None = None
        self.swallow = False
        self._moved = asyncio.Event()

    @property
    def state(self) -> State:
        return self.blocks[-1]

    def mine(self, count: int = 1, *, final: bool = False) -> None:
        for _ in range(count):
            self.blocks.append(copy.deepcopy(self.state))
            self.times.append(self.times[-1] + 1)
        if final:
            self.final = len(self.blocks) - 1
        self._moved.set()

    def revert(self, blocks: int) -> None:
        """Take blocks back, and have another branch be longer by one."""
        del self.blocks[-blocks:]
        for _ in range(blocks + 1):
            self.blocks.append(copy.deepcopy(self.state))
        self.times.append(self.times[-1] + 1)
        self._moved.set()

    # ------------------------------------------------------------ what others do

    def open(self, number: int = 1, *, cap: int = 10**15, price: int = PRICE, **changes: Any) -> Job:
        """Have a job that is assigned, with one place for the miner."""
        program: bytes = changes.pop("program", b"")
        made = Job(
            number=number,
            state=JobState.ASSIGNED,
            requester=BOSS.address,
            session_key=SESSION.address,
            terms=terms_hash(program, details_hash(b"details")),
            opened_block=1,
            closing_block=0,
            miners=2,
            places=2,
            replicas=2,
            public=True,
            directed=False,
            max_price=price,
            free=Wei(0),
            share=Wei(cap),
            deadline=0,
            developer=Address(bytes(20)),
            royalty=0,
        )
        self.state.jobs[number] = made = replace(made, **changes)
        self.state.places[number, 0] = Place(
            job=number,
            k=0,
            miner=MINER.address,
            price=price,
            cap=Wei(cap),
            committed=Wei(0),
            next_index=0,
        )
        self.mine()
        return made

    def change_job(self, number: int = 1, **changes: Any) -> None:
        self.state.jobs[number] = replace(self.state.jobs[number], **changes)
        self.mine()

    def change_place(self, number: int = 1, **changes: Any) -> None:
        self.state.places[number, 0] = replace(self.state.places[number, 0], **changes)
        self.mine()

    def close(self, number: int = 1) -> None:
        self.change_job(number, state=JobState.CLOSING, closing_block=len(self.blocks))

    # ------------------------------------------------------------ ChainAccess, as far as it is used

    async def head(self) -> Head:
        self._check()
        number = len(self.blocks) - 1
        return Head(number, keccak256(b"block %d" % number), self.times[-1], 1)

    async def wait_head(self, after: int, timeout_seconds: float) -> Head:
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_seconds
        while len(self.blocks) - 1 <= after and loop.time() < end:
            self._moved.clear()
            try:
                async with asyncio.timeout_at(end):
                    await self._moved.wait()
            except TimeoutError:
                break
        return await self.head()

    async def finalised_number(self) -> int:
        return self.final

    def _check(self) -> None:
        if self.broken is not None:
            raise ChainAccessError(self.broken)

    # ------------------------------------------------------------ MarketChain

    async def job(self, job: int) -> Job | None:
        self._check()
        return self.state.jobs.get(job)

    async def place(self, job: int, k: int) -> Place | None:
        return self.state.places.get((job, k))

    async def batch(self, root: Hash32) -> SettledBatch | None:
        return self.state.batches.get(root)

    async def assigned(self, first: int, last: int) -> list[tuple[int, int]]:
        return []

    async def ask_price(self) -> int | None:
        return PRICE

    async def gas_price(self) -> int:
        return self.gas_price_wei

    async def commit(
        self, batch: BatchCommitment, allow: HeldAllow | None, approval: Signature | None
    ) -> TransactionResult | None:
        def work(state: State) -> None:
            job, where = state.jobs[batch.job], state.places[batch.job, batch.k]
            _require(batch.root not in state.batches, "committed already")
            _require(batch.miner == where.miner == MINER.address, "not the miner of this place")
            _require(batch.first_index == where.next_index, "another index is next")
            _require(self._takes_commits(job), "the job takes no batches")
            committed = where.committed + batch.fuel * (where.price + job.royalty)
            _require(committed <= where.cap, "more than the place's cap")
            speakers = (job.session_key, job.requester)
            if approval is None:
                _require(allow is not None and committed <= allow.total, "more than was allowed")
                assert allow is not None
                digest = allow_digest(DOMAIN, batch.job, batch.k, allow.total)
                _require(signer_of(digest, allow.signature) in speakers, "not the requester's allow")
            else:
                digest = approval_digest(DOMAIN, batch.job, batch.k, batch)
                _require(signer_of(digest, approval) in speakers, "not the requester's approval")
            state.places[batch.job, batch.k] = replace(
                where, committed=Wei(committed), next_index=where.next_index + batch.count
            )
            state.batches[batch.root] = SettledBatch(
                miner=batch.miner,
                root=batch.root,
                job=batch.job,
                k=batch.k,
                first_index=batch.first_index,
                count=batch.count,
                fuel=batch.fuel,
                weight=batch.weight,
                block=len(self.blocks) - 1,
                paid=approval is not None,
                credited=False,
                void=False,
            )

        return self._send("commit" if approval is None else "commit_approved", work)

    def _takes_commits(self, job: Job) -> bool:
        return job.takes_commits(len(self.blocks) - 1, RULES.close_blocks)

    async def approve(
        self, job: int, k: int, batches: Sequence[tuple[Hash32, Signature]]
    ) -> TransactionResult | None:
        def work(state: State) -> None:
            for root, approval in batches:
                digest = approval_digest(DOMAIN, job, k, state.batches[root])
                _require(signer_of(digest, approval) == SESSION.address, "not the requester's approval")
                state.batches[root] = replace(state.batches[root], paid=True)

        return self._send("approve", work)

    async def finalize(self, job: int, k: int, roots: Sequence[Hash32]) -> TransactionResult | None:
        def work(state: State) -> None:
            for root in roots:
                self._require_unchallenged(state.batches[root])
                state.batches[root] = replace(state.batches[root], paid=True)

        return self._send("finalize", work)

    async def credit(self, job: int, k: int, roots: Sequence[Hash32]) -> TransactionResult | None:
        def work(state: State) -> None:
            _require(state.jobs[job].earns_credit, "only drawn, public jobs")
            for root in roots:
                _require(state.batches[root].paid, "a batch is not paid")
                self._require_unchallenged(state.batches[root])
                state.batches[root] = replace(state.batches[root], credited=True)

        return self._send("credit", work)

    def _require_unchallenged(self, batch: SettledBatch) -> None:
        _require(len(self.blocks) - 1 >= batch.block + RULES.challenge_blocks, "may still be challenged")

    def _send(self, name: str, work: Callable[[State], None]) -> TransactionResult | None:
        self._check()
        trial = copy.deepcopy(self.state)
        self.blocks.append(trial)
        try:
            work(trial)
        except CallReverted:
            self.blocks.pop()
            raise
        if self.swallow:
            self.blocks.pop()
            return None
        self.times.append(self.times[-1] + 1)
        self.calls.append(name)
        self._moved.set()
        number = len(self.blocks) - 1
        return TransactionResult(ROOT, number, ROOT, True, 100_000, Wei(100_000 * self.gas_price_wei), ())


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise CallReverted(message)


# ---------------------------------------------------------------- the miner


@dataclass
class Miner:
    """A miner's service with what it stands on; it can be stopped, killed and started again."""

    folder: Path
    chain: FakeChain
    pool: WorkerPool
    programs: dict[ProgramId, Path]
    network: MemoryNetwork
    quota_bytes: int = 64 << 20
    workers: int = 1
    counting: Callable[[], Set[Hash32] | None] | None = None
    service: MinerService = field(init=False)
    journal: Journal = field(init=False)
    work: OwnWork = field(init=False)
    deliveries: Deliveries = field(init=False)

    async def start(self) -> None:
        self.journal = await open_journal(self.folder / "journal.sqlite", ROOT, MINER.address)
        self.deliveries = Deliveries(
            self.folder / "deliveries",
            quota_bytes=self.quota_bytes,
            pinned=self.programs,
            program_bytes_max=4 << 20,
            durable=False,
        )
        self.work = OwnWork(self.folder / "work", durable=False)
        signing = Signing(ROOT, MINER, b"secret", WEIGHT)
        access: Any = self.chain
        market: MarketChain = self.chain
        self.transport = self.network.connect("miner")
        self.service = MinerService(
            access,
            market,
            self.transport,
            PROTOCOL,
            journal=self.journal,
            deliveries=self.deliveries,
            keeper=Keeper(self.journal, self.deliveries, self.work, signing),
            pool=self.pool,
            workers=self.workers,
            signing=signing,
            domain=DOMAIN,
            rules=RULES,
            pinned=frozenset(self.programs),
            counting=self.counting,
            clock=lambda: self.chain.times[-1],
        )
        await self.service.start()

    async def stop(self) -> None:
        await self.service.stop()
        await self.journal.close()
        self.deliveries.close()
        await self.transport.close()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def ask(self, message: WorkRequest, peer: str = "boss") -> Any:
        answer = await self.service.answer(Request(PROTOCOL, PeerId(peer), encode_message(message)))
        return decode_answer(answer)

    async def settled(self, check: Callable[[], T | None], seconds: float = 20.0) -> T:
        """Wait until something is so; the service acts on its own events, this only looks."""
        end = asyncio.get_running_loop().time() + seconds
        while True:
            found = check()
            if found:
                return found
            assert asyncio.get_running_loop().time() < end, "it did not come about"
            await asyncio.sleep(0.01)


@asynccontextmanager
async def a_miner(
    folder: Path, pool: WorkerPool, programs: dict[ProgramId, Path], **changes: Any
) -> AsyncIterator[Miner]:
    """Start a miner with a chain of its own."""
    miner = Miner(folder, FakeChain(), pool, programs, MemoryNetwork((), ()), **changes)
    await miner.start()
    try:
        yield miner
    finally:
        await miner.stop()


# ---------------------------------------------------------------- the requester


@dataclass
class Boss:
    """A requester with one job on one miner, who checks everything that it is told."""

    miner: Miner
    program: ProgramId
    job: int = 1
    k: int = 0
    peer: str = "boss"
    key: PrivateKey = SESSION
    price: int = PRICE
    results: dict[int, Any] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    seals: dict[int, bytes] = field(default_factory=dict)
    units: dict[int, Unit] = field(default_factory=dict)
    allowed: int = 0
    last: Collected | None = None

    async def hello(self, **changes: Any) -> Welcome:
        signature = sign_session(self.key, DOMAIN, self.job, self.k, self.peer)
        hello = Hello(1, self.job, self.k, self.program, b"details", signature)
        answer = await self.miner.ask(_changed(hello, changes), self.peer)
        assert isinstance(answer, Welcome)
        return answer

    def allow(self, total: int) -> Allow:
        self.allowed = max(total, self.allowed)
        return Allow(str(total), sign_allow(self.key, DOMAIN, self.job, self.k, total))

    def unit(self, number: int, *parts: bytes | BlobPart, limit: int = FUEL, sealed: bool = False) -> Unit:
        made = [part if isinstance(part, BlobPart) else BytesPart(part) for part in parts]
        unit = Unit(number, limit, list(made), sealed)
        self.units[number] = unit
        return unit

    async def order(self, *units: Unit, allow: int | None = None) -> list[tuple[int, str]]:
        message = Order(self.job, self.k, list(units), None if allow is None else self.allow(allow))
        answer = await self.miner.ask(message, self.peer)
        assert isinstance(answer, Ordered)
        return [(refused.number, refused.reason) for refused in answer.refused]

    async def collect(self, wait: int = 5_000, *, take: bool = True, **fields: Any) -> Collected:
        """Ask for news; results that are there are taken with the next question."""
        if take and "taken" not in fields:
            fields["taken"] = [*self.results, *self.failures][-4096:]
        answer = await self.miner.ask(Collect(self.job, self.k, wait, **fields), self.peer)
        assert isinstance(answer, Collected)
        for result in answer.results:
            self._check(result)
            known = self.results.setdefault(result.number, result)
            assert known.index == result.index, "one unit has one receipt"
        self.failures |= {failure.number: failure.reason for failure in answer.failures}
        self.seals |= {seal.number: seal.seal for seal in answer.seals}
        assert int(answer.earned) <= max(self.allowed, 0)
        self.last = answer
        return answer

    async def collect_all(self, count: int, *, seconds: float = 30.0, **fields: Any) -> None:
        async with asyncio.timeout(seconds):
            while len(self.results) < count:
                await self.collect(1_000, **fields)

    def receipt(self, result: Any) -> Receipt:
        unit = self.units[result.number]
        data = b"".join(part.data for part in unit.parts if isinstance(part, BytesPart))
        return Receipt(
            ROOT,
            self.job,
            self.k,
            MINER.address,
            result.index,
            unit_id(self.program, BlobId(blake3(b"noria/blob/1" + data)), unit.fuel_limit),
            BlobId(Hash32(result.output_id)),
            Status(result.status),
            result.fuel,
            result.weight,
        )

    def _check(self, result: Any) -> None:
        if any(isinstance(part, BlobPart) for part in self.units[result.number].parts):
            return
        assert recover_address(self.receipt(result).leaf().hash, result.signature) == MINER.address

    def approvals(self, offers: Sequence[BatchOffer]) -> list[Approval]:
        return [
            Approval(offer.root, sign_approval(self.key, DOMAIN, self.job, self.k, offer)) for offer in offers
        ]

    async def put(
        self, blob: bytes, data: bytes, kind: str = "input", offset: int = 0, size: int = -1
    ) -> Stored:
        size = len(data) if size < 0 else size
        answer = await self.miner.ask(Put(self.job, self.k, blob, kind, size, offset, data), self.peer)
        assert isinstance(answer, Stored)
        return answer

    async def read(self, number: int, offset: int) -> bytes:
        answer = await self.miner.ask(Read(self.job, self.k, number, offset), self.peer)
        assert isinstance(answer, Piece)
        return answer.data


def _changed(message: Any, changes: dict[str, Any]) -> Any:
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    return type(message)(**fields | changes)


async def declined(work: Any) -> str:
    """Return the kind of refusal that something ends with."""
    with pytest.raises(Declined) as caught:
        await work
    assert str(caught.value).startswith(caught.value.kind + ": ")
    return caught.value.kind


def programs(folder: Path) -> tuple[ProgramSource, ProgramSource]:
    """Two programs: one says what it was told, the other burns fuel."""
    return place(folder, ECHO), place(folder, SPIN)
