"""A miner at work for others: it answers on the work protocol, has units run, and sees that it is paid.

::

    service = MinerService(access, chain, transport, …)
    await service.start()
    …
    await service.stop()

Each place of a job is a `Live`: its session, and a task that settles its batches whenever there is a new
head.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from noria.market.access import ChainAccess, ChainAccessError
from noria.market.contracts import Job, JobState, MarketRules, Place
from noria.market.messages import (
    PIECE_BYTES_MAX,
    VERSION,
    Allow,
    Ask,
    BlobPart,
    Collect,
    Hello,
    MalformedWorkMessage,
    Order,
    Ordered,
    Piece,
    Put,
    Quote,
    Read,
    Refused,
    Unit,
    Welcome,
    WorkAnswer,
    decode_request,
    encode_message,
)
from noria.market.miner import admission
from noria.market.miner import journal as book
from noria.market.miner.admission import Declined
from noria.market.miner.deliveries import Deliveries
from noria.market.miner.earnings import Earnings, MarketStatus, report
from noria.market.miner.journal import Journal, JournalError, PlaceRecord, ReceiptRecord
from noria.market.miner.keeping import Keeper
from noria.market.miner.numbers import NumberSet
from noria.market.miner.session import WINDOW, Session, Signing
from noria.market.miner.settling import Settler
from noria.market.miner.terms import MarketChain, mark_of
from noria.market.miner.work import Workshop
from noria.market.typed_data import Domain
from noria.network.peers import PeerId
from noria.network.transport import Request, TransportProtocol
from noria.primitives.background import BackgroundTasks
from noria.primitives.types import Address, Hash32, Wei
from noria.work.blob_errors import BlobStoreError
from noria.work.ids import BlobId, ProgramId
from noria.work.workers import WorkerPool

PLACES_MAX: Final = 256
"""Places that are taken care of at once."""
HELLOS_MAX: Final = 4
"""Hellos that are looked at at once: they are what a stranger can cause."""
AGAIN_SECONDS: Final = 2.0
"""After which what was told and not taken is told again."""
GATHER_SECONDS: Final = 0.004
"""How long further results are waited for where answers follow each other closely."""
HEAD_SECONDS: Final = 30.0
PAUSE_SECONDS: Final = 0.1
"""Between two looks at one place."""
IDLE_SECONDS: Final = 3_600.0
"""After which a place where nothing happens makes room for another, if room is needed."""
KEEPING_BLOCKS: Final = 64
"""Between two looks for batches that have left the window."""
HISTORY_BLOCKS: Final = 256
"""How far back places are looked for that were assigned while nobody looked."""
ASSIGNED_MAX: Final = 1_000
MALFORMED: Final = -5.0
"""What a message that is none costs its sender."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Live:
    """A place that is taken care of."""

    session: Session
    settler: Settler
    used_seconds: float
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    answered_seconds: float = 0.0


