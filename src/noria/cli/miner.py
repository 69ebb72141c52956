"""``noria miner``: a miner's key, its registration, its bond."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from noria.cli.endpoint import DEFAULT_URL, Endpoint, parse_quantity
from noria.cli.errors import BadArgument, CommandError
from noria.cli.help import examples
from noria.cli.mine_folder import DEFAULT_FOLDER
from noria.cli.node_access import JsonOption, NodeOption, connected
from noria.cli.registration import CAPACITY_MAX, read_bond, register_call, unbond_call, withdraw_call
from noria.cli.secrets import KeystoreOption, PasswordFileOption, read_password
from noria.cli.send import await_receipt, private_key_of, send_signed

if TYPE_CHECKING:
    from noria.primitives.keys import PrivateKey
    from noria.primitives.types import Address, Hash32

app = typer.Typer(help="A miner's key, its registration, its bond.", no_args_is_help=True)
WAIT_SECONDS: Final = 60.0

RpcOption = Annotated[str, typer.Option("--rpc", help="URL of a node.")]
FromOption = Annotated[str, typer.Option("--from", help="The miner's account.", metavar="ADDRESS")]


@app.command("key", epilog=examples("noria miner key miner.key.json --password-file password"))
def key(
    file: Annotated[Path, typer.Argument(help="Key file to make (EIP-2335).")],
    password_file: PasswordFileOption = None,
) -> None:
    """Make a miner's BLS key in an encrypted file, and print the public key."""
    from noria.node.bls_keystore import write_keystore
    from noria.primitives.keys import BlsSecretKey

    made = BlsSecretKey.generate()
    write_keystore(file, made, read_password(password_file, "Password of the new key file", confirm=True))
    print("0x" + made.public_key.hex())


@app.command(
    "register",
    epilog=examples("noria miner register --from 0x… --miner-keystore miner.key.json --bond '4000 NOR'"),
)
def register(
    sender: FromOption,
    miner_keystore: Annotated[Path, typer.Option(help="The miner's BLS key file.")],
    bond: Annotated[str, typer.Option(help="Bond, at least the chain's least one.", metavar="AMOUNT")],
    miner_password_file: Annotated[
        Path | None, typer.Option(help="File that opens the BLS key file; without it you are asked.")
    ] = None,
    peer_id: Annotated[
        str | None,
        typer.Option(help="Name of the miner's node among peers.", show_default="that of the node asked"),
    ] = None,
    capacity: Annotated[
        int, typer.Option(min=0, max=CAPACITY_MAX, help="Fuel per epoch for which it stands ready.")
    ] = 0,
    ask_price: Annotated[str, typer.Option(help="Least price of a fuel.", metavar="AMOUNT")] = "0 wei",
    rpc: RpcOption = DEFAULT_URL,
    keystore: KeystoreOption = None,
    password_file: PasswordFileOption = None,
) -> None:
    """Register a miner: its BLS key with proof of possession, its terms, and its bond."""
    from noria.node.bls_keystore import read_keystore

    bls = read_keystore(miner_keystore, read_password(miner_password_file, f"Password of {miner_keystore}"))
    node = Endpoint(rpc)
    status = node.call("noria_status")
    root = _hash(status.get("genesisRoot"))
    account = _address(sender)
    name = peer_id or str(status.get("peerId", ""))
    data = register_call(root, account, bls, name, capacity, _amount(ask_price))
    _send(node, account, data, _amount(bond), keystore, password_file)
    print(json.dumps(_status(node, account), indent=2))


