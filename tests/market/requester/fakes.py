"""A miner in memory that speaks the work protocol, honestly or not, and a chain that keeps a job's money."""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from noria.market.access import CallReverted, Head, MinerContact
from noria.market.contracts import Job, JobState, Place
from noria.market.messages import (
    INLINE_BYTES_MAX,
    PIECE_BYTES_MAX,
    VERSION,
    Approval,
    Ask,
    BatchOffer,
    BlobPart,
    Collect,
    Collected,
    Failure,
    Hello,
    Order,
    Ordered,
    Piece,
    Put,
    Read,
    Refused,
    Result,
    Seal,
    Stored,
    Unit,
    Welcome,
    decode_request,
    encode_message,
)
from noria.market.requester.chain import JobPlan, OpenedJob
from noria.market.requester.checks import ClaimRules, receipt_seal
from noria.market.requester.errors import NotFunded, OpeningOverdue
from noria.market.requester.units import WorkUnit, make_part
from noria.market.typed_data import Domain, allow_digest, approval_digest, session_digest, signer_of
from noria.network.errors import DialFailed, PeerNotConnected, RequestRefused, RequestTimeout
from noria.network.peers import PeerId, PeerInfo
from noria.primitives.hashes import blake3
from noria.primitives.keys import PrivateKey
from noria.primitives.types import NOR, ZERO_ADDRESS, ZERO_HASH, Address, Hash32, Wei
from noria.work.batches import build_batch
from noria.work.ids import ProgramId, blob_id, program_id, unit_id
from noria.work.receipts import Receipt, Status, WeightRules
from noria.work.workers import Outcome

PROGRAM = program_id(b"a program")
ROOT = Hash32(blake3(b"a chain"))
DOMAIN = Domain(4_242, ROOT)
UNIT_FUEL_MAX = 200_000_000
RULES = ClaimRules(WeightRules(UNIT_FUEL_MAX, 256 << 10), pinned=True, public=True, output_bytes_max=64 << 20)
PRICE = 1_000_000
PROTOCOL = "/noria/test/work/1"


