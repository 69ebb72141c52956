"""The server over HTTP: what it accepts, what it refuses, how it starts and stops."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import httpx
import pytest

from noria.chain.service import Chain
from noria.rpc import Backend, CannotListen, InvalidRpcConfig, RpcConfig, RpcServer
from tests.rpc.conftest import WAIT_SECONDS, Rpc, Serve

NOBODY = "0x" + "99" * 20
CHAIN_ID = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []})


async def test_call(rpc: Rpc) -> None:
    response = await rpc.post(CHAIN_ID)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"jsonrpc": "2.0", "id": 1, "result": "0x4e4f52"}


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json-rpc"]
)
async def test_content_types(rpc: Rpc, content_type: str) -> None:
    response = await rpc.http.post(rpc.url, content=CHAIN_ID, headers={"content-type": content_type})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"]
)
async def test_other_content_type(rpc: Rpc, content_type: str) -> None:
    response = await rpc.http.post(rpc.url, content=CHAIN_ID, headers={"content-type": content_type})
    assert response.status_code == 415
    assert response.json()["error"]["message"] == "invalid content type, only application/json is supported"


async def test_notification_gets_an_empty_body(rpc: Rpc) -> None:
    response = await rpc.post('{"jsonrpc":"2.0","method":"eth_chainId"}')
    assert (response.status_code, response.content) == (200, b"")


async def test_bad_json_is_an_rpc_error(rpc: Rpc) -> None:
    response = await rpc.post("{")
    assert response.status_code == 200
    assert response.json()["error"]["code"] == -32700


async def test_empty_body(rpc: Rpc) -> None:
    assert (await rpc.post(b"")).json()["error"]["code"] == -32700


async def test_health_check(rpc: Rpc) -> None:
    response = await rpc.http.get(rpc.url)
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/", 405),
        ("DELETE", "/", 405),
        ("OPTIONS", "/", 405),
        ("POST", "/else", 404),
        ("GET", "/else", 404),
    ],
)
async def test_other_requests(rpc: Rpc, method: str, path: str, status: int) -> None:
    response = await rpc.http.request(method, rpc.url + path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == -32600


async def test_connection_is_kept(rpc: Rpc) -> None:
    for _ in range(3):
        response = await rpc.post(CHAIN_ID)
        assert "connection" not in response.headers


# ---------------------------------------------------------------- hosts and origins


@pytest.mark.parametrize("host", ["localhost", "localhost:8545", "127.0.0.1:1", "[::1]:8545", "LOCALHOST"])
async def test_local_hosts(rpc: Rpc, host: str) -> None:
    for _ in range(2):
        assert (await rpc.post(CHAIN_ID, host=host)).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8545", "192.168.0.9"]
)
async def test_other_hosts_are_refused(rpc: Rpc, host: str) -> None:
    for _ in range(2):
        assert (await rpc.post(CHAIN_ID, host=host)).status_code == 400


async def test_configured_hosts(serve: Serve, http: httpx.AsyncClient, chain: Chain) -> None:
    async with serve(allowed_hosts=("node.example", "*.nodes.example")) as server:
        rpc = Rpc(server.http_url, http, chain)
        statuses = {
            host: (await rpc.post(CHAIN_ID, host=host)).status_code
            for host in ("localhost", "node.example:80", "a.nodes.example", "other.example")
        }
    assert statuses == {
        "localhost": 200,
        "node.example:80": 200,
        "a.nodes.example": 200,
        "other.example": 400,
    }


async def test_all_hosts_if_configured(serve: Serve, http: httpx.AsyncClient, chain: Chain) -> None:
    async with serve(allowed_hosts=("*",)) as server:
        assert (await Rpc(server.http_url, http, chain).post(CHAIN_ID, host="any.example")).status_code == 200


async def test_no_origin_may_read_by_default(rpc: Rpc) -> None:
    response = await rpc.post(CHAIN_ID, origin="https://page.example")
    assert "access-control-allow-origin" not in response.headers


async def test_configured_origins(serve: Serve, http: httpx.AsyncClient, chain: Chain) -> None:
    async with serve(cors_origins=("https://page.example",)) as server:
        rpc = Rpc(server.http_url, http, chain)
        allowed = await rpc.post(CHAIN_ID, origin="https://page.example")
        other = await rpc.post(CHAIN_ID, origin="https://other.example")
        asked = await http.options(
            rpc.url,
            headers={
                "origin": "https://page.example",
                "access-control-request-method": "POST",
                "access-control-request-headers": "content-type",
            },
        )
    assert allowed.headers["access-control-allow-origin"] == "https://page.example"
    assert "access-control-allow-origin" not in other.headers
    assert asked.status_code == 200
    assert "POST" in asked.headers["access-control-allow-methods"]


# ---------------------------------------------------------------- limits


async def talk(server: RpcServer, *parts: bytes, stay: bool = False) -> bytes:
    """Send raw bytes and return all that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if not stay:
            writer.write_eof()
        async with asyncio.timeout(WAIT_SECONDS):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def head(length: int | None, *more: str) -> bytes:
    lines = ["POST / HTTP/1.1", "Host: localhost", "Content-Type: application/json", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_declared_body_too_large(serve: Serve) -> None:
    async with serve(max_body_bytes=1_000) as server:
        answer = await talk(server, head(1_001), stay=True)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == {
        "code": -32600,
        "message": "request body too large: at most 1000 bytes",
    }


async def test_body_of_just_the_limit(serve: Serve, http: httpx.AsyncClient, chain: Chain) -> None:
    async with serve(max_body_bytes=1_000) as server:
        rpc = Rpc(server.http_url, http, chain)
        assert (await rpc.post(CHAIN_ID.ljust(1_000))).json()["result"] == "0x4e4f52"
        assert (await rpc.post(CHAIN_ID.ljust(1_001))).status_code == 413


async def test_client_that_sends_all_before_it_reads(rpc: Rpc) -> None:
    response = await rpc.post(b" " * 15_000_000)
    assert response.status_code == 413


async def test_streamed_body_too_large(serve: Serve) -> None:
    chunk = b"200\r\n" + b" " * 512 + b"\r\n"
    async with serve(max_body_bytes=1_000) as server:
        answer = await talk(server, head(None, "Transfer-Encoding: chunked"), chunk, chunk, stay=True)
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_streamed_body(server: RpcServer) -> None:
    half, rest = CHAIN_ID[:20].encode(), CHAIN_ID[20:].encode()
    chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(half), half, len(rest), rest)
    answer = await talk(
        server, head(None, "Transfer-Encoding: chunked", "Connection: close"), chunks, stay=True
    )
    assert b'"result":"0x4e4f52"' in answer


