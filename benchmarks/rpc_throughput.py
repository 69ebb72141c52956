"""``noria dev`` beside anvil, each alone in turn: transactions and calls through HTTP, and memory after.

python -m benchmarks.rpc_throughput [--quick] [--only anvil] [--record]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final

from benchmarks.client import await_nonces, encode, fund, hexed, mined, nonces, request
from benchmarks.load import LoadStalled, calibrate, http_post, run_load
from benchmarks.peers import CHAIN_ID, Node, PeerMissing, run_anvil, run_noria
from benchmarks.report import Table, publish
from benchmarks.traffic import (
    BALANCE_OF_SELECTOR,
    DEV_KEY,
    TRANSFER_GAS,
    address,
    created_address,
    erc20,
    key,
    sign_fee_market,
    word,
)

SUPPLY: Final = 10**24
FUNDS_WEI: Final = 10**18
MAX_FEE_WEI: Final = 10**12
STALLED_SECONDS: Final = 60.0
CALLS_PER_BATCH: Final = 100

MINING: Final = {
    "a block as soon as there is work": ("--gas-limit", "36000000"),
    "a block every half second": ("--block-time", "0.5", "--gas-limit", "1000000000"),
}
"""Ways to mine, as both programs are told. With blocks at a pace their size must not be the limit."""


Runner = Callable[[Sequence[str]], AbstractContextManager[Node]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is sent."""

    senders: int
    transactions_per_sender: int
    batch: int
    connections: Sequence[int]
    rounds: int
    call_connections: Sequence[int]
    call_seconds: float

    @property
    def transactions(self) -> int:
        return self.senders * self.transactions_per_sender


FULL: Final = Plan(1000, 20, 200, (1, 4), 3, (1, 4, 16, 64), 5.0)
QUICK: Final = Plan(100, 10, 100, (4,), 1, (1, 16), 1.0)


@dataclass(slots=True)
class Results:
    """What one node reached, under the names of the measurements."""

    transactions_per_second: dict[str, float] = field(default_factory=dict)
    calls_per_second: dict[str, float] = field(default_factory=dict)
    call_milliseconds: dict[str, float] = field(default_factory=dict)
    memory_bytes: dict[str, tuple[int, int]] = field(default_factory=dict)
    stalls: list[str] = field(default_factory=list)


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def transfers(keys: Sequence[bytes], plan: Plan, connections: int) -> list[list[bytes]]:
    """Batches of signed transfers for each connection; a sender's nonces stay in order on one connection."""
    streams = []
    for number in range(connections):
        raws = [
            sign_fee_market(
                private_key,
                chain_id=CHAIN_ID,
                nonce=nonce,
                to=b"\xaa" * 20,
                value=1,
                gas_limit=TRANSFER_GAS,
                max_fee_per_gas=MAX_FEE_WEI,
            )
            for nonce in range(plan.transactions_per_sender)
            for private_key in keys[number::connections]
        ]
        batches = [raws[at : at + plan.batch] for at in range(0, len(raws), plan.batch)]
        bodies = [
            encode([request("eth_sendRawTransaction", hexed(raw), id=i) for i, raw in enumerate(batch)])
            for batch in batches
        ]
        streams.append([http_post(body) for body in bodies])
    return streams


def measure_transactions(node: Node, plan: Plan, connections: int, label: str, stalls: list[str]) -> float:
    """Transactions per second from the first byte sent until all are mined.

    A node that is not through in time has stalled: what it mined until then counts, and the stall is noted.
    """
    keys = [key(label, index) for index in range(plan.senders)]
    accounts = [address(private_key) for private_key in keys]
    fund(node, accounts, FUNDS_WEI)
    streams = transfers(keys, plan, connections)
    began = time.perf_counter()
    try:
        run_load(
            (node.host, node.port),
            streams,
            lambda body: b'"error"' not in body,
            limit_seconds=STALLED_SECONDS,
        )
        left = STALLED_SECONDS - (time.perf_counter() - began)
        through = await_nonces(node, accounts, plan.transactions_per_sender, left)
    except LoadStalled:
        through = False
    seconds = time.perf_counter() - began
    count = plan.transactions
    if not through:
        count = sum(nonces(node, accounts))
        stalls.append(f"{node.name} mined {count:,} of {plan.transactions:,} in {seconds:.0f} s ({label})")
    return count / seconds


def deploy_token(node: Node) -> bytes:
    owner = address(DEV_KEY)
    (nonce,) = nonces(node, [owner])
    code = erc20().init_code + word(SUPPLY)
    mined(
        node,
        sign_fee_market(DEV_KEY, chain_id=CHAIN_ID, nonce=nonce, to=None, data=code, gas_limit=3_000_000),
    )
    return created_address(owner, nonce)


