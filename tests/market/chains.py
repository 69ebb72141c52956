"""Two chains to send to: one in memory that fails as told, and a real engine that makes a block per call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from noria._core import Transaction, decode_transaction
from noria.market.access import (
    CallReverted,
    ChainAccessError,
    EventLog,
    Head,
    MinerContact,
    TransactionRefused,
    TransactionResult,
)
from noria.primitives.hashes import keccak256
from noria.primitives.types import Address, Hash32, Wei
from tests.contracts.chain import revert_reason
from tests.contracts.market import Market, event_log

CHAIN_ID = 77


class NodeAway(ChainAccessError):
    """The node does not answer."""


@dataclass
class FakeChain:
    """Blocks of transactions without state but nonces and money; what fails is told from outside.

    A block has every waiting transaction that pays the base fee.
    """

    base_fee: int = 1_000
    present_tip: int = 10
    gas_needed: int = 50_000
    down: bool = False
    refuses: str = ""
    """Why calls revert when they are estimated."""
    reverts: str = ""
    """Why they do in blocks."""
    money: bool = True
    blocks: list[list[Transaction]] = field(default_factory=list)
    branch: int = 0
    waiting: dict[tuple[bytes, int], Transaction] = field(default_factory=dict)
    sent: list[Transaction] = field(default_factory=list)
    lying_nonces: list[int] = field(default_factory=list)
    """Answers to the next questions for a nonce."""
    loses_answer: bool = False
    """The next transaction is taken into a block, and whoever sent it hears nothing."""
    watched: int = -1
    """After which block somebody has waited for the next."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    chain_id = CHAIN_ID
    genesis_root = Hash32(bytes(32))

    # ------------------------------------------------------------ what a test does

    async def mine(self, blocks: int = 1) -> None:
        """Make blocks."""
        async with self.changed:
            for _ in range(blocks):
                taken = [tx for tx in self._in_order() if tx.max_fee_per_gas >= self.base_fee]
                self.blocks.append(taken)
                for tx in taken:
                    del self.waiting[tx.sender, tx.nonce]
            self.changed.notify_all()

    async def reorganise(self, blocks: int) -> None:
        """Replace the last blocks by as many empty ones; their transactions are gone."""
        async with self.changed:
            self.branch += 1
            for number in range(len(self.blocks) - blocks, len(self.blocks)):
                self.blocks[number] = []
            self.changed.notify_all()

    async def until_sent(self, number: int) -> None:
        """Wait until so many transactions have come, counting those that came again."""
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: len(self.sent) >= number)

    async def until_watched(self) -> None:
        """Wait until whoever sends has seen the head and done what follows from it."""
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: self.watched == len(self.blocks))

    def _in_order(self) -> list[Transaction]:
        found: list[Transaction] = []
        nonces: dict[bytes, int] = {}
        for (sender, nonce), tx in sorted(self.waiting.items()):
            if nonce == nonces.setdefault(sender, self._mined(sender)):
                nonces[sender] += 1
                found.append(tx)
        return found

    def _mined(self, sender: bytes) -> int:
        return sum(tx.sender == sender for block in self.blocks for tx in block)

    def _up(self) -> None:
        if self.down:
            raise NodeAway("connection refused")

    # ------------------------------------------------------------ ChainAccess

    async def head(self) -> Head:
        self._up()
        number = len(self.blocks)
        return Head(
            number, keccak256(bytes([self.branch]) + number.to_bytes(8, "big")), number, self.base_fee
        )

    async def wait_head(self, after: int, timeout_seconds: float) -> Head:
        self._up()
        try:
            async with asyncio.timeout(timeout_seconds), self.changed:
                self.watched = after
                self.changed.notify_all()
                await self.changed.wait_for(lambda: self.down or len(self.blocks) > after)
        except TimeoutError:
            pass
        return await self.head()

    async def finalised_number(self) -> int:
        return 0

    async def call(self, to: Address, data: bytes, *, sender: Address | None = None, value: int = 0) -> bytes:
        self._up()
        if self.reverts:
            raise CallReverted(self.reverts)
        return b""

    async def estimate_gas(self, sender: Address, to: Address, data: bytes, value: int) -> int:
        self._up()
        if self.refuses:
            raise CallReverted(self.refuses)
        return self.gas_needed

    async def send(self, raw: bytes) -> Hash32:
        self._up()
        if not self.money:
            raise TransactionRefused("insufficient funds")
        tx = decode_transaction(raw)
        if tx.nonce < self._mined(tx.sender):
            raise TransactionRefused("nonce too low")
        known = self.waiting.get((tx.sender, tx.nonce))
        if known is not None and known.hash == tx.hash:
            return Hash32(tx.hash)
        if known is not None:
            for new, old in (
                (tx.max_fee_per_gas, known.max_fee_per_gas),
                (tx.max_priority_fee_per_gas, known.max_priority_fee_per_gas),
            ):
                if new * 100 < old * 110:
                    raise TransactionRefused("replacement transaction underpriced")
        async with self.changed:
            self.waiting[tx.sender, tx.nonce] = tx
            self.sent.append(tx)
            self.changed.notify_all()
        if self.loses_answer:
            self.loses_answer = False
            await self.mine()
            raise NodeAway("the connection was lost")
        return Hash32(tx.hash)

    async def result(self, transaction: Hash32) -> TransactionResult | None:
        self._up()
        for number, block in enumerate(self.blocks, 1):
            for tx in block:
                if tx.hash == transaction:
                    return TransactionResult(
                        transaction,
                        number,
                        Hash32(keccak256(bytes([self.branch]) + number.to_bytes(8, "big"))),
                        not self.reverts,
                        self.gas_needed,
                        Wei(self.gas_needed * self.base_fee),
                        (),
                    )
        return None

    async def logs(
        self, addresses: Sequence[Address], topics: Sequence[Sequence[Hash32] | None], first: int, last: int
    ) -> list[EventLog]:
        self._up()
        return []

    async def nonce(self, account: Address) -> int:
        self._up()
        if self.lying_nonces:
            return self.lying_nonces.pop(0)
        nonce = self._mined(account)
        while (account, nonce) in self.waiting:
            nonce += 1
        return nonce

    async def balance(self, account: Address) -> Wei:
        self._up()
        return Wei(10**24)

    async def tip(self) -> int:
        self._up()
        return self.present_tip

    async def contact(self, miner: Address) -> MinerContact | None:
        self._up()
        return None


