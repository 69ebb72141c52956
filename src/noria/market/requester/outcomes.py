"""How an accepted result is told, and a wrong one."""

from __future__ import annotations

from noria.market.requester.evidence import Settled, SignedReceipt
from noria.market.requester.units import Claim, Copy, Key, WorkUnit
from noria.primitives.types import Wei
from noria.work.workers import Outcome


def outcome_of(claim: Claim) -> Outcome:
    """Return what a claim says, as if this machine had found it."""
    receipt = claim.signed.receipt
    seconds = claim.signed.milliseconds / 1000
    return Outcome(receipt.status, claim.output, claim.log, receipt.fuel, seconds)


def settled_unit(
    unit: WorkUnit, outcome: Outcome, signed: tuple[SignedReceipt, ...], seconds: float, own_run: bool
) -> Settled:
    """Return a unit's result with everything that shows it."""
    return Settled(
        unit_id=unit.unit_id,
        program=unit.program,
        input_id=unit.input_id,
        fuel_limit=unit.fuel_limit,
        status=outcome.status,
        output=outcome.output,
        fuel=outcome.fuel,
        log=outcome.log,
        replicas=signed,
        own_run=own_run,
        cost=Wei(sum(each.price for each in signed)),
        seconds=seconds,
    )


def difference(copy: Copy, key: Key, accepted: Key) -> str:
    """Say in which way a claim is wrong."""
    words = []
    for name, mine, right in zip(("status", "output", "fuel"), key, accepted, strict=True):
        if mine != right:
            words.append(name)
    return f"its result of unit 0x{copy.state.unit_id.hex()[:16]} is wrong: another {' and '.join(words)}"
