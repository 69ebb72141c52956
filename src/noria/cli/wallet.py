"""``noria wallet``: the account that pays for jobs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noria.cli.help import examples
from noria.cli.node_access import JsonOption, NodeOption, account, connected, money

if TYPE_CHECKING:
    from noria.primitives.types import Address, Wei

app = typer.Typer(help="The account that pays for jobs.", no_args_is_help=True)

AddressArgument = Annotated[
    str | None, typer.Argument(help="Another account.", metavar="ADDRESS", show_default="the wallet's")
]


@app.callback()
def wallet() -> None:
    """Show and fill the account that pays for jobs.

    It is made at its first use and kept encrypted in your data folder.

    `NORIA_WALLET` names another folder, `NORIA_PASSWORD_FILE` a file with a password of your own.
    """


@app.command("new", epilog=examples("noria wallet new", "NORIA_WALLET=./wallet noria wallet new"))
def new(json_output: JsonOption = False) -> None:
    """Make a wallet, and print its address. There is one for each folder, and none is ever overwritten."""
    from noria.client.wallet import new_wallet

    made = new_wallet()
    if json_output:
        print(json.dumps({"address": str(made), "key_file": str(made.path)}))
        return
    print(made)
    typer.echo(f"key file: {made.path}", err=True)


@app.command("address", epilog=examples("noria wallet address"))
def address(json_output: JsonOption = False) -> None:
    """Print the wallet's address; make the wallet if there is none."""
    from noria.client.wallet import open_wallet

    opened = open_wallet()
    print(json.dumps({"address": str(opened), "key_file": str(opened.path)}) if json_output else opened)


@app.command(
    "balance",
    epilog=examples("noria wallet balance", "noria wallet balance 0x… --node http://127.0.0.1:8545"),
)
def balance(owner: AddressArgument = None, node: NodeOption = None, json_output: JsonOption = False) -> None:
    """Print what an account has. Budgets of jobs that run are not in it: see `noria job list`."""
    from noria.client.wallet import open_wallet
    from noria.primitives.addresses import checksum_address
    from noria.primitives.amounts import format_amount

    who = open_wallet().address if owner is None else account(owner, "ADDRESS")
    wei = asyncio.run(_balance(node, who))
    if json_output:
        print(json.dumps({"address": checksum_address(who), "balance": format_amount(wei), "wei": str(wei)}))
    else:
        print(format_amount(wei))


@app.command(
    "faucet", epilog=examples("noria wallet faucet", "noria wallet faucet --amount '5 NOR' --to 0x…")
)
def faucet(
    amount: Annotated[str, typer.Option(help="How much.", metavar="AMOUNT")] = "100 NOR",
    to: Annotated[
        str | None, typer.Option("--to", help="Who gets it.", metavar="ADDRESS", show_default="the wallet")
    ] = None,
    node: NodeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Get money on a local network, whose development accounts have plenty; elsewhere there is none."""
    from noria.client.wallet import open_wallet

    wei = money(amount, "--amount")
    receiver = open_wallet().address if to is None else account(to, "--to")
    answer = asyncio.run(_faucet(node, receiver, wei))
    if json_output:
        print(json.dumps(answer))
    else:
        print(f"{answer['address']} got {answer['amount']} in block {answer['block']}: {answer['balance']}")


async def _balance(node: str | None, owner: Address) -> Wei:
    async with connected(node) as access:
        return await access.balance(owner)


async def _faucet(node: str | None, receiver: Address, amount: Wei) -> dict[str, Any]:
    from noria.client.wallet import faucet as give
    from noria.primitives.addresses import checksum_address
    from noria.primitives.amounts import format_amount

    async with connected(node) as access:
        result = await give(access, receiver, amount)
        left = await access.balance(receiver)
    return {
        "address": checksum_address(receiver),
        "amount": format_amount(amount),
        "transaction": "0x" + result.transaction.hex(),
        "block": result.block_number,
        "balance": format_amount(left),
        "wei": str(left),
    }
