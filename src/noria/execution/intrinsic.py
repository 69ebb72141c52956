"""The gas that a transaction must bring before any of its code runs.

The engine checks this again when it executes; the mempool checks it so that a sender is told at once.
"""

from __future__ import annotations

from noria._core import InvalidEncoding, Transaction, rlp_decode
from noria.execution.rejections import RejectedTransaction

TRANSACTION_GAS = 21_000
CREATION_GAS = 32_000
INIT_CODE_WORD_GAS = 2
"""EIP-3860, per 32 bytes."""
INIT_CODE_MAX = 49_152
"""Bytes, EIP-3860."""
TOKEN_GAS = 4
"""Per calldata token: a zero byte is one token, any other four (EIP-2028, EIP-7623)."""
TOKEN_FLOOR_GAS = 10
"""EIP-7623."""
ACCESS_ADDRESS_GAS = 2_400
ACCESS_KEY_GAS = 1_900
AUTHORIZATION_GAS = 25_000

# No encoding of a transaction can need more intrinsic gas per byte than one made of its dearest items.
_CREATION_MARGIN = TRANSACTION_GAS + CREATION_GAS + INIT_CODE_WORD_GAS
_GAS_PER_BYTE_MAX = {0: 41, 1: 120, 2: 120, 4: 300}


def check_intrinsic_gas(transaction: Transaction, *, gas_limit: int, size: int, floor: bool) -> None:
    """Check that the gas limit covers what is charged before execution.

    Parameters
    ----------
    transaction
        A decoded transaction.
    gas_limit, size
        Its gas limit and its encoded size in bytes (the caller has read them already).
    floor
        Whether the calldata floor of EIP-7623 applies (Prague and later).

    Raises
    ------
    RejectedTransaction
        ``"intrinsic-gas"`` or ``"init-code-size"``.
    """
    kind = transaction.type
    creates = transaction.to is None
    if gas_limit >= _CREATION_MARGIN + _GAS_PER_BYTE_MAX.get(kind, 300) * size and not (
        creates and size > INIT_CODE_MAX
    ):
        return
    data, addresses, keys, authorizations = _variable_parts(transaction.raw, kind)
    if creates and len(data) > INIT_CODE_MAX:
        raise RejectedTransaction(
            "init-code-size", f"max initcode size exceeded: code size {len(data)}, limit {INIT_CODE_MAX}"
        )
    tokens = 4 * len(data) - 3 * data.count(0)
    needed = TRANSACTION_GAS + TOKEN_GAS * tokens
    needed += ACCESS_ADDRESS_GAS * addresses + ACCESS_KEY_GAS * keys + AUTHORIZATION_GAS * authorizations
    if creates:
        needed += CREATION_GAS + INIT_CODE_WORD_GAS * ((len(data) + 31) // 32)
    if gas_limit < needed:
        raise RejectedTransaction(
            "intrinsic-gas", f"intrinsic gas too low: gas {gas_limit}, minimum needed {needed}"
        )
    at_least = TRANSACTION_GAS + TOKEN_FLOOR_GAS * tokens
    if floor and gas_limit < at_least:
        raise RejectedTransaction(
            "intrinsic-gas",
            f"insufficient gas for floor data gas cost: gas {gas_limit}, minimum needed {at_least}",
        )


def _variable_parts(raw: bytes, kind: int) -> tuple[bytes, int, int, int]:
    """Calldata, and the numbers of listed addresses, storage keys and authorisations, of an encoding."""
    try:
        fields = rlp_decode(raw if kind == 0 else raw[1:])
    except InvalidEncoding as error:
        raise RejectedTransaction("encoding", f"invalid transaction encoding: {error}") from error
    if kind == 0:
        return fields[5], 0, 0, 0
    # 2930: chain, nonce, price, gas, to, value, data, list; 1559 and 7702 have two prices, 7702 a list more.
    at = 6 if kind == 1 else 7
    access = fields[at + 1]
    keys = sum(len(item[1]) for item in access)
    return fields[at], len(access), keys, len(fields[at + 2]) if kind == 4 else 0
