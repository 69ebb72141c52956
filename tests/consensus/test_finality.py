"""Justification and finality: two thirds, the right source, the right voters."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.consensus.finality import (
    FinalityState,
    ForeignVote,
    Tally,
    count_vote,
    enter_epoch,
    genesis_finality,
    tally_for,
    voting_epoch,
)
from noria.consensus.parameters import DEVNET
from noria.consensus.votes import AggregatedVote, Checkpoint, Vote
from noria.consensus.weight import Snapshot, SnapshotRow
from noria.primitives.types import BlsSignature, Hash32
from tests.consensus.world import address, bls_key

NO_SIGNATURE = BlsSignature(bytes(96))
EVERYBODY = 0b1111


def root(number: int) -> Hash32:
    return Hash32(number.to_bytes(32, "big"))


def voters(*weights: int) -> Snapshot:
    numbered = sorted((address(number), number) for number in range(len(weights)))
    return Snapshot(
        0,
        tuple(
            SnapshotRow(miner, bls_key(number), 0, 0, weights[place], weights[place])
            for place, (miner, number) in enumerate(numbered)
        ),
    )


FOUR = voters(1, 1, 1, 1)


def entered(
    epoch: int, state: FinalityState | None = None, parent: int = 0, parent_epoch: int = 0
) -> FinalityState:
    return enter_epoch(DEVNET, state or genesis_finality(root(0)), root(parent), parent_epoch, epoch)


def votes(state: FinalityState, epoch: int, bits: int, voting_set: Snapshot = FOUR) -> FinalityState:
    tally = next(tally for tally in state.tallies if tally.target.epoch == epoch)
    return count_vote(state, AggregatedVote(tally.vote, bits, NO_SIGNATURE), voting_set)


def test_genesis_is_final() -> None:
    state = genesis_finality(root(0))
    assert state == FinalityState(Checkpoint(0, root(0)), Checkpoint(0, root(0)), ())


def test_entering_an_epoch_fixes_target_source_and_voters() -> None:
    state = entered(1, parent=7)
    assert state.tallies == (Tally(Checkpoint(1, root(7)), Checkpoint(0, root(0)), 0),)
    assert entered(1, state, parent=8, parent_epoch=1) is state


def test_the_last_epochs_votes_can_still_be_counted_and_older_ones_not() -> None:
    state = entered(2, entered(1, parent=1), parent=2, parent_epoch=1)
    assert [tally.target for tally in state.tallies] == [Checkpoint(1, root(1)), Checkpoint(2, root(2))]
    state = entered(3, state, parent=3, parent_epoch=2)
    assert [tally.target.epoch for tally in state.tallies] == [2, 3]


def test_skipped_epochs_share_a_block_but_are_targets_of_their_own() -> None:
    state = entered(5, entered(1, parent=1), parent=2, parent_epoch=1)
    assert [tally.target for tally in state.tallies] == [Checkpoint(4, root(2)), Checkpoint(5, root(2))]


@pytest.mark.parametrize(
    ("weights", "bits", "justified"),
    [
        ((1, 1, 1), 0b011, False),  # exactly two thirds are not more
        ((1, 1, 1), 0b111, True),
        ((3, 3, 3, 1), 0b0111, True),
        ((100, 100, 101), 0b011, False),
        ((101, 100, 100), 0b011, True),
        ((1,), 1, True),
    ],
)
def test_more_than_two_thirds_justify(weights: tuple[int, ...], bits: int, justified: bool) -> None:
    state = votes(entered(1, parent=1), 1, bits, voters(*weights))
    assert state.justified == (Checkpoint(1, root(1)) if justified else Checkpoint(0, root(0)))


def test_votes_add_up_over_blocks_and_count_once() -> None:
    state = entered(1, parent=1)
    for bits in (0b0001, 0b0001, 0b0010, 0b0011):
        state = votes(state, 1, bits)
        assert state.justified.epoch == 0
    assert state.tallies[0].bits == 0b0011
    assert votes(state, 1, 0b0100).justified == Checkpoint(1, root(1))


def test_two_justified_epochs_in_a_row_make_the_first_final() -> None:
    state = votes(entered(1, parent=1), 1, EVERYBODY)
    # Genesis was the source of epoch 1 and final before.
    assert state.finalised == Checkpoint(0, root(0))
    state = votes(entered(2, state, parent=2, parent_epoch=1), 2, EVERYBODY)
    assert state.justified == Checkpoint(2, root(2))
    assert state.finalised == Checkpoint(1, root(1))


def test_a_gap_between_justified_epochs_makes_nothing_final() -> None:
    state = votes(entered(1, parent=1), 1, EVERYBODY)
    state = entered(2, state, parent=2, parent_epoch=1)
    state = votes(entered(3, state, parent=3, parent_epoch=2), 3, EVERYBODY)
    assert state.justified == Checkpoint(3, root(3))
    assert state.finalised == Checkpoint(0, root(0))
    state = votes(entered(4, state, parent=4, parent_epoch=3), 4, EVERYBODY)
    assert state.finalised == Checkpoint(3, root(3))


def test_a_late_justification_does_not_go_back() -> None:
    state = entered(2, entered(1, parent=1), parent=2, parent_epoch=1)
    state = votes(state, 2, EVERYBODY)
    assert state.justified == Checkpoint(2, root(2))
    state = votes(state, 1, EVERYBODY)
    assert state.justified == Checkpoint(2, root(2))
    assert state.finalised == Checkpoint(0, root(0))


def test_a_late_vote_cannot_change_the_source_of_its_target() -> None:
    """The source is what was justified when the epoch began, so that all votes for a target are one vote."""
    state = entered(2, entered(1, parent=1), parent=2, parent_epoch=1)
    state = votes(state, 1, EVERYBODY)
    assert state.tallies[1].source == Checkpoint(0, root(0))
    assert votes(state, 2, EVERYBODY).finalised == Checkpoint(0, root(0))


@pytest.mark.parametrize(
    "vote",
    [
        Vote(Checkpoint(0, root(0)), Checkpoint(1, root(9))),  # another target
        Vote(Checkpoint(0, root(9)), Checkpoint(1, root(1))),  # another source
        Vote(Checkpoint(0, root(0)), Checkpoint(2, root(1))),  # another epoch
    ],
)
def test_votes_for_another_chain_are_foreign(vote: Vote) -> None:
    with pytest.raises(ForeignVote, match="is not for this"):
        tally_for(entered(1, parent=1), vote)


def test_the_voting_set_is_that_of_the_final_checkpoint_until_it_is_too_old() -> None:
    final = Checkpoint(10, root(1))
    assert voting_epoch(DEVNET, final, 11) == 10
    assert voting_epoch(DEVNET, final, 10 + DEVNET.leak_epochs) == 10
    assert voting_epoch(DEVNET, final, 11 + DEVNET.leak_epochs) == 11 + DEVNET.leak_epochs


def test_who_was_slashed_stays_in_the_total() -> None:
    # Two of three vote, the third was slashed: exactly two thirds still do not suffice.
    assert votes(entered(1, parent=1), 1, 0b011, voters(1, 1, 1)).justified.epoch == 0


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=8),
    st.lists(st.integers(1, 255), min_size=1, max_size=6),
    st.permutations(range(6)),
)
def test_the_order_of_votes_does_not_matter(weights: list[int], parts: list[int], order: list[int]) -> None:
    voting_set, mask = voters(*weights), (1 << len(weights)) - 1
    parts = [part & mask or 1 for part in parts]

    def after(sequence: list[int]) -> FinalityState:
        state = entered(1, parent=1)
        for bits in sequence:
            state = votes(state, 1, bits, voting_set)
        return state

    shuffled = [parts[place] for place in order if place < len(parts)]
    assert after(parts) == after(shuffled)
    union = 0
    for bits in parts:
        union |= bits
    assert (after(parts).justified.epoch == 1) == (3 * voting_set.weight_of(union) > 2 * sum(weights))


def test_finality_never_goes_back() -> None:
    state = replace(
        genesis_finality(root(0)), finalised=Checkpoint(5, root(5)), justified=Checkpoint(6, root(6))
    )
    tally = Tally(Checkpoint(4, root(4)), Checkpoint(3, root(3)), 0)
    state = replace(state, tallies=(tally,))
    after = votes(state, 4, EVERYBODY)
    assert (after.justified, after.finalised) == (state.justified, state.finalised)
