"""A full node in the process of a test, with its RPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from noria.node.bls_keystore import write_keystore
from noria.node.config import NodeConfig
from noria.node.full import FullNode
from noria.node.view import NodeView
from noria.primitives.hexes import format_data
from noria.rpc.backend import Backend
from noria.rpc.config import RpcConfig
from noria.rpc.server import RpcServer
from tests.chain.drawn import address, key
from tests.work.modules import SPIN

PASSWORD = "a password"


@asynccontextmanager
async def served(config: NodeConfig) -> AsyncIterator[tuple[FullNode, str]]:
    """A node with its RPC, as `noria node` puts them together; the RPC's URL."""
    async with FullNode(config, "noria/0") as node:
        backend = Backend(node.execution, node.version, consensus=NodeView(node))
        async with RpcServer(backend, RpcConfig(port=0)) as server:
            yield node, server.http_url


def drawn_miner(folder: Path, data_dir: Path, *, spec: Path | None = None) -> NodeConfig:
    """How to run the first miner of a drawn chain alone; what it needs is put into a folder."""
    modules, password, keystore = folder / "modules", folder / "password", folder / "miner.key.json"
    modules.mkdir()
    (modules / "spin.wasm").write_bytes(SPIN)
    password.write_text(f"{PASSWORD}\n")
    write_keystore(keystore, key(0), PASSWORD, rounds=100)
    return NodeConfig(
        data_dir=data_dir,
        spec=spec,
        programs=modules,
        listen=("/ip4/127.0.0.1/tcp/0",),
        miner_keystore=keystore,
        miner_address=format_data(address(0)),
        password_file=password,
    )