async def test_large_body_within_the_limit(rpc: Rpc) -> None:
    response = await rpc.post(CHAIN_ID + " " * 9_000_000)
    assert response.json()["result"] == "0x4e4f52"


async def test_body_that_does_not_come(serve: Serve) -> None:
    async with serve(request_seconds=0.2) as server:
        answer = await talk(server, head(1_000), b'{"json', stay=True)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request timed out" in answer


async def test_head_that_does_not_come(serve: Serve) -> None:
    async with serve(header_seconds=0.2) as server:
        assert await talk(server, b"POST / HTTP/1.1\r\nHost: loc", stay=True) == b""
        assert await talk(server, stay=True) == b""


async def test_head_that_does_not_come_on_a_kept_connection(serve: Serve) -> None:
    body = CHAIN_ID.encode()
    async with serve(header_seconds=0.2) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head(len(body)) + body)
        await reader.readuntil(b'"0x4e4f52"}')
        writer.write(b"POST / HT")
        async with asyncio.timeout(WAIT_SECONDS):
            assert await reader.read() == b""
        writer.close()


async def test_head_too_large(serve: Serve) -> None:
    async with serve(max_header_bytes=2_000) as server:
        endless = await talk(server, b"POST / HTTP/1.1\r\nX: ", *[b"a" * 1_000] * 3, stay=True)
        assert endless.startswith(b"HTTP/1.1 431 ")
        lines = await talk(server, b"POST / HTTP/1.1\r\n", *[b"X: " + b"a" * 500 + b"\r\n"] * 5, stay=True)
        assert lines.startswith(b"HTTP/1.1 431 ")


async def test_endless_trailers(serve: Serve) -> None:
    body = b"1\r\n \r\n0\r\n"
    async with serve(max_body_bytes=1_000, max_header_bytes=1_000) as server:
        answer = await talk(
            server, head(None, "Transfer-Encoding: chunked"), body + b"X: ", *[b"a" * 1_000] * 20, stay=True
        )
    assert b"200 OK" not in answer


async def test_all_bodies_together(serve: Serve) -> None:
    async with serve(max_buffered_bytes=100_000) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head(90_000) + b" " * 80_000)
        await writer.drain()
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                answer = await talk(server, head(90_000), b" " * 40_000, stay=False)
                if answer.startswith(b"HTTP/1.1 503 "):
                    break
        writer.close()
    assert b"server busy" in answer
    reader.feed_eof()


async def test_long_answer(rpc: Rpc, serve: Serve, chain: Chain) -> None:
    # PUSH3 0x100000, PUSH0, RETURN: a MiB of zeros.
    call = ("eth_call", {"to": NOBODY}, "latest", {NOBODY: {"code": "0x621000005ff3"}})
    answers = await rpc.batch(*[call] * 5)
    assert [len(answer) for answer in answers] == [2 + 2 * 0x100000] * 5
    async with serve(max_response_bytes=5_000_000) as server:
        answers = await Rpc(server.http_url, rpc.http, chain).batch(*[call] * 5)
    assert [isinstance(answer, str) for answer in answers] == [True, True, False, False, False]
    assert {answer["code"] for answer in answers[2:]} == {-32003}


