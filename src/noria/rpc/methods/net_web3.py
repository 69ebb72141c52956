"""``net_*``, ``web3_*`` and ``rpc_*``: the node itself."""

from __future__ import annotations

from typing import Any, Final

from noria._core import keccak256
from noria.rpc.context import Context
from noria.rpc.openrpc import describe
from noria.rpc.params import BOOLEAN, HASH, QUANTITY, TEXT, DataArg, an_object
from noria.rpc.registry import Registry

registry: Final = Registry()


@registry.method("net_version", TEXT)
def version(context: Context) -> str:
    """Return the chain identifier in decimal."""
    return str(context.node.engine.chain_id)


@registry.method("net_listening", BOOLEAN)
def listening(context: Context) -> bool:
    """Return true: whoever reads the answer has reached the node."""
    return True


@registry.method("net_peerCount", QUANTITY)
def peer_count(context: Context) -> str:
    """Return the number of connected peers."""
    view = context.node.consensus
    return hex(view.peer_count() if view else 0)


@registry.method("web3_clientVersion", TEXT)
def client_version(context: Context) -> str:
    """Return the name and version of this node."""
    return context.node.version


@registry.method("web3_sha3", HASH)
def sha3(context: Context, data: DataArg) -> str:
    """Return the Keccak-256 hash of the given bytes."""
    return "0x" + keccak256(data).hex()


@registry.method("rpc_discover", an_object("OpenRPC document"))
def discover(context: Context) -> dict[str, Any]:
    """Return the OpenRPC description of this server."""
    return describe(context.node.registry, context.node.version)


@registry.method("rpc_modules", an_object("Namespaces"))
def modules(context: Context) -> dict[str, str]:
    """Return the namespaces of this server and their versions."""
    return dict.fromkeys(sorted({method.name.partition("_")[0] for method in context.node.registry}), "1.0")
