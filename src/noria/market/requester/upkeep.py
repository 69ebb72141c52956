"""What a running job needs now and then: money where it is used, and further miners where some fail."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from noria.market.access import ChainAccessError
from noria.market.contracts import PLACES_MAX
from noria.market.requester.chain import JobChain, JobPlan
from noria.market.requester.dispatch import Dispatcher
from noria.market.requester.errors import BudgetSpent
from noria.market.requester.money import Purse
from noria.market.requester.place import Place
from noria.primitives.amounts import format_amount
from noria.primitives.types import Wei

SPENT_SECONDS: Final = 2.0
"""How long all miners must be without money before the budget counts as used up."""
REPLACE_SECONDS: Final = 12.0
"""After which a miner that cannot be reached is replaced."""
EXTEND_PAUSE_SECONDS: Final = 20.0
"""Between two attempts to draw a further miner."""

LOGGER: Final = logging.getLogger("noria.jobs")


class Upkeep:
    """Moves a job's money to its places, and has further miners drawn. Belongs to the job's event loop.

    Parameters
    ----------
    chain, plan, purse, dispatcher
        The job's.
    places
        The job's own list, which changes.
    spawn
        Runs something beside.
    warn
        Told what the user should know.
    clock
        Seconds.
    """

    def __init__(
        self,
        chain: JobChain,
        plan: JobPlan,
        purse: Purse,
        dispatcher: Dispatcher,
        places: list[Place],
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        warn: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._chain, self._plan, self._purse = chain, plan, purse
        self._dispatcher, self._places = dispatcher, places
        self._spawn, self._warn, self._clock = spawn, warn, clock
        self._problem = ""
        self._spent_since: float | None = None
        self._extend_at = 0.0
        self._is_extending = False

    def look(self, job: int) -> None:
        """See to everything. Call it now and then, with the job's number of now."""
        self._see_to_money(job)
        self._see_to_places(job)

    def funded(self, job: int) -> None:
        """Take note that the budget has grown."""
        self._spent_since = None
        self._see_to_money(job)

    def take_problem(self) -> str:
        """Return what went wrong since this was asked last; empty if nothing did."""
        problem, self._problem = self._problem, ""
        return problem

    def _see_to_money(self, job: int) -> None:
        working = [place for place in self._places if place.is_usable]
        for place in working:
            place.see_to_allow()
            if place.is_in_question:
                continue
            amount = self._purse.plan_raise(place.who.k, place.wanted(), others=len(working) - 1)
            if amount > 0:
                self._purse.begin_raise(place.who.k, amount)
                self._spawn(self._raise_cap(job, place, amount))
        if self._purse.should_warn():
            spent, budget = format_amount(Wei(self._purse.spent)), format_amount(Wei(self._purse.budget))
            self._warn(
                f"{spent} of the budget of {budget} are spent: add to it with executor.top_up(…) if more is "
                "to be done"
            )
        self._look_for_the_end_of_money(working)

    async def _raise_cap(self, job: int, place: Place, amount: int) -> None:
        ok = False
        try:
            await self._chain.raise_cap(job, place.who.k, amount)
            ok = True
        except ChainAccessError as error:
            self._problem = f"a miner's share could not be raised: {error}"
        finally:
            if place.who.k in self._purse.places:
                self._purse.end_raise(place.who.k, ok=ok)
                place.raised()

    def _look_for_the_end_of_money(self, working: list[Place]) -> None:
        # What is free would have been given to a place by now if it were of any use there.
        is_spent = (
            bool(self._dispatcher.live)
            and not self._purse.raising
            and any(place.is_stuck for place in working)
            and all(place.is_stuck or not place.outstanding for place in working)
        )
        if not is_spent:
            self._spent_since = None
        elif self._spent_since is None:
            self._spent_since = self._clock()
        elif self._clock() - self._spent_since > SPENT_SECONDS:
            self._spent_since = None
            self._dispatcher.fail_all(
                BudgetSpent(
                    f"the budget is used up: {format_amount(Wei(self._purse.spent))} of "
                    f"{format_amount(Wei(self._purse.budget))} are spent for {self._dispatcher.counts.done} "
                    'units; executor.top_up("1 NOR") adds to it, then submit again what is missing'
                )
            )

    def _see_to_places(self, job: int) -> None:
        """Have a further miner drawn where one is missing for long."""
        plan, now = self._plan, self._clock()
        if plan.named or self._is_extending or now < self._extend_at or not self._dispatcher.live:
            return
        missing = [
            place
            for place in self._places
            if not place.is_usable and (place.is_over or now - (place.down_since or now) > REPLACE_SECONDS)
        ]
        usable = len(self._places) - len(missing)
        wanted = plan.miners if len(self._places) >= plan.miners else plan.replicas
        share = min(plan.share, self._purse.free - sum(self._purse.raising.values()))
        if usable < wanted and len(self._places) < PLACES_MAX and share > 0:
            self._is_extending = True
            self._spawn(self._extend(job, share))

    async def _extend(self, job: int, share: int) -> None:
        try:
            await self._chain.extend(job, share)
            self._purse.free -= share
            self._extend_at = self._clock() + 1.0
        except ChainAccessError as error:
            LOGGER.info("no further miner for job %s: %s", job, error)
            self._extend_at = self._clock() + EXTEND_PAUSE_SECONDS
        finally:
            self._is_extending = False
