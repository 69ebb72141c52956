"""What both sides of the market need of a chain: read contracts, send transactions, follow the head.

A miner's node answers from its own state (`noria.node.market_access`), a requester's client asks a node over
JSON-RPC (`noria.client.rpc_access`). Both are this one seam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from noria.primitives.types import Address, Hash32, Wei


class ChainAccessError(Exception):
    """The chain could not be asked; the message says why and what to do."""


class CallReverted(ChainAccessError):
    """A contract refused a call; the message is the contract's own reason."""


class TransactionRefused(ChainAccessError):
    """A transaction was not taken into the mempool: no money, wrong nonce, fee too low."""


@dataclass(frozen=True, slots=True)
class Head:
    """A block that is the chain's head.

    Attributes
    ----------
    number, hash
        Of its payload.
    timestamp
        Start of its slot, Unix seconds.
    base_fee
        Wei per gas.
    """

    number: int
    hash: Hash32
    timestamp: int
    base_fee: int


@dataclass(frozen=True, slots=True)
class EventLog:
    """What a contract logged."""

    address: Address
    topics: tuple[Hash32, ...]
    data: bytes
    block_number: int
    transaction: Hash32


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """A transaction in a block of the present chain.

    Attributes
    ----------
    ok
        Whether it took effect.
    fee
        Gas used times price.
    """

    transaction: Hash32
    block_number: int
    block_hash: Hash32
    ok: bool
    gas_used: int
    fee: Wei
    logs: tuple[EventLog, ...]


@dataclass(frozen=True, slots=True)
class MinerContact:
    """Where a miner's node can be reached.

    Attributes
    ----------
    peer
        Its name, as registered.
    addresses
        Multiaddresses that the asked node knows; may be empty.
    """

    peer: str
    addresses: tuple[str, ...]


class ChainAccess(Protocol):
    """A chain as its users see it. All methods raise `ChainAccessError` where it cannot be asked."""

    @property
    def chain_id(self) -> int:
        """Of the chain."""
        ...

    @property
    def genesis_root(self) -> Hash32:
        """Of the chain."""
        ...

    async def head(self) -> Head:
        """Return the head."""
        ...

    async def wait_head(self, after: int, timeout_seconds: float) -> Head:
        """Return the head as soon as its number is above ``after``, or what it is when the time is up."""
        ...

    async def finalised_number(self) -> int:
        """Return the number of the last final block."""
        ...

    async def call(self, to: Address, data: bytes, *, sender: Address | None = None, value: int = 0) -> bytes:
        """Call a contract in the head's state; raise `CallReverted` if it refuses."""
        ...

    async def estimate_gas(self, sender: Address, to: Address, data: bytes, value: int) -> int:
        """Return the gas that a transaction would need; raise `CallReverted` if it would fail."""
        ...

    async def send(self, raw: bytes) -> Hash32:
        """Send a signed transaction; raise `TransactionRefused` if it is not taken. Twice is no error."""
        ...

    async def result(self, transaction: Hash32) -> TransactionResult | None:
        """Return what became of a transaction, if a block of the present chain has it."""
        ...

    async def logs(
        self,
        addresses: Sequence[Address],
        topics: Sequence[Sequence[Hash32] | None],
        first: int,
        last: int,
    ) -> list[EventLog]:
        """Return events of blocks ``first`` to ``last``, in order; topics as in ``eth_getLogs``."""
        ...

    async def nonce(self, account: Address) -> int:
        """Return the next nonce, counting what waits in the mempool."""
        ...

    async def balance(self, account: Address) -> Wei:
        """Return an account's balance."""
        ...

    async def tip(self) -> int:
        """Return a sensible priority fee, wei per gas."""
        ...

    async def contact(self, miner: Address) -> MinerContact | None:
        """Return where a registered miner's node is reached; None if it is not registered."""
        ...
