"""The state of one place: what was ordered, what runs, what waits for money, what was released.

No waiting and no disk here; all methods belong to one event loop. `noria.market.miner.service` writes what is
released into the journal before it lets this tell of it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

import msgspec

from noria.market.contracts import Job, Place
from noria.market.messages import (
    LOG_BYTES_MAX,
    REASON_CHARACTERS_MAX,
    UNITS_MAX,
    BatchOffer,
    BlobPart,
    BytesPart,
    Collected,
    Failure,
    Refused,
    Result,
    Seal,
    Unit,
)
from noria.market.miner.abandoned import Abandoned
from noria.market.miner.admission import check_unit, inline_bytes, unit_digest
from noria.market.miner.entries import PlaceRecord, ReceiptRecord
from noria.market.miner.terms import HeldAllow
from noria.market.miner.units import Finished, OrderedUnit, Signing, UnitState, Untaken, untaken_of
from noria.market.typed_data import seal
from noria.primitives.types import Hash32, Signature
from noria.work.ids import BlobId
from noria.work.receipts import Receipt

WINDOW: Final = 512
"""Units of a place that may be here without being released."""
UNRELEASED_MAX: Final = 64
"""Units that have run and are not released above which no further one of the place begins: a miner's risk."""
UNTAKEN_MAX: Final = 2_048
UNTAKEN_BYTES_MAX: Final = 32 << 20
INLINE_QUEUED_MAX: Final = 64 << 20
"""Bytes of inputs that a place's units have brought along."""
ANSWER_BYTES_MAX: Final = 3 << 20
FAILURES_MAX: Final = 4_096


