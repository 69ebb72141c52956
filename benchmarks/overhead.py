"""What useful work costs beside the work: a fully loaded miner, and the same kernels without chain and rules.

    python -m benchmarks.overhead [--quick] [--record]

Everything is processor time of whole process trees; both sides take turns on one core, so that neither has
the quicker one, and the network's nodes have the others. Bare: the kernels as units of one program, each in
a fresh instance, on the engine as it is, without fuel, limits or rule for NaN. Miner: the same units through
its worker pool, with receipts, batches and the transaction that commits them; beside it a node of a network
of four at its normal pace, which makes blocks and votes, and checks the certificates of the others.

A miner with one core spends a share n of it on its node and the rest on units, each of which costs p times
the bare one. So it does (1 - n) / p of the bare work, and the overhead is p / (1 - n) - 1. Kernels count
alike: p is the geometric mean over them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.fuel_calibration import BUILD, PROGRAM_SECONDS
from benchmarks.kernels.build import UNITS
from benchmarks.peers import ROOT
from benchmarks.report import Table, publish
from benchmarks.runtime_workloads import WORKLOADS
from noria.chain.own_work import OwnWork, own_unit
from noria.cli.network import node_status
from noria.execution.parameters import DEVNET
from noria.node.devnet.layout import Network, NodeEntry
from noria.node.devnet.making import Plan, make_network
from noria.node.devnet.processes import running, start_nodes, stop_nodes
from noria.primitives.keys import PrivateKey
from noria.primitives.types import Address, Hash32
from noria.work.batches import build_batch
from noria.work.folders import compiled_folder
from noria.work.functions import capture
from noria.work.ids import ProgramId, blob_id, program_id, unit_id
from noria.work.receipts import Receipt, Status
from noria.work.runtimes import install
from noria.work.workers import Outcome, ProgramSource, WorkerPool

KERNELS: Final = (
    "matmul scalar", "matmul simd", "mandelbrot", "sha256", "quicksort", "fib", "path tracer",
)  # fmt: skip
FUEL: Final = 10**12
BATCH: Final = 64
"""Receipts of a batch."""
COMMIT_BYTES: Final = 420
"""Of the transaction that commits a batch."""
TARGET: Final = 0.10
AIM: Final = 0.05
RUNS_MAX: Final = 255
"""How often a unit may run its kernel: one byte."""
FINAL_SECONDS: Final = 300.0
WORKLOADS_OF_PYTHON: Final = ("nbody", "json_texts", "sieve", "alignment")


def processor_seconds(pid: int) -> float:
    """Processor time of a process, with that of its threads that have ended."""
    with suppress(OSError):
        # The name that Linux gives a process' clock.
        return time.clock_gettime(~pid << 3 | 2)
    return 0.0


def children(pid: int) -> list[int]:
    """All processes below one."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *children(child)]
    return found


# ---------------------------------------------------------------- bare


