"""The engine alone: recover, execute, roots and commit of blocks of 2,000 transfers, on one core.

    python -m benchmarks.engine_transfers [--quick] [--record]

Beside it anvil with the same accounts and transactions on the same core. What anvil does is not quite the
same: it takes the transactions through HTTP, and keeps its state in memory without a store on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from noria.execution.spec import ChainSpec

GAS_LIMIT: Final = 1_000_000_000
SENDERS: Final = 2_000
HOLDERS: Final = 100_000
BLOCKS: Final = 5
BALANCE_WEI: Final = 10**21
TOKENS: Final = 10**24
TOKEN: Final = b"\x20" * 20
SECONDS_PER_BLOCK: Final = 12
TARGETS: Final = {"transfers": 10_000, "ERC-20 transfers": 7_000}


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds of one block, phase by phase."""

    recover: float
    execute: float
    commit: float

    @property
    def total(self) -> float:
        return self.recover + self.execute + self.commit


@dataclass(frozen=True, slots=True)
class Workload:
    """A chain at genesis and the signed transactions of its first blocks."""

    spec: ChainSpec
    blocks: Mapping[str, Sequence[Sequence[bytes]]]


def one_core() -> int:
    """Bind this process, and every thread and process that it starts, to one core."""
    os.environ["RAYON_NUM_THREADS"] = "1"
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def prepare(holders: int, senders: int, count: int) -> Workload:
    """Make the genesis state and sign everything; the same in every run."""
    from benchmarks.traffic import (
        TOKEN_TRANSFER_GAS,
        TRANSFER_GAS,
        TRANSFER_SELECTOR,
        address,
        erc20,
        key,
        sign_fee_market,
        token_slot,
        word,
    )
    from noria._core import keccak256
    from noria.execution.spec import GenesisAccount, dev_spec
    from noria.primitives.types import Address, Hash32, Wei

    keys = [key("engine", index) for index in range(senders)]
    accounts = [address(private_key) for private_key in keys]
    # The token's contract is one of the accounts.
    accounts += [keccak256(b"holder" + word(index))[12:] for index in range(holders - 1 - senders)]
    storage = {Hash32(token_slot(account)): Hash32(word(TOKENS)) for account in accounts}
    alloc = {Address(account): GenesisAccount(balance=Wei(BALANCE_WEI)) for account in accounts}
    alloc[Address(TOKEN)] = GenesisAccount(nonce=1, code=erc20().runtime_code, storage=storage)
    spec = replace(dev_spec([], 1_700_000_000), gas_limit=GAS_LIMIT, alloc=alloc)

    chooser = random.Random(7)

    def block(number: int, token: bool) -> list[bytes]:
        raws = []
        for private_key in keys:
            receiver = chooser.choice(accounts)
            data = TRANSFER_SELECTOR + word(receiver) + word(1) if token else b""
            raws.append(
                sign_fee_market(
                    private_key,
                    chain_id=spec.chain_id,
                    nonce=number,
                    to=TOKEN if token else receiver,
                    value=0 if token else 1,
                    data=data,
                    gas_limit=TOKEN_TRANSFER_GAS if token else TRANSFER_GAS,
                )
            )
        return raws

    # One kind after the other, each with the nonces that follow.
    kinds = {"transfers": False, "ERC-20 transfers": True}
    return Workload(
        spec,
        {
            kind: [block(first * count + number, token) for number in range(count)]
            for first, (kind, token) in enumerate(kinds.items())
        },
    )


def measure_noria(workload: Workload, sync: bool) -> dict[str, Phases]:
    """Median phases of each kind of block."""
    from noria._core import Engine, Transaction, decode_transactions
    from noria.chain.production import dev_attributes

    with tempfile.TemporaryDirectory(prefix="noria-engine-", dir=".") as folder:
        engine = Engine(str(Path(folder) / "store"), workload.spec.engine_json(), sync=sync)
        results = {}
        for kind, blocks in workload.blocks.items():
            measured = []
            for raws in blocks:
                parent = engine.head
                attributes = dev_attributes(
                    parent, timestamp=parent.timestamp + SECONDS_PER_BLOCK, gas_limit=GAS_LIMIT
                )
                began = time.perf_counter()
                transactions = decode_transactions(raws)
                recovered = time.perf_counter()
                good = [each for each in transactions if isinstance(each, Transaction)]
                built = engine.build(parent.hash, attributes, good)
                executed = time.perf_counter()
                engine.commit(built, make_head=True)
                committed = time.perf_counter()
                if len(built.transaction_hashes) != len(raws):
                    raise SystemExit(f"only {len(built.transaction_hashes)} of {len(raws)} were executed")
                measured.append(Phases(recovered - began, executed - recovered, committed - executed))
            check(engine_receipts(engine.block_receipts_json(engine.head.hash)), len(blocks[-1]))
            results[kind] = median(measured)
        engine.close()
    return results


