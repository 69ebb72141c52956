"""What the RPC server listens on and the limits that it puts on its clients."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Final

MIB: Final = 1024 * 1024

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")
"""Host names that a request may always name; any other must be configured (DNS rebinding)."""


class InvalidRpcConfig(ValueError):
    """A setting of the RPC server has a value that cannot work; the message names it."""


def _default_workers() -> int:
    return max(2, min(8, os.cpu_count() or 2))


@dataclass(frozen=True, slots=True)
class RpcConfig:
    """Settings of one RPC server. Every limit is per request, connection or server, as its name says.

    Raises
    ------
    InvalidRpcConfig
        If a limit is not positive, or the port is not 0..65535.
    """

    host: str = "127.0.0.1"
    port: int = 8545
    """0 takes any free port; `noria.rpc.RpcServer.port` tells which."""
    cors_origins: tuple[str, ...] = ()
    """Web origins whose pages may call, ``("*",)`` for all; none by default."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names accepted beside the local ones; ``*.example.org`` and ``*`` are understood."""

    max_body_bytes: int = 10 * MIB
    max_buffered_bytes: int = 256 * MIB
    """HTTP bodies that are still arriving and long answers that are still leaving, all together."""
    max_response_bytes: int = 25 * MIB
    max_websocket_message_bytes: int = 10 * MIB
    max_batch: int = 1_000
    max_header_bytes: int = 64 * 1024
    request_seconds: float = 30.0
    """Time for one HTTP request or WebSocket message, a whole batch included."""
    header_seconds: float = 10.0
    """Time for a client to send a request's head."""
    idle_connection_seconds: float = 30.0
    shutdown_seconds: float = 5.0

    max_connections: int = 1_024
    max_websockets: int = 256
    max_websocket_calls: int = 32
    """Messages of one WebSocket connection that are worked on at a time; further ones wait unread."""
    max_outbox_bytes: int = 32 * MIB
    """Unread bytes that a WebSocket client may leave with us before it is disconnected."""
    max_subscriptions: int = 128
    """Per WebSocket connection."""
    max_filters: int = 128
    """Per WebSocket connection, or per client address over HTTP."""
    max_total_filters: int = 4_096
    filter_idle_seconds: float = 300.0
    max_waiting_jobs: int = 4_096
    """Calls that wait for a worker thread; beyond it a call is refused as ``server busy``."""

    max_log_blocks: int = 100_000
    """Blocks that one ``eth_getLogs`` may span."""
    max_logs: int = 10_000
    max_fee_history_blocks: int = 1_024
    call_gas_cap: int = 50_000_000
    """Gas of ``eth_call``, ``eth_estimateGas`` and traces, whatever the request asks for."""
    workers: int = field(default_factory=_default_workers)
    """Threads for calls that take longer than the event loop may be held."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InvalidRpcConfig(f"port is {self.port}; use 0 for any free port, or 1 to 65535")
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name != "port" and isinstance(value, int | float) and value <= 0:
                raise InvalidRpcConfig(f"{item.name} is {value}; it must be positive")
