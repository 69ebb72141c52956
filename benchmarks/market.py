"""The market on this machine: latency, throughput, and the same tasks on Dask, Ray and a process pool.

    python -m benchmarks.market [--quick] [--record] [--only latency|peers|long]

A network of two nodes, each with a miner of one worker, so that all executors have the same two cores. Dask
and Ray run functions without a sandbox and believe what comes back; they are installed for this alone
(`make bench` does so), and left out where they are not there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor as AnyExecutor
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from benchmarks.executor import trivial, work
from noria import Executor, LocalExecutor
from noria.primitives.amounts import format_amount

WORKERS: Final = 2
MILLISECONDS: Final = 100
TASKS: Final = 400
LONG_UNITS: Final = 10_000
SCRIPT: Final = """
from noria import Executor

def double(number):
    return 2 * number

with Executor("1 NOR", node={node!r}, replicas=2) as executor:
    print(executor.submit(double, 21).result(), flush=True)
"""


def run(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "noria.cli.main", *arguments], check=True, stderr=subprocess.DEVNULL
    )


@contextmanager
def network(nodes: int) -> Iterator[str]:
    """A network of real processes; its folder is what clients name."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(Path(temporary) / "network")
        try:
            run("network", "up", "--nodes", str(nodes), "--dir", folder)
            yield folder
        finally:
            run("network", "down", "--dir", folder)


def first_result_seconds() -> tuple[float, float]:
    """From `noria network up` to the first verified result of a script, and of that the script alone."""
    begin = time.perf_counter()
    with network(4) as folder:
        up = time.perf_counter()
        file = Path(folder).parent / "script.py"
        file.write_text(SCRIPT.format(node=folder))
        with subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            end = time.perf_counter()
        assert line.strip() == "42", line
        return end - begin, end - up


