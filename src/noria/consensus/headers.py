"""A block's header: what its root covers and its proposer signs, so that it can be evidence alone.

Protocol 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from noria.consensus.wire import Reader, integer_to_bytes
from noria.primitives import rlp
from noria.primitives.hashes import blake3
from noria.primitives.types import (
    ADDRESS_BYTES,
    BLS_SIGNATURE_BYTES,
    HASH_BYTES,
    Address,
    BlsSignature,
    Hash32,
)

BLOCK_TAG: Final = b"noria/block/1"
SIGNED_HEADER_BYTES_MAX: Final = (
    9 + 5 * (HASH_BYTES + 1) + ADDRESS_BYTES + 1 + 2 * (BLS_SIGNATURE_BYTES + 2) + 3
)
"""Longest encoding of a signed header."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a block's root is made of (protocol 4.1).

    Parameters
    ----------
    slot
        When.
    parent_root
        On what.
    proposer
        The miner that won the slot.
    vrf_proof
        The signature that won it.
    certificate_hash, votes_hash, evidence_hash
        What the block carries beside its payload.
    payload_hash
        Ethereum's hash of the payload's header.
    """

    slot: int
    parent_root: Hash32
    proposer: Address
    vrf_proof: BlsSignature
    certificate_hash: Hash32
    votes_hash: Hash32
    evidence_hash: Hash32
    payload_hash: Hash32


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """A header and its proposer's signature over the block's root."""

    header: Header
    signature: BlsSignature


def block_root(genesis_root: Hash32, header: Header) -> Hash32:
    """Return a block's root, which is what its proposer signs (protocol 4.1)."""
    return blake3(BLOCK_TAG + genesis_root + rlp.encode(_fields(header)))


def encode_signed_header(signed: SignedHeader) -> bytes:
    """Return a signed header's RLP: the fields in the order of their declaration, then the signature."""
    return rlp.encode(signed_header_fields(signed))


def decode_signed_header(data: bytes) -> SignedHeader:
    """Read a signed header.

    Raises
    ------
    InvalidMessage
        Where the bytes are none.
    """
    reader = Reader.open(data, "header", max_bytes=SIGNED_HEADER_BYTES_MAX)
    signed = read_signed_header(reader)
    reader.close()
    return signed


def signed_header_fields(signed: SignedHeader) -> list[rlp.RlpItem]:
    """Return a signed header's fields for RLP."""
    return [*_fields(signed.header), signed.signature]


def read_signed_header(reader: Reader) -> SignedHeader:
    """Take a signed header's fields.

    Raises
    ------
    InvalidMessage
        Where they are none.
    """
    header = Header(
        slot=reader.integer("slot", 64, least=1),
        parent_root=Hash32(reader.fixed("parent_root", HASH_BYTES)),
        proposer=Address(reader.fixed("proposer", ADDRESS_BYTES)),
        vrf_proof=BlsSignature(reader.fixed("vrf_proof", BLS_SIGNATURE_BYTES)),
        certificate_hash=Hash32(reader.fixed("certificate_hash", HASH_BYTES)),
        votes_hash=Hash32(reader.fixed("votes_hash", HASH_BYTES)),
        evidence_hash=Hash32(reader.fixed("evidence_hash", HASH_BYTES)),
        payload_hash=Hash32(reader.fixed("payload_hash", HASH_BYTES)),
    )
    return SignedHeader(header, BlsSignature(reader.fixed("signature", BLS_SIGNATURE_BYTES)))


def _fields(header: Header) -> list[rlp.RlpItem]:
    return [
        integer_to_bytes(header.slot),
        header.parent_root,
        header.proposer,
        header.vrf_proof,
        header.certificate_hash,
        header.votes_hash,
        header.evidence_hash,
        header.payload_hash,
    ]
