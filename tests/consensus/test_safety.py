"""Invariant 5 on a small model: whatever the network and less than a third of voters do, finality is a line.

Here the adversary is stronger than in the simulation. It decides which chain each honest voter sees at any
moment, which votes each block includes, and in what order all happens; its own voters sign everything. Honest
voters do nothing but keep their record. What must hold follows from the voting rules alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from noria.consensus.finality import FinalityState, count_vote, enter_epoch, genesis_finality
from noria.consensus.parameters import DEVNET
from noria.consensus.slashing import slashable
from noria.consensus.votes import AggregatedVote, Checkpoint, Vote
from noria.consensus.voting import OwnRecord, WouldBeSlashable, due_tally, record_vote
from noria.consensus.weight import Snapshot, SnapshotRow
from noria.primitives.types import BlsSignature, Hash32
from tests.consensus.world import address, bls_key

EPOCH_SLOTS = DEVNET.epoch_slots


@dataclass(frozen=True)
class ModelBlock:
    root: Hash32
    parent: ModelBlock | None
    epoch: int
    state: FinalityState

    def line(self) -> list[Hash32]:
        found, block = [], self
        while True:
            found.append(block.root)
            if block.parent is None:
                return found
            block = block.parent


@dataclass
class Model:
    """A tree of blocks and what everybody has signed."""

    byzantine: int
    honest: int
    blocks: list[ModelBlock] = field(default_factory=list)
    records: dict[int, OwnRecord] = field(default_factory=dict)
    cast: dict[Vote, int] = field(default_factory=dict)
    signed: dict[int, list[Vote]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        root = Hash32(bytes(32))
        self.blocks.append(ModelBlock(root, None, 0, genesis_finality(root)))
        miners = sorted(address(number) for number in range(self.byzantine + self.honest))
        self.voting_set = Snapshot(0, tuple(SnapshotRow(miner, bls_key(0), 0, 0, 1, 1) for miner in miners))

    def extend(self, parent: ModelBlock, ahead: int, seen: int) -> ModelBlock:
        """A block with all Byzantine votes that its chain can count, and those of the honest in `seen`."""
        epoch = parent.epoch + ahead
        state = enter_epoch(DEVNET, parent.state, parent.root, parent.epoch, epoch)
        everybody_bad = ((1 << self.byzantine) - 1) << self.honest
        for tally in state.tallies:
            bits = everybody_bad | (self.cast.get(tally.vote, 0) & seen)
            if bits:
                aggregate = AggregatedVote(tally.vote, bits, BlsSignature(bytes(96)))
                state = count_vote(state, aggregate, self.voting_set)
        root = Hash32(len(self.blocks).to_bytes(32, "big"))
        block = ModelBlock(root, parent, epoch, state)
        self.blocks.append(block)
        return block

    def vote(self, voter: int, head: ModelBlock, ahead: int) -> bool:
        """An honest vote on a head, unless the record forbids it."""
        tally = due_tally(DEVNET, head.root, head.epoch * EPOCH_SLOTS, head.state, head.epoch + ahead)
        if tally is None:
            return False
        try:
            self.records[voter] = record_vote(self.records.get(voter, OwnRecord()), tally.vote)
        except WouldBeSlashable:
            return False
        self.cast[tally.vote] = self.cast.get(tally.vote, 0) | 1 << voter
        self.signed.setdefault(voter, []).append(tally.vote)
        return True

    def conflict(self) -> tuple[Checkpoint, Checkpoint] | None:
        """Two final checkpoints that exclude each other."""
        finals = {block.state.finalised for block in self.blocks}
        lines = {block.root: block.line() for block in self.blocks}
        for low in finals:
            for high in finals:
                if low.epoch <= high.epoch and low.root not in lines[high.root]:
                    return low, high
        return None


places = st.integers(0, 2**16)


class Adversary(RuleBasedStateMachine):
    """Schedules everything."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(1, 3)

    @initialize(sizes=st.sampled_from([(1, 3), (2, 5), (0, 3), (3, 7)]))
    def begin(self, sizes: tuple[int, int]) -> None:
        self.model = Model(*sizes)

    def _block(self, place: int) -> ModelBlock:
        # Late blocks more often than early ones: that is where forks matter.
        blocks = self.model.blocks
        return blocks[-1 - min(place % len(blocks), place % 7)]

    @rule(place=places, ahead=st.sampled_from([0, 1, 1, 1, 2]), seen=st.just(-1) | st.integers(0, 2**10))
    def make_block(self, place: int, ahead: int, seen: int) -> None:
        self.model.extend(self._block(place), ahead, seen)

    @rule(place=places, voter=places, ahead=st.sampled_from([0, 0, 1]))
    def one_votes(self, place: int, voter: int, ahead: int) -> None:
        self.model.vote(voter % self.model.honest, self._block(place), ahead)

    @rule(place=places, who=st.just(-1) | st.integers(1, 2**10), ahead=st.sampled_from([0, 1, 1]))
    def several_vote_and_a_block_counts_it(self, place: int, who: int, ahead: int) -> None:
        block = self._block(place)
        for voter in range(self.model.honest):
            if who >> voter & 1:
                self.model.vote(voter, block, ahead)
        self.model.extend(block, ahead, -1)

    @precondition(lambda self: len(self.model.blocks) > 1)
    @invariant()
    def finality_is_one_line(self) -> None:
        assert self.model.conflict() is None

    @invariant()
    def no_honest_voter_can_be_punished(self) -> None:
        for votes in self.model.signed.values():
            for vote in votes[:-1]:
                assert not slashable(vote, votes[-1])


TestAdversary = Adversary.TestCase
TestAdversary.settings = settings(max_examples=100, stateful_step_count=40)


def story(byzantine: int, honest: int, *, forgetful: bool = False) -> Model:
    """The shortest attack: two forks from genesis, each justified twice by those who vote on both."""
    model = Model(byzantine, honest)
    forks = [model.extend(model.blocks[0], 0, 0) for _ in range(2)]
    for epoch in range(1, 4):
        for side, head in enumerate(forks):
            for voter in range(honest):
                if forgetful:
                    model.records.pop(voter, None)
                if voter % 2 == side or forgetful:
                    model.vote(voter, head, epoch - head.epoch)
        forks = [model.extend(head, epoch - head.epoch, -1) for head in forks]
    return model


def test_the_attack_fails_below_a_third_and_works_above() -> None:
    assert story(3, 7).conflict() is None
    assert story(4, 6).conflict() is not None


def test_the_model_notices_voters_that_forget_what_they_signed() -> None:
    assert story(0, 4).conflict() is None
    assert story(0, 4, forgetful=True).conflict() is not None


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_vote_that_would_surround_is_what_keeps_a_final_checkpoint(order: tuple[int, int]) -> None:
    """All vote on a chain until it is final; a rival with an older source then gets no honest vote."""
    model = Model(1, 3)
    left, right = (model.extend(model.blocks[0], 0, 0) for _ in range(2))
    left, right = (left, right) if order == (0, 1) else (right, left)
    for epoch in (1, 2):
        for voter in range(3):
            assert model.vote(voter, left, epoch - left.epoch)
        left = model.extend(left, 1, -1)
    assert left.state.finalised.epoch == 1
    # The rival's epochs 1 and 2 are refused as second votes; epoch 3 has genesis as source, which would be
    # fine against the vote from 0 to 1 and surrounds the one from 1 to 2.
    assert [model.vote(voter, right, 3) for voter in range(3)] == [False] * 3
