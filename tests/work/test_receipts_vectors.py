"""The committed vectors, against the code and against a second, plain writing of protocol 2 and 3.

The vectors never change: another value is another protocol. The second writing hashes with another library's
Keccak, writes integers digit by digit, and builds the tree by recursion: left of a node stand as many leaves
as the largest power of two below their number, which is what promoting odd nodes comes to.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from eth_utils.crypto import keccak

from noria.primitives.hashes import blake3
from noria.primitives.sum_tree import SumNode, encode_path
from noria.primitives.types import Address, Hash32
from noria.work.batches import (
    Batch,
    ReceiptProof,
    build_batch,
    decode_batch,
    decode_proof,
    verify,
    verify_draw,
)
from noria.work.ids import BlobId, ProgramId, UnitId, blob_id, program_id, unit_id
from noria.work.receipts import Receipt, Status, decode_receipt

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "work"
IDS: dict[str, Any] = json.loads((VECTORS / "receipts.json").read_text(encoding="utf-8"))
BATCHES: dict[str, Any] = json.loads((VECTORS / "batches.json").read_text(encoding="utf-8"))
EXPLICIT: list[dict[str, Any]] = BATCHES["batches"]
DERIVED: list[dict[str, Any]] = BATCHES["derived"]


def raw(text: str) -> bytes:
    assert text.startswith("0x")
    return bytes.fromhex(text[2:])


# ---------------------------------------------------------------- the second writing


def big_endian(number: int, size: int) -> bytes:
    digits = [number // 256**place % 256 for place in reversed(range(size))]
    assert sum(digit * 256**place for place, digit in enumerate(reversed(digits))) == number
    return bytes(digits)


def plain_receipt(shared: dict[str, Any], index: int, row: dict[str, Any]) -> bytes:
    return b"".join(
        [
            b"noria/receipt/1",
            raw(shared["genesis_root"]),
            big_endian(int(shared["job"]), 32),
            big_endian(int(shared["k"]), 4),
            raw(shared["miner"]),
            big_endian(index, 8),
            raw(row["unit_id"]),
            raw(row["output_id"]),
            big_endian(row["status"], 1),
            big_endian(int(row["fuel"]), 8),
            big_endian(int(row["weight"]), 8),
        ]
    )


class Node(NamedTuple):
    hash: bytes
    fuel: int
    weight: int

    def flat(self) -> bytes:
        return self.hash + big_endian(self.fuel, 8) + big_endian(self.weight, 8)


def split(count: int) -> int:
    size = 1
    while size * 2 < count:
        size *= 2
    return size


def plain_root(leaves: list[Node]) -> Node:
    if len(leaves) == 1:
        return leaves[0]
    left, right = plain_root(leaves[: split(len(leaves))]), plain_root(leaves[split(len(leaves)) :])
    digest = keccak(b"noria/sum/1" + left.flat() + right.flat())
    return Node(digest, left.fuel + right.fuel, left.weight + right.weight)


def plain_path(leaves: list[Node], position: int) -> list[Node]:
    if len(leaves) == 1:
        return []
    middle = split(len(leaves))
    if position < middle:
        return [*plain_path(leaves[:middle], position), plain_root(leaves[middle:])]
    return [*plain_path(leaves[middle:], position - middle), plain_root(leaves[:middle])]


def plain_leaves(vector: dict[str, Any], rows: list[dict[str, Any]]) -> list[Node]:
    commitment = vector["commitment"]
    return [
        Node(keccak(plain_receipt(commitment, index, row)), int(row["fuel"]), int(row["weight"]))
        for index, row in enumerate(rows, int(commitment["first_index"]))
    ]


def derived_rows(count: int) -> list[dict[str, Any]]:
    """The rows by the rule that stands in the file."""
    return [
        {
            "unit_id": "0x" + blake3(b"unit" + big_endian(i, 8)).hex(),
            "output_id": "0x" + blake3(b"output" + big_endian(i, 8)).hex(),
            "status": i % 6,
            "fuel": 1000 + i * i,
            "weight": 0 if i % 7 == 3 else 1000 + i * i,
        }
        for i in range(count)
    ]


def check_plainly(vector: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    leaves = plain_leaves(vector, rows)
    commitment = vector["commitment"]
    assert len(leaves) == commitment["count"]
    root = plain_root(leaves)
    assert (root.hash, root.fuel, root.weight) == (
        raw(commitment["root"]),
        int(commitment["fuel"]),
        int(commitment["weight"]),
    )
    for proof in vector["proofs"]:
        before = leaves[: proof["position"]]
        assert raw(proof["path"]) == b"".join(node.flat() for node in plain_path(leaves, proof["position"]))
        assert int(proof["fuel_before"]) == sum(leaf.fuel for leaf in before)
        assert int(proof["weight_before"]) == sum(leaf.weight for leaf in before)
    for draw in vector["draws"]:
        offset, position = int(draw["offset"]), 0
        while offset >= leaves[position].weight:
            offset -= leaves[position].weight
            position += 1
        assert position == draw["position"]


# ---------------------------------------------------------------- ids and receipts


@pytest.mark.parametrize("vector", IDS["programs"])
def test_program_ids(vector: dict[str, Any]) -> None:
    assert raw(vector["program_id"]) == blake3(b"noria/program/1" + raw(vector["module"]))
    assert program_id(raw(vector["module"])) == raw(vector["program_id"])


@pytest.mark.parametrize("vector", IDS["blobs"])
def test_blob_ids(vector: dict[str, Any]) -> None:
    assert raw(vector["blob_id"]) == blake3(b"noria/blob/1" + raw(vector["bytes"]))
    assert blob_id(raw(vector["bytes"])) == raw(vector["blob_id"])


@pytest.mark.parametrize("vector", IDS["units"])
def test_unit_ids(vector: dict[str, Any]) -> None:
    program, input_id, limit = raw(vector["program_id"]), raw(vector["input_id"]), int(vector["fuel_limit"])
    assert raw(vector["unit_id"]) == keccak(b"noria/unit/1" + program + input_id + big_endian(limit, 8))
    named = unit_id(ProgramId(Hash32(program)), BlobId(Hash32(input_id)), limit)
    assert named == raw(vector["unit_id"])


@pytest.mark.parametrize("vector", IDS["receipts"])
def test_receipts(vector: dict[str, Any]) -> None:
    encoding = plain_receipt(vector, int(vector["index"]), vector)
    assert raw(vector["encoding"]) == encoding
    assert raw(vector["leaf"]) == keccak(encoding)
    claim = receipt_of(vector, int(vector["index"]), vector)
    assert claim.encode() == encoding
    assert decode_receipt(encoding) == claim
    assert claim.leaf() == SumNode(Hash32(raw(vector["leaf"])), int(vector["fuel"]), int(vector["weight"]))


def receipt_of(shared: dict[str, Any], index: int, row: dict[str, Any]) -> Receipt:
    return Receipt(
        genesis_root=Hash32(raw(shared["genesis_root"])),
        job=int(shared["job"]),
        k=int(shared["k"]),
        miner=Address(raw(shared["miner"])),
        index=index,
        unit_id=UnitId(Hash32(raw(row["unit_id"]))),
        output_id=BlobId(Hash32(raw(row["output_id"]))),
        status=Status(row["status"]),
        fuel=int(row["fuel"]),
        weight=int(row["weight"]),
    )


# ---------------------------------------------------------------- batches


def batch_of(vector: dict[str, Any], rows: list[dict[str, Any]]) -> Batch:
    commitment = vector["commitment"]
    first_index = int(commitment["first_index"])
    return build_batch([receipt_of(commitment, index, row) for index, row in enumerate(rows, first_index)])


def check_code(vector: dict[str, Any], batch: Batch) -> None:
    written = {
        name: "0x" + value.hex() if isinstance(value, bytes) else value if name == "count" else str(value)
        for name, value in asdict(batch.commitment).items()
    }
    assert written == vector["commitment"]
    for expected in vector["proofs"]:
        proof = batch.proof(expected["position"])
        assert encode_path(proof.siblings) == raw(expected["path"])
        located = verify(batch.commitment, decode_proof(proof.receipt.encode() + raw(expected["path"])))
        assert (located.position, located.fuel_before, located.weight_before) == (
            expected["position"],
            int(expected["fuel_before"]),
            int(expected["weight_before"]),
        )
    for draw in vector["draws"]:
        named: ReceiptProof = batch.proof_at_weight(int(draw["offset"]))
        assert verify_draw(batch.commitment, named, int(draw["offset"])).position == draw["position"]


def count_of(vector: dict[str, Any]) -> str:
    return f"count={vector['commitment']['count']}"


@pytest.mark.parametrize("vector", EXPLICIT, ids=count_of)
def test_batches_plainly(vector: dict[str, Any]) -> None:
    check_plainly(vector, vector["rows"])
    assert len(vector["proofs"]) == len(vector["rows"])


@pytest.mark.parametrize("vector", EXPLICIT, ids=count_of)
def test_batches(vector: dict[str, Any]) -> None:
    batch = batch_of(vector, vector["rows"])
    check_code(vector, batch)
    assert batch.encode() == raw(vector["encoding"])
    assert decode_batch(raw(vector["encoding"])) == batch


@pytest.mark.parametrize("vector", DERIVED, ids=count_of)
def test_derived_batches_plainly(vector: dict[str, Any]) -> None:
    check_plainly(vector, derived_rows(vector["commitment"]["count"]))


@pytest.mark.parametrize("vector", DERIVED, ids=count_of)
def test_derived_batches(vector: dict[str, Any]) -> None:
    check_code(vector, batch_of(vector, derived_rows(vector["commitment"]["count"])))


def test_the_vectors_cover_what_they_should() -> None:
    assert {vector["status"] for vector in IDS["receipts"]} == set(range(6))
    assert {vector["commitment"]["count"] for vector in EXPLICIT + DERIVED} >= {1, 2, 3, 5, 7, 4095, 4096}
    assert sum(len(vector["draws"]) for vector in EXPLICIT) > 20
