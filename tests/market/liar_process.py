"""A node whose miner lies about jobs: ``python -m tests.market.liar_process LIE node --config FILE``.

Everything else of it is the ordinary node: it votes, makes blocks and pays. Lies are the same for all liars,
so that they agree.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

from noria.cli.main import main
from noria.market.miner.entries import ReceiptRecord
from noria.market.miner.session import Session
from noria.node import market
from noria.work.ids import blob_id
from noria.work.receipts import Status
from noria.work.results import decode_result
from noria.work.values import encode
from noria.work.worker_units import UnitFuture
from noria.work.workers import Outcome, WorkerPool

VALUE_BYTES = 9
"""Before a value in an output."""
LATE_SECONDS = 6.0
PHANTOM = 1 << 40
"""Far above the number of any unit that was ordered."""


def random_bit(outcome: Outcome) -> Outcome:
    """One bit of the output is another."""
    if not outcome.output:
        return outcome
    output = bytearray(outcome.output)
    output[-1] ^= 1
    return dataclasses.replace(outcome, output=bytes(output))


def plausible(outcome: Outcome) -> Outcome:
    """A number next to the right one: nobody can see anything in it."""
    try:
        value = decode_result(outcome.output)
    except Exception:
        return random_bit(outcome)
    if not isinstance(value, int):
        return random_bit(outcome)
    return dataclasses.replace(outcome, output=outcome.output[:VALUE_BYTES] + encode(value + 1))


def fuel(outcome: Outcome) -> Outcome:
    """The right result, dearer."""
    return dataclasses.replace(outcome, fuel=outcome.fuel + outcome.fuel // 4)


def late(outcome: Outcome) -> Outcome:
    """The right result, when nobody waits for it any more."""
    time.sleep(LATE_SECONDS)
    return outcome


OUTCOMES: dict[str, Callable[[Outcome], Outcome]] = {
    "random-bit": random_bit,
    "plausible": plausible,
    "fuel": fuel,
    "late": late,
}


class LyingPool(WorkerPool):
    """A pool that tells something else than what its workers found."""

    change: Callable[[Outcome], Outcome]

    def put(self, unit: Any, **settings: Any) -> Any:
        """Queue a unit, and lie about it."""

        def settle(outcome: Outcome) -> None:
            is_ok = outcome.status is Status.OK
            UnitFuture.settle(unit, self.change(outcome) if is_ok else outcome)

        unit.settle = settle
        return super().put(unit, **settings)


def lie_about_outcomes(change: Callable[[Outcome], Outcome]) -> None:
    """Let the market's units be told wrongly."""
    LyingPool.change = staticmethod(change)
    market.WorkerPool = LyingPool  # type: ignore[attr-defined]


def lie_after_the_seal() -> None:
    """Show another result than was sealed, as whoever copies must."""
    open_units = Session.open

    def opened(self: Session, numbers: Any) -> None:
        for number in numbers:
            unit = self.units.get(number)
            if unit is not None and unit.finished is not None and unit.sealed:
                output = b"somebody else's"
                unit.finished = dataclasses.replace(
                    unit.finished, output=output, output_id=blob_id(output), output_bytes=len(output)
                )
            open_units(self, [number])

    Session.open = opened  # type: ignore[method-assign]


def bill_for_nothing() -> None:
    """Give receipts for units that nobody ordered, for all that the allow is worth."""
    release = Session.release

    def released(self: Session) -> list[ReceiptRecord]:
        made = release(self)
        if not made:
            return made
        true = made[-1]
        while self.record.earned + true.fuel * self.price <= self.budget and len(made) < 64:
            number = PHANTOM + self.record.next_index
            receipt = dataclasses.replace(true, index=self.record.next_index, number=number)
            self.record.next_index += 1
            self.record.earned += true.fuel * self.price
            self.record.fuel += true.fuel
            self.record.weight += true.weight
            made.append(receipt)
        return made

    Session.release = released  # type: ignore[method-assign]


if __name__ == "__main__":
    lie = sys.argv.pop(1)
    if lie in OUTCOMES:
        lie_about_outcomes(OUTCOMES[lie])
    elif lie == "copies":
        lie_after_the_seal()
    elif lie == "phantoms":
        bill_for_nothing()
    else:
        raise SystemExit(f"no such lie: {lie}")
    main()