def truth(data: bytes, fuel_limit: int) -> Outcome:
    """How any unit ends here."""
    fuel = 1_000_000 + 1_000 * len(data)
    if data.startswith(b"endless") or fuel > fuel_limit:
        return Outcome(Status.OUT_OF_FUEL, b"", b"", fuel_limit, 0.001)
    if data.startswith(b"long"):
        return Outcome(Status.OK, data * (INLINE_BYTES_MAX // len(data) + 2), b"a log", fuel, 0.001)
    return Outcome(Status.OK, blake3(data), b"a log", fuel, 0.001)


def key_of(number: int) -> PrivateKey:
    return PrivateKey(blake3(b"key %d" % number))


@dataclass
class Ways:
    """How a miner behaves; honest unless told otherwise."""

    lie: Callable[[Outcome, bytes], Outcome] | None = None
    change_result: Callable[[Result], Result] | None = None
    change_offer: Callable[[BatchOffer], BatchOffer] | None = None
    delay_seconds: float = 0.0
    answers: bool = True
    dies_after: int | None = None
    fails_machine: bool = False
    workers: int = 4
    window: int = 100
    signs_with: PrivateKey | None = None
    offers_every: int = 8
    shows_unasked: bool = False
    resigns: bool = False
    tells_running: bool = False
    run: Callable[[bytes, int], Awaitable[Outcome]] | None = None
    program: ProgramId = PROGRAM
    pinned: bool = True
    last_first: bool = False
    """Releases what is held in the other order."""
    releases: bool = True


@dataclass
class Entry:
    unit: Unit
    data: bytes
    outcome: Outcome | None = None
    nonce: bytes = bytes(32)
    seal: bytes | None = None
    sealed: bool = False
    opened: bool = False
    result: Result | None = None
    task: asyncio.Task[None] | None = None


class FakeMiner:
    """One miner's node: every place of it."""

    def __init__(self, number: int, ways: Ways | None = None) -> None:
        self.key = key_of(number)
        self.ways = ways or Ways()
        self.peer = PeerId(f"12D3Koo{number}")
        self.is_up = True
        self.places: dict[tuple[int, int], FakePlace] = {}
        self.requests = 0

    @property
    def address(self) -> Address:
        return self.key.address

    async def handle(self, data: bytes, session_key: Address, peer: str) -> bytes:
        self.requests += 1
        request = decode_request(data)
        assert not isinstance(request, Ask)
        place = self.places.get((request.job, request.k))
        if isinstance(request, Hello):
            digest = session_digest(DOMAIN, request.job, request.k, peer)
            if signer_of(digest, request.signature) != session_key:
                raise RequestRefused("wrong-signature: not the session key")
            if place is None:
                place = self.places[request.job, request.k] = FakePlace(self, request.job, request.k)
            place.session_key = session_key
            return encode_message(place.welcome())
        if place is None:
            raise RequestRefused("no-session: say hello")
        if isinstance(request, Put):
            return encode_message(place.put(request))
        if isinstance(request, Order):
            return encode_message(place.order(request))
        if isinstance(request, Collect):
            return encode_message(await place.collect(request))
        assert isinstance(request, Read)
        return encode_message(place.read(request))

    def is_gone(self) -> bool:
        return not self.is_up

    def forget(self) -> None:
        """Restart with an empty memory of units that were not released."""
        for place in self.places.values():
            place.units.clear()
            place.blobs.clear()


class FakePlace:
    def __init__(self, miner: FakeMiner, job: int, k: int) -> None:
        self.miner, self.job, self.k = miner, job, k
        self.session_key = ZERO_ADDRESS
        self.units: dict[int, Entry] = {}
        self.results: dict[int, Result] = {}
        self.failures: dict[int, Failure] = {}
        self.blobs: dict[bytes, bytearray] = {}
        self.outputs: dict[int, bytes] = {}
        self.held: deque[Entry] = deque()
        self.receipts: list[Receipt] = []
        self.offers: list[BatchOffer] = []
        self.approved: list[Approval] = []
        self.unbatched: list[Receipt] = []
        self.next_index = 0
        self.earned = 0
        self.allowed = 0
        self.ran = 0
        self.wake = asyncio.Event()
        self.collects = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def welcome(self) -> Welcome:
        ways = self.miner.ways
        known = sorted({*self.units, *self.results})
        return Welcome(
            VERSION,
            self.miner.address,
            ways.workers,
            ways.window,
            self.next_index,
            str(self.earned),
            "0",
            known,
        )

    def put(self, put: Put) -> Stored:
        blob = self.blobs.setdefault(put.blob, bytearray())
        if put.data and put.offset == len(blob):
            blob += put.data
        return Stored(len(blob), len(blob) == put.size)

    def has_program(self) -> bool:
        ways = self.miner.ways
        return ways.pinned or program_id(bytes(self.blobs.get(ways.program, b""))) == ways.program

    def order(self, order: Order) -> Ordered:
        if order.allow is not None:
            self.allow(int(order.allow.total), order.allow.signature)
        refused = []
        if not self.has_program():
            return Ordered([Refused(unit.number, "program", "put it first") for unit in order.units])
        for unit in order.units:
            if unit.number in self.units or unit.number in self.results:
                continue
            parts = []
            for part in unit.parts:
                if isinstance(part, BlobPart):
                    blob = self.blobs.get(part.blob)
                    if blob is None or blob_id(bytes(blob)) != part.blob:
                        refused.append(Refused(unit.number, "blob-missing"))
                        break
                    parts.append(bytes(blob))
                else:
                    parts.append(part.data)
            else:
                entry = self.units[unit.number] = Entry(unit, b"".join(parts), sealed=unit.sealed)
                task = entry.task = asyncio.get_running_loop().create_task(self.run(entry))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
        self.release()
        return Ordered(refused)

    def allow(self, total: int, signature: bytes) -> None:
        assert signer_of(allow_digest(DOMAIN, self.job, self.k, total), signature) == self.session_key
        assert total >= self.allowed
        self.allowed = total

    async def run(self, entry: Entry) -> None:
        ways = self.miner.ways
        await asyncio.sleep(ways.delay_seconds)
        self.ran += 1
        if ways.dies_after is not None and self.ran > ways.dies_after:
            self.miner.is_up = False
            return
        if self.units.get(entry.unit.number) is not entry:
            return
        if ways.fails_machine:
            del self.units[entry.unit.number]
            self.failures[entry.unit.number] = Failure(entry.unit.number, "machine", "no memory")
            self.wake.set()
            return
        if ways.run is None:
            outcome = truth(entry.data, entry.unit.fuel_limit)
        else:
            try:
                outcome = await ways.run(entry.data, entry.unit.fuel_limit)
            except asyncio.CancelledError:
                return
            if self.units.get(entry.unit.number) is not entry:
                return
        if ways.lie is not None:
            outcome = ways.lie(outcome, entry.data)
        entry.outcome = outcome
        if entry.sealed:
            entry.nonce = blake3(b"nonce %d" % entry.unit.number)
            entry.seal = receipt_seal(self.receipt(entry, 0), Hash32(entry.nonce))
        if not entry.sealed or entry.opened or ways.shows_unasked:
            self.held.append(entry)
            self.release()
        self.wake.set()

    def receipt(self, entry: Entry, index: int) -> Receipt:
        outcome = entry.outcome
        assert outcome is not None
        return Receipt(
            genesis_root=ROOT,
            job=self.job,
            k=self.k,
            miner=self.miner.address,
            index=index,
            unit_id=unit_id(self.miner.ways.program, blob_id(entry.data), entry.unit.fuel_limit),
            output_id=blob_id(outcome.output),
            status=outcome.status,
            fuel=outcome.fuel,
            weight=outcome.fuel if self.carries_weight(entry) else 0,
        )

    def carries_weight(self, entry: Entry) -> bool:
        pinned = self.miner.ways.pinned
        return RULES.weight.carries_weight(
            fuel_limit=entry.unit.fuel_limit, input_bytes=len(entry.data), pinned=pinned, public=True
        )

    def release(self) -> None:
        ways = self.miner.ways
        while self.held and ways.releases:
            entry = self.held[0]
            receipt = self.receipt(entry, self.next_index)
            price = receipt.fuel * PRICE
            if self.earned + price > self.allowed:
                return
            self.held.popleft()
            self.next_index += 1
            self.earned += price
            outcome = entry.outcome
            assert outcome is not None
            number = entry.unit.number
            self.units.pop(number, None)
            self.outputs[number] = outcome.output
            result = Result(
                number=number,
                index=receipt.index,
                status=int(receipt.status),
                fuel=receipt.fuel,
                weight=receipt.weight,
                output_id=receipt.output_id,
                nonce=entry.nonce,
                output=outcome.output if len(outcome.output) <= INLINE_BYTES_MAX else None,
                output_bytes=len(outcome.output),
                log=outcome.log,
                milliseconds=1,
                signature=(ways.signs_with or self.miner.key).sign(receipt.leaf().hash),
            )
            if ways.change_result is not None:
                result = ways.change_result(result)
                if ways.resigns:
                    changed = replace(receipt, index=result.index)
                    result = msgspec.structs.replace(
                        result, signature=self.miner.key.sign(changed.leaf().hash)
                    )
            self.results[number] = result
            self.receipts.append(receipt)
            self.unbatched.append(receipt)
            if len(self.unbatched) >= ways.offers_every:
                self.offer()
            self.wake.set()

    def offer(self) -> None:
        if not self.unbatched:
            return
        made = build_batch(self.unbatched).commitment
        self.unbatched = []
        offer = BatchOffer(made.root, made.first_index, made.count, made.fuel, made.weight)
        if self.miner.ways.change_offer is not None:
            offer = self.miner.ways.change_offer(offer)
        self.offers.append(offer)

    async def collect(self, collect: Collect) -> Collected:
        self.collects += 1
        mine = self.collects
        self.wake.set()
        for number in collect.taken:
            self.results.pop(number, None)
            self.failures.pop(number, None)
        for number in collect.open:
            entry = self.units.get(number)
            if entry is not None and entry.sealed and not entry.opened:
                entry.opened = True
                if entry.outcome is not None:
                    (self.held.appendleft if self.miner.ways.last_first else self.held.append)(entry)
        for number in collect.cancel:
            cancelled = self.units.pop(number, None)
            if cancelled is not None:
                if cancelled in self.held:
                    self.held.remove(cancelled)
                self.failures[number] = Failure(number, "cancelled")
                if cancelled.task is not None:
                    cancelled.task.cancel()
        if collect.allow is not None:
            self.allow(int(collect.allow.total), collect.allow.signature)
        for approval in collect.approvals:
            for offer in [each for each in self.offers if each.root == approval.root]:
                digest = approval_digest(DOMAIN, self.job, self.k, offer)
                assert signer_of(digest, approval.signature) == self.session_key
                self.offers.remove(offer)
                self.approved.append(approval)
        self.release()
        if collect.flush:
            self.offer()
        loop = asyncio.get_running_loop()
        end = loop.time() + collect.wait_milliseconds / 1000
        told = collect.flush or bool(self.offers)
        while mine == self.collects and not (self.news() or told) and loop.time() < end:
            self.wake.clear()
            try:
                async with asyncio.timeout_at(end):
                    await self.wake.wait()
            except TimeoutError:
                break
        if mine != self.collects:
            return self.answer(empty=True)
        return self.answer()

    def news(self) -> bool:
        seals = any(entry.seal is not None and not entry.opened for entry in self.units.values())
        return bool(self.results or self.failures or self.needed() or (seals and not self.told_seals()))

    def told_seals(self) -> bool:
        return all(getattr(entry, "told", False) for entry in self.units.values() if entry.seal is not None)

    def needed(self) -> int:
        if not self.held:
            return 0
        return self.earned + self.receipt(self.held[0], 0).fuel * PRICE

    def answer(self, *, empty: bool = False) -> Collected:
        seals = []
        if not empty:
            for number, entry in self.units.items():
                if entry.seal is not None and not entry.opened:
                    seals.append(Seal(number, entry.seal))
                    entry.told = True  # type: ignore[attr-defined]
        return Collected(
            results=[] if empty else list(self.results.values())[:200],
            seals=seals,
            failures=[] if empty else list(self.failures.values())[:200],
            running=len(self.units) if self.miner.ways.tells_running else 0,
            queued=0,
            held=len(self.held),
            needed=str(self.needed()),
            earned=str(self.earned),
            offers=[] if empty else self.offers[:10],
            committed="0",
            paid="0",
        )

    def read(self, read: Read) -> Piece:
        return Piece(self.outputs[read.number][read.offset : read.offset + PIECE_BYTES_MAX])


class FakeNetwork:
    """The transport of a requester: every miner by its peer's name."""

    def __init__(self, miners: list[FakeMiner], session_key: Address) -> None:
        self.peer_id = PeerId("12D3KooRequester")
        self.session_key = session_key
        self._miners = {miner.peer: miner for miner in miners}
        self.connected: set[PeerId] = set()

    def peers(self) -> list[PeerInfo]:
        return [
            PeerInfo(peer, "", (), True, "", (), 0.0, None, 0.0)
            for peer in self.connected
            if self._miners[peer].is_up
        ]

    async def dial(self, address: str) -> PeerId:
        peer = PeerId(address.rpartition("/p2p/")[2])
        if any(info.peer == peer for info in self.peers()):
            raise DialFailed("it is connected, or being dialled already")
        miner = self._miners.get(peer)
        if miner is None or not miner.is_up:
            raise DialFailed(f"{address}: connection refused")
        self.connected.add(peer)
        return peer

    async def request(
        self, peer: PeerId, protocol: str, data: bytes, *, timeout_seconds: float | None = None
    ) -> bytes:
        miner = self._miners[peer]
        if not miner.is_up:
            self.connected.discard(peer)
            raise PeerNotConnected("the peer is gone")
        await asyncio.sleep(0)
        if not miner.ways.answers:
            await asyncio.sleep(min(timeout_seconds or 0.05, 0.05))
            raise RequestTimeout("no answer in time")
        work = asyncio.ensure_future(miner.handle(data, self.session_key, self.peer_id))
        while not work.done():
            await asyncio.wait([work], timeout=0.02)
            if miner.is_gone():
                self.connected.discard(peer)
                work.cancel()
                raise PeerNotConnected("the peer is gone")
        return work.result()


@dataclass
class FakeChain:
    """`JobChain` without a chain: a block whenever somebody waits for one."""

    miners: list[FakeMiner]
    requester: Address = field(default_factory=lambda: key_of(1_000).address)
    money: int = 100 * NOR
    block: int = 10
    stored: Job | None = None
    rows: list[Place] = field(default_factory=list)
    spare: list[FakeMiner] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    block_seconds: float = 0.005
    takes_openings: bool = True
    """If not, no block ever takes one."""
    overdue_seconds: float | None = None
    """After so long the sender of an opening gives up."""

    async def balance(self) -> Wei:
        return Wei(self.money)

    async def nonce(self) -> int:
        return 3

    async def usual_price(self) -> int:
        return PRICE

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refuses:
            raise CallReverted(f"{name} is refused here")

    async def open(self, plan: JobPlan, session_key: Address) -> OpenedJob:
        self._called("open")
        if self.money < plan.budget:
            raise NotFunded("too little")
        if not self.takes_openings:
            await asyncio.sleep(3_600 if self.overdue_seconds is None else self.overdue_seconds)
            raise OpeningOverdue("no block has taken it; it may still come")
        self.money -= plan.budget
        await asyncio.sleep(self.block_seconds)
        self.block += 1
        self.stored = Job(
            number=7,
            state=JobState.OPEN,
            requester=self.requester,
            session_key=session_key,
            terms=ZERO_HASH,
            opened_block=self.block,
            closing_block=0,
            miners=plan.miners,
            places=0,
            replicas=plan.replicas,
            public=plan.public,
            directed=False,
            max_price=plan.max_price,
            free=Wei(plan.budget),
            share=plan.share,
            deadline=plan.deadline,
            developer=ZERO_ADDRESS,
            royalty=0,
        )
        return OpenedJob(7, self.block)

    async def reopened(self, opened: OpenedJob, session_key: Address) -> OpenedJob | None:
        return None if self.stored is None else OpenedJob(self.stored.number, self.stored.opened_block)

    async def job(self, number: int) -> Job | None:
        return self.stored if self.stored is not None and self.stored.number == number else None

    async def places(self, number: int) -> list[Place]:
        return list(self.rows)

    @property
    def job_now(self) -> Job:
        assert self.stored is not None
        return self.stored

    def _draw(self, miner: FakeMiner, share: int) -> None:
        job = self.job_now
        if share > job.free:
            raise CallReverted("not so much is free")
        row = Place(
            job=job.number,
            k=len(self.rows),
            miner=miner.address,
            price=PRICE,
            cap=Wei(share),
            committed=Wei(0),
            next_index=0,
        )
        self.rows.append(row)
        self.stored = replace(job, free=Wei(job.free - share), places=len(self.rows))

    async def assign(self, number: int, *, is_certain: bool = False) -> None:
        self._called("assign")
        for miner in self.miners[: self.job_now.miners]:
            self._draw(miner, self.job_now.share)
        self.stored = replace(self.job_now, state=JobState.ASSIGNED)

    async def extend(self, number: int, share: int) -> None:
        self._called("extend")
        if not self.spare:
            raise CallReverted("no miner")
        self._draw(self.spare.pop(0), share)

    async def raise_cap(self, number: int, k: int, amount: int) -> None:
        self._called("raise_cap")
        await asyncio.sleep(self.block_seconds)
        if amount > self.job_now.free:
            raise CallReverted("not so much is free")
        self.rows[k] = replace(self.rows[k], cap=Wei(self.rows[k].cap + amount))
        self.stored = replace(self.job_now, free=Wei(self.job_now.free - amount))

    async def top_up(self, number: int, amount: int) -> None:
        self._called("top_up")
        self.money -= amount
        self.stored = replace(self.job_now, free=Wei(self.job_now.free + amount))

    async def close(self, number: int) -> None:
        self._called("close")
        self.stored = replace(self.job_now, state=JobState.CLOSING, closing_block=self.block)

    async def refund(self, number: int) -> None:
        self._called("refund")

    async def head(self) -> Head:
        return Head(self.block, ZERO_HASH, self.block, 1)

    async def wait_head(self, after: int, timeout_seconds: float) -> Head:
        await asyncio.sleep(self.block_seconds)
        self.block += 1
        return await self.head()

    async def contact(self, miner: Address) -> MinerContact | None:
        found = next(each for each in (*self.miners, *self.everybody) if each.address == miner)
        return MinerContact(found.peer, ("/ip4/127.0.0.1/tcp/1",))

    everybody: list[FakeMiner] = field(default_factory=list)


class TruthfulRuns:
    """Own runs without a sandbox."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, input: bytes, fuel_limit: int) -> Outcome:
        self.runs += 1
        await asyncio.sleep(0)
        return truth(input, fuel_limit)


class Wanted:
    """A unit that somebody waits for, and how it ended."""

    def __init__(self, data: bytes, *, fuel_limit: int = 100_000_000, shared: bytes = b"") -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.told = 0
        self.started = 0
        self.is_wanted = True
        parts = (make_part(shared, is_shared=True), make_part(data)) if shared else (make_part(data),)
        self.unit = WorkUnit(
            ProgramId(Hash32(PROGRAM)),
            parts,
            fuel_limit,
            settled=self._settled,
            failed=self._failed,
            started=self._started,
        )
        self.expected = truth(shared + data, fuel_limit)

    def _settled(self, settled: Any) -> None:
        self.told += 1
        self.future.set_result(settled)

    def _failed(self, error: Exception) -> None:
        self.told += 1
        self.future.set_exception(error)
        self.future.exception()

    def _started(self) -> bool:
        self.started += 1
        return self.is_wanted


numbers = itertools.count(1)
