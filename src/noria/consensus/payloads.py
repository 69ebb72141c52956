"""The part of an execution payload that consensus looks at: its header, read without reading the rest.

Protocol 4.1.

A payload is Ethereum's block encoding ``[header, transactions, [], []]``. Consensus checks how the header
ties it to the envelope; whether body and header belong together, and execution, are the engine's to check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from noria.consensus.lottery import prev_randao
from noria.consensus.wire import Reader, WrongShape
from noria.primitives.hashes import keccak256
from noria.primitives.types import ADDRESS_BYTES, HASH_BYTES, Address, BlsSignature, Hash32

PAYLOAD_BYTES_MAX: Final = 8 << 20
"""EIP-7934: longest block of the Osaka rules."""
HEADER_BYTES_MAX: Final = 1024
"""An Osaka header has about 640 bytes."""
BLOOM_BYTES: Final = 256
EXTRA_DATA_BYTES_MAX: Final = 32


class PayloadError(ValueError):
    """A payload that does not belong into this envelope; base of the errors below."""


class WrongPayloadParent(PayloadError):
    """A payload that does not follow the parent's."""


class WrongTimestamp(PayloadError):
    """A timestamp that is not the start of the slot."""


class WrongPrevRandao(PayloadError):
    """A prevRandao that does not come from the parent's and the proof."""


class WrongBeaconRoot(PayloadError):
    """A parentBeaconBlockRoot that is not the envelope's parent."""


@dataclass(frozen=True, slots=True)
class PayloadHeader:
    """What consensus reads of a payload's header (protocol 4.1).

    Attributes
    ----------
    block_hash
        Ethereum's block hash: Keccak-256 of the header's RLP.
    """

    block_hash: Hash32
    parent_hash: Hash32
    fee_recipient: Address
    state_root: Hash32
    number: int
    timestamp: int
    prev_randao: Hash32
    parent_beacon_block_root: Hash32


def read_payload_header(payload: bytes) -> PayloadHeader:
    """Read the header of a payload; transactions stay unread bytes (protocol 4.1).

    Raises
    ------
    InvalidMessage
        Where the bytes are no block of the Osaka rules without uncles and withdrawals.
    """
    block = Reader.open(payload, "payload", max_bytes=PAYLOAD_BYTES_MAX)
    raw = block.raw("header", max_bytes=HEADER_BYTES_MAX)
    block.raw("transactions", max_bytes=PAYLOAD_BYTES_MAX)
    for name in ("uncles", "withdrawals"):
        if not block.list(name).at_end:
            raise WrongShape(f"payload: there are {name}, where none are allowed")
    block.close()
    return _read_header(raw)


def check_links(
    header: PayloadHeader,
    *,
    parent_payload: PayloadHeader,
    parent_root: Hash32,
    vrf_proof: BlsSignature,
    slot_seconds: int,
) -> None:
    """Check how a payload is tied to its envelope and its parent (protocol 4.1).

    Parameters
    ----------
    header
        The payload's.
    parent_payload
        That of the parent block's payload.
    parent_root, vrf_proof
        The envelope's.
    slot_seconds
        When its slot starts, Unix seconds.

    Raises
    ------
    PayloadError
        One of its subclasses.
    """
    if header.parent_hash != parent_payload.block_hash or header.number != parent_payload.number + 1:
        raise WrongPayloadParent(
            f"payload {header.number} on 0x{header.parent_hash.hex()} does not follow"
            f" {parent_payload.number},"
            f" 0x{parent_payload.block_hash.hex()}"
        )
    if header.timestamp != slot_seconds:
        raise WrongTimestamp(
            f"the payload's timestamp is {header.timestamp}, the slot starts at {slot_seconds}"
        )
    expected = prev_randao(parent_payload.prev_randao, vrf_proof)
    if header.prev_randao != expected:
        raise WrongPrevRandao(f"prevRandao is 0x{header.prev_randao.hex()}, not 0x{expected.hex()}")
    if header.parent_beacon_block_root != parent_root:
        raise WrongBeaconRoot(
            f"parentBeaconBlockRoot is 0x{header.parent_beacon_block_root.hex()}, not 0x{parent_root.hex()}"
        )


def _read_header(raw: bytes) -> PayloadHeader:
    reader = Reader.open(raw, "payload header", max_bytes=HEADER_BYTES_MAX)
    parent_hash = reader.fixed("parentHash", HASH_BYTES)
    reader.fixed("sha3Uncles", HASH_BYTES)
    fee_recipient = reader.fixed("miner", ADDRESS_BYTES)
    state_root = reader.fixed("stateRoot", HASH_BYTES)
    reader.fixed("transactionsRoot", HASH_BYTES)
    reader.fixed("receiptsRoot", HASH_BYTES)
    reader.fixed("logsBloom", BLOOM_BYTES)
    reader.integer("difficulty", 256)
    number = reader.integer("number", 64)
    reader.integer("gasLimit", 64)
    reader.integer("gasUsed", 64)
    timestamp = reader.integer("timestamp", 64)
    reader.blob("extraData", max_bytes=EXTRA_DATA_BYTES_MAX)
    randao = reader.fixed("mixHash", HASH_BYTES)
    reader.fixed("nonce", 8)
    reader.integer("baseFeePerGas", 256)
    reader.fixed("withdrawalsRoot", HASH_BYTES)
    reader.integer("blobGasUsed", 64)
    reader.integer("excessBlobGas", 64)
    beacon_root = reader.fixed("parentBeaconBlockRoot", HASH_BYTES)
    reader.fixed("requestsHash", HASH_BYTES)
    reader.close()
    return PayloadHeader(
        block_hash=keccak256(raw),
        parent_hash=Hash32(parent_hash),
        fee_recipient=Address(fee_recipient),
        state_root=Hash32(state_root),
        number=number,
        timestamp=timestamp,
        prev_randao=Hash32(randao),
        parent_beacon_block_root=Hash32(beacon_root),
    )
