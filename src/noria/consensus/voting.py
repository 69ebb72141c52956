"""What a miner signs, and what it must never sign (protocol 4.5, 4.7, 4.8, invariant 6).

A node keeps an `OwnRecord` durably and writes the new one before it sends what was signed. The record is the
least that suffices: votes whose target rises and whose source never falls can be neither double nor
surrounding.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum
from itertools import takewhile
from typing import Final

from noria.consensus.finality import FinalityState, Tally, enter_epoch
from noria.consensus.fork_choice import Blocks, highest_justified, line, unviable
from noria.consensus.parameters import ChainParameters
from noria.consensus.slots import epoch_of, last_waiting_slot, vote_slot
from noria.consensus.votes import Checkpoint, Vote, read_vote, vote_fields
from noria.consensus.wire import FieldOutOfRange, Reader, integer_to_bytes
from noria.primitives import rlp
from noria.primitives.types import HASH_BYTES, Hash32

RECORD_BYTES_MAX: Final = 2 * (HASH_BYTES + 10) + 2 * 9 + 8
"""Longest encoding of a record."""


class WouldBeSlashable(Exception):
    """A vote or block that could be punished together with one that was signed before."""


@dataclass(frozen=True, slots=True)
class OwnRecord:
    """What a miner has signed so far, kept durably (protocol 4.7, invariant 6).

    Attributes
    ----------
    vote
        The last vote, which has the highest target.
    source_epoch
        Highest source of any vote; where there is no vote, what the first one's source may not be below.
    proposed_slot
        Highest slot of any block; 0 if there was none.
    """

    vote: Vote | None = None
    source_epoch: int = 0
    proposed_slot: int = 0


class Reason(Enum):
    """Why there is no vote."""

    TOO_EARLY = "the epoch's vote is not due yet"
    NO_VOTE_IN_EPOCH_0 = "epoch 0 has no vote: its checkpoint is genesis"
    WOULD_BE_SLASHABLE = "a vote that was signed before, or may have been, forbids it"
    NOT_A_VOTER = "the miner is not in the voting set, or in jail"
    TARGET_REFUTED = "the target's chain has a refuted block"
    CHECKS_PENDING = "certificates on the way to the target are still being checked"


@dataclass(frozen=True, slots=True)
class Cast:
    """Sign this vote, after the record has been written."""

    vote: Vote
    record: OwnRecord


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again; at the latest in a slot."""

    reason: Reason
    until_slot: int


@dataclass(frozen=True, slots=True)
class Abstain:
    """No vote in this epoch."""

    reason: Reason


def record_vote(record: OwnRecord, vote: Vote) -> OwnRecord:
    """Return the record after a vote (protocol 4.7, 4.8).

    Raises
    ------
    WouldBeSlashable
        Where the vote's target does not rise or its source falls. The very vote that was signed last may be
        signed again: it is the same signature.
    """
    last = record.vote
    if vote == last:
        return record
    target_epoch = -1 if last is None else last.target.epoch
    if vote.target.epoch <= target_epoch or vote.source.epoch < record.source_epoch:
        raise WouldBeSlashable(
            f"a vote from epoch {vote.source.epoch} to {vote.target.epoch} after targets up to {target_epoch}"
            f" and sources up to {record.source_epoch}"
        )
    return replace(record, vote=vote, source_epoch=vote.source.epoch)


def record_proposal(record: OwnRecord, slot: int) -> OwnRecord:
    """Return the record after a block is signed (protocol 4.8).

    Raises
    ------
    WouldBeSlashable
        Where a block for this slot or a later one has been signed.
    """
    if slot <= record.proposed_slot:
        raise WouldBeSlashable(f"a block for slot {slot} after one for slot {record.proposed_slot}")
    return replace(record, proposed_slot=slot)


def encode_record(record: OwnRecord) -> bytes:
    """Return the record's RLP: ``[source_epoch, proposed_slot, vote]``, with ``[]`` for no vote."""
    vote: list[rlp.RlpItem] = [] if record.vote is None else vote_fields(record.vote)
    return rlp.encode([integer_to_bytes(record.source_epoch), integer_to_bytes(record.proposed_slot), vote])


