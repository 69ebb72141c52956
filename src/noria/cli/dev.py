"""``noria dev``: a development chain in this process, served over JSON-RPC until it is told to stop."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from noria.cli.errors import BadArgument
from noria.cli.help import examples

if TYPE_CHECKING:
    from noria.chain.events import HeadEvent
    from noria.node.dev import DevConfig, DevNode
    from noria.rpc.config import RpcConfig
    from noria.rpc.server import RpcServer

LARGEST_CHAIN_ID: Final = 2**63 - 37
TRANSACTIONS_SHOWN: Final = 16
"""Transactions of one block that the log lists; of larger blocks it gives the number alone."""
EXAMPLES: Final = examples(
    "noria dev",
    "noria dev --port 0 --block-time 2",
    "noria dev --data-dir ./chain --accounts 3",
)


def dev(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port for HTTP and WebSocket; 0 takes any.")
    ] = 8545,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    block_time: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Make a block at this pace; without it, as soon as transactions are pending.",
            show_default=False,
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Keep the chain in this folder; without it, it is gone when the node stops.",
            show_default=False,
        ),
    ] = None,
    accounts: Annotated[
        int, typer.Option(min=0, max=1000, help="Number of funded accounts.", show_default="10")
    ] = 10,
    mnemonic: Annotated[
        str | None,
        typer.Option(
            help="BIP-39 words for the accounts; everybody on this machine can read them.",
            show_default="test test … junk",
        ),
    ] = None,
    chain_id: Annotated[
        int | None,
        typer.Option(min=1, max=LARGEST_CHAIN_ID, help="EIP-155 chain id.", show_default="5132114"),
    ] = None,
    gas_limit: Annotated[
        int | None,
        typer.Option(min=1_000_000, max=2**63 - 1, help="Gas limit of a block.", show_default="36000000"),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="Web origin whose pages may call, or *; may be repeated.", metavar="ORIGIN"),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Host name that requests may name beside local ones; may be repeated.", metavar="NAME"
        ),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the ready line and errors only.")
    ] = False,
) -> None:
    """Run a development chain with funded accounts, served over HTTP and WebSocket.

    It is ready when it prints `Listening on http://…`. Ctrl-C stops it. The private keys that it prints are
    known to everybody: they are for development alone.
    """
    from noria.execution.accounts import DEV_MNEMONIC
    from noria.node.dev import DevConfig
    from noria.node.errors import InvalidConfiguration
    from noria.node.logs import configure_logging
    from noria.rpc.config import RpcConfig

    try:
        configure_logging("error" if quiet else log_level)
        node = DevConfig(
            data_dir=data_dir,
            accounts=accounts,
            block_time_seconds=block_time,
            chain_id=chain_id,
            gas_limit=gas_limit,
            mnemonic=mnemonic or DEV_MNEMONIC,
        )
        server = RpcConfig(
            host=host,
            port=port,
            cors_origins=tuple(cors_origin or ()),
            allowed_hosts=tuple(allowed_host or ()),
        )
    except (InvalidConfiguration, ValueError) as error:
        raise BadArgument(str(error)) from None

    import uvloop

    uvloop.run(_serve(node, server, quiet))


async def _serve(node_config: DevConfig, rpc_config: RpcConfig, quiet: bool) -> None:
    import asyncio

    from noria.node.dev import DevNode
    from noria.rpc.backend import Backend, DevAccounts
    from noria.rpc.server import RpcServer

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with DevNode(node_config) as node:
        keys = {bytes(account.address): account.private_key for account in node.accounts}
        backend = Backend(node.chain, client_version(), DevAccounts(keys))
        async with RpcServer(backend, rpc_config) as server:
            if not quiet:
                _introduce(node, server, rpc_config.host)
            print(f"Listening on {server.http_url}", flush=True)
            watcher = None if quiet else loop.create_task(_log_blocks(node), name="block-log")
            await stop.wait()
            # A second Ctrl-C does not wait for an orderly end.
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            if watcher is not None:
                watcher.cancel()


def client_version() -> str:
    """Return what a node calls itself."""
    import platform
    from importlib.metadata import version

    return f"noria/v{version('noria')}/{platform.system().lower()}/python{platform.python_version()}"


def _introduce(node: DevNode, server: RpcServer, host: str) -> None:
    """Print what a user needs to connect."""
    from noria.primitives.addresses import checksum_address
    from noria.primitives.amounts import format_amount
    from noria.rpc.config import LOCAL_HOSTS

    head = node.chain.head
    lines = ["Accounts, with the funds that they have at genesis", ""]
    for index, account in enumerate(node.accounts):
        funds = format_amount(node.spec.alloc[account.address].balance)
        lines.append(f"({index}) {checksum_address(account.address)}  {funds}")
    lines += ["", "Private keys. Everybody knows them: never send real money to these accounts", ""]
    lines += [f"({index}) 0x{account.private_key.hex()}" for index, account in enumerate(node.accounts)]
    kept = str(node.data_dir) if node.config.data_dir else "in a temporary folder, gone at the end"
    lines += [
        "",
        f"Chain id   {node.spec.chain_id}",
        f"HTTP       {server.http_url}",
        f"WebSocket  {server.websocket_url}",
        f"Gas limit  {node.spec.gas_limit}",
        f"Head       block {head.number}, 0x{head.hash.hex()}",
        f"Chain kept {kept}",
        "",
    ]
    if host not in LOCAL_HOSTS:
        lines += [f"{host} may be reached from other machines: whoever does can use these accounts", ""]
    print("\n".join(lines))


async def _log_blocks(node: DevNode) -> None:
    """Log every new head with its transactions, until cancelled."""
    from noria.primitives.subscriptions import SubscriptionClosed

    while True:
        async with node.chain.events.subscribe_heads() as heads:
            try:
                async for event in heads:
                    _log_event(node, event)
                return
            except SubscriptionClosed:
                # Blocks came faster than they could be logged: go on with the next one.
                continue


def _log_event(node: DevNode, event: HeadEvent) -> None:
    import structlog

    log = structlog.get_logger("noria.dev")
    if event.removed:
        log.info("blocks_removed", count=len(event.removed), head=event.head.number)
    for header in event.added:
        hashes = node.chain.engine.transaction_hashes(header.hash) or []
        log.info(
            "block",
            number=header.number,
            hash=header.hash,
            transactions=len(hashes),
            gas_used=header.gas_used,
            base_fee_wei=header.base_fee_per_gas,
        )
        if len(hashes) <= TRANSACTIONS_SHOWN:
            for index, transaction_hash in enumerate(hashes):
                log.info("transaction", block=header.number, index=index, hash=transaction_hash)
