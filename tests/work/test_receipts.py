"""Ids and receipts: what is hashed, what is refused."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.primitives.types import UINT64_MAX, UINT256_MAX, Hash32
from noria.work.ids import (
    BlobId,
    InvalidFuelLimit,
    InvalidId,
    ProgramId,
    blob_id,
    program_id,
    unit_id,
)
from noria.work.receipts import (
    RECEIPT_BYTES,
    FuelMismatch,
    InvalidReceipt,
    ReceiptError,
    Status,
    WeightNotAllowed,
    WeightRules,
    WrongUnit,
    WrongWeight,
    check_unit,
    check_weight,
    decode_receipt,
)
from tests.work.claims import receipt, receipts

PROGRAM = program_id(b"\0asm")
INPUT = blob_id(b"input")
RULES = WeightRules(fuel_limit_max=10**9, input_bytes_max=262_144)


def test_a_program_and_a_blob_of_the_same_bytes_have_different_names() -> None:
    assert len({bytes(program_id(b"same")), bytes(blob_id(b"same"))}) == 2


@pytest.mark.parametrize("fuel_limit", [-1, UINT64_MAX + 1])
def test_a_fuel_limit_beyond_64_bits_is_refused(fuel_limit: int) -> None:
    with pytest.raises(InvalidFuelLimit, match=str(fuel_limit)):
        unit_id(PROGRAM, INPUT, fuel_limit)


def test_a_unit_of_ids_that_are_none_is_refused() -> None:
    short = Hash32(bytes(31))
    with pytest.raises(InvalidId, match="a program id has 32 bytes, not 31"):
        unit_id(ProgramId(short), INPUT, 1)
    with pytest.raises(InvalidId, match="an input id has 32 bytes, not 33"):
        unit_id(PROGRAM, BlobId(Hash32(bytes(33))), 1)


@given(
    st.tuples(st.binary(max_size=4), st.binary(max_size=4), st.integers(0, 2)),
    st.tuples(st.binary(max_size=4), st.binary(max_size=4), st.integers(0, 2)),
)
def test_units_have_one_name_each(one: tuple[bytes, bytes, int], other: tuple[bytes, bytes, int]) -> None:
    names = [
        unit_id(program_id(module), blob_id(data), fuel_limit) for module, data, fuel_limit in (one, other)
    ]
    assert (names[0] == names[1]) == (one == other)


@given(receipts())
def test_a_receipt_goes_both_ways(claim: Any) -> None:
    data = claim.encode()
    assert len(data) == RECEIPT_BYTES
    assert decode_receipt(data) == claim


@given(
    st.binary(max_size=400)
    | st.binary(min_size=177, max_size=177).map(lambda rest: b"noria/receipt/1" + rest)
)
def test_any_bytes_are_refused_or_are_a_receipts_own_encoding(data: bytes) -> None:
    try:
        claim = decode_receipt(data)
    except ReceiptError:
        return
    assert claim.encode() == data


@given(receipts(), st.data())
def test_every_bit_of_a_receipt_counts(claim: Any, data: st.DataObject) -> None:
    encoding = bytearray(claim.encode())
    bit = data.draw(st.integers(0, 8 * RECEIPT_BYTES - 1))
    encoding[bit // 8] ^= 1 << bit % 8
    try:
        other = decode_receipt(bytes(encoding))
    except ReceiptError:
        return
    assert other != claim
    assert other.leaf().hash != claim.leaf().hash


def test_the_bounds_themselves_are_taken() -> None:
    claim = dataclasses.replace(
        receipt(),
        job=UINT256_MAX, k=2**32 - 1, index=UINT64_MAX, fuel=UINT64_MAX, weight=UINT64_MAX,
        status=Status.OUTPUT_LIMIT,
    )  # fmt: skip
    assert decode_receipt(claim.encode()) == claim


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("genesis_root", bytes(31), "a receipt's genesis_root has 32 bytes, not 31"),
        ("miner", bytes(21), "a receipt's miner has 20 bytes, not 21"),
        ("unit_id", b"", "a receipt's unit_id has 32 bytes, not 0"),
        ("output_id", bytes(33), "a receipt's output_id has 32 bytes, not 33"),
        ("job", -1, f"a receipt's job is 0 to {UINT256_MAX}, not -1"),
        ("job", UINT256_MAX + 1, f"a receipt's job is 0 to {UINT256_MAX}, not {UINT256_MAX + 1}"),
        ("k", 2**32, "a receipt's k is 0 to 4294967295, not 4294967296"),
        ("index", UINT64_MAX + 1, f"a receipt's index is 0 to {UINT64_MAX}, not {UINT64_MAX + 1}"),
        ("index", -1, f"a receipt's index is 0 to {UINT64_MAX}, not -1"),
        ("fuel", UINT64_MAX + 1, f"a receipt's fuel is 0 to {UINT64_MAX}, not {UINT64_MAX + 1}"),
        ("status", 6, "a status is 0 to 5, not 6"),
        ("status", -1, "a status is 0 to 5, not -1"),
    ],
)
def test_a_field_that_does_not_fit_is_named(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidReceipt) as raised:
        dataclasses.replace(receipt(), **{field: value})
    assert str(raised.value) == message


@pytest.mark.parametrize("weight", [1, 999, 1001, -1, UINT64_MAX + 1])
def test_a_weight_is_the_fuel_or_nothing(weight: int) -> None:
    with pytest.raises(WrongWeight, match=f"of 1000 fuel weighs that or 0, not {weight}"):
        receipt(fuel=1000, weight=weight)
    assert receipt(fuel=1000, weight=0).weight == 0
    assert receipt(fuel=1000, weight=1000).weight == 1000


def test_bytes_that_are_no_receipt_are_named() -> None:
    data = receipt().encode()
    for wrong in (b"", data[:-1], data + b"\0"):
        with pytest.raises(InvalidReceipt, match=f"a receipt has 192 bytes, not {len(wrong)}"):
            decode_receipt(wrong)
    with pytest.raises(InvalidReceipt, match="begins with b'noria/receipt/1', not b'noria/receipt/2'"):
        decode_receipt(data.replace(b"receipt/1", b"receipt/2"))
    with pytest.raises(InvalidReceipt, match="a status is 0 to 5, not 255"):
        decode_receipt(data[:175] + b"\xff" + data[176:])
    with pytest.raises(WrongWeight):
        decode_receipt(data[:-1] + b"\x07")


def claim_about(fuel_limit: int, fuel: int, status: Status = Status.OK) -> Any:
    return dataclasses.replace(receipt(fuel=fuel, status=status), unit_id=unit_id(PROGRAM, INPUT, fuel_limit))


def test_a_receipt_of_the_unit_passes() -> None:
    check_unit(claim_about(1000, 1000), PROGRAM, INPUT, 1000)
    check_unit(claim_about(1000, 0), PROGRAM, INPUT, 1000)
    check_unit(claim_about(1000, 1000, Status.OUT_OF_FUEL), PROGRAM, INPUT, 1000)


def test_a_receipt_of_another_unit_is_refused() -> None:
    claim = claim_about(1000, 500)
    for program, input_id, fuel_limit in (
        (program_id(b"other"), INPUT, 1000),
        (PROGRAM, blob_id(b"other"), 1000),
        (PROGRAM, INPUT, 1001),
    ):
        with pytest.raises(WrongUnit, match=claim.unit_id.hex()):
            check_unit(claim, program, input_id, fuel_limit)


def test_fuel_that_contradicts_the_limit_is_refused() -> None:
    with pytest.raises(FuelMismatch, match="1001 fuel, above the unit's limit of 1000"):
        check_unit(claim_about(1000, 1001), PROGRAM, INPUT, 1000)
    with pytest.raises(FuelMismatch, match="has burned its limit of 1000, not 999"):
        check_unit(claim_about(1000, 999, Status.OUT_OF_FUEL), PROGRAM, INPUT, 1000)


CARRIES: dict[str, Any] = {"fuel_limit": 10**9, "input_bytes": 262_144, "pinned": True, "public": True}


def test_weight_within_every_bound_is_allowed() -> None:
    assert RULES.carries_weight(**CARRIES)
    check_weight(receipt(), RULES, **CARRIES)


@pytest.mark.parametrize(
    "change",
    [
        {"fuel_limit": 10**9 + 1},
        {"fuel_limit": -1},
        {"input_bytes": 262_145},
        {"pinned": False},
        {"public": False},
    ],
    ids=str,
)
def test_any_bound_passed_takes_the_weight_away(change: dict[str, Any]) -> None:
    assert not RULES.carries_weight(**CARRIES | change)
    with pytest.raises(WeightNotAllowed, match="carries no weight"):
        check_weight(receipt(), RULES, **CARRIES | change)
    check_weight(receipt(weight=0), RULES, **CARRIES | change)
