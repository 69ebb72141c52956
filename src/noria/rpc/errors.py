"""JSON-RPC errors: codes and words as geth gives them, and what an engine's refusal becomes."""

from __future__ import annotations

from typing import Any, Final

from noria.execution.reverts import revert_reason

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
SERVER_ERROR: Final = -32000
TIMED_OUT: Final = -32002
RESPONSE_TOO_LARGE: Final = -32003
LIMIT_EXCEEDED: Final = -32005
EXECUTION_REVERTED: Final = 3


class RpcError(Exception):
    """An error that a client is told: ``code``, ``message`` and optional JSON ``data``."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class ParamError(ValueError):
    """One argument has a value that its type does not allow; the dispatcher adds which argument it was."""


def parse_error(reason: str) -> RpcError:
    """Return the error for text that is not JSON (-32700)."""
    return RpcError(PARSE_ERROR, f"parse error: {reason}")


def invalid_request(reason: str) -> RpcError:
    """Return the error for JSON that is not a JSON-RPC 2.0 request (-32600)."""
    return RpcError(INVALID_REQUEST, reason)


def method_not_found(name: str) -> RpcError:
    """Return the error for a method that this node does not have (-32601)."""
    shown = name if len(name) <= 64 else name[:64] + "…"
    return RpcError(METHOD_NOT_FOUND, f"the method {shown} does not exist/is not available")


def invalid_params(reason: str) -> RpcError:
    """Return the error for arguments of the wrong number, type or value (-32602)."""
    return RpcError(INVALID_PARAMS, reason)


def server_error(reason: str) -> RpcError:
    """Return the error for a request that the chain refuses (-32000)."""
    return RpcError(SERVER_ERROR, reason)


def limit_exceeded(reason: str) -> RpcError:
    """Return the error for a request of more than this node gives at once (-32005)."""
    return RpcError(LIMIT_EXCEEDED, reason)


def internal_error() -> RpcError:
    """Return the error for our own failure (-32603); the log has the details, the client gets none."""
    return RpcError(INTERNAL_ERROR, "internal error")


def timed_out() -> RpcError:
    """Return the error for a request that took longer than `noria.rpc.RpcConfig.request_seconds` (-32002)."""
    return RpcError(TIMED_OUT, "request timed out")


def response_too_large() -> RpcError:
    """Return the error for an answer above `noria.rpc.RpcConfig.max_response_bytes` (-32003)."""
    return RpcError(RESPONSE_TOO_LARGE, "response too large")


def reverted(output: bytes) -> RpcError:
    """Return the error of an execution that reverted (3): the reason in words, the output as data."""
    reason = revert_reason(output)
    message = f"execution reverted: {reason}" if reason is not None else "execution reverted"
    return RpcError(EXECUTION_REVERTED, message, "0x" + output.hex())
