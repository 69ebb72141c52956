"""The node's own chain as `noria.market.access.ChainAccess`: its miner asks nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from noria._core import CallResult, InvalidRequest, NoriaError
from noria.chain.chain_service import ChainService
from noria.chain.fees import TIP_BLOCKS, TIP_PERCENTILE, suggested_tip
from noria.execution.rejections import RejectedTransaction
from noria.execution.reverts import revert_reason
from noria.market.access import (
    CallReverted,
    ChainAccessError,
    EventLog,
    Head,
    MinerContact,
    TransactionRefused,
    TransactionResult,
)
from noria.market.contracts import read_miner_terms
from noria.network.peers import PeerInfo
from noria.network.transport import Transport
from noria.primitives.hashes import keccak256
from noria.primitives.hexes import format_data, parse_data
from noria.primitives.subscriptions import SubscriptionClosed
from noria.primitives.types import Address, Hash32, Wei

GAS_CAP: Final = 50_000_000
LOGS_MAX: Final = 10_000
ADDRESSES_MAX: Final = 8
"""Addresses of one miner that are told."""
KNOWN: Final = "already-known"


class _Log(msgspec.Struct):
    address: str
    topics: list[str]
    data: str
    blockNumber: str
    transactionHash: str


class _Receipt(msgspec.Struct):
    transactionHash: str
    blockNumber: str
    blockHash: str
    status: str
    gasUsed: str
    effectiveGasPrice: str
    logs: list[_Log]


_LOGS: Final = msgspec.json.Decoder(list[_Log])
_RECEIPT: Final = msgspec.json.Decoder(_Receipt)


class NodeAccess:
    """A node's chain and peers, for its own miner and for whoever asks where miners are.

    Parameters
    ----------
    chain, transport
        Of the node. What is sent into the mempool is passed on by the node's gossip, as everything there.
    """

    def __init__(self, chain: ChainService, transport: Transport) -> None:
        self._chain, self._transport = chain, transport
        self._tip: tuple[bytes, int] | None = None

    @property
    def chain_id(self) -> int:
        """Of the chain."""
        return self._chain.execution.engine.chain_id

    @property
    def genesis_root(self) -> Hash32:
        """Of the chain."""
        return self._chain.rules.genesis_root

    # ------------------------------------------------------------ heads

    async def head(self) -> Head:
        """Return the head."""
        head = self._chain.execution.head
        return Head(head.number, Hash32(head.hash), head.timestamp, head.next_base_fee())

    async def wait_head(self, after: int, timeout_seconds: float) -> Head:
        """Return the head as soon as its number is above ``after``, or what it is when the time is up."""
        try:
            async with (
                asyncio.timeout(timeout_seconds),
                self._chain.execution.events.subscribe_heads() as heads,
            ):
                while self._chain.execution.head.number <= after:
                    await heads.get()
        except TimeoutError:
            pass
        except SubscriptionClosed as closed:
            if closed.reason != "slow-subscriber":
                raise ChainAccessError(f"this node's chain has stopped: {closed.reason}") from None
        return await self.head()

    async def finalised_number(self) -> int:
        """Return the number of the last final block."""
        return self._chain.payload_at("finalized").number

    # ------------------------------------------------------------ calls

    async def call(self, to: Address, data: bytes, *, sender: Address | None = None, value: int = 0) -> bytes:
        """Call a contract in the head's state; raise `CallReverted` if it refuses."""
        execution = self._chain.execution
        request = _request(sender, to, data, value)
        result = await self._read(execution.engine.call, execution.head.hash, request, gas_cap=GAS_CAP)
        if result.status != "success":
            raise _refused(result)
        return bytes(result.output)

    async def estimate_gas(self, sender: Address, to: Address, data: bytes, value: int) -> int:
        """Return the gas that a transaction would need; raise `CallReverted` if it would fail."""
        execution = self._chain.execution
        request = _request(sender, to, data, value)
        gas, result = await self._read(
            execution.engine.estimate_gas, execution.head.hash, request, gas_cap=GAS_CAP
        )
        if not gas:
            raise _refused(result)
        return int(gas)

    # ------------------------------------------------------------ transactions

    async def send(self, raw: bytes) -> Hash32:
        """Send a signed transaction; raise `TransactionRefused` if it is not taken. A known one is fine."""
        try:
            (outcome,) = await self._chain.execution.submit([raw])
        except NoriaError as error:
            raise ChainAccessError(f"this node's chain takes no transactions: {error}") from None
        if not isinstance(outcome, RejectedTransaction):
            return Hash32(outcome)
        if outcome.kind == KNOWN:
            return keccak256(raw)
        raise TransactionRefused(f"a transaction was not taken: {outcome.message}")

    async def result(self, transaction: Hash32) -> TransactionResult | None:
        """Return what became of a transaction, if a block of the present chain has it."""
        engine = self._chain.execution.engine
        location = await self._read(engine.transaction_location, transaction)
        if location is None:
            return None
        found = await self._read(engine.receipt_json, location[0], location[2])
        if found is None:
            return None
        receipt = _RECEIPT.decode(found)
        used = int(receipt.gasUsed, 16)
        return TransactionResult(
            transaction=transaction,
            block_number=int(receipt.blockNumber, 16),
            block_hash=Hash32(parse_data(receipt.blockHash)),
            ok=int(receipt.status, 16) == 1,
            gas_used=used,
            fee=Wei(used * int(receipt.effectiveGasPrice, 16)),
            logs=tuple(map(_log, receipt.logs)),
        )

    async def logs(
        self,
        addresses: Sequence[Address],
        topics: Sequence[Sequence[Hash32] | None],
        first: int,
        last: int,
    ) -> list[EventLog]:
        """Return events of blocks ``first`` to ``last``, in order; topics as in ``eth_getLogs``."""
        last = min(last, self._chain.execution.head.number)
        if first > last:
            return []
        read = self._chain.execution.engine.logs_range_json
        try:
            found = await self._read(read, first, last, list(addresses), list(topics), LOGS_MAX)
        except InvalidRequest as error:
            raise ChainAccessError(f"blocks {first} to {last} have too many such events: {error}") from None
        return [_log(entry) for entry in _LOGS.decode(found)]

    # ------------------------------------------------------------ accounts

    async def nonce(self, account: Address) -> int:
        """Return the next nonce, counting what waits in the mempool."""
        execution = self._chain.execution
        found = (await self._read(execution.engine.account, execution.head.hash, account)).nonce
        return execution.mempool.pending_nonce(account, found)

    async def balance(self, account: Address) -> Wei:
        """Return an account's balance."""
        execution = self._chain.execution
        found = await self._read(execution.engine.account, execution.head.hash, account)
        return Wei(found.balance)

    async def tip(self) -> int:
        """Return a sensible priority fee, wei per gas."""
        execution = self._chain.execution
        head = execution.head
        if self._tip is None or self._tip[0] != head.hash:
            count = min(TIP_BLOCKS, head.number + 1)
            history = await self._read(execution.engine.fee_history, head.hash, count, [TIP_PERCENTILE])
            self._tip = (head.hash, suggested_tip(history))
        return self._tip[1]

    # ------------------------------------------------------------ peers

    async def contact(self, miner: Address) -> MinerContact | None:
        """Return where a registered miner's node is reached; None if it is not registered."""
        terms = await read_miner_terms(self, miner)
        if terms is None:
            return None
        return MinerContact(terms.peer, tuple(self._addresses(terms.peer)))

    def _addresses(self, peer: str) -> list[str]:
        if peer == self._transport.peer_id:
            found = [*self._transport.config.external, *self._transport.addresses]
        else:
            found = [
                address
                for info in self._transport.peers()
                if info.peer == peer
                for address in _reachable(info)
            ]
        named = [address if "/p2p/" in address else f"{address}/p2p/{peer}" for address in found]
        return list(dict.fromkeys(named))[:ADDRESSES_MAX]

    async def _read(self, function: Any, *arguments: Any, **named: Any) -> Any:
        """Ask the engine in a thread."""
        try:
            return await self._chain.execution.read(lambda: function(*arguments, **named))
        except InvalidRequest:
            raise
        except (NoriaError, RuntimeError) as error:
            raise ChainAccessError(f"this node's chain cannot be read: {error}") from None


def _reachable(info: PeerInfo) -> list[str]:
    """Return where a connected peer can be dialled: what it says, and where it was reached."""
    return [*info.listens, *([info.address] if info.outbound and info.address else [])]


def _request(sender: Address | None, to: Address, data: bytes, value: int) -> bytes:
    request: Mapping[str, str] = {"to": format_data(to), "data": format_data(data), "value": hex(value)}
    return json.dumps(dict(request) | ({} if sender is None else {"from": format_data(sender)})).encode()


def _refused(result: CallResult) -> ChainAccessError:
    if result.status == "revert":
        return CallReverted(revert_reason(result.output) or "execution reverted without a reason")
    return CallReverted(result.error or result.status)


def _log(entry: _Log) -> EventLog:
    return EventLog(
        address=Address(parse_data(entry.address)),
        topics=tuple(Hash32(parse_data(topic)) for topic in entry.topics),
        data=parse_data(entry.data),
        block_number=int(entry.blockNumber, 16),
        transaction=Hash32(parse_data(entry.transactionHash)),
    )
