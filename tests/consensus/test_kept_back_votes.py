"""Votes that an attacker shows in blocks of its own alone: finality goes on, and who is bound is freed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from noria.consensus.finality import FinalityState, count_vote, enter_epoch, genesis_finality
from noria.consensus.fork_choice import BlockNode, choose_head, final_checkpoint, genesis_node
from noria.consensus.parameters import DEVNET
from noria.consensus.slots import epoch_of, first_slot
from noria.consensus.votes import AggregatedVote, Checkpoint, Vote
from noria.consensus.voting import OwnRecord, WouldBeSlashable, due_tally, record_vote
from noria.primitives.types import BlsSignature, Hash32
from tests.consensus.test_finality import voters

FREE, BOUND, ATTACKER = range(3)
EVERYBODY = (FREE, BOUND, ATTACKER)


class Story:
    """A tree of blocks that all see at once, and three voters that sign nothing that can be punished."""

    def __init__(self, *weights: int) -> None:
        self.voting_set = voters(*weights)
        genesis = genesis_node(Hash32(bytes(32)))
        self.blocks = {genesis.root: genesis}
        self.states: dict[Hash32, FinalityState] = {genesis.root: genesis_finality(genesis.root)}
        self.records = [OwnRecord() for _ in EVERYBODY]
        self.final = Checkpoint(0, genesis.root)

    def grow(self, parent: Hash32, slot: int, vote: Vote | None = None, by: Sequence[int] = ()) -> Hash32:
        """Add a block with a vote of some."""
        before = self.blocks[parent]
        epochs = epoch_of(DEVNET, before.slot), epoch_of(DEVNET, slot)
        state = enter_epoch(DEVNET, self.states[parent], parent, *epochs)
        if vote is not None:
            bits = sum(1 << voter for voter in by)
            state = count_vote(state, AggregatedVote(vote, bits, BlsSignature(bytes(96))), self.voting_set)
        root = Hash32(len(self.blocks).to_bytes(32, "big"))
        self.blocks[root] = BlockNode(
            root, parent, slot, before.height + 1, Hash32(bytes(32)), state.justified, state.finalised
        )
        self.states[root] = state
        self.final = final_checkpoint(self.blocks, self.final)
        return root

    def vote(self, head: Hash32, epoch: int, voter: int) -> Vote | None:
        """Let somebody vote on a head; None where its own record forbids it."""
        tally = due_tally(DEVNET, head, self.blocks[head].slot, self.states[head], epoch)
        assert tally is not None
        try:
            self.records[voter] = record_vote(self.records[voter], tally.vote)
        except WouldBeSlashable:
            return None
        return tally.vote

    def head(self, epoch: int) -> Hash32:
        return choose_head(self.blocks, self.final, epoch)


def everybody_votes(story: Story, epoch: int) -> None:
    """An epoch as it should be."""
    first = first_slot(DEVNET, epoch)
    head = story.head(epoch)
    [vote] = {story.vote(head, epoch, voter) for voter in EVERYBODY}
    story.grow(story.grow(head, first + 5, vote, EVERYBODY), first + 7)


@pytest.mark.parametrize("weights", [(66, 4, 30), (66, 32, 2)])
def test_votes_shown_beside_the_chain_alone_do_not_stop_finality(
    weights: tuple[int, int, int],
) -> None:
    story = Story(*weights)
    head = story.grow(story.head(0), 1)
    for epoch in range(1, 5):
        everybody_votes(story, epoch)
    assert story.final.epoch == 3

    # One that restarts misses the vote. The attacker's is in a block of its own alone, which that one sees
    # first: it votes from there on, and may not vote from anything older any more.
    first, trunk = first_slot(DEVNET, 5), story.head(5)
    [vote] = {story.vote(trunk, 5, voter) for voter in (FREE, ATTACKER)}
    head = story.grow(trunk, first + 5, vote, [FREE])
    hidden = story.grow(head, first + 8, vote, [FREE, ATTACKER])
    head = story.grow(story.grow(head, first + 10), first + 12)
    assert [story.states[root].justified.epoch for root in (head, hidden)] == [4, 5]
    assert story.vote(hidden, 6, BOUND) is not None

    # Everybody sees everything from now on. The attacker shows its vote beside the chain, each epoch.
    for epoch in range(6, 12):
        first, head = first_slot(DEVNET, epoch), story.head(epoch)
        cast = [story.vote(head, epoch, voter) for voter in EVERYBODY]
        assert cast[FREE] is not None
        by = [voter for voter in (FREE, BOUND) if cast[voter] is not None]
        chain = story.grow(story.grow(head, first + 5, cast[FREE], by), first + 7)
        beside = story.grow(head, first + 8, cast[FREE], [*by, ATTACKER])
        assert story.states[beside].justified.epoch == epoch
        story.grow(chain, first + 10)
        assert epoch < 7 or cast[BOUND] is not None
    assert story.final.epoch >= 9


def test_a_chain_whose_voters_are_bound_elsewhere_gives_way_after_two_epochs() -> None:
    story = Story(30, 40, 30)
    story.grow(story.head(0), 1)
    for epoch in range(1, 5):
        everybody_votes(story, epoch)
    # Nobody attacks: some see the block with all votes, and vote from there; others see the longer chain.
    first, trunk = first_slot(DEVNET, 5), story.head(5)
    [vote] = {story.vote(trunk, 5, voter) for voter in EVERYBODY}
    known = story.grow(trunk, first + 5, vote, EVERYBODY)
    longer = story.grow(story.grow(trunk, first + 6), first + 7)
    assert story.vote(known, 6, BOUND) is not None
    assert [story.head(epoch) for epoch in (5, 6, 7)] == [longer, longer, known]
    assert story.vote(longer, 6, FREE) is not None
    # The vote of epoch 6 is not 2/3 on either; the next one is everybody's.
    everybody_votes(story, 7)
    everybody_votes(story, 8)
    assert story.final.epoch == 7
