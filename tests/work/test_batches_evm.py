"""A contract recomputes units, receipts, nodes and whole paths and finds what Python finds."""

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria._core import CallResult, Engine
from noria.primitives.hashes import keccak256
from noria.primitives.sum_tree import SumNode, encode_path, node_hash
from noria.primitives.types import UINT64_MAX
from noria.work.batches import BATCH_RECEIPTS_MAX, Batch, build_batch, verify
from noria.work.ids import BlobId, ProgramId, unit_id
from noria.work.receipts import Receipt
from tests.work.claims import claims, hashes, receipts

SOURCE = Path(__file__).with_name("batches.vy")
CONTRACT = "0x" + "ba" * 20
WORDS = st.integers(0, UINT64_MAX)
SHARED_ENGINE = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def code() -> str:
    from vyper.compiler import compile_code

    output: dict[str, str] = compile_code(SOURCE.read_text(), output_formats=["bytecode_runtime"])
    return output["bytecode_runtime"]


class Contract:
    """The contract at the head of a chain."""

    def __init__(self, engine: Engine, code: str) -> None:
        self.engine = engine
        self.overrides = json.dumps({CONTRACT: {"code": code}}).encode()

    def run(self, signature: str, *arguments: object) -> CallResult:
        """Call by a signature such as ``unit_id(bytes32,bytes32,uint64)``."""
        types = signature[signature.index("(") + 1 : -1].split(",")
        data = keccak256(signature.encode())[:4] + encode(types, arguments)
        request = json.dumps({"to": CONTRACT, "data": "0x" + data.hex()}).encode()
        return self.engine.call(
            self.engine.head.hash, request, gas_cap=10_000_000, state_overrides=self.overrides
        )

    def fold(self, batch: Batch, receipt: bytes, path: bytes) -> CallResult:
        commitment = batch.commitment
        return self.run(
            "fold(bytes,bytes,uint64,uint256)", receipt, path, commitment.first_index, commitment.count
        )


@pytest.fixture
def contract(engine: Engine, code: str) -> Contract:
    return Contract(engine, code)


@given(program=hashes, input_id=hashes, fuel_limit=WORDS)
@SHARED_ENGINE
def test_units(contract: Contract, program: Any, input_id: Any, fuel_limit: int) -> None:
    result = contract.run("unit_id(bytes32,bytes32,uint64)", program, input_id, fuel_limit)
    assert result.output == unit_id(ProgramId(program), BlobId(input_id), fuel_limit)


@given(claim=receipts())
@SHARED_ENGINE
def test_leaves(contract: Contract, claim: Receipt) -> None:
    signature = "leaf(bytes32,uint256,uint32,address,uint64,bytes32,bytes32,uint8,uint64,uint64)"
    assert contract.run(signature, *astuple(claim)).output == claim.leaf().hash


@given(left=st.builds(SumNode, hashes, WORDS, WORDS), right=st.builds(SumNode, hashes, WORDS, WORDS))
@SHARED_ENGINE
def test_nodes(contract: Contract, left: SumNode, right: SumNode) -> None:
    signature = "node(bytes32,uint64,uint64,bytes32,uint64,uint64)"
    assert contract.run(signature, *astuple(left), *astuple(right)).output == node_hash(left, right)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 33, BATCH_RECEIPTS_MAX])
def test_paths(contract: Contract, count: int) -> None:
    batch = build_batch(claims([(number * number, number % 3 != 1) for number in range(count)], 12))
    commitment = batch.commitment
    for position in sorted({0, 1, 2, count // 2, count - 2, count - 1} & set(range(count))):
        proof = batch.proof(position)
        result = contract.fold(batch, proof.receipt.encode(), encode_path(proof.siblings))
        assert result.status == "success", result.error
        [found] = decode(["(bytes32,uint64,uint64,uint64,uint64)"], result.output)
        located = verify(commitment, proof)
        assert found == (
            commitment.root, commitment.fuel, commitment.weight, located.fuel_before, located.weight_before,
        )  # fmt: skip


def test_what_python_refuses_the_contract_refuses(contract: Contract) -> None:
    batch = build_batch(claims([(5, True), (6, False), (7, True)]))
    proof = batch.proof(0)
    claim, path = proof.receipt.encode(), encode_path(proof.siblings)
    huge = SumNode(proof.siblings[0].hash, UINT64_MAX, 0).encode()
    assert contract.fold(batch, claim, path).status == "success"
    for receipt, siblings in (
        (claim[:-1], path),  # no receipt
        (claim[:-1] + b"\x04", path),  # a weight that is neither the fuel nor 0
        (claim[:103] + bytes(7) + b"\x03" + claim[111:], path),  # an index outside the batch
        (claim, path[:48]),
        (claim, path + path[:48]),
        (claim, path[:-1]),
        (claim, huge + path[48:]),  # sums beyond 64 bits
    ):
        assert contract.fold(batch, receipt, siblings).status == "revert"


def test_a_full_path_is_cheap(contract: Contract) -> None:
    batch = build_batch(claims([(1, True)] * BATCH_RECEIPTS_MAX))
    proof = batch.proof(1365)
    result = contract.fold(batch, proof.receipt.encode(), encode_path(proof.siblings))
    # 21,000 for any transaction and about 15,000 for calldata are in it.
    assert result.status == "success"
    assert result.gas_used < 60_000
