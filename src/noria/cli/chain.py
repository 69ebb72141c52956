"""``noria chain``: a chain that a node has stored."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from noria.cli.errors import BadArgument
from noria.cli.help import examples
from noria.cli.network import DEFAULT_FOLDER

if TYPE_CHECKING:
    from noria.node.verify import Verified

app = typer.Typer(help="A chain that a node has stored.", no_args_is_help=True)
EXAMPLES: Final = examples(
    "noria chain verify --data-dir ./node", "noria chain verify --dir ./noria-network --block 12"
)
TOLD_EVERY_SECONDS: Final = 2.0


@app.callback()
def chain() -> None:
    """Look at a chain that a node has stored."""


@app.command("verify", epilog=EXAMPLES)
def verify(
    block: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stop at this height, and run the certificate of this block alone.",
            show_default=False,
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of a node; it may be running.", show_default=False)
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Folder of a network: its first node.", show_default=False)
    ] = None,
    programs: Annotated[
        Path | None, typer.Option(help="Folder of pinned modules.", show_default=False)
    ] = None,
) -> None:
    """Replay a chain from genesis: check every root and signature, and run the work of certificates again."""
    import asyncio

    from noria.node.logs import configure_logging

    if data_dir is not None and folder is not None:
        raise BadArgument("--data-dir and --dir both name a folder: give one")
    configure_logging("error")
    asyncio.run(_verify(data_dir or _first_node(folder), block, [programs] if programs else []))


def _first_node(folder: Path | None) -> Path:
    from noria.node.devnet.layout import has_network, load_network

    if folder is None and not has_network(DEFAULT_FOLDER):
        raise BadArgument("say which chain: --data-dir FOLDER of a node, or --dir FOLDER of a network")
    network = load_network((folder or DEFAULT_FOLDER).absolute())
    return network.node_folder(network.nodes[0])


async def _verify(data_dir: Path, block: int | None, programs: list[Path]) -> None:
    from noria.node.verify import NothingToVerify, verify_chain

    begun = told = time.monotonic()
    blocks = runs = fuel = certificates = 0
    last: Verified | None = None
    async for found in verify_chain(data_dir, height=block, programs=programs):
        last, blocks = found, blocks + 1
        certificates += found.block.certificate is not None
        if found.outcome is not None:
            runs, fuel = runs + 1, fuel + found.outcome.fuel
        if time.monotonic() - told > TOLD_EVERY_SECONDS:
            told = time.monotonic()
            typer.echo(f"block {found.stored.height}, slot {found.stored.slot}", err=True)
    if last is None:
        raise NothingToVerify(f"{data_dir} holds genesis alone: there is nothing to verify yet")
    if block is not None:
        print(_describe(last))
    print(
        f"{blocks} blocks from genesis to height {last.stored.height} are right:"
        " roots, signatures, proofs, votes\n"
        f"{certificates} of them show work; {runs} certificates were run again"
        f" ({fuel:,} fuel) and are right\n"
        f"it took {time.monotonic() - begun:.1f} s"
    )


def _describe(found: Verified) -> str:
    """Tell what a block is and what its certificate has shown."""
    stored, header, certificate = found.stored, found.block.header, found.block.certificate
    rows = {
        "block": str(stored.height),
        "slot": str(stored.slot),
        "root": "0x" + stored.root.hex(),
        "payload": "0x" + stored.payload.hex(),
        "state root": f"0x{found.state_root.hex()}, executed again",
        "proposer": "0x" + header.proposer.hex(),
        "final": "yes" if stored.final else "not yet",
    }
    if certificate is None:
        rows["certificate"] = "none is needed: the draw fell on the proposer's grant"
    else:
        receipt, outcome = certificate.proof.receipt, found.outcome
        assert outcome is not None
        rows |= {
            "program": "0x" + certificate.program.hex(),
            "input": "0x" + certificate.input_id.hex(),
            "work of": f"job {receipt.job}, place {receipt.k}, receipt {receipt.index}"
            if receipt.job
            else "genesis",
            "unit": f"0x{receipt.unit_id.hex()}",
            "output": "0x" + receipt.output_id.hex(),
            "receipt says": f"{receipt.status.name.lower()}, {receipt.fuel:,} fuel",
            "run again": f"{len(outcome.output)} bytes of output, {outcome.fuel:,} fuel: the same",
        }
    return "\n".join(f"{name:<13} {text}" for name, text in rows.items())
