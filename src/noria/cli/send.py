"""``noria send``: pay somebody, or call a contract, and wait until it is in a block."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from noria.cli.endpoint import DEFAULT_URL, Endpoint, parse_quantity
from noria.cli.errors import BadArgument, CommandError
from noria.cli.help import examples
from noria.cli.secrets import (
    KeystoreOption,
    PasswordFileOption,
    keystore_folder,
    read_password,
    read_secret_file,
)

_RECEIVER: Final = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
EXAMPLES: Final = examples(
    f'noria send --to {_RECEIVER} --value "1.5 NOR" --from 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266',
    f'noria send --to {_RECEIVER} --value "20 gwei" --private-key-file key.txt --rpc {DEFAULT_URL}',
)
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 1.0


def send(
    to: Annotated[
        str, typer.Option("--to", help="Receiver: 0x and 40 hexadecimal digits.", metavar="ADDRESS")
    ],
    value: Annotated[
        str, typer.Option("--value", help='Amount with its unit: "1.5 NOR", "20 gwei", "7 wei".')
    ] = "0 NOR",
    sender: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="ADDRESS",
            help="Sender: an account of the keystore, or one that the node holds unlocked (noria dev).",
        ),
    ] = None,
    private_key_file: Annotated[
        Path | None, typer.Option(help="Text file with the sender's private key, 64 hexadecimal digits.")
    ] = None,
    data: Annotated[str, typer.Option(help="Call data, 0x…", metavar="HEX")] = "0x",
    rpc: Annotated[str, typer.Option("--rpc", envvar="NORIA_RPC", help="The node's HTTP URL.")] = DEFAULT_URL,
    wait_seconds: Annotated[
        float, typer.Option("--wait", min=0, max=86_400, help="Longest wait for the block; 0 does not wait.")
    ] = 120.0,
    json_output: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON.")] = False,
    keystore: KeystoreOption = None,
    password_file: PasswordFileOption = None,
) -> None:
    """Send a payment or a call, signed on this machine, and wait until it is in a block.

    Nonce, gas limit and fees are asked from the node. The exit code is 1 if the transaction failed.
    """
    from noria.primitives.addresses import checksum_address, parse_address
    from noria.primitives.amounts import parse_amount
    from noria.primitives.hexes import parse_data

    try:
        transaction: dict[str, Any] = {
            "to": checksum_address(parse_address(to)),
            "value": parse_amount(value),
            "data": "0x" + parse_data(data).hex(),
        }
        expected = parse_address(sender) if sender is not None else None
    except ValueError as error:
        raise BadArgument(str(error)) from None
    if expected is None and private_key_file is None:
        raise BadArgument("say who sends: --from ADDRESS or --private-key-file FILE")
    node = Endpoint(rpc)
    private_key = private_key_of(expected, private_key_file, keystore, password_file)
    if private_key is None:
        assert expected is not None
        transaction_hash = _send_unlocked(node, expected, transaction)
    else:
        transaction_hash = send_signed(node, private_key, transaction)
    if wait_seconds == 0:
        print(transaction_hash)
        return
    receipt = await_receipt(node, transaction_hash, wait_seconds)
    print(json.dumps(receipt, indent=2) if json_output else _summary(receipt, transaction_hash))
    if receipt.get("status") != "0x1":
        raise CommandError(
            f"the transaction {transaction_hash} is in a block, but it failed and changed nothing"
        )


def private_key_of(
    sender: bytes | None, private_key_file: Path | None, keystore: Path | None, password_file: Path | None
) -> bytes | None:
    """Find the sender's key on this machine; ``None`` where only the node may have it."""
    from noria.execution.accounts import Keystore, key_address, parse_private_key
    from noria.primitives.addresses import checksum_address

    if private_key_file is not None:
        key = parse_private_key(read_secret_file(private_key_file, "--private-key-file"))
        if sender is not None and key_address(key) != sender:
            raise BadArgument(
                f"the key in {private_key_file} is of {checksum_address(key_address(key))}, not of --from"
            )
        return key
    assert sender is not None
    store = Keystore(keystore_folder(keystore))
    for account in store.list():
        if account.address == sender:
            password = read_password(password_file, f"Password of {checksum_address(account.address)}")
            return store.unlock(account.address, password)
    return None


