"""``noria node``: a full node of a network in this process, until it is told to stop."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from noria.cli.errors import BadArgument
from noria.cli.help import examples

if TYPE_CHECKING:
    from noria.node.config import NodeConfig, Setting
    from noria.rpc.config import RpcConfig

EXAMPLES: Final = examples(
    "noria node --spec chain.json --bootstrap /ip4/192.0.2.1/tcp/30400",
    "noria node --config node.toml",
    "noria node --data-dir ./node --rpc-port 0",
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="NORIA_CONFIG", help="TOML file with settings.", show_default=False),
]
DataDirOption = Annotated[
    Path | None, typer.Option(help="Folder of the node; made if it is not there.", show_default="noria-data")
]
SpecOption = Annotated[
    Path | None,
    typer.Option(help="Chain specification; needed once, in a new folder.", show_default=False),
]


def node(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    spec: SpecOption = None,
    bootstrap: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Peer like /ip4/192.0.2.1/tcp/30400; may be repeated."),
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Where to listen for peers; may be repeated.",
            show_default="/ip4/0.0.0.0/tcp/30400",
        ),
    ] = None,
    external: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Where others reach this node; may be repeated."),
    ] = None,
    mdns: Annotated[
        bool | None,
        typer.Option("--mdns/--no-mdns", help="Look for peers on the local network.", show_default="no"),
    ] = None,
    rpc_host: Annotated[
        str | None, typer.Option(help="Address of the RPC.", show_default="127.0.0.1")
    ] = None,
    rpc_port: Annotated[
        int | None, typer.Option(help="Port of the RPC; 0 takes any.", show_default="8545")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that run units again.", show_default="1")
    ] = None,
    miner_keystore: Annotated[
        Path | None, typer.Option(help="Key file (EIP-2335) of the miner; without it no blocks are made.")
    ] = None,
    miner_address: Annotated[str | None, typer.Option(help="The miner's account.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File whose first line opens the key file.")
    ] = None,
    miner_account_keystore: Annotated[
        Path | None,
        typer.Option(help="Folder with the account's key file; without it the miner takes no jobs."),
    ] = None,
    mine_jobs: Annotated[
        bool | None,
        typer.Option("--mine-jobs/--no-mine-jobs", help="Run units of jobs.", show_default="yes"),
    ] = None,
    job_workers: Annotated[
        int | None, typer.Option(help="Processes that run units of jobs.", show_default="one per core")
    ] = None,
    job_storage_mb: Annotated[
        int | None, typer.Option(help="MiB for what requesters put here.", show_default="4096")
    ] = None,
    fee_recipient: Annotated[
        str | None, typer.Option(help="Who gets tips and rewards.", show_default="the miner")
    ] = None,
    programs: Annotated[Path | None, typer.Option(help="Folder of pinned modules.")] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error.", show_default="info")
    ] = None,
    log_json: Annotated[
        bool | None,
        typer.Option("--log-json/--log-text", help="One JSON object per line.", show_default="text"),
    ] = None,
) -> None:
    """Run a full node: it joins a network, follows its chain, and mines if it has a miner's key.

    Settings come from flags, `NORIA_…` variables and the file, in this order; `noria config show` lists them.
    It is ready when it prints `Listening on http://…`. Ctrl-C stops it.
    """
    given = {name: value for name, value in locals().items() if name != "config"}
    settings, _ = load(config, given)
    from noria.node.logs import configure_logging
    from noria.rpc.config import InvalidRpcConfig, RpcConfig

    configure_logging(settings.log_level, json=settings.log_json)
    try:
        server = RpcConfig(
            host=settings.rpc_host,
            port=settings.rpc_port,
            cors_origins=settings.cors_origins,
            allowed_hosts=settings.allowed_hosts,
        )
    except InvalidRpcConfig as error:
        raise BadArgument(str(error)) from None

    import uvloop

    uvloop.run(_serve(settings, server))


def load(config: Path | None, flags: dict[str, Any]) -> tuple[NodeConfig, list[Setting]]:
    """Join file, environment and flags; raise `BadArgument`."""
    import os

    from noria.node.config import load_config
    from noria.node.errors import InvalidConfiguration

    try:
        return load_config(config, os.environ, flags)
    except InvalidConfiguration as error:
        raise BadArgument(str(error)) from None


async def _serve(config: NodeConfig, server_config: RpcConfig) -> None:
    import asyncio

    from noria.cli.dev import client_version
    from noria.node.full import FullNode
    from noria.node.view import NodeView
    from noria.rpc.backend import Backend
    from noria.rpc.server import RpcServer

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    full = FullNode(config, client_version())
    # A reload that comes early must not end the process.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    async with full:
        loop.add_signal_handler(signal.SIGHUP, full.apply_blocked)
        backend = Backend(full.execution, full.version, consensus=NodeView(full))
        async with RpcServer(backend, server_config) as server:
            full.folder.write_address(
                rpc=server.http_url, addresses=full.transport.addresses, peer_id=full.transport.peer_id
            )
            print(f"Listening on {server.http_url}", flush=True)
            await stop.wait()
            # A second Ctrl-C does not wait for an orderly end.
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