def decode_record(data: bytes) -> OwnRecord:
    """Read a record that was kept.

    Raises
    ------
    InvalidMessage
        Where the bytes are none, or contradict themselves: a miner must not sign on such a record.
    """
    reader = Reader.open(data, "signing record", max_bytes=RECORD_BYTES_MAX)
    source_epoch = reader.integer("source_epoch", 64)
    proposed_slot = reader.integer("proposed_slot", 64)
    inner = reader.list("vote")
    vote = None if inner.at_end else read_vote(inner)
    inner.close()
    reader.close()
    if source_epoch != (vote.source.epoch if vote else 0):
        raise FieldOutOfRange(f"signing record: source_epoch {source_epoch} is not that of the last vote")
    return OwnRecord(vote, source_epoch, proposed_slot)


def due_tally(
    parameters: ChainParameters, head_root: Hash32, head_slot: int, state: FinalityState, epoch: int
) -> Tally | None:
    """Return the target, source and voting set of an epoch on the chain of a head (protocol 4.7).

    Parameters
    ----------
    parameters
        The chain's.
    head_root, head_slot
        The head, not younger than the epoch.
    state
        Finality after the head.
    epoch
        Which.

    Returns
    -------
    Tally or None
        `None` in epoch 0, which has no vote.
    """
    entered = enter_epoch(parameters, state, head_root, epoch_of(parameters, head_slot), epoch)
    return entered.tallies[-1] if entered.tallies else None


def without_record(blocks: Blocks, final: Checkpoint, before_epoch: int) -> OwnRecord:
    """Return what a miner must suppose of its votes where the record of them is lost (protocol 4.7, 4.8).

    Every earlier vote's target is of an epoch before `before_epoch`, and its source of one before that: see
    `latest_source`. Every source is a justified checkpoint that the miner knew, too: a first vote from the
    highest one that is known surrounds none of them either, if that is known here which was known then.

    Parameters
    ----------
    blocks, final
        As in fork choice. Blocks that are not viable count.
    before_epoch
        The first epoch whose vote is certain not to have been signed.
    """
    known = highest_justified(blocks, final, ()).epoch
    return OwnRecord(source_epoch=min(known, latest_source(before_epoch)))


def latest_source(before_epoch: int) -> int:
    """Return the latest source that a vote for a target before an epoch can have (protocol 4.7)."""
    return max(before_epoch - 2, 0)


def unsettled_ancestors(blocks: Blocks, final: Checkpoint, target: Hash32) -> frozenset[Hash32]:
    """Return the blocks from above the final one to the target, whose certificates a voter answers for.

    Protocol 4.5.
    """
    above = takewhile(lambda node: node.root != final.root, line(blocks, target))
    return frozenset(node.root for node in above)


def decide_vote(
    parameters: ChainParameters,
    *,
    slot: int,
    tally: Tally | None,
    voter: bool,
    blocks: Blocks,
    final: Checkpoint,
    refuted: Collection[Hash32],
    unchecked: Collection[Hash32],
    record: OwnRecord,
) -> Cast | Wait | Abstain:
    """Decide about this epoch's vote (protocol 4.5, 4.7).

    Parameters
    ----------
    parameters
        The chain's.
    slot
        The current one.
    tally
        `due_tally` of the head.
    voter
        Whether the miner has a row in the snapshot of the tally's ``voting_epoch`` and is not in jail.
    blocks, final, refuted
        As in fork choice.
    unchecked
        Blocks whose certificates are still being checked.
    record
        What the miner has signed so far.

    Returns
    -------
    Cast, Wait or Abstain
    """
    if tally is None:
        return Abstain(Reason.NO_VOTE_IN_EPOCH_0)
    epoch = tally.target.epoch
    if slot < vote_slot(parameters, epoch):
        return Wait(Reason.TOO_EARLY, vote_slot(parameters, epoch))
    if not voter:
        return Abstain(Reason.NOT_A_VOTER)
    if tally.target.root in unviable(blocks, final, refuted):
        return Abstain(Reason.TARGET_REFUTED)
    last_wait = last_waiting_slot(parameters, epoch)
    if slot < last_wait and not unsettled_ancestors(blocks, final, tally.target.root).isdisjoint(unchecked):
        return Wait(Reason.CHECKS_PENDING, last_wait)
    try:
        return Cast(tally.vote, record_vote(record, tally.vote))
    except WouldBeSlashable:
        return Abstain(Reason.WOULD_BE_SLASHABLE)
