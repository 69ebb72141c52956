"""Justification and finality, as they follow from the votes in blocks (protocol 4.7).

A vote's target fixes everything else about it. Entering an epoch e on a chain fixes the target
``checkpoint(e)``, the source (the chain's highest justified checkpoint at that moment) and the voting set, in
a `Tally`; all votes for that target are then for the same thing and one bitfield counts them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from noria.consensus.parameters import ChainParameters
from noria.consensus.votes import AggregatedVote, Checkpoint, Vote
from noria.consensus.weight import Snapshot
from noria.primitives.types import Hash32


class ForeignVote(ValueError):
    """A vote in a block that is not for this chain's checkpoints of this or the last epoch."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes that a chain has included for one target (protocol 4.7).

    Attributes
    ----------
    target
        The epoch's checkpoint on this chain.
    source
        The highest justified checkpoint when the epoch began.
    voting_epoch
        Whose snapshot the voters and their weights are.
    bits
        Who has voted.
    """

    target: Checkpoint
    source: Checkpoint
    voting_epoch: int
    bits: int = 0

    @property
    def vote(self) -> Vote:
        """The one vote that can be counted here."""
        return Vote(self.source, self.target)


@dataclass(frozen=True, slots=True)
class FinalityState:
    """What a chain has justified and finalised after a block (protocol 4.7).

    Attributes
    ----------
    justified, finalised
        The highest of each.
    tallies
        Those of the last epoch and of this one, oldest first; none in epoch 0.
    """

    justified: Checkpoint
    finalised: Checkpoint
    tallies: tuple[Tally, ...] = ()


def genesis_finality(genesis_root: Hash32) -> FinalityState:
    """Return the state after genesis, whose checkpoint of epoch 0 is justified and final (protocol 4.7)."""
    checkpoint = Checkpoint(0, genesis_root)
    return FinalityState(checkpoint, checkpoint)


def voting_epoch(parameters: ChainParameters, finalised: Checkpoint, epoch: int) -> int:
    """Return whose snapshot votes with a target in an epoch are counted by (protocol 4.7).

    That of the last finalised checkpoint in the target's ancestry, so that rival chains count alike; the
    epoch's own if that is older than ``LEAK`` epochs, so that weight which has gone does not stop finality
    for ever.
    """
    return finalised.epoch if epoch - finalised.epoch <= parameters.leak_epochs else epoch


def enter_epoch(
    parameters: ChainParameters, state: FinalityState, parent_root: Hash32, parent_epoch: int, epoch: int
) -> FinalityState:
    """Return the state at the beginning of a block, before its votes (protocol 4.7).

    Parameters
    ----------
    parameters
        The chain's.
    state
        After the parent.
    parent_root, parent_epoch
        The parent: the checkpoint of every epoch that begins between it and the block.
    epoch
        The block's epoch.
    """
    if epoch == parent_epoch:
        return state
    kept = tuple(tally for tally in state.tallies if tally.target.epoch >= epoch - 1)
    begun = tuple(
        Tally(
            target=Checkpoint(number, parent_root),
            source=state.justified,
            voting_epoch=voting_epoch(parameters, state.finalised, number),
        )
        for number in range(max(parent_epoch + 1, epoch - 1), epoch + 1)
    )
    return replace(state, tallies=kept + begun)


def tally_for(state: FinalityState, vote: Vote) -> Tally:
    """Return the tally that a vote in a block belongs to (protocol 4.7).

    Raises
    ------
    ForeignVote
        Where it is for another source or target than this chain's, or for an older epoch than the last.
    """
    for tally in state.tallies:
        if tally.vote == vote:
            return tally
    raise ForeignVote(
        f"a vote from epoch {vote.source.epoch} to {vote.target.epoch}, 0x{vote.target.root.hex()}, is not"
        " for this"
        f" chain's checkpoints of epochs {[tally.target.epoch for tally in state.tallies]}"
    )


def count_vote(state: FinalityState, aggregate: AggregatedVote, voting_set: Snapshot) -> FinalityState:
    """Return the state after a checked aggregated vote (protocol 4.7).

    A target with more than two thirds of the voting set's weight is justified; if its source is the
    checkpoint of the epoch before, that one is final.

    Parameters
    ----------
    state
        Before it.
    aggregate
        The vote, its signature and voters checked.
    voting_set
        The snapshot of the tally's ``voting_epoch``. Who was slashed since stays in its total.

    Raises
    ------
    ForeignVote
        Where no tally takes it.
    """
    tally = tally_for(state, aggregate.vote)
    counted = replace(tally, bits=tally.bits | aggregate.bits)
    tallies = tuple(counted if other is tally else other for other in state.tallies)
    justified, finalised = state.justified, state.finalised
    if 3 * voting_set.weight_of(counted.bits) > 2 * voting_set.total_weight:
        if tally.target.epoch > justified.epoch:
            justified = tally.target
        if tally.source.epoch + 1 == tally.target.epoch and tally.source.epoch > finalised.epoch:
            finalised = tally.source
    return FinalityState(justified, finalised, tallies)
