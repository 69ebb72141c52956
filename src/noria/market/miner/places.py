"""All places of a miner: taken on, resumed, given up; released receipts written, batches settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from noria.market.access import ChainAccess, ChainAccessError
from noria.market.contracts import Job, JobState, MarketRules, Place
from noria.market.miner import entries as book
from noria.market.miner.admission import Declined
from noria.market.miner.batching import COMMIT_GAS
from noria.market.miner.deliveries import Deliveries
from noria.market.miner.entries import PlaceRecord, ReceiptRecord
from noria.market.miner.journal import Journal, JournalError
from noria.market.miner.keeping import Keeper
from noria.market.miner.numbers import NumberSet
from noria.market.miner.session import Session
from noria.market.miner.settling import Settler
from noria.market.miner.terms import MarketChain, mark_of
from noria.market.miner.units import Signing
from noria.market.miner.work import Workshop
from noria.market.typed_data import Domain
from noria.primitives.background import BackgroundTasks
from noria.primitives.types import Address, Hash32, Wei
from noria.work.blob_errors import BlobStoreError
from noria.work.ids import BlobId, ProgramId
from noria.work.workers import WorkerPool

PLACES_MAX: Final = 256
"""Places that are taken care of at once."""
PAUSE_SECONDS: Final = 0.1
"""Between two looks at one place."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Live:
    """A place that is taken care of."""

    session: Session
    settler: Settler
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    answered_seconds: float = 0.0