def _send_unlocked(node: Endpoint, sender: bytes, transaction: dict[str, Any]) -> str:
    account = "0x" + sender.hex()
    held = node.call("eth_accounts")
    if not isinstance(held, list) or account not in [str(each).lower() for each in held]:
        raise CommandError(
            f"{account} is neither in the keystore nor unlocked by the node: "
            "`noria account import`, or --private-key-file"
        )
    return _hash_of(
        node.call("eth_sendTransaction", {**transaction, "from": account, "value": hex(transaction["value"])})
    )


def send_signed(node: Endpoint, private_key: bytes, transaction: dict[str, Any]) -> str:
    """Fill in nonce, gas and fees, sign and send; return the transaction's hash."""
    from noria.execution.accounts import key_address
    from noria.market.sending import with_margin
    from noria.primitives.hexes import parse_data

    data = parse_data(transaction.get("data", "0x"))
    account = "0x" + key_address(private_key).hex()
    block = node.call("eth_getBlockByNumber", "latest", False)
    base_fee = parse_quantity(
        block.get("baseFeePerGas") if isinstance(block, dict) else None, "baseFeePerGas"
    )
    tip = node.quantity("eth_maxPriorityFeePerGas")
    gas = node.quantity(
        "eth_estimateGas", {**transaction, "from": account, "value": hex(transaction["value"])}
    )
    filled = {
        **transaction,
        "chainId": node.quantity("eth_chainId"),
        "nonce": node.quantity("eth_getTransactionCount", account, "pending"),
        # A payment costs the same everywhere; what a call finds may differ in the block that takes it.
        "gas": with_margin(gas, data) if data else gas,
        # Twice the base fee stays enough for five full blocks in a row.
        "maxFeePerGas": 2 * base_fee + tip,
        "maxPriorityFeePerGas": tip,
        "type": 2,
    }
    # Imported late: it takes longer than everything else together.
    from eth_account import Account

    signed = Account.sign_transaction(filled, private_key)
    return _hash_of(node.call("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex()))


def _hash_of(answer: object) -> str:
    if not isinstance(answer, str) or len(answer) != 66:
        raise CommandError(f"the node answered {answer!r:.80} instead of a transaction hash")
    return answer


def await_receipt(node: Endpoint, transaction_hash: str, wait_seconds: float) -> dict[str, Any]:
    """Ask for the receipt until it is there."""
    deadline = time.monotonic() + wait_seconds
    pause = FIRST_PAUSE_SECONDS
    told = False
    while True:
        receipt = node.call("eth_getTransactionReceipt", transaction_hash)
        if isinstance(receipt, dict):
            return receipt
        if not told:
            typer.echo(f"waiting for a block with {transaction_hash}, at most {wait_seconds:g} s", err=True)
            told = True
        left = deadline - time.monotonic()
        if left <= 0:
            raise CommandError(
                f"{transaction_hash} was sent, but no block has it after {wait_seconds:g} s; one still may"
            )
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _summary(receipt: dict[str, Any], transaction_hash: str) -> str:
    from noria.primitives.amounts import format_amount

    gas_used = parse_quantity(receipt.get("gasUsed"), "gasUsed")
    price = parse_quantity(receipt.get("effectiveGasPrice"), "effectiveGasPrice")
    rows = {
        "transaction": transaction_hash,
        "block": str(parse_quantity(receipt.get("blockNumber"), "blockNumber")),
        "status": "success" if receipt.get("status") == "0x1" else "failed",
        "gas used": str(gas_used),
        "fee": format_amount(gas_used * price),
    }
    return "\n".join(f"{name:<12} {text}" for name, text in rows.items())
