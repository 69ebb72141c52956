"""Checking certificates: running their units again, off the critical path (protocol 4.5)."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

import structlog

from noria._core import CacheFailure, MachineFailure
from noria.chain.unit_runner import UnitRunner
from noria.chain.verify_budget import VerifyBudget
from noria.consensus.certificate import Certificate
from noria.consensus.parameters import ChainParameters
from noria.consensus.validity import CertificateRefuted, check_result
from noria.primitives.types import Hash32
from noria.work.ids import blob_id
from noria.work.workers import InvalidProgram, Outcome, PoolClosed, ProgramMissing, QueueFull

WAITING_MAX: Final = 1024
"""Certificates that wait, and as many others that an alarm may bring forward. Where more wait, the lowest in
priority is put aside."""
INPUT_BYTES_MAX: Final = 64 << 20
"""Of their inputs, of those and of these."""
STATES_MAX: Final = 65_536
PAUSE_SECONDS_MIN: Final = 0.001
_BLOCK, _ALARM = 0, 1
_POOL_PRIORITY: Final = {_BLOCK: 0, _ALARM: 10}

_PRIVATE: Final = random.SystemRandom()

_log = structlog.get_logger(__name__)


class CheckState(Enum):
    """What is known about a block's certificate."""

    EMPTY = "empty"
    """The draw fell on a grant: there is nothing to run."""
    NOT_DRAWN = "not drawn"
    """This node has not looked at it; others do."""
    WAITING = "waiting"
    CHECKING = "checking"
    DOUBTED = "doubted"
    """This machine has found another result, which a second engine has not confirmed yet."""
    RIGHT = "right"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    """This machine could not tell. An alarm lets it try again."""


PENDING: Final = (CheckState.WAITING, CheckState.CHECKING, CheckState.DOUBTED)
"""What will be settled, unless the block is forgotten or more urgent checks take its place."""


class Verdicts(Protocol):
    """What is remembered about receipts, whatever block shows them."""

    def verdict(self, receipt: Hash32) -> bool | None:
        """Return whether a receipt is right, `None` if that is not known."""
        ...

    def put_verdict(self, receipt: Hash32, is_right: bool, slot: int) -> None:
        """Remember it."""
        ...


@dataclass(order=True, slots=True)
class _Check:
    order: tuple[int, int]
    root: Hash32 = field(compare=False)
    certificate: Certificate = field(compare=False)
    input: bytes = field(compare=False)
    slot: int = field(compare=False)
    urgency: int = field(compare=False, default=_BLOCK)


