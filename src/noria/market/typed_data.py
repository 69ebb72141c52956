"""What requesters and miners sign and hash about a job, so that contract, miner and requester mean the same.

Signatures that a contract may see are EIP-712 (``docs/market.md``); the domain's salt is the genesis root, so
that nothing signed for one chain is good on another, even under the same chain id.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from noria.execution.system_contracts import SETTLEMENT
from noria.primitives.hashes import blake3, keccak256
from noria.primitives.keys import InvalidKey, PrivateKey, recover_address
from noria.primitives.types import (
    ADDRESS_BYTES,
    HASH_BYTES,
    UINT64_MAX,
    UINT256_MAX,
    Address,
    Hash32,
    Signature,
)

TERMS_TAG: Final = b"noria/terms/1"
DETAILS_TAG: Final = b"noria/details/1"
SEAL_TAG: Final = b"noria/seal/1"

_WORD: Final = 32
_UINT16_MAX: Final = 2**16 - 1
_UINT32_MAX: Final = 2**32 - 1
_SEAL: Final = struct.Struct(">12s32s32s32s32sB32sQ20s")

_DOMAIN_TYPE: Final = keccak256(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
)
_NAME: Final = keccak256(b"Noria")
_VERSION: Final = keccak256(b"1")
_ALLOW_TYPE: Final = keccak256(b"Allow(uint256 job,uint32 k,uint256 total)")
_APPROVAL_TYPE: Final = keccak256(
    b"Approval(uint256 job,uint32 k,bytes32 root,uint64 first_index,uint16 count,uint64 fuel,uint64 weight)"
)
_SESSION_TYPE: Final = keccak256(b"Session(uint256 job,uint32 k,string peer)")


@dataclass(frozen=True, slots=True)
class Domain:
    """The chain for which something is signed.

    Raises
    ------
    ValueError
        Where the root is not 32 bytes or the id does not fit 256 bits.
    """

    chain_id: int
    genesis_root: Hash32

    def __post_init__(self) -> None:
        if len(self.genesis_root) != HASH_BYTES:
            raise ValueError(f"a genesis root has {HASH_BYTES} bytes, not {len(self.genesis_root)}")
        _integer("chain_id", self.chain_id, UINT256_MAX)

    @property
    def separator(self) -> Hash32:
        """EIP-712's domain separator."""
        return _separator(self.chain_id, self.genesis_root)


class BatchFields(Protocol):
    """What an approval says about a batch: of a `BatchCommitment`, a `BatchOffer` or a `SettledBatch`."""

    @property
    def root(self) -> bytes:
        """Of its sum tree."""
        ...

    @property
    def first_index(self) -> int:
        """Of its first receipt."""
        ...

    @property
    def count(self) -> int:
        """Of its receipts."""
        ...

    @property
    def fuel(self) -> int:
        """Their sum."""
        ...

    @property
    def weight(self) -> int:
        """Their sum."""
        ...


# ---------------------------------------------------------------- digests


def allow_digest(domain: Domain, job: int, k: int, total: int) -> Hash32:
    """Return what an allow signs: the place may charge up to `total` wei, everything before included.

    Raises
    ------
    ValueError
        As from all functions here, where a field does not fit.
    """
    return _digest(
        domain,
        _ALLOW_TYPE
        + _integer("job", job, UINT256_MAX)
        + _integer("k", k, _UINT32_MAX)
        + _integer("total", total, UINT256_MAX),
    )


def approval_digest(domain: Domain, job: int, k: int, batch: BatchFields) -> Hash32:
    """Return what an approval signs: this batch of the place is right and may be paid at once."""
    return _digest(
        domain,
        _APPROVAL_TYPE
        + _integer("job", job, UINT256_MAX)
        + _integer("k", k, _UINT32_MAX)
        + _bytes("root", batch.root, HASH_BYTES)
        + _integer("first_index", batch.first_index, UINT64_MAX)
        + _integer("count", batch.count, _UINT16_MAX)
        + _integer("fuel", batch.fuel, UINT64_MAX)
        + _integer("weight", batch.weight, UINT64_MAX),
    )


