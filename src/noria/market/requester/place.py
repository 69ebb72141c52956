"""One miner's place of a job: orders go out, results come in, each is checked, each is allowed and approved.

A place runs for as long as its job does. What goes wrong on the line is tried again; what shows that the
miner lies ends it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, Final, Protocol

from noria.market.access import ChainAccessError, MinerContact
from noria.market.messages import (
    MESSAGE_BYTES_MAX,
    NAMES_MAX,
    UNITS_MAX,
    VERSION,
    Allow,
    BatchOffer,
    Collect,
    Collected,
    Failure,
    Hello,
    MalformedWorkMessage,
    Order,
    Ordered,
    Result,
    Seal,
    Unit,
    Welcome,
)
from noria.market.messages import Refused as RefusedUnit
from noria.market.requester.checks import Claimant, ClaimRules, Lie, check_result
from noria.market.requester.link import NotReachable, Refused, WorkLink
from noria.market.requester.money import PlaceLedger
from noria.market.requester.paperwork import Paperwork
from noria.market.requester.reasons import PlaceView
from noria.market.requester.transfers import fetch_output, put_blob
from noria.market.requester.units import Claim, Copy
from noria.market.typed_data import Domain, sign_allow, sign_session
from noria.primitives.addresses import checksum_address
from noria.primitives.background import BackgroundTasks
from noria.primitives.keys import PrivateKey
from noria.primitives.types import Hash32
from noria.work.ids import ProgramId

OUTSTANDING_MAX: Final = 60
"""Units at a place that are not released: a miner begins no more while it holds a few more than that."""
HORIZON_SECONDS: Final = 2.0
"""A place is given work for so long, as fast as it was lately."""
WORKERS_AHEAD: Final = 2
"""Before its speed is known: so many units for each worker."""
BUSY_WAIT_MILLISECONDS: Final = 5_000
IDLE_WAIT_MILLISECONDS: Final = 15_000
TOLD_WAIT_MILLISECONDS: Final = 100
ANSWER_SECONDS: Final = 6.0
"""For an answer, beyond what it was asked to wait."""
GATHER_SECONDS: Final = 0.01
"""How long more is waited for before a message to a busy miner goes out."""
FLIGHTS_MAX: Final = 4
"""Questions for news under way at once; all but the latest are answered at once."""
RETRY_SECONDS: Final = (0.2, 10.0)
ORDER_BYTES_MAX: Final = MESSAGE_BYTES_MAX - (256 << 10)
UNIT_BYTES: Final = 256
"""What a unit takes in an order beside its input."""
AGAIN_SECONDS: Final = 0.25
"""Before a unit is ordered again that a miner had no room for."""
MISTRUST: Final = ("wrong-terms", "wrong-signature", "old-version", "malformed", "not-mining")
"""Refusals after which there is no point in asking again."""

LOGGER: Final = logging.getLogger("noria.jobs")


class PlaceEvents(Protocol):
    """Who is told what a place does: `noria.market.requester.dispatch.Dispatcher`."""

    def on_seal(self, copy: Copy, seal: Hash32) -> None:
        """Take note of a seal."""
        ...

    def on_claim(self, copy: Copy, claim: Claim) -> None:
        """Take note of a result whose receipt holds."""
        ...

    def on_failed(self, copy: Copy, reason: str, message: str, *, refused: bool = False) -> None:
        """Take note that a copy was not run."""
        ...

    def place_lost(self, k: int) -> None:
        """Give its units to others."""
        ...

    def place_back(self, copies: list[Copy]) -> None:
        """Count its units again."""
        ...

    def place_banned(self, k: int) -> None:
        """Discard what it said."""
        ...

    def fill(self) -> None:
        """Give out what can be given out."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTerms:
    """What all places of a job share.

    Attributes
    ----------
    domain, job
        For what is signed.
    session_key
        Signs for the job.
    program, details
        What the job's terms cover.
    rules
        What receipts must keep to.
    peer
        Name of this peer.
    """

    domain: Domain
    job: int
    session_key: PrivateKey
    program: ProgramId
    details: bytes
    rules: ClaimRules
    peer: str


