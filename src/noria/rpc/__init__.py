"""Ethereum JSON-RPC over HTTP and WebSocket."""

from noria.rpc.backend import Backend, DevAccounts, FinalityTags
from noria.rpc.config import InvalidRpcConfig, RpcConfig
from noria.rpc.server import CannotListen, RpcServer

__all__ = [
    "Backend",
    "CannotListen",
    "DevAccounts",
    "FinalityTags",
    "InvalidRpcConfig",
    "RpcConfig",
    "RpcServer",
]
