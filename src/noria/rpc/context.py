"""What a method is given beside its arguments."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from noria._core import Engine, Header
from noria.rpc.backend import DevAccounts, FinalityTags, HeadIsFinal
from noria.rpc.errors import RpcError, server_error
from noria.rpc.inline import InlineCalls
from noria.rpc.params import BlockRef

if TYPE_CHECKING:
    from noria.chain.service import Chain
    from noria.node.view import NodeView
    from noria.rpc.backend import Backend
    from noria.rpc.config import RpcConfig
    from noria.rpc.feed import ChainFeed
    from noria.rpc.filters import Filters
    from noria.rpc.registry import Registry
    from noria.rpc.subscriptions import Subscriptions
    from noria.rpc.workers import Workers


@dataclass(slots=True)
class DevState:
    """What the development methods remember.

    Attributes
    ----------
    snapshots
        Number of a snapshot to the head's hash at that time, in the order in which they were taken.
    sending
        Held while ``eth_sendTransaction`` chooses a nonce and submits.
    """

    snapshots: dict[int, bytes] = field(default_factory=dict)
    last_snapshot: int = 0
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class Services:
    """What all methods of one server share."""

    chain: Chain
    engine: Engine
    version: str
    accounts: DevAccounts | None
    finality: FinalityTags
    config: RpcConfig
    workers: Workers
    inline: InlineCalls
    feed: ChainFeed
    filters: Filters
    registry: Registry
    dev: DevState | None = None
    consensus: NodeView | None = None
    tip: tuple[bytes, int] | None = None
    """The last suggested tip and the head that it followed from."""

    @classmethod
    def of(
        cls,
        backend: Backend,
        config: RpcConfig,
        workers: Workers,
        feed: ChainFeed,
        filters: Filters,
        registry: Registry,
    ) -> Services:
        """Join a node with the parts of the server."""
        return cls(
            chain=backend.chain,
            engine=backend.chain.engine,
            version=backend.version,
            accounts=backend.accounts,
            finality=backend.finality or backend.consensus or HeadIsFinal(backend.chain),
            config=config,
            workers=workers,
            inline=InlineCalls(workers),
            feed=feed,
            filters=filters,
            registry=registry,
            dev=None if backend.accounts is None else DevState(),
            consensus=backend.consensus,
        )

    def block_hash(self, ref: BlockRef) -> bytes | None:
        """Return the hash of the block that is meant, ``None`` where there is none.

        Raises
        ------
        RpcError
            -32000 if the reference requires a canonical block and the block is not.
        """
        tag = ref.tag
        if tag is not None:
            # There is no pending block: transactions enter a block and are executed in one step.
            if tag in ("latest", "pending"):
                return self.chain.head.hash
            if tag == "earliest":
                return self.engine.genesis_hash
            return self.finality.safe() if tag == "safe" else self.finality.finalized()
        if ref.number is not None:
            return self.engine.canonical_hash(ref.number)
        assert ref.hash is not None
        if self.engine.header(ref.hash) is None:
            return None
        if ref.require_canonical and not self.engine.is_canonical(ref.hash):
            raise server_error("hash is not currently canonical")
        return ref.hash

    def state_hash(self, ref: BlockRef) -> bytes:
        """Return the hash of the block whose state is meant.

        Raises
        ------
        RpcError
            -32000 if there is no such block.
        """
        found = self.block_hash(ref)
        if found is None:
            raise unknown_block(ref)
        return found

    def number_of(self, ref: BlockRef) -> int:
        """Return the number of the block that a tag or number means; a number is not looked up."""
        if ref.number is not None:
            return ref.number
        return self.header(self.state_hash(ref)).number

    def header(self, block_hash: bytes) -> Header:
        """Return a header that must exist.

        Raises
        ------
        RpcError
            -32000 if it does not.
        """
        head = self.chain.head
        if block_hash == head.hash:
            return head
        found = self.engine.header(block_hash)
        if found is None:
            raise server_error("header not found")
        return found


def unknown_block(ref: BlockRef) -> RpcError:
    """Return geth's error for a block that is not there."""
    return server_error("header for hash not found" if ref.hash is not None else "header not found")


@dataclass(frozen=True, slots=True)
class Context:
    """One caller.

    Attributes
    ----------
    node
        The node and the shared parts of the server.
    owner
        Whose filters these are: a WebSocket connection or an address that calls over HTTP.
    subscriptions
        The subscriptions of a WebSocket connection, ``None`` over HTTP.
    """

    node: Services
    owner: str
    subscriptions: Subscriptions | None = None
