"""One miner's place of a job: a line that is kept, and what ends it.

A place runs for as long as its job does. What goes wrong on the line is tried again; what shows that the
miner lies ends it. Orders go out in `noria.market.requester.orders`, news come in in
`noria.market.requester.collecting`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from noria.market.access import ChainAccessError, MinerContact
from noria.market.messages import VERSION, Hello, MalformedWorkMessage, Welcome
from noria.market.requester.checks import Claimant, Lie
from noria.market.requester.collecting import Collecting
from noria.market.requester.desk import ANSWER_SECONDS, Desk, JobTerms, PlaceEvents
from noria.market.requester.link import NotReachable, Refused, WorkLink
from noria.market.requester.money import PlaceLedger
from noria.market.requester.orders import Orders
from noria.market.requester.reasons import PlaceView
from noria.market.requester.units import Copy
from noria.market.typed_data import sign_session
from noria.primitives.addresses import checksum_address

__all__ = ["JobTerms", "Place", "PlaceEvents"]

RETRY_SECONDS: Final = (0.2, 10.0)
WORK_SECONDS: Final = 30.0
"""For how long a miner is believed to be at work that has said so; it is asked much more often."""
MISTRUST: Final = ("wrong-terms", "wrong-signature", "old-version", "malformed", "not-mining")
"""Refusals after which there is no point in asking again."""

LOGGER: Final = logging.getLogger("noria.jobs")


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
        key = who.k if key is None else key
        self.who, self.ledger = who, ledger
        self.state, self.reason = "finding", ""
        self.down_since: float | None = clock()
        self._find, self._banned, self._clock = find, banned, clock
        self._desk = Desk(who, terms, ledger, link, events, expected_fuel, key, clock)
        self._orders = Orders(self._desk, self._refuse)
        self._collecting = Collecting(self._desk, self._refuse, self._lied)
        self._ended = asyncio.Event()

    # ------------------------------------------------------------ as PlaceLink

    @property
    def k(self) -> int:
        """Its name among the dispatcher's places."""
        return self._desk.key

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
        return len(self._desk.copies)

    @property
    def is_at_work(self) -> bool:
        """Whether the miner says that it has units of this job, and has said so lately."""
        desk = self._desk
        says_so = desk.running > 0 or desk.queued > 0
        return self.is_usable and says_so and self._clock() - desk.answered_at < WORK_SECONDS

    @property
    def pieces(self) -> int:
        """Pieces of long inputs and outputs that have come or gone."""
        return self._desk.link.pieces

    def room(self) -> int:
        """Return how many more units it may have now."""
        if self.ledger.allowed >= self.ledger.cap > 0 and self._desk.held:
            return 0
        return max(0, self._desk.limit - self.outstanding)

    def eagerness(self) -> float:
        """Return the share of its limit that is free."""
        return self.room() / max(1, self._desk.limit)

    def order(self, copy: Copy) -> None:
        """Send a copy."""
        self._desk.copies[copy.number] = copy
        self._desk.highest = max(self._desk.highest, copy.number)
        self._desk.queue.append(copy)
        self._desk.to_order.set()

    def open(self, copy: Copy) -> None:
        """Ask for a sealed result."""
        self._desk.opening[copy.number] = None
        self._desk.to_tell.set()

    def cancel(self, copy: Copy) -> None:
        """Take a copy back: what has not ended costs nothing."""
        if copy.number not in self._desk.copies:
            return
        if copy in self._desk.queue:
            self._desk.queue.remove(copy)
            self._desk.finish(copy.number)
            return
        self._desk.opening.pop(copy.number, None)
        self._desk.cancelling[copy.number] = None
        self._desk.to_tell.set()

    def verified(self, copy: Copy) -> None:
        """Note that a claim was found right."""
        if copy.claim is not None:
            self.ledger.verify(copy.claim.signed.receipt.fuel)
            self._desk.papers.verified(copy.claim.signed.receipt.index)
            self._desk.see_to_allow()

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
                self._lied(str(lie))
            if not self._ended.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._ended.wait()
                pause = min(2 * pause, RETRY_SECONDS[1])
        await self._collecting.stop()

    def close(self, reason: str = "") -> None:
        """End it: the job is over."""
        if not self.is_over:
            self._end("closed", reason)

    def flush(self) -> None:
        """Ask for a batch of what is there: no more units come for now."""
        self._desk.flush = True
        self._desk.to_tell.set()

    @property
    def is_cancelling(self) -> bool:
        """Whether units are being taken back."""
        return bool(self._desk.cancelling)

    @property
    def is_settled(self) -> bool:
        """Whether all its receipts are in batches whose approvals it has."""
        return self._desk.papers.is_complete or self.is_over

    def _end(self, state: str, reason: str) -> None:
        self.state, self.reason = state, reason
        self.down_since = self.down_since or self._clock()
        self._ended.set()
        self._desk.to_order.set()
        self._desk.to_tell.set()

    def _lied(self, lie: str) -> None:
        self.ban(lie)
        self._desk.events.place_banned(self._desk.key)
        self._desk.events.fill()

    def _refuse(self, reason: str) -> None:
        """Take no more units: the miner does not want the job."""
        self._end("closed", reason)
        self._desk.events.place_lost(self._desk.key)

    def _lost(self, error: Exception) -> None:
        was_ready = self.state == "ready"
        self._desk.link.disconnected()
        if self._ended.is_set():
            return
        self.down_since = self.down_since or self._clock()
        self.state = "silent" if was_ready else "unreachable"
        self.reason = str(error)
        if self._desk.copies:
            self._desk.events.place_lost(self._desk.key)
            self._desk.events.fill()

    def _refused(self, refusal: Refused) -> None:
        if refusal.name == "closed" or refusal.name in MISTRUST:
            self._end("closed", str(refusal))
            self._desk.events.place_lost(self._desk.key)
            self._desk.events.fill()
            return
        # unknown-job: its node has not seen the block yet; no-session: it has restarted; busy: later.
        self.state, self.reason = "greeting", str(refusal)
        self.down_since = self.down_since or self._clock()

    async def _greet(self) -> None:
        contact = await self._find()
        if contact is None:
            raise NotReachable("the miner is not registered any more")
        await self._desk.link.connect(contact)
        terms = self._desk.terms
        signature = sign_session(terms.session_key, terms.domain, terms.job, self.who.k, terms.peer)
        hello = Hello(VERSION, terms.job, self.who.k, terms.program, terms.details, signature)
        welcome = await self._desk.link.ask(hello, Welcome, timeout_seconds=ANSWER_SECONDS)
        self._desk.answered()
        if welcome.miner != self.who.miner:
            raise Lie(f"another miner answers at its place: {checksum_address(self.who.miner)} was drawn")
        self._desk.workers, self._desk.window = max(1, welcome.workers), max(1, welcome.window)
        self._desk.greeted(set(welcome.known))
        self.state, self.reason, self.down_since = "ready", "", None
        self._desk.events.place_back(list(self._desk.copies.values()))
        self._desk.events.fill()

    async def _talk(self) -> None:
        loop = asyncio.get_running_loop()
        parts: list[asyncio.Task[Any]] = [
            loop.create_task(self._orders.run()),
            loop.create_task(self._collecting.run()),
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

    def wanted(self) -> int:
        """Return the total that it should be able to charge, cap or not."""
        return self._desk.wanted()

    @property
    def is_in_question(self) -> bool:
        """Whether it may have lied, which this machine is finding out."""
        return self._desk.is_in_question

    def see_to_allow(self) -> None:
        """Let it have what it waits for and can have now."""
        self._desk.see_to_allow()

    def raised(self) -> None:
        """Note that its cap is higher now."""
        self._desk.has_refused_unpaid = False
        self._desk.to_order.set()
        self._desk.to_tell.set()

    @property
    def is_stuck(self) -> bool:
        """Whether it could go on only with a higher cap, and not once what it has claimed is confirmed."""
        is_short = self._desk.has_refused_unpaid or self._desk.needed > self.ledger.cap
        is_unconfirmed = self.ledger.received > self.ledger.verified
        return is_short and (not is_unconfirmed or self.wanted() > self.ledger.cap)

    # ------------------------------------------------------------ for people

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
            committed=str(self._desk.committed),
            paid=str(self._desk.paid),
            reason=self.reason,
            note=self._desk.note,
            workers=self._desk.workers,
            window=self._desk.window,
            ordered=len(self._desk.copies),
            running=self._desk.running,
            queued=self._desk.queued,
            held=self._desk.held,
            done=ledger.units,
            fuel=ledger.fuel,
            units_per_second=round(self._desk.rate, 2),
            silent_seconds=round(self._clock() - self._desk.answered_at, 1),
        )