def measure_calls(node: Node, plan: Plan, results: Results) -> None:
    """``eth_call`` of the token's ``balanceOf``, one by one and in batches."""
    data = BALANCE_OF_SELECTOR + word(address(DEV_KEY))
    call = {"to": hexed(deploy_token(node)), "data": hexed(data)}
    balance = word(SUPPLY).hex().encode()
    single = http_post(encode(request("eth_call", call, "latest")))
    batch = http_post(encode([request("eth_call", call, "latest", id=i) for i in range(CALLS_PER_BATCH)]))
    runs = [(single, 1, connections) for connections in plan.call_connections]
    runs += [(batch, CALLS_PER_BATCH, connections) for connections in (1, 4)]
    for body, calls, connections in runs:
        load = run_load(
            (node.host, node.port),
            [repeat(body)] * connections,
            lambda answer, calls=calls: answer.count(balance) == calls,  # type: ignore[misc]
            seconds=plan.call_seconds,
        )
        name = plural(connections, "connection") + ("" if calls == 1 else f", batches of {calls}")
        results.calls_per_second[name] = load.rate * calls
        results.call_milliseconds[name] = load.percentile_milliseconds(99)
        progress(node, f"eth_call, {name}", load.rate * calls)


def measure(run_node: Runner, plan: Plan) -> Results:
    """All measurements of one node; it is started anew for each way to mine, and the last one is called."""
    results = Results()
    for number, (mining, options) in enumerate(MINING.items(), start=1):
        with run_node(options) as node:
            for connections in plan.connections:
                name = f"{mining}, {plural(connections, 'connection')}"
                stalls: list[str] = []
                rates: list[float] = []
                while len(rates) < plan.rounds and not stalls:
                    label = f"{name}, round {len(rates) + 1}"
                    rates.append(measure_transactions(node, plan, connections, label, stalls))
                results.stalls += stalls
                results.transactions_per_second[name] = rates[-1] if stalls else statistics.median(rates)
                progress(node, name, results.transactions_per_second[name])
                if stalls:
                    break
            if number == len(MINING):
                measure_calls(node, plan, results)
            results.memory_bytes[mining] = node.memory_bytes()
    return results


def progress(node: Node, name: str, rate: float) -> None:
    print(f"{node.name}: {name}: {rate:,.0f}/s", file=sys.stderr, flush=True)


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def comparison(title: str, measured: dict[str, dict[str, float]], *, ratio: bool = True) -> Table:
    """One row per measurement, one column per node."""
    nodes = list(measured)
    both = ratio and len(nodes) == 2
    rows = []
    for name in dict.fromkeys(name for node in nodes for name in measured[node]):
        values = [measured[node].get(name) for node in nodes]
        cells = [shown(value) for value in values]
        if both:
            first, second = values
            cells.append("-" if first is None or second is None else f"{first / second:.2f}")
        rows.append([name, *cells])
    return Table(title, ["", *nodes, *(["ratio"] if both else [])], rows)


def tables(measured: dict[str, Results]) -> list[Table]:
    memory = {
        node: {
            f"{mining}, {moment}": size / 1e6
            for mining, sizes in results.memory_bytes.items()
            for moment, size in zip(("after", "highest"), sizes, strict=True)
        }
        for node, results in measured.items()
    }
    return [
        comparison(
            "Signed transfers through HTTP until mined, transactions per second",
            {node: results.transactions_per_second for node, results in measured.items()},
        ),
        comparison(
            "eth_call of an ERC-20's balanceOf, calls per second",
            {node: results.calls_per_second for node, results in measured.items()},
        ),
        comparison(
            "The same, 99th percentile of answer times in milliseconds",
            {node: results.call_milliseconds for node, results in measured.items()},
            ratio=False,
        ),
        comparison("Resident memory, MB", memory, ratio=False),
    ]


def notes(measured: dict[str, Results], plan: Plan) -> list[str]:
    limit = calibrate(16, http_post(b" " * 150), b" " * 110, 1.0 if plan is QUICK else 3.0)
    lines = [
        f"Each node ran alone and quiet. A round is {plan.transactions:,} signed transfers of "
        f"{plan.senders:,} senders in batches of {plan.batch}; the number is the median of "
        f"{plural(plan.rounds, 'round')} on one node. With blocks as soon as there is work the block gas "
        "limit is 36,000,000, with blocks at a pace 1,000,000,000. Calls follow on the second node; memory "
        "is read at the end of each.",
        "The load generator shares the machine with the node; against a server that answers at once it "
        f"reaches {limit.rate:,.0f} requests per second on 16 connections.",
    ]
    stalls = [stall for results in measured.values() for stall in results.stalls]
    if stalls:
        lines.append(f"Stalled, and the number is of what was mined until then: {'; '.join(stalls)}.")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small run that shows that the program works")
    parser.add_argument("--only", choices=["noria", "anvil"], help="measure one of the two")
    parser.add_argument("--record", action="store_true", help="write the tables to docs/benchmarks.md")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    peers: dict[str, Runner] = {"noria": run_noria, "anvil": run_anvil}
    measured: dict[str, Results] = {}
    for name, run_node in peers.items():
        if arguments.only in (None, name):
            try:
                measured[name] = measure(run_node, plan)
            except PeerMissing as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
    if not measured:
        raise SystemExit("nothing could be measured")
    publish("rpc_throughput", tables(measured), notes(measured, plan), record=arguments.record)


if __name__ == "__main__":
    main()
