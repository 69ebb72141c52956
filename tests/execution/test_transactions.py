"""Decoding of signed transactions: every type, every reason for refusal, and arbitrary bytes."""

from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from noria._core import (
    InvalidTransaction,
    Transaction,
    decode_transaction,
    decode_transactions,
    keccak256,
    rlp_decode,
    rlp_encode,
)
from noria.execution.accounts import DevAccount
from tests.execution.blocks import sign

TO = "0x" + "11" * 20
SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def authorization(account: DevAccount) -> Any:
    return Account.sign_authorization({"chainId": 5132114, "address": TO, "nonce": 0}, account.private_key)


def kind(raw: bytes) -> str:
    with pytest.raises(InvalidTransaction) as caught:
        decode_transaction(raw)
    assert len(caught.value.args[1].splitlines()) == 1
    return str(caught.value.args[0])


@pytest.mark.parametrize(
    ("fields", "type_", "caps"),
    [
        ({"gasPrice": 7, "chainId": 5132114}, 0, (7, 7)),
        ({"gasPrice": 7, "chainId": None}, 0, (7, 7)),
        ({"gasPrice": 7, "accessList": [{"address": TO, "storageKeys": ["0x" + "01" * 32]}]}, 1, (7, 7)),
        ({"maxFeePerGas": 9, "maxPriorityFeePerGas": 2}, 2, (9, 2)),
    ],
)
def test_each_type_is_read(
    dev_keys: list[DevAccount], fields: dict[str, Any], type_: int, caps: tuple[int, int]
) -> None:
    tx = sign(dev_keys[3], 5, to=TO, value=11, gas=50_000, data=b"abc", **fields)
    assert (tx.type, tx.nonce, tx.value, tx.gas_limit) == (type_, 5, 11, 50_000)
    assert (tx.max_fee_per_gas, tx.max_priority_fee_per_gas) == caps
    assert tx.sender == dev_keys[3].address
    assert tx.to == bytes.fromhex("11" * 20)
    assert tx.hash == keccak256(tx.raw)
    assert tx.size == len(tx.raw)
    assert tx.max_cost == 11 + 50_000 * caps[0]
    assert tx.effective_tip(caps[0] + 1) is None
    assert tx.effective_tip(0) == caps[1]


def test_a_delegation_is_read(dev_keys: list[DevAccount]) -> None:
    tx = sign(dev_keys[0], 0, to=TO, gas=100_000, authorizationList=[authorization(dev_keys[1])])
    assert tx.type == 4


def test_a_creation_has_no_recipient(dev_keys: list[DevAccount]) -> None:
    assert sign(dev_keys[0], 0, gas=100_000, data=b"\0").to is None


def test_blob_and_unknown_types_have_their_own_reasons() -> None:
    assert kind(b"\x03" + rlp_encode([])) == "blob-unsupported"
    assert kind(b"\x05" + rlp_encode([])) == "type-unsupported"
    assert kind(b"\x00" + rlp_encode([])) == "type-unsupported"
    assert kind(b"") == "encoding"
    assert kind(b"\xc0") == "encoding"


@pytest.fixture
def transfer(dev_keys: list[DevAccount]) -> Transaction:
    return sign(dev_keys[0], 0, to=TO, value=1)


def respell(tx: Transaction, **fields: bytes) -> bytes:
    names = ["chain", "nonce", "tip", "fee", "gas", "to", "value", "data", "access", "parity", "r", "s"]
    items = rlp_decode(tx.raw[1:])
    for name, value in fields.items():
        items[names.index(name)] = value
    return b"\x02" + rlp_encode(items)


def test_one_transaction_has_one_encoding(transfer: Transaction) -> None:
    assert kind(transfer.raw + b"\0") == "encoding"
    assert kind(transfer.raw[:-1]) == "encoding"
    assert kind(respell(transfer, value=b"\0\1")) == "encoding"
    assert kind(respell(transfer, nonce=b"\0")) == "encoding"
    assert kind(respell(transfer, nonce=b"\1" * 9)) == "encoding"
    assert kind(respell(transfer, to=b"\1" * 19)) == "encoding"
    assert kind(respell(transfer, value=b"\1" * 33)) == "encoding"


def test_a_malleable_or_impossible_signature_is_refused(transfer: Transaction) -> None:
    s = int.from_bytes(rlp_decode(transfer.raw[1:])[11], "big")
    high = SECP256K1_ORDER - s
    parity = rlp_decode(transfer.raw[1:])[9]
    flipped = b"" if parity else b"\1"
    assert kind(respell(transfer, s=high.to_bytes(32, "big"), parity=flipped)) == "signature"
    assert kind(respell(transfer, r=b"", s=b"")) == "signature"
    assert kind(respell(transfer, r=SECP256K1_ORDER.to_bytes(32, "big"))) == "signature"
    assert kind(respell(transfer, parity=b"\2")) in {"signature", "encoding"}


def test_many_are_decoded_in_order_and_bad_ones_stand_between(dev_keys: list[DevAccount]) -> None:
    good = [sign(dev_keys[index % 10], index, to=TO) for index in range(40)]
    raws = [tx.raw for tx in good]
    raws[7] = b"\x03\xc0"
    decoded = decode_transactions(raws)
    assert isinstance(decoded[7], InvalidTransaction)
    assert decoded[7].args[0] == "blob-unsupported"
    for index, item in enumerate(decoded):
        if index != 7:
            assert isinstance(item, Transaction)
            assert item.hash == good[index].hash


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_by_name(raw: bytes) -> None:
    assert kind(raw) in {"encoding", "signature", "blob-unsupported", "type-unsupported"}


@given(data=st.data())
def test_spoiled_transactions_are_refused_or_someone_elses(
    dev_keys: list[DevAccount], data: st.DataObject
) -> None:
    transfer = sign(dev_keys[0], 0, to=TO, value=1)
    spoiled = bytearray(transfer.raw)
    spoiled[data.draw(st.integers(0, len(spoiled) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        tx = decode_transaction(bytes(spoiled))
    except InvalidTransaction:
        return
    assert tx.raw == bytes(spoiled)
    assert tx.hash != transfer.hash
    assert tx.sender != transfer.sender
