"""What runs in the one thread that writes: engine calls, and what the mempool must know afterwards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from noria._core import BlockAttributes, Engine, ExecutedBlock, Header, Transaction, UnknownBlock

BUILD_SECONDS_MAX: Final = 10.0
"""Execution of one block's candidates stops after this time; the rest waits for the next block."""
REINSTATED_MAX: Final = 32_768
"""Transactions of removed blocks that come back to the mempool; those of the newest blocks first."""


class Extend(Enum):
    """Say that a block becomes the head if it extends the present one, however long other branches are."""

    EXTEND = "extend"


EXTEND: Final = Extend.EXTEND


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadChange:
    """A change of the head that is stored.

    Attributes
    ----------
    head
        The new head.
    removed
        Hashes of the blocks that are no longer canonical, newest first.
    added
        The blocks that became canonical, oldest first, each with the hashes of its transactions.
    reinstated
        Transactions of the removed blocks, oldest first.
    accounts
        Nonce and balance (wei) at the new head of the senders that the change concerns.
    """

    head: Header
    removed: list[bytes] = field(default_factory=list)
    added: list[tuple[Header, list[bytes]]] = field(default_factory=list)
    reinstated: list[Transaction] = field(default_factory=list)
    accounts: dict[bytes, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Built:
    """The outcome of making a block.

    Attributes
    ----------
    change
        ``None`` if no block was stored, because it would have been empty.
    accounts
        Nonce and balance (wei) of the senders of refused transactions, where no block was stored.
    rejected
        (hash, kind, message) of the candidates that were refused.
    """

    change: HeadChange | None
    accounts: dict[bytes, tuple[int, int]]
    rejected: list[tuple[bytes, str, str]]


class ChainWriter:
    """Changes to the stored chain, one call each. Not for several threads at once.

    A failed call leaves the chain as it was.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def build(
        self,
        parent: Header,
        attributes: BlockAttributes,
        candidates: Sequence[Transaction],
        others: Collection[bytes],
        empty: bool,
    ) -> Built:
        """Make a child of the head from these candidates, store it and make it the head.

        Parameters
        ----------
        others
            Senders whose accounts are to be reported beside those of the transactions concerned.
        empty
            Whether a block without transactions is stored too.
        """
        block = self._engine.build(parent.hash, attributes, candidates, deadline_seconds=BUILD_SECONDS_MAX)
        hashes = block.transaction_hashes
        rejected = block.rejected
        concerned = {*hashes, *(tx_hash for tx_hash, _, _ in rejected)}
        senders = {transaction.sender for transaction in candidates if transaction.hash in concerned}
        senders.update(others)
        if not hashes and not empty:
            return Built(None, self._accounts(parent.hash, senders), rejected)
        self._engine.commit(block, make_head=True)
        header = block.header
        change = HeadChange(
            head=header, added=[(header, hashes)], accounts=self._accounts(header.hash, senders)
        )
        return Built(change, {}, rejected)

    def execute(
        self,
        rlp: bytes,
        system_calls: Sequence[tuple[bytes, bytes]],
        make_head: bool | Extend | None,
        senders: Collection[bytes],
    ) -> tuple[Header, HeadChange | None]:
        """Check and store a block; by default a longer chain becomes canonical.

        Parameters
        ----------
        senders
            Senders whose accounts are to be reported beside those of the transactions concerned.
        """
        head = self._engine.head
        block = self._engine.execute(rlp, system_calls)
        header = block.header
        if isinstance(make_head, Extend):
            make_head = header.parent_hash == head.hash
        elif make_head is None:
            make_head = header.number > head.number
        if self._engine.header(header.hash) is None:
            extends = make_head and header.parent_hash == head.hash
            self._engine.commit(block, make_head=extends)
            if extends:
                return header, self._change(header, [], [header.hash], senders)
        if not make_head or header.hash == head.hash:
            return header, None
        return header, self._set_head(header.hash, senders, reinstate=True)

    def draft(
        self,
        parent: Header,
        attributes: BlockAttributes,
        candidates: Sequence[Transaction],
        deadline_seconds: float,
    ) -> tuple[ExecutedBlock, dict[bytes, tuple[int, int]]]:
        """Make a child of a block without storing it.

        Returns
        -------
        (block, accounts)
            And the accounts, after the parent, of those who sent what was refused.
        """
        block = self._engine.build(
            parent.hash, attributes, candidates, deadline_seconds=min(deadline_seconds, BUILD_SECONDS_MAX)
        )
        refused = {tx_hash for tx_hash, _, _ in block.rejected}
        senders = {transaction.sender for transaction in candidates if transaction.hash in refused}
        return block, self._accounts(parent.hash, senders)

    def store(self, block: ExecutedBlock, senders: Collection[bytes]) -> HeadChange | None:
        """Store a block that was made here; if it extends the head, it becomes the head."""
        header = block.header
        extends = header.parent_hash == self._engine.head.hash
        if self._engine.header(header.hash) is None:
            self._engine.commit(block, make_head=extends)
        return self._change(header, [], [header.hash], senders) if extends else None

    def switch_to(self, block_hash: bytes, senders: Collection[bytes]) -> HeadChange:
        """Make a stored block the head; the transactions of removed blocks come back."""
        return self._set_head(block_hash, senders, reinstate=True)

    def set_head(self, block_hash: bytes, senders: Collection[bytes]) -> HeadChange:
        """Make a stored block the head; the transactions of removed blocks do not come back."""
        return self._set_head(block_hash, senders, reinstate=False)

    def _set_head(self, block_hash: bytes, senders: Collection[bytes], *, reinstate: bool) -> HeadChange:
        head = self._engine.header(block_hash)
        if head is None:
            raise UnknownBlock(f"block 0x{block_hash.hex()} is not stored here")
        removed, added = self._engine.set_head(block_hash)
        return self._change(head, removed, added, senders, self._removed(removed) if reinstate else [])

    def _change(
        self,
        head: Header,
        removed: list[bytes],
        added: Iterable[bytes],
        senders: Collection[bytes],
        reinstated: list[Transaction] | None = None,
    ) -> HeadChange:
        concerned = set(senders)
        blocks: list[tuple[Header, list[bytes]]] = []
        for block_hash in added:
            header = self._engine.header(block_hash)
            transactions = self._engine.transactions(block_hash)
            if header is None or transactions is None:
                raise UnknownBlock(f"block 0x{block_hash.hex()} is canonical but not stored")
            blocks.append((header, [transaction.hash for transaction in transactions]))
            concerned.update(transaction.sender for transaction in transactions)
        back = reinstated or []
        concerned.update(transaction.sender for transaction in back)
        return HeadChange(
            head=head,
            removed=removed,
            added=blocks,
            reinstated=back,
            accounts=self._accounts(head.hash, concerned),
        )

    def _removed(self, removed: Iterable[bytes]) -> list[Transaction]:
        blocks: list[list[Transaction]] = []
        count = 0
        for block_hash in removed:
            transactions = self._engine.transactions(block_hash) or []
            count += len(transactions)
            if count > REINSTATED_MAX:
                break
            blocks.append(transactions)
        return [transaction for block in reversed(blocks) for transaction in block]

    def _accounts(self, block_hash: bytes, senders: Collection[bytes]) -> dict[bytes, tuple[int, int]]:
        wanted = list(senders)
        return dict(zip(wanted, self._engine.nonces(block_hash, wanted), strict=True))
