"""``noria network``: a network of real node processes on this machine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from noria.cli.errors import BadArgument, CommandError
from noria.cli.help import examples

if TYPE_CHECKING:
    from noria.node.devnet.layout import Network, NodeEntry

app = typer.Typer(help="A network of real node processes on this machine.", no_args_is_help=True)
DEFAULT_FOLDER: Final = Path("noria-network")
WAIT_SECONDS: Final = 180.0
ASK_SECONDS: Final = 1.0
LOG_BYTES: Final = 256 * 1024


class Until(StrEnum):
    """What `noria network up` waits for."""

    NOTHING = "nothing"
    BLOCKS = "blocks"
    FINALITY = "finality"


DirOption = Annotated[Path, typer.Option("--dir", help="Folder of the network.")]


@app.command(
    "up", epilog=examples("noria network up --nodes 4", "noria network up --dir ./net --until finality")
)
def up(
    nodes: Annotated[int, typer.Option(help="Nodes of a new network, each with a miner.")] = 4,
    folder: DirOption = DEFAULT_FOLDER,
    units: Annotated[int, typer.Option(help="Units of genesis work that are run for each miner.")] = 64,
    until: Annotated[
        Until, typer.Option(help="Wait until all nodes have a block, until they finalise, or for nothing.")
    ] = Until.BLOCKS,
    wait_seconds: Annotated[float, typer.Option(help="How long to wait.", min=1)] = WAIT_SECONDS,
) -> None:
    """Make a network and start its nodes; in a folder that has one, start those that do not run.

    For a new network keys are made and units of real work are run for each miner, with which the chain
    begins. The nodes go on when the command has ended, until `noria network down`.
    """
    from noria.node.devnet.layout import has_network, load_network
    from noria.node.devnet.making import Plan, make_network
    from noria.node.devnet.processes import Nursery

    with Nursery() as nursery:
        if has_network(folder):
            network = load_network(folder.absolute())
            _say(f"{folder} holds a network of {len(network.nodes)} nodes")
        else:
            plan = Plan(nodes=nodes, units=units)
            network = make_network(folder, plan, lambda what, share: _say(f"making {what}"))
        nursery.start(network, network.nodes)
    for node in network.nodes:
        _say(f"{node.name} runs; RPC {node.rpc_url}, log {network.log(node)}")
    _point_to(network.folder)
    if until is not Until.NOTHING:
        _await(network, until, wait_seconds)
    _say(
        "\nuse it:\n"
        "  from noria import Executor             # as ProcessPoolExecutor, but on the miners' machines\n"
        "  noria job run script.py --map FILE     # main(...) once for each line of JSON\n"
        "  noria mine                             # join it, run others' work, and be paid\n"
        f"see `noria network status --dir {folder}`; end it with `noria network down --dir {folder}`"
    )


@app.command("status", epilog=examples("noria network status", "noria network status --json"))
def status(
    folder: DirOption = DEFAULT_FOLDER,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print where each node stands."""
    network = _load(folder)
    rows = [node_status(network, node) for node in network.nodes]
    if json_output:
        print(json.dumps({"nodes": rows}, indent=2))
        return
    print(f"{'node':<9} {'slot':>6} {'height':>6}  {'head':<12} {'justified':>9} {'final':>6} {'peers':>5}  ")
    for row in rows:
        if not row["running"]:
            print(f"{row['name']:<9} does not run")
        elif row["head_root"] is None:
            print(f"{row['name']:<9} {row['problem']}")
        else:
            print(
                f"{row['name']:<9} {row['head_slot']:>6} {row['head_height']:>6}  {row['head_root'][:12]}"
                f" {row['justified_epoch']:>9} {row['finalized_epoch']:>6} {row['peers']:>5}  {row['rpc']}"
            )


@app.command("down", epilog=examples("noria network down", "noria network down --remove"))
def down(
    folder: DirOption = DEFAULT_FOLDER,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the folder with everything in it.")
    ] = False,
) -> None:
    """End all nodes; when this returns none runs."""
    import shutil

    from noria.client.local_network import pointed_folder, pointer_file
    from noria.node.devnet.processes import stop_nodes

    network = _load(folder)
    killed = stop_nodes(network, network.nodes)
    for name in killed:
        _say(f"{name} did not end in time and was killed")
    _say(f"no node of {folder} runs")
    if remove:
        shutil.rmtree(network.folder)
        if pointed_folder() == network.folder:
            pointer_file().unlink(missing_ok=True)


@app.command("logs", epilog=examples("noria network logs", "noria network logs node-2 --lines 50"))
def logs(
    name: Annotated[str | None, typer.Argument(help="Node; all if left out.", show_default=False)] = None,
    folder: DirOption = DEFAULT_FOLDER,
    lines: Annotated[int, typer.Option(help="Lines of each log, the last ones.", min=1)] = 20,
) -> None:
    """Print the ends of logs."""
    network = _load(folder)
    for node in [network.node(name)] if name else network.nodes:
        path = network.log(node)
        print(f"==> {path}")
        if path.exists():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - LOG_BYTES))
                for line in file.read().decode(errors="replace").splitlines()[-lines:]:
                    print(line)


@app.command("kill-node", epilog=examples("noria network kill-node node-2"))
def kill_node(
    name: Annotated[str, typer.Argument(help="Node.")],
    folder: DirOption = DEFAULT_FOLDER,
) -> None:
    """End a node without warning (kill -9); `noria network up` starts it again."""
    from noria.node.devnet.processes import kill_node as kill

    network = _load(folder)
    node = network.node(name)
    kill(network, node)
    _say(f"{node.name} is dead; start it again with `noria network up --dir {folder}`")


