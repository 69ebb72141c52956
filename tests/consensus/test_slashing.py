"""Slashing: three offences convict, nothing that an honest miner signs does, and the money adds up."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.consensus.headers import (
    SIGNED_HEADER_BYTES_MAX,
    Header,
    SignedHeader,
    block_root,
    decode_signed_header,
    encode_signed_header,
)
from noria.consensus.parameters import DEVNET
from noria.consensus.signatures import BLS, SignatureScheme
from noria.consensus.slashing import (
    EVIDENCE_BYTES_MAX,
    EVIDENCE_ITEMS_MAX,
    AttributedVote,
    Evidence,
    EvidenceError,
    FutureOffence,
    NobodyGuilty,
    NoOffence,
    Penalty,
    ProposalEvidence,
    VoteEvidence,
    WrongEvidenceSignature,
    check_evidence,
    decode_evidence,
    double_vote,
    encode_evidence,
    evidence_hash,
    full_penalty,
    lesser_penalty,
    punishable,
    slashable,
    slashed,
    split_penalty,
    surrounds,
)
from noria.consensus.state import MinerRecord
from noria.consensus.votes import SIGNERS_MAX, Checkpoint, Vote, vote_message
from noria.consensus.wire import FieldOutOfRange, TooManyItems
from noria.primitives.keys import BlsSecretKey
from noria.primitives.types import Address, BlsSignature, Hash32
from tests.consensus.hostile import bytes_like, check_decoder, peak_bytes
from tests.consensus.oracle import ORACLE
from tests.consensus.world import FAKE, PlainState, address, bls_key

ROOT = Hash32(b"\x01" * 32)
OTHER = Hash32(b"\x02" * 32)
MINERS = [address(number) for number in range(6)]
STATE = PlainState({miner: MinerRecord(miner, bls_key(n), 1000) for n, miner in enumerate(MINERS)})


def check(
    evidence: Evidence, state: PlainState = STATE, root: Hash32 = ROOT, epoch: int = 5
) -> tuple[Address, ...]:
    return check_evidence(DEVNET, FAKE, root, state, evidence, epoch)


# ---------------------------------------------------------------- conditions


def vote(source: int, target: int, which: int = 0) -> Vote:
    return Vote(Checkpoint(source, OTHER), Checkpoint(target, Hash32(bytes([which]) * 32)))


@pytest.mark.parametrize(
    ("first", "second", "double", "outer"),
    [
        (vote(1, 5), vote(1, 5), False, False),
        (vote(1, 5), vote(1, 5, 1), True, False),
        (vote(1, 5), vote(2, 5), True, False),
        (vote(1, 5), vote(2, 4), False, True),
        (vote(2, 4), vote(1, 5), False, False),
        (vote(1, 5), vote(1, 4), False, False),  # the same source surrounds nothing
        (vote(1, 2), vote(3, 4), False, False),
        (vote(1, 3), vote(2, 4), False, False),  # crossing is no surrounding
    ],
)
def test_conditions(first: Vote, second: Vote, double: bool, outer: bool) -> None:
    assert double_vote(first, second) == double_vote(second, first) == double
    assert surrounds(first, second) == outer
    assert (
        slashable(first, second) == slashable(second, first) == (double or outer or surrounds(second, first))
    )


def test_conditions_against_all_small_votes() -> None:
    """Casper's two conditions, written out."""
    votes = [vote(s, t, w) for s, t, w in product(range(4), range(5), range(2)) if s < t]
    for a, b in product(votes, votes):
        s1, t1, s2, t2 = a.source.epoch, a.target.epoch, b.source.epoch, b.target.epoch
        expected = (a != b and t1 == t2) or s1 < s2 < t2 < t1 or s2 < s1 < t1 < t2
        assert slashable(a, b) == expected


# ---------------------------------------------------------------- proposals


def header(slot: int = 20, proposer: Address = MINERS[0], payload: int = 0) -> Header:
    word = Hash32(bytes([payload]) * 32)
    return Header(slot, ROOT, proposer, BlsSignature(b"\x03" * 96), OTHER, OTHER, OTHER, word)


def signed(head: Header, number: int = 0, root: Hash32 = ROOT) -> SignedHeader:
    return SignedHeader(head, FAKE.sign(bls_key(number), block_root(root, head)))


