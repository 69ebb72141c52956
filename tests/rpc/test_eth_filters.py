"""Queries for logs, and filters that are polled."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from noria.chain.service import Chain
from noria.execution.accounts import DevAccount
from noria.rpc import RpcServer
from noria.rpc.feed import Journal
from tests.rpc import evm
from tests.rpc.conftest import Rpc, Serve, Ws, hexed

UNKNOWN = "0x" + "ab" * 32


def topic(value: int) -> str:
    return hexed(evm.word(value))


@pytest.fixture
async def loggers(rpc: Rpc, dev_keys: list[DevAccount]) -> tuple[str, str]:
    """Two contracts that log; deployed in blocks 1 and 2."""
    return await rpc.deploy(dev_keys[0], evm.LOGGER), await rpc.deploy(dev_keys[0], evm.LOGGER)


async def log(rpc: Rpc, sender: DevAccount, contract: str, value: int) -> dict[str, Any]:
    """Emit a log with this topic, in a block of its own."""
    call = {"from": hexed(sender.address), "to": contract, "data": hexed(evm.word(value) + evm.word(value))}
    receipt = await rpc.mined(await rpc("eth_sendTransaction", call))
    (found,) = receipt["logs"]
    return found  # type: ignore[no-any-return]


async def test_logs_by_everything(rpc: Rpc, dev_keys: list[DevAccount], loggers: tuple[str, str]) -> None:
    a, b = loggers
    first, second, third = [await log(rpc, dev_keys[0], *pair) for pair in ((a, 1), (b, 1), (a, 2))]

    async def query(**wanted: Any) -> list[Any]:
        return await rpc("eth_getLogs", {"fromBlock": "0x0", **wanted})  # type: ignore[no-any-return]

    assert await query() == [first, second, third]
    assert await query(address=a) == [first, third]
    assert await query(address=[a, b]) == [first, second, third]
    assert await query(address=[]) == [first, second, third]
    assert await query(topics=[topic(1)]) == [first, second]
    assert await query(topics=[[topic(1), topic(2)]]) == [first, second, third]
    assert await query(topics=[[]]) == [first, second, third]
    assert await query(topics=[None]) == [first, second, third]
    assert await query(topics=[None, topic(1)]) == []
    assert await query(address=b, topics=[topic(2)]) == []
    assert await query(fromBlock="0x4") == [second, third]
    assert await query(toBlock="0x3") == [first]
    assert await query(fromBlock="0x4", toBlock="0x4") == [second]
    assert await query(toBlock="0xffffff") == [first, second, third]
    assert await query(fromBlock="0xffff", toBlock="0xffffff") == []
    assert await query(fromBlock="0xffff") == []
    assert await rpc("eth_getLogs", {}) == [third]
    assert await rpc("eth_getLogs", {"blockHash": second["blockHash"]}) == [second]
    assert await rpc("eth_getLogs", {"blockHash": second["blockHash"], "address": a}) == []


@pytest.mark.parametrize(
    ("wanted", "code", "words"),
    [
        (
            {"fromBlock": "0x5", "toBlock": "0x4"},
            -32602,
            "invalid block range params: from block 5 is after to block 4",
        ),
        ({"blockHash": UNKNOWN}, -32000, "unknown block"),
        (
            {"blockHash": UNKNOWN, "toBlock": "0x1"},
            -32602,
            "invalid argument 0: cannot specify both BlockHash",
        ),
        ({"address": "0x12"}, -32602, "invalid argument 0: hex string has length 2, want 40 for address"),
        ({"topics": ["0x12"]}, -32602, "invalid argument 0: hex string has length 2, want 64 for hash"),
        ({"topics": [None] * 5}, -32602, "invalid argument 0: exceed max topics"),
        ({"topics": "all"}, -32602, "invalid argument 0: "),
        ([], -32602, "invalid argument 0: "),
        (None, -32602, "missing value for required argument 0"),
    ],
)
async def test_bad_queries(rpc: Rpc, wanted: Any, code: int, words: str) -> None:
    failure = await rpc.failure("eth_getLogs", wanted)
    assert failure.code == code
    assert failure.message.startswith(words)


async def test_limits_of_queries(
    serve: Serve, rpc: Rpc, chain: Chain, dev_keys: list[DevAccount], loggers: tuple[str, str]
) -> None:
    for _ in range(3):
        await log(rpc, dev_keys[0], loggers[0], 1)
    async with serve(max_logs=2, max_log_blocks=3) as server:
        limited = Rpc(server.http_url, rpc.http, chain)
        assert len(await limited("eth_getLogs", {"fromBlock": "0x2", "toBlock": "0x4"})) == 2
        failure = await limited.failure("eth_getLogs", {"fromBlock": "0x3", "toBlock": "0x5"})
        assert failure.code == -32005
        assert failure.message.startswith("query returned more than 2 results")
        failure = await limited.failure("eth_getLogs", {"fromBlock": "0x2", "toBlock": "0x5"})
        assert failure.code == -32005
        assert failure.message.startswith("block range too large: 4 blocks, at most 3")


# ---------------------------------------------------------------- polled filters


async def test_log_filter(rpc: Rpc, dev_keys: list[DevAccount], loggers: tuple[str, str]) -> None:
    a, b = loggers
    old = await log(rpc, dev_keys[0], a, 1)
    name = await rpc("eth_newFilter", {"fromBlock": "0x0", "address": a, "topics": [[topic(1), topic(3)]]})
    assert await rpc("eth_getFilterChanges", name) == []
    new = await log(rpc, dev_keys[0], a, 1)
    await log(rpc, dev_keys[0], a, 2)
    await log(rpc, dev_keys[0], b, 1)
    newer = await log(rpc, dev_keys[0], a, 3)
    assert await rpc("eth_getFilterChanges", name) == [new, newer]
    assert await rpc("eth_getFilterChanges", name) == []
    assert await rpc("eth_getFilterLogs", name) == [old, new, newer]


async def test_filter_with_a_last_block(
    rpc: Rpc, dev_keys: list[DevAccount], loggers: tuple[str, str]
) -> None:
    name = await rpc("eth_newFilter", {"fromBlock": "0x4", "toBlock": "0x4"})
    logs = [await log(rpc, dev_keys[0], loggers[0], 1) for _ in range(3)]
    assert await rpc("eth_getFilterChanges", name) == [logs[1]]


async def test_filter_sees_what_is_taken_back(
    rpc: Rpc, chain: Chain, dev_keys: list[DevAccount], loggers: tuple[str, str]
) -> None:
    name = await rpc("eth_newFilter", {})
    before = chain.head.hash
    found = await log(rpc, dev_keys[0], loggers[0], 1)
    await chain.revert_to(before)
    assert await rpc("eth_getFilterChanges", name) == [found, found | {"removed": True}]


async def test_block_filter(rpc: Rpc, chain: Chain) -> None:
    await chain.mine()
    name = await rpc("eth_newBlockFilter")
    mined = [hexed((await chain.mine()).hash) for _ in range(3)]
    assert await rpc("eth_getFilterChanges", name) == mined
    assert await rpc("eth_getFilterChanges", name) == []


async def test_pending_filter(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    name = await rpc("eth_newPendingTransactionFilter")
    sent = [await rpc("eth_sendRawTransaction", hexed(evm.signed(dev_keys[0], nonce))) for nonce in range(2)]
    assert await rpc("eth_getFilterChanges", name) == sent
    assert await rpc("eth_getFilterChanges", name) == []


async def test_uninstall(rpc: Rpc) -> None:
    name = await rpc("eth_newBlockFilter")
    assert await rpc("eth_uninstallFilter", name) is True
    assert await rpc("eth_uninstallFilter", name) is False
    failure = await rpc.failure("eth_getFilterChanges", name)
    assert (failure.code, failure.message) == (-32000, "filter not found")


@pytest.mark.parametrize("method", ["eth_getFilterChanges", "eth_getFilterLogs"])
async def test_unknown_filter(rpc: Rpc, method: str) -> None:
    assert (await rpc.failure(method, "0x1")).message == "filter not found"
    assert (await rpc.failure(method, 1)).code == -32602


async def test_only_log_filters_have_logs(rpc: Rpc) -> None:
    assert (
        await rpc.failure("eth_getFilterLogs", await rpc("eth_newBlockFilter"))
    ).message == "filter not found"


async def test_filters_expire(server: RpcServer, rpc: Rpc) -> None:
    now = 0.0
    server._filters._now = lambda: now
    kept, left = await rpc("eth_newBlockFilter"), await rpc("eth_newBlockFilter")
    now = 299.0
    await rpc("eth_getFilterChanges", kept)
    now = 300.0
    assert (await rpc.failure("eth_getFilterChanges", left)).message == "filter not found"
    assert await rpc("eth_getFilterChanges", kept) == []
    assert len(server._filters) == 1


async def test_too_many_filters(serve: Serve, http: httpx.AsyncClient, chain: Chain) -> None:
    async with serve(max_filters=2, max_total_filters=3) as server:
        rpc = Rpc(server.http_url, http, chain)
        first = await rpc("eth_newBlockFilter")
        await rpc("eth_newBlockFilter")
        failure = await rpc.failure("eth_newFilter", {})
        assert (failure.code, failure.message) == (-32005, "too many filters: at most 2; uninstall some")
        async with connect(server.websocket_url, proxy=None) as socket:
            client = Ws(socket)
            await client("eth_newBlockFilter")
            await rpc("eth_uninstallFilter", first)
            await rpc("eth_newBlockFilter")
            with pytest.raises(Exception, match="too many filters on this node"):
                await client("eth_newBlockFilter")


async def test_filter_that_is_far_behind(server: RpcServer, rpc: Rpc, chain: Chain) -> None:
    server._feed.heads = Journal(2)
    name = await rpc("eth_newBlockFilter")
    mined = [hexed((await chain.mine()).hash) for _ in range(2)]
    assert await rpc("eth_getFilterChanges", name) == mined
    for _ in range(3):
        await chain.mine()
    failure = await rpc.failure("eth_getFilterChanges", name)
    assert failure.message.startswith("filter not found: it was not polled for too long")
    assert (await rpc.failure("eth_getFilterChanges", name)).message == "filter not found"


def test_journal() -> None:
    journal: Journal[int] = Journal(3)
    assert journal.since(0) == []
    for entry in range(5):
        journal.append(entry)
    assert journal.end == 5
    assert journal.since(5) == []
    assert journal.since(4) == [4]
    assert journal.since(2) == [2, 3, 4]
    assert journal.since(1) is None
