"""Signed transactions and the ERC-20 contract that benchmarks and comparisons send."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from noria._core import keccak256, private_key_address, rlp_encode, sign_digest

DEV_KEY: Final = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
"""Private key of the first account of the public development mnemonic, funded on both nodes."""
GWEI: Final = 10**9
TRANSFER_GAS: Final = 21_000
TOKEN_TRANSFER_GAS: Final = 60_000
TRANSFER_SELECTOR: Final = bytes.fromhex("a9059cbb")
BALANCE_OF_SELECTOR: Final = bytes.fromhex("70a08231")


@dataclass(frozen=True, slots=True)
class Contract:
    """Compiled code of a contract."""

    init_code: bytes
    runtime_code: bytes


@cache
def erc20() -> Contract:
    """The ERC-20 of ``contracts/erc20.vy``, compiled by the pinned Vyper."""
    from vyper import compile_code

    source = Path(__file__).parent / "contracts" / "erc20.vy"
    output = compile_code(source.read_text(), output_formats=["bytecode", "bytecode_runtime"])
    return Contract(*(bytes.fromhex(output[name][2:]) for name in ("bytecode", "bytecode_runtime")))


def word(value: int | bytes) -> bytes:
    """One 32-byte ABI word: an unsigned number or an address."""
    return value.rjust(32, b"\0") if isinstance(value, bytes) else value.to_bytes(32, "big")


def key(label: str, index: int) -> bytes:
    """A private key that is the same in every run; ``label`` separates groups of senders."""
    return keccak256(f"noria benchmark {label} {index}".encode())


def address(private_key: bytes) -> bytes:
    return private_key_address(private_key)


def created_address(sender: bytes, nonce: int) -> bytes:
    """Address of the contract that this sender's transaction creates."""
    return keccak256(rlp_encode([sender, quantity(nonce)]))[12:]


def token_slot(holder: bytes) -> bytes:
    """Storage slot of a holder's balance in the ERC-20 of `erc20`."""
    return keccak256(word(0) + word(holder))


def quantity(value: int) -> bytes:
    """Big-endian without leading zeros, as RLP wants integers."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def sign_fee_market(
    private_key: bytes,
    *,
    chain_id: int,
    nonce: int,
    to: bytes | None,
    gas_limit: int,
    value: int = 0,
    data: bytes = b"",
    max_fee_per_gas: int = 1000 * GWEI,
    max_priority_fee_per_gas: int = GWEI,
) -> bytes:
    """A signed EIP-1559 transaction in network encoding; ``to=None`` creates a contract."""
    amounts = (chain_id, nonce, max_priority_fee_per_gas, max_fee_per_gas, gas_limit)
    fields = [*map(quantity, amounts), to or b"", quantity(value), data, []]
    signature = sign_digest(private_key, keccak256(b"\x02" + rlp_encode(fields)))
    signed = [*fields, quantity(signature[64]), *(signature[i : i + 32].lstrip(b"\0") for i in (0, 32))]
    return b"\x02" + rlp_encode(signed)