def test_two_blocks_for_one_slot_convict() -> None:
    assert check(ProposalEvidence(signed(header()), signed(header(payload=1)))) == (MINERS[0],)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (header(), header()),
        (header(), header(slot=21, payload=1)),
        (header(), header(proposer=MINERS[1], payload=1)),
    ],
)
def test_what_two_honest_blocks_can_be_convicts_nobody(first: Header, second: Header) -> None:
    with pytest.raises(NoOffence):
        check(ProposalEvidence(signed(first), signed(second)))


def test_two_signatures_of_one_block_convict_nobody() -> None:
    again = SignedHeader(header(), BlsSignature(b"\x01" * 96))
    with pytest.raises(NoOffence):
        check(ProposalEvidence(signed(header()), again))


def test_forged_headers_convict_nobody() -> None:
    right = signed(header())
    for forged in (
        signed(header(payload=1), 1),
        signed(header(payload=1), root=OTHER),  # another chain's
        SignedHeader(header(payload=1), right.signature),
    ):
        with pytest.raises(WrongEvidenceSignature):
            check(ProposalEvidence(right, forged))
        with pytest.raises(WrongEvidenceSignature):
            check(ProposalEvidence(forged, right))


def test_strangers_and_the_punished_are_not_convicted() -> None:
    evidence = ProposalEvidence(signed(header()), signed(header(payload=1)))
    with pytest.raises(NobodyGuilty):
        check(evidence, replace(STATE, records={}))
    record = STATE.records[MINERS[0]]
    # Slot 20 is in epoch 1.
    for epoch, guilty in ((0, True), (1, False), (2, False)):
        state = replace(STATE, records={MINERS[0]: replace(record, slashed_epoch=epoch)})
        if guilty:
            assert check(evidence, state) == (MINERS[0],)
        else:
            with pytest.raises(NobodyGuilty):
                check(evidence, state)


# ---------------------------------------------------------------- votes


def attributed(vote_: Vote, numbers: tuple[int, ...], root: Hash32 = ROOT) -> AttributedVote:
    message = vote_message(root, vote_)
    signature = FAKE.aggregate([FAKE.sign(bls_key(number), message) for number in numbers])
    return AttributedVote(vote_, tuple(sorted(MINERS[number] for number in numbers)), signature)


def test_who_signed_both_is_convicted_and_nobody_else() -> None:
    evidence = VoteEvidence(attributed(vote(1, 5), (0, 1, 2)), attributed(vote(2, 4), (1, 2, 3)))
    assert check(evidence) == tuple(sorted(MINERS[1:3]))
    assert check(VoteEvidence(evidence.second, evidence.first)) == tuple(sorted(MINERS[1:3]))
    double = VoteEvidence(attributed(vote(1, 5), (4,)), attributed(vote(1, 5, 1), (4,)))
    assert check(double) == (MINERS[4],)


@pytest.mark.parametrize(
    ("first", "second", "error"),
    [
        ((vote(1, 5), (0,)), (vote(1, 5), (0,)), NoOffence),
        ((vote(1, 2), (0,)), (vote(2, 3), (0,)), NoOffence),
        ((vote(1, 5), (0, 1)), (vote(1, 5, 1), (2, 3)), NobodyGuilty),
    ],
)
def test_votes_that_prove_nothing(
    first: tuple[Vote, tuple[int, ...]], second: tuple[Vote, tuple[int, ...]], error: type[EvidenceError]
) -> None:
    with pytest.raises(error):
        check(VoteEvidence(attributed(*first), attributed(*second)))


def test_forged_votes_convict_nobody() -> None:
    right = attributed(vote(1, 5), (0, 1))
    for forged in (
        replace(attributed(vote(1, 5, 1), (1,)), signers=(MINERS[0],)),
        replace(attributed(vote(1, 5, 1), (0, 2)), signers=(MINERS[0],)),
        attributed(vote(1, 5, 1), (0,), OTHER),
        replace(attributed(vote(1, 5, 1), (0,)), vote=vote(1, 5, 2)),
    ):
        with pytest.raises(WrongEvidenceSignature):
            check(VoteEvidence(right, forged))
        with pytest.raises(WrongEvidenceSignature):
            check(VoteEvidence(forged, right))


def test_signers_that_are_no_miners_make_evidence_worthless() -> None:
    stranger = address(99)
    first, second = attributed(vote(1, 5), (0,)), attributed(vote(1, 5, 1), (0,))
    with pytest.raises(WrongEvidenceSignature):
        check(VoteEvidence(replace(first, signers=tuple(sorted((MINERS[0], stranger)))), second))
    with pytest.raises(NobodyGuilty):
        check(VoteEvidence(replace(first, signers=(stranger,)), replace(second, signers=(stranger,))))


