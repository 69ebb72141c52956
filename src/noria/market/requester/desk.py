"""What is known of one place: its units on their way, what is to be said, what may be charged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Final, Protocol

from noria.market.messages import Allow
from noria.market.requester.checks import Claimant, ClaimRules
from noria.market.requester.link import WorkLink
from noria.market.requester.money import PlaceLedger
from noria.market.requester.paperwork import Paperwork
from noria.market.requester.units import Claim, Copy
from noria.market.typed_data import Domain, sign_allow
from noria.primitives.keys import PrivateKey
from noria.primitives.types import Hash32
from noria.work.ids import ProgramId

OUTSTANDING_MAX: Final = 60
"""Units at a place that are not released: a miner begins no more while it holds a few more than that."""
HORIZON_SECONDS: Final = 2.0
"""A place is given work for so long, as fast as it was lately."""
WORKERS_AHEAD: Final = 2
"""Before its speed is known: so many units for each worker."""
ANSWER_SECONDS: Final = 6.0
"""For an answer, beyond what it was asked to wait."""
GATHER_SECONDS: Final = 0.01
"""How long more is waited for before a message to a busy miner goes out."""
RATE_ARRIVALS: Final = 64
PUTS_AGAIN: Final = 8
"""How often a place is brought the program that it says it has not, or has no more."""


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

    def is_in_question(self, k: int) -> bool:
        """Tell whether this machine is finding out if a place has lied."""
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
    module
        The program, where miners must be brought it; None where all have it.
    """

    domain: Domain
    job: int
    session_key: PrivateKey
    program: ProgramId
    details: bytes
    rules: ClaimRules
    peer: str
    module: bytes | None = None


class Desk:
    """One place's state, which its orders, its questions and its owner share.

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
    events
        Who is told what happens.
    expected_fuel
        Tells what a unit burns, as far as known.
    key
        Its name for `events`.
    clock
        Seconds.

    Attributes
    ----------
    workers, window, running, queued, held, note, committed, paid
        As the miner told them last.
    papers
        Receipts and batches.
    queue
        Copies to be ordered.
    copies
        All that are not released, by number.
    finished
        Numbers whose results have come, until the miner has forgotten them.
    taken, opening, cancelling
        Numbers that the miner is to be told.
    highest
        Highest number that was ever ordered.
    stored
        Blobs that the miner has, and the program.
    needed
        Total that the next result needs, as the miner says.
    sent_allow
        Highest allow that is on its way.
    to_order, to_tell
        Set when there is something to order, or to tell.
    """

    def __init__(
        self,
        who: Claimant,
        terms: JobTerms,
        ledger: PlaceLedger,
        link: WorkLink,
        events: PlaceEvents,
        expected_fuel: Callable[[], float | None],
        key: int,
        clock: Callable[[], float],
    ) -> None:
        self.who, self.terms, self.ledger, self.link, self.events = who, terms, ledger, link, events
        self.key, self.clock = key, clock
        self._expected_fuel = expected_fuel
        self.papers = Paperwork(who, terms.domain, terms.session_key)
        self.workers = self.window = self.running = self.queued = self.held = 0
        self.committed = self.paid = 0
        self.note = ""
        self.queue: deque[Copy] = deque()
        self.copies: dict[int, Copy] = {}
        self.finished: dict[int, None] = {}
        self.taken: dict[int, None] = {}
        self.opening: dict[int, None] = {}
        self.cancelling: dict[int, None] = {}
        self.highest = 0
        self.stored: set[bytes] = set()
        self._puts_left = PUTS_AGAIN
        self.needed = 0
        self.sent_allow = 0
        self.has_refused_unpaid = False
        self.flush = False
        self.not_before = 0.0
        self.answered_at = clock()
        self.rate = 0.0
        self._arrivals: deque[float] = deque(maxlen=RATE_ARRIVALS)
        self.to_order = asyncio.Event()
        self.to_tell = asyncio.Event()

    @property
    def limit(self) -> int:
        """Most units that it should have."""
        ahead = max(WORKERS_AHEAD * self.workers, ceil(self.rate * HORIZON_SECONDS))
        return min(self.window, OUTSTANDING_MAX, max(2, ahead))

    def is_busy(self, waiting: int) -> bool:
        """Tell whether the miner has enough to do: then one message with more is better than a quick one."""
        return len(self.copies) - waiting > WORKERS_AHEAD * self.workers

    def answered(self) -> None:
        """Note that the miner has answered."""
        self.answered_at = self.clock()

    def arrived(self) -> None:
        """Note that a result has come; `rate` is how many do in a second, lately."""
        self._arrivals.append(self.clock())
        span = self._arrivals[-1] - self._arrivals[0]
        if len(self._arrivals) >= 4 and span > 0:
            self.rate = len(self._arrivals) / span

    def finish(self, number: int) -> None:
        """Forget a copy."""
        self.copies.pop(number, None)
        self.opening.pop(number, None)
        self.cancelling.pop(number, None)

    def greeted(self, known: set[int]) -> None:
        """Prepare to tell a miner everything anew that has just said which units it has."""
        # It may have lost blobs, too.
        self.stored.clear()
        self.sent_allow = 0
        queued = set(self.queue)
        for number, copy in self.copies.items():
            if number not in known and copy not in queued and number not in self.cancelling:
                self.queue.append(copy)
            if copy.is_open:
                self.opening[number] = None
        self.to_order.set()
        self.to_tell.set()

    def misses_program(self) -> bool:
        """Note that the miner cannot run the program; tell whether bringing it again may help."""
        program = self.terms.program
        if self.terms.module is None:
            return False
        if program in self.stored:
            if not self._puts_left:
                return False
            self._puts_left -= 1
            self.stored.discard(program)
        return True

    # ------------------------------------------------------------ money

    def wanted(self) -> int:
        """Return the total that it should be able to charge, cap or not."""
        if self.is_in_question:
            return self.ledger.allowed
        limits = [copy.state.fuel_limit for copy in self.copies.values()]
        claims = [other.claim for copy in self.copies.values() for other in copy.state.copies]
        return self.ledger.want(
            outstanding=len(limits),
            window=self.limit,
            fuel_limit=max(limits, default=0),
            expected_fuel=self.ledger.expected_fuel or self._expected_fuel(),
            needed=self.needed,
            awaited_fuel=sum(claim.signed.receipt.fuel for claim in claims if claim is not None),
        )

    @property
    def is_in_question(self) -> bool:
        """Whether it may have lied, which this machine is finding out: nothing more is allowed until then."""
        return self.events.is_in_question(self.key)

    def see_to_allow(self) -> None:
        """Tell the miner at once where it waits for an allow that it can have now."""
        if self.needed > self.sent_allow and self.has_new_allow():
            self.to_tell.set()

    def has_new_allow(self) -> bool:
        """Tell whether more may be charged than the miner was told."""
        self.ledger.allow(self.wanted())
        return self.ledger.allowed > self.sent_allow and not self.ledger.is_banned

    def next_allow(self) -> Allow | None:
        """Sign the highest allow there is, unless that was sent already."""
        if not self.has_new_allow():
            return None
        terms, total = self.terms, self.ledger.allowed
        self.sent_allow = total
        return Allow(str(total), sign_allow(terms.session_key, terms.domain, terms.job, self.who.k, total))
