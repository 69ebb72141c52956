"""When receipts become a batch, and when a batch goes on chain, as a pure rule.

Gas is paid for each batch, whatever is in it. So receipts wait until they are worth many times their gas,
and a batch that was offered too early gives way to a longer one; but a job that closes has its receipts
committed at once, because afterwards nobody pays for them any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from noria.work.batches import BATCH_RECEIPTS_MAX

COMMIT_GAS: Final = 120_000
SETTLE_GAS: Final = 60_000
"""For paying without approval, and for credit."""
WORTH: Final = 20
"""A batch goes on chain once it is worth this many times its gas: gas takes 5 % at most."""
PATIENCE_BLOCKS: Final = 4
"""How long an approval is waited for before a batch is committed with the allow."""
BATCH_FUEL_MAX: Final = 2**56 - 1


class Step(Enum):
    """What to do next about a place's receipts."""

    WAIT = "wait"
    OFFER = "offer"
    """Join everything that is ready to one batch, in place of the one that is offered."""
    COMMIT = "commit"
    """Send the batch that is offered."""


@dataclass(frozen=True, slots=True)
class Situation:
    """A place's receipts that are not committed.

    Attributes
    ----------
    offered
        Receipts of the batch that is offered; 0 if none is.
    approved, fixed
        Whether the requester has approved it, and whether it may have been sent already.
    age_blocks
        Since it was offered.
    offered_wei, ready_wei
        What it pays the miner, and what a batch of everything would.
    ready
        Receipts that a batch could have now.
    gas_wei
        What one batch costs.
    flush
        Whether the requester has said that no more units come for now.
    closing
        Whether the job is over.
    """

    offered: int
    approved: bool
    fixed: bool
    age_blocks: int
    offered_wei: int
    ready: int
    ready_wei: int
    gas_wei: int
    flush: bool
    closing: bool


def next_step(at: Situation) -> Step:
    """Decide what to do."""
    if not at.offered:
        is_due = at.flush or at.closing or at.ready >= BATCH_RECEIPTS_MAX or _is_worth(at, at.ready_wei)
        return Step.OFFER if at.ready and is_due else Step.WAIT
    if at.fixed:
        return Step.COMMIT
    grows = at.ready > at.offered
    is_full = at.offered >= BATCH_RECEIPTS_MAX
    if at.closing:
        # An approved batch is paid at once; what follows it gets a batch of its own.
        return Step.OFFER if grows and not at.approved and not is_full else Step.COMMIT
    if is_full or _is_worth(at, at.offered_wei):
        if at.approved or at.age_blocks >= PATIENCE_BLOCKS:
            return Step.COMMIT
        return Step.WAIT
    return Step.OFFER if grows and (at.flush or _is_worth(at, at.ready_wei)) else Step.WAIT


def _is_worth(at: Situation, wei: int) -> bool:
    return wei >= WORTH * at.gas_wei
