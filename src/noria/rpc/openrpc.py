"""The OpenRPC description of the server, made from what is registered."""

from __future__ import annotations

from typing import Any, Final

from noria.rpc import errors
from noria.rpc.registry import Method, Registry

_OPENRPC: Final = "1.3.2"
_ERRORS: Final = {
    errors.INVALID_PARAMS: "an argument is missing, superfluous or of the wrong kind",
    errors.SERVER_ERROR: "the chain refuses the request; the message says why",
    errors.TIMED_OUT: "request timed out",
    errors.RESPONSE_TOO_LARGE: "response too large",
    errors.LIMIT_EXCEEDED: "more than this node gives at once",
    errors.INTERNAL_ERROR: "internal error",
}
_REVERTED: Final = "execution reverted; data holds the returned bytes"
_EXECUTING: Final = ("eth_call", "eth_estimateGas", "eth_sendTransaction")


def describe(registry: Registry, version: str) -> dict[str, Any]:
    """Return the OpenRPC document of all registered methods, in the order of their names."""
    return {
        "openrpc": _OPENRPC,
        "info": {
            "title": "Noria JSON-RPC",
            "description": "Ethereum JSON-RPC of a Noria node",
            "version": version,
        },
        "methods": [_method(method) for method in sorted(registry, key=lambda method: method.name)],
    }


def _method(method: Method) -> dict[str, Any]:
    known = dict(_ERRORS)
    if method.name in _EXECUTING:
        known[errors.EXECUTION_REVERTED] = _REVERTED
    return {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "by-position",
        "params": [
            {"name": param.name, "required": param.required, "schema": param.codec.schema}
            for param in method.params
        ],
        "result": {"name": "result", "schema": method.result},
        "errors": [{"code": code, "message": words} for code, words in sorted(known.items())],
    }
