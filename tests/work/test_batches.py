"""Batches: every receipt proves itself by index and by weight, and nothing else is provable."""

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate, pairwise, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.primitives.sum_tree import (
    LEAVES_MAX,
    NODE_BYTES,
    InvalidNode,
    OffsetOutOfRange,
    PositionOutOfRange,
    SumNode,
    SumOverflow,
    SumTree,
    SumTreeError,
    WrongLeafCount,
    WrongPathLength,
    decode_path,
    encode_path,
    fold,
    join,
    path_length,
)
from noria.primitives.types import UINT64_MAX, Address, Hash32
from noria.work.batches import (
    BATCH_BYTES_MAX,
    BATCH_RECEIPTS_MAX,
    PROOF_BYTES_MAX,
    Batch,
    BatchCommitment,
    BatchError,
    ForeignReceipt,
    IndexGap,
    InvalidBatch,
    InvalidProof,
    MixedBatch,
    OffsetElsewhere,
    ReceiptProof,
    WrongRoot,
    build_batch,
    decode_batch,
    decode_proof,
    verify,
    verify_draw,
)
from noria.work.receipts import ReceiptError, Status, WrongWeight
from tests.work.claims import claims, first_indices, fuel_lists, receipt, word

REFUSED = (ReceiptError, BatchError, SumTreeError)


def batch_of(count: int) -> Batch:
    return build_batch(claims([(10 + number, number % 3 != 1) for number in range(count)], first_index=40))


@pytest.fixture(scope="module")
def full() -> Batch:
    return batch_of(BATCH_RECEIPTS_MAX)


# ---------------------------------------------------------------- what holds


@given(fuel_lists, first_indices)
def test_every_receipt_proves_itself(fuels: list[tuple[int, bool]], first_index: int) -> None:
    batch = build_batch(claims(fuels, first_index))
    assert batch.commitment.fuel == sum(fuel for fuel, _ in fuels)
    assert batch.commitment.weight == sum(fuel for fuel, weighs in fuels if weighs)
    fuel_before = weight_before = 0
    for position, claim in enumerate(batch.receipts):
        proof = decode_proof(batch.proof(position).encode())
        assert proof.receipt == claim
        located = verify(batch.commitment, proof)
        assert dataclasses.astuple(located) == (position, fuel_before, weight_before)
        fuel_before += claim.fuel
        weight_before += claim.weight


@given(fuel_lists, st.data())
def test_a_weight_offset_names_the_receipt_that_a_linear_scan_finds(
    fuels: list[tuple[int, bool]], data: st.DataObject
) -> None:
    batch = build_batch(claims(fuels))
    total = batch.commitment.weight
    if not total:
        with pytest.raises(OffsetOutOfRange, match=r"weight offset 0 is not in \[0, 0\)"):
            batch.proof_at_weight(0)
        return
    ends = list(accumulate(claim.weight for claim in batch.receipts))
    boundaries = sorted({x for end in ends for x in (end - 1, end) if 0 <= x < total})
    drawn = data.draw(st.sampled_from(boundaries) | st.integers(0, total - 1))
    for offset in (0, total - 1, drawn):
        expected = next(position for position, end in enumerate(ends) if offset < end)
        proof = batch.proof_at_weight(offset)
        assert proof == batch.proof(expected)
        assert verify_draw(batch.commitment, proof, offset).position == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=20))
def test_an_offset_is_proven_by_exactly_one_receipt(fuels: list[tuple[int, bool]]) -> None:
    batch = build_batch(claims(fuels))
    proofs = [batch.proof(position) for position in range(len(fuels))]
    for offset in range(-1, batch.commitment.weight + 2):
        takers = []
        for proof in proofs:
            with suppress(OffsetElsewhere):
                takers.append(verify_draw(batch.commitment, proof, offset))
        assert len(takers) == (0 <= offset < batch.commitment.weight)


def test_an_offset_elsewhere_is_named() -> None:
    batch = batch_of(3)  # Of weights 10, 0 and 12.
    with pytest.raises(OffsetElsewhere, match=r"offset 9 is not in \[10, 22\), the receipt at position 2"):
        verify_draw(batch.commitment, batch.proof(2), 9)
    with pytest.raises(OffsetElsewhere, match=r"offset 10 is not in \[10, 10\), the receipt at position 1"):
        verify_draw(batch.commitment, batch.proof(1), 10)


def test_a_full_batch_proves_each_receipt(full: Batch) -> None:
    assert full.commitment.count == 4096
    for position in (0, 1, 2047, 2048, 4094, 4095):
        proof = full.proof(position)
        assert len(proof.siblings) == 12
        assert len(proof.encode()) == PROOF_BYTES_MAX
        assert verify(full.commitment, proof).position == position


