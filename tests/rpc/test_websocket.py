"""The server over WebSocket: calls, limits, subscriptions."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from noria._core import Engine
from noria.chain.service import Chain
from noria.execution.accounts import DevAccount
from noria.execution.spec import ChainSpec
from noria.execution.system_contracts import block_start_calls
from noria.rpc import RpcServer
from tests.rpc import evm
from tests.rpc.conftest import WAIT_SECONDS, Rpc, RpcFailure, Serve, Ws, hexed

TOPIC = "0x" + "00" * 31 + "07"


async def test_call(ws: Ws) -> None:
    assert await ws("eth_chainId") == "0x4e4f52"
    with pytest.raises(RpcFailure, match="the method eth_tea does not exist"):
        await ws("eth_tea")


async def test_binary_messages_are_understood(ws: Ws) -> None:
    await ws.socket.send(b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}')
    assert json.loads(await ws.socket.recv())["result"] == "0x4e4f52"


async def test_batch(ws: Ws) -> None:
    await ws.socket.send(
        json.dumps([{"jsonrpc": "2.0", "id": id, "method": "eth_chainId"} for id in range(3)])
    )
    assert [answer["id"] for answer in json.loads(await ws.socket.recv())] == [0, 1, 2]


@pytest.mark.parametrize(
    ("message", "code"), [("{", -32700), ("", -32700), ("[]", -32600), ("5", -32600), (b"\xff\xfe", -32700)]
)
async def test_bad_message_leaves_the_connection_open(ws: Ws, message: str | bytes, code: int) -> None:
    await ws.socket.send(message)
    assert json.loads(await ws.socket.recv())["error"]["code"] == code
    assert await ws("eth_chainId") == "0x4e4f52"


async def test_many_calls_at_once(ws: Ws) -> None:
    count = 200
    for id in range(count):
        method = "eth_getBlockByNumber" if id % 2 else "eth_chainId"
        params = ["latest", True] if id % 2 else []
        await ws.socket.send(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
    answered = [json.loads(await ws.socket.recv())["id"] for _ in range(count)]
    assert sorted(answered) == list(range(count))


# ---------------------------------------------------------------- limits


async def test_message_too_large(serve: Serve) -> None:
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"})
    async with (
        serve(max_websocket_message_bytes=1_000) as server,
        connect(server.websocket_url, proxy=None) as socket,
    ):
        await socket.send(call.ljust(1_000))
        assert "result" in json.loads(await socket.recv())
        await socket.send(call.ljust(1_001))
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1009


async def test_too_many_connections(serve: Serve) -> None:
    async with (
        serve(max_websockets=2) as server,
        connect(server.websocket_url, proxy=None) as first,
        connect(server.websocket_url, proxy=None),
    ):
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.websocket_url, proxy=None)
        assert refused.value.response.status_code == 503
        await first.close()
        # The place is free once the server has seen the first one leave.
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                try:
                    async with connect(server.websocket_url, proxy=None) as third:
                        assert await Ws(third)("eth_chainId") == "0x4e4f52"
                        break
                except InvalidStatus:
                    continue


@pytest.mark.parametrize("origin", [None, "http://localhost:3000", "http://127.0.0.1", "http://[::1]:80"])
async def test_local_origins_may_connect(server: RpcServer, origin: str | None) -> None:
    chosen = None if origin is None else Origin(origin)
    async with connect(server.websocket_url, origin=chosen, proxy=None) as socket:
        assert await Ws(socket)("eth_chainId") == "0x4e4f52"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://[", ""]
)
async def test_other_origins_may_not(server: RpcServer, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.websocket_url, additional_headers={"Origin": origin}, proxy=None)
    assert refused.value.response.status_code == 403


async def test_configured_origins_may_connect(serve: Serve) -> None:
    async with serve(cors_origins=("https://Page.example",)) as server:
        async with connect(server.websocket_url, origin=Origin("https://page.example"), proxy=None) as socket:
            assert await Ws(socket)("eth_chainId") == "0x4e4f52"
        with pytest.raises(InvalidStatus):
            await connect(server.websocket_url, origin=Origin("https://other.example"), proxy=None)


async def test_other_hosts_are_refused(server: RpcServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://evil.example:{server.port}", host="127.0.0.1", port=server.port, proxy=None)
    assert refused.value.response.status_code == 400


async def test_client_that_does_not_read(serve: Serve, chain: Chain) -> None:
    async with serve(max_outbox_bytes=200_000) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**10)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        call = b'{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}'
        # An unmasked payload is not allowed; a mask of zeros leaves it readable.
        for _ in range(100):
            writer.write(bytes([0x81, 0x80 | len(call)]) + bytes(4) + call)
        await writer.drain()
        async with asyncio.timeout(60):
            # Each block is told a hundred times, until the sockets' buffers and then the outbox are full.
            while len(server_sessions(server)) == 1:
                await chain.mine()
        writer.close()


def server_sessions(server: RpcServer) -> list[str]:
    """The WebSocket connections that are being served."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "rpc-websocket-read"]


