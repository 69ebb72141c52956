"""Calls of the registry of miners, for all commands that make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from noria.market.access import ChainAccess
    from noria.primitives.keys import BlsSecretKey
    from noria.primitives.types import Address, Hash32

CAPACITY_MAX: Final = 2**96 - 1
"""Fuel per epoch: the registry has so many bits for the sum of all miners' capacities."""
_MINER: Final = "(uint256,bytes32,bytes16," + "uint256," * 10 + "bytes)"


@dataclass(frozen=True, slots=True)
class Bond:
    """A registered miner's money.

    Attributes
    ----------
    wei
        What counts.
    unbonding
        Wei that are on their way out.
    free_epoch
        First epoch in which they can be withdrawn; 0 if there are none.
    """

    wei: int
    unbonding: int
    free_epoch: int


async def read_bond(access: ChainAccess, miner: Address) -> Bond | None:
    """Return a miner's bond; None where it is not registered."""
    from eth_abi.abi import decode

    from noria.execution.system_contracts import MINER_REGISTRY

    [fields] = decode([_MINER], await access.call(MINER_REGISTRY, registry_call("miner(address)", miner)))
    return Bond(fields[3], fields[4], fields[5]) if fields[0] else None


def register_call(
    genesis_root: Hash32, account: Address, key: BlsSecretKey, peer: str, capacity: int, ask_price: int
) -> bytes:
    """Register a miner; the transaction's value is its bond.

    Parameters
    ----------
    genesis_root
        Of the chain.
    account
        The miner, who sends the transaction.
    key
        Its BLS key, whose possession is proven.
    peer
        Name of its node among peers.
    capacity
        Fuel per epoch for which it stands ready.
    ask_price
        Wei per fuel, at least.
    """
    from noria.execution.genesis import possession_message

    proof = key.sign(possession_message(genesis_root, account, key.public_key))
    return registry_call(
        "register(bytes,bytes,bytes,uint256,uint256)",
        key.public_key,
        proof,
        peer.encode(),
        capacity,
        ask_price,
    )


def update_call(peer: str, capacity: int, ask_price: int) -> bytes:
    """Change a miner's terms; once an epoch, of which registration is one."""
    return registry_call("update(bytes,uint256,uint256)", peer.encode(), capacity, ask_price)


def unbond_call(wei: int) -> bytes:
    """Begin to take bond out."""
    return registry_call("unbond(uint256)", wei)


def withdraw_call(account: Address) -> bytes:
    """Pay out what has been unbonded for long enough."""
    return registry_call("withdraw(address)", account)


def registry_call(signature: str, *values: object) -> bytes:
    """Return the input of a call of the registry, by a signature such as ``withdraw(address)``."""
    from eth_abi.abi import encode

    from noria.primitives.hashes import keccak256

    inner = signature[signature.index("(") + 1 : -1]
    return keccak256(signature.encode())[:4] + encode(inner.split(",") if inner else [], values)
