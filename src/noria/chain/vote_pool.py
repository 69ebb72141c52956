"""Votes that wait to be included in a block (protocol 4.7). Bounded; what is put in has been checked."""

from __future__ import annotations

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
"""Different things that are voted for. A voter may name anything; per target a chain counts one."""


class VotePool:
    """Checked votes by what they are for."""

    def __init__(self) -> None:
        self._votes: dict[Vote, dict[Address, SignedVote]] = {}
        self._counting: set[Vote] = set()

    def __len__(self) -> int:
        """Return how many votes there are."""
        return sum(map(len, self._votes.values()))

    def has(self, vote: SignedVote) -> bool:
        """Tell whether a vote is here."""
        return vote.miner in self._votes.get(vote.vote, ())

    def add(self, vote: SignedVote, *, counts: bool) -> None:
        """Keep a checked vote.

        Parameters
        ----------
        vote
            What was cast.
        counts
            Whether the chain of the present head counts it. Where there is too much, such votes stay, and of
            the rest what has most voters; among equals the latest, since others may still agree with it.
        """
        self._votes.setdefault(vote.vote, {})[vote.miner] = vote
        if counts:
            self._counting.add(vote.vote)
        while len(self._votes) > VOTES_MAX:
            self._forget(min(self._votes, key=lambda it: (it in self._counting, len(self._votes[it]))))

    def prune(self, first_epoch: int) -> None:
        """Forget votes for targets before an epoch."""
        for vote in [vote for vote in self._votes if vote.target.epoch < first_epoch]:
            self._forget(vote)

    def _forget(self, vote: Vote) -> None:
        del self._votes[vote]
        self._counting.discard(vote)

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
            # Votes may come while a thread selects.
            for miner, vote in list(self._votes.get(tally.vote, {}).items()):
                position = voting_set.position(miner)
                if position is not None and not tally.bits >> position & 1 and may_vote(miner):
                    new.append(vote)
            if new:
                chosen += aggregate_votes(scheme, voting_set, new)
        return tuple(chosen[-AGGREGATES_MAX:])
