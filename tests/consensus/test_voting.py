"""What a miner signs: once an epoch, and never what could be punished, wherever it stopped and started."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.consensus.finality import Tally, genesis_finality
from noria.consensus.fork_choice import BlockNode, genesis_node
from noria.consensus.parameters import DEVNET
from noria.consensus.slashing import slashable
from noria.consensus.votes import Checkpoint, Vote
from noria.consensus.voting import (
    RECORD_BYTES_MAX,
    Abstain,
    Cast,
    OwnRecord,
    Reason,
    Wait,
    WouldBeSlashable,
    decide_vote,
    decode_record,
    due_tally,
    encode_record,
    record_proposal,
    record_vote,
    unsettled_ancestors,
    without_record,
)
from noria.consensus.wire import FieldOutOfRange
from noria.primitives.types import Hash32
from tests.consensus.hostile import bytes_like, check_decoder


def root(number: int) -> Hash32:
    return Hash32(number.to_bytes(32, "big"))


def vote(source: int, target: int, which: int = 0) -> Vote:
    return Vote(Checkpoint(source, root(source)), Checkpoint(target, root(1000 * which + target)))


GENESIS = genesis_node(root(0))
FINAL = Checkpoint(0, root(0))
BLOCKS = {GENESIS.root: GENESIS}
for _number in range(1, 4):
    _parent = BLOCKS[root(_number - 1)]
    BLOCKS[root(_number)] = BlockNode(
        root(_number), _parent.root, _number, _number, root(0), _parent.justified, _parent.finalised
    )
TALLY = Tally(Checkpoint(1, root(2)), Checkpoint(0, root(0)), 0)


def decide(
    slot: int = 20,
    tally: Tally | None = TALLY,
    *,
    voter: bool = True,
    refuted: tuple[int, ...] = (),
    unchecked: tuple[int, ...] = (),
    record: OwnRecord = OwnRecord(),  # noqa: B008  frozen
) -> Cast | Wait | Abstain:
    return decide_vote(
        DEVNET,
        slot=slot,
        tally=tally,
        voter=voter,
        blocks=BLOCKS,
        final=FINAL,
        refuted=[root(number) for number in refuted],
        unchecked=[root(number) for number in unchecked],
        record=record,
    )


def test_the_vote_is_the_tallys_and_is_recorded() -> None:
    assert decide() == Cast(TALLY.vote, OwnRecord(TALLY.vote, 0, 0))


def test_it_is_due_a_quarter_into_the_epoch() -> None:
    assert decide(19) == Wait(Reason.TOO_EARLY, 20)
    assert isinstance(decide(20), Cast)
    assert isinstance(decide(31), Cast)


def test_epoch_0_has_none() -> None:
    state = genesis_finality(root(0))
    assert due_tally(DEVNET, root(0), 0, state, 0) is None
    assert decide(5, None) == Abstain(Reason.NO_VOTE_IN_EPOCH_0)


def test_the_due_tally_is_that_of_the_heads_chain() -> None:
    state = genesis_finality(root(0))
    expected = Tally(Checkpoint(1, root(3)), Checkpoint(0, root(0)), 0)
    assert due_tally(DEVNET, root(3), 3, state, 1) == expected
    # A head of this epoch already holds it, with the votes that its chain has included.
    begun = replace(state, tallies=(replace(expected, bits=5),))
    assert due_tally(DEVNET, root(9), 17, begun, 1) == replace(expected, bits=5)
    # Epochs without blocks.
    assert due_tally(DEVNET, root(3), 3, state, 7) == Tally(Checkpoint(7, root(3)), Checkpoint(0, root(0)), 0)


def test_who_has_no_vote_abstains() -> None:
    assert decide(voter=False) == Abstain(Reason.NOT_A_VOTER)


def test_only_a_refuted_ancestor_stops_a_vote() -> None:
    assert decide(refuted=(1,)) == Abstain(Reason.TARGET_REFUTED)
    assert decide(refuted=(2,)) == Abstain(Reason.TARGET_REFUTED)
    assert isinstance(decide(refuted=(3,)), Cast)  # above the target


def test_pending_checks_are_waited_for_an_eighth_of_an_epoch() -> None:
    assert decide(20, unchecked=(2,)) == Wait(Reason.CHECKS_PENDING, 22)
    assert decide(21, unchecked=(1,)) == Wait(Reason.CHECKS_PENDING, 22)
    assert isinstance(decide(22, unchecked=(1, 2)), Cast)
    assert isinstance(decide(20, unchecked=(3,)), Cast)
    assert decide(22, unchecked=(1,), refuted=(1,)) == Abstain(Reason.TARGET_REFUTED)
    assert unsettled_ancestors(BLOCKS, FINAL, root(2)) == {root(1), root(2)}
    assert unsettled_ancestors(BLOCKS, Checkpoint(1, root(2)), root(2)) == frozenset()


def test_a_slashable_vote_is_not_cast() -> None:
    assert decide(record=OwnRecord(vote(0, 1, 5))) == Abstain(Reason.WOULD_BE_SLASHABLE)
    assert decide(record=OwnRecord(vote(0, 9))) == Abstain(Reason.WOULD_BE_SLASHABLE)
    assert decide(record=OwnRecord(vote(1, 2), 1)) == Abstain(Reason.WOULD_BE_SLASHABLE)


def knows(epoch: int) -> dict[Hash32, BlockNode]:
    """The blocks, of which a side branch knows that genesis' child is justified."""
    told = replace(BLOCKS[root(2)], root=root(9), justified=Checkpoint(epoch, root(1)))
    return {**BLOCKS, told.root: told}


