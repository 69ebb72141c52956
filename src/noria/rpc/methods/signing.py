"""Completing and signing transactions with the unlocked accounts of a development node."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from noria.rpc.context import Context
from noria.rpc.errors import ParamError, invalid_params, server_error
from noria.rpc.methods.eth import current_tip
from noria.rpc.methods.eth_state import least_gas
from noria.rpc.params import MAX_UINT256, address, data, hash32, quantity


class _AccessEntry(msgspec.Struct, frozen=True):
    address: str
    storageKeys: list[str] = []


class TransactionRequest(msgspec.Struct, frozen=True, rename={"sender": "from", "kind": "type"}):
    """The transaction object of ``eth_sendTransaction`` and ``eth_signTransaction``."""

    sender: str | None = None
    to: str | None = None
    gas: str | None = None
    gasPrice: str | None = None
    maxFeePerGas: str | None = None
    maxPriorityFeePerGas: str | None = None
    value: str | None = None
    nonce: str | None = None
    data: str | None = None
    input: str | None = None
    chainId: str | None = None
    kind: str | None = None
    accessList: list[_AccessEntry] | None = None
    blobVersionedHashes: list[str] | None = None
    authorizationList: list[Any] | None = None


def read_request(text: bytes | None) -> TransactionRequest:
    """Decode a transaction object.

    Raises
    ------
    RpcError
        -32602 if it is not one.
    """
    try:
        return msgspec.json.decode(text or b"{}", type=TransactionRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise invalid_params(f"invalid argument 0: {error}") from None


async def complete(
    context: Context, request: TransactionRequest, text: bytes
) -> tuple[bytes, dict[str, Any]]:
    """Fill in what the request leaves open (nonce, gas, fees) and return the sender and what is to be signed.

    Raises
    ------
    RpcError
        -32602 for a malformed field, -32000 for fields that contradict each other or the chain, 3 if the gas
        estimate reverts.
    """
    try:
        sender = address(request.sender) if request.sender is not None else None
        fields = _given_fields(request)
    except ParamError as error:
        raise invalid_params(f"invalid argument 0: {error}") from None
    if sender is None:
        raise invalid_params('invalid argument 0: missing "from"')
    node = context.node
    chain_id = node.engine.chain_id
    if fields.setdefault("chainId", chain_id) != chain_id:
        raise server_error(f"chainId does not match node's (have={fields['chainId']}, want={chain_id})")
    await _set_fees(context, fields)
    if "nonce" not in fields:
        nonce = node.engine.account(node.chain.head.hash, sender).nonce
        fields["nonce"] = node.chain.mempool.pending_nonce(sender, nonce)
    if "gas" not in fields:
        fields["gas"] = await least_gas(context, text)
    return sender, fields


def _given_fields(request: TransactionRequest) -> dict[str, Any]:
    if request.blobVersionedHashes is not None:
        raise ParamError("blob transactions are not accepted on this chain")
    if request.authorizationList is not None:
        raise ParamError("a transaction with an authorizationList must be signed by its sender's own wallet")
    if request.data is not None and request.input is not None and request.data != request.input:
        raise ParamError(
            'both "data" and "input" are set and not equal; use "input" to pass transaction call data'
        )
    payload = data(request.input or request.data or "0x")
    if request.to is None and not payload:
        raise ParamError("contract creation without any data provided")
    fields: dict[str, Any] = {
        "to": b"" if request.to is None else address(request.to),
        "data": payload,
        "value": quantity(request.value or "0x0", MAX_UINT256),
    }
    for name in ("gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "gas", "nonce", "chainId"):
        text = getattr(request, name)
        if text is not None:
            fields[name] = quantity(
                text, MAX_UINT256 if name.lower().endswith(("price", "pergas")) else 2**64 - 1
            )
    if request.accessList is not None:
        fields["accessList"] = [
            {
                "address": _text(address(entry.address)),
                "storageKeys": [_text(hash32(key)) for key in entry.storageKeys],
            }
            for entry in request.accessList
        ]
    return fields


def _text(value: bytes) -> str:
    # The signing library takes bytes everywhere but in access lists.
    return "0x" + value.hex()


async def _set_fees(context: Context, fields: dict[str, Any]) -> None:
    if "gasPrice" in fields:
        if "maxFeePerGas" in fields or "maxPriorityFeePerGas" in fields:
            raise server_error("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified")
        if "accessList" in fields:
            fields["type"] = 1
        return
    fields["type"] = 2
    fields.setdefault("accessList", [])
    if "maxPriorityFeePerGas" not in fields:
        suggested = await current_tip(context)
        fields["maxPriorityFeePerGas"] = min(suggested, fields.get("maxFeePerGas", suggested))
    tip = fields["maxPriorityFeePerGas"]
    cap = fields.setdefault("maxFeePerGas", tip + 2 * context.node.chain.head.next_base_fee())
    if cap < tip:
        raise server_error(f"maxFeePerGas ({cap}) < maxPriorityFeePerGas ({tip})")


def sign_transaction(fields: dict[str, Any], private_key: bytes) -> bytes:
    """Return the network encoding of a signed transaction."""
    return bytes(_account().sign_transaction(fields, private_key).raw_transaction)


def sign_message(message: bytes, private_key: bytes) -> bytes:
    """Return the 65-byte EIP-191 personal signature of a message."""
    account = _account()
    from eth_account.messages import encode_defunct

    return bytes(account.sign_message(encode_defunct(message), private_key).signature)


def sign_typed_data(document: dict[str, Any], private_key: bytes) -> bytes:
    """Return the 65-byte EIP-712 signature of a typed document.

    Raises
    ------
    RpcError
        -32602 if the document is not valid EIP-712.
    """
    account = _account()
    try:
        return bytes(account.sign_typed_data(private_key, full_message=document).signature)
    except Exception as error:
        # The library raises many kinds for the many ways in which a document can be wrong.
        raise invalid_params(
            f"invalid argument 1: not valid EIP-712 typed data: {str(error)[:200]}"
        ) from None


def _account() -> Any:
    # Loading eth-account takes a good part of a second: only nodes that sign pay for it. A part of it raises
    # the recursion limit of the whole process, which the readers of input from outside rely on.
    limit = sys.getrecursionlimit()
    try:
        from eth_account import Account
    finally:
        sys.setrecursionlimit(limit)
    return Account