def test_a_batch_of_one_has_its_leaf_as_root() -> None:
    batch = batch_of(1)
    assert batch.commitment.root == batch.receipts[0].leaf().hash
    assert batch.proof(0).siblings == ()
    assert verify(batch.commitment, batch.proof(0)).position == 0


@given(fuel_lists, first_indices)
def test_a_batch_goes_both_ways(fuels: list[tuple[int, bool]], first_index: int) -> None:
    batch = build_batch(claims(fuels, first_index))
    assert decode_batch(batch.encode()) == batch


def test_a_full_batch_is_as_long_as_announced(full: Batch) -> None:
    assert len(full.encode()) == BATCH_BYTES_MAX
    assert decode_batch(full.encode()) == full


# ---------------------------------------------------------------- the shape


def shape(position: int, count: int) -> str:
    """Sides on which the siblings of a leaf lie, from the leaf upwards."""
    sides = ""
    while count > 1:
        if position % 2:
            sides += "l"
        elif position + 1 < count:
            sides += "r"
        position, count = position // 2, (count + 1) // 2
    return sides


@given(st.integers(1, LEAVES_MAX), st.data())
def test_position_and_count_fix_the_length_of_a_path(count: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, count - 1))
    assert path_length(position, count) == len(shape(position, count)) <= 12


def test_no_shape_of_a_path_begins_another_in_the_same_tree() -> None:
    for count in range(1, 130):
        downwards = sorted(shape(position, count)[::-1] for position in range(count))
        assert not any(after.startswith(before) for before, after in pairwise(downwards))


def test_a_tree_lacks_some_path_of_every_other_count() -> None:
    # So a root that is committed with a wrong count leaves a receipt that cannot be proven.
    shapes = [{shape(position, count) for position in range(count)} for count in range(1, 130)]
    for one, other in permutations(shapes, 2):
        assert not one <= other


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_a_proof_holds_elsewhere_only_where_the_shape_is_the_same(
    count: int, other_count: int, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, count - 1))
    other_position = data.draw(st.integers(0, other_count - 1))
    batch = batch_of(count)
    proof = batch.proof(position)
    try:
        folded = fold(proof.receipt.leaf(), proof.siblings, other_position, other_count)
        same = folded.root.hash == batch.commitment.root
    except WrongPathLength:
        same = False
    assert same == (shape(position, count) == shape(other_position, other_count))


# ---------------------------------------------------------------- tampering


@given(st.integers(1, 20), st.data())
@settings(max_examples=400)
def test_a_proof_with_any_byte_changed_is_refused(count: int, data: st.DataObject) -> None:
    batch = batch_of(count)
    encoding = bytearray(batch.proof(data.draw(st.integers(0, count - 1))).encode())
    where = data.draw(st.integers(0, len(encoding) - 1))
    encoding[where] ^= data.draw(st.integers(1, 255))
    with pytest.raises(REFUSED):
        verify(batch.commitment, decode_proof(bytes(encoding)))


@given(st.integers(1, 20), st.data())
def test_a_proof_cut_or_extended_is_refused(count: int, data: st.DataObject) -> None:
    batch = batch_of(count)
    encoding = batch.proof(data.draw(st.integers(0, count - 1))).encode()
    cut = encoding[: data.draw(st.integers(0, len(encoding) - 1))]
    longer = encoding + data.draw(st.binary(min_size=1, max_size=48) | st.just(encoding[-48:]))
    for wrong in (cut, longer):
        with pytest.raises(REFUSED):
            verify(batch.commitment, decode_proof(wrong))


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("name", ["fuel", "weight"])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_sum_moved_between_nodes_is_refused(level: int, name: str, change: int) -> None:
    batch = batch_of(8)
    proof = batch.proof(3)
    siblings = list(proof.siblings)
    siblings[level] = dataclasses.replace(siblings[level], **{name: getattr(siblings[level], name) + change})
    with pytest.raises(WrongRoot):
        verify(batch.commitment, ReceiptProof(proof.receipt, tuple(siblings)))


@pytest.mark.parametrize("position", [0, 2, 4])
@pytest.mark.parametrize(
    ("field", "change", "error"),
    [
        ("genesis_root", lambda value: Hash32(bytes(32)), ForeignReceipt),
        ("job", lambda value: value + 1, ForeignReceipt),
        ("k", lambda value: value + 1, ForeignReceipt),
        ("miner", lambda value: Address(bytes(20)), ForeignReceipt),
        ("first_index", lambda value: value + 1, (ForeignReceipt, WrongPathLength, WrongRoot)),
        ("first_index", lambda value: value - 1, (ForeignReceipt, WrongPathLength, WrongRoot)),
        ("root", lambda value: Hash32(bytes(32)), WrongRoot),
        ("fuel", lambda value: value + 1, WrongRoot),
        ("weight", lambda value: value - 1, WrongRoot),
    ],
)
def test_a_proof_against_another_commitment_is_refused(
    position: int, field: str, change: Callable[[Any], Any], error: Any
) -> None:
    batch = batch_of(5)
    other = dataclasses.replace(batch.commitment, **{field: change(getattr(batch.commitment, field))})
    with pytest.raises(error):
        verify(other, batch.proof(position))


