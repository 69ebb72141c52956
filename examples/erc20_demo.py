"""A token on a development chain, told step by step.

Starts ``noria dev``, and then does what anybody would do with any Ethereum node: web3.py deploys an ERC-20
contract, mints, transfers, approves, reads events, meets a revert and looks at a trace. Every answer is
checked.

Run it with ``.venv/bin/python examples/erc20_demo.py``. It exits 0 when everything was as it must be, and 1
with one line when not.
"""

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import HexStr
from rich.console import Console
from rich.table import Table
from vyper import compile_code
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import ContractLogicError
from web3.types import RPCEndpoint, TxParams, TxReceipt

HERE = Path(__file__).resolve().parent
NORIA = Path(sys.executable).parent / "noria"
MNEMONIC = "test test test test test test test test test test test junk"
CONSENSUS = Web3.to_checksum_address("0x4e6f726961000000000000000000000000000001")
START_SECONDS = 60
STOP_SECONDS = 10
TOKEN = 10**18

console = Console(highlight=False)


class DemoFailed(Exception):
    """Something was not as it must be; the message is one line."""


def expect(what: str, actual: object, expected: object) -> None:
    """Fail the demo unless both are equal."""
    if actual != expected:
        raise DemoFailed(f"{what}: expected {expected}, got {actual}")


def step(title: str) -> None:
    console.print(f"\n[bold cyan]{title}[/]")


def fact(text: str) -> None:
    console.print(f"  [green]✓[/] {text}")


# ---------------------------------------------------------------- the node