def test_the_punished_are_left_out() -> None:
    records = dict(STATE.records)
    records[MINERS[1]] = replace(records[MINERS[1]], slashed_epoch=5)
    evidence = VoteEvidence(attributed(vote(1, 5), (0, 1)), attributed(vote(1, 5, 1), (0, 1)))
    assert check(evidence, replace(STATE, records=records)) == (MINERS[0],)
    assert punishable(records[MINERS[1]], 6)
    assert not punishable(None, 6)


@pytest.mark.parametrize(("slashed_epoch", "guilty"), [(4, True), (5, False)])
def test_the_later_target_dates_an_offence(slashed_epoch: int, guilty: bool) -> None:
    records = {MINERS[0]: replace(STATE.records[MINERS[0]], slashed_epoch=slashed_epoch)}
    state = replace(STATE, records=records)
    evidence = VoteEvidence(attributed(vote(1, 5), (0,)), attributed(vote(2, 4), (0,)))
    if guilty:
        assert check(evidence, state) == (MINERS[0],)
    else:
        with pytest.raises(NobodyGuilty):
            check(evidence, state)


@pytest.mark.parametrize(
    "evidence",
    [
        ProposalEvidence(signed(header(slot=95)), signed(header(slot=95, payload=1))),
        VoteEvidence(attributed(vote(1, 5), (0,)), attributed(vote(1, 5, 1), (0,))),
        VoteEvidence(attributed(vote(1, 5), (0,)), attributed(vote(2, 4), (0,))),
        VoteEvidence(attributed(vote(2, 4), (0,)), attributed(vote(1, 5), (0,))),
    ],
)
def test_an_offence_is_punished_from_its_epoch_on_and_once(evidence: Evidence) -> None:
    with pytest.raises(FutureOffence, match="of epoch 5 cannot be punished in epoch 4"):
        check(evidence, epoch=4)
    for epoch in (5, 6, 2**60):
        assert check(evidence, epoch=epoch) == (MINERS[0],)
        # Whatever else the miner has signed until then is paid for as well.
        after = slashed(DEVNET, STATE.records[MINERS[0]], epoch)
        with pytest.raises(NobodyGuilty):
            check(evidence, replace(STATE, records={MINERS[0]: after}), epoch=epoch + 1)


def test_real_signatures_convict() -> None:
    secrets = [BlsSecretKey.from_seed(bytes([number]) * 32) for number in range(2)]
    state = PlainState(
        {
            miner: MinerRecord(miner, secret.public_key, 1)
            for miner, secret in zip(MINERS, secrets, strict=False)
        }
    )
    scheme: SignatureScheme = ORACLE
    both = tuple(sorted(MINERS[:2]))
    first, second = (
        AttributedVote(v, both, scheme.aggregate([secret.sign(vote_message(ROOT, v)) for secret in secrets]))
        for v in (vote(1, 5), vote(2, 4))
    )
    assert check_evidence(DEVNET, scheme, ROOT, state, VoteEvidence(first, second), 5) == both
    with pytest.raises(WrongEvidenceSignature):
        check_evidence(DEVNET, scheme, OTHER, state, VoteEvidence(first, second), 5)
    proposals = ProposalEvidence(
        *(
            SignedHeader(head, secrets[0].sign(block_root(ROOT, head)))
            for head in (header(), header(payload=1))
        )
    )
    assert check_evidence(DEVNET, BLS, ROOT, state, proposals, 5) == (MINERS[0],)
    with pytest.raises(WrongEvidenceSignature):
        check_evidence(DEVNET, BLS, OTHER, state, proposals, 5)


# ---------------------------------------------------------------- money


@pytest.mark.parametrize(
    ("amount", "loss", "parts"),
    [
        (100, 0, (50, 0, 50)),
        (100, 30, (50, 30, 20)),
        (100, 50, (50, 50, 0)),
        (100, 80, (50, 50, 0)),
        (101, 0, (51, 0, 50)),
        (1, 1, (1, 0, 0)),
        (0, 5, (0, 0, 0)),
    ],
)
def test_half_is_burned_then_the_wronged_then_the_prover(
    amount: int, loss: int, parts: tuple[int, int, int]
) -> None:
    assert split_penalty(amount, loss) == Penalty(amount, *parts)


def test_a_lesser_penalty_is_64_prices_but_not_more_than_the_bond() -> None:
    assert lesser_penalty(10**6, 100, 0).amount == 6400
    assert lesser_penalty(5000, 100, 0).amount == 5000
    assert lesser_penalty(5000, 100, 100) == Penalty(5000, 2500, 100, 2400)