def measure_latency(calls: int) -> list[tuple[str, str, str]]:
    print("network up, first result", file=sys.stderr)
    total, script = first_result_seconds()
    print("latency, throughput", file=sys.stderr)
    with network(WORKERS) as folder:
        with Executor("20 NOR", node=folder, replicas=2, miners=WORKERS, progress=False) as executor:
            first = time.perf_counter()
            executor.submit(trivial, 1).result()
            first = time.perf_counter() - first
            for number in range(20):
                executor.submit(trivial, number).result()
            alone = []
            for number in range(calls // 4):
                begin = time.perf_counter()
                assert executor.submit(trivial, number).result() == number + 1
                alone.append(time.perf_counter() - begin)
        rates = {}
        for replicas in (1, 2):
            with Executor(
                "20 NOR", node=folder, replicas=replicas, miners=WORKERS, progress=False
            ) as executor:
                list(executor.map(trivial, range(20), chunksize=1))
                begin = time.perf_counter()
                assert sum(executor.map(trivial, range(calls), chunksize=1)) == sum(range(1, calls + 1))
                rates[replicas] = calls / (time.perf_counter() - begin)
        with Executor("20 NOR", node=folder, replicas=2, miners=WORKERS, progress=False) as executor:
            list(executor.map(trivial, range(20)))
            begin = time.perf_counter()
            assert sum(executor.map(trivial, range(50 * calls))) == sum(range(1, 50 * calls + 1))
            joined = 50 * calls / (time.perf_counter() - begin)
    return [
        ("`network up` (4 nodes) to the first verified result", f"{total:.1f} s", "≤ 20 s"),
        ("of that: the script, from its start", f"{script:.1f} s", ""),
        ("opening a job to its first result", f"{first:.1f} s", "≤ 5 blocks"),
        (
            "round trip of a trivial unit, 2 replicas, median",
            f"{statistics.median(alone) * 1000:.0f} ms",
            "≤ 40 ms",
        ),
        ("trivial units per second, 1 replica", f"{rates[1]:,.0f}", "≥ 100"),
        ("trivial units per second, 2 replicas", f"{rates[2]:,.0f}", "≥ 100"),
        ("`map` joining calls by itself, calls per second", f"{joined:,.0f}", ""),
    ]


def turns_for(milliseconds: float) -> int:
    """Turns of `work` that take so long in the sandbox on one core."""
    trial = 20_000
    with LocalExecutor(1, progress=False) as executor:
        executor.submit(work, 1, 1).result()
        nothing = min(_seconds(executor, 1) for _ in range(5))
        seconds = min(_seconds(executor, trial) for _ in range(5)) - nothing
    return max(1, round(trial * milliseconds / 1000 / seconds))


def _seconds(executor: LocalExecutor, turns: int) -> float:
    future = executor.submit(work, turns, 1)
    future.result()
    return future.seconds


@contextmanager
def dask() -> Iterator[AnyExecutor]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor()


class _Ray:
    """As much of an executor as is measured."""

    def map(self, function: Callable[..., Any], items: Any, chunksize: int = 1) -> list[Any]:
        import ray

        remote = ray.remote(function.func if isinstance(function, partial) else function)
        first = function.args if isinstance(function, partial) else ()
        found: list[Any] = ray.get([remote.remote(*first, item) for item in items])
        return found


@contextmanager
def ray_executor() -> Iterator[Any]:
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        yield _Ray()
    finally:
        ray.shutdown()


def timed(executor: Any, turns: int, tasks: int) -> float:
    """How long the tasks take once everything is warm."""
    list(executor.map(partial(work, 1), range(4 * WORKERS), chunksize=1))
    begin = time.perf_counter()
    results = list(executor.map(partial(work, turns), range(tasks), chunksize=1))
    seconds = time.perf_counter() - begin
    assert results[:2] == [work(turns, 0), work(turns, 1)]
    assert len(results) == tasks
    return seconds


def measure_peers(tasks: int) -> list[tuple[str, str, str]]:
    turns = turns_for(MILLISECONDS)
    with network(WORKERS) as folder:
        makers: dict[str, Callable[[], Any]] = {
            "LocalExecutor": lambda: LocalExecutor(WORKERS, progress=False),
            "Executor, 1 replica": lambda: Executor(
                "50 NOR", node=folder, replicas=1, miners=WORKERS, progress=False
            ),
            "Executor, 2 replicas": lambda: Executor(
                "50 NOR", node=folder, replicas=2, miners=WORKERS, progress=False
            ),
            "ProcessPoolExecutor": lambda: ProcessPoolExecutor(WORKERS),
        }
        if find_spec("distributed"):
            makers["Dask distributed"] = dask
        if find_spec("ray"):
            makers["Ray"] = ray_executor
        seconds = {}
        for name, make in makers.items():
            print(f"{tasks} tasks: {name}", file=sys.stderr)
            with make() as executor:
                seconds[name] = timed(executor, turns, tasks)
    local = seconds["LocalExecutor"]
    targets = {"Executor, 1 replica": "≥ 85 %", "Executor, 2 replicas": "≥ 40 %"}
    return [
        (name, f"{value:.1f}", f"{100 * local / value:.0f} % {targets.get(name, '')}".strip())
        for name, value in seconds.items()
    ]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_long(units: int) -> list[tuple[str, str, str]]:
    """One job of many units: does the client grow, does it become slow, is everything paid?"""
    tenth = units // 10
    with network(WORKERS) as folder:
        before = peak = resident_bytes()
        stop = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not stop.wait(0.1):
                peak = max(peak, resident_bytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        marks = []
        try:
            with Executor("50 NOR", node=folder, replicas=2, miners=WORKERS, progress=False) as executor:
                for count, value in enumerate(executor.map(trivial, range(units), chunksize=1)):
                    assert value == count + 1
                    if count % tenth == 0:
                        marks.append(time.perf_counter())
                marks.append(time.perf_counter())
        finally:
            stop.set()
            watcher.join()
        view = executor.stats()
        owed = int(view.spent)
        paid = paid_wei(folder, view.job or 0, owed)
    first, last = marks[2] - marks[1], marks[-1] - marks[-2]
    return [
        (f"{units:,} units, 2 replicas", f"{marks[-1] - marks[0]:.0f} s", ""),
        ("second tenth, last tenth", f"{first:.1f} s, {last:.1f} s", "no slower"),
        ("client's memory at most", f"{peak / 2**20:.0f} MiB ({before / 2**20:.0f} before)", "≤ 300 MB"),
        ("owed", f"{owed} wei", format_amount(owed)),
        ("paid on chain", f"{paid} wei", "the same"),
    ]


def paid_wei(folder: str, job: int, owed: int, limit_seconds: float = 120.0) -> int:
    """What the chain has paid for a job, once that is all or the time is up."""
    from noria.cli.endpoint import Endpoint
    from noria.client.local_network import find_nodes
    from noria.market.contract_events import PAID_TOPIC, job_topic

    node = Endpoint(find_nodes(folder)[0])
    topics = ["0x" + PAID_TOPIC.hex(), "0x" + job_topic(job).hex()]
    end = time.monotonic() + limit_seconds
    while True:
        logs = node.call("eth_getLogs", {"fromBlock": "earliest", "toBlock": "latest", "topics": topics})
        paid = sum(int(log["data"][-64:], 16) for log in logs)
        if paid >= owed or time.monotonic() > end:
            return paid
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small run that shows that the program works")
    parser.add_argument("--record", action="store_true", help="write the tables to docs/benchmarks.md")
    parser.add_argument("--only", choices=("latency", "peers", "long"))
    arguments = parser.parse_args()
    from benchmarks.report import Table, publish

    share = 20 if arguments.quick else 1
    tables = []
    if arguments.only in (None, "latency"):
        tables.append(
            Table("Latency and throughput", ["", "measured", "target"], measure_latency(1_000 // share))
        )
    if arguments.only in (None, "peers"):
        tasks = TASKS // share
        tables.append(
            Table(
                f"{tasks} tasks of {MILLISECONDS} ms in the sandbox, {WORKERS} workers or miners",
                ["", "seconds", "speed of LocalExecutor"],
                measure_peers(tasks),
            )
        )
    if arguments.only in (None, "long"):
        tables.append(Table("A long job", ["", "measured", "target"], measure_long(LONG_UNITS // share)))
    publish(
        "market",
        tables,
        [
            "Nodes make and check blocks meanwhile, on the same cores. A unit of 100 ms in the sandbox takes "
            "the process pool, Dask and Ray less: they run it natively, unmetered, and believe any answer."
        ],
        record=arguments.record and arguments.only is None,
    )


if __name__ == "__main__":
    main()
