"""``noria mine``: one command that makes what is missing, joins a network, runs others' work, and is paid."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from noria.cli.errors import BadArgument
from noria.cli.help import examples
from noria.cli.mine_folder import DEFAULT_FOLDER
from noria.cli.node_access import JsonOption, money
from noria.cli.registration import CAPACITY_MAX

if TYPE_CHECKING:
    from noria.cli.mine_folder import Identity, MineFolder
    from noria.cli.mine_network import Place
    from noria.cli.mine_report import Teller
    from noria.cli.mine_steps import Options
    from noria.node.config import NodeConfig

EXAMPLES: Final = examples(
    "noria mine",
    "noria mine --ask '2 gwei' --cores 4 --dir ./my-miner",
    "noria mine --spec chain.json --bootstrap /ip4/192.0.2.1/tcp/30400/p2p/12D3KooW…",
)
LOCAL_LISTEN: Final = "/ip4/127.0.0.1/tcp/0"
CORES_MAX: Final = 256


def mine(
    ask: Annotated[
        str | None,
        typer.Option(
            help="Least price of a fuel, like '2 gwei'.",
            metavar="AMOUNT",
            show_default="what the chain counts in full",
        ),
    ] = None,
    capacity: Annotated[
        str | None,
        typer.Option(
            help="Fuel per epoch for which you stand ready, like 2e11: the more, the oftener you are drawn.",
            metavar="FUEL",
            show_default="what the cores can do and the bond covers",
        ),
    ] = None,
    cores: Annotated[
        int,
        typer.Option(min=0, max=CORES_MAX, help="Units at once; 0: one per core, and one core for the node."),
    ] = 0,
    bond: Annotated[
        str | None,
        typer.Option(help="Bond of a new miner.", metavar="AMOUNT", show_default="the chain's least one"),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--dir", help="Folder of the miner: keys and node. Made if it is not there.")
    ] = DEFAULT_FOLDER,
    network: Annotated[
        Path | None,
        typer.Option(help="Folder of a network on this machine.", show_default="the one that runs"),
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(help="Specification of a chain elsewhere; needed once.", show_default=False),
    ] = None,
    bootstrap: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Peer of a chain elsewhere; may be repeated."),
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Where to listen for peers and requesters; may be repeated.",
            show_default="this machine alone on a local network, else /ip4/0.0.0.0/tcp/30400",
        ),
    ] = None,
    external: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Where others reach you, if elsewhere; may be repeated."),
    ] = None,
    rpc_port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the node's RPC; 0: any.")] = 0,
    summary_seconds: Annotated[
        float, typer.Option("--every", min=1, help="Seconds from one summary to the next.")
    ] = 30.0,
    log_level: Annotated[
        str, typer.Option(help="Of the node's log, which is a file in the folder.")
    ] = "info",
    json_output: JsonOption = False,
) -> None:
    """Mine: run other people's programs on this machine, be paid for it, and make blocks with that work.

    It makes keys and a folder for a node, joins the network, registers with a bond, and says what it does
    and earns. On a local network the bond comes from the faucet; elsewhere it says what must be sent where.
    Ctrl-C ends it in order; run again, it goes on as the same miner. `noria miner exit` takes the bond out.

    The password in the folder opens the keys: whoever reads both can take the money.
    """
    from noria.cli.mine_folder import MineFolder
    from noria.cli.mine_network import find_place
    from noria.cli.mine_report import Teller
    from noria.cli.mine_steps import Options
    from noria.cli.run import parse_fuel

    options = Options(
        ask=None if ask is None else money(ask, "--ask"),
        capacity=None if capacity is None else parse_fuel(capacity, "--capacity", CAPACITY_MAX),
        cores=cores or max(1, len(os.sched_getaffinity(0)) - 1),
        bond=None if bond is None else money(bond, "--bond"),
    )
    tell = Teller(as_json=json_output)
    with MineFolder(folder) as home:
        place = find_place(home, network, spec, bootstrap)
        identity = home.identity()
        config = _config(home, place, identity, options, listen, external, rpc_port, log_level)
        _introduce(home, place, identity, tell)

        import uvloop

        with home.open_log() as log:
            from noria.node.logs import configure_logging

            configure_logging(log_level, stream=log)
            uvloop.run(_serve(home, place, identity, options, config, tell, summary_seconds))


def _config(
    home: MineFolder,
    place: Place,
    identity: Identity,
    options: Options,
    listen: list[str] | None,
    external: list[str] | None,
    rpc_port: int,
    log_level: str,
) -> NodeConfig:
    from noria.node.config import NodeConfig
    from noria.node.errors import InvalidConfiguration
    from noria.primitives.addresses import checksum_address

    # Also where the local network that it knows is not in sight: nobody elsewhere has business with it.
    is_local = place.local is not None or (
        bool(place.bootstrap) and all(peer.startswith("/ip4/127.") for peer in place.bootstrap)
    )
    defaults = (LOCAL_LISTEN,) if is_local else NodeConfig().listen
    try:
        return NodeConfig(
            data_dir=home.node,
            spec=place.spec,
            listen=tuple(listen or defaults),
            external=tuple(external or ()),
            bootstrap=place.bootstrap,
            rpc_port=rpc_port,
            miner_keystore=home.key_file,
            miner_address=checksum_address(identity.account.address),
            password_file=home.password_file,
            miner_account_keystore=home.accounts,
            job_workers=options.cores,
            log_level=log_level,
        )
    except InvalidConfiguration as error:
        raise BadArgument(f"--{str(error).replace('_', '-', 1)}") from None


def _introduce(home: MineFolder, place: Place, identity: Identity, tell: Teller) -> None:
    from noria.primitives.addresses import checksum_address

    address = checksum_address(identity.account.address)
    what = "made a new miner" if identity.is_new else "this miner is"
    tell.say(
        "miner",
        f"{what}: {address}, in {home.path}",
        address=address,
        folder=str(home.path),
        new=identity.is_new,
    )
    tell.say("network", f"joining {place.chain.name}", chain=place.chain.name, peers=list(place.bootstrap))


async def _serve(
    home: MineFolder,
    place: Place,
    identity: Identity,
    options: Options,
    config: NodeConfig,
    tell: Teller,
    summary_seconds: float,
) -> None:
    import asyncio

    from noria.cli.dev import client_version
    from noria.cli.mine_folder import Settings
    from noria.cli.mine_steps import Mining
    from noria.node.full import FullNode
    from noria.node.market_access import NodeAccess
    from noria.node.view import NodeView
    from noria.rpc.backend import Backend
    from noria.rpc.config import RpcConfig
    from noria.rpc.server import RpcServer

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with FullNode(config, client_version()) as full:
        home.remember(Settings(place.chain.name, list(config.bootstrap)))
        backend = Backend(full.execution, full.version, consensus=NodeView(full))
        async with RpcServer(backend, RpcConfig(host=config.rpc_host, port=config.rpc_port)) as server:
            full.folder.write_address(
                rpc=server.http_url, addresses=full.transport.addresses, peer_id=full.transport.peer_id
            )
            tell.say("node", f"the node listens on {server.http_url}; its log is {home.path}/node.log",
                     rpc=server.http_url, peer=full.transport.peer_id)  # fmt: skip
            access = NodeAccess(full.chain, full.transport)
            mining = Mining(full, access, identity.account, identity.key, options, place, tell)
            task = loop.create_task(mining.run(summary_seconds))
            stopping = loop.create_task(stop.wait())
            await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            # A second Ctrl-C does not wait for an orderly end.
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            if not task.done():
                tell.say("ending", "ending; what is owed is kept for the next start")
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
    text, values = mining.farewell()
    tell.say("ended", text, **values)
