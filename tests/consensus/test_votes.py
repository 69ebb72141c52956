"""Votes: what is signed, who may vote, and sums of signatures with real BLS."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria import _core
from noria.consensus.alarms import Alarm, alarm_message, check_alarm, decode_alarm, encode_alarm
from noria.consensus.bitfield import bits_of, positions_of
from noria.consensus.signatures import BLS, SignatureScheme
from noria.consensus.votes import (
    AGGREGATES_MAX,
    SIGNERS_MAX,
    VOTERS_MAX,
    AggregatedVote,
    Checkpoint,
    NothingToJoin,
    SignedVote,
    UnknownVoter,
    Vote,
    WrongVoteSignature,
    aggregate_votes,
    check_aggregate,
    check_signed_vote,
    decode_signed_vote,
    decode_votes,
    encode_signed_vote,
    encode_votes,
    vote_message,
    voters,
    votes_hash,
)
from noria.consensus.weight import Snapshot, SnapshotRow
from noria.consensus.wire import FieldOutOfRange, FieldTooLong, InvalidMessage, TooManyItems
from noria.primitives.keys import BlsSecretKey
from noria.primitives.types import Address, BlsSignature, Hash32
from tests.consensus.hostile import bytes_like, check_decoder, peak_bytes
from tests.consensus.oracle import ORACLE
from tests.consensus.world import FAKE, address, bls_key

ROOT = Hash32(b"\x01" * 32)
OTHER = Hash32(b"\x02" * 32)
VOTE = Vote(Checkpoint(3, ROOT), Checkpoint(5, OTHER))
SECRETS = {address(number): BlsSecretKey.from_seed(bytes([number]) * 32) for number in range(4)}
REAL = Snapshot(
    5, tuple(SnapshotRow(miner, SECRETS[miner].public_key, 0, 0, 1, 1) for miner in sorted(SECRETS))
)
MANY = Snapshot(
    5,
    tuple(
        SnapshotRow(miner, bls_key(number), 0, 0, 1, 1)
        for miner, number in sorted((address(number), number) for number in range(40))
    ),
)
NUMBERS = {address(number): number for number in range(40)}


def real_vote(number: int, vote: Vote = VOTE, root: Hash32 = ROOT) -> SignedVote:
    miner = address(number)
    return SignedVote(vote, miner, SECRETS[miner].sign(vote_message(root, vote)))


def fake_vote(miner: Address, vote: Vote = VOTE) -> SignedVote:
    return SignedVote(vote, miner, FAKE.sign(bls_key(NUMBERS[miner]), vote_message(ROOT, vote)))


def aggregate(bits: int, vote: Vote = VOTE) -> AggregatedVote:
    return AggregatedVote(vote, bits, BlsSignature(b"\x09" * 96))


# ---------------------------------------------------------------- messages and single votes


def test_the_message_covers_chain_source_and_target() -> None:
    messages = {
        vote_message(ROOT, VOTE),
        vote_message(OTHER, VOTE),
        vote_message(ROOT, replace(VOTE, source=Checkpoint(2, ROOT))),
        vote_message(ROOT, replace(VOTE, source=Checkpoint(3, OTHER))),
        vote_message(ROOT, replace(VOTE, target=Checkpoint(6, OTHER))),
        vote_message(ROOT, replace(VOTE, target=Checkpoint(5, ROOT))),
    }
    assert len(messages) == 6
    assert {len(message) for message in messages} == {12 + 32 + 2 * 40}


def test_a_real_vote_is_its_voters_and_for_this_chain_only() -> None:
    vote = real_vote(0)
    check_signed_vote(BLS, ROOT, REAL, vote)
    with pytest.raises(WrongVoteSignature):
        check_signed_vote(BLS, OTHER, REAL, vote)
    with pytest.raises(WrongVoteSignature):
        check_signed_vote(BLS, ROOT, REAL, replace(vote, miner=address(1)))
    with pytest.raises(WrongVoteSignature):
        check_signed_vote(BLS, ROOT, REAL, replace(vote, vote=replace(VOTE, target=Checkpoint(6, OTHER))))
    with pytest.raises(UnknownVoter, match="no vote in the set of epoch 5"):
        check_signed_vote(BLS, ROOT, REAL, replace(vote, miner=address(9)))


# ---------------------------------------------------------------- sums

schemes = pytest.mark.parametrize(
    "scheme",
    [
        ORACLE,
        pytest.param(
            BLS,
            marks=pytest.mark.skipif(
                not hasattr(_core, "bls_aggregate"),
                reason="the extension is older than bls_aggregate: make build",
            ),
        ),
    ],
    ids=["py_ecc", "blst"],
)


@schemes
def test_real_votes_join_and_only_their_voters_are_in_it(scheme: SignatureScheme) -> None:
    (joined,) = aggregate_votes(scheme, REAL, [real_vote(0), real_vote(2), real_vote(0)])
    assert set(voters(REAL, joined)) == {address(0), address(2)}
    check_aggregate(scheme, ROOT, REAL, joined)
    for wrong in (
        replace(joined, bits=0b1111),
        replace(joined, bits=joined.bits & -joined.bits),
        replace(joined, signature=real_vote(0).signature),
        replace(joined, signature=BlsSignature(b"\xc0" + bytes(95))),
        replace(joined, vote=replace(VOTE, target=Checkpoint(6, OTHER))),
    ):
        with pytest.raises(WrongVoteSignature):
            check_aggregate(scheme, ROOT, REAL, wrong)
    with pytest.raises(WrongVoteSignature):
        check_aggregate(scheme, OTHER, REAL, joined)


@given(st.sets(st.sampled_from(sorted(NUMBERS)), min_size=1), st.data())
def test_any_votes_join_in_any_order(miners: set[Address], data: st.DataObject) -> None:
    votes = [fake_vote(miner) for miner in data.draw(st.permutations(sorted(miners)))]
    (joined,) = aggregate_votes(FAKE, MANY, votes)
    assert voters(MANY, joined) == tuple(sorted(miners))
    check_aggregate(FAKE, ROOT, MANY, joined)
    assert MANY.weight_of(joined.bits) == len(miners)


def test_what_cannot_be_joined_is_named() -> None:
    with pytest.raises(NothingToJoin):
        aggregate_votes(FAKE, MANY, [])
    other = replace(VOTE, target=Checkpoint(6, OTHER))
    with pytest.raises(NothingToJoin):
        aggregate_votes(FAKE, MANY, [fake_vote(address(0)), fake_vote(address(1), other)])
    with pytest.raises(UnknownVoter):
        aggregate_votes(FAKE, REAL, [fake_vote(address(9))])


def test_large_sets_make_several_aggregates() -> None:
    count = SIGNERS_MAX + 3
    rows = sorted((address(number), number) for number in range(count))
    voting_set = Snapshot(5, tuple(SnapshotRow(miner, bls_key(number), 0, 0, 1, 1) for miner, number in rows))
    message = vote_message(ROOT, VOTE)
    votes = [SignedVote(VOTE, miner, FAKE.sign(bls_key(number), message)) for miner, number in rows]
    joined = aggregate_votes(FAKE, voting_set, votes)
    assert [part.bits.bit_count() for part in joined] == [SIGNERS_MAX, 3]
    assert joined[0].bits | joined[1].bits == (1 << count) - 1
    for part in joined:
        check_aggregate(FAKE, ROOT, voting_set, part)
    assert decode_votes(encode_votes(joined)) == joined


@pytest.mark.parametrize("bits", [0, 0b10000, 0b10001])
def test_bits_without_rows_are_unknown_voters(bits: int) -> None:
    with pytest.raises(UnknownVoter, match="do not fit the 4 voters"):
        check_aggregate(BLS, ROOT, REAL, aggregate(bits))
    with pytest.raises(UnknownVoter):
        voters(REAL, aggregate(bits))


@given(st.sets(st.integers(0, 3000)))
def test_bits_and_positions_are_the_same(positions: set[int]) -> None:
    assert positions_of(bits_of(positions)) == sorted(positions)


# ---------------------------------------------------------------- codecs

checkpoints = st.builds(
    lambda epoch, root: Checkpoint(epoch, Hash32(root)),
    st.integers(0, 2**63),
    st.binary(min_size=32, max_size=32),
)
votes = st.builds(
    lambda source, target, ahead: Vote(source, replace(target, epoch=source.epoch + ahead)),
    checkpoints,
    checkpoints,
    st.integers(1, 2**62),
)
signatures = st.binary(min_size=96, max_size=96).map(BlsSignature)
aggregates = st.builds(AggregatedVote, votes, st.integers(1, 2**200 - 1), signatures)
signed_votes = st.builds(SignedVote, votes, st.binary(min_size=20, max_size=20).map(Address), signatures)


@given(signed_votes)
def test_signed_votes_are_read_as_written(vote: SignedVote) -> None:
    assert decode_signed_vote(encode_signed_vote(vote)) == vote


@given(st.lists(aggregates, max_size=AGGREGATES_MAX))
def test_votes_are_read_as_written(items: list[AggregatedVote]) -> None:
    assert decode_votes(encode_votes(items)) == tuple(items)


SAMPLE_VOTES = [encode_signed_vote(fake_vote(address(0)))]
SAMPLE_AGGREGATES = [encode_votes([]), encode_votes([aggregate(5), aggregate(2**70 + 1)])]
SAMPLE_ALARM = Alarm(ROOT, address(0), SECRETS[address(0)].sign(alarm_message(ROOT, ROOT)))


@given(bytes_like(SAMPLE_VOTES))
def test_any_bytes_are_a_vote_or_a_named_rejection(data: bytes) -> None:
    check_decoder(data, decode_signed_vote, encode_signed_vote)


@given(bytes_like(SAMPLE_AGGREGATES))
def test_any_bytes_are_votes_or_a_named_rejection(data: bytes) -> None:
    check_decoder(data, decode_votes, encode_votes)


@given(bytes_like([encode_alarm(SAMPLE_ALARM)]))
def test_any_bytes_are_an_alarm_or_a_named_rejection(data: bytes) -> None:
    check_decoder(data, decode_alarm, encode_alarm)


def test_the_bounds_of_votes_are_named() -> None:
    with pytest.raises(TooManyItems):
        decode_votes(encode_votes([aggregate(1)] * (AGGREGATES_MAX + 1)))
    with pytest.raises(FieldTooLong, match="8193 signers"):
        decode_votes(encode_votes([aggregate((1 << SIGNERS_MAX + 1) - 1)]))
    with pytest.raises(FieldOutOfRange, match="source 5 is not older than target 5"):
        decode_signed_vote(
            encode_signed_vote(fake_vote(address(0), Vote(Checkpoint(5, ROOT), Checkpoint(5, ROOT))))
        )
    with pytest.raises(FieldOutOfRange, match="bits end in a zero byte"):
        decode_votes(encode_votes([aggregate(0x1FF)]).replace(b"\x82\xff\x01", b"\x82\xff\x00"))
    for bits in (0, 1 << VOTERS_MAX):
        with pytest.raises(InvalidMessage):
            encode_votes([aggregate(bits)])
    widest = encode_votes([aggregate(1 << (VOTERS_MAX - 1))])
    assert decode_votes(widest) == (aggregate(1 << (VOTERS_MAX - 1)),)


def test_many_empty_lists_cost_nothing() -> None:
    assert peak_bytes(decode_votes, b"\xfa\x10\x00\x00" + b"\xc0" * 0x100000) < 100_000


def test_the_hash_covers_order_and_contents() -> None:
    one, two = aggregate(1), aggregate(2)
    hashes = {votes_hash(list(items)) for items in ((), (one,), (two,), (one, two), (two, one))}
    assert len(hashes) == 5


# ---------------------------------------------------------------- alarms


def test_an_alarm_is_signed_by_a_miner_with_weight() -> None:
    check_alarm(BLS, ROOT, REAL, SAMPLE_ALARM)
    assert decode_alarm(encode_alarm(SAMPLE_ALARM)) == SAMPLE_ALARM
    with pytest.raises(UnknownVoter):
        check_alarm(BLS, ROOT, REAL, replace(SAMPLE_ALARM, miner=address(9)))
    with pytest.raises(WrongVoteSignature):
        check_alarm(BLS, ROOT, REAL, replace(SAMPLE_ALARM, block_root=OTHER))
    with pytest.raises(WrongVoteSignature):
        check_alarm(BLS, OTHER, REAL, SAMPLE_ALARM)
