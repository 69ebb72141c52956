"""A chain over JSON-RPC: what a node says, and what it should not have said."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from noria.client.node_url import InvalidUrl
from noria.client.rpc_access import CallFailed, NodeUnreachable, NotANode, RpcAccess
from noria.market.access import CallReverted, ChainAccessError, TransactionRefused
from noria.primitives.hashes import keccak256
from noria.primitives.types import Address, Hash32

ROOT = "0x" + "11" * 32
WHO = Address(b"\2" * 20)
HEADER = {"number": "0x5", "hash": "0x" + "22" * 32, "timestamp": "0x64", "baseFeePerGas": "0x7"}
FACTS = {
    "chainId": 31337,
    "genesisRoot": ROOT,
    "parameters": {"unit_fuel_max": 100},
    "programs": {"python": "0x" + "33" * 32},
}
RECEIPT = {
    "transactionHash": "0x" + "44" * 32,
    "blockNumber": "0x5",
    "blockHash": "0x" + "22" * 32,
    "status": "0x1",
    "gasUsed": "0x10",
    "effectiveGasPrice": "0x3",
    "logs": [
        {
            "address": "0x" + "02" * 20,
            "topics": ["0x" + "55" * 32],
            "data": "0x01",
            "blockNumber": "0x5",
            "transactionHash": "0x" + "44" * 32,
        }
    ],
}


class Node:
    """A node that says what a test wants."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "noria_parameters": FACTS,
            "eth_getBlockByNumber": HEADER,
            "eth_subscribe": "0x1",
        }
        self.connections: list[ServerConnection] = []
        self.asked: list[tuple[str, list[Any]]] = []
        self.server: Server | None = None

    async def handle(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        async for text in connection:
            request = json.loads(text)
            self.asked.append((request["method"], request["params"]))
            answer = self.answers.get(request["method"], _Error(-32601, "no such method"))
            if callable(answer):
                answer = answer(*request["params"])
            if answer is SILENT:
                continue
            if answer is NONSENSE:
                await connection.send("[not json")
                continue
            message = {"jsonrpc": "2.0", "id": request["id"]}
            if isinstance(answer, _Error):
                message["error"] = {"code": answer.code, "message": answer.message}
            else:
                message["result"] = answer
            await connection.send(json.dumps(message))

    async def tell_head(self, number: int) -> None:
        header = {**HEADER, "number": hex(number)}
        notice = {"method": "eth_subscription", "params": {"subscription": "0x1", "result": header}}
        await self.connections[-1].send(json.dumps(notice))

    @property
    def url(self) -> str:
        assert self.server is not None
        [socket] = self.server.sockets
        return f"http://127.0.0.1:{socket.getsockname()[1]}"


class _Error:
    def __init__(self, code: int, message: str) -> None:
        self.code, self.message = code, message


SILENT, NONSENSE = object(), object()


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    made = Node()
    async with serve(made.handle, "127.0.0.1", 0) as server:
        made.server = server
        yield made


@pytest.fixture
async def access(node: Node) -> AsyncIterator[RpcAccess]:
    async with RpcAccess(node.url) as access:
        yield access


async def test_what_the_chain_is(access: RpcAccess) -> None:
    assert access.chain_id == 31337
    assert access.genesis_root == Hash32(b"\x11" * 32)
    assert access.facts.number("unit_fuel_max") == 100
    assert access.facts.programs == {"python": b"\x33" * 32}
    with pytest.raises(NotANode, match="older"):
        access.facts.number("unknown")


async def test_reading(node: Node, access: RpcAccess) -> None:
    node.answers |= {
        "eth_getBalance": "0x10",
        "eth_getTransactionCount": "0x2",
        "eth_maxPriorityFeePerGas": "0x3",
        "eth_call": "0x0102",
        "eth_estimateGas": "0x5208",
        "eth_getTransactionReceipt": RECEIPT,
        "eth_getLogs": RECEIPT["logs"],
        "noria_contact": {"peer": "12D3", "addresses": ["/ip4/127.0.0.1/tcp/1"]},
    }
    head = await access.head()
    assert (head.number, head.timestamp, head.base_fee) == (5, 100, 7)
    assert await access.finalised_number() == 5
    assert (await access.balance(WHO), await access.nonce(WHO), await access.tip()) == (16, 2, 3)
    assert await access.final_nonce(WHO) == 2
    assert node.asked[-1:] == [("eth_getTransactionCount", ["0x" + "02" * 20, "finalized"])]
    assert await access.call(WHO, b"\1", sender=WHO, value=5) == b"\1\2"
    assert node.asked[-1][1][0] == {
        "from": "0x" + "02" * 20,
        "to": "0x" + "02" * 20,
        "data": "0x01",
        "value": "0x5",
    }
    assert await access.estimate_gas(WHO, WHO, b"", 0) == 21_000
    result = await access.result(Hash32(b"\x44" * 32))
    assert result is not None
    assert (result.ok, result.gas_used, result.fee, result.block_number) == (True, 16, 48, 5)
    [log] = await access.logs([WHO], [[Hash32(b"\x55" * 32)], None], 1, 5)
    assert (log, log.data) == (result.logs[0], b"\1")
    contact = await access.contact(WHO)
    assert contact is not None
    assert contact.peer == "12D3"
    node.answers |= {"eth_getTransactionReceipt": None, "noria_contact": None}
    assert await access.result(Hash32(bytes(32))) is None
    assert await access.contact(WHO) is None


async def test_heads_are_told(node: Node, access: RpcAccess) -> None:
    assert (await access.wait_head(4, 1.0)).number == 5
    waiting = asyncio.ensure_future(access.wait_head(5, 10.0))
    await asyncio.sleep(0)
    while not any(method == "eth_getBlockByNumber" for method, _ in node.asked):
        await asyncio.sleep(0.01)
    await node.tell_head(6)
    assert (await waiting).number == 6
    assert (await access.wait_head(9, 0.05)).number == 5, "what it is when the time is up"


async def test_sending(node: Node, access: RpcAccess) -> None:
    node.answers["eth_sendRawTransaction"] = "0x" + "66" * 32
    assert await access.send(b"raw") == b"\x66" * 32
    node.answers["eth_sendRawTransaction"] = _Error(-32000, "already known")
    assert await access.send(b"raw") == keccak256(b"raw")
    node.answers["eth_sendRawTransaction"] = _Error(-32000, "nonce too low")
    with pytest.raises(TransactionRefused, match="nonce too low"):
        await access.send(b"raw")


async def test_refusals(node: Node, access: RpcAccess) -> None:
    node.answers["eth_call"] = _Error(3, "execution reverted: JobMarket: no")
    with pytest.raises(CallReverted, match="JobMarket: no"):
        await access.call(WHO, b"")
    node.answers["eth_call"] = _Error(-32000, "busy")
    with pytest.raises(CallFailed, match="refused eth_call: busy"):
        await access.call(WHO, b"")
    with pytest.raises(CallFailed, match="no such method"):
        await access.tip()


Ask = Callable[[RpcAccess], Any]


@pytest.mark.parametrize(
    ("method", "answer", "ask"),
    [
        ("eth_getBalance", "16", lambda a: a.balance(WHO)),
        ("eth_getBalance", 16, lambda a: a.balance(WHO)),
        ("eth_getBalance", "0x" + "f" * 65, lambda a: a.balance(WHO)),
        ("eth_call", "0x1", lambda a: a.call(WHO, b"")),
        ("eth_getBlockByNumber", {**HEADER, "hash": "0x22"}, lambda a: a.head()),
        ("eth_getBlockByNumber", None, lambda a: a.head()),
        ("eth_getTransactionReceipt", {}, lambda a: a.result(Hash32(bytes(32)))),
        ("noria_contact", {"peer": 5, "addresses": []}, lambda a: a.contact(WHO)),
    ],
)
async def test_answers_that_are_none(
    node: Node, access: RpcAccess, method: str, answer: object, ask: Ask
) -> None:
    node.answers[method] = answer
    with pytest.raises(NotANode):
        await ask(access)


async def test_a_connection_that_breaks_is_made_again(node: Node, access: RpcAccess) -> None:
    node.answers["eth_call"] = SILENT
    calling = asyncio.ensure_future(access.call(WHO, b""))
    while not any(method == "eth_call" for method, _ in node.asked):
        await asyncio.sleep(0.01)
    await node.connections[-1].close()
    with pytest.raises(NodeUnreachable):
        await calling
    node.answers["eth_call"] = "0x"
    assert await access.call(WHO, b"") == b""
    assert len(node.connections) == 2


async def test_nonsense_ends_the_connection(node: Node, access: RpcAccess) -> None:
    node.answers["eth_call"] = NONSENSE
    with pytest.raises(NotANode, match="JSON-RPC"):
        await access.call(WHO, b"")


async def test_nobody_there() -> None:
    async with serve(Node().handle, "127.0.0.1", 0) as server:
        [socket] = server.sockets
        port = socket.getsockname()[1]
    access = RpcAccess(f"http://127.0.0.1:{port}")
    with pytest.raises(NodeUnreachable, match="cannot reach a node"):
        await access.start()
    with pytest.raises(ChainAccessError, match="not been started"):
        _ = access.chain_id
    await access.close()
    with pytest.raises(InvalidUrl):
        RpcAccess("nothing")