class Places:
    """The places that one miner takes care of. Belongs to one event loop.

    Parameters
    ----------
    access, chain
        The chain, and the market's contracts as this miner uses them.
    journal, deliveries, keeper
        Open; they are not closed.
    pool, workers
        Runs units and nothing else; it is not closed.
    signing, domain, rules
        Who signs, for which chain, by which rules.
    pinned
        Programs that the chain's specification pins.
    clock
        Unix seconds.

    Attributes
    ----------
    shop
        Has units run.
    problem
        Why nothing is released any more; empty if all is well.
    """

    def __init__(
        self,
        access: ChainAccess,
        chain: MarketChain,
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
        clock: Callable[[], float],
    ) -> None:
        self._access, self._chain = access, chain
        self._journal, self._deliveries, self._keeper = journal, deliveries, keeper
        self._signing, self._domain, self._rules, self._pinned = signing, domain, rules, pinned
        self._clock = clock
        self.shop = Workshop(pool, workers, deliveries, self.release)
        self.problem = ""
        self._live: dict[int, Live] = {}
        self._at: dict[tuple[int, int], Live] = {}
        self._releasing: dict[int, asyncio.Task[None]] = {}
        self._next_id = 1
        self._tasks = BackgroundTasks("market places")

    def __iter__(self) -> Iterator[Live]:
        return iter(list(self._live.values()))

    def at(self, job: int, k: int) -> Live | None:
        """Return the place that is taken care of under these numbers."""
        return self._at.get((job, k))

    def programs(self) -> frozenset[bytes]:
        """Return the programs of all places that are taken care of."""
        return frozenset(live.session.record.program for live in self._live.values())

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Take up what the journal has.

        Raises
        ------
        JournalError, ChainAccessError
            Where that cannot be read.
        """
        self._next_id = 1 + max([record.id for record in await self._journal.places(limit=1)], default=0)
        waiting = await self._journal.open_places(PLACES_MAX)
        await asyncio.to_thread(self._deliveries.clean, [record.id for record in waiting])
        for record in reversed(waiting):
            await self.resume(record)

    async def stop(self) -> None:
        """Stop; what is written is finished, what runs is given up and ordered again by its requesters."""
        await self.shop.close()
        for live in self:
            for unit in live.session.units.values():
                self.shop.stop(unit)
            live.session.tell()
        await self._tasks.stop()

    async def resume(self, record: PlaceRecord) -> None:
        """Take a place up that the journal has."""
        job = await self._chain.job(record.job)
        place = None if job is None else await self._chain.place(record.job, record.k)
        if job is None or place is None or mark_of(job, place) != record.mark:
            # Nothing is known of it but what the journal says; it may come back with another branch.
            job, place = _remembered(record, self._signing)
        live = await self._begin(record, job, place)
        live.session.is_here = mark_of(job, place) == record.mark
        await self._remember(live)
        live.wake.set()

    async def _remember(self, live: Live) -> None:
        """Take up the results that the requester has not taken."""
        place, turn = live.session.record.id, live.session.turn
        receipts = await self._journal.untaken(place)
        long = [(BlobId(Hash32(r.output_id)), r.output_bytes) for r in receipts if r.output is None]
        with suppress(BlobStoreError):
            await asyncio.to_thread(self._deliveries.resume, place, turn, long)
        for receipt in receipts:
            live.session.remember(receipt)

    async def _begin(self, record: PlaceRecord, job: Job, place: Place) -> Live:
        session = Session(
            record, job, place, self._signing, pinned=ProgramId(Hash32(record.program)) in self._pinned
        )
        if (releasing := self._releasing.get(record.id)) is not None:
            await asyncio.wait([releasing])
        session.turn = self._deliveries.begin(record.id)
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
            lambda: self._looked(session),
        )
        live = Live(session, settler)
        self._live[record.id] = self._at[record.job, record.k] = live
        self.shop.add(session)
        live.task = self._tasks.spawn(self._settle(live))
        return live

    async def admit(self, program: Hash32, job: Job, place: Place) -> Live:
        """Take a place on, or up again.

        Raises
        ------
        Declined
            ``busy`` where there are too many, all of which are worth more.
        ChainAccessError, JournalError
            Where it cannot be done now.
        """
        mark = mark_of(job, place)
        live = self._find(job.number, place.k, mark)
        if live is not None:
            if live.settler.finished:
                raise Declined("busy", f"what is left of job {job.number} is put away")
            self._at[job.number, place.k] = live
            live.wake.set()
            return live
        record = await self._journal.place(job.number, place.k, mark)
        await self._make_room(record)
        if record is None:
            record = PlaceRecord(
                id=self._next_id,
                job=job.number,
                k=place.k,
                mark=mark,
                program=program,
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
                seen=(await self._access.head()).number,
            )
            self._next_id += 1
            await self._journal.write(book.begin_place(record), book.keep_sums(record))
            live = await self._begin(record, job, place)
        else:
            record.state = "open"
            await self._journal.write(book.keep_income(record))
            live = await self._begin(record, job, place)
            await self._remember(live)
        live.wake.set()
        return live

    def _find(self, job: int, k: int, mark: bytes) -> Live | None:
        """Return the place that is taken care of, though its numbers may stand for another one at present."""
        for live in self._live.values():
            record = live.session.record
            if (record.job, record.k, record.mark) == (job, k, mark):
                return live
        return None

    async def _make_room(self, record: PlaceRecord | None) -> None:
        """Let go of the place that has earned least for its age, if there would be one too many."""
        if len(self._live) < PLACES_MAX:
            return
        gas_wei = COMMIT_GAS * await self._chain.gas_price()
        least = min(
            (live for live in self._live.values() if not _is_owed(live, gas_wei)),
            key=lambda live: self._rank(live.session.record),
            default=None,
        )
        # Whoever was let go comes back only if it is worth more: otherwise places would take turns for ever.
        if least is None or (record is not None and self._rank(record) < self._rank(least.session.record)):
            raise Declined("busy", f"this miner works for {PLACES_MAX} jobs already")
        _log.info("market_place_let_go", job=least.session.record.job, k=least.session.record.k)
        await self._let_go(least)

    def _rank(self, record: PlaceRecord) -> tuple[float, int]:
        """Return what decides which of two places stays: wei per second of its age, then which is younger."""
        return record.earned / max(1.0, self._clock() - record.opened), record.id

    async def _let_go(self, live: Live) -> None:
        """Take no more care of a place that goes on; what its requester has paid for stays."""
        session = live.session
        self._leave(live)
        for unit in session.cancel(list(session.units), "cancelled", "this miner works for other jobs"):
            self.shop.stop(unit)
        self.release(session)
        place = session.record.id
        self._deliveries.let_go(place)
        # Whoever has asked for the room may not wait so long; it is done all the same.
        releasing = self._tasks.spawn(self._release_inputs(place))
        self._releasing[place] = releasing
        releasing.add_done_callback(lambda _: self._releasing.pop(place, None))
        await asyncio.shield(releasing)

    async def _release_inputs(self, place: int) -> None:
        with suppress(BlobStoreError):
            await asyncio.to_thread(self._deliveries.release_inputs, place)

    def _leave(self, live: Live) -> None:
        record = live.session.record
        self.shop.remove(live.session)
        self._live.pop(record.id, None)
        if self._at.get((record.job, record.k)) is live:
            del self._at[record.job, record.k]
        if live.task is not None and live.task is not asyncio.current_task():
            live.task.cancel()

    # ------------------------------------------------------------ release

    def release(self, session: Session) -> None:
        """Write what may be released, and tell of it when it is on the disk; let go of what nobody wants."""
        if session.unwanted:
            unwanted, session.unwanted = session.unwanted, []
            self._tasks.spawn(self._drop(session.record.id, session.turn, unwanted))
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
            self.fail(error or JournalError("it was closed"))
            return
        session.released(records)
        self.shop.fill()

    def fail(self, error: BaseException) -> None:
        """Release nothing more: the journal cannot be written."""
        if not self.problem:
            self.problem = "this miner cannot write its journal"
            _log.error("market_journal_failed", reason=str(error))

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
                self.fail(error)
                return
            except Exception as error:
                # Work that may not be paid must not go on; the next block is another chance.
                _log.exception("market_step_failed", job=session.record.job, k=session.record.k)
                session.problem = f"this miner cannot settle the job: {type(error).__name__}"
            else:
                if session.problem:
                    session.problem = ""
                    self.release(session)
                    self.shop.fill()
            await asyncio.sleep(PAUSE_SECONDS)
        # In this order: it is not taken on again before everything is let go.
        self._deliveries.let_go(session.record.id)
        await asyncio.to_thread(self._release_blobs, session.record.id)
        self._leave(live)

    def _looked(self, session: Session) -> None:
        """Go on with a job, or stop its units if it is over."""
        if session.closing or not session.is_here:
            reason, message = "closing", "the job is over"
            if not session.closing:
                reason, message = "cancelled", "the chain has taken the job back"
            for unit in session.cancel(list(session.units), reason, message):
                self.shop.stop(unit)
        self.release(session)
        self.shop.fill()

    async def _drop(self, place: int, turn: int, outputs: Sequence[BlobId]) -> None:
        await asyncio.to_thread(self._drop_outputs, place, turn, outputs)
        self.shop.fill()

    def _drop_outputs(self, place: int, turn: int, outputs: Sequence[BlobId]) -> None:
        for output in outputs:
            with suppress(BlobStoreError):
                self._deliveries.drop_output(place, turn, output)

    def _release_blobs(self, place: int) -> None:
        with suppress(BlobStoreError):
            self._deliveries.release(place)


def _is_owed(live: Live, gas_wei: int) -> bool:
    """Tell whether money would be lost with a place: more than a commit costs, or anything that was sent."""
    session = live.session
    return session.record.earned - session.place.committed > gas_wei or live.settler.is_owed


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
