"""``noria dev`` beside anvil, each alone in turn: transactions and calls through HTTP, and memory after.

python -m benchmarks.rpc_throughput [--quick] [--only anvil] [--record]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final

from benchmarks.client import encode, hexed, mined, nonces, request
from benchmarks.load import calibrate, http_post, run_load
from benchmarks.peers import CHAIN_ID, Node, PeerMissing, run_anvil, run_noria
from benchmarks.report import Table, publish
from benchmarks.submission import PATIENCE_SECONDS, Traffic, measure
from benchmarks.traffic import (
    BALANCE_OF_SELECTOR,
    DEV_KEY,
    address,
    created_address,
    erc20,
    sign_fee_market,
    word,
)

SUPPLY: Final = 10**24
CALLS_PER_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class Way:
    """How transactions are sent, and how both programs are told to mine."""

    name: str
    in_step: bool
    connections: Sequence[int]
    options: Sequence[str]


AUTOMINE: Final = ("--gas-limit", "36000000")
# With blocks at a pace their size must not be the limit.
INTERVAL: Final = ("--block-time", "0.5", "--gas-limit", "1000000000")
WAYS: Final = (
    Way("automine, each batch when the one before is mined", True, (1, 4), AUTOMINE),
    Way("automine, as fast as answered", False, (4,), AUTOMINE),
    Way("a block every 0.5 s, as fast as answered", False, (4,), INTERVAL),
)

Runner = Callable[[Sequence[str]], AbstractContextManager[Node]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is sent."""

    traffic: Traffic
    rounds: int
    call_connections: Sequence[int]
    call_seconds: float


FULL: Final = Plan(Traffic(1000, 20, 200), 3, (1, 4, 16, 64), 5.0)
QUICK: Final = Plan(Traffic(100, 10, 100), 1, (1, 16), 1.0)


@dataclass(slots=True)
class Results:
    """What one node reached, under the names of the measurements; ``None`` where it stalled."""

    transactions_per_second: dict[str, float | None] = field(default_factory=dict)
    calls_per_second: dict[str, float | None] = field(default_factory=dict)
    call_milliseconds: dict[str, float | None] = field(default_factory=dict)
    memory_megabytes: dict[str, float | None] = field(default_factory=dict)


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


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


def measure_node(run_node: Runner, plan: Plan) -> Results:
    """All measurements of one node; it is started anew for each way to send, and the last one is called."""
    results = Results()
    for way in WAYS:
        with run_node(way.options) as node:
            for connections in way.connections:
                name = f"{way.name}, {plural(connections, 'connection')}"
                rates: list[float | None] = []
                while len(rates) < plan.rounds and None not in rates:
                    label = f"{name}, round {len(rates) + 1}"
                    rates.append(measure(node, plan.traffic, connections, label, in_step=way.in_step))
                through = [rate for rate in rates if rate is not None]
                rate = statistics.median(through) if len(through) == len(rates) else None
                results.transactions_per_second[name] = rate
                progress(node, name, rate)
                if rate is None:
                    break
            if way is WAYS[-1]:
                measure_calls(node, plan, results)
            now, peak = node.memory_bytes()
            results.memory_megabytes[f"{way.name}: at the end"] = now / 1e6
            results.memory_megabytes[f"{way.name}: highest"] = peak / 1e6
    return results


def progress(node: Node, name: str, rate: float | None) -> None:
    print(f"{node.name}: {name}: {shown(rate)}/s", file=sys.stderr, flush=True)


def shown(value: float | None) -> str:
    return "stalled" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def comparison(title: str, measured: dict[str, dict[str, float | None]], *, ratio: bool = True) -> Table:
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
        comparison(
            "Resident memory, MB",
            {node: results.memory_megabytes for node, results in measured.items()},
            ratio=False,
        ),
    ]


def notes(plan: Plan) -> list[str]:
    limit = calibrate(16, http_post(b" " * 150), b" " * 110, 1.0 if plan is QUICK else 3.0)
    traffic = plan.traffic
    return [
        "Each node ran without the other, with `--quiet`. A round is "
        f"{traffic.transactions:,} signed transfers of {traffic.senders:,} senders in batches of "
        f"{traffic.batch}; the number is the median of {plural(plan.rounds, 'round')} on one node. With "
        "automine the block gas limit is 36,000,000, with "
        "blocks at a pace 1,000,000,000. Calls follow on the last node; memory is read at the end of each. "
        "`stalled`: some transactions were not mined, even after `evm_mine`, until nothing had moved for "
        f"{PATIENCE_SECONDS:.0f} s.",
        "The load generator shares the machine with the node; against a server that answers at once it "
        f"reaches {limit.rate:,.0f} requests per second on 16 connections.",
    ]


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
                measured[name] = measure_node(run_node, plan)
            except PeerMissing as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
    if not measured:
        raise SystemExit("nothing could be measured")
    publish("rpc_throughput", tables(measured), notes(plan), record=arguments.record)


if __name__ == "__main__":
    main()