async def test_shutdown_closes_connections(serve: Serve) -> None:
    async with serve() as server, connect(server.websocket_url, proxy=None) as socket:
        client = Ws(socket)
        await client("eth_subscribe", "newHeads")
        await server.stop()
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1012
    assert not server_sessions(server)


# ---------------------------------------------------------------- subscriptions


async def test_new_heads(ws: Ws, chain: Chain) -> None:
    heads = await ws("eth_subscribe", "newHeads")
    for _ in range(3):
        header = await chain.mine()
        told = await ws.next(heads)
        assert told["hash"] == hexed(header.hash)
        assert told["number"] == hex(header.number)
        assert told["parentHash"] == hexed(header.parent_hash)
        assert "transactions" not in told


async def test_unsubscribe(ws: Ws, chain: Chain) -> None:
    first = await ws("eth_subscribe", "newHeads")
    second = await ws("eth_subscribe", "newHeads")
    assert await ws("eth_unsubscribe", first) is True
    with pytest.raises(RpcFailure, match="subscription not found"):
        await ws("eth_unsubscribe", first)
    await chain.mine()
    await ws.next(second)
    assert not ws.notifications


async def test_only_own_subscriptions_can_be_ended(server: RpcServer, ws: Ws) -> None:
    heads = await ws("eth_subscribe", "newHeads")
    async with connect(server.websocket_url, proxy=None) as socket:
        with pytest.raises(RpcFailure, match="subscription not found"):
            await Ws(socket)("eth_unsubscribe", heads)


async def test_pending_hashes(ws: Ws, chain: Chain, dev_keys: list[DevAccount]) -> None:
    pending = await ws("eth_subscribe", "newPendingTransactions")
    (sent,) = await chain.submit([evm.signed(dev_keys[0], 0)])
    assert isinstance(sent, bytes)
    assert await ws.next(pending) == hexed(sent)


async def test_pending_objects(ws: Ws, chain: Chain, dev_keys: list[DevAccount]) -> None:
    pending = await ws("eth_subscribe", "newPendingTransactions", True)
    (sent,) = await chain.submit([evm.signed(dev_keys[0], 0, value=5)])
    assert isinstance(sent, bytes)
    told = await ws.next(pending)
    assert (told["hash"], told["value"], told["blockHash"]) == (hexed(sent), "0x5", None)


