"""Whether a payload's transactions are those that its header names (protocol 4.6).

A block's root covers the header, and through it the transactions; bytes that claim that root may carry any.
This is found out before anything else is blamed on the root.
"""

from __future__ import annotations

from typing import Final

from noria._core import trie_root
from noria.consensus.payloads import HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX
from noria.consensus.validity import PayloadBodyMismatch
from noria.consensus.wire import FieldOutOfRange, InvalidMessage, Reader
from noria.primitives import rlp
from noria.primitives.rlp import integer_to_bytes
from noria.primitives.types import HASH_BYTES

TRANSACTIONS_MAX: Final = 65_536
_LIST_PREFIX: Final = 0xC0
_TYPE_END: Final = 0x80
"""EIP-2718: no type of transaction is as high."""


def check_body(payload: bytes) -> None:
    """Check that transactions and header belong together.

    Raises
    ------
    PayloadBodyMismatch
        Where they do not.
    """
    try:
        named, transactions = _read(payload)
    except InvalidMessage as error:
        raise PayloadBodyMismatch(str(error)) from error
    items = [(rlp.encode(integer_to_bytes(index)), raw) for index, raw in enumerate(transactions)]
    found = trie_root(items)
    if found != named:
        raise PayloadBodyMismatch(
            f"the {len(transactions)} transactions have root 0x{found.hex()}, the header says 0x{named.hex()}"
        )


def _read(payload: bytes) -> tuple[bytes, list[bytes]]:
    block = Reader.open(payload, "payload", max_bytes=PAYLOAD_BYTES_MAX)
    header = Reader.open(
        block.raw("header", max_bytes=HEADER_BYTES_MAX), "payload header", max_bytes=HEADER_BYTES_MAX
    )
    for field in ("parentHash", "sha3Uncles", "miner", "stateRoot"):
        header.blob(field, max_bytes=HASH_BYTES)
    named = header.fixed("transactionsRoot", HASH_BYTES)
    body = block.list("transactions")
    transactions: list[bytes] = []
    while not body.at_end:
        if len(transactions) == TRANSACTIONS_MAX:
            raise InvalidMessage(f"payload: more than {TRANSACTIONS_MAX} transactions")
        raw = body.raw("transaction", max_bytes=PAYLOAD_BYTES_MAX)
        # A legacy transaction is a list and stands in the tree as it is; a typed one without its length.
        transactions.append(raw if raw[0] >= _LIST_PREFIX else _typed(raw))
    return named, transactions


def _typed(raw: bytes) -> bytes:
    """Return a typed transaction as it stands in the tree.

    A body has one form for one root: what is empty leaves the tree as it is, and a legacy transaction inside
    of a string would stand there like the list that it is.
    """
    found = Reader(raw, "payload", 0, len(raw)).blob("transaction", min_bytes=1, max_bytes=PAYLOAD_BYTES_MAX)
    if found[0] >= _TYPE_END:
        raise FieldOutOfRange(f"payload: a transaction of type {found[0]}")
    return found