@app.command(
    "unbond",
    epilog=examples("noria miner unbond --from 0x… --all", "noria miner unbond --from 0x… --amount '10 NOR'"),
)
def unbond(
    sender: FromOption,
    amount: Annotated[str | None, typer.Option(help="How much of the bond.", metavar="AMOUNT")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of it, which is to leave.")] = False,
    rpc: RpcOption = DEFAULT_URL,
    keystore: KeystoreOption = None,
    password_file: PasswordFileOption = None,
) -> None:
    """Begin to take bond out; it can be withdrawn, and no longer slashed, some epochs later."""
    if (amount is None) != everything:
        raise BadArgument("say how much: --amount AMOUNT, or --all")
    node, account = Endpoint(rpc), _address(sender)
    found = _status(node, account)
    if found is None:
        raise CommandError(f"{sender} is not registered as a miner: there is no bond to take out")
    wei = int(found["bondWei"]) if amount is None else _amount(amount)
    _send(node, account, unbond_call(wei), 0, keystore, password_file)
    print(json.dumps(_status(node, account), indent=2))


@app.command("withdraw", epilog=examples("noria miner withdraw --from 0x…"))
def withdraw(
    sender: FromOption,
    rpc: RpcOption = DEFAULT_URL,
    keystore: KeystoreOption = None,
    password_file: PasswordFileOption = None,
) -> None:
    """Pay out what has been unbonded for long enough."""
    node, account = Endpoint(rpc), _address(sender)
    _send(node, account, withdraw_call(account), 0, keystore, password_file)
    print(f"paid out to {sender}")


@app.command(
    "status", epilog=examples("noria miner status 0x…", "noria miner status --rpc http://127.0.0.1:8545")
)
def status(
    address: Annotated[
        str | None,
        typer.Argument(help="The miner; by default the one of the node asked.", show_default=False),
    ] = None,
    rpc: RpcOption = DEFAULT_URL,
) -> None:
    """Print what is registered of a miner, and what the node has done for it if it is its own."""
    node = Endpoint(rpc)
    own = node.call("noria_status").get("miner")
    if address is None and own is None:
        raise BadArgument("this node is no miner's: say which miner")
    account = _address(address or own["address"])
    found = _status(node, account)
    if found is None:
        raise CommandError(f"0x{account.hex()} is not registered as a miner: noria miner register")
    if own is not None and bytes.fromhex(own["address"][2:]) == account:
        found["node"] = own
    print(json.dumps(found, indent=2))


@app.command(
    "earnings", epilog=examples("noria miner earnings", "noria miner earnings --dir ./my-miner --json")
)
def earnings(
    folder: Annotated[Path, typer.Option("--dir", help="Folder of the miner.")] = DEFAULT_FOLDER,
    rpc: Annotated[
        str | None, typer.Option("--rpc", help="URL of a miner's node.", show_default="that of the folder")
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, max=1000, help="How many jobs to list, the latest.")] = 20,
    json_output: JsonOption = False,
) -> None:
    """Print what a miner has earned: in all, and for its latest jobs."""
    from noria.cli.mine_folder import running_url

    url = rpc or running_url(folder)
    node = Endpoint(url)
    found = node.call("noria_earnings", jobs)
    if found is None:
        raise CommandError(f"the node at {url} takes no jobs: it has no miner's account")
    if json_output:
        print(json.dumps(found, indent=2))
        return
    _print_earnings(found)