class Bare:
    """The engine without rules, in a process of its own."""

    def __init__(self) -> None:
        subprocess.run([*BUILD, "--quiet"], cwd=ROOT, check=True, timeout=PROGRAM_SECONDS)
        program = ROOT / "target" / "release" / "examples" / "bare"
        self._process = subprocess.Popen(
            [program, UNITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, data: bytes) -> tuple[bytes, float]:
        """Run a unit; return its output and the processor time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(data.hex() + "\n")
        self._process.stdin.flush()
        output, nanoseconds = self._process.stdout.readline().split()
        return bytes.fromhex(output), int(nanoseconds) / 1e9

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate("")


# ---------------------------------------------------------------- the miner


@dataclass(frozen=True, slots=True)
class Spent:
    """Processor seconds of units: of the workers, and of the miner's process that hands them over."""

    worker: float
    miner: float
    outcomes: list[Outcome]


def pooled(pool: WorkerPool, source: ProgramSource, inputs: Sequence[bytes]) -> Spent:
    """Run units in a pool that has one worker."""
    (worker,) = pool.process_ids()
    tree = [worker, *children(worker)]
    before, own = sum(map(processor_seconds, tree)), time.process_time()
    outcomes = [pool.submit(source, data, FUEL).result() for data in inputs]
    return Spent(sum(map(processor_seconds, tree)) - before, time.process_time() - own, outcomes)


@dataclass(frozen=True, slots=True)
class Bookkeeping:
    """Processor seconds for each unit."""

    receipts: float
    batches: float


def bookkeeping(folder: Path, program: ProgramId, inputs: Sequence[bytes], output: bytes) -> Bookkeeping:
    """Claim units and commit them: names, receipts, signatures, trees, what is kept, the transaction."""
    from eth_account import Account

    key = PrivateKey(b"\x01" * 32)
    miner, root = Address(key.address), Hash32(b"\x07" * 32)
    work = OwnWork(folder)
    receipts_seconds = batches_seconds = 0.0
    for start in range(0, len(inputs) - BATCH + 1, BATCH):
        part = inputs[start : start + BATCH]
        begun = time.process_time()
        receipts = []
        for index, data in enumerate(part, start):
            receipt = Receipt(
                genesis_root=root, job=1, k=0, miner=miner, index=index,
                unit_id=unit_id(program, blob_id(data), FUEL), output_id=blob_id(output),
                status=Status.OK, fuel=10**9, weight=10**9,
            )  # fmt: skip
            key.sign(receipt.leaf().hash)
            receipts.append(receipt)
        middle = time.process_time()
        batch = build_batch(receipts)
        work.keep(batch, [own_unit(program, data, FUEL) for data in part], [(data,) for data in part])
        Account.sign_transaction(
            {
                "type": 2, "chainId": 1, "nonce": start, "to": "0x" + "00" * 20, "value": 0, "gas": 10**6,
                "maxFeePerGas": 10**9, "maxPriorityFeePerGas": 1, "data": bytes(COMMIT_BYTES),
            },
            key.secret,
        )  # fmt: skip
        receipts_seconds += middle - begun
        batches_seconds += time.process_time() - middle
    count = len(inputs) // BATCH * BATCH
    return Bookkeeping(receipts_seconds / count, batches_seconds / count)


# ---------------------------------------------------------------- the node


@dataclass(frozen=True, slots=True)
class NodeShare:
    """Shares of one core that a node takes: its process, and the workers that check certificates."""

    process: float
    workers: float
    blocks: int
    """New on the chain meanwhile."""
    seconds: float


class Watched:
    """A node of a running network."""

    def __init__(self, network: Network, node: NodeEntry) -> None:
        self._network, self._node = network, node
        self._pid = running(network, node) or 0
        self._begun = self._look()

    def _look(self) -> tuple[float, float, float, int]:
        below = sum(map(processor_seconds, children(self._pid)))
        height = node_status(self._network, self._node)["head_height"] or 0
        return time.monotonic(), processor_seconds(self._pid), below, height

    def share(self) -> NodeShare:
        """What it has taken since it was looked at last."""
        before, self._begun = self._begun, self._look()
        now = self._begun
        seconds = now[0] - before[0]
        return NodeShare(
            (now[1] - before[1]) / seconds, (now[2] - before[2]) / seconds, now[3] - before[3], seconds
        )


def await_finality(network: Network) -> None:
    """Wait until a network does what it does all the time."""
    end = time.monotonic() + FINAL_SECONDS
    while any((node_status(network, node)["finalized_epoch"] or 0) < 1 for node in network.nodes):
        if time.monotonic() > end:
            raise SystemExit(
                f"the network has finalised nothing in {FINAL_SECONDS:g} s: see {network.folder}"
            )
        time.sleep(0.5)


# ---------------------------------------------------------------- measuring


def how_often(bare: Bare, kernel: int, unit_seconds: float) -> int:
    """How often a unit of about the wanted length runs its kernel."""
    once = min(bare.run(bytes([kernel, 1]))[1] for _ in range(3))
    return max(1, min(RUNS_MAX, round(unit_seconds / once)))


@dataclass(slots=True)
class Kernel:
    """What one kernel's units took, seconds each, round by round."""

    name: str
    data: bytes
    bare: list[float]
    worker: list[float]
    miner: list[float]


def measured_round(bare: Bare, pool: WorkerPool, source: ProgramSource, kernels: list[Kernel]) -> None:
    """One unit of each kernel on each side, in turns."""
    for kernel in kernels:
        output, seconds = bare.run(kernel.data)
        spent = pooled(pool, source, [kernel.data])
        if spent.outcomes[0].output != output:
            raise SystemExit(f"{kernel.name} gave different numbers with and without rules")
        kernel.bare.append(seconds)
        kernel.worker.append(spent.worker)
        kernel.miner.append(spent.miner)


def python_rows(pool: WorkerPool, rounds: int) -> list[tuple[str, ...]]:
    """Plain Python through the pool, and in the interpreter that runs this."""
    runtime = install()
    source = ProgramSource(runtime.program_id, runtime.path)
    rows: list[tuple[str, ...]] = []
    ratios = []
    for function, argument in WORKLOADS:
        if function.__name__ not in WORKLOADS_OF_PYTHON:
            continue
        data = capture(function).call((argument,), {}).archive
        pool.submit(source, data, FUEL).result()
        native: list[float] = []
        mined: list[float] = []
        for _ in range(rounds):
            begun = time.process_time()
            function(argument)
            native.append(time.process_time() - begun)
            spent = pooled(pool, source, [data])
            mined.append(spent.worker + spent.miner)
        ratios.append(statistics.median(mined) / statistics.median(native))
        rows.append(
            (
                function.__name__,
                f"{statistics.median(native) * 1e3:.0f} ms",
                f"{statistics.median(mined) * 1e3:.0f} ms",
                f"{ratios[-1]:.2f}",
            )
        )
    rows.append(("geometric mean", "", "", f"{statistics.geometric_mean(ratios):.2f}"))
    return rows


def percent(share: float) -> str:
    """A share of the bare time, or of a core."""
    return f"{share * 100:+.2f} %"


def spread(values: Sequence[float], show: Callable[[float], str]) -> tuple[str, str]:
    """The median, and the least and the most."""
    return show(statistics.median(values)), f"{show(min(values))} to {show(max(values))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--unit-seconds", type=float, default=0.5, help="about how long a bare unit takes")
    parser.add_argument("--node-seconds", type=float, default=120.0, help="least time to watch the node")
    parser.add_argument("--quick", action="store_true", help="a small run that shows that the program works")
    parser.add_argument("--record", action="store_true", help="write the tables to docs/benchmarks.md")
    options = parser.parse_args()
    rounds, unit_seconds, node_seconds = options.rounds, options.unit_seconds, options.node_seconds
    if options.quick:
        rounds, unit_seconds, node_seconds = 2, 0.05, 5.0
    with tempfile.TemporaryDirectory() as folder:
        network = make_network(Path(folder) / "network", Plan(nodes=4, units=16 if options.quick else 64))
        units_core, *others = sorted(os.sched_getaffinity(0), reverse=True)
        try:
            os.sched_setaffinity(0, others or [units_core])
            start_nodes(network, network.nodes)
            # What is started from here on stays on this core.
            os.sched_setaffinity(0, [units_core])
            with Bare() as bare, WorkerPool(1, cache=compiled_folder()) as pool:
                tables, notes = measure(bare, pool, network, Path(folder), rounds, unit_seconds, node_seconds)
        finally:
            stop_nodes(network, network.nodes)
    publish("overhead", tables, notes, record=options.record)