def test_a_receipt_of_another_index_is_not_in_the_batch() -> None:
    batch = batch_of(4)
    for index in (0, 39, 44, UINT64_MAX):
        foreign = dataclasses.replace(batch.receipts[0], index=index)
        with pytest.raises(ForeignReceipt, match=f"index {index} is not among the batch's 4 from 40"):
            verify(batch.commitment, ReceiptProof(foreign, batch.proof(0).siblings))


def test_a_node_cannot_pass_for_a_receipt() -> None:
    # Leaves and nodes are hashed under different tags: a path from half-way up proves nothing.
    batch = batch_of(4)
    inner = join(batch.receipts[0].leaf(), batch.receipts[1].leaf())
    assert fold(inner, batch.proof(0).siblings[1:], 0, 2).root.hash == batch.commitment.root
    with pytest.raises(WrongPathLength):
        verify(batch.commitment, ReceiptProof(batch.receipts[0], batch.proof(0).siblings[1:]))


def test_sums_on_a_path_that_overflow_are_refused() -> None:
    batch = batch_of(2)
    proof = batch.proof(0)
    for huge in (
        SumNode(proof.siblings[0].hash, UINT64_MAX, 0),
        SumNode(proof.siblings[0].hash, 0, UINT64_MAX),
    ):
        with pytest.raises(SumOverflow, match="do not fit 64 bits"):
            verify(batch.commitment, ReceiptProof(proof.receipt, (huge,)))


# ---------------------------------------------------------------- what is no batch


def test_fuel_up_to_64_bits_is_taken_and_more_refused() -> None:
    batch = build_batch(claims([(UINT64_MAX - 5, True), (5, True)]))
    assert batch.commitment.fuel == batch.commitment.weight == UINT64_MAX
    assert verify_draw(batch.commitment, batch.proof(1), UINT64_MAX - 1).position == 1
    with pytest.raises(SumOverflow, match=f"fuel adds up to {2**64}, above {UINT64_MAX}"):
        build_batch(claims([(UINT64_MAX - 5, False), (6, False)]))


@pytest.mark.parametrize("count", [0, BATCH_RECEIPTS_MAX + 1])
def test_none_and_too_many_receipts_are_refused(count: int) -> None:
    with pytest.raises(InvalidBatch, match=f"1 to 4096 receipts, not {count}"):
        build_batch([receipt(index) for index in range(count)])


@pytest.mark.parametrize("indices", [(0, 2), (1, 0), (5, 5), (3, 4, 6)])
def test_indices_that_are_not_consecutive_are_refused(indices: tuple[int, ...]) -> None:
    with pytest.raises(IndexGap, match=f"index {indices[-1]} stands where"):
        build_batch([receipt(index) for index in indices])


@pytest.mark.parametrize(
    "stranger",
    [
        receipt(1, job=8),
        receipt(1, k=2),
        receipt(1, miner=Address(bytes(20))),
        receipt(1, genesis_root=word("other chain")),
    ],
    ids=["job", "k", "miner", "chain"],
)
def test_receipts_of_different_origin_are_refused(stranger: Any) -> None:
    with pytest.raises(MixedBatch, match="receipt 1 is not of the first one's chain, job, draw and miner"):
        build_batch([receipt(0), stranger])


def test_an_order_to_prove_what_is_not_there_is_refused() -> None:
    batch = batch_of(5)
    for position in (-1, 5):
        with pytest.raises(PositionOutOfRange, match=rf"position {position} is not in \[0, 5\)"):
            batch.proof(position)
    for offset in (-1, batch.commitment.weight):
        with pytest.raises(OffsetOutOfRange, match=f"weight offset {offset} is not"):
            batch.proof_at_weight(offset)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("genesis_root", bytes(31)),
        ("miner", bytes(19)),
        ("root", b""),
        ("count", 0),
        ("count", 4097),
        ("job", 2**256),
        ("job", -1),
        ("k", 2**32),
        ("first_index", UINT64_MAX - 3),
        ("fuel", 2**64),
        ("weight", -1),
        ("weight", 2**63),
    ],
)
def test_a_commitment_whose_field_does_not_fit_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidBatch, match=field if field != "count" else "receipts"):
        dataclasses.replace(batch_of(5).commitment, **{field: value})