def session_digest(domain: Domain, job: int, k: int, peer: str) -> Hash32:
    """Return what a session signs: this peer speaks for the job with the miner of place k.

    Parameters
    ----------
    peer
        The requester's peer id on the network, as text.
    """
    return _digest(
        domain,
        _SESSION_TYPE
        + _integer("job", job, UINT256_MAX)
        + _integer("k", k, _UINT32_MAX)
        + keccak256(peer.encode()),
    )


# ---------------------------------------------------------------- signatures


def sign_allow(key: PrivateKey, domain: Domain, job: int, k: int, total: int) -> Signature:
    """Sign `allow_digest`."""
    return key.sign(allow_digest(domain, job, k, total))


def sign_approval(key: PrivateKey, domain: Domain, job: int, k: int, batch: BatchFields) -> Signature:
    """Sign `approval_digest`."""
    return key.sign(approval_digest(domain, job, k, batch))


def sign_session(key: PrivateKey, domain: Domain, job: int, k: int, peer: str) -> Signature:
    """Sign `session_digest`."""
    return key.sign(session_digest(domain, job, k, peer))


def signer_of(digest: Hash32, signature: bytes) -> Address | None:
    """Return whose signature this is; None where it is nobody's: malformed, high ``s``, wrong length."""
    try:
        return recover_address(digest, signature)
    except InvalidKey:
        return None


# ---------------------------------------------------------------- hashes


def details_hash(details: bytes) -> Hash32:
    """Return ``K("noria/details/1" ‖ details)``, which stands for a job's details in its terms."""
    return keccak256(DETAILS_TAG + details)


def terms_hash(program_id: bytes, details: Hash32) -> Hash32:
    """Return a job's terms: ``K("noria/terms/1" ‖ program_id ‖ details_hash)``.

    Parameters
    ----------
    program_id
        Of the job's program.
    details
        `details_hash` of whatever else is agreed.
    """
    return keccak256(
        TERMS_TAG + _bytes("program_id", program_id, HASH_BYTES) + _bytes("details_hash", details, HASH_BYTES)
    )


def seal(
    genesis_root: bytes,
    job: int,
    unit_id: bytes,
    nonce: bytes,
    status: int,
    output_id: bytes,
    fuel: int,
    miner: bytes,
) -> Hash32:
    """Return the seal of a result (protocol 5.3), which a miner tells before the result.

    ``H("noria/seal/1" ‖ genesis_root ‖ job ‖ unit_id ‖ nonce ‖ status ‖ output_id ‖ fuel ‖ miner)``; job in
    256 bits, status in 8, fuel in 64.

    Parameters
    ----------
    nonce
        32 random bytes, so that nobody finds the result by trying.
    """
    return blake3(
        _SEAL.pack(
            SEAL_TAG,
            _bytes("genesis_root", genesis_root, HASH_BYTES),
            _integer("job", job, UINT256_MAX),
            _bytes("unit_id", unit_id, HASH_BYTES),
            _bytes("nonce", nonce, HASH_BYTES),
            _integer("status", status, 255)[-1],
            _bytes("output_id", output_id, HASH_BYTES),
            int.from_bytes(_integer("fuel", fuel, UINT64_MAX), "big"),
            _bytes("miner", miner, ADDRESS_BYTES),
        )
    )


# ---------------------------------------------------------------- inside


@lru_cache(maxsize=64)
def _separator(chain_id: int, genesis_root: Hash32) -> Hash32:
    return keccak256(
        _DOMAIN_TYPE
        + _NAME
        + _VERSION
        + chain_id.to_bytes(_WORD, "big")
        + SETTLEMENT.rjust(_WORD, b"\0")
        + genesis_root
    )


def _digest(domain: Domain, struct_bytes: bytes) -> Hash32:
    return keccak256(b"\x19\x01" + domain.separator + keccak256(struct_bytes))


def _integer(name: str, value: int, most: int) -> bytes:
    if not 0 <= value <= most:
        raise ValueError(f"{name} is 0 to {most}, not {value}")
    return value.to_bytes(_WORD, "big")


def _bytes(name: str, value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise ValueError(f"{name} has {length} bytes, not {len(value)}")
    return value
