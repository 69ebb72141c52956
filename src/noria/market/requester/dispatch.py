"""Which unit goes to which miners, when it is settled, and who has lied.

No sockets here: places are told what to order, open and cancel, and report what came. All of it belongs to
one event loop. A unit goes to as many different places as there are replicas; a copy that fails, or whose
miner is lost or banned, is replaced at another one, and near the end slow copies are run elsewhere, too.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, Final

from noria._core import MachineFailure
from noria.market.requester.compare import Verdict, judge
from noria.market.requester.disputes import Disputes
from noria.market.requester.errors import NoAgreement, NoMachine, UnitRefused
from noria.market.requester.evidence import Settled
from noria.market.requester.outcomes import difference, outcome_of, settled_unit
from noria.market.requester.pace import Pace
from noria.market.requester.place_link import Counts, PlaceLink
from noria.market.requester.sampling import OwnRuns, private_choice
from noria.market.requester.units import Claim, Copy, Key, UnitState, WorkUnit, outcome_key
from noria.primitives.types import Hash32

TROUBLES_MAX: Final = 4
"""Failed copies after which a unit is given up."""
LOOK_AHEAD: Final = 64
"""Units with a missing copy that are looked at in one go."""
SHORT_SECONDS: Final = 15.0
"""How long to wait for enough miners before own runs take the place of replicas."""

LOGGER: Final = logging.getLogger("noria.jobs")


class Dispatcher:
    """Hands units out and settles them.

    Parameters
    ----------
    replicas
        Claims that must agree.
    sample
        Share of the units that is run here, too.
    own_runs
        What runs them; None where this machine cannot.
    spawn
        Runs something beside.
    keep
        Told of every unit that is settled, before whoever waits for it.
    clock, source
        Seconds, and randomness for the sample; for tests.

    Attributes
    ----------
    places
        By number; the owner adds them.
    wants_place
        Whether units wait for a further miner.
    """

    def __init__(
        self,
        replicas: int,
        sample: float,
        *,
        own_runs: OwnRuns | None,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        keep: Callable[[Settled], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        source: random.Random | None = None,
    ) -> None:
        self.replicas = replicas
        self.places: dict[int, PlaceLink] = {}
        self.counts = Counts()
        self.wants_place = False
        self._own_runs = own_runs
        self._is_sampled = private_choice(sample, source)
        self._spawn, self._keep = spawn, keep
        self._clock = clock
        self._waiting: deque[UnitState] = deque()
        self._again: deque[UnitState] = deque()
        self._states: dict[WorkUnit, UnitState] = {}
        self._active: dict[UnitState, None] = {}
        self._pace, self._disputes = Pace(), Disputes()
        self._numbers = 0
        self._short_since: float | None = None
        self._is_filling = False

    @property
    def waiting(self) -> int:
        """Units that no miner has."""
        return len(self._waiting)

    @property
    def live(self) -> int:
        """Units that have not ended."""
        return len(self._states)

    @property
    def is_running_here(self) -> bool:
        """Whether this machine runs a unit."""
        return any(state.own_running for state in self._active)

    @property
    def expected_fuel(self) -> float | None:
        """Fuel of a unit, as far as known."""
        return self.counts.fuel / self.counts.done if self.counts.done else None

    # ------------------------------------------------------------ from whoever orders

    def add(self, unit: WorkUnit) -> None:
        """Take a unit on."""
        state = UnitState(
            unit, unit.unit_id, unit.fuel_limit, unit.input_bytes, self.replicas, self._is_sampled()
        )
        if state.wants_own_run and self._own_runs is None:
            state.wants_own_run = False
        self._states[unit] = state
        self._waiting.append(state)
        self.counts.units += 1

    def stop(self, unit: WorkUnit) -> None:
        """Let nobody run a unit any more; it fails with `CancelledError` unless it has ended."""
        state = self._states.get(unit)
        if state is None:
            return
        state.is_stopped = True
        self.counts.stopped += 1
        self._end(state)
        unit.failed(CancelledError())

    def fail_all(self, error: Exception) -> None:
        """End all units that have not ended."""
        for state in list(self._states.values()):
            self._fail(state, error)

    # ------------------------------------------------------------ handing out

    def fill(self) -> None:
        """Give out what can be given out now."""
        if self._is_filling:
            return
        self._is_filling = True
        try:
            self._fill()
        finally:
            self._is_filling = False

    def _fill(self) -> None:
        usable = [place for place in self.places.values() if place.is_usable]
        now = self._clock()
        if len(usable) >= self.replicas or not self._states:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = now
        self.wants_place = bool(self._states) and len(usable) < self.replicas
        free = self._free_of(usable)
        self._fill_again(usable, free)
        while self._waiting:
            state = self._waiting[0]
            if state.ended:
                self._waiting.popleft()
                continue
            if self._is_short(now):
                self._make_do(state, usable)
            if not self._give(state, free, at_least=state.required):
                return
            self._waiting.popleft()

    def _free_of(self, usable: list[PlaceLink]) -> list[PlaceLink]:
        return [place for place in usable if not self.is_in_question(place.k)]

    def _fill_again(self, usable: list[PlaceLink], free: list[PlaceLink]) -> None:
        for _ in range(min(len(self._again), LOOK_AHEAD)):
            state = self._again.popleft()
            if not state.ended and self._is_short(self._clock()):
                self._make_do(state, usable)
                self._judge(state)
            if _is_over(state):
                continue
            missing = state.required - len(state.live())
            if missing <= 0:
                self._maybe_open(state)
                continue
            self._give(state, free, at_least=1)
            if state.required > len(state.live()):
                self._again.append(state)
                self.wants_place = self.wants_place or not self._candidates(state, usable, 0)

    def _candidates(self, state: UnitState, usable: list[PlaceLink], room: int = 1) -> list[PlaceLink]:
        return [place for place in usable if place.k not in state.tried and place.room() >= room]

    def _give(self, state: UnitState, usable: list[PlaceLink], *, at_least: int) -> bool:
        """Order the copies of a unit that are missing; tell whether at least so many could be."""
        missing = state.required - len(state.live())
        chosen = self._candidates(state, usable)
        if len(chosen) < min(at_least, missing):
            return False
        if not state.copies and not self._begin(state):
            return True
        chosen.sort(key=lambda place: place.eagerness(), reverse=True)
        for place in chosen[:missing]:
            self._order(state, place)
        return True

    def _begin(self, state: UnitState) -> bool:
        unit = state.unit
        assert unit is not None
        if not unit.started():
            # It was cancelled while it waited.
            self.stop(unit)
            return False
        state.first_at = self._clock()
        self._active[state] = None
        return True

    def _order(self, state: UnitState, place: PlaceLink) -> None:
        self._numbers += 1
        now = self._clock()
        copy = Copy(state, place.k, self._numbers, now, is_sealed=state.required > 1, waits_since=now)
        state.copies.append(copy)
        state.tried.add(place.k)
        place.order(copy)

    def _is_short(self, now: float) -> bool:
        since = self._short_since
        return self._own_runs is not None and since is not None and now - since > SHORT_SECONDS

    def _make_do(self, state: UnitState, usable: list[PlaceLink]) -> None:
        """Where too few miners are left, an own run is worth more than the replicas that are missing."""
        reachable = len([place for place in usable if place.k not in state.tried]) + len(state.live())
        if 1 <= reachable < state.required:
            state.required = reachable
            state.wants_own_run = True

    def tick(self) -> None:
        """See to what only time tells: slow copies, units for which nobody is left. Call it now and then."""
        self.fill()
        free = self._free_of([place for place in self.places.values() if place.is_usable])
        now = self._clock()
        limit = self._pace.patience(others_wait=bool(self._waiting))
        for state in list(self._active):
            if state.ended or len(state.live()) > state.required:
                continue
            since = [copy.waits_since for copy in state.live() if copy.waits_since is not None]
            is_late = any(now - each > limit for each in since)
            if is_late and (chosen := self._candidates(state, free)):
                self.counts.replaced += 1
                self._order(state, max(chosen, key=lambda place: place.eagerness()))

    # ------------------------------------------------------------ from places

    def on_seal(self, copy: Copy, seal: Hash32) -> None:
        """Take note of a seal."""
        if copy.seal is None:
            self.counts.news += 1
            copy.seal, copy.waits_since = seal, None
            if not copy.is_dropped:
                self._pace.took(self._clock() - copy.ordered_at)
        elif copy.seal != seal:
            self._ban(copy.k, f"it sealed unit {copy.number} twice, differently")
            return
        self._maybe_open(copy.state)

    def _maybe_open(self, state: UnitState) -> None:
        if state.ended:
            return
        ready = [copy for copy in state.live() if copy.seal is not None or copy.claim is not None]
        if len(ready) < state.required:
            return
        for copy in ready:
            if copy.claim is None and not copy.is_open:
                copy.is_open = True
                copy.waits_since = self._clock()
                self.places[copy.k].open(copy)

    def on_claim(self, copy: Copy, claim: Claim) -> None:
        """Take note of a result whose receipt holds."""
        state = copy.state
        self.counts.news += 1
        copy.claim, copy.waits_since = claim, None
        if copy.seal is None and not copy.is_dropped:
            self._pace.took(self._clock() - copy.ordered_at)
        if not state.ended:
            self._judge(state)
            self._maybe_open(state)
        elif state.accepted is not None:
            self._compare_late(copy, claim.key, state.accepted)
        else:
            self._accept_copy(copy)

    def _compare_late(self, copy: Copy, key: Key, accepted: Key) -> None:
        if key == accepted:
            self._accept_copy(copy)
        else:
            self._ban(copy.k, difference(copy, key, accepted))

    def on_failed(self, copy: Copy, reason: str, message: str, *, refused: bool = False) -> None:
        """Take note that a place did not run a copy."""
        state = copy.state
        # Also of a place that was given up for lost: otherwise nobody would ask it for this unit again.
        copy.is_dropped = True
        if state.ended:
            return
        state.troubles.append(f"{reason}: {message}" if message else reason)
        others = [place for place in self.places.values() if place.is_usable and place.k not in state.tried]
        if not others:
            if refused:
                self._fail(state, UnitRefused(f"no miner takes the unit: {'; '.join(state.troubles[-3:])}"))
                return
            state.tried = {other.k for other in state.live()}
        if len(state.troubles) >= TROUBLES_MAX:
            told = "; ".join(dict.fromkeys(state.troubles))
            self._fail(state, NoMachine(f"miners could not run the unit: {told}; this says nothing about it"))
            return
        self._miss(state)

    def place_lost(self, k: int) -> None:
        """Give what a place has not told to others; it may come back."""
        for state in list(self._active):
            for copy in state.copies:
                if copy.k == k and copy.claim is None and not copy.is_dropped:
                    copy.is_dropped = True
                    self._miss(state)

    def place_back(self, copies: list[Copy]) -> None:
        """Count a place's copies again."""
        for copy in copies:
            state = copy.state
            # Meanwhile the place may have been given the unit again: it has one voice.
            if not state.ended and all(other.k != copy.k for other in state.live()):
                copy.is_dropped = False
                # Whoever has been forgotten as tried meanwhile must not be given the unit a second time.
                state.tried.add(copy.k)

    def place_closed(self, k: int) -> None:
        """Give what a place has not told to others, for good."""
        self.place_lost(k)

    def place_banned(self, k: int) -> None:
        """Discard everything that a place said and that is not settled."""
        concerned = [state for state in self._active if any(copy.k == k for copy in state.copies)]
        for state in concerned:
            for copy in state.copies:
                if copy.k == k:
                    copy.is_dropped, copy.claim = True, None
            # A dispute with the liar is none any more.
            state.required = min(state.required, self.replicas)
            self._miss(state)
        for state in concerned:
            if not state.ended:
                self._judge(state)

    def _miss(self, state: UnitState) -> None:
        if not state.ended and state not in self._again:
            self._again.append(state)

    # ------------------------------------------------------------ settling

    def is_in_question(self, k: int) -> bool:
        """Tell whether this machine is finding out if a place has lied: it gets nothing more until then."""
        return self._disputes.await_own_run(k)

    def _judge(self, state: UnitState) -> None:
        truth = None if state.outcome is None else outcome_key(state.outcome)
        verdict = judge(state.live(), state.required, truth)
        self._disputes.note(state, is_disputed=truth is None and verdict.is_disputed)
        can_run = self._own_runs is not None and not state.own_failed
        if truth is None and verdict.is_disputed and (can_run or verdict.key is None):
            # A majority may be of liars: where this machine can run the unit, it decides.
            self._dispute(state)
            return
        if verdict.key is None:
            return
        if truth is None and state.wants_own_run:
            self._run_here(state)
            return
        self._accept(state, verdict)

    def _dispute(self, state: UnitState) -> None:
        if self._own_runs is not None and not state.own_failed:
            self.counts.disputes += not state.own_running
            state.wants_own_run = True
            self._run_here(state)
            return
        claims = sum(copy.claim is not None for copy in state.live())
        if claims < len(state.live()) or state.required > claims:
            return  # Another opinion is on its way.
        self.counts.disputes += 1
        usable = [place for place in self.places.values() if place.is_usable]
        if not self._candidates(state, usable, 0):
            self.wants_place = True
            others = [copy.k for copy in state.live()]
            self._fail(
                state,
                NoAgreement(
                    f"the miners of places {', '.join(map(str, others))} gave different results, no other "
                    "miner is left to ask, and this machine cannot run the unit: install the runtime "
                    "here, or ask for more miners"
                ),
            )
            return
        state.required = claims + 1
        self._again.append(state)
        self.fill()

    def _run_here(self, state: UnitState) -> None:
        if not state.own_running and not state.own_failed and state.outcome is None:
            state.own_running = True
            self.counts.own_runs += 1
            self._spawn(self._own_run(state))

    async def _own_run(self, state: UnitState) -> None:
        unit, runs = state.unit, self._own_runs
        if unit is None or runs is None:
            return
        try:
            state.outcome = await runs.run(unit.input, unit.fuel_limit)
        except (MachineFailure, RuntimeError, ValueError, OSError) as error:
            LOGGER.warning("unit 0x%s could not be run on this machine: %s", state.unit_id.hex(), error)
            state.own_failed = True
            if not state.ended:
                self._without_own_run(state, error)
            return
        finally:
            state.own_running = False
        if not state.ended:
            self._judge(state)
            self.fill()

    def _without_own_run(self, state: UnitState, error: Exception) -> None:
        """Settle a unit of which this machine cannot say anything: the miners must."""
        state.wants_own_run = False
        verdict = judge(state.live(), max(state.required, self.replicas), None)
        if verdict.key is not None:
            self._accept(state, verdict)
        elif verdict.is_disputed:
            self._dispute(state)
        else:
            self._fail(state, NoAgreement(f"the result could not be checked on this machine: {error}"))

    def _accept(self, state: UnitState, verdict: Verdict) -> None:
        unit = state.unit
        assert unit is not None
        assert verdict.key is not None
        state.accepted = verdict.key
        told = [copy.claim for copy in verdict.right if copy.claim is not None]
        outcome = state.outcome or outcome_of(told[0])
        signed = tuple(claim.signed for claim in told)
        settled = settled_unit(
            unit, outcome, signed, self._clock() - state.first_at, state.outcome is not None
        )
        for copy in verdict.right:
            self._accept_copy(copy)
        self.counts.done += 1
        self.counts.fuel += outcome.fuel
        self._end(state)
        for copy in state.copies:
            claim = copy.claim
            if claim is not None:
                # Wrong, or of a copy that was given up meanwhile.
                self._compare_late(copy, claim.key, verdict.key)
        self._keep(settled)
        unit.settled(settled)

    def _accept_copy(self, copy: Copy) -> None:
        copy.is_verified = True
        self.places[copy.k].verified(copy)
        # Its receipt is kept by the place; the output is not needed any more.
        copy.claim = None

    def _fail(self, state: UnitState, error: Exception) -> None:
        unit = state.unit
        if unit is None or state.ended:
            return
        self.counts.failed += 1
        if not state.copies:
            # Whoever waits for it must see it begin before it ends.
            unit.started()
        self._end(state)
        unit.failed(error)

    def _end(self, state: UnitState) -> None:
        """Forget a unit; who waits for it is told by the caller."""
        unit, state.unit = state.unit, None
        state.ended = True
        if unit is not None:
            self._states.pop(unit, None)
        self._active.pop(state, None)
        self._disputes.note(state, is_disputed=False)
        state.outcome = None
        for copy in state.copies:
            if copy.claim is not None and state.accepted is None:
                # Nobody wants the unit any more, so nobody compares; the work was done.
                self._accept_copy(copy)
            elif copy.claim is None and not copy.is_verified:
                copy.is_dropped = True
                self.places[copy.k].cancel(copy)

    def _ban(self, k: int, reason: str) -> None:
        place = self.places[k]
        place.ban(reason)
        self.place_banned(k)
        self.fill()


def _is_over(state: UnitState) -> bool:
    return state.ended
