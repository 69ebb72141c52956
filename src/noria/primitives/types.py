"""Names for the bytes and integers that cross every boundary.

They cost nothing at run time: an `Address` is `bytes`. What comes from outside gets its name from a function
that has checked it, such as `noria.primitives.addresses.parse_address`.
"""

from __future__ import annotations

from typing import Final, NewType

Address = NewType("Address", bytes)
"""20 bytes: the account or contract that a key or a creation gives."""

Hash32 = NewType("Hash32", bytes)
"""32 bytes: a hash, a root or another fixed word."""

Wei = NewType("Wei", int)
"""An amount in the smallest unit, never negative."""

Signature = NewType("Signature", bytes)
"""65 bytes ``r ‖ s ‖ y_parity`` over secp256k1."""

BlsPublicKey = NewType("BlsPublicKey", bytes)
"""48 bytes: a compressed point of G1 on BLS12-381."""

BlsSignature = NewType("BlsSignature", bytes)
"""96 bytes: a compressed point of G2 on BLS12-381."""

ADDRESS_BYTES: Final = 20
HASH_BYTES: Final = 32
SIGNATURE_BYTES: Final = 65
BLS_PUBLIC_KEY_BYTES: Final = 48
BLS_SIGNATURE_BYTES: Final = 96

ZERO_ADDRESS: Final = Address(bytes(ADDRESS_BYTES))
ZERO_HASH: Final = Hash32(bytes(HASH_BYTES))

UINT64_MAX: Final = 2**64 - 1
UINT256_MAX: Final = 2**256 - 1
FUEL_MAX: Final = 2**45
"""Fuel that a unit can use at most, whatever its limit."""

GWEI: Final = Wei(10**9)
"""Wei in one gwei, the usual unit of gas prices."""
NOR: Final = Wei(10**18)
"""Wei in one NOR, the unit of money."""