@given(st.integers(0, 2**256), st.integers(0, 2**256))
def test_the_parts_add_up(amount: int, loss: int) -> None:
    penalty = split_penalty(amount, loss)
    assert penalty.burned + penalty.wronged + penalty.prover == amount
    assert 0 <= 2 * penalty.burned - amount <= 1
    assert penalty.wronged <= loss
    assert penalty.prover == 0 or penalty.wronged == loss
    assert min(penalty.wronged, penalty.prover) >= 0


def test_a_full_slash_leaves_nothing_but_jail() -> None:
    record = MinerRecord(MINERS[0], bls_key(0), 1000, 7, 3)
    assert full_penalty(record) == Penalty(1000, 500, 0, 500)
    after = slashed(DEVNET, record, 10)
    assert after == MinerRecord(MINERS[0], bls_key(0), 0, 7, 10 + DEVNET.jail_epochs, 10)
    assert after.jailed(41)
    assert not after.jailed(42)
    assert slashed(DEVNET, replace(record, jailed_until_epoch=99), 10).jailed_until_epoch == 99


# ---------------------------------------------------------------- codecs

PROPOSALS = ProposalEvidence(signed(header()), signed(header(payload=1)))
VOTES = VoteEvidence(attributed(vote(1, 5), (0, 1)), attributed(vote(2, 4), (1,)))


@pytest.mark.parametrize("items", [(), (PROPOSALS,), (VOTES,), (VOTES, PROPOSALS, VOTES)])
def test_evidence_is_read_as_written(items: tuple[Evidence, ...]) -> None:
    assert decode_evidence(encode_evidence(items)) == items


@given(bytes_like([encode_evidence(()), encode_evidence((PROPOSALS,)), encode_evidence((VOTES, PROPOSALS))]))
def test_any_bytes_are_evidence_or_a_named_rejection(data: bytes) -> None:
    check_decoder(data, decode_evidence, encode_evidence)


@given(bytes_like([encode_signed_header(signed(header()))]))
def test_any_bytes_are_a_header_or_a_named_rejection(data: bytes) -> None:
    check_decoder(data, decode_signed_header, encode_signed_header)


def test_the_widest_header_fits() -> None:
    data = encode_signed_header(signed(header(slot=2**64 - 1)))
    assert len(data) <= SIGNED_HEADER_BYTES_MAX < len(data) + 10
    assert decode_signed_header(data).header.slot == 2**64 - 1


def test_the_bounds_of_evidence_are_named() -> None:
    with pytest.raises(TooManyItems):
        decode_evidence(encode_evidence([PROPOSALS] * (EVIDENCE_ITEMS_MAX + 1)))
    backwards = replace(VOTES.first, signers=VOTES.first.signers[::-1])
    with pytest.raises(FieldOutOfRange, match="not ascending"):
        decode_evidence(encode_evidence([VoteEvidence(backwards, VOTES.second)]))
    ragged = replace(VOTES.first, signers=(Address(b"\x01" * 21),))
    with pytest.raises(FieldOutOfRange, match="no whole number of signers"):
        decode_evidence(encode_evidence([VoteEvidence(ragged, VOTES.second)]))
    with pytest.raises(FieldOutOfRange, match="kind is 3, not 1 or 2"):
        decode_evidence(bytes.fromhex("c4c303c0c0"))
    with pytest.raises(FieldOutOfRange, match="slot is 0, not 1"):
        decode_signed_header(encode_signed_header(signed(header(slot=0))))


def test_evidence_against_as_many_as_one_aggregate_holds_fits_a_block() -> None:
    many = tuple(sorted(Address(number.to_bytes(20, "big")) for number in range(SIGNERS_MAX)))
    votes = [
        AttributedVote(v, many, BlsSignature(bytes(96))) for v in (vote(2**60, 2**62), vote(2**61, 2**61 + 1))
    ]
    data = encode_evidence([VoteEvidence(*votes)])
    assert len(data) <= EVIDENCE_BYTES_MAX
    assert decode_evidence(data) == (VoteEvidence(*votes),)
    assert peak_bytes(decode_evidence, data) < 20 * len(data)


def test_the_hash_covers_the_evidence() -> None:
    assert len({evidence_hash(items) for items in ((), (PROPOSALS,), (VOTES,), (PROPOSALS, VOTES))}) == 4