def engine_receipts(answer: bytes | None) -> list[dict[str, object]]:
    receipts = json.loads(answer or b"[]")
    assert isinstance(receipts, list)
    return receipts


def check(receipts: Sequence[Mapping[str, object]], count: int) -> None:
    """Speed counts only if every transaction did what it should."""
    succeeded = sum(receipt["status"] == "0x1" for receipt in receipts)
    if succeeded != count:
        raise SystemExit(f"{succeeded} of {count} transactions succeeded")


def median(measured: Sequence[Phases]) -> Phases:
    return Phases(*(statistics.median(getattr(each, name) for each in measured) for name in Phases.__slots__))


def measure_anvil(workload: Workload) -> dict[str, Phases]:
    """The same blocks through anvil: submission by HTTP stands for recovery, ``evm_mine`` for the rest."""
    from benchmarks.client import encode, hexed, request, result
    from benchmarks.load import http_post, run_load
    from benchmarks.peers import run_anvil

    results = {}
    with tempfile.TemporaryDirectory(prefix="anvil-genesis-") as folder:
        genesis = Path(folder) / "genesis.json"
        genesis.write_text(json.dumps(geth_genesis(workload.spec)))
        options = ["--init", str(genesis), "--no-mining", "--gas-limit", str(GAS_LIMIT), "--order", "fifo"]
        with run_anvil(options) as node:
            for kind, blocks in workload.blocks.items():
                measured = []
                for raws in blocks:
                    bodies = [
                        encode(
                            [request("eth_sendRawTransaction", hexed(r), id=i) for i, r in enumerate(chunk)]
                        )
                        for chunk in (raws[at : at + 200] for at in range(0, len(raws), 200))
                    ]
                    sent = run_load(
                        (node.host, node.port),
                        [[http_post(body) for body in bodies]],
                        lambda answer: b'"error"' not in answer,
                    )
                    began = time.perf_counter()
                    result(node, "evm_mine")
                    mined = time.perf_counter() - began
                    check(result(node, "eth_getBlockReceipts", "latest"), len(raws))
                    measured.append(Phases(sent.seconds, mined, 0.0))
                results[kind] = median(measured)
    return results


def geth_genesis(spec: ChainSpec) -> dict[str, object]:
    """The same genesis in geth's format."""
    alloc = json.loads(spec.engine_json())["alloc"]
    forks = ["homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg"]
    forks += ["istanbul", "berlin", "london"]
    config = {"chainId": spec.chain_id} | {f"{fork}Block": 0 for fork in forks}
    config |= {"terminalTotalDifficulty": 0, "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0}
    return {
        "config": config,
        "timestamp": hex(spec.timestamp),
        "gasLimit": hex(spec.gas_limit),
        "baseFeePerGas": hex(spec.base_fee_per_gas),
        "difficulty": "0x0",
        "nonce": "0x0",
        "extraData": "0x",
        "mixHash": "0x" + "00" * 32,
        "coinbase": "0x" + "00" * 20,
        "alloc": alloc,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small run that shows that the program works")
    parser.add_argument("--record", action="store_true", help="write the table to docs/benchmarks.md")
    arguments = parser.parse_args()
    # Before the engine is loaded: its threads inherit the binding.
    core = one_core()
    from benchmarks.peers import PeerMissing
    from benchmarks.report import Table, publish

    holders, senders, blocks = (5_000, 200, 2) if arguments.quick else (HOLDERS, SENDERS, BLOCKS)
    print(f"signing {2 * senders * blocks:,} transactions", file=sys.stderr)
    workload = prepare(holders, senders, blocks)
    runs: dict[str, Callable[[], dict[str, Phases]]] = {
        "noria, durable commit": lambda: measure_noria(workload, sync=True),
        "noria, no sync": lambda: measure_noria(workload, sync=False),
        "anvil (through HTTP, in memory)": lambda: measure_anvil(workload),
    }
    results: dict[str, dict[str, Phases]] = {}
    for name, run in runs.items():
        try:
            results[name] = run()
            print(f"{name}: done", file=sys.stderr)
        except PeerMissing as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    rows = [
        [
            f"{kind}: {name}",
            f"{senders / phases[kind].total:,.0f}",
            *(f"{1000 * getattr(phases[kind], part):.1f}" for part in Phases.__slots__),
            f"{target:,}" if name.startswith("noria") else "",
        ]
        for kind, target in TARGETS.items()
        for name, phases in results.items()
    ]
    table = Table(
        f"Blocks of {senders:,} transactions in a state of {holders:,} accounts, one core",
        ["", "tx/s", "recover ms", "execute + roots ms", "commit ms", "target tx/s"],
        rows,
    )
    notes = [
        "Signed EIP-1559 transactions from distinct senders to random accounts; all accounts hold the "
        f"token. Median of {blocks} blocks, bound to core {core} with one engine thread. For anvil `recover` "
        "is submission through HTTP and `execute` is `evm_mine`.",
    ]
    publish("engine_transfers", [table], notes, record=arguments.record)


if __name__ == "__main__":
    main()