class MinerService:
    """One miner's side of the market. Belongs to one event loop.

    Parameters
    ----------
    access, chain
        The chain, and the market's contracts as this miner uses them.
    transport, protocol
        Where requesters ask, and by which name.
    journal, deliveries, keeper
        Open; they are not closed.
    pool, workers
        Runs units and nothing else; it is not closed.
    signing, domain, rules
        Who signs, for which chain, by which rules.
    pinned
        Programs that the chain's specification pins.
    counting
        Tells which credited batches are still in the window, None where it cannot tell; called in a thread.
    clock
        Unix seconds.
    """

    def __init__(
        self,
        access: ChainAccess,
        chain: MarketChain,
        transport: TransportProtocol,
        protocol: str,
        *,
        journal: Journal,
        deliveries: Deliveries,
        keeper: Keeper,
        pool: WorkerPool,
        workers: int,
        signing: Signing,
        domain: Domain,
        rules: MarketRules,
        pinned: frozenset[ProgramId],
        counting: Callable[[], Set[Hash32] | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access, self._chain, self._transport, self._protocol = access, chain, transport, protocol
        self._journal, self._deliveries, self._keeper = journal, deliveries, keeper
        self._signing, self._domain, self._rules, self._pinned = signing, domain, rules, pinned
        self._counting, self._clock = counting, clock
        self._shop = Workshop(pool, workers, deliveries, self._released)
        self._live: dict[int, Live] = {}
        self._at: dict[tuple[int, int], Live] = {}
        self._next_id = 1
        self._hellos = asyncio.Semaphore(HELLOS_MAX)
        self._greeting = asyncio.Lock()
        self._tasks = BackgroundTasks("market")
        self._assigned: dict[tuple[int, int], int] = {}
        self._ask_price: int | None = None
        self._running = False
        self.problem = ""
        """Why nothing is released any more; empty if all is well."""

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Take up what the journal has, and begin to answer.

        Raises
        ------
        JournalError, ChainAccessError
            Where that cannot be read.
        """
        self._running = True
        records = await self._journal.places()
        self._next_id = 1 + max((record.id for record in records), default=0)
        waiting = [record for record in records if record.state == "open"]
        await asyncio.to_thread(self._deliveries.clean, [record.id for record in waiting])
        self._ask_price = await self._chain.ask_price()
        for record in reversed(waiting[:PLACES_MAX]):
            await self._resume(record)
        head = await self._access.head()
        self._tasks.spawn(self._follow(head.number))
        self._transport.serve(self._protocol, self.answer)

    async def stop(self) -> None:
        """Stop; what is written is finished, what runs is given up and ordered again by its requesters."""
        self._running = False
        await self._shop.close()
        for live in list(self._live.values()):
            for unit in live.session.units.values():
                self._shop.stop(unit)
            live.session.tell()
        await self._tasks.stop()

    async def _resume(self, record: PlaceRecord) -> None:
        job = await self._chain.job(record.job)
        place = None if job is None else await self._chain.place(record.job, record.k)
        if job is None or place is None or mark_of(job, place) != record.mark:
            # Nothing is known of it but what the journal says; it may come back with another branch.
            job, place = _remembered(record, self._signing)
        live = await self._begin(record, job, place)
        live.session.is_here = mark_of(job, place) == record.mark
        for receipt in await self._journal.untaken(record.id):
            live.session.remember(receipt)
        live.wake.set()

    async def _begin(self, record: PlaceRecord, job: Job, place: Place) -> Live:
        session = Session(
            record, job, place, self._signing, pinned=ProgramId(Hash32(record.program)) in self._pinned
        )
        batches = await self._journal.batches(record.id)
        settler = Settler(
            session,
            self._journal,
            self._keeper,
            self._access,
            self._chain,
            self._domain,
            self._rules,
            batches,
        )
        live = Live(session, settler, asyncio.get_running_loop().time())
        self._live[record.id] = self._at[record.job, record.k] = live
        self._shop.add(session)
        live.task = self._tasks.spawn(self._settle(live))
        return live

    # ------------------------------------------------------------ the protocol

    async def answer(self, request: Request) -> bytes:
        """Answer one request of a peer.

        Raises
        ------
        Declined
            Where it is refused; the message begins with the reason's name.
        """
        if not self._running:
            raise Declined("not-mining", "this miner stops")
        try:
            message = decode_request(request.data)
        except MalformedWorkMessage as error:
            self._transport.score(request.peer, MALFORMED, "a malformed work message")
            raise Declined("malformed", str(error)) from None
        try:
            match message:
                case Ask():
                    answer: WorkAnswer = self._quote()
                case Hello():
                    answer = await self._hello(message, request.peer)
                case Put():
                    live = self._spoken_for(request.peer, message.job, message.k)
                    answer = await self._deliveries.put(live.session.record.id, message)
                case Order():
                    live = self._spoken_for(request.peer, message.job, message.k)
                    answer = await self._order(message, live)
                case Collect():
                    live = self._spoken_for(request.peer, message.job, message.k)
                    answer = await self._collect(message, live)
                case Read():
                    live = self._spoken_for(request.peer, message.job, message.k)
                    answer = await self._read(message, live)
        except ChainAccessError as error:
            raise Declined("busy", f"this node's chain cannot be asked: {error}") from None
        except JournalError as error:
            self._fail(error)
            raise Declined("busy", "this miner cannot write its journal") from None
        return encode_message(answer)

    def _quote(self) -> Quote:
        return Quote(
            version=VERSION,
            miner=self._signing.key.address,
            ask_price=str(self._ask_price or 0),
            workers=self._shop.workers,
            running=self._shop.running,
            queued=self._shop.queued,
        )

    def _spoken_for(self, peer: PeerId, job: int, k: int) -> Live:
        live = self._at.get((job, k))
        if live is None or live.session.peer != peer:
            raise Declined("no-session", f"say hello for place {k} of job {job} first")
        if not live.session.is_here:
            raise Declined("unknown-job", f"job {job} is not on this node's chain at present")
        if live.settler.finished:
            raise Declined("closed", f"job {job} is over")
        if self.problem:
            raise Declined("busy", self.problem)
        live.used_seconds = asyncio.get_running_loop().time()
        return live

    async def _hello(self, hello: Hello, peer: PeerId) -> Welcome:
        admission.check_version(hello)
        if self._hellos.locked():
            raise Declined("busy", "too many say hello at once")
        async with self._hellos, self._greeting:
            job = await self._chain.job(hello.job)
            found = None if job is None else await self._chain.place(hello.job, hello.k)
            place = admission.check_place(job, found, self._signing.key.address, hello.job, hello.k)
            assert job is not None
            admission.check_hello(self._domain, job, hello, peer)
            live = self._at.get((hello.job, hello.k))
            if live is None or live.session.record.mark != mark_of(job, place):
                admission.check_running(job, int(self._clock()))
                live = await self._admit(hello, job, place)
            elif job.state is JobState.ENDED or live.settler.finished:
                raise Declined("closed", f"job {hello.job} is over")
        session = live.session
        session.greet(peer)
        live.used_seconds = asyncio.get_running_loop().time()
        return Welcome(
            version=VERSION,
            miner=self._signing.key.address,
            workers=self._shop.workers,
            window=WINDOW,
            next_index=session.record.next_index,
            earned=str(session.told_earned),
            committed=str(session.place.committed),
            known=session.known(),
        )

    async def _admit(self, hello: Hello, job: Job, place: Place) -> Live:
        mark = mark_of(job, place)
        record = await self._journal.place(job.number, place.k, mark)
        if record is None:
            self._make_room()
            record = PlaceRecord(
                id=self._next_id,
                job=job.number,
                k=place.k,
                mark=mark,
                program=hello.program,
                price=place.price,
                royalty=job.royalty,
                credits=job.earns_credit,
                state="open",
                allow_total=0,
                allow_signature=b"",
                spent=NumberSet(),
                next_index=place.next_index,
                earned=place.committed,
                fuel=0,
                weight=0,
                paid=0,
                credited=0,
                gas=0,
                opened=int(self._clock()),
            )
            self._next_id += 1
            await self._journal.write(book.begin_place(record), book.keep_sums(record))
            live = await self._begin(record, job, place)
        else:
            self._make_room()
            record.state = "open"
            await self._journal.write(book.keep_income(record))
            live = await self._begin(record, job, place)
            for receipt in await self._journal.untaken(record.id):
                live.session.remember(receipt)
        live.wake.set()
        return live

    def _make_room(self) -> None:
        if len(self._live) < PLACES_MAX:
            return
        oldest = min(self._live.values(), key=lambda live: (_has_work(live), live.used_seconds))
        idle_seconds = asyncio.get_running_loop().time() - oldest.used_seconds
        if _has_work(oldest) or idle_seconds < IDLE_SECONDS:
            raise Declined("busy", f"this miner works for {PLACES_MAX} jobs already")
        self._leave(oldest)

    def _leave(self, live: Live) -> None:
        record = live.session.record
        self._shop.remove(live.session)
        self._live.pop(record.id, None)
        if self._at.get((record.job, record.k)) is live:
            del self._at[record.job, record.k]
        if live.task is not None and live.task is not asyncio.current_task():
            live.task.cancel()

    # ------------------------------------------------------------ orders

    async def _order(self, order: Order, live: Live) -> Ordered:
        session = live.session
        self._raise_allow(live, order.allow)
        if order.units:
            session.flush = False
        refused = await self._check_program(session, order.units)
        if not refused:
            missing = await self._missing(session.record.id, order.units)
            for unit in order.units:
                found = _without(unit, missing) or session.order(unit)
                if found is not None:
                    refused.append(found)
        self._released(session)
        self._shop.fill()
        return Ordered(refused)

    async def _check_program(self, session: Session, units: Sequence[Unit]) -> list[Refused]:
        program = ProgramId(Hash32(session.record.program))
        problem = self._deliveries.refused.get(program)
        if problem is None and await asyncio.to_thread(self._deliveries.program, program) is None:
            problem = "its module is not here: put it first"
        if problem is None:
            return []
        return [Refused(unit.number, "program", problem[:500]) for unit in units]

    async def _missing(self, place: int, units: Sequence[Unit]) -> set[bytes]:
        """Return blobs that are not here; those that are, are held for the place."""
        wanted = {part.blob for unit in units for part in unit.parts if isinstance(part, BlobPart)}
        return {blob for blob in wanted if not await self._deliveries.has(place, blob)}

    def _raise_allow(self, live: Live, allow: Allow | None) -> None:
        if allow is None:
            return
        session = live.session
        held = admission.check_allow(self._domain, session.job, session.record.k, allow, session.allow)
        if held is None:
            return
        record = session.record
        record.allow_total, record.allow_signature = held.total, held.signature
        # Receipts that rely on it are written after it.
        self._journal.write_soon(book.keep_allow(record.id, held.total, held.signature))

    def _released(self, session: Session) -> None:
        """Write what may be released, and tell of it when that is on the disk."""
        if self.problem:
            return
        records = session.release()
        if not records:
            return
        place = session.record.id
        statements = [book.release(place, record) for record in records]
        written = self._journal.write_soon(*statements, book.keep_sums(session.record))
        written.add_done_callback(lambda done: self._on_disk(session, records, done))

    def _on_disk(
        self, session: Session, records: Sequence[ReceiptRecord], done: asyncio.Future[None]
    ) -> None:
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            self._fail(error or JournalError("it was closed"))
            return
        session.released(records)
        self._shop.fill()

    def _fail(self, error: BaseException) -> None:
        if not self.problem:
            self.problem = "this miner cannot write its journal"
            _log.error("market_journal_failed", reason=str(error))

    # ------------------------------------------------------------ results

    async def _collect(self, collect: Collect, live: Live) -> WorkAnswer:
        session = live.session
        self._raise_allow(live, collect.allow)
        self._take(session, collect.taken)
        session.open(collect.open)
        for unit in session.cancel(collect.cancel):
            self._shop.stop(unit)
        self._released(session)
        self._shop.fill()
        if collect.approvals and await live.settler.approve(collect.approvals):
            live.wake.set()
        if collect.flush:
            session.flush = True
            live.wake.set()
        is_latest = await session.wait_for_news(collect.wait_milliseconds / 1000, AGAIN_SECONDS)
        if not is_latest:
            return session.collected(empty=True)
        loop = asyncio.get_running_loop()
        if collect.wait_milliseconds and loop.time() - live.answered_seconds < 2 * GATHER_SECONDS:
            await asyncio.sleep(GATHER_SECONDS)
        live.answered_seconds = loop.time()
        session.note = self._shop.note() if session.running and not session.results else ""
        return session.collected()

    def _take(self, session: Session, numbers: Sequence[int]) -> None:
        place = session.record.id
        long = [
            session.results[number].result.output_id
            for number in numbers
            if number in session.results and session.results[number].result.output is None
        ]
        indices = session.take(numbers)
        if indices:
            self._journal.write_soon(*(book.take(place, index) for index in indices))
        for output in long:
            self._tasks.spawn(self._drop_output(place, output))

    async def _drop_output(self, place: int, output: bytes) -> None:
        with suppress(BlobStoreError):
            await asyncio.to_thread(self._deliveries.drop_output, place, BlobId(Hash32(output)))

    async def _read(self, read: Read, live: Live) -> Piece:
        untaken = live.session.results.get(read.number)
        if untaken is None:
            raise Declined("malformed", f"unit {read.number} has no result here that is not taken")
        result = untaken.result
        output = result.output
        if output is None:
            try:
                output = await self._deliveries.output(BlobId(Hash32(result.output_id)))
            except BlobStoreError as error:
                raise Declined("busy", f"the output cannot be read: {type(error).__name__}") from None
        return Piece(output[read.offset : read.offset + PIECE_BYTES_MAX])

    # ------------------------------------------------------------ the chain

    async def _follow(self, number: int) -> None:
        kept = number
        while True:
            try:
                head = await self._access.wait_head(number, HEAD_SECONDS)
                if head.number > number:
                    await self._note_assigned(number + 1, head.number)
                number = head.number
                self._ask_price = await self._chain.ask_price()
            except ChainAccessError as error:
                _log.warning("market_chain_unreadable", reason=str(error))
                await asyncio.sleep(1.0)
                continue
            for live in self._live.values():
                live.wake.set()
            if self._counting is not None and number >= kept + KEEPING_BLOCKS:
                kept = number
                self._tasks.spawn(self._forget_old())

    async def _note_assigned(self, first: int, last: int) -> None:
        for job, k in await self._chain.assigned(max(first, last - HISTORY_BLOCKS), last):
            if (job, k) not in self._assigned:
                _log.info("market_assigned", job=job, k=k)
            self._assigned[job, k] = last
            while len(self._assigned) > ASSIGNED_MAX:
                del self._assigned[next(iter(self._assigned))]

    async def _settle(self, live: Live) -> None:
        session = live.session
        while not live.settler.finished:
            await live.wake.wait()
            live.wake.clear()
            try:
                await live.settler.step()
            except ChainAccessError as error:
                _log.info("market_step_later", job=session.record.job, reason=str(error))
            except JournalError as error:
                self._fail(error)
                return
            if session.closing or not session.is_here or live.settler.finished:
                self._give_up(session)
            self._shop.fill()
            self._released(session)
            await asyncio.sleep(PAUSE_SECONDS)
        self._leave(live)
        await asyncio.to_thread(self._release_blobs, session.record.id)

    def _give_up(self, session: Session) -> None:
        """Stop the units of a job that is over."""
        if not session.closing and session.is_here:
            return
        reason, message = "closing", "the job is over"
        if not session.closing:
            reason, message = "cancelled", "the chain has taken the job back"
        for unit in session.cancel(list(session.units), reason, message):
            self._shop.stop(unit)

    def _release_blobs(self, place: int) -> None:
        with suppress(BlobStoreError):
            self._deliveries.release(place)

    async def _forget_old(self) -> None:
        assert self._counting is not None
        # In this order: what leaves the journal meanwhile is credited already.
        pending = await self._journal.roots()
        counting = await asyncio.to_thread(self._counting)
        if counting is not None:
            await asyncio.to_thread(self._keeper.forget_old, counting, pending)

    # ------------------------------------------------------------ for people

    def status(self) -> MarketStatus:
        """Tell what this miner does for others now."""
        return MarketStatus(
            miner=self._signing.key.address,
            ask_price=self._ask_price,
            workers=self._shop.workers,
            running=self._shop.running,
            queued=self._shop.queued,
            assigned=len(self._assigned),
            problem=self.problem,
            sessions=tuple(live.session for live in self._live.values()),
        )

    async def earnings(self, limit: int) -> Earnings:
        """Tell what was earned, the latest places first.

        Raises
        ------
        JournalError
            Where the journal cannot be read.
        """
        places = await self._journal.places(limit=limit)
        live = {live.session.record.id: live.session for live in self._live.values()}
        return report(places, live, await self._journal.totals())


def _has_work(live: Live) -> bool:
    session = live.session
    return bool(session.units or session.results or session.record.next_index > session.place.next_index)


def _without(unit: Unit, missing: set[bytes]) -> Refused | None:
    for part in unit.parts:
        if isinstance(part, BlobPart) and part.blob in missing:
            return Refused(unit.number, "blob-missing", part.blob.hex())
    return None


def _remembered(record: PlaceRecord, signing: Signing) -> tuple[Job, Place]:
    """Stand for a job and a place that the present chain does not have; what counts is read when it does."""
    nobody, zero = Address(bytes(20)), Wei(0)
    job = Job(
        number=record.job,
        state=JobState.OPEN,
        requester=nobody,
        session_key=nobody,
        terms=Hash32(bytes(32)),
        opened_block=0,
        closing_block=0,
        miners=0,
        places=0,
        replicas=0,
        public=False,
        directed=True,
        max_price=0,
        free=zero,
        share=zero,
        deadline=0,
        developer=nobody,
        royalty=record.royalty,
    )
    miner = signing.key.address
    return job, Place(
        job=record.job, k=record.k, miner=miner, price=record.price, cap=zero, committed=zero, next_index=0
    )