@dataclass
class EngineAccess:
    """A test market as its users see it; a transaction that is sent is in the next block at once."""

    market: Market
    results: dict[Hash32, TransactionResult] = field(default_factory=dict)

    @property
    def chain_id(self) -> int:
        return self.market.network.spec.chain_id

    @property
    def genesis_root(self) -> Hash32:
        return Hash32(self.market.network.genesis_root())

    async def head(self) -> Head:
        found = self.market.network.engine.head
        return Head(found.number, Hash32(found.hash), found.timestamp, found.base_fee_per_gas)

    async def wait_head(self, after: int, timeout_seconds: float) -> Head:
        if self.market.block <= after:
            self.market.network.extend()
        return await self.head()

    async def finalised_number(self) -> int:
        return 0

    async def call(self, to: Address, data: bytes, *, sender: Address | None = None, value: int = 0) -> bytes:
        engine = self.market.network.engine
        result = engine.call(engine.head.hash, _request(to, data, sender, value), gas_cap=10**8)
        if result.status != "success":
            raise CallReverted(revert_reason(result) if result.output else result.error)
        return result.output

    async def estimate_gas(self, sender: Address, to: Address, data: bytes, value: int) -> int:
        engine = self.market.network.engine
        gas, result = engine.estimate_gas(engine.head.hash, _request(to, data, sender, value), gas_cap=10**7)
        if result.status != "success":
            raise CallReverted(revert_reason(result) if result.output else result.error)
        return gas

    async def send(self, raw: bytes) -> Hash32:
        tx = decode_transaction(raw)
        header = self.market.network.extend([tx])
        receipt: dict[str, Any] = json.loads(self.market.network.engine.receipt_json(header.hash, 0) or b"{}")
        gas, price = int(receipt["gasUsed"], 16), int(receipt["effectiveGasPrice"], 16)
        self.results[Hash32(tx.hash)] = TransactionResult(
            Hash32(tx.hash),
            header.number,
            Hash32(header.hash),
            receipt["status"] == "0x1",
            gas,
            Wei(gas * price),
            tuple(event_log(log) for log in receipt["logs"]),
        )
        return Hash32(tx.hash)

    async def result(self, transaction: Hash32) -> TransactionResult | None:
        return self.results.get(transaction)

    async def logs(
        self, addresses: Sequence[Address], topics: Sequence[Sequence[Hash32] | None], first: int, last: int
    ) -> list[EventLog]:
        found = self.market.network.engine.logs_range_json(first, last, addresses, topics, 10_000)
        return [event_log(log) for log in json.loads(found)]

    async def nonce(self, account: Address) -> int:
        engine = self.market.network.engine
        return engine.account(engine.head.hash, account).nonce

    async def balance(self, account: Address) -> Wei:
        return Wei(self.market.network.balance(account))

    async def tip(self) -> int:
        return 0

    async def contact(self, miner: Address) -> MinerContact | None:
        return None


def _request(to: bytes, data: bytes, sender: bytes | None, value: int) -> bytes:
    request = {"to": "0x" + to.hex(), "data": "0x" + data.hex(), "value": hex(value)}
    if sender is not None:
        request["from"] = "0x" + sender.hex()
    return json.dumps(request).encode()