async def test_logs(ws: Ws, rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    logger = await rpc.deploy(dev_keys[0], evm.LOGGER)
    other = await rpc.deploy(dev_keys[0], evm.LOGGER)
    every = await ws("eth_subscribe", "logs")
    mine = await ws("eth_subscribe", "logs", {"address": logger, "topics": [TOPIC]})
    sender = hexed(dev_keys[0].address)
    for contract, topic in ((other, 7), (logger, 8), (logger, 7)):
        data = hexed(evm.word(topic) + evm.word(1))
        await rpc.mined(await rpc("eth_sendTransaction", {"from": sender, "to": contract, "data": data}))
    told = await ws.next(mine)
    assert (told["address"], told["topics"], told["removed"]) == (logger, [TOPIC], False)
    assert [(await ws.next(every))["address"] for _ in range(3)] == [other, logger, logger]
    assert not ws.notifications


async def test_logs_that_are_taken_back(ws: Ws, rpc: Rpc, chain: Chain, dev_keys: list[DevAccount]) -> None:
    logger = await rpc.deploy(dev_keys[0], evm.LOGGER)
    before = chain.head.hash
    logs = await ws("eth_subscribe", "logs", {"address": logger})
    call = {"from": hexed(dev_keys[0].address), "to": logger, "data": hexed(evm.word(7) + evm.word(1))}
    hashes = [(await rpc.mined(await rpc("eth_sendTransaction", call)))["transactionHash"] for _ in range(2)]
    assert [(await ws.next(logs))["transactionHash"] for _ in range(2)] == hashes
    await chain.revert_to(before)
    # Newest first, as they are undone.
    taken_back = [await ws.next(logs) for _ in range(2)]
    assert [(log["transactionHash"], log["removed"]) for log in taken_back] == [
        (hashes[1], True),
        (hashes[0], True),
    ]


async def test_reorganisation(
    ws: Ws,
    rpc: Rpc,
    chain: Chain,
    dev_keys: list[DevAccount],
    spec: ChainSpec,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A longer chain from elsewhere replaces a block with a log by two blocks with another log."""
    logger = await rpc.deploy(dev_keys[0], evm.LOGGER)
    deployed = chain.head
    block = chain.engine.block_rlp(deployed.hash)
    assert block is not None
    heads = await ws("eth_subscribe", "newHeads")
    logs = await ws("eth_subscribe", "logs", {"address": logger})
    blocks = await rpc("eth_newBlockFilter")
    changes = await rpc("eth_newFilter", {"address": logger})

    def log(value: int) -> bytes:
        return evm.signed(dev_keys[1], 0, to=bytes.fromhex(logger[2:]), data=evm.word(7) + evm.word(value))

    (ours,) = await chain.submit([log(1)])
    assert isinstance(ours, bytes)
    await rpc.mined(hexed(ours))
    ours_told = await ws.next(logs)

    elsewhere = Engine(str(tmp_path_factory.mktemp("elsewhere")), spec.engine_json(), sync=False)
    try:
        async with Chain(elsewhere, spec, automine=False) as other:
            await other.import_block(block, block_start_calls(deployed.prev_randao))
            (theirs,) = await other.submit([log(2)])
            await other.mine(chain.head.timestamp + 10)
            await other.mine()
            new = []
            for number in (2, 3):
                found = other.engine.canonical_hash(number)
                assert found is not None
                rlp = other.engine.block_rlp(found)
                header = other.engine.header(found)
                assert rlp is not None
                assert header is not None
                await chain.import_block(rlp, block_start_calls(header.prev_randao))
                new.append(hexed(found))
    finally:
        elsewhere.close()

    assert isinstance(theirs, bytes)
    removed, added = await ws.next(logs), await ws.next(logs)
    assert removed == ours_told | {"removed": True}
    assert (added["transactionHash"], added["removed"], added["blockHash"]) == (hexed(theirs), False, new[0])
    first = (await ws.next(heads))["hash"]
    if first == hexed(deployed.hash):
        # The head that was being told when the subscription began.
        first = (await ws.next(heads))["hash"]
    assert [first, *[(await ws.next(heads))["hash"] for _ in new]] == [ours_told["blockHash"], *new]
    assert await rpc("eth_getFilterChanges", blocks) == [ours_told["blockHash"], *new]
    assert await rpc("eth_getFilterChanges", changes) == [ours_told, removed, added]
    assert await rpc("eth_getLogs", {"fromBlock": "0x0"}) == [added]


async def test_identifier_comes_before_the_first_notification(ws: Ws) -> None:
    requests = [
        {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]},
        {"jsonrpc": "2.0", "id": 2, "method": "evm_mine"},
        {"jsonrpc": "2.0", "id": 3, "method": "eth_chainId"},
    ]
    await ws.socket.send(json.dumps(requests))
    answers = json.loads(await ws.socket.recv())
    assert isinstance(answers, list)
    assert await ws.next(answers[0]["result"]) is not None


async def test_many_subscribers(server: RpcServer, chain: Chain) -> None:
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(20):
            client = Ws(await stack.enter_async_context(connect(server.websocket_url, proxy=None)))
            clients.append((client, [await client("eth_subscribe", "newHeads") for _ in range(3)]))
        mined = [await chain.mine() for _ in range(5)]
        for client, names in clients:
            for name in names:
                assert [(await client.next(name))["hash"] for _ in mined] == [
                    hexed(one.hash) for one in mined
                ]


async def test_too_many_subscriptions(serve: Serve) -> None:
    async with serve(max_subscriptions=2) as server, connect(server.websocket_url, proxy=None) as socket:
        client = Ws(socket)
        first = await client("eth_subscribe", "newHeads")
        await client("eth_subscribe", "logs", {})
        with pytest.raises(RpcFailure, match="too many subscriptions: at most 2") as refused:
            await client("eth_subscribe", "newHeads")
        assert refused.value.code == -32005
        await client("eth_unsubscribe", first)
        await client("eth_subscribe", "newPendingTransactions")


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        ([], -32602, "missing value for required argument 0"),
        (["coffee"], -32601, 'no "coffee" subscription in eth namespace'),
        (["logs", 5], -32602, "invalid argument 1"),
        (["logs", {"topics": [None] * 5}], -32602, "exceed max topics"),
        (["newPendingTransactions", "yes"], -32602, "invalid argument 1"),
    ],
)
async def test_bad_subscription(ws: Ws, params: list[Any], code: int, words: str) -> None:
    with pytest.raises(RpcFailure, match=words) as refused:
        await ws("eth_subscribe", *params)
    assert refused.value.code == code


@pytest.mark.parametrize("method", ["eth_subscribe", "eth_unsubscribe"])
async def test_no_subscriptions_over_http(rpc: Rpc, method: str) -> None:
    failure = await rpc.failure(method, "newHeads")
    assert failure.code == -32601
    assert failure.message.startswith("notifications not supported")


async def test_connection_takes_its_subscriptions_with_it(server: RpcServer, chain: Chain) -> None:
    before = len(asyncio.all_tasks())
    async with connect(server.websocket_url, proxy=None) as socket:
        client = Ws(socket)
        await client("eth_subscribe", "logs", {})
        await client("eth_newBlockFilter")
    async with asyncio.timeout(WAIT_SECONDS):
        while len(asyncio.all_tasks()) > before or len(server._filters):
            await asyncio.sleep(0)
    assert not server._feed._head_listeners
    await chain.mine()
