"""The life of an RPC server: listening, serving, shutting down."""

from __future__ import annotations

import asyncio
import errno
import math
import socket
import time
from types import TracebackType
from typing import Final, Self

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from noria.rpc.app import RpcApp
from noria.rpc.backend import Backend
from noria.rpc.config import LOCAL_HOSTS, RpcConfig
from noria.rpc.context import Services
from noria.rpc.dispatch import Dispatcher
from noria.rpc.feed import ChainFeed
from noria.rpc.filters import Filters
from noria.rpc.http_protocol import BoundedHttpProtocol, bounded
from noria.rpc.methods import registry_for
from noria.rpc.origins import HostGate
from noria.rpc.registry import Registry
from noria.rpc.workers import Workers

_BACKLOG: Final = 1_024
_WILDCARDS: Final = ("0.0.0.0", "::", "")


class CannotListen(OSError):
    """The address cannot be listened on; the message says why and what to do."""


class RpcServer:
    """JSON-RPC over HTTP and WebSocket on one port, in the running event loop.

    An asynchronous context manager: it listens inside the ``with`` block. Run the loop with uvloop for speed.

    Parameters
    ----------
    backend
        The node to serve.
    config
        Address and limits.
    registry
        The methods; by default all that the backend supports.

    Examples
    --------
    >>> async def serve(backend: Backend) -> None:
    ...     async with RpcServer(backend, RpcConfig(port=0)) as server:
    ...         print(server.http_url)
    """

    def __init__(
        self, backend: Backend, config: RpcConfig | None = None, registry: Registry | None = None
    ) -> None:
        self._config = config or RpcConfig()
        methods = registry or registry_for(
            development=backend.accounts is not None, consensus=backend.consensus is not None
        )
        self._feed = ChainFeed(backend.chain)
        self._workers = Workers(self._config.workers, self._config.max_waiting_jobs)
        self._filters = Filters(
            self._config.max_filters,
            self._config.max_total_filters,
            self._config.filter_idle_seconds,
            time.monotonic,
        )
        services = Services.of(backend, self._config, self._workers, self._feed, self._filters, methods)
        dispatcher = Dispatcher(
            methods, self._config.max_batch, self._config.max_response_bytes, self._config.request_seconds
        )
        self._app = _guarded(RpcApp(services, dispatcher), self._config)
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._socket is None:
            raise RuntimeError("the RPC server is not running")
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def http_url(self) -> str:
        """URL for HTTP."""
        return f"http://{self._shown_host()}:{self.port}"

    @property
    def websocket_url(self) -> str:
        """URL for WebSocket."""
        return f"ws://{self._shown_host()}:{self.port}"

    async def start(self) -> None:
        """Listen and serve until `stop`.

        Raises
        ------
        CannotListen
            If the port is taken, the address is not ours, or listening there is not allowed.
        """
        self._socket = _listen(self._config.host, self._config.port)
        # Not `serve`: that one would take over the process's signals.
        self._server = uvicorn.Server(self._uvicorn_config())
        self._server.config.load()
        self._server.lifespan = self._server.config.lifespan_class(self._server.config)
        self._workers.start()
        self._feed.start()
        await self._server.startup(sockets=[self._socket])
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._server.main_loop(), name="rpc-ticks"),
            loop.create_task(self._sweep(), name="rpc-sweep"),
        ]

    async def stop(self) -> None:
        """Stop listening, let requests in progress finish within the time limit, end all connections."""
        if self._server is None or self._socket is None:
            return
        server, listener = self._server, self._socket
        self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._end_connections(server)
        listener.close()
        await self._feed.stop()
        await self._workers.stop(self._config.shutdown_seconds)
        self._socket = None

    async def _end_connections(self, server: uvicorn.Server) -> None:
        # As `uvicorn.Server.shutdown`, which polls where one can wait.
        for listening in server.servers:
            listening.close()
        state = server.server_state
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            _, late = await asyncio.wait(list(state.tasks), timeout=self._config.shutdown_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for connection in list(state.connections):
            connection.transport.abort()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    def _uvicorn_config(self) -> uvicorn.Config:
        config = self._config
        return uvicorn.Config(
            self._app,
            interface="asgi3",
            http=bounded(config.max_header_bytes, config.max_body_bytes),  # type: ignore[arg-type] # any factory of protocols will do
            ws="websockets-sansio",
            ws_max_size=config.max_websocket_message_bytes,
            # Compression would let a small message grow in memory, and costs more than it saves.
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            # uvicorn's lower levels tell of clients' mistakes; our own failures are logged in dispatch.
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            # uvicorn refuses at its limit, not beyond it.
            limit_concurrency=config.max_connections + 1,
            timeout_keep_alive=math.ceil(config.idle_connection_seconds),
        )

    async def _sweep(self) -> None:
        """End connections that do not get on, and filters that nobody polls."""
        limit = self._config.header_seconds
        while self._server is not None:
            await asyncio.sleep(min(limit / 2, 5.0))
            self._filters.expire()
            for connection in list(self._server.server_state.connections if self._server else ()):
                if isinstance(connection, BoundedHttpProtocol) and connection.is_stuck(limit):
                    connection.transport.abort()

    def _shown_host(self) -> str:
        host = self._config.host
        return "127.0.0.1" if host in _WILDCARDS else _in_url(host)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _guarded(app: ASGIApp, config: RpcConfig) -> ASGIApp:
    """Wrap the application in the checks that are configured; the host check always is."""
    guarded: ASGIApp = app
    if config.cors_origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["content-type"],
        )
    if "*" in config.allowed_hosts:
        return guarded
    own = () if config.host in _WILDCARDS else (_in_url(config.host),)
    return HostGate(guarded, {*LOCAL_HOSTS, *own, *config.allowed_hosts})


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: "the port is taken by another program; choose another one, or 0 for any",
            errno.EACCES: "this user may not listen there; choose a port above 1023",
            errno.EADDRNOTAVAIL: "this machine has no such address",
        }
        reason = reasons.get(error.errno or 0, error.strerror or str(error))
        raise CannotListen(error.errno, f"cannot listen on {host}:{port}: {reason}") from error
    listener.setblocking(False)
    return listener
