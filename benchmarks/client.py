"""Plain JSON-RPC to a node under measurement, outside of what is measured."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.peers import CHAIN_ID, Node
from benchmarks.traffic import DEV_KEY, TRANSFER_GAS, address, sign_fee_market

ANSWER_SECONDS: Final = 60.0
MINED_SECONDS: Final = 60.0
NUDGE_SECONDS: Final = 1.0
_CHUNK: Final = 50


class NodeFailed(Exception):
    """A node refused what it should accept, or did not do it in time."""


class NodeStalled(NodeFailed):
    """A node accepted transactions and did not mine them, not even when told to."""


def request(method: str, *params: object, id: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def encode(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def post(node: Node, body: object) -> Any:
    """Send one request or batch."""
    message = urllib.request.Request(node.url, encode(body), {"Content-Type": "application/json"})
    with urllib.request.urlopen(message, timeout=ANSWER_SECONDS) as response:
        return json.load(response)


def result(node: Node, method: str, *params: object) -> Any:
    answer = post(node, request(method, *params))
    if "result" not in answer:
        raise NodeFailed(f"{node.name} refused {method}: {answer}")
    return answer["result"]


def nonces(node: Node, accounts: Sequence[bytes]) -> list[int]:
    """Mined transactions of each account."""
    found: list[int] = []
    for at in range(0, len(accounts), _CHUNK):
        chunk = accounts[at : at + _CHUNK]
        answers = post(
            node, [request("eth_getTransactionCount", hexed(a), "latest", id=i) for i, a in enumerate(chunk)]
        )
        found += [int(each["result"], 16) for each in sorted(answers, key=lambda each: int(each["id"]))]
    return found


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a node came with the transactions that it was given."""

    complete: bool
    mined: int
    at: float
    """`time.perf_counter` when the last progress was seen."""


def await_nonces(node: Node, accounts: Sequence[bytes], nonce: int, patience_seconds: float) -> Progress:
    """Wait until every account has mined that many transactions, or nothing has moved for a while.

    Anvil sometimes leaves ready transactions unmined until something else happens (foundry-rs/foundry#10122);
    where nothing moves, either node is told to mine before it is given up.
    """
    waiting = list(accounts)
    mined_before = 0
    moved_at = looked_at = time.perf_counter()
    while True:
        # The first few stand for the rest: reading all in each round would be a load of its own.
        asked = waiting[:8]
        counts = nonces(node, asked)
        done = {account for account, count in zip(asked, counts, strict=True) if count >= nonce}
        waiting = [account for account in waiting if account not in done]
        now = time.perf_counter()
        if not waiting:
            return Progress(True, nonce * len(accounts), now)
        if done:
            moved_at = looked_at = now
        elif now - looked_at > NUDGE_SECONDS:
            mined = sum(nonces(node, accounts))
            if mined > mined_before:
                mined_before, moved_at = mined, now
            elif now - moved_at > patience_seconds:
                return Progress(False, mined, moved_at)
            result(node, "evm_mine")
            looked_at = time.perf_counter()
        else:
            time.sleep(0.005)


def mined(node: Node, raw: bytes) -> Any:
    """Send one transaction and return its receipt."""
    transaction_hash = result(node, "eth_sendRawTransaction", hexed(raw))
    deadline = time.monotonic() + MINED_SECONDS
    while time.monotonic() < deadline:
        receipt = result(node, "eth_getTransactionReceipt", transaction_hash)
        if receipt is not None:
            if receipt["status"] != "0x1":
                raise NodeFailed(f"{node.name}: the transaction failed: {receipt}")
            return receipt
        time.sleep(0.01)
    raise NodeFailed(f"{node.name} did not mine {transaction_hash}")


def fund(node: Node, accounts: Sequence[bytes], amount_wei: int) -> None:
    """Pay every account from the funded development account."""
    payer = address(DEV_KEY)
    (nonce,) = nonces(node, [payer])
    for at in range(0, len(accounts), _CHUNK):
        raws = [
            sign_fee_market(
                DEV_KEY,
                chain_id=CHAIN_ID,
                nonce=nonce + at + offset,
                to=account,
                value=amount_wei,
                gas_limit=TRANSFER_GAS,
            )
            for offset, account in enumerate(accounts[at : at + _CHUNK])
        ]
        answers = post(node, [request("eth_sendRawTransaction", hexed(r), id=i) for i, r in enumerate(raws)])
        refused = [answer for answer in answers if "result" not in answer]
        if refused:
            raise NodeFailed(f"{node.name} did not fund the senders: {refused[0]}")
        if not await_nonces(node, [payer], nonce + at + len(raws), MINED_SECONDS).complete:
            raise NodeStalled(f"{node.name} did not mine the transfers that fund the senders")
