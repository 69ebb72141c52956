"""Random bytes and near-requests against a running server: it answers or hangs up, and goes on."""

from __future__ import annotations

import asyncio
import json
import random
import resource
from typing import Any, Final

import pytest
import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from noria.chain.service import Chain
from noria.rpc import RpcServer
from noria.rpc.methods import registry_for
from tests.rpc.conftest import WAIT_SECONDS, Rpc, Serve

METHODS: Final = sorted(method.name for method in registry_for(development=True))
WORDS: Final[list[Any]] = [
    None,
    True,
    0,
    -1,
    2**64,
    1.5,
    "",
    "0x",
    "0x0",
    "0x1",
    "0xffffffffffffffff",
    "latest",
    "earliest",
    "pending",
    "0x" + "11" * 20,
    "0x" + "ab" * 32,
    "0x" + "ff" * 33,
    "\x00",
    "é" * 50,
    [],
    {},
    [[]],
    [None],
    {"to": "0x" + "11" * 20},
    {"from": "0x" + "11" * 20, "gas": "0x0"},
    {"fromBlock": "0x0", "topics": [[]]},
    {"blockHash": "0x" + "ab" * 32},
    {"tracer": "callTracer"},
    {"blocks": 2},
]
SIGNED: Final = {
    "personal_sign",
    "eth_sign",
    "eth_signTypedData_v4",
    "eth_signTransaction",
    "eth_sendTransaction",
}
"""Left out of long runs: each loads or uses the signing library, which is slow."""


def peak_memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def send_raw(server: RpcServer, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(WAIT_SECONDS):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def mutated(random_source: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random_source.randint(1, 8)):
        place = random_source.randrange(len(changed) or 1)
        match random_source.randrange(3):
            case 0:
                changed[place : place + 1] = random_source.randbytes(1)
            case 1:
                del changed[place : place + random_source.randint(1, 5)]
            case _:
                changed[place:place] = random_source.randbytes(random_source.randint(1, 5))
    return bytes(changed)


@pytest.mark.parametrize("seed", range(4))
async def test_random_bytes_to_the_port(serve: Serve, chain: Chain, http: Any, seed: int) -> None:
    source = random.Random(seed)
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x%b","latest"]}' % (b"11" * 20)
    good = (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    ) + body
    upgrade = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with serve(request_seconds=0.5, header_seconds=0.5) as server:
        for _ in range(60):
            kind = source.randrange(4)
            if kind == 0:
                await send_raw(server, source.randbytes(source.randint(0, 3_000)))
            elif kind == 1:
                await send_raw(server, mutated(source, good))
            elif kind == 2:
                await send_raw(server, mutated(source, upgrade))
            else:
                await send_raw(server, upgrade + source.randbytes(source.randint(0, 500)))
        assert await Rpc(server.http_url, http, chain)("eth_chainId") == "0x4e4f52"


@pytest.mark.parametrize("seed", range(3))
async def test_random_calls(rpc: Rpc, seed: int) -> None:
    source = random.Random(seed)
    methods = [name for name in METHODS if name not in SIGNED]
    with structlog.testing.capture_logs() as logged:
        for _ in range(150):
            calls = [
                {
                    "jsonrpc": "2.0",
                    "id": id,
                    "method": source.choice(methods),
                    "params": [source.choice(WORDS) for _ in range(source.randrange(5))],
                }
                for id in range(source.randint(1, 5))
            ]
            answers = (await rpc.post(json.dumps(calls))).json()
            assert [answer["id"] for answer in answers] == list(range(len(calls)))
            for call, answer in zip(calls, answers, strict=True):
                assert ("result" in answer) != ("error" in answer)
                if "error" in answer:
                    # Whatever is sent, it is never our own failure.
                    assert answer["error"]["code"] != -32603, call
                    assert "Traceback" not in answer["error"]["message"]
    assert not [entry for entry in logged if entry["event"] == "rpc_method_failed"]


@pytest.mark.parametrize("method", sorted(SIGNED))
async def test_random_calls_that_sign(rpc: Rpc, method: str) -> None:
    seconds: list[Any] = [None, "0x12", {}, [[]]]
    for first in WORDS:
        for second in seconds:
            answer = (
                await rpc.post(
                    json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": [first, second]})
                )
            ).json()
            assert answer["error"]["code"] in (-32602, -32000)


@pytest.mark.parametrize("seed", range(3))
async def test_random_messages(server: RpcServer, rpc: Rpc, seed: int) -> None:
    source = random.Random(seed)
    call = b'{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x%b","latest"]}' % (b"11" * 20)
    async with connect(server.websocket_url, proxy=None) as socket:
        for _ in range(100):
            text = source.randrange(2) == 0
            data = mutated(source, call) if source.randrange(2) else source.randbytes(source.randint(0, 500))
            await socket.send(data.decode("utf-8", "replace") if text else data)
        await socket.send('{"jsonrpc":"2.0","id":"last","method":"eth_chainId"}')
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                answer = json.loads(await socket.recv())
                if isinstance(answer, dict) and answer.get("id") == "last":
                    break
    assert await rpc("eth_chainId") == "0x4e4f52"


async def test_text_frame_that_is_not_text(server: RpcServer, rpc: Rpc) -> None:
    async with connect(server.websocket_url, proxy=None) as socket:
        await socket.send(b"\xff\xfe", text=True)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1007
    assert await rpc("eth_chainId") == "0x4e4f52"


async def test_memory_stays_bounded(rpc: Rpc) -> None:
    """A hundred large hostile bodies, one after the other, leave no trace."""
    size = 4 * 1024 * 1024
    bodies = [
        b"[" * size,
        b'{"jsonrpc":"2.0","id":"' + b"x" * size + b'"',
        b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * size + b'"}',
        b'{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x'
        + b"ff" * (size // 2)
        + b'"]}',
        b"[" + b"1," * (size // 2) + b"1]",
        b'{"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{"topics":['
        + b"[]," * (size // 4)
        + b"[]]}]}",
    ]
    for body in bodies:
        await rpc.post(body)
    before = peak_memory_mib()
    for _ in range(15):
        for body in bodies:
            response = await rpc.post(body)
            assert len(response.content) < 10_000
    assert peak_memory_mib() - before < 64
