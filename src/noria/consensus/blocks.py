"""Blocks as they are sent and kept: the consensus envelope around an execution payload (protocol 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from noria.consensus.certificate import (
    CERTIFICATE_BYTES_MAX,
    Certificate,
    certificate_hash,
    decode_certificate,
    encode_certificate,
)
from noria.consensus.headers import SIGNED_HEADER_BYTES_MAX, Header, SignedHeader, block_root
from noria.consensus.payloads import PAYLOAD_BYTES_MAX, read_payload_header
from noria.consensus.slashing import (
    EVIDENCE_BYTES_MAX,
    Evidence,
    decode_evidence,
    encode_evidence,
    evidence_hash,
)
from noria.consensus.votes import (
    AGGREGATE_BYTES_MAX,
    AGGREGATES_MAX,
    AggregatedVote,
    decode_votes,
    encode_votes,
    votes_hash,
)
from noria.consensus.wire import InvalidMessage, Reader, integer_to_bytes
from noria.primitives import rlp
from noria.primitives.types import (
    ADDRESS_BYTES,
    BLS_SIGNATURE_BYTES,
    HASH_BYTES,
    Address,
    BlsSignature,
    Hash32,
)

VOTES_BYTES_MAX: Final = AGGREGATES_MAX * AGGREGATE_BYTES_MAX + 9
ENVELOPE_BYTES_MAX: Final = (
    SIGNED_HEADER_BYTES_MAX + CERTIFICATE_BYTES_MAX + VOTES_BYTES_MAX + EVIDENCE_BYTES_MAX + 64
)
"""Longest encoding of everything but the payload."""
BLOCK_BYTES_MAX: Final = ENVELOPE_BYTES_MAX + PAYLOAD_BYTES_MAX
"""Longest encoding of a block."""


class InvalidCertificateForm(InvalidMessage):
    """A certificate whose parts are not even a receipt and a path."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block (protocol 4.1).

    Parameters
    ----------
    header
        What the root covers. `make_block` and `decode_block` compute its hashes from the other fields, so
        that they always belong together.
    certificate
        `None` is the empty one.
    votes, evidence
        What the proposer has included.
    payload
        ``[header, transactions, [], []]`` as Ethereum encodes it.
    signature
        The proposer's, over the block's root.
    """

    header: Header
    certificate: Certificate | None
    votes: tuple[AggregatedVote, ...]
    evidence: tuple[Evidence, ...]
    payload: bytes
    signature: BlsSignature

    @property
    def signed_header(self) -> SignedHeader:
        """The block without its contents."""
        return SignedHeader(self.header, self.signature)

    def root(self, genesis_root: Hash32) -> Hash32:
        """Return the block's root (protocol 4.1)."""
        return block_root(genesis_root, self.header)


def make_block(
    *,
    slot: int,
    parent_root: Hash32,
    proposer: Address,
    vrf_proof: BlsSignature,
    certificate: Certificate | None,
    votes: tuple[AggregatedVote, ...],
    evidence: tuple[Evidence, ...],
    payload: bytes,
    signature: BlsSignature,
) -> Block:
    """Join a block's parts; who proposes signs the root of its header and calls `signed` (protocol 4.1).

    Raises
    ------
    InvalidMessage
        Where the payload is none.
    """
    header = Header(
        slot=slot,
        parent_root=parent_root,
        proposer=proposer,
        vrf_proof=vrf_proof,
        certificate_hash=certificate_hash(certificate),
        votes_hash=votes_hash(votes),
        evidence_hash=evidence_hash(evidence),
        payload_hash=read_payload_header(payload).block_hash,
    )
    return Block(header, certificate, votes, evidence, payload, signature)


def signed(block: Block, signature: BlsSignature) -> Block:
    """Return a block with its proposer's signature (protocol 4.1)."""
    return Block(block.header, block.certificate, block.votes, block.evidence, block.payload, signature)


def encode_block(block: Block) -> bytes:
    """Return a block's RLP (protocol 4.1).

    ``[slot, parent_root, proposer, vrf_proof, certificate, votes, evidence, payload, signature]``, where
    certificate, votes, evidence and payload are byte strings that hold RLP of their own.
    """
    header = block.header
    return rlp.encode(
        [
            integer_to_bytes(header.slot),
            header.parent_root,
            header.proposer,
            header.vrf_proof,
            encode_certificate(block.certificate),
            encode_votes(block.votes),
            encode_evidence(block.evidence),
            block.payload,
            block.signature,
        ]
    )


def decode_block(data: bytes) -> Block:
    """Read a block; its hashes are computed from what it carries.

    Raises
    ------
    InvalidMessage
        Where the bytes are none.
    """
    reader = Reader.open(data, "block", max_bytes=BLOCK_BYTES_MAX)
    slot = reader.integer("slot", 64, least=1)
    parent_root = Hash32(reader.fixed("parent_root", HASH_BYTES))
    proposer = Address(reader.fixed("proposer", ADDRESS_BYTES))
    vrf_proof = BlsSignature(reader.fixed("vrf_proof", BLS_SIGNATURE_BYTES))
    certificate_data = reader.blob("certificate", max_bytes=CERTIFICATE_BYTES_MAX)
    votes_data = reader.blob("votes", max_bytes=VOTES_BYTES_MAX)
    evidence_data = reader.blob("evidence", max_bytes=EVIDENCE_BYTES_MAX)
    payload = reader.blob("payload", max_bytes=PAYLOAD_BYTES_MAX)
    signature = BlsSignature(reader.fixed("signature", BLS_SIGNATURE_BYTES))
    reader.close()
    try:
        certificate = decode_certificate(certificate_data)
    except InvalidMessage:
        raise
    except ValueError as error:
        raise InvalidCertificateForm(f"block: certificate: {error}") from error
    return make_block(
        slot=slot,
        parent_root=parent_root,
        proposer=proposer,
        vrf_proof=vrf_proof,
        certificate=certificate,
        votes=decode_votes(votes_data),
        evidence=decode_evidence(evidence_data),
        payload=payload,
        signature=signature,
    )
