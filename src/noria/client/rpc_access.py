"""A chain as a node tells it: `noria.market.access.ChainAccess` over JSON-RPC.

Everything goes over one WebSocket, which stays open: calls have no handshake of their own, and the node tells
new heads by itself. A connection that is lost is made again by the next call.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from noria.client.node_url import MAX_ANSWER_BYTES, WAIT_SECONDS, read_quantity, socket_url
from noria.market.access import (
    CallReverted,
    ChainAccessError,
    EventLog,
    Head,
    MinerContact,
    TransactionRefused,
    TransactionResult,
)
from noria.primitives.background import BackgroundTasks
from noria.primitives.hashes import keccak256
from noria.primitives.hexes import parse_data
from noria.primitives.types import ADDRESS_BYTES, HASH_BYTES, Address, Hash32, Wei

CONNECT_SECONDS: Final = 10.0
CALLS_MAX: Final = 24
"""Calls under way at a time; a node works on 32 of one connection."""
REVERTED: Final = 3
"""Code of a call that a contract refused."""
KNOWN: Final = "already known"
ADDRESSES_MAX: Final = 32
"""Addresses of a miner that are looked at."""
NAMES_MAX: Final = 1_000

Answer = TypeVar("Answer")


class NodeUnreachable(ChainAccessError):
    """No node answers there, or not in time."""


class NotANode(ChainAccessError):
    """What answers does not speak as a node of this protocol does."""


class CallFailed(ChainAccessError):
    """The node answered with an error.

    Attributes
    ----------
    code
        The JSON-RPC error code.
    data
        Revert data or None.
    """

    def __init__(self, method: str, code: int, message: str, data: object) -> None:
        super().__init__(f"the node refused {method}: {message} (code {code})")
        self.code = code
        self.reason = message
        self.data = data


@dataclass(frozen=True, slots=True)
class ChainFacts:
    """What a requester must know of a chain (``noria_parameters``).

    Attributes
    ----------
    chain_id, genesis_root
        Of the chain.
    parameters
        The network's numbers by name, as in a chain specification.
    programs
        Programs that the chain pins, by name.
    """

    chain_id: int
    genesis_root: Hash32
    parameters: dict[str, int]
    programs: dict[str, Hash32]

    def number(self, name: str) -> int:
        """Return one of the parameters.

        Raises
        ------
        NotANode
            Where the node did not tell it.
        """
        try:
            return self.parameters[name]
        except KeyError:
            raise NotANode(f"the node tells no parameter {name!r}: it is older than this program") from None


class _Error(msgspec.Struct):
    code: int
    message: str
    data: Any = None


class _Notice(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw(b"null")
    subscription: str = ""


class _Message(msgspec.Struct):
    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: _Error | None = None
    method: str | None = None
    params: _Notice | None = None


class _Header(msgspec.Struct):
    number: str
    hash: str
    timestamp: str
    baseFeePerGas: str


class _Numbered(msgspec.Struct):
    number: str


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


class _Contact(msgspec.Struct):
    peer: str
    addresses: list[str]


class _Facts(msgspec.Struct):
    chainId: int | str
    genesisRoot: str
    parameters: dict[str, int]
    programs: dict[str, str] = {}


_MESSAGES: Final = msgspec.json.Decoder(_Message)


class RpcAccess:
    """A node that is asked over JSON-RPC; `start` it, or use it as an asynchronous context manager.

    It belongs to the event loop on which it was started.

    Parameters
    ----------
    url
        ``http://host:port``, or ``https``, ``ws``, ``wss``.

    Raises
    ------
    InvalidUrl
        Where it is none.

    Examples
    --------
    >>> async def example() -> int:
    ...     async with RpcAccess("http://127.0.0.1:8545") as access:
    ...         return (await access.head()).number
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._socket_url = socket_url(url)
        self._connection: ClientConnection | None = None
        self._connecting = asyncio.Lock()
        self._slots = asyncio.Semaphore(CALLS_MAX)
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._tasks = BackgroundTasks("rpc-access")
        self._head: Head | None = None
        self._heads = asyncio.Condition()
        self._facts: ChainFacts | None = None

    async def start(self) -> Self:
        """Connect and learn which chain this is.

        Raises
        ------
        NodeUnreachable, NotANode
            Where that cannot be.
        """
        if self._facts is None:
            found = await self.ask("noria_parameters", kind=_Facts)
            self._facts = ChainFacts(
                chain_id=found.chainId if isinstance(found.chainId, int) else _number(found.chainId),
                genesis_root=Hash32(_bytes(found.genesisRoot, HASH_BYTES)),
                parameters=found.parameters,
                programs={
                    name: Hash32(_bytes(program, HASH_BYTES))
                    for name, program in itertools.islice(found.programs.items(), NAMES_MAX)
                },
            )
        return self

    async def close(self) -> None:
        """Hang up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError, WebSocketException):
                await connection.close()
        await self._tasks.stop()

    async def __aenter__(self) -> Self:
        try:
            return await self.start()
        except BaseException:
            await self.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def facts(self) -> ChainFacts:
        """What the node told of its chain; there once started."""
        if self._facts is None:
            raise ChainAccessError("this access has not been started: await start() first")
        return self._facts

    @property
    def chain_id(self) -> int:
        """Of the chain."""
        return self.facts.chain_id

    @property
    def genesis_root(self) -> Hash32:
        """Of the chain."""
        return self.facts.genesis_root

    # ------------------------------------------------------------ as ChainAccess

    async def head(self) -> Head:
        """Return the head."""
        found = await self.ask("eth_getBlockByNumber", "latest", False, kind=_Header)
        return await self._note(_head(found))

    async def wait_head(self, after: int, timeout_seconds: float) -> Head:
        """Return the head as soon as its number is above ``after``, or what it is when the time is up."""
        if self._head is None or self._connection is None:
            await self.head()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds), self._heads:
                await self._heads.wait_for(
                    lambda: self._connection is None or (self._head is not None and self._head.number > after)
                )
        head = self._head
        return head if head is not None and head.number > after else await self.head()

    async def finalised_number(self) -> int:
        """Return the number of the last final block."""
        found = await self.ask("eth_getBlockByNumber", "finalized", False, kind=_Numbered)
        return _number(found.number)

    async def call(self, to: Address, data: bytes, *, sender: Address | None = None, value: int = 0) -> bytes:
        """Call a contract in the head's state; raise `CallReverted` if it refuses."""
        request = _request(sender, to, data, value)
        return _bytes(await self.ask("eth_call", request, "latest", kind=str))

    async def estimate_gas(self, sender: Address, to: Address, data: bytes, value: int) -> int:
        """Return the gas that a transaction would need; raise `CallReverted` if it would fail."""
        return _number(await self.ask("eth_estimateGas", _request(sender, to, data, value), kind=str))

    async def send(self, raw: bytes) -> Hash32:
        """Send a signed transaction; raise `TransactionRefused` if it is not taken. A known one is fine."""
        try:
            sent = await self.ask("eth_sendRawTransaction", "0x" + raw.hex(), kind=str)
        except CallFailed as error:
            if KNOWN in error.reason.lower():
                return keccak256(raw)
            raise TransactionRefused(f"the node did not take a transaction: {error.reason}") from None
        return Hash32(_bytes(sent, HASH_BYTES))

    async def result(self, transaction: Hash32) -> TransactionResult | None:
        """Return what became of a transaction, if a block of the present chain has it."""
        found = await self.ask("eth_getTransactionReceipt", "0x" + transaction.hex(), kind=_Receipt | None)
        if found is None:
            return None
        gas = _number(found.gasUsed)
        return TransactionResult(
            transaction=Hash32(_bytes(found.transactionHash, HASH_BYTES)),
            block_number=_number(found.blockNumber),
            block_hash=Hash32(_bytes(found.blockHash, HASH_BYTES)),
            ok=_number(found.status) == 1,
            gas_used=gas,
            fee=Wei(gas * _number(found.effectiveGasPrice)),
            logs=tuple(_log(each) for each in found.logs),
        )

    async def logs(
        self,
        addresses: Sequence[Address],
        topics: Sequence[Sequence[Hash32] | None],
        first: int,
        last: int,
    ) -> list[EventLog]:
        """Return events of blocks ``first`` to ``last``, in order; topics as in ``eth_getLogs``."""
        wanted = {
            "address": ["0x" + address.hex() for address in addresses],
            "topics": [
                None if choices is None else ["0x" + topic.hex() for topic in choices] for choices in topics
            ],
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        return [_log(each) for each in await self.ask("eth_getLogs", wanted, kind=list[_Log])]

    async def nonce(self, account: Address) -> int:
        """Return the next nonce, counting what waits in the mempool."""
        return _number(await self.ask("eth_getTransactionCount", "0x" + account.hex(), "pending", kind=str))

    async def final_nonce(self, account: Address) -> int:
        """Return how many transactions of an account are in final blocks."""
        return _number(await self.ask("eth_getTransactionCount", "0x" + account.hex(), "finalized", kind=str))

    async def balance(self, account: Address) -> Wei:
        """Return an account's balance."""
        return Wei(_number(await self.ask("eth_getBalance", "0x" + account.hex(), "latest", kind=str)))

    async def tip(self) -> int:
        """Return a sensible priority fee, wei per gas."""
        return _number(await self.ask("eth_maxPriorityFeePerGas", kind=str))

    async def contact(self, miner: Address) -> MinerContact | None:
        """Return where a registered miner's node is reached; None if it is not registered."""
        found = await self.ask("noria_contact", "0x" + miner.hex(), kind=_Contact | None)
        return None if found is None else MinerContact(found.peer, tuple(found.addresses[:ADDRESSES_MAX]))

    # ------------------------------------------------------------ the connection

    async def ask(self, method: str, *params: object, kind: Any) -> Any:
        """Call a method and return its result, of the kind that is named.

        Raises
        ------
        CallReverted
            Where a contract refused.
        CallFailed
            Where the node did.
        NodeUnreachable
            Where there is no answer.
        NotANode
            Where the answer is of another kind.
        """
        number = next(self._ids)
        request = msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with self._slots, asyncio.timeout(WAIT_SECONDS):
                connection = await self._connected()
                await connection.send(request, text=True)
                raw = await answer
        except TimeoutError:
            raise NodeUnreachable(f"{self.url} did not answer {method} within {WAIT_SECONDS:.0f} s") from None
        except (OSError, WebSocketException) as error:
            raise self._unreachable(error) from None
        except CallFailed as error:
            if error.code == REVERTED:
                raise CallReverted(error.reason) from None
            raise CallFailed(method, error.code, error.reason, error.data) from None
        finally:
            self._waiting.pop(number, None)
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise NotANode(f"{self.url} answered {method} with something else: {error}") from None

    async def _connected(self) -> ClientConnection:
        async with self._connecting:
            if self._connection is None:
                self._connection = await connect(
                    self._socket_url,
                    open_timeout=CONNECT_SECONDS,
                    close_timeout=1.0,
                    max_size=MAX_ANSWER_BYTES,
                    compression=None,
                    # A node on the same machine is asked directly, whatever the environment says of proxies.
                    proxy=None,
                )
                self._tasks.spawn(self._listen(self._connection))
                # The answer names the subscription, which is the only one.
                request = {"jsonrpc": "2.0", "id": 0, "method": "eth_subscribe", "params": ["newHeads"]}
                await self._connection.send(msgspec.json.encode(request), text=True)
            return self._connection

    async def _listen(self, connection: ClientConnection) -> None:
        reason: Exception = ConnectionError("the node has closed the connection")
        try:
            async for text in connection:
                await self._take(text)
        except (OSError, WebSocketException) as error:
            reason = error
        except (ValueError, RecursionError) as error:
            reason = NotANode(f"{self.url} does not speak JSON-RPC: {error}")
            await connection.close()
        finally:
            if self._connection is connection:
                self._connection = None
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(
                        reason if isinstance(reason, ChainAccessError) else self._unreachable(reason)
                    )
                    # Whoever asked may have stopped waiting.
                    waiting.exception()
            async with self._heads:
                self._heads.notify_all()

    async def _take(self, text: str | bytes) -> None:
        message = _MESSAGES.decode(text)
        if message.method == "eth_subscription" and message.params is not None:
            await self._note(_head(msgspec.json.decode(message.params.result, type=_Header)))
            return
        waiting = self._waiting.get(-1 if message.id is None else message.id)
        if waiting is None or waiting.done():
            return
        if message.error is not None:
            error = message.error
            waiting.set_exception(CallFailed("", error.code, error.message[:500], error.data))
        else:
            waiting.set_result(message.result)

    async def _note(self, head: Head) -> Head:
        async with self._heads:
            self._head = head
            self._heads.notify_all()
        return head

    def _unreachable(self, error: Exception) -> NodeUnreachable:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return NodeUnreachable(f"cannot reach a node at {self.url}: {reason}")


def _request(sender: Address | None, to: Address, data: bytes, value: int) -> dict[str, str]:
    request = {"to": "0x" + to.hex(), "data": "0x" + data.hex(), "value": hex(value)}
    return request if sender is None else {"from": "0x" + sender.hex(), **request}


def _number(text: str) -> int:
    try:
        return read_quantity(text, "a number")
    except ValueError as error:
        raise NotANode(str(error)) from None


def _bytes(text: str, length: int | None = None) -> bytes:
    try:
        data = parse_data(text)
        if length is not None and len(data) != length:
            raise ValueError(f"{len(data)} bytes, not {length}")
    except ValueError as error:
        raise NotANode(f"the node sent bytes that are none: {error}") from None
    return data


def _head(header: _Header) -> Head:
    return Head(
        _number(header.number),
        Hash32(_bytes(header.hash, HASH_BYTES)),
        _number(header.timestamp),
        _number(header.baseFeePerGas),
    )


def _log(log: _Log) -> EventLog:
    return EventLog(
        Address(_bytes(log.address, ADDRESS_BYTES)),
        tuple(Hash32(_bytes(topic, HASH_BYTES)) for topic in log.topics[:4]),
        _bytes(log.data),
        _number(log.blockNumber),
        Hash32(_bytes(log.transactionHash, HASH_BYTES)),
    )
