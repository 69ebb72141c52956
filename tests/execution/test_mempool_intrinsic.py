"""What a transaction must bring: the formulas' amounts, and where the engine draws the line."""

from __future__ import annotations

from typing import Any

import pytest

from noria._core import Engine, decode_transaction
from noria.execution.accounts import DevAccount
from noria.execution.intrinsic import check_intrinsic_gas
from noria.execution.rejections import RejectedTransaction
from tests.chain.transfers import authorization_transaction
from tests.execution.blocks import attributes, sign

SINK = "0x" + "51" * 20


def check(raw: bytes, floor: bool = True) -> RejectedTransaction | None:
    tx = decode_transaction(raw)
    try:
        check_intrinsic_gas(tx, gas_limit=tx.gas_limit, size=tx.size, floor=floor)
    except RejectedTransaction as rejected:
        return rejected
    return None


ACCESS = [
    {"address": SINK, "storageKeys": ["0x" + "00" * 32, "0x" + "01" * 32]},
    {"address": SINK, "storageKeys": []},
]

CASES = [
    pytest.param({"to": SINK}, 21_000, id="transfer"),
    pytest.param({"to": SINK, "gasPrice": 10**10}, 21_000, id="legacy"),
    # 1 byte that is not zero: 4 tokens, 16 gas, the floor asks 40.
    pytest.param({"to": SINK, "data": b"\x01"}, 21_040, id="calldata floor"),
    pytest.param({"to": SINK, "data": b"\x00\x01"}, 21_050, id="zero bytes"),
    pytest.param({"to": SINK, "accessList": ACCESS}, 21_000 + 2 * 2_400 + 2 * 1_900, id="access list"),
    pytest.param(
        {"to": SINK, "accessList": ACCESS, "gasPrice": 10**10, "type": 1, "data": b"\x01" * 3},
        21_000 + 2 * 2_400 + 2 * 1_900 + 48,
        id="access list and calldata",
    ),
    pytest.param({"data": b""}, 53_000, id="creation"),
    pytest.param({"data": b"\x00" * 33}, 53_000 + 33 * 4 + 2 * 2, id="creation words"),
    # Here the floor is dearer than the creation.
    pytest.param({"data": b"\xfe" * 49_152}, 21_000 + 49_152 * 40, id="largest creation"),
]


@pytest.mark.parametrize(("fields", "needed"), CASES)
def test_the_exact_amount_is_enough(
    fields: dict[str, Any], needed: int, dev_keys: list[DevAccount], engine: Engine
) -> None:
    short = sign(dev_keys[0], 0, **fields, gas=needed - 1)
    enough = sign(dev_keys[0], 0, **fields, gas=needed)
    rejected = check(short.raw)
    assert rejected is not None
    assert rejected.kind == "intrinsic-gas"
    assert f"gas {needed - 1}, minimum needed {needed}" in rejected.message
    assert check(enough.raw) is None
    # The engine draws the line at the same place.
    refused = engine.build(engine.head.hash, attributes(engine.head), [short]).rejected
    assert [kind for _, kind, _ in refused] == ["intrinsic-gas"]
    assert engine.build(engine.head.hash, attributes(engine.head), [enough]).rejected == []


def test_authorisations_are_paid_for(dev_keys: list[DevAccount]) -> None:
    rejected = check(authorization_transaction(dev_keys[0], 0, dev_keys[1], 0, gas=45_999))
    assert str(rejected) == "intrinsic gas too low: gas 45999, minimum needed 46000"
    assert check(authorization_transaction(dev_keys[0], 0, dev_keys[1], 0, gas=46_000)) is None


def test_before_prague_there_is_no_floor(dev_keys: list[DevAccount]) -> None:
    tx = sign(dev_keys[0], 0, to=SINK, data=b"\x01", gas=21_016)
    assert check(tx.raw, floor=False) is None
    assert check(tx.raw, floor=True) is not None
    rejected = check(sign(dev_keys[0], 0, to=SINK, data=b"\x01", gas=21_015).raw, floor=False)
    assert str(rejected) == "intrinsic gas too low: gas 21015, minimum needed 21016"


def test_creation_code_has_a_limit(dev_keys: list[DevAccount]) -> None:
    rejected = check(sign(dev_keys[0], 0, data=b"\x00" * 49_153, gas=2**24).raw)
    assert rejected is not None
    assert (rejected.kind, rejected.message) == (
        "init-code-size",
        "max initcode size exceeded: code size 49153, limit 49152",
    )
    assert check(sign(dev_keys[0], 0, to=SINK, data=b"\x00" * 49_153, gas=2**24).raw) is None
