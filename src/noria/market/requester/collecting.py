"""News from a miner: seals, results, failures, batches; each is checked before anybody hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from noria.market.messages import (
    NAMES_MAX,
    UNITS_MAX,
    BatchOffer,
    Collect,
    Collected,
    Failure,
    Result,
    Seal,
)
from noria.market.requester.checks import Lie, check_result
from noria.market.requester.desk import ANSWER_SECONDS, GATHER_SECONDS, Desk
from noria.market.requester.link import NotReachable, Refused
from noria.market.requester.transfers import fetch_output
from noria.market.requester.units import Claim, Copy
from noria.primitives.background import BackgroundTasks
from noria.primitives.types import Hash32

BUSY_WAIT_MILLISECONDS: Final = 5_000
IDLE_WAIT_MILLISECONDS: Final = 15_000
TOLD_WAIT_MILLISECONDS: Final = 100
FLIGHTS_MAX: Final = 4
"""Questions for news under way at once; all but the latest are answered at once."""


class Collecting:
    """Asks a miner what has happened, again and again.

    Parameters
    ----------
    desk
        Of the place.
    end
        Ends the place: it takes no more units.
    lied
        Told of a lie that was found beside the questions.
    """

    def __init__(self, desk: Desk, end: Callable[[str], None], lied: Callable[[str], None]) -> None:
        self._desk, self._end, self._lied = desk, end, lied
        self._fetching: set[int] = set()
        self._tasks = BackgroundTasks("place", expected=(NotReachable, Refused, Lie))

    async def stop(self) -> None:
        """Give up what is being fetched."""
        await self._tasks.stop()

    async def run(self) -> None:
        """Ask and take note, until cancelled; raise `Lie` where the miner lies."""
        flights: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        try:
            while True:
                if not flights or (self._desk.to_tell.is_set() and len(flights) < FLIGHTS_MAX):
                    if self._desk.is_busy(0):
                        await asyncio.sleep(GATHER_SECONDS)
                    self._desk.to_tell.clear()
                    flights.add(loop.create_task(self._collect(self._next_collect())))
                if len(flights) >= FLIGHTS_MAX:
                    landed, _ = await asyncio.wait(flights, return_when=asyncio.FIRST_COMPLETED)
                    self._landed(flights, landed)
                    continue
                news = loop.create_task(self._desk.to_tell.wait())
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
        opening = [number for number in self._desk.opening if number in self._desk.copies][:NAMES_MAX]
        # What is told once needs not be told again: after a broken line everything is.
        self._desk.opening.clear()
        flush, self._desk.flush = self._desk.flush, False
        approvals = self._desk.papers.approvals()
        wait = BUSY_WAIT_MILLISECONDS if self._desk.copies else IDLE_WAIT_MILLISECONDS
        return Collect(
            self._desk.terms.job,
            self._desk.who.k,
            # Whether approvals have arrived is known by the answer.
            TOLD_WAIT_MILLISECONDS if approvals else wait,
            taken=list(self._desk.taken)[:NAMES_MAX],
            open=opening,
            cancel=list(self._desk.cancelling)[:NAMES_MAX],
            allow=self._desk.next_allow(),
            approvals=approvals,
            flush=flush,
        )

    async def _collect(self, request: Collect) -> None:
        wait = request.wait_milliseconds / 1000 + ANSWER_SECONDS
        answer = await self._desk.link.ask(request, Collected, timeout_seconds=wait)
        self._desk.answered()
        for number in request.taken:
            self._desk.taken.pop(number, None)
            self._desk.finished.pop(number, None)
        self._desk.papers.told(request.approvals)
        self._on_collected(answer)

    def _on_collected(self, answer: Collected) -> None:
        self._desk.running, self._desk.queued, self._desk.held = answer.running, answer.queued, answer.held
        self._desk.note = answer.note
        self._desk.committed = max(self._desk.committed, int(answer.committed))
        self._desk.paid = max(self._desk.paid, int(answer.paid))
        for seal in answer.seals:
            self._on_seal(seal)
        for result in sorted(answer.results, key=lambda each: each.index):
            self._on_result(result)
        for failure in answer.failures:
            self._on_failure(failure)
        self._desk.needed = int(answer.needed)
        self._desk.has_refused_unpaid = self._desk.has_refused_unpaid and not answer.results
        if self._desk.has_new_allow():
            self._desk.to_tell.set()
        for offer in answer.offers:
            self._on_offer(offer)
        if len(self._desk.taken) >= UNITS_MAX:
            self._desk.to_tell.set()
        self._desk.events.fill()

    def _on_seal(self, seal: Seal) -> None:
        copy = self._desk.copies.get(seal.number)
        if copy is None:
            self._unknown(seal.number)
        elif not copy.is_sealed:
            raise Lie(f"it seals unit {seal.number}, which was ordered without")
        else:
            self._desk.events.on_seal(copy, Hash32(seal.seal))

    def _unknown(self, number: int) -> None:
        """Let pass what has ended meanwhile, and nothing else."""
        if number > self._desk.highest:
            raise Lie(f"it tells of unit {number}, which was never ordered")

    def _on_failure(self, failure: Failure) -> None:
        self._desk.taken[failure.number] = None
        copy = self._desk.copies.get(failure.number)
        if copy is None:
            self._unknown(failure.number)
            return
        was_cancelled = failure.number in self._desk.cancelling
        self._desk.finish(failure.number)
        if failure.reason == "closing" or (failure.reason == "program" and not self._desk.misses_program()):
            self._end(f"{failure.reason}: {failure.message}")
            self._desk.events.place_lost(self._desk.key)
        if not was_cancelled:
            self._desk.events.on_failed(copy, failure.reason, failure.message)

    def _on_result(self, result: Result) -> None:
        if result.number in self._desk.finished:
            self._desk.taken[result.number] = None
            return
        copy = self._desk.copies.get(result.number)
        if copy is None:
            self._unknown(result.number)
            self._desk.taken[result.number] = None
            return
        if result.number in self._fetching:
            return
        if copy.is_sealed and (copy.seal is None or not copy.is_open):
            raise Lie(f"it shows the result of unit {result.number} before it was asked for")
        if result.output is not None:
            self._claim(copy, result, result.output)
        elif result.output_bytes > self._desk.terms.rules.output_bytes_max:
            raise Lie(f"unit {result.number} has an output of {result.output_bytes} bytes")
        else:
            self._fetching.add(result.number)
            self._tasks.spawn(self._fetch(copy, result))

    async def _fetch(self, copy: Copy, result: Result) -> None:
        try:
            output = await fetch_output(self._desk.link, self._desk.who, result, ANSWER_SECONDS)
            self._claim(copy, result, output)
        except Lie as lie:
            self._lied(str(lie))
        finally:
            self._fetching.discard(result.number)
        self._desk.events.fill()

    def _claim(self, copy: Copy, result: Result, output: bytes) -> None:
        state = copy.state
        signed = check_result(
            result,
            output,
            self._desk.who,
            self._desk.terms.rules,
            unit=state.unit_id,
            fuel_limit=state.fuel_limit,
            input_bytes=state.input_bytes,
            seal=copy.seal if copy.is_sealed else None,
            price=self._desk.ledger.price,
            find_proof=partial(self._desk.papers.find_proof, result.index),
        )
        self._desk.papers.receive(signed.receipt)
        self._desk.ledger.receive(result.fuel)
        self._desk.finish(result.number)
        self._desk.finished[result.number] = None
        self._desk.taken[result.number] = None
        self._desk.arrived()
        if not self._desk.ledger.is_banned:
            self._desk.events.on_claim(copy, Claim(signed, output, result.log))

    def _on_offer(self, offer: BatchOffer) -> None:
        if self._desk.papers.consider(offer):
            self._desk.to_tell.set()