class Session:
    """One place of one job.

    Parameters
    ----------
    record
        What is remembered of it; changed here, written by others.
    job, place
        As the chain has them.
    signing
        Of this miner.
    pinned
        Whether the chain's specification pins the program.

    Attributes
    ----------
    peer
        Who speaks for the job; None until somebody has said so.
    is_here
        Whether the present chain has this place.
    closing
        Whether the job is over: nothing more is run or released.
    problem
        Why nothing more is run or released although the job goes on; empty if all is well.
    paid, credited
        Wei and weight that have come of its receipts, final or not.
    spent_seconds
        Time that workers have given it, for fairness.
    unwanted
        Long outputs that a unit or a result has let go of; whoever has the disk does so too.
    turn
        Of its long outputs; see `noria.market.miner.outputs`.
    """

    def __init__(
        self, record: PlaceRecord, job: Job, place: Place, signing: Signing, *, pinned: bool
    ) -> None:
        self.record, self.job, self.place, self.pinned = record, job, place, pinned
        self._signing = signing
        self.peer: str | None = None
        self.is_here = True
        self.closing = False
        self.problem = ""
        self.flush = False
        self.spent_seconds = 0.0
        self.paid, self.credited = record.paid, record.credited
        self.note = ""
        self.offers: list[BatchOffer] = []
        self.units: dict[int, OrderedUnit] = {}
        self.results: dict[int, Untaken] = {}
        self.failures: dict[int, Failure] = {}
        self.running = 0
        self.told_earned = record.earned
        self.unwanted: list[BlobId] = []
        self.turn = 0
        self._queue: deque[OrderedUnit] = deque()
        self._abandoned = Abandoned()
        self._held: deque[OrderedUnit] = deque()
        self._sealed = 0
        self._inline_bytes = 0
        self._untaken_bytes = 0
        self._news = True
        self._sent_seconds = 0.0
        self._collects = 0
        self._wakeup = asyncio.Event()

    # ------------------------------------------------------------ money

    @property
    def price(self) -> int:
        """Wei per fuel, royalty included."""
        return self.record.price + self.record.royalty

    @property
    def budget(self) -> int:
        """Most that may be charged now."""
        return min(self.record.allow_total, self.place.cap)

    @property
    def allow(self) -> HeldAllow | None:
        """The latest allow."""
        total, signature = self.record.allow_total, self.record.allow_signature
        return HeldAllow(total, Signature(signature)) if signature else None

    @property
    def needed(self) -> int:
        """Which total releases the next result that is held; 0 if none is."""
        return self.record.earned + self._price_of(self._held[0]) if self._held else 0

    def _price_of(self, unit: OrderedUnit) -> int:
        assert unit.finished is not None
        return unit.finished.fuel * self.price

    def _pays_for_next(self) -> bool:
        return bool(self._held) and self._goes_on and self.needed <= self.budget

    @property
    def _goes_on(self) -> bool:
        return self.is_here and not self.closing and not self.problem

    # ------------------------------------------------------------ orders

    def order(self, unit: Unit) -> Refused | None:
        """Take a unit, or say why not. The same one again changes nothing."""
        number, digest = unit.number, unit_digest(unit)
        known = self.units.get(number)
        if known is not None:
            return None if known.digest == digest else _taken(number)
        if number in self.failures:
            return None
        if number in self.record.spent:
            released = self.results.get(number)
            return None if released is not None and released.digest == digest else _taken(number)
        refused = self._has_room(unit) or check_unit(unit)
        if refused is not None:
            return refused
        entry = OrderedUnit(
            self, number, unit.fuel_limit, tuple(unit.parts), digest, inline_bytes(unit), unit.sealed
        )
        self.units[number] = entry
        self._inline_bytes += entry.inline_bytes
        self._queue.append(entry)
        return None

    def _has_room(self, unit: Unit) -> Refused | None:
        number = unit.number
        if self.closing:
            return Refused(number, "closing", "the job is over")
        if self.problem:
            return Refused(number, "full", self.problem)
        if len(self.units) >= WINDOW or len(self.results) >= UNTAKEN_MAX:
            return Refused(number, "full", f"{len(self.units)} units are here: take results, or wait")
        if self._untaken_bytes > UNTAKEN_BYTES_MAX or len(self.failures) >= FAILURES_MAX:
            return Refused(number, "full", "too much is here that was not taken")
        if self._inline_bytes + inline_bytes(unit) > INLINE_QUEUED_MAX:
            return Refused(number, "full", "too many bytes of input wait: put what they share as a blob")
        # Each unit that is under way has its room already: a receipt without one would leave a gap.
        if not self.record.spent.has_room(len(self.units) + 1):
            return Refused(number, "full", "its numbers are too scattered: count them up one by one")
        if len(self._held) >= UNRELEASED_MAX:
            return Refused(number, "unpaid", f"{len(self._held)} results wait for an allow of {self.needed}")
        if self.record.earned >= self.place.cap:
            return Refused(number, "unpaid", f"the place's cap of {self.place.cap} wei is used up")
        return None

    # ------------------------------------------------------------ running

    @property
    def queued(self) -> int:
        """Units that have not begun."""
        return len(self._queue)

    @property
    def held(self) -> int:
        """Results that wait for money."""
        return len(self._held)

    @property
    def abandoned(self) -> int:
        """Units that were given up after they had begun, and are not made up for."""
        return len(self._abandoned)

    @property
    def unreleased(self) -> int:
        """Units that run or have run and are not released; also those that were given up then."""
        return self.running + self._sealed + len(self._held) + self.abandoned

    def may_begin(self) -> bool:
        """Tell whether a unit waits and may begin."""
        return bool(self._queue) and self._goes_on and self.unreleased < UNRELEASED_MAX

    def begin(self) -> OrderedUnit:
        """Take the next unit out of the queue; `may_begin` has said that there is one."""
        unit = self._queue.popleft()
        unit.state, unit.begun_seconds = UnitState.RUNNING, time.monotonic()
        self.running += 1
        return unit

    def finish(self, unit: OrderedUnit, finished: Finished) -> None:
        """Note that a unit has run."""
        if not self._ended(unit):
            self._let_go(finished)
            return
        unit.finished, unit.future, unit.parts = finished, None, self._kept_parts(unit, finished)
        if unit.sealed:
            record = self.record
            unit.state = UnitState.SEALED
            # Also if its seal was opened before a restart: the result must be the one of that seal.
            unit.nonce = self._signing.nonce(record.job, record.k, unit.number, finished.unit)
            unit.seal = seal(
                self._signing.genesis_root,
                record.job,
                finished.unit,
                unit.nonce,
                finished.status,
                finished.output_id,
                finished.fuel,
                self._signing.key.address,
            )
        if unit.sealed and not unit.opened:
            self._sealed += 1
            self.tell()
        else:
            self._hold(unit)

    def fail(self, unit: OrderedUnit, reason: str, message: str) -> None:
        """Note that a unit cannot be run here."""
        if self._ended(unit):
            self._drop(unit, reason, message)

    def _ended(self, unit: OrderedUnit) -> bool:
        if unit.state is UnitState.RUNNING:
            self.running -= 1
        return self.units.get(unit.number) is unit

    def _hold(self, unit: OrderedUnit) -> None:
        unit.state = UnitState.HELD
        self._held.append(unit)
        if len(self._held) == 1 and not self._pays_for_next():
            self.tell()

    def _kept_parts(self, unit: OrderedUnit, finished: Finished) -> tuple[BytesPart | BlobPart, ...]:
        """Keep what a certificate would need, and nothing else."""
        return unit.parts if self._weight(unit, finished) else ()

    def _weight(self, unit: OrderedUnit, finished: Finished) -> int:
        carries = self._signing.rules.carries_weight(
            fuel_limit=unit.fuel_limit,
            input_bytes=finished.input_bytes,
            pinned=self.pinned,
            public=self.job.public,
        )
        return finished.fuel if carries and self.job.earns_credit else 0

    # ------------------------------------------------------------ what the requester says

    def open(self, numbers: Iterable[int]) -> None:
        """Let sealed results be released."""
        for number in numbers:
            unit = self.units.get(number)
            if unit is None:
                continue
            unit.opened = True
            if unit.state is UnitState.SEALED:
                self._sealed -= 1
                self._hold(unit)

    def cancel(
        self, numbers: Iterable[int], reason: str = "cancelled", message: str = ""
    ) -> list[OrderedUnit]:
        """Give units up that are not released; return those whose futures must be stopped.

        Those that have begun count as unreleased until they are made up for: otherwise a requester who takes
        back what it has seen the seals of, or nothing, would have a miner work for nothing without end.
        """
        running = []
        for number in numbers:
            unit = self.units.get(number)
            if unit is None or unit.state is UnitState.RELEASING:
                continue
            if spent_seconds := unit.spent_seconds:
                self._abandoned.add(spent_seconds)
            if unit.state is UnitState.RUNNING:
                running.append(unit)
            elif unit.state is UnitState.QUEUED:
                self._queue.remove(unit)
            elif unit.state is UnitState.SEALED:
                self._sealed -= 1
            elif unit.state is UnitState.HELD:
                self._held.remove(unit)
            self._drop(unit, reason, message)
        return running

    def take(self, numbers: Iterable[int]) -> list[int]:
        """Forget results and failures that have arrived; return the indices of the results."""
        indices = []
        for number in numbers:
            self.failures.pop(number, None)
            untaken = self.results.pop(number, None)
            if untaken is not None:
                self._untaken_bytes -= untaken.size
                if untaken.result.output is None:
                    self.unwanted.append(BlobId(Hash32(untaken.result.output_id)))
                indices.append(untaken.result.index)
        return indices

    def _drop(self, unit: OrderedUnit, reason: str, message: str) -> None:
        del self.units[unit.number]
        self._inline_bytes -= unit.inline_bytes
        if unit.finished is not None:
            self._let_go(unit.finished)
        self.failures[unit.number] = Failure(unit.number, reason, message[:REASON_CHARACTERS_MAX])
        self.tell()

    def _let_go(self, finished: Finished) -> None:
        if finished.output is None:
            self.unwanted.append(finished.output_id)

    # ------------------------------------------------------------ release

    def release(self) -> list[ReceiptRecord]:
        """Give receipts to all results that the allow covers, in order; they are told once `released`."""
        made = []
        while self._pays_for_next():
            unit = self._held[0]
            made.append(self._receipt(unit))
            unit.state = UnitState.RELEASING
            self._held.popleft()
            self._abandoned.make_up(unit.spent_seconds)
        return made

    def _receipt(self, unit: OrderedUnit) -> ReceiptRecord:
        record, finished, signing = self.record, unit.finished, self._signing
        assert finished is not None
        record.spent.add(unit.number)
        weight = self._weight(unit, finished)
        receipt = Receipt(
            genesis_root=signing.genesis_root,
            job=record.job,
            k=record.k,
            miner=signing.key.address,
            index=record.next_index,
            unit_id=finished.unit,
            output_id=finished.output_id,
            status=finished.status,
            fuel=finished.fuel,
            weight=weight,
        )
        signature = signing.key.sign(receipt.leaf().hash)
        record.next_index += 1
        record.earned += finished.fuel * self.price
        record.fuel += finished.fuel
        record.weight += weight
        return ReceiptRecord(
            index=receipt.index,
            number=unit.number,
            digest=unit.digest,
            unit=finished.unit,
            input=finished.input,
            parts=msgspec.msgpack.encode(unit.parts) if weight else b"",
            fuel_limit=unit.fuel_limit,
            status=int(finished.status),
            fuel=finished.fuel,
            weight=weight,
            output_id=finished.output_id,
            nonce=unit.nonce,
            output=finished.output,
            output_bytes=finished.output_bytes,
            log=finished.log[:LOG_BYTES_MAX],
            milliseconds=finished.milliseconds,
            signature=signature,
        )

    def released(self, records: Sequence[ReceiptRecord]) -> None:
        """Tell of receipts that are on the disk."""
        for record in records:
            unit = self.units.pop(record.number, None)
            if unit is not None:
                self._inline_bytes -= unit.inline_bytes
            self.told_earned += record.fuel * self.price
            self.remember(record)
        self.tell()

    def remember(self, record: ReceiptRecord) -> None:
        """Hold a released result until it is taken."""
        untaken = untaken_of(record)
        self.results[record.number] = untaken
        self._untaken_bytes += untaken.size

    # ------------------------------------------------------------ answers

    def tell(self) -> None:
        """Wake whoever waits for news."""
        self._news = True
        self._wakeup.set()

    def greet(self, peer: str) -> None:
        """Let a peer speak for the job; everything is told anew."""
        self.peer = peer
        self._collects += 1
        self.tell()

    async def wait_for_news(self, wait_seconds: float, again_seconds: float) -> bool:
        """Wait until there is something to tell; return whether this is still the latest who asks.

        What was told and not taken is told again after ``again_seconds``.
        """
        loop = asyncio.get_running_loop()
        self._collects += 1
        mine = self._collects
        self._wakeup.set()
        end = loop.time() + wait_seconds
        while mine == self._collects and not self._news:
            due = end
            if self.results or self.failures:
                due = min(end, self._sent_seconds + again_seconds)
            if loop.time() >= due:
                break
            self._wakeup = asyncio.Event() if self._wakeup.is_set() else self._wakeup
            try:
                async with asyncio.timeout_at(due):
                    await self._wakeup.wait()
            except TimeoutError:
                continue
        return mine == self._collects

    def collected(self, *, empty: bool = False) -> Collected:
        """Return what there is to tell now."""
        results: list[Result] = []
        failures: list[Failure] = []
        seals: list[Seal] = []
        if not empty:
            size = 0
            for untaken in self.results.values():
                size += untaken.size
                if len(results) == UNITS_MAX or (results and size > ANSWER_BYTES_MAX):
                    break
                results.append(untaken.result)
            failures = list(islice(self.failures.values(), UNITS_MAX))
            seals = [
                Seal(unit.number, unit.seal)
                for unit in self.units.values()
                if unit.state is UnitState.SEALED and unit.seal is not None
            ]
            # What does not fit follows at once.
            self._news = len(results) < len(self.results) or len(failures) < len(self.failures)
            self._sent_seconds = asyncio.get_running_loop().time()
        return Collected(
            results=results,
            seals=seals,
            failures=failures,
            running=self.running,
            queued=self.queued,
            held=len(self._held),
            needed=str(self.needed),
            earned=str(self.told_earned),
            offers=self.offers,
            committed=str(self.place.committed),
            paid=str(min(self.paid, self.place.committed)),
            note=self.note[:REASON_CHARACTERS_MAX],
        )

    def known(self) -> list[int]:
        """Return the units that are here and not taken."""
        return [*self.units, *self.results, *self.failures]


def _taken(number: int) -> Refused:
    return Refused(number, "number-taken", "another unit has this number, or it was taken already")
