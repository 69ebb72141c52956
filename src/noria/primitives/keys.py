"""Keys and signatures: secp256k1 for accounts, BLS12-381 for the consensus.

A key's `repr` never shows the secret. Whoever writes `secret` anywhere takes over the duty to protect it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from noria import _core
from noria._core import InvalidKey
from noria.primitives.types import HASH_BYTES, Address, BlsPublicKey, BlsSignature, Hash32, Signature

__all__ = [
    "BlsSecretKey",
    "InvalidKey",
    "PrivateKey",
    "bls_aggregate",
    "bls_verify",
    "bls_verify_aggregate",
    "bls_verify_many",
    "recover_address",
]


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A secp256k1 private key: what controls an account.

    Parameters
    ----------
    secret
        32 bytes of a number from 1 to the group's order minus 1.

    Attributes
    ----------
    address
        The account that the key controls.

    Raises
    ------
    InvalidKey
        Where `secret` is no such number.

    Examples
    --------
    >>> key = PrivateKey((1).to_bytes(32, "big"))
    >>> key.address.hex()
    '7e5f4552091a69125d5dfcb7b8c2659029395bdf'
    >>> digest = Hash32(bytes(32))
    >>> recover_address(digest, key.sign(digest)) == key.address
    True
    """

    secret: bytes = field(repr=False)
    address: Address = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", Address(_core.private_key_address(self.secret)))

    @classmethod
    def generate(cls) -> PrivateKey:
        """Make a new key from the operating system's randomness.

        Returns
        -------
        PrivateKey
        """
        while True:
            try:
                return cls(secrets.token_bytes(32))
            except InvalidKey:  # Zero or above the group's order: one draw in 2^127.
                continue

    def sign(self, digest: Hash32) -> Signature:
        """Sign a digest deterministically (RFC 6979, low ``s``).

        Parameters
        ----------
        digest
            32 bytes, a hash of what is signed.

        Returns
        -------
        Signature
            65 bytes ``r ‖ s ‖ y_parity``.

        Raises
        ------
        ValueError
            Where `digest` is not 32 bytes.
        """
        return Signature(_core.sign_digest(self.secret, _digest(digest)))


def recover_address(digest: Hash32, signature: bytes) -> Address:
    """Find the account whose key signed a digest.

    Parameters
    ----------
    digest
        32 bytes that were signed.
    signature
        65 bytes ``r ‖ s ‖ y_parity`` from anywhere.

    Returns
    -------
    Address

    Raises
    ------
    InvalidKey
        Where the signature is malformed, has a high ``s`` or belongs to no key.
    ValueError
        Where `digest` is not 32 bytes.
    """
    return Address(_core.recover_address(_digest(digest), signature))


@dataclass(frozen=True, slots=True)
class BlsSecretKey:
    """A BLS12-381 secret key with its public key in G1.

    Parameters
    ----------
    secret
        32 bytes of a number from 1 to the group's order minus 1.

    Attributes
    ----------
    public_key
        48 bytes, compressed.

    Raises
    ------
    InvalidKey
        Where `secret` is no such number.

    Examples
    --------
    >>> key = BlsSecretKey.from_seed(bytes(32))
    >>> bls_verify(key.public_key, b"message", key.sign(b"message"))
    True
    >>> bls_verify(key.public_key, b"another", key.sign(b"message"))
    False
    """

    secret: bytes = field(repr=False)
    public_key: BlsPublicKey = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public_key", BlsPublicKey(_core.bls_public_key(self.secret)))

    @classmethod
    def from_seed(cls, seed: bytes) -> BlsSecretKey:
        """Derive the key of a secret seed (``KeyGen`` of the IETF draft, the master key of EIP-2333).

        Parameters
        ----------
        seed
            At least 32 secret bytes.

        Returns
        -------
        BlsSecretKey

        Raises
        ------
        InvalidKey
            Where the seed is shorter.
        """
        return cls(_core.bls_secret_key(seed))

    @classmethod
    def generate(cls) -> BlsSecretKey:
        """Make a new key from the operating system's randomness.

        Returns
        -------
        BlsSecretKey
        """
        return cls.from_seed(secrets.token_bytes(32))

    def sign(self, message: bytes) -> BlsSignature:
        """Sign a message deterministically (``BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_``).

        Parameters
        ----------
        message
            Any number of bytes.

        Returns
        -------
        BlsSignature
            96 bytes, compressed.
        """
        return BlsSignature(_core.bls_sign(self.secret, message))


def bls_verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Check that the owner of a public key signed a message.

    Parameters
    ----------
    public_key, signature
        48 and 96 bytes from anywhere. Malformed ones, infinity and points outside the subgroups verify
        nothing.
    message
        Any number of bytes.

    Returns
    -------
    bool
    """
    return _core.bls_verify(public_key, message, signature)


def bls_aggregate(signatures: Sequence[bytes]) -> BlsSignature:
    """Add signatures up: of one message by several keys, what `bls_verify_aggregate` checks.

    Parameters
    ----------
    signatures
        At least one, 96 bytes each, from anywhere.

    Returns
    -------
    BlsSignature

    Raises
    ------
    InvalidKey
        Where there are none, or one is malformed, infinity or outside the subgroup.
    """
    return BlsSignature(_core.bls_aggregate(signatures))


def bls_verify_aggregate(public_keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
    """Check that the owners of all keys signed one message, from the sum of their signatures.

    Sound only for keys whose owners have proven possession: otherwise a key can be made that cancels others.

    Parameters
    ----------
    public_keys, signature
        48 bytes each and 96, from anywhere. None at all, malformed ones, infinity and points outside the
        subgroups verify nothing. A key that stands twice has signed twice.
    message
        Any number of bytes.

    Returns
    -------
    bool
    """
    return _core.bls_verify_aggregate(public_keys, message, signature)


def bls_verify_many(signed: Sequence[tuple[bytes, bytes, bytes]]) -> bool:
    """Check many signatures at once, in about half the time of one after the other.

    Each counts a random number of times in one sum, so that wrong ones make up for each other with a chance
    of 2^-64.

    Parameters
    ----------
    signed
        Public keys, messages and signatures from anywhere, as for `bls_verify`.

    Returns
    -------
    bool
        Whether there is at least one, and each is its key's signature of its message.
    """
    return _core.bls_verify_many(signed, secrets.token_bytes(32))


def _digest(digest: bytes) -> bytes:
    if len(digest) != HASH_BYTES:
        raise ValueError(f"a digest has {HASH_BYTES} bytes, not {len(digest)}")
    return digest
