"""Sending signed transfers through HTTP in batches, and counting until they are mined."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.client import (
    ANSWER_SECONDS,
    MINED_SECONDS,
    NodeFailed,
    NodeStalled,
    await_nonces,
    encode,
    fund,
    hexed,
    request,
)
from benchmarks.load import LoadStalled, http_post, run_load
from benchmarks.peers import CHAIN_ID, Node
from benchmarks.traffic import TRANSFER_GAS, address, key, sign_fee_market

FUNDS_WEI: Final = 10**18
MAX_FEE_WEI: Final = 10**12
IN_STEP_NUDGE_SECONDS: Final = 0.2
SENDING_SECONDS: Final = 30.0
PATIENCE_SECONDS: Final = 10.0
RECEIVER: Final = b"\xaa" * 20


@dataclass(frozen=True, slots=True)
class Traffic:
    """How many transactions, of how many senders, in batches of which size."""

    senders: int
    transactions_per_sender: int
    batch: int

    @property
    def transactions(self) -> int:
        return self.senders * self.transactions_per_sender


def measure(node: Node, traffic: Traffic, connections: int, label: str, *, in_step: bool) -> float | None:
    """Transactions per second from the first byte sent until all are mined; ``None`` if the node stalls.

    Parameters
    ----------
    node
        Running, with the development accounts.
    traffic
        What is sent.
    connections
        Over how many connections; a sender's transactions stay in order on one.
    label
        Different for every measurement on one node: it decides which senders are used.
    in_step
        Send each batch when the one before on its connection is mined; otherwise when it is answered.
    """
    try:
        return _measure(node, traffic, connections, label, in_step=in_step)
    except NodeStalled:
        return None


def _measure(node: Node, traffic: Traffic, connections: int, label: str, *, in_step: bool) -> float | None:
    keys = [key(label, index) for index in range(traffic.senders)]
    accounts = [address(private_key) for private_key in keys]
    fund(node, accounts, FUNDS_WEI)
    streams = [_bodies(keys[number::connections], traffic) for number in range(connections)]
    began = time.perf_counter()
    if in_step:
        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(lambda stream: _send_in_step(node, stream), streams))
    else:
        posts = [[http_post(body) for body in stream] for stream in streams]
        # If an answer does not come, that shows in what is mined.
        with suppress(LoadStalled):
            run_load((node.host, node.port), posts, _accepted, limit_seconds=SENDING_SECONDS)
    reached = await_nonces(node, accounts, traffic.transactions_per_sender, PATIENCE_SECONDS)
    return traffic.transactions / (reached.at - began) if reached.complete else None


def _accepted(answer: bytes) -> bool:
    return b'"error"' not in answer


def _bodies(keys: Sequence[bytes], traffic: Traffic) -> list[bytes]:
    raws = [
        sign_fee_market(
            private_key,
            chain_id=CHAIN_ID,
            nonce=nonce,
            to=RECEIVER,
            value=1,
            gas_limit=TRANSFER_GAS,
            max_fee_per_gas=MAX_FEE_WEI,
        )
        for nonce in range(traffic.transactions_per_sender)
        for private_key in keys
    ]
    batches = [raws[at : at + traffic.batch] for at in range(0, len(raws), traffic.batch)]
    return [
        encode([request("eth_sendRawTransaction", hexed(raw), id=i) for i, raw in enumerate(batch)])
        for batch in batches
    ]


def _send_in_step(node: Node, bodies: Sequence[bytes]) -> None:
    connection = http.client.HTTPConnection(node.host, node.port, timeout=ANSWER_SECONDS)
    try:
        for body in bodies:
            answers = _post(connection, body)
            refused = [answer for answer in answers if "result" not in answer]
            if refused:
                raise NodeFailed(f"{node.name} refused a transaction: {refused[0]}")
            # The last that came is as a rule the last that is mined; all are counted at the end.
            _await_receipt(node, connection, answers[-1]["result"])
    finally:
        connection.close()


def _await_receipt(node: Node, connection: http.client.HTTPConnection, transaction_hash: str) -> None:
    # Anvil sometimes forgets to mine, see `await_nonces`; a short wait keeps that from deciding the number.
    question = encode(request("eth_getTransactionReceipt", transaction_hash))
    nudge_at = time.monotonic() + IN_STEP_NUDGE_SECONDS
    given_up_at = time.monotonic() + MINED_SECONDS
    while _post(connection, question)["result"] is None:
        if time.monotonic() > given_up_at:
            raise NodeStalled(f"{node.name} did not mine {transaction_hash}")
        if time.monotonic() > nudge_at:
            _post(connection, encode(request("evm_mine")))
            nudge_at = time.monotonic() + IN_STEP_NUDGE_SECONDS
        time.sleep(0.002)


def _post(connection: http.client.HTTPConnection, body: bytes) -> Any:
    connection.request("POST", "/", body, {"Content-Type": "application/json"})
    return json.loads(connection.getresponse().read())
