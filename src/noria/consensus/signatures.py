"""The seam for signatures of miners: BLS everywhere, except where a simulation needs thousands per second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from noria.primitives.keys import bls_aggregate, bls_verify, bls_verify_aggregate, bls_verify_many
from noria.primitives.types import BlsPublicKey, BlsSignature

Signed = tuple[BlsPublicKey, bytes, BlsSignature]
"""A public key, a message, and what should be the key's signature of it."""


class SignatureScheme(Protocol):
    """Signatures that are unique per key and message and can be added up (protocol 4.4, 4.7)."""

    def verify(self, public_key: BlsPublicKey, message: bytes, signature: BlsSignature) -> bool:
        """Tell whether a key's owner signed a message."""
        ...

    def verify_many(self, signed: Sequence[Signed]) -> bool:
        """Tell whether all of at least one signature are right, in less time than one after the other."""
        ...

    def aggregate(self, signatures: Sequence[BlsSignature]) -> BlsSignature:
        """Add signatures up; raise where there are none or one is no signature."""
        ...

    def verify_aggregate(
        self, public_keys: Sequence[BlsPublicKey], message: bytes, signature: BlsSignature
    ) -> bool:
        """Tell whether the owners of all keys signed one message; never of no keys.

        Sound only for keys whose owners have proven possession, as registration demands.
        """
        ...


@dataclass(frozen=True, slots=True)
class Bls:
    """The signatures of the protocol: BLS12-381, public keys in G1, proof-of-possession ciphersuite."""

    def verify(self, public_key: BlsPublicKey, message: bytes, signature: BlsSignature) -> bool:
        """Tell whether a key's owner signed a message."""
        return bls_verify(public_key, message, signature)

    def verify_many(self, signed: Sequence[Signed]) -> bool:
        """Tell whether all of at least one signature are right, in less time than one after the other."""
        return bls_verify_many(signed)

    def aggregate(self, signatures: Sequence[BlsSignature]) -> BlsSignature:
        """Add signatures up; `InvalidKey` where there are none or one is no signature."""
        return bls_aggregate(signatures)

    def verify_aggregate(
        self, public_keys: Sequence[BlsPublicKey], message: bytes, signature: BlsSignature
    ) -> bool:
        """Tell whether the owners of all keys signed one message; never of no keys."""
        return bls_verify_aggregate(public_keys, message, signature)


BLS: Final[SignatureScheme] = Bls()
"""What every network uses."""