def test_the_last_indices_of_all_are_taken() -> None:
    batch = build_batch(claims([(1, True), (2, True)], first_index=UINT64_MAX - 1))
    assert decode_batch(batch.encode()).receipts[-1].index == UINT64_MAX
    assert isinstance(batch.commitment, BatchCommitment)


def test_encodings_that_are_no_batch_are_refused() -> None:
    data = batch_of(3).encode()
    for wrong, message in (
        (b"", "a batch has at least 194 bytes, not 0"),
        (data[:112], "a batch has at least 194 bytes, not 112"),
        (b"N" + data[1:], "a batch begins with b'noria/batch/1', not b'Noria/batch/1'"),
        (data[:-1], f"3 receipts take {len(data)} bytes, not {len(data) - 1}"),
        (data + b"\0", f"3 receipts take {len(data)} bytes, not {len(data) + 1}"),
        (data[:109] + bytes(4) + data[113:], "a batch has 1 to 4096 receipts, not 0"),
        (data[:109] + b"\xff" * 4 + data[113:], "a batch has 1 to 4096 receipts, not 4294967295"),
    ):
        with pytest.raises(InvalidBatch) as raised:
            decode_batch(wrong)
        assert str(raised.value) == message
    with pytest.raises(IndexGap, match="3 indices from 18446744073709551615 run past 64 bits"):
        decode_batch(data[:101] + b"\xff" * 8 + data[109:])
    with pytest.raises(WrongWeight):
        decode_batch(data[:-1] + bytes([data[-1] ^ 1]))


@given(st.integers(1, 6), st.data())
def test_a_batch_with_any_byte_changed_is_refused_or_has_another_root(
    count: int, data: st.DataObject
) -> None:
    batch = batch_of(count)
    encoding = bytearray(batch.encode())
    where = data.draw(st.integers(0, len(encoding) - 1))
    encoding[where] ^= data.draw(st.integers(1, 255))
    try:
        other = decode_batch(bytes(encoding))
    except REFUSED:
        return
    assert other.encode() == encoding
    assert other.commitment.root != batch.commitment.root


def test_encodings_that_are_no_proof_are_refused() -> None:
    data = batch_of(3).proof(0).encode()
    for wrong in (b"", data[:191], data + bytes(PROOF_BYTES_MAX)):
        with pytest.raises(InvalidProof, match=f"a proof has 192 to 768 bytes, not {len(wrong)}"):
            decode_proof(wrong)
    with pytest.raises(InvalidNode, match="no whole number of nodes of 48 bytes"):
        decode_proof(data[:-1])


# ---------------------------------------------------------------- the tree by itself


def test_nodes_that_do_not_fit_are_refused() -> None:
    for size in (31, 33):
        with pytest.raises(InvalidNode, match=f"has 32 bytes, not {size}"):
            SumNode(Hash32(bytes(size)), 0, 0)
    for fuel, weight in ((-1, 0), (2**64, 0), (0, -1), (0, 2**64)):
        with pytest.raises(InvalidNode, match=f"unlike fuel {fuel}, weight {weight}"):
            SumNode(word(), fuel, weight)


def test_leaves_that_are_no_tree_are_refused() -> None:
    with pytest.raises(WrongLeafCount, match="1 to 4096 leaves, not 0"):
        SumTree.build(b"")
    with pytest.raises(WrongLeafCount, match="1 to 4096 leaves, not 4097"):
        SumTree.build(bytes(NODE_BYTES * 4097))
    with pytest.raises(InvalidNode, match="49 bytes"):
        SumTree.build(bytes(49))
    heavy = SumNode(word(), 0, UINT64_MAX).encode()
    with pytest.raises(SumOverflow, match="weight adds up to"):
        SumTree.build(heavy + heavy)


def test_a_path_for_no_leaf_is_refused() -> None:
    leaf = SumNode(word(), 1, 1)
    for count in (0, 4097):
        with pytest.raises(WrongLeafCount, match=f"1 to 4096 leaves, not {count}"):
            fold(leaf, (), 0, count)
    with pytest.raises(PositionOutOfRange, match=r"position 3 is not in \[0, 3\)"):
        fold(leaf, (), 3, 3)
    with pytest.raises(WrongPathLength, match="position 0 of 3 has a path of 2 nodes, not 1"):
        fold(leaf, (leaf,), 0, 3)


def test_paths_go_both_ways_and_are_bounded() -> None:
    nodes = tuple(SumNode(word(number), number, UINT64_MAX - number) for number in range(12))
    assert decode_path(encode_path(nodes)) == nodes
    with pytest.raises(WrongPathLength, match="at most 12 nodes, not 13"):
        decode_path(bytes(13 * NODE_BYTES))


def test_a_status_keeps_its_type() -> None:
    batch = build_batch([receipt(status=Status.STACK_LIMIT)])
    assert decode_batch(batch.encode()).receipts[0].status is Status.STACK_LIMIT
