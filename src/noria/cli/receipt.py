"""``noria receipt``: what shows, without a node, that miners ran a unit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noria.cli.help import examples
from noria.cli.node_access import JsonOption

if TYPE_CHECKING:
    from noria.client.receipt_files import CheckedFile

app = typer.Typer(help="Receipts of units, checked offline.", no_args_is_help=True)


@app.callback()
def receipt() -> None:
    """Receipts of units that miners have run, checked offline."""


@app.command(
    "verify", epilog=examples("noria receipt verify receipt.json", "noria receipt verify *.json --json")
)
def verify(
    files: Annotated[list[Path], typer.Argument(help="Receipts, as `future.receipt.save` writes them.")],
    json_output: JsonOption = False,
) -> None:
    """Check everything that receipts say: names, signatures, seals, paths to approved batches.

    It needs no node. It shows who signed that the unit ended so; that this is *right* is shown by running it
    again, or by several miners who say the same. At the first file that does not hold the exit code is 1.
    """
    from noria.client.receipt_files import verify_receipt_file

    for file in files:
        checked = verify_receipt_file(file)
        if json_output:
            print(json.dumps({"file": str(file), **described(checked)}))
        else:
            print(f"{file}: holds")
            for line in _lines(checked):
                print(f"  {line}")


def described(checked: CheckedFile) -> dict[str, Any]:
    """Say in plain values what a receipt file shows."""
    from noria.primitives.addresses import checksum_address

    return {
        "valid": True,
        "function": checked.function,
        "genesis_root": "0x" + checked.genesis_root.hex(),
        "job": checked.job,
        "unit": "0x" + checked.unit_id.hex(),
        "program": "0x" + checked.program.hex(),
        "input_id": "0x" + checked.input_id.hex(),
        "fuel_limit": checked.fuel_limit,
        "status": checked.status.name.lower(),
        "output_id": "0x" + checked.output_id.hex(),
        "fuel": checked.fuel,
        "own_run": checked.own_run,
        "miners": [
            {
                "miner": checksum_address(replica.miner),
                "k": replica.k,
                "index": replica.index,
                "price_wei": str(replica.price),
                "sealed": replica.is_sealed,
                "batch": None if replica.batch_root is None else "0x" + replica.batch_root.hex(),
            }
            for replica in checked.replicas
        ],
    }


def _lines(checked: CheckedFile) -> list[str]:
    from noria.work.results import printable

    called = f"a call of {checked.function}, as the requester says" if checked.function else ""
    where = f"job {checked.job} on the chain 0x{checked.genesis_root.hex()}"
    return [printable(line) for line in (where, called, *checked.lines()) if line]