class CertificateChecker:
    """Runs the units of certificates again, one at a time, within a share of one core.

    Parameters
    ----------
    runner
        Runs units.
    verdicts
        Remembers what came of it.
    parameters
        The chain's, with ``VERIFY_SHARE``; alarms may take as much again.
    settled
        Called with a block's root when its state has become `RIGHT`, `REFUTED` or `UNDECIDED`.
    doubted
        Called with a block's root when it has become `DOUBTED`; `settled` follows.
    draw
        A private random number from 0 to 1, exclusive.
    """

    def __init__(
        self,
        runner: UnitRunner,
        verdicts: Verdicts,
        *,
        parameters: ChainParameters,
        settled: Callable[[Hash32, CheckState], None],
        doubted: Callable[[Hash32], None] = lambda root: None,
        draw: Callable[[], float] = _PRIVATE.random,
    ) -> None:
        self._runner, self._verdicts = runner, verdicts
        self._settled, self._doubted = settled, doubted
        self._parameters, self._draw = parameters, draw
        self._states: OrderedDict[Hash32, CheckState] = OrderedDict()
        self._known: OrderedDict[Hash32, _Check] = OrderedDict()
        self._known_bytes = 0
        self._heap: list[_Check] = []
        self._count = itertools.count()
        self._wake = asyncio.Event()
        self._budgets: dict[int, VerifyBudget] = {}

    def state(self, root: Hash32) -> CheckState | None:
        """Return what is known about a block's certificate; `None` for a block that is not known here."""
        return self._states.get(root)

    def counts(self) -> dict[CheckState, int]:
        """Return how many blocks are in each state, of those that are remembered."""
        return dict(Counter(self._states.values()))

    @property
    def unchecked(self) -> frozenset[Hash32]:
        """Blocks whose certificates are to be checked and have not been."""
        return frozenset(root for root, state in self._states.items() if state in PENDING)

    def submit(self, root: Hash32, slot: int, certificate: Certificate | None, input: bytes | None) -> None:
        """Take note of a block's certificate, and check it if it is drawn."""
        if root in self._states:
            return
        if certificate is None:
            self._set(root, CheckState.EMPTY)
            return
        assert input is not None
        remembered = self._verdicts.verdict(receipt_id(certificate))
        if remembered is not None:
            self._finish(root, CheckState.RIGHT if remembered else CheckState.REFUTED)
            return
        check = _Check((-_BLOCK, next(self._count)), root, certificate, input, slot)
        if self._budget(_BLOCK).drawn(certificate.proof.receipt.fuel, self._now()):
            self._enqueue(check)
        else:
            self._put_aside(check, CheckState.NOT_DRAWN)

    def hurry(self, root: Hash32) -> None:
        """Check a block's certificate before others, whether it was drawn or not: there is an alarm."""
        check = self._take(root)
        if check is None:
            check = next((check for check in self._heap if check.root == root), None)
            if check is None:
                return
            self._heap.remove(check)
            heapq.heapify(self._heap)
        check.urgency, check.order = _ALARM, (-_ALARM, check.order[1])
        self._enqueue(check)

    def forget(self, roots: list[Hash32]) -> None:
        """Forget blocks that no longer matter; what waits for them is not run."""
        gone = set(roots)
        self._heap = [check for check in self._heap if check.root not in gone]
        heapq.heapify(self._heap)
        for root in roots:
            self._take(root)
            if self._states.get(root) is CheckState.WAITING:
                self._states[root] = CheckState.NOT_DRAWN

    async def run(self) -> None:
        """Check what waits, until cancelled."""
        while True:
            while not self._heap:
                self._wake.clear()
                await self._wake.wait()
            budget = self._budget(self._heap[0].urgency)
            pause = budget.seconds_until_free(self._now())
            if pause > 0:
                # Something more urgent may come meanwhile, with a budget of its own.
                self._wake.clear()
                try:
                    # A rest that rounding leaves is no time at all for the clock.
                    async with asyncio.timeout(max(pause, PAUSE_SECONDS_MIN)):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                continue
            check = heapq.heappop(self._heap)
            self._set(check.root, CheckState.CHECKING)
            try:
                state = await self._check(check)
            except Exception as error:
                # A full disk, for example: other checks go on.
                _log.exception("certificate_not_checked", block=check.root.hex(), error=repr(error))
                state = CheckState.UNDECIDED
            if state is CheckState.UNDECIDED:
                self._put_aside(check, state)
            self._finish(check.root, state)

    async def _check(self, check: _Check) -> CheckState:
        certificate = check.certificate
        receipt = certificate.proof.receipt
        try:
            outcome = await self._runner.run(
                certificate.program,
                check.input,
                certificate.fuel_limit,
                priority=_POOL_PRIORITY[check.urgency],
            )
            self._budget(check.urgency).spent(outcome.fuel, outcome.seconds, self._now())
            found = refutation(certificate, outcome)
            if found is None:
                self._verdicts.put_verdict(receipt_id(certificate), True, check.slot)
                return CheckState.RIGHT
            _log.warning("certificate_differs", block=check.root.hex(), reason=str(found))
            self._set(check.root, CheckState.DOUBTED)
            self._doubted(check.root)
            begun = self._now()
            try:
                again = await self._runner.confirm(certificate.program, check.input, certificate.fuel_limit)
            finally:
                # Without its fuel: how fast the second engine is says nothing about the first.
                self._budget(check.urgency).spent(0, self._now() - begun, self._now())
        except (
            MachineFailure, CacheFailure, ProgramMissing, InvalidProgram, QueueFull, PoolClosed,
        ) as error:  # fmt: skip
            _log.error("certificate_not_checked", block=check.root.hex(), error=str(error))
            return CheckState.UNDECIDED
        if not confirms(certificate, outcome, again):
            _log.error(
                "engines_disagree",
                block=check.root.hex(),
                unit=receipt.unit_id.hex(),
                advice="this machine or one of its engines computes wrongly: check its memory and software",
            )
            return CheckState.UNDECIDED
        self._verdicts.put_verdict(receipt_id(certificate), False, check.slot)
        return CheckState.REFUTED

    def _enqueue(self, check: _Check) -> None:
        self._set(check.root, CheckState.WAITING)
        heapq.heappush(self._heap, check)
        waiting = sum(len(waits.input) for waits in self._heap)
        while len(self._heap) > WAITING_MAX or (waiting > INPUT_BYTES_MAX and len(self._heap) > 1):
            last = max(self._heap)
            self._heap.remove(last)
            heapq.heapify(self._heap)
            waiting -= len(last.input)
            self._put_aside(last, CheckState.NOT_DRAWN)
        self._wake.set()

    def _put_aside(self, check: _Check, state: CheckState) -> None:
        """Leave a check undone until there is an alarm."""
        self._set(check.root, state)
        self._take(check.root)
        self._known[check.root] = check
        self._known_bytes += len(check.input)
        while len(self._known) > WAITING_MAX or (
            self._known_bytes > INPUT_BYTES_MAX and len(self._known) > 1
        ):
            self._take(next(iter(self._known)))

    def _take(self, root: Hash32) -> _Check | None:
        """Return a check that was put aside, which is there no more."""
        check = self._known.pop(root, None)
        self._known_bytes -= 0 if check is None else len(check.input)
        return check

    def _finish(self, root: Hash32, state: CheckState) -> None:
        self._set(root, state)
        self._settled(root, state)

    def _set(self, root: Hash32, state: CheckState) -> None:
        self._states[root] = state
        while len(self._states) > STATES_MAX:
            self._states.popitem(last=False)

    def _budget(self, urgency: int) -> VerifyBudget:
        if urgency not in self._budgets:
            self._budgets[urgency] = VerifyBudget(self._parameters, self._draw, self._now())
        return self._budgets[urgency]

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def receipt_id(certificate: Certificate) -> Hash32:
    """Return the name under which a receipt's verdict is remembered."""
    return certificate.proof.receipt.leaf().hash


def refutation(certificate: Certificate, outcome: Outcome) -> CertificateRefuted | None:
    """Return how an outcome refutes a certificate, `None` if it does not."""
    try:
        check_result(certificate, status=outcome.status, output_id=blob_id(outcome.output), fuel=outcome.fuel)
    except CertificateRefuted as refuted:
        return refuted
    return None


def confirms(certificate: Certificate, outcome: Outcome, again: Outcome) -> bool:
    """Tell whether a second engine confirms the outcome that has refuted a certificate.

    If it does not, it is this machine that computes wrongly, and nobody is accused.
    """
    return refutation(certificate, again) is not None and _result(again) == _result(outcome)


def _result(outcome: Outcome) -> tuple[int, bytes, int]:
    return outcome.status, outcome.output, outcome.fuel