@app.command("exit", epilog=examples("noria miner exit", "noria miner exit --dir ./my-miner"))
def leave(
    folder: Annotated[Path, typer.Option("--dir", help="Folder of the miner.")] = DEFAULT_FOLDER,
    node: NodeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Leave: begin to take out the whole bond, and say when it can be had; run again then, it pays it out.

    The miner gets no new work and makes no more blocks, but let it run until what it has earned is paid.
    Until the bond is paid out it can be slashed.
    """
    from noria.cli.mine_folder import read_account

    answer = asyncio.run(_leave(node, read_account(folder)))
    if json_output:
        print(json.dumps(answer))
    else:
        print(answer["text"])


# ---------------------------------------------------------------- inside


def _print_earnings(found: dict[str, Any]) -> None:
    from noria.cli.mine_report import count_of, short_money

    def nor(row: dict[str, Any], name: str) -> str:
        return short_money(int(row[name]))

    totals = found["totals"]
    if found["jobs"]:
        print(f"{'job':>7} {'k':>3}  {'state':<8} {'units':>9} {'fuel':>18} {'earned':>12} {'paid':>12}")
    for row in found["jobs"]:
        print(
            f"{row['job']:>7} {row['k']:>3}  {row['state']:<8} {row['receipts']:>9,} {row['fuel']:>18,} "
            f"{nor(row, 'earnedWei'):>12} {nor(row, 'paidWei'):>12}"
        )
    print(
        f"{count_of(totals['jobs'], 'job')}, {totals['fuel']:,} fuel: {nor(totals, 'earnedWei')} earned, "
        f"{nor(totals, 'paidWei')} paid, {nor(totals, 'gasWei')} spent on gas; {totals['creditedWeight']:,} "
        "fuel count as weight"
    )


async def _leave(node: str | None, account: PrivateKey) -> dict[str, Any]:
    from noria.execution.system_contracts import MINER_REGISTRY
    from noria.market.sending import send_transaction
    from noria.primitives.addresses import checksum_address
    from noria.primitives.amounts import format_amount

    shown = checksum_address(account.address)
    async with connected(node) as access:
        bond = await read_bond(access, account.address)
        if bond is None:
            raise CommandError(f"{shown} is not registered as a miner: there is no bond to take out")
        if bond.wei:
            await send_transaction(access, account, MINER_REGISTRY, unbond_call(bond.wei))
            bond = await read_bond(access, account.address)
            assert bond is not None, "a miner stays registered until its bond is paid out"
        epoch = int(await access.ask("noria_epoch", kind=int))
        amount = format_amount(bond.unbonding)
        answer = {"address": shown, "unbonding_wei": str(bond.unbonding), "free_epoch": bond.free_epoch}
        if epoch >= bond.free_epoch:
            await send_transaction(access, account, MINER_REGISTRY, withdraw_call(account.address))
            return answer | {"paid_out": True, "text": f"{amount} are paid out to {shown}"}
        facts = access.facts
        seconds = (bond.free_epoch - epoch) * facts.number("epoch_slots") * facts.number("slot_seconds")
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + seconds))
    text = f"{amount} can be withdrawn from epoch {bond.free_epoch} on, about {when}; it is epoch {epoch}"
    return answer | {"paid_out": False, "seconds": seconds, "text": f"{text}: run this again then"}


def _status(node: Endpoint, account: Address) -> dict[str, Any] | None:
    found = node.call("noria_miner", "0x" + account.hex())
    return found if isinstance(found, dict) else None


def _send(
    node: Endpoint, account: Address, data: bytes, wei: int, keystore: Path | None, password_file: Path | None
) -> None:
    from noria.execution.system_contracts import MINER_REGISTRY
    from noria.primitives.addresses import checksum_address

    secret = private_key_of(account, None, keystore, password_file)
    if secret is None:
        raise CommandError(
            f"0x{account.hex()} is not in the keystore: noria account import, or --keystore FOLDER"
        )
    transaction = {"to": checksum_address(MINER_REGISTRY), "value": wei, "data": "0x" + data.hex()}
    name = send_signed(node, secret, transaction)
    receipt = await_receipt(node, name, WAIT_SECONDS)
    if parse_quantity(receipt.get("status"), "status") != 1:
        raise CommandError(f"the transaction {name} is in a block, but it failed and changed nothing")


def _amount(text: str) -> int:
    from noria.primitives.amounts import parse_amount

    try:
        return parse_amount(text)
    except ValueError as error:
        raise BadArgument(str(error)) from None


def _address(text: str) -> Address:
    from noria.primitives.addresses import parse_address

    try:
        return parse_address(text)
    except ValueError as error:
        raise BadArgument(str(error)) from None


def _hash(value: object) -> Hash32:
    from noria.primitives.hexes import parse_data
    from noria.primitives.types import Hash32

    found = parse_data(str(value))
    if len(found) != 32:
        raise CommandError(f"the node's genesis root {value!r:.80} is no hash")
    return Hash32(found)
