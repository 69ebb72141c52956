"""A real server on a free port over a real chain, and clients for it."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from noria._core import Engine
from noria.chain.service import Chain
from noria.execution.accounts import DevAccount
from noria.execution.spec import ChainSpec
from noria.rpc import Backend, DevAccounts, RpcConfig, RpcServer
from tests.rpc import evm

WAIT_SECONDS: Final = 20.0


class RpcFailure(Exception):
    """The server answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: Any = error.get("data")


@dataclass
class Rpc:
    """Calls over HTTP."""

    url: str
    http: httpx.AsyncClient
    chain: Chain
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    async def post(self, content: bytes | str, **headers: str) -> httpx.Response:
        """Send a body as it is."""
        return await self.http.post(
            self.url, content=content, headers={"content-type": "application/json", **headers}
        )

    async def __call__(self, method: str, *params: Any) -> Any:
        """Call a method and return its result; raise `RpcFailure`."""
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        response = await self.post(json.dumps(request))
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["id"] == request["id"]
        if "error" in answer:
            raise RpcFailure(answer["error"])
        return answer["result"]

    async def failure(self, method: str, *params: Any) -> RpcFailure:
        """Call a method that must fail and return how."""
        with pytest.raises(RpcFailure) as caught:
            await self(method, *params)
        return caught.value

    async def batch(self, *requests: tuple[Any, ...]) -> list[Any]:
        """Send calls as one batch and return results or errors in order."""
        body = [
            {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
            for id, (method, *params) in enumerate(requests)
        ]
        answers = (await self.post(json.dumps(body))).json()
        assert [answer["id"] for answer in answers] == list(range(len(requests)))
        return [answer.get("result", answer.get("error")) for answer in answers]

    async def mined(self, transaction_hash: str) -> dict[str, Any]:
        """Wait until a transaction is mined and return its receipt."""
        await self.chain.wait_for_transaction(bytes.fromhex(transaction_hash[2:]), WAIT_SECONDS)
        receipt: dict[str, Any] = await self("eth_getTransactionReceipt", transaction_hash)
        return receipt

    async def deploy(self, account: DevAccount, runtime: bytes) -> str:
        """Deploy a contract from an unlocked account and return its address."""
        data = "0x" + evm.init_code(runtime).hex()
        receipt = await self.mined(
            await self("eth_sendTransaction", {"from": hexed(account.address), "data": data})
        )
        assert receipt["status"] == "0x1"
        address: str = receipt["contractAddress"]
        return address


@dataclass
class Ws:
    """Calls and notifications over one WebSocket connection."""

    socket: ClientConnection
    notifications: list[dict[str, Any]] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    async def __call__(self, method: str, *params: Any) -> Any:
        """Call a method; notifications that come before the answer are kept."""
        id = next(self._ids)
        await self.socket.send(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
        while True:
            message = json.loads(await self.socket.recv())
            if message.get("id") == id:
                break
            self.notifications.append(message)
        if "error" in message:
            raise RpcFailure(message["error"])
        return message["result"]

    async def next(self, subscription: str) -> Any:
        """Return the next result of a subscription."""
        while True:
            for place, message in enumerate(self.notifications):
                if message["params"]["subscription"] == subscription:
                    assert message["method"] == "eth_subscription"
                    return self.notifications.pop(place)["params"]["result"]
            self.notifications.append(json.loads(await self.socket.recv()))


def hexed(data: bytes) -> str:
    """0x and hex digits."""
    return "0x" + data.hex()


Serve = Callable[..., AbstractAsyncContextManager[RpcServer]]


@pytest.fixture
async def chain(engine: Engine, spec: ChainSpec) -> AsyncIterator[Chain]:
    """A development chain that mines at once."""
    async with Chain(engine, spec) as running:
        yield running


@pytest.fixture
def backend(chain: Chain, dev_keys: list[DevAccount]) -> Backend:
    """A development node."""
    accounts = DevAccounts({account.address: account.private_key for account in dev_keys})
    return Backend(chain, "noria/test", accounts)


@pytest.fixture
def serve(backend: Backend) -> Serve:
    """Start a server with chosen settings."""

    @asynccontextmanager
    async def serving(node: Backend = backend, **settings: Any) -> AsyncIterator[RpcServer]:
        config = RpcConfig(**({"port": 0, "shutdown_seconds": 1} | settings))
        async with RpcServer(node, config) as server:
            yield server

    return serving


@pytest.fixture
async def server(serve: Serve) -> AsyncIterator[RpcServer]:
    """A server with the usual settings."""
    async with serve() as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client."""
    async with httpx.AsyncClient(timeout=WAIT_SECONDS, trust_env=False) as client:
        yield client


@pytest.fixture
def rpc(server: RpcServer, http: httpx.AsyncClient, chain: Chain) -> Rpc:
    """Calls to the usual server."""
    return Rpc(server.http_url, http, chain)


@pytest.fixture
async def ws(server: RpcServer) -> AsyncIterator[Ws]:
    """A WebSocket connection to the usual server."""
    async with connect(server.websocket_url, open_timeout=WAIT_SECONDS, proxy=None) as socket:
        yield Ws(socket)
