"""Votes that wait to be included in a block (protocol 4.7). Bounded; what is put in has been checked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from noria.consensus.finality import FinalityState
from noria.consensus.signatures import SignatureScheme
from noria.consensus.votes import (
    AGGREGATES_MAX,
    AggregatedVote,
    SignedVote,
    Vote,
    aggregate_votes,
)
from noria.consensus.weight import Snapshot
from noria.primitives.types import Address

VOTES_MAX: Final = 64
"""Different things that are voted for."""


class VotePool:
    """Checked votes by what they are for."""

    def __init__(self) -> None:
        self._votes: OrderedDict[Vote, dict[Address, SignedVote]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many votes there are."""
        return sum(map(len, self._votes.values()))

    def has(self, vote: SignedVote) -> bool:
        """Tell whether a vote is here."""
        return vote.miner in self._votes.get(vote.vote, ())

    def add(self, vote: SignedVote) -> None:
        """Keep a checked vote."""
        self._votes.setdefault(vote.vote, {})[vote.miner] = vote
        while len(self._votes) > VOTES_MAX:
            self._votes.popitem(last=False)

    def prune(self, first_epoch: int) -> None:
        """Forget votes for targets before an epoch."""
        for vote in [vote for vote in self._votes if vote.target.epoch < first_epoch]:
            del self._votes[vote]

    def select(
        self,
        scheme: SignatureScheme,
        finality: FinalityState,
        snapshot: Callable[[int], Snapshot],
        may_vote: Callable[[Address], bool],
    ) -> tuple[AggregatedVote, ...]:
        """Return what a block may include.

        Parameters
        ----------
        scheme
            Adds signatures up.
        finality
            At the beginning of the block, its epoch entered.
        snapshot
            An epoch's, on the block's chain.
        may_vote
            Whether a miner is not in jail after the parent.
        """
        chosen: list[AggregatedVote] = []
        for tally in finality.tallies:
            voting_set = snapshot(tally.voting_epoch)
            new = []
            for miner, vote in self._votes.get(tally.vote, {}).items():
                position = voting_set.position(miner)
                if position is not None and not tally.bits >> position & 1 and may_vote(miner):
                    new.append(vote)
            if new:
                chosen += aggregate_votes(scheme, voting_set, new)
        return tuple(chosen[-AGGREGATES_MAX:])