def test_where_the_record_is_lost_no_source_is_below_one_that_may_have_been_voted_from() -> None:
    assert without_record(BLOCKS, FINAL, 0) == OwnRecord()
    # Nobody has voted from anything but genesis: a network that begins late can vote.
    assert without_record(BLOCKS, FINAL, 7) == OwnRecord()
    assert without_record(knows(3), FINAL, 7) == OwnRecord(source_epoch=3)
    # No vote for a target before epoch 7 can have had a later source.
    assert without_record(knows(8), FINAL, 7) == OwnRecord(source_epoch=5)
    assert without_record(knows(8), FINAL, 1) == OwnRecord()
    assert decide(record=without_record(knows(1), FINAL, 3)) == Abstain(Reason.WOULD_BE_SLASHABLE)


@given(st.integers(0, 6), st.integers(2, 8), st.data())
def test_whatever_was_signed_before_the_record_was_lost_is_not_contradicted(
    known: int, before: int, data: st.DataObject
) -> None:
    """`known` is the highest justified checkpoint that the miner has ever known."""
    sources = data.draw(st.lists(st.integers(0, min(known, before - 2)), min_size=1, max_size=3))
    signed = [vote(source, data.draw(st.integers(source + 1, before - 1))) for source in sources]
    record = without_record(knows(known), FINAL, before)
    for source in data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=3)):
        new = vote(source, data.draw(st.integers(max(source + 1, before), 12)), 1)
        try:
            record = record_vote(record, new)
        except WouldBeSlashable:
            continue
        assert not any(slashable(old, new) for old in signed)


def test_the_same_vote_may_be_sent_again() -> None:
    record = OwnRecord(TALLY.vote)
    assert decide(record=record) == Cast(TALLY.vote, record)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (vote(0, 5), vote(0, 5, 1)),  # double
        (vote(0, 5), vote(1, 5)),  # double
        (vote(2, 4), vote(1, 5)),  # surrounds
        (vote(1, 5), vote(2, 4)),  # is surrounded
        (vote(3, 5), vote(2, 4)),  # backwards
    ],
)
def test_votes_that_contradict_the_record_are_refused(first: Vote, second: Vote) -> None:
    record = record_vote(OwnRecord(), first)
    with pytest.raises(WouldBeSlashable):
        record_vote(record, second)


def test_one_block_a_slot() -> None:
    record = record_proposal(OwnRecord(), 7)
    assert record.proposed_slot == 7
    for slot in (7, 6, 0):
        with pytest.raises(WouldBeSlashable, match="after one for slot 7"):
            record_proposal(record, slot)
    assert record_proposal(record, 8).proposed_slot == 8
    assert record_vote(record, vote(0, 1)).proposed_slot == 7


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(1, 5), st.integers(0, 2), st.booleans()), max_size=25)
)
def test_what_is_signed_can_never_be_punished(wishes: list[tuple[int, int, int, bool]]) -> None:
    """Invariant 6: whatever is asked, and whether or not a signature was sent before a stop."""
    record, signed = OwnRecord(), list[Vote]()
    for source, ahead, which, sent in wishes:
        wish = vote(source, source + ahead, which)
        try:
            record = record_vote(record, wish)  # durable before anything is sent
        except WouldBeSlashable:
            continue
        if sent:
            signed.append(wish)
    for first in signed:
        for second in signed:
            assert not slashable(first, second)


def test_honest_progress_is_never_refused() -> None:
    record = OwnRecord()
    for source, target in ((0, 1), (0, 2), (2, 3), (3, 4), (3, 6), (3, 7), (7, 8)):
        record = record_vote(record, vote(source, target))
    assert record == OwnRecord(vote(7, 8), 7)


# ---------------------------------------------------------------- the record as it is kept

RECORDS = [
    OwnRecord(),
    OwnRecord(None, 0, 7),
    OwnRecord(vote(3, 9), 3, 2**64 - 1),
    OwnRecord(vote(0, 1), 0, 0),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_read_as_written(record: OwnRecord) -> None:
    assert decode_record(encode_record(record)) == record


def test_the_largest_record_fits() -> None:
    last = Vote(Checkpoint(2**64 - 2, root(1)), Checkpoint(2**64 - 1, root(2)))
    record = OwnRecord(last, 2**64 - 2, 2**64 - 1)
    assert len(encode_record(record)) <= RECORD_BYTES_MAX
    assert decode_record(encode_record(record)) == record


@given(bytes_like([encode_record(record) for record in RECORDS]))
def test_a_damaged_record_is_named_and_never_guessed(data: bytes) -> None:
    check_decoder(data, decode_record, encode_record)


def test_a_record_that_contradicts_itself_is_refused() -> None:
    for record in (OwnRecord(vote(3, 9), 2), OwnRecord(None, 1)):
        with pytest.raises(FieldOutOfRange, match="is not that of the last vote"):
            decode_record(encode_record(record))