@app.command(
    "partition",
    epilog=examples(
        "noria network partition 1,2 3,4", "noria network partition 1,2,3 4", "noria network partition --heal"
    ),
)
def partition(
    groups: Annotated[
        list[str] | None,
        typer.Argument(help="Nodes that still talk to each other, like 1,2", show_default=False),
    ] = None,
    folder: DirOption = DEFAULT_FOLDER,
    heal: Annotated[bool, typer.Option("--heal", help="Let all talk to all again.")] = False,
) -> None:
    """Cut the network into groups that do not talk to each other, or mend it.

    Each node reads from `blocked-peers` in its folder whom it must not talk to; it closes those connections
    and makes no new ones, until it is told otherwise.
    """
    from noria.node.devnet.processes import partition as cut

    network = _load(folder)
    if bool(groups) == heal:
        raise BadArgument("say which nodes stay together, like `1,2 3,4`, or --heal")
    chosen = [[network.node(name.strip()) for name in group.split(",")] for group in groups or []]
    everybody = [node for group in chosen for node in group]
    if groups and sorted(node.name for node in everybody) != sorted(node.name for node in network.nodes):
        raise BadArgument(
            "each node must be in exactly one group: " + ", ".join(n.name for n in network.nodes)
        )
    cut(network, chosen)
    _say("all talk to all" if heal else " | ".join(", ".join(n.name for n in group) for group in chosen))


# ---------------------------------------------------------------- what nodes say


def node_status(network: Network, node: NodeEntry) -> dict[str, Any]:
    """Ask a node where it stands; what cannot be told is null."""
    from noria.cli.endpoint import Endpoint
    from noria.node.devnet.processes import running

    pid = running(network, node)
    row: dict[str, Any] = {
        "name": node.name,
        "running": pid is not None,
        "pid": pid,
        "rpc": node.rpc_url,
        "head_slot": None,
        "head_root": None,
        "head_height": None,
        "justified_epoch": None,
        "finalized_epoch": None,
        "finalized_root": None,
        "peers": None,
        "slot": None,
        "blocks_made": None,
        "problem": None,
    }
    if pid is None:
        return row | {"problem": "it does not run"}
    try:
        found = Endpoint(node.rpc_url).call("noria_status")
    except CommandError as error:
        return row | {"problem": f"its RPC does not answer yet: {error}"}
    return row | {
        "head_slot": found["headSlot"],
        "head_root": found["headRoot"],
        "head_height": found["headHeight"],
        "justified_epoch": found["justified"]["epoch"],
        "finalized_epoch": found["finalised"]["epoch"],
        "finalized_root": found["finalised"]["root"],
        "peers": found["peers"],
        "slot": found["slot"],
        "blocks_made": (found["miner"] or {}).get("blocks"),
    }


def _await(network: Network, until: Until, wait_seconds: float) -> None:
    """Wait until every node is so far, and say meanwhile what is waited for."""
    end = time.monotonic() + wait_seconds
    said = ""
    while True:
        rows = [node_status(network, node) for node in network.nodes]
        waiting = _waits_for(network, rows, until)
        if waiting is None:
            if until is Until.FINALITY:
                epoch = min(row["finalized_epoch"] for row in rows)
                _say(f"all {len(rows)} nodes have finalised epoch {epoch}")
            else:
                _say(f"all {len(rows)} nodes have block {min(row['head_height'] for row in rows)}")
            return
        ended = [row["name"] for row in rows if not row["running"]]
        if ended:
            raise CommandError(
                f"{', '.join(ended)} has ended: see `noria network logs {ended[0]} --dir {network.folder}`"
            )
        if waiting != said:
            _say(f"waiting: {waiting}")
            said = waiting
        if time.monotonic() >= end:
            raise CommandError(f"not ready after {wait_seconds:g} s: {waiting}; the nodes run on")
        time.sleep(ASK_SECONDS)


def _waits_for(network: Network, rows: Sequence[dict[str, Any]], until: Until) -> str | None:
    from noria.execution.spec import ChainSpec

    for row in rows:
        if row["head_root"] is None:
            return f"{row['name']}: {row['problem']}"
    for row in rows:
        if row["peers"] == 0 and len(rows) > 1:
            return f"{row['name']} has no peers"
    begins = ChainSpec.load(network.spec).timestamp - time.time()
    if begins > 0:
        return f"genesis, at {time.strftime('%H:%M:%S', time.localtime(time.time() + begins))}"
    behind = min(rows, key=lambda row: (row["finalized_epoch"], row["justified_epoch"], row["head_height"]))
    if behind["finalized_epoch"] > 0:
        return None
    lowest = min(rows, key=lambda row: row["head_height"])
    if lowest["head_height"] == 0:
        return f"{lowest['name']} has no block yet"
    if until is Until.BLOCKS:
        return None
    if behind["justified_epoch"] == 0:
        return (
            f"{behind['name']} has nothing justified yet (blocks are there, two epochs of votes are needed)"
        )
    return f"{behind['name']} has justified epoch {behind['justified_epoch']}, nothing is final yet"


def _point_to(folder: Path) -> None:
    """Note the folder, so that other commands find the network from anywhere."""
    from noria.client.local_network import pointer_file

    file = pointer_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.{os.getpid()}")
        partial.write_text(f"{folder}\n")
        partial.replace(file)
    except OSError as error:
        _say(f"other folders will not find the network by themselves: {file}: {error.strerror}")


def _load(folder: Path) -> Network:
    from noria.node.devnet.layout import load_network

    return load_network(folder.absolute())


def _say(text: str) -> None:
    typer.echo(text, err=True)
