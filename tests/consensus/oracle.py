"""Real BLS for tests: single checks by the extension, sums by an independent library, which is slow."""

from __future__ import annotations

from collections.abc import Sequence

from py_ecc.bls import G2ProofOfPossession

from noria.consensus.signatures import SignatureScheme, Signed
from noria.primitives.keys import bls_verify
from noria.primitives.types import BlsPublicKey, BlsSignature


class OracleScheme:
    """As `noria.consensus.signatures.Bls`."""

    def verify(self, public_key: BlsPublicKey, message: bytes, signature: BlsSignature) -> bool:
        return bls_verify(public_key, message, signature)

    def verify_many(self, signed: Sequence[Signed]) -> bool:
        return bool(signed) and all(bls_verify(*one) for one in signed)

    def aggregate(self, signatures: Sequence[BlsSignature]) -> BlsSignature:
        return BlsSignature(G2ProofOfPossession.Aggregate(signatures))

    def verify_aggregate(
        self, public_keys: Sequence[BlsPublicKey], message: bytes, signature: BlsSignature
    ) -> bool:
        if not public_keys:
            return False
        # One check under the sum of all keys is the definition of FastAggregateVerify.
        return bls_verify(G2ProofOfPossession._AggregatePKs(public_keys), message, signature)


ORACLE: SignatureScheme = OracleScheme()