class Place:
    """A miner's place.

    Parameters
    ----------
    who
        Whose receipts are expected.
    terms
        Of the job.
    ledger
        Its money.
    link
        The line to the miner.
    find
        Returns where the miner's node is.
    events
        Who is told.
    expected_fuel
        Tells what a unit burns, as far as known.
    banned
        Told when the miner is caught lying.
    key
        Its name for `events`: its number, unless the job had other places with the same ones before.
    clock
        Seconds.
    """

    def __init__(
        self,
        who: Claimant,
        terms: JobTerms,
        ledger: PlaceLedger,
        link: WorkLink,
        *,
        find: Callable[[], Awaitable[MinerContact | None]],
        events: PlaceEvents,
        expected_fuel: Callable[[], float | None],
        banned: Callable[[str], None],
        key: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = who.k if key is None else key
        self.who, self.terms, self.ledger = who, terms, ledger
        self.state, self.reason, self.note = "finding", "", ""
        self.workers = self.window = self.running = self.queued = self.held = 0
        self.committed = self.paid = 0
        self.down_since: float | None = clock()
        self._link, self._find, self._events = link, find, events
        self._expected_fuel, self._banned, self._clock = expected_fuel, banned, clock
        self._papers = Paperwork(who, terms.domain, terms.session_key)
        self._queue: deque[Copy] = deque()
        self._copies: dict[int, Copy] = {}
        self._finished: dict[int, None] = {}
        self._fetching: set[int] = set()
        self._stored: set[bytes] = set()
        self._taken: dict[int, None] = {}
        self._opening: dict[int, None] = {}
        self._cancelling: dict[int, None] = {}
        self._rate = 0.0
        self._highest = 0
        self._needed = 0
        self._sent_allow = 0
        self._has_refused_unpaid = False
        self._flush = False
        self._not_before = 0.0
        self._answered_at = clock()
        self._arrivals: deque[float] = deque(maxlen=64)
        self._to_order = asyncio.Event()
        self._to_tell = asyncio.Event()
        self._ended = asyncio.Event()
        self._tasks = BackgroundTasks("place", expected=(NotReachable, Refused, Lie))

    # ------------------------------------------------------------ as PlaceLink

    @property
    def k(self) -> int:
        """Its name among the dispatcher's places."""
        return self._key

    @property
    def is_usable(self) -> bool:
        """Whether it takes units now."""
        return self.state == "ready"

    @property
    def is_over(self) -> bool:
        """Whether it will never take units again."""
        return self.state in ("banned", "closed")

    @property
    def outstanding(self) -> int:
        """Units that are here and not released."""
        return len(self._copies)

    @property
    def limit(self) -> int:
        """Most units that it should have."""
        ahead = max(WORKERS_AHEAD * self.workers, ceil(self._rate * HORIZON_SECONDS))
        return min(self.window, OUTSTANDING_MAX, max(2, ahead))

    def room(self) -> int:
        """Return how many more units it may have now."""
        if self.ledger.allowed >= self.ledger.cap > 0 and self.held:
            return 0
        return max(0, self.limit - self.outstanding)

    def eagerness(self) -> float:
        """Return the share of its limit that is free."""
        return self.room() / max(1, self.limit)

    def order(self, copy: Copy) -> None:
        """Send a copy."""
        self._copies[copy.number] = copy
        self._highest = max(self._highest, copy.number)
        self._queue.append(copy)
        self._to_order.set()

    def open(self, copy: Copy) -> None:
        """Ask for a sealed result."""
        self._opening[copy.number] = None
        self._to_tell.set()

    def cancel(self, copy: Copy) -> None:
        """Take a copy back: what has not ended costs nothing."""
        if copy.number not in self._copies:
            return
        if copy in self._queue:
            self._queue.remove(copy)
            self._finish(copy.number)
            return
        self._opening.pop(copy.number, None)
        self._cancelling[copy.number] = None
        self._to_tell.set()

    def verified(self, copy: Copy) -> None:
        """Note that a claim was found right."""
        if copy.claim is not None:
            self.ledger.verify(copy.claim.signed.receipt.fuel)
            self._papers.verified(copy.claim.signed.receipt.index)

    def ban(self, reason: str) -> None:
        """Have nothing more to do with this miner."""
        if self.state == "banned":
            return
        who = checksum_address(self.who.miner)
        LOGGER.warning("miner %s, place %s of job %s, is banned: %s", who, self.who.k, self.who.job, reason)
        self.ledger.is_banned = True
        self._end("banned", reason)
        self._banned(reason)

    # ------------------------------------------------------------ its life

    async def run(self) -> None:
        """Keep a line to the miner until the job or the place is over."""
        pause = RETRY_SECONDS[0]
        while not self._ended.is_set():
            try:
                await self._greet()
                pause = RETRY_SECONDS[0]
                await self._talk()
            except Refused as refusal:
                self._refused(refusal)
            except (NotReachable, MalformedWorkMessage, ChainAccessError) as error:
                self._lost(error)
            except Lie as lie:
                self.ban(str(lie))
                self._events.place_banned(self.k)
                self._events.fill()
            if not self._ended.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._ended.wait()
                pause = min(2 * pause, RETRY_SECONDS[1])
        await self._tasks.stop()

    def close(self, reason: str = "") -> None:
        """End it: the job is over."""
        if not self.is_over:
            self._end("closed", reason)

    def flush(self) -> None:
        """Ask for a batch of what is there: no more units come for now."""
        self._flush = True
        self._to_tell.set()

    @property
    def is_cancelling(self) -> bool:
        """Whether units are being taken back."""
        return bool(self._cancelling)

    @property
    def is_settled(self) -> bool:
        """Whether all its receipts are in batches whose approvals it has."""
        return self._papers.is_complete or self.is_over

    def _end(self, state: str, reason: str) -> None:
        self.state, self.reason = state, reason
        self.down_since = self.down_since or self._clock()
        self._ended.set()
        self._to_order.set()
        self._to_tell.set()

    def _lost(self, error: Exception) -> None:
        was_ready = self.state == "ready"
        self._link.disconnected()
        if self._ended.is_set():
            return
        self.down_since = self.down_since or self._clock()
        self.state = "silent" if was_ready else "unreachable"
        self.reason = str(error)
        if self._copies:
            self._events.place_lost(self.k)
            self._events.fill()

    def _refused(self, refusal: Refused) -> None:
        if refusal.name == "closed" or refusal.name in MISTRUST:
            self._end("closed", str(refusal))
            self._events.place_lost(self.k)
            self._events.fill()
            return
        # unknown-job: its node has not seen the block yet; no-session: it has restarted; busy: later.
        self.state, self.reason = "greeting", str(refusal)
        self.down_since = self.down_since or self._clock()

    async def _greet(self) -> None:
        contact = await self._find()
        if contact is None:
            raise NotReachable("the miner is not registered any more")
        await self._link.connect(contact)
        terms = self.terms
        signature = sign_session(terms.session_key, terms.domain, terms.job, self.who.k, terms.peer)
        hello = Hello(VERSION, terms.job, self.who.k, terms.program, terms.details, signature)
        welcome = await self._link.ask(hello, Welcome, timeout_seconds=ANSWER_SECONDS)
        self._answered()
        if welcome.miner != self.who.miner:
            raise Lie(f"another miner answers at its place: {checksum_address(self.who.miner)} was drawn")
        self.workers, self.window = max(1, welcome.workers), max(1, welcome.window)
        # What it does not know has to be ordered again; it may have lost blobs, too.
        known = set(welcome.known)
        self._stored.clear()
        self._sent_allow = 0
        queued = set(self._queue)
        for number, copy in self._copies.items():
            if number not in known and copy not in queued and number not in self._cancelling:
                self._queue.append(copy)
            if copy.is_open:
                self._opening[number] = None
        self.state, self.reason, self.down_since = "ready", "", None
        self._events.place_back(list(self._copies.values()))
        self._to_order.set()
        self._to_tell.set()
        self._events.fill()

    async def _talk(self) -> None:
        loop = asyncio.get_running_loop()
        parts: list[asyncio.Task[Any]] = [
            loop.create_task(self._order_all()),
            loop.create_task(self._collect_all()),
            loop.create_task(self._ended.wait()),
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in parts:
                task.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    def _answered(self) -> None:
        self._answered_at = self._clock()

    # ------------------------------------------------------------ orders

    async def _order_all(self) -> None:
        while True:
            await self._to_order.wait()
            self._to_order.clear()
            while self._queue:
                delay = self._not_before - self._clock()
                if delay <= 0 and self._is_busy(len(self._queue)):
                    delay = GATHER_SECONDS
                if delay > 0:
                    await asyncio.sleep(delay)
                await self._order_some()

    def _is_busy(self, waiting: int) -> bool:
        """Tell whether the miner has enough to do: then one message with more is better than a quick one."""
        return len(self._copies) - waiting > WORKERS_AHEAD * self.workers

    async def _order_some(self) -> None:
        chosen: list[Copy] = []
        size = 0
        for copy in list(self._queue)[:UNITS_MAX]:
            unit = copy.state.unit
            if unit is None:
                # It has ended meanwhile.
                self._queue.remove(copy)
                self._finish(copy.number)
                continue
            size += UNIT_BYTES + sum(len(part.data) for part in unit.parts if part.blob is None)
            if chosen and size > ORDER_BYTES_MAX:
                break
            for part in unit.parts:
                if part.blob is not None and part.blob not in self._stored:
                    await put_blob(self._link, self.who, part.blob, part.data, ANSWER_SECONDS)
                    self._stored.add(part.blob)
            chosen.append(copy)
        # Putting takes time, in which units may have been taken back.
        chosen = [copy for copy in chosen if copy.state.unit is not None and copy in self._queue]
        if not chosen:
            return
        units = [self._unit(copy) for copy in chosen]
        order = Order(self.terms.job, self.who.k, units, self._next_allow())
        answer = await self._link.ask(order, Ordered, timeout_seconds=ANSWER_SECONDS)
        self._answered()
        self._ordered(chosen, answer.refused)

    @staticmethod
    def _unit(copy: Copy) -> Unit:
        unit = copy.state.unit
        assert unit is not None
        return Unit(copy.number, unit.fuel_limit, [part.message() for part in unit.parts], copy.is_sealed)

    def _ordered(self, chosen: list[Copy], refused: list[RefusedUnit]) -> None:
        reasons = {each.number: each for each in refused}
        again = False
        for copy in chosen:
            refusal = reasons.get(copy.number)
            if copy in self._queue:
                self._queue.remove(copy)
            elif refusal is None:
                # Taken back while the order was on its way.
                self._cancelling[copy.number] = None
                self._to_tell.set()
            if refusal is None or copy.number not in self._copies:
                continue
            match refusal.reason:
                case "full" | "unpaid" | "blob-missing":
                    if refusal.reason == "blob-missing":
                        self._stored.clear()
                    self._has_refused_unpaid |= refusal.reason == "unpaid"
                    self._queue.append(copy)
                    again = True
                case "number-taken":
                    # Its result was taken before the line broke; or the miner is wrong, and others run it.
                    self._drop(copy, "number-taken", refusal.message, refused=False)
                case "closing" | "program":
                    self._end("closed", f"{refusal.reason}: {refusal.message}")
                    self._events.place_lost(self.k)
                case _:
                    self._drop(copy, refusal.reason, refusal.message, refused=True)
        if again:
            self._not_before = self._clock() + AGAIN_SECONDS
            self._to_order.set()
        if refused:
            self._events.fill()

    def _drop(self, copy: Copy, reason: str, message: str, *, refused: bool) -> None:
        self._finish(copy.number)
        self._events.on_failed(copy, reason, message, refused=refused)

    def _finish(self, number: int) -> None:
        self._copies.pop(number, None)
        self._opening.pop(number, None)
        self._cancelling.pop(number, None)

    # ------------------------------------------------------------ results

    async def _collect_all(self) -> None:
        flights: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        try:
            while True:
                if not flights or (self._to_tell.is_set() and len(flights) < FLIGHTS_MAX):
                    if self._is_busy(0):
                        await asyncio.sleep(GATHER_SECONDS)
                    self._to_tell.clear()
                    flights.add(loop.create_task(self._collect(self._next_collect())))
                if len(flights) >= FLIGHTS_MAX:
                    landed, _ = await asyncio.wait(flights, return_when=asyncio.FIRST_COMPLETED)
                    self._landed(flights, landed)
                    continue
                news = loop.create_task(self._to_tell.wait())
                try:
                    waiting: set[asyncio.Task[Any]] = {*flights, news}
                    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    news.cancel()
                self._landed(flights, done)
        finally:
            for flight in flights:
                flight.cancel()
            await asyncio.gather(*flights, return_exceptions=True)

    @staticmethod
    def _landed(flights: set[asyncio.Task[None]], done: Iterable[asyncio.Task[Any]]) -> None:
        for flight in flights.intersection(done):
            flights.discard(flight)
            flight.result()

    def _next_collect(self) -> Collect:
        """Return the next request, with everything that the miner has not been told."""
        opening = [number for number in self._opening if number in self._copies][:NAMES_MAX]
        # What is told once needs not be told again: after a broken line everything is.
        self._opening.clear()
        flush, self._flush = self._flush, False
        approvals = self._papers.approvals()
        wait = BUSY_WAIT_MILLISECONDS if self._copies else IDLE_WAIT_MILLISECONDS
        return Collect(
            self.terms.job,
            self.who.k,
            # Whether approvals have arrived is known by the answer.
            TOLD_WAIT_MILLISECONDS if approvals else wait,
            taken=list(self._taken)[:NAMES_MAX],
            open=opening,
            cancel=list(self._cancelling)[:NAMES_MAX],
            allow=self._next_allow(),
            approvals=approvals,
            flush=flush,
        )

    async def _collect(self, request: Collect) -> None:
        wait = request.wait_milliseconds / 1000 + ANSWER_SECONDS
        answer = await self._link.ask(request, Collected, timeout_seconds=wait)
        self._answered()
        for number in request.taken:
            self._taken.pop(number, None)
            self._finished.pop(number, None)
        self._papers.told(request.approvals)
        self._on_collected(answer)

    def _on_collected(self, answer: Collected) -> None:
        self.running, self.queued, self.held = answer.running, answer.queued, answer.held
        self.note = answer.note
        self.committed = max(self.committed, int(answer.committed))
        self.paid = max(self.paid, int(answer.paid))
        for seal in answer.seals:
            self._on_seal(seal)
        for result in sorted(answer.results, key=lambda each: each.index):
            self._on_result(result)
        for failure in answer.failures:
            self._on_failure(failure)
        self._needed = int(answer.needed)
        self._has_refused_unpaid = self._has_refused_unpaid and not answer.results
        if self._has_new_allow():
            self._to_tell.set()
        for offer in answer.offers:
            self._on_offer(offer)
        if len(self._taken) >= UNITS_MAX:
            self._to_tell.set()
        self._events.fill()

    def _on_seal(self, seal: Seal) -> None:
        copy = self._copies.get(seal.number)
        if copy is None:
            self._unknown(seal.number)
        elif not copy.is_sealed:
            raise Lie(f"it seals unit {seal.number}, which was ordered without")
        else:
            self._events.on_seal(copy, Hash32(seal.seal))

    def _unknown(self, number: int) -> None:
        """Let pass what has ended meanwhile, and nothing else."""
        if number > self._highest:
            raise Lie(f"it tells of unit {number}, which was never ordered")

    def _on_failure(self, failure: Failure) -> None:
        self._taken[failure.number] = None
        copy = self._copies.get(failure.number)
        if copy is None:
            self._unknown(failure.number)
            return
        was_cancelled = failure.number in self._cancelling
        self._finish(failure.number)
        if failure.reason in ("program", "closing"):
            self._end("closed", f"{failure.reason}: {failure.message}")
            self._events.place_lost(self.k)
        if not was_cancelled:
            self._events.on_failed(copy, failure.reason, failure.message)

    def _on_result(self, result: Result) -> None:
        if result.number in self._finished:
            self._taken[result.number] = None
            return
        copy = self._copies.get(result.number)
        if copy is None:
            self._unknown(result.number)
            self._taken[result.number] = None
            return
        if result.number in self._fetching:
            return
        if copy.is_sealed and (copy.seal is None or not copy.is_open):
            raise Lie(f"it shows the result of unit {result.number} before it was asked for")
        if result.output is not None:
            self._claim(copy, result, result.output)
        elif result.output_bytes > self.terms.rules.output_bytes_max:
            raise Lie(f"unit {result.number} has an output of {result.output_bytes} bytes")
        else:
            self._fetching.add(result.number)
            self._tasks.spawn(self._fetch(copy, result))

    async def _fetch(self, copy: Copy, result: Result) -> None:
        try:
            output = await fetch_output(self._link, self.who, result, ANSWER_SECONDS)
            self._claim(copy, result, output)
        except Lie as lie:
            self.ban(str(lie))
            self._events.place_banned(self.k)
        finally:
            self._fetching.discard(result.number)
        self._events.fill()

    def _claim(self, copy: Copy, result: Result, output: bytes) -> None:
        state = copy.state
        signed = check_result(
            result,
            output,
            self.who,
            self.terms.rules,
            unit=state.unit_id,
            fuel_limit=state.fuel_limit,
            input_bytes=state.input_bytes,
            seal=copy.seal if copy.is_sealed else None,
            price=self.ledger.price,
            find_proof=partial(self._papers.find_proof, result.index),
        )
        self._papers.receive(signed.receipt)
        self.ledger.receive(result.fuel)
        self._finish(result.number)
        self._finished[result.number] = None
        self._taken[result.number] = None
        self._arrivals.append(self._clock())
        self._rate = self._rate_now()
        if self.state != "banned":
            self._events.on_claim(copy, Claim(signed, output, result.log))

    # ------------------------------------------------------------ money

    def _wanted(self) -> int:
        limits = [copy.state.fuel_limit for copy in self._copies.values()]
        return self.ledger.want(
            outstanding=len(limits),
            window=self.limit,
            fuel_limit=max(limits, default=0),
            expected_fuel=self.ledger.expected_fuel or self._expected_fuel(),
            needed=self._needed,
        )

    def wanted(self) -> int:
        """Return the total that it should be able to charge, cap or not."""
        return self._wanted()

    def _next_allow(self) -> Allow | None:
        """Sign the highest allow there is, unless that was sent already."""
        if not self._has_new_allow():
            return None
        terms, total = self.terms, self.ledger.allowed
        self._sent_allow = total
        return Allow(str(total), sign_allow(terms.session_key, terms.domain, terms.job, self.who.k, total))

    def _has_new_allow(self) -> bool:
        self.ledger.allow(self._wanted())
        return self.ledger.allowed > self._sent_allow and not self.ledger.is_banned

    def raised(self) -> None:
        """Note that its cap is higher now."""
        self._has_refused_unpaid = False
        self._to_order.set()
        self._to_tell.set()

    @property
    def is_stuck(self) -> bool:
        """Whether it could go on only with a higher cap."""
        return self._has_refused_unpaid or self._needed > self.ledger.cap

    def _on_offer(self, offer: BatchOffer) -> None:
        if self._papers.consider(offer):
            self._to_tell.set()

    # ------------------------------------------------------------ for people

    def _rate_now(self) -> float:
        """Return how many results come in a second lately; 0 while unknown."""
        if len(self._arrivals) < 4:
            return 0.0
        span = self._arrivals[-1] - self._arrivals[0]
        return len(self._arrivals) / span if span > 0 else 0.0

    def view(self) -> PlaceView:
        """Return a snapshot."""
        ledger = self.ledger
        return PlaceView(
            k=self.who.k,
            miner=checksum_address(self.who.miner),
            price=str(ledger.price),
            cap=str(ledger.cap),
            state=self.state,
            allowed=str(ledger.allowed),
            earned=str(ledger.received),
            committed=str(self.committed),
            paid=str(self.paid),
            reason=self.reason,
            note=self.note,
            workers=self.workers,
            window=self.window,
            ordered=len(self._copies),
            running=self.running,
            queued=self.queued,
            held=self.held,
            done=ledger.units,
            fuel=ledger.fuel,
            units_per_second=round(self._rate, 2),
            silent_seconds=round(self._clock() - self._answered_at, 1),
        )