async def test_client_that_does_not_read_a_long_answer(
    serve: Serve, chain: Chain, http: httpx.AsyncClient
) -> None:
    params = [{"to": NOBODY}, "latest", {NOBODY: {"code": "0x624000005ff3"}}]
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": params}).encode()
    async with serve(request_seconds=2, header_seconds=0.5, max_buffered_bytes=12_000_000) as server:
        # A small buffer, or the kernel would take the whole answer in the client's place.
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        narrow.connect(("127.0.0.1", server.port))
        reader, writer = await asyncio.open_connection(sock=narrow, limit=2**10)
        writer.write(head(len(body)) + body)
        await reader.readuntil(b"\r\n\r\n")
        # A second one finds no room while the first one waits, and some once it is given up.
        rpc = Rpc(server.http_url, http, chain)
        assert (await rpc.post(body)).status_code == 503
        async with asyncio.timeout(WAIT_SECONDS):
            while (await rpc.post(body)).status_code != 200:
                pass
        writer.close()


async def test_too_many_connections(serve: Serve) -> None:
    body = CHAIN_ID.encode()
    async with serve(max_connections=3) as server:
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        answer = await talk(server, head(len(body)) + body, stay=True)
        for _, writer in idle:
            writer.close()
    assert answer.startswith(b"HTTP/1.1 503 ")


async def test_idle_connection_ends(serve: Serve) -> None:
    body = CHAIN_ID.encode()
    async with serve(idle_connection_seconds=1) as server:
        answer = await talk(server, head(len(body)) + body, stay=True)
    assert answer.endswith(b'"0x4e4f52"}')


async def test_pipelined_requests(server: RpcServer) -> None:
    body = CHAIN_ID.encode()
    last = head(len(body), "Connection: close") + body
    answer = await talk(server, (head(len(body)) + body) * 20 + last, stay=True)
    assert answer.count(b'"result":"0x4e4f52"') == 21


async def test_client_that_goes_away(server: RpcServer, rpc: Rpc) -> None:
    for part in (b"POST", head(1_000), head(1_000) + b"{"):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(part)
        await writer.drain()
        writer.transport.abort()
    assert await rpc("eth_chainId") == "0x4e4f52"


# ---------------------------------------------------------------- life


async def test_port_that_is_taken(serve: Serve) -> None:
    async with serve() as server:
        with pytest.raises(CannotListen, match=f"127.0.0.1:{server.port}: the port is taken"):
            async with serve(port=server.port):
                pass


async def test_address_that_is_not_ours(serve: Serve) -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on 203\.0\.113\.7"):
        async with serve(host="203.0.113.7"):
            pass


async def test_port_is_free_after_stop(serve: Serve) -> None:
    async with serve() as server:
        port = server.port
        assert server.http_url == f"http://127.0.0.1:{port}"
        assert server.websocket_url == f"ws://127.0.0.1:{port}"
    async with serve(port=port) as again:
        assert again.port == port


async def test_stop_twice_and_not_running(backend: Backend) -> None:
    server = RpcServer(backend, RpcConfig(port=0))
    await server.stop()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.port
    await server.start()
    await server.stop()
    await server.stop()


async def test_stop_does_not_wait_for_idle_clients(serve: Serve) -> None:
    async with serve(shutdown_seconds=30) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = CHAIN_ID.encode()
        writer.write(head(len(body)) + body)
        assert (await reader.readuntil(b"}")).endswith(b'"0x4e4f52"}')
        stopping = asyncio.create_task(server.stop())
        async with asyncio.timeout(WAIT_SECONDS):
            assert await reader.read() == b""
            await stopping
        writer.close()


async def test_stop_has_a_time_limit(serve: Serve) -> None:
    async with serve(shutdown_seconds=1) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head(1_000) + b"{")
        await writer.drain()
        async with asyncio.timeout(10):
            await server.stop()
        writer.close()


async def test_server_leaves_nothing_behind(serve: Serve, http: httpx.AsyncClient, chain: Chain) -> None:
    before = {task.get_name() for task in asyncio.all_tasks()}
    async with serve() as server:
        assert await Rpc(server.http_url, http, chain)("eth_chainId") == "0x4e4f52"
    await http.aclose()
    left = {task.get_name() for task in asyncio.all_tasks()} - before
    assert not {name for name in left if name.startswith("rpc")}
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server._config.port or 1)


async def test_ipv6(serve: Serve, http: httpx.AsyncClient, chain: Chain) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with serve(host="::1") as server:
        assert server.http_url == f"http://[::1]:{server.port}"
        assert await Rpc(server.http_url, http, chain)("eth_chainId") == "0x4e4f52"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"port": 65536}, "port is 65536"),
        ({"port": -1}, "port is -1"),
        ({"max_batch": 0}, "max_batch is 0; it must be positive"),
        ({"request_seconds": -1.0}, "request_seconds is -1.0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRpcConfig, match=words):
        RpcConfig(**settings)
