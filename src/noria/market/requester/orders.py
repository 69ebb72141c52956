"""Units on their way to a miner: blobs first, then orders, and again what it had no room for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from noria.market.messages import MESSAGE_BYTES_MAX, UNITS_MAX, Order, Ordered, Unit
from noria.market.messages import Refused as RefusedUnit
from noria.market.requester.desk import ANSWER_SECONDS, GATHER_SECONDS, Desk
from noria.market.requester.transfers import PROGRAM_KIND, put_blob
from noria.market.requester.units import Copy

ORDER_BYTES_MAX: Final = MESSAGE_BYTES_MAX - (256 << 10)
UNIT_BYTES: Final = 256
"""What a unit takes in an order beside its input."""
AGAIN_SECONDS: Final = 0.25
"""Before a unit is ordered again that a miner had no room for."""


class Orders:
    """Sends a place's orders.

    Parameters
    ----------
    desk
        Of the place.
    end
        Ends the place: it takes no more units.
    """

    def __init__(self, desk: Desk, end: Callable[[str], None]) -> None:
        self._desk, self._end = desk, end

    async def run(self) -> None:
        """Order whatever is queued, until cancelled."""
        while True:
            await self._desk.to_order.wait()
            self._desk.to_order.clear()
            while self._desk.queue:
                delay = self._desk.not_before - self._desk.clock()
                if delay <= 0 and self._desk.is_busy(len(self._desk.queue)):
                    delay = GATHER_SECONDS
                if delay > 0:
                    await asyncio.sleep(delay)
                await self._order_some()

    async def _put_program(self) -> None:
        terms, desk = self._desk.terms, self._desk
        if terms.module is not None and terms.program not in desk.stored:
            await put_blob(desk.link, desk.who, terms.program, terms.module, ANSWER_SECONDS, PROGRAM_KIND)
            desk.stored.add(terms.program)

    async def _order_some(self) -> None:
        await self._put_program()
        chosen: list[Copy] = []
        size = 0
        for copy in list(self._desk.queue)[:UNITS_MAX]:
            unit = copy.state.unit
            if unit is None:
                # It has ended meanwhile.
                self._desk.queue.remove(copy)
                self._desk.finish(copy.number)
                continue
            size += UNIT_BYTES + sum(len(part.data) for part in unit.parts if part.blob is None)
            if chosen and size > ORDER_BYTES_MAX:
                break
            for part in unit.parts:
                if part.blob is not None and part.blob not in self._desk.stored:
                    await put_blob(self._desk.link, self._desk.who, part.blob, part.data, ANSWER_SECONDS)
                    self._desk.stored.add(part.blob)
            chosen.append(copy)
        # Putting takes time, in which units may have been taken back.
        chosen = [copy for copy in chosen if copy.state.unit is not None and copy in self._desk.queue]
        if not chosen:
            return
        units = [self._unit(copy) for copy in chosen]
        order = Order(self._desk.terms.job, self._desk.who.k, units, self._desk.next_allow())
        answer = await self._desk.link.ask(order, Ordered, timeout_seconds=ANSWER_SECONDS)
        self._desk.answered()
        self._ordered(chosen, answer.refused)

    @staticmethod
    def _unit(copy: Copy) -> Unit:
        unit = copy.state.unit
        assert unit is not None
        return Unit(copy.number, unit.fuel_limit, [part.message() for part in unit.parts], copy.is_sealed)

    def _ordered(self, chosen: list[Copy], refused: list[RefusedUnit]) -> None:
        reasons = {each.number: each for each in refused}
        # What it has taken is there until it says something else.
        self._desk.queued += sum(copy.number not in reasons for copy in chosen)
        again = False
        for copy in chosen:
            refusal = reasons.get(copy.number)
            if copy in self._desk.queue:
                self._desk.queue.remove(copy)
            elif refusal is None:
                # Taken back while the order was on its way.
                self._desk.cancelling[copy.number] = None
                self._desk.to_tell.set()
            if refusal is None or copy.number not in self._desk.copies:
                continue
            match refusal.reason:
                case "full" | "unpaid" | "blob-missing":
                    if refusal.reason == "blob-missing":
                        self._desk.stored.clear()
                    self._desk.has_refused_unpaid |= refusal.reason == "unpaid"
                    self._desk.queue.append(copy)
                    again = True
                case "number-taken":
                    # Its result was taken before the line broke; or the miner is wrong, and others run it.
                    self._drop(copy, "number-taken", refusal.message, refused=False)
                case "program" if self._desk.misses_program():
                    self._desk.queue.append(copy)
                    again = True
                case "closing" | "program":
                    self._end(f"{refusal.reason}: {refusal.message}")
                    self._desk.events.place_lost(self._desk.key)
                case _:
                    self._drop(copy, refusal.reason, refusal.message, refused=True)
        if again:
            self._desk.not_before = self._desk.clock() + AGAIN_SECONDS
            self._desk.to_order.set()
        if refused:
            self._desk.events.fill()

    def _drop(self, copy: Copy, reason: str, message: str, *, refused: bool) -> None:
        self._desk.finish(copy.number)
        self._desk.events.on_failed(copy, reason, message, refused=refused)
