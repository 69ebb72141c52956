"""What the RPC needs from a node: the seam towards `noria.chain` and `noria.node`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from noria.chain.service import Chain
    from noria.node.view import NodeView


class FinalityTags(Protocol):
    """Where the ``safe`` and ``finalized`` block tags point."""

    def safe(self) -> bytes:
        """Return the hash of the newest block that is safe from reorganisation under honest majority."""
        ...

    def finalized(self) -> bytes:
        """Return the hash of the newest block that can never be reorganised."""
        ...


@dataclass(frozen=True, slots=True)
class HeadIsFinal:
    """The tags of a chain with one node: nobody else could reorganise it, so the head is final."""

    chain: Chain

    def safe(self) -> bytes:
        """Return the hash of the head."""
        return self.chain.head.hash

    def finalized(self) -> bytes:
        """Return the hash of the head."""
        return self.chain.head.hash


@dataclass(frozen=True, slots=True)
class DevAccounts:
    """Unlocked accounts of a development node. Their keys are public knowledge.

    Attributes
    ----------
    private_keys
        Address to 32-byte private key, in the order in which ``eth_accounts`` lists them.
    """

    private_keys: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backend:
    """One node as the RPC sees it.

    Attributes
    ----------
    chain
        The chain service.
    version
        Answer of ``web3_clientVersion``.
    accounts
        Unlocked accounts; with them the server also has the development methods. ``None`` on any other node.
    finality
        The ``safe`` and ``finalized`` tags; by default the head (`HeadIsFinal`).
    consensus
        What a node of a network tells; with it the server has ``noria_*``, metrics and health.
    """

    chain: Chain
    version: str
    accounts: DevAccounts | None = None
    finality: FinalityTags | None = None
    consensus: NodeView | None = None