@contextmanager
def development_node() -> Iterator[str]:
    """Run ``noria dev`` on any free port; yield its address and stop it whatever happens."""
    if not NORIA.exists():
        raise DemoFailed(f"{NORIA} is missing: make build")
    process = subprocess.Popen(
        [NORIA, "dev", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = _Output(process.stdout)
    try:
        yield output.address()
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        output.join()


class _Output(threading.Thread):
    """Reads what the node prints, all its life, so that the node never waits for a reader."""

    def __init__(self, stream: IO[str] | None) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._last_lines: deque[str] = deque(maxlen=5)
        self._addresses: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        assert self._stream is not None
        with self._stream:
            for line in self._stream:
                self._last_lines.append(line.strip())
                if "Listening on " in line:
                    self._addresses.put(line.split("Listening on ", 1)[1].split()[0])
        self._addresses.put(None)

    def address(self) -> str:
        """Wait for the line that names the node's address."""
        try:
            address = self._addresses.get(timeout=START_SECONDS)
        except queue.Empty:
            raise DemoFailed(f"noria dev was not ready within {START_SECONDS} s") from None
        if address is None:
            raise DemoFailed(f"noria dev ended before it was ready: {' | '.join(self._last_lines)}")
        return address


# ---------------------------------------------------------------- the story


def people() -> dict[str, LocalAccount]:
    """Return the first three accounts of every development chain, whose keys everybody knows."""
    Account.enable_unaudited_hdwallet_features()
    return {
        name: Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
        for index, name in enumerate(("Alice", "Bob", "Carol"))
    }


def send(web3: Web3, sender: LocalAccount, call: Any, **fields: Any) -> TxReceipt:
    """Sign a contract call on this side, send it raw, and wait until it is in a block."""
    transaction = cast(
        TxParams,
        call.build_transaction(
            {"from": sender.address, "nonce": web3.eth.get_transaction_count(sender.address), **fields}
        ),
    )
    signed = sender.sign_transaction(cast("dict[str, Any]", transaction))
    return web3.eth.wait_for_transaction_receipt(
        web3.eth.send_raw_transaction(signed.raw_transaction), timeout=30, poll_latency=0.02
    )


def meet(web3: Web3, who: dict[str, LocalAccount]) -> None:
    step("The chain")
    fact(f"{web3.client_version}, chain id {web3.eth.chain_id}")
    for name, account in who.items():
        balance = web3.eth.get_balance(account.address)
        expect(f"{name}'s balance", balance, 10_000 * 10**18)
        fact(f"{name} is {account.address} and has 10,000 NOR")


def deploy(web3: Web3, alice: LocalAccount) -> Contract:
    step("Alice deploys an ERC-20 token, written in Vyper")
    source = (HERE / "contracts" / "Token.vy").read_text(encoding="utf-8")
    compiled = compile_code(source, output_formats=["abi", "bytecode"])
    factory = web3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
    receipt = send(web3, alice, factory.constructor("Walnut", "NUT"))
    expect("status of the deployment", receipt["status"], 1)
    address = receipt["contractAddress"]
    if address is None:
        raise DemoFailed("the receipt of the deployment has no contract address")
    token = web3.eth.contract(address=address, abi=compiled["abi"])
    expect("name", token.functions.name().call(), "Walnut")
    expect("symbol", token.functions.symbol().call(), "NUT")
    expect("decimals", token.functions.decimals().call(), 18)
    fact(f"block {receipt['blockNumber']}: contract {address}, {receipt['gasUsed']:,} gas")
    return token


def mint(web3: Web3, token: Contract, alice: LocalAccount) -> None:
    step("Alice mints 1,000 NUT for herself")
    call = token.functions.mint(alice.address, 1000 * TOKEN)
    estimate = call.estimate_gas({"from": alice.address})
    receipt = send(web3, alice, call)
    expect("status of the mint", receipt["status"], 1)
    if receipt["gasUsed"] > estimate:
        raise DemoFailed(f"the mint used {receipt['gasUsed']} gas, more than the estimate of {estimate}")
    expect("total supply", token.functions.totalSupply().call(), 1000 * TOKEN)
    fact(f"estimated {estimate:,} gas, used {receipt['gasUsed']:,}")


def transfer(web3: Web3, token: Contract, alice: LocalAccount, bob: LocalAccount) -> HexStr:
    step("Alice sends Bob 250 NUT")
    receipt = send(web3, alice, token.functions.transfer(bob.address, 250 * TOKEN))
    [event] = token.events.Transfer().process_receipt(receipt)
    expect("sender in the event", event["args"]["sender"], alice.address)
    expect("receiver in the event", event["args"]["receiver"], bob.address)
    expect("amount in the event", event["args"]["value"], 250 * TOKEN)
    fact("the receipt carries the event Transfer(Alice, Bob, 250 NUT)")
    return web3.to_hex(receipt["transactionHash"])


def allow(web3: Web3, token: Contract, who: dict[str, LocalAccount]) -> None:
    step("Alice lets Carol spend 100 NUT; Carol moves 60 of them to Bob")
    alice, bob, carol = who["Alice"], who["Bob"], who["Carol"]
    send(web3, alice, token.functions.approve(carol.address, 100 * TOKEN))
    expect("allowance", token.functions.allowance(alice.address, carol.address).call(), 100 * TOKEN)
    receipt = send(web3, carol, token.functions.transferFrom(alice.address, bob.address, 60 * TOKEN))
    expect("status of transferFrom", receipt["status"], 1)
    left = token.functions.allowance(alice.address, carol.address).call()
    expect("allowance afterwards", left, 40 * TOKEN)
    fact("40 NUT of the allowance are left")


def overdraw(web3: Web3, token: Contract, who: dict[str, LocalAccount]) -> None:
    step("Carol tries to take 50 NUT more than she may")
    alice, carol = who["Alice"], who["Carol"]
    call = token.functions.transferFrom(alice.address, carol.address, 90 * TOKEN)
    try:
        call.call({"from": carol.address})
    except ContractLogicError as error:
        if "Token: allowance is too small" not in str(error):
            raise DemoFailed(f"the call reverted with another reason: {error}") from error
        fact('asked first: reverted, "Token: allowance is too small"')
    else:
        raise DemoFailed("a call beyond the allowance did not revert")
    before = token.functions.balanceOf(carol.address).call()
    receipt = send(web3, carol, call, gas=200_000)
    expect("status of the forced transaction", receipt["status"], 0)
    expect("Carol's tokens afterwards", token.functions.balanceOf(carol.address).call(), before)
    fact(f"sent all the same: failed in block {receipt['blockNumber']}, nothing moved, gas was paid")


def history(token: Contract, who: dict[str, LocalAccount]) -> None:
    step("The token's history, from the node's logs")
    events = token.events.Transfer().get_logs(from_block=0)
    expect("number of Transfer events", len(events), 3)
    names = {account.address: name for name, account in who.items()} | {"0x" + "00" * 20: "nobody (minted)"}
    table = Table("block", "from", "to", "NUT")
    for event in events:
        arguments = event["args"]
        amount = f"{arguments['value'] // TOKEN:,}"
        table.add_row(
            str(event["blockNumber"]), names[arguments["sender"]], names[arguments["receiver"]], amount
        )
    console.print(table)
    expect("amounts", [event["args"]["value"] // TOKEN for event in events], [1000, 250, 60])


def trace(web3: Web3, token: Contract, transaction: HexStr, alice: LocalAccount) -> None:
    step("What the transfer did, traced")
    answer = web3.provider.make_request(
        RPCEndpoint("debug_traceTransaction"), [transaction, {"tracer": "callTracer"}]
    )
    if "error" in answer:
        raise DemoFailed(f"debug_traceTransaction: {answer['error']}")
    call = answer["result"]
    expect("sender of the traced call", call["from"], alice.address.lower())
    expect("target of the traced call", call["to"], token.address.lower())
    expect("output of the traced call", int(call["output"], 16), 1)
    fact(f"{call['type']} to the token, {int(call['gasUsed'], 16):,} gas, returned true")


def randomness(web3: Web3) -> None:
    step("The chain's own contract remembers each block's randomness")
    artifact = json.loads(
        (HERE.parent / "src/noria/execution/artifacts/Consensus.json").read_text(encoding="utf-8")
    )
    consensus = web3.eth.contract(address=CONSENSUS, abi=artifact["abi"])
    block = web3.eth.get_block(1)
    remembered = consensus.functions.prev_randao(1).call()
    expect("prevRandao of block 1", web3.to_hex(remembered), web3.to_hex(block["mixHash"]))
    fact(f"Consensus.prev_randao(1) is block 1's: {web3.to_hex(remembered)[:18]}…")


def settle(token: Contract, who: dict[str, LocalAccount]) -> None:
    step("Who has what")
    expected = {"Alice": 690, "Bob": 310, "Carol": 0}
    table = Table("", "NUT")
    for name, account in who.items():
        balance = token.functions.balanceOf(account.address).call()
        expect(f"{name}'s tokens", balance, expected[name] * TOKEN)
        table.add_row(name, f"{balance // TOKEN:,}")
    console.print(table)


def tell(address: str) -> None:
    web3 = Web3(Web3.HTTPProvider(address))
    who = people()
    meet(web3, who)
    token = deploy(web3, who["Alice"])
    mint(web3, token, who["Alice"])
    transaction = transfer(web3, token, who["Alice"], who["Bob"])
    allow(web3, token, who)
    overdraw(web3, token, who)
    history(token, who)
    trace(web3, token, transaction, who["Alice"])
    randomness(web3)
    settle(token, who)


def main() -> int:
    """Tell the story on a fresh chain; return the exit status."""
    # Ending the demo must also end the node.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    started = time.monotonic()
    console.print("[bold]noria dev --port 0[/]")
    try:
        with development_node() as address:
            tell(address)
    except DemoFailed as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        # A library's complaint about an answer of the node, or a lost connection.
        line = " ".join(str(error).split())[:300]
        print(f"demo failed: {type(error).__name__}: {line}", file=sys.stderr)
        return 1
    console.print(f"\n[bold green]Everything as expected[/], in {time.monotonic() - started:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