def measure(
    bare: Bare,
    pool: WorkerPool,
    network: Network,
    folder: Path,
    rounds: int,
    unit_seconds: float,
    node_seconds: float,
) -> tuple[list[Table], list[str]]:
    """Measure everything while the network runs."""
    module = UNITS.read_bytes()
    program = program_id(module)
    source = ProgramSource(program, UNITS)
    pool.submit(source, bytes([0, 1]), FUEL).result()
    kernels = [
        Kernel(name, bytes([number, how_often(bare, number, unit_seconds)]), [], [], [])
        for number, name in enumerate(KERNELS)
    ]
    await_finality(network)
    watched = Watched(network, network.nodes[0])
    begun = time.monotonic()
    shares: list[NodeShare] = []
    for _ in range(rounds):
        measured_round(bare, pool, source, kernels)
        shares.append(watched.share())
    if (left := node_seconds - (time.monotonic() - begun)) > 0:
        time.sleep(left)
        shares.append(watched.share())
    seconds = sum(share.seconds for share in shares)
    node = NodeShare(
        sum(share.process * share.seconds for share in shares) / seconds,
        sum(share.workers * share.seconds for share in shares) / seconds,
        sum(share.blocks for share in shares),
        seconds,
    )
    inputs = [
        kernels[number % len(kernels)].data + bytes([number >> 8, number & 255]) for number in range(512)
    ]
    books = bookkeeping(folder / "work", program, inputs, bytes(8))

    rows = []
    for kernel in kernels:
        ratios = [
            (worker + miner) / plain - 1
            for plain, worker, miner in zip(kernel.bare, kernel.worker, kernel.miner, strict=True)
        ]
        rows.append(
            (
                kernel.name,
                f"{statistics.median(kernel.bare) * 1e3:.1f} ms",
                f"{statistics.median(map(sum, zip(kernel.worker, kernel.miner, strict=True))) * 1e3:.1f} ms",
                *spread(ratios, percent),
            )
        )
    plain = [sum(kernel.bare[number] for kernel in kernels) for number in range(rounds)]
    rules = [
        statistics.geometric_mean(kernel.worker[number] / kernel.bare[number] for kernel in kernels) - 1
        for number in range(rounds)
    ]
    handing = [sum(kernel.miner[number] for kernel in kernels) / plain[number] for number in range(rounds)]
    quiet = statistics.geometric_mean(min(kernel.worker) / min(kernel.bare) for kernel in kernels) - 1
    mean = statistics.median(plain) / len(kernels)
    receipts, batches = books.receipts / mean, books.batches / mean
    work = [1 + r + h + receipts + batches for r, h in zip(rules, handing, strict=True)]
    taken = node.process + node.workers
    allowed = node.process + max(node.workers, DEVNET.verify_share_percent / 100)
    total = [p / (1 - taken) - 1 for p in work]
    worst = [p / (1 - allowed) - 1 for p in work]
    alone = [p - 1 for p in work]
    best = (1 + quiet + statistics.median(handing) + receipts + batches) / (1 - taken) - 1
    breakdown = [
        ("rules: fuel, stack, NaN, instance, worker process", *spread(rules, percent)),
        ("handing units to the worker and back", *spread(handing, percent)),
        ("receipts: names, hashes, signatures", percent(receipts), f"{books.receipts * 1e6:.0f} µs a unit"),
        (
            "batches: tree, what is kept, transaction",
            percent(batches),
            f"{books.batches * 1e6:.0f} µs a unit",
        ),
        ("units, all of this", *spread(alone, percent)),
        ("node: blocks, votes, gossip", f"{node.process * 100:.2f} % of a core", ""),
        ("node: certificates checked", f"{node.workers * 100:.2f} % of a core", ""),
        ("**all together, one core**", *spread(total, percent)),
        ("the same, by the least time of each kernel on each side", percent(best), ""),
        ("the same, if certificates took all of VERIFY_SHARE", *spread(worst, percent)),
    ]
    verdicts = {
        name: "reached" if found <= TARGET else "not reached"
        for name, found in (("least", best), ("median", statistics.median(total)))
    }
    tables = [
        Table(
            "Units of the kernels: bare, and through a miner's pool",
            ("kernel", "bare", "miner", "overhead", "least to most"),
            rows,
        ),
        Table("Where it goes, in shares of the bare time", ("part", "median", "least to most"), breakdown),
        Table(
            "Plain Python beside it",
            ("workload", "this interpreter", "miner", "ratio"),
            python_rows(pool, min(rounds, 5)),
        ),
    ]
    notes = [
        f"Processor time; {rounds} rounds in turns, both sides on one core, the network on the others."
        f" A bare unit takes about {unit_seconds:g} s; what a unit"
        " costs whatever its length weighs more where units are shorter. The node was watched for"
        f" {node.seconds:.0f} s, in which the chain grew by {node.blocks} blocks;"
        f" VERIFY_SHARE is {DEVNET.verify_share_percent} % of a core here. With more cores the node's part is"
        " divided by their number.",
        f"Target: at most {TARGET:.0%} for all together, {AIM:.0%} aimed at:"
        f" {verdicts['median']} by the medians, {verdicts['least']} by the least times. The least of several"
        " is what a machine without other load takes; medians have what else was running in them, in caches"
        " if not in processor time.",
    ]
    return tables, notes


if __name__ == "__main__":
    main()
