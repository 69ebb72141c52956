"""Certificates: each weight names one receipt in proportion, and only that receipt will do."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.consensus.certificate import (
    CERTIFICATE_BYTES_MAX,
    Certificate,
    CertificateError,
    CertificateMissing,
    CertificateNotEmpty,
    CreditMissing,
    CreditVoid,
    WrongInput,
    WrongProgram,
    WrongReceipt,
    WrongUnitShown,
    certificate_hash,
    check_certificate,
    check_input,
    decode_certificate,
    encode_certificate,
    input_refutes,
    named_batch,
    named_position,
    named_receipt,
)
from noria.consensus.parameters import DEVNET
from noria.consensus.state import CreditEntry, MinerRecord
from noria.consensus.validity import CertificateRefuted, check_result
from noria.consensus.weight import SnapshotRow
from noria.primitives import rlp
from noria.primitives.rlp import integer_to_bytes
from noria.primitives.types import Hash32
from noria.work.batches import Batch, build_batch
from noria.work.ids import BlobId, blob_id, program_id
from noria.work.receipts import Status
from tests.consensus.hostile import bytes_like, check_decoder, mutated
from tests.consensus.world import (
    PROGRAM,
    PlainState,
    address,
    bls_key,
    certificate_at,
    input_of,
    state_with,
    unit_batch,
    unit_receipt,
)

MINER = address(0)
PINNED = frozenset({PROGRAM})
FUELS = (5, 1, 30, 4, 60)
BATCH = unit_batch(MINER, FUELS)


def row(weight: int, lo: int, hi: int, grant: int = 0) -> SnapshotRow:
    return SnapshotRow(MINER, bls_key(0), lo, hi, weight, grant)


def state(*credited: tuple[Batch, int]) -> PlainState:
    record = MinerRecord(MINER, bls_key(0), 0)
    return state_with([record], {MINER: [(batch, 0, credit) for batch, credit in credited]})


ONE = state((BATCH, 100))
FULL = row(100, 0, 100)


def check(x: int, certificate: Certificate | None, view: PlainState = ONE, of: SnapshotRow = FULL) -> None:
    check_certificate(DEVNET, view, PINNED, of, x, certificate)


# ---------------------------------------------------------------- which receipt


def test_each_number_names_the_receipt_whose_weight_it_falls_on() -> None:
    found = Counter[int]()
    for x in range(100):
        check(x, certificate := certificate_at(BATCH, x))
        found[certificate.proof.receipt.index] += 1
        for other in range(5):
            if other != certificate.proof.receipt.index:
                wrong = certificate_at(BATCH, sum(FUELS[:other]))
                with pytest.raises(WrongReceipt):
                    check(x, wrong)
    assert [found[index] for index in range(5)] == list(FUELS)


credits = st.lists(
    st.tuples(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 100)),
    min_size=1,
    max_size=4,
)
"""Batches as fuels, and the share in percent of their weight that was credited."""


@given(credits, st.integers(1, 100), st.integers(0, 30))
def test_the_draw_maps_each_number_to_exactly_one_receipt_proportionally(
    batches: list[tuple[list[int], int]], bonded: int, grant: int
) -> None:
    made = [(unit_batch(MINER, fuels, job=job), percent) for job, (fuels, percent) in enumerate(batches)]
    credited = [(batch, max(batch.commitment.weight * percent // 100, 1)) for batch, percent in made]
    view, total = state(*credited), sum(credit for _, credit in credited)
    earned = max(total * bonded // 100, 1)
    of = row(earned + grant, 0, total, grant)
    seen, hits = set(), Counter[tuple[int, int]]()
    for x in range(of.weight):
        named = named_receipt(view, of, x)
        if x < grant:
            assert named is None
            continue
        assert named is not None
        commitment, name = named
        batch = next(batch for batch, _ in credited if batch.commitment == commitment)
        proof = batch.proof_at_weight(name.weight_offset)
        check(x, certificate_at(batch, name.weight_offset), view, of)
        seen.add((commitment.job, name.weight_offset))
        hits[commitment.job, proof.receipt.index] += 1
    # No two numbers name the same place: who cannot show a place earns one less.
    assert len(seen) == earned
    # Each receipt is hit as often as its share of the credit, up to rounding at its two ends, twice.
    for batch, credit in credited:
        for receipt in batch.receipts:
            share = Fraction(receipt.weight * credit, batch.commitment.weight) * Fraction(earned, total)
            assert abs(hits[receipt.job, receipt.index] - share) < 3


@given(st.integers(0, 2**60), st.integers(1, 2**60), st.integers(0, 2**60), st.integers(0, 2**60), st.data())
def test_positions_lie_in_the_window_and_rise(
    lo: int, credit: int, short: int, grant: int, data: st.DataObject
) -> None:
    earned = max(credit - short, 1)
    of = row(earned + grant, lo, lo + credit, grant)
    x = data.draw(st.integers(0, of.weight - 1))
    position = named_position(of, x)
    if x < grant:
        assert position is None
        return
    assert position is not None
    assert lo <= position < lo + credit
    assert position == (lo + Fraction((x - grant) * credit, earned)).__floor__()
    if x + 1 < of.weight:
        following = named_position(of, x + 1)
        assert following is not None
        assert following > position


def test_a_number_beyond_the_weight_is_no_draw() -> None:
    for x in (-1, 100):
        with pytest.raises(ValueError, match="a draw is from 0 to the weight 100"):
            named_position(FULL, x)


def test_the_ledger_is_searched_at_its_boundaries() -> None:
    ledger = [
        CreditEntry(Hash32(bytes([number]) * 32), 0, up_to) for number, up_to in ((1, 10), (2, 11), (3, 30))
    ]
    assert [named_batch(ledger, at) for at in (0, 9, 10, 11, 29)] == [
        (ledger[0], 0, 10),
        (ledger[0], 9, 10),
        (ledger[1], 0, 1),
        (ledger[2], 0, 19),
        (ledger[2], 18, 19),
    ]
    for at in (-1, 30):
        with pytest.raises(CreditMissing, match="is not in the miner's credit"):
            named_batch(ledger, at)


def test_credit_before_the_window_is_not_drawn() -> None:
    other = unit_batch(MINER, [50], job=2)
    view = state((other, 50), (BATCH, 100))
    of = row(100, 50, 150)
    for x in range(100):
        check(x, certificate_at(BATCH, x), view, of)


# ---------------------------------------------------------------- what is refused


def test_below_the_grant_the_certificate_is_empty() -> None:
    of = row(107, 0, 100, 7)
    check(6, None, of=of)
    with pytest.raises(CertificateNotEmpty, match="draw 6 is below the grant 7"):
        check(6, certificate_at(BATCH, 0), of=of)
    check(7, certificate_at(BATCH, 0), of=of)
    with pytest.raises(CertificateMissing, match="draw 7 is not below the grant 7"):
        check(7, None, of=of)


def test_voided_credit_cannot_win() -> None:
    ledger = [replace(entry, void=True) for entry in ONE.credits(MINER)]
    with pytest.raises(CreditVoid):
        check(0, certificate_at(BATCH, 0), replace(ONE, ledgers={MINER: ledger}))


def test_credit_without_commitment_or_ledger_cannot_win() -> None:
    for view in (replace(ONE, commitments={}), replace(ONE, ledgers={})):
        with pytest.raises(CreditMissing):
            check(0, certificate_at(BATCH, 0), view)


def test_another_miners_receipt_is_refused() -> None:
    theirs = unit_batch(address(1), FUELS)
    with pytest.raises(WrongReceipt, match="miner"):
        check(0, certificate_at(theirs, 0))


@pytest.mark.parametrize(
    "change",
    [
        {"genesis_root": Hash32(b"\x01" * 32)},
        {"job": 2},
        {"k": 1},
        {"index": 5},
        {"output_id": BlobId(Hash32(b"\x01" * 32))},
        {"status": Status.FAILED},
        {"fuel": 6, "weight": 6},
        {"weight": 0},
    ],
)
def test_a_changed_receipt_is_refused(change: dict[str, object]) -> None:
    right = certificate_at(BATCH, 0)
    changed = replace(right.proof.receipt, **change)  # type: ignore[arg-type]
    with pytest.raises(WrongReceipt):
        check(0, replace(right, proof=replace(right.proof, receipt=changed)))


def test_a_changed_path_is_refused() -> None:
    right = certificate_at(BATCH, 0)
    for siblings in (right.proof.siblings[1:], right.proof.siblings[::-1], ()):
        with pytest.raises(WrongReceipt):
            check(0, replace(right, proof=replace(right.proof, siblings=siblings)))


def test_only_pinned_programs_count() -> None:
    other = program_id(b"published, not pinned")
    with pytest.raises(WrongProgram):
        check(0, replace(certificate_at(BATCH, 0), program=other))
    # Even where it is the unit's own.
    batch = build_batch([unit_receipt(MINER, 0, 100, program=other)])
    with pytest.raises(WrongProgram):
        check(0, certificate_at(batch, 0, other), state((batch, 100)))


def test_the_unit_must_be_the_receipts() -> None:
    right = certificate_at(BATCH, 0)
    for wrong in (
        replace(right, fuel_limit=right.fuel_limit + 1),
        replace(right, input_id=blob_id(b"another input")),
    ):
        with pytest.raises(WrongUnitShown):
            check(0, wrong)


@pytest.mark.parametrize(
    ("fuel", "limit", "status", "right"),
    [
        (100, DEVNET.unit_fuel_max, Status.OK, True),
        (100, DEVNET.unit_fuel_max + 1, Status.OK, False),  # too large to carry weight
        (100, 99, Status.OK, False),  # more fuel than its limit
        (100, 100, Status.OUT_OF_FUEL, True),
        (100, 101, Status.OUT_OF_FUEL, False),  # out of fuel without having burned its limit
    ],
)
def test_the_units_limits_hold(fuel: int, limit: int, status: Status, right: bool) -> None:
    batch = build_batch([unit_receipt(MINER, 0, fuel, fuel_limit=limit, status=status)])
    certificate = replace(certificate_at(batch, 0), fuel_limit=limit)
    if right:
        check(0, certificate, state((batch, fuel)))
    else:
        with pytest.raises(WrongUnitShown):
            check(0, certificate, state((batch, fuel)))


def test_the_input_must_be_the_units_and_short_enough() -> None:
    right = certificate_at(BATCH, 0)
    check_input(DEVNET, right, input_of(MINER, 0))
    with pytest.raises(WrongInput, match="are not input"):
        check_input(DEVNET, right, input_of(MINER, 1))
    long = bytes(DEVNET.input_bytes_max + 1)
    check_input(DEVNET, replace(right, input_id=blob_id(long[1:])), long[1:])
    with pytest.raises(WrongInput, match="carries no weight"):
        check_input(DEVNET, replace(right, input_id=blob_id(long)), long)
    assert input_refutes(DEVNET, right, len(long))
    assert not input_refutes(DEVNET, right, len(long) - 1)


def test_another_result_refutes_a_certificate() -> None:
    certificate = certificate_at(BATCH, 0)
    output = certificate.proof.receipt.output_id
    check_result(certificate, status=0, output_id=output, fuel=5)
    for status, output_id, fuel in ((1, output, 5), (0, blob_id(b"other"), 5), (0, output, 4)):
        with pytest.raises(CertificateRefuted, match=certificate.proof.receipt.unit_id.hex()):
            check_result(certificate, status=status, output_id=output_id, fuel=fuel)


def test_every_error_is_a_certificate_error_of_one_line() -> None:
    with pytest.raises(CertificateError) as caught:
        check(0, None)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- codec

certificates = st.none() | st.builds(
    certificate_at,
    st.lists(st.integers(1, 2**40), min_size=1, max_size=40).map(lambda f: unit_batch(MINER, f)),
    st.just(0),
)


@given(certificates)
def test_what_is_written_is_read(certificate: Certificate | None) -> None:
    data = encode_certificate(certificate)
    assert len(data) <= CERTIFICATE_BYTES_MAX
    assert decode_certificate(data) == certificate


@given(
    bytes_like(
        [encode_certificate(each) for each in (None, certificate_at(BATCH, 0), certificate_at(BATCH, 60))]
    )
)
def test_any_bytes_are_a_certificate_or_a_named_rejection(data: bytes) -> None:
    check_decoder(data, decode_certificate, encode_certificate)


PROOFS = [certificate_at(BATCH, x).proof.encode() for x in (0, 60)]


@given(mutated(PROOFS) | bytes_like([encode_certificate(None)]))
def test_any_bytes_as_its_proof_are_one_or_a_named_rejection(proof: bytes) -> None:
    right = certificate_at(BATCH, 0)
    fields: list[rlp.RlpItem] = [proof, right.program, right.input_id, integer_to_bytes(right.fuel_limit)]
    check_decoder(rlp.encode(fields), decode_certificate, encode_certificate)


def test_the_longest_certificate_fits() -> None:
    batch = unit_batch(MINER, [1] * 4096)
    certificate = replace(certificate_at(batch, 0), fuel_limit=2**64 - 1)
    data = encode_certificate(certificate)
    assert len(data) <= CERTIFICATE_BYTES_MAX < len(data) + 40
    assert decode_certificate(data) == certificate


def test_the_hash_covers_each_part() -> None:
    right = certificate_at(BATCH, 0)
    hashes = {
        certificate_hash(None),
        certificate_hash(right),
        certificate_hash(certificate_at(BATCH, 5)),
        certificate_hash(replace(right, program=program_id(b"other"))),
        certificate_hash(replace(right, input_id=blob_id(b"other"))),
        certificate_hash(replace(right, fuel_limit=6)),
    }
    assert len(hashes) == 6
