"""`LocalExecutor` on two workers: what a unit costs, and `ProcessPoolExecutor` beside it.

    python -m benchmarks.executor [--quick] [--record]

A task is a loop of 1, 10 or 100 ms of native CPU time. The standard library forks processes that see all
of the program and may do anything; here each call is a unit in a fresh, metered, deterministic instance.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from typing import Final

from noria import LocalExecutor

WORKERS: Final = 2
TRIVIAL_CALLS: Final = 2_000
TASKS: Final = 1_000
MILLISECONDS: Final = (1, 10, 100)
STARTS: Final = 7


def trivial(number: int) -> int:
    return number + 1


def work(turns: int, number: int) -> int:
    """Mix a number for a while: small integers, comparisons, a list."""
    table = [0] * 64
    for turn in range(turns):
        number = (number * 21 + turn) & 0xFFFF
        if number & 1:
            table[number & 63] += 1
        else:
            table[(number >> 6) & 63] -= 1
    return sum(table)


def turns_of(milliseconds: float) -> int:
    """How many turns of `work` take so long here, without the sandbox."""
    trial = 100_000
    times = []
    for _ in range(5):
        begin = time.process_time()
        work(trial, 1)
        times.append(time.process_time() - begin)
    return max(1, round(trial * milliseconds / 1000 / min(times)))


def cpu_seconds() -> float:
    """CPU time of this process and of all its children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def start_seconds() -> float:
    """From nothing to the first result, everything cached, without the unit itself."""
    begin = time.perf_counter()
    with LocalExecutor(1, progress=False) as executor:
        future = executor.submit(trivial, 1)
        future.result()
        return time.perf_counter() - begin - future.seconds


def measure_units(calls: int) -> list[tuple[str, str, str]]:
    starts = [start_seconds() for _ in range(STARTS)]
    cpu = cpu_seconds()
    with LocalExecutor(WORKERS, progress=False) as executor:
        list(executor.map(trivial, range(calls)))
    cpu = cpu_seconds() - cpu
    with LocalExecutor(WORKERS, progress=False) as executor:
        list(executor.map(trivial, range(20)))
        alone = []
        inside = []
        for number in range(calls // 10):
            begin = time.perf_counter()
            future = executor.submit(trivial, number)
            future.result()
            alone.append(time.perf_counter() - begin)
            inside.append(future.seconds)
        begin = time.perf_counter()
        assert sum(executor.map(trivial, range(calls))) == sum(range(1, calls + 1))
        rate = calls / (time.perf_counter() - begin)
        begin = time.perf_counter()
        assert sum(executor.map(trivial, range(50 * calls), chunksize=500)) == sum(range(1, 50 * calls + 1))
        chunked = 50 * calls / (time.perf_counter() - begin)
    return [
        (
            "from nothing to the first result, median",
            f"{statistics.median(starts) * 1000:,.0f} ms",
            "≤ 300 ms",
        ),
        ("trivial unit in the worker, median", f"{statistics.median(inside) * 1000:.1f} ms", "≤ 8 ms"),
        ("trivial unit, CPU time of worker and pool", f"{cpu / calls * 1000:.1f} ms", ""),
        ("submit and result, one after the other, median", f"{statistics.median(alone) * 1000:.1f} ms", ""),
        ("map, calls per second", f"{rate:,.0f}", "≥ 200"),
        ("map with chunksize=500, calls per second", f"{chunked:,.0f}", ""),
    ]


def seconds_for(executor: Executor, turns: int, tasks: int, chunksize: int) -> float:
    """How long a map takes once the workers are there."""
    list(executor.map(partial(work, 1), range(4 * WORKERS)))
    begin = time.perf_counter()
    results = list(executor.map(partial(work, turns), range(tasks), chunksize=chunksize))
    seconds = time.perf_counter() - begin
    assert results[0] == work(turns, 0)
    assert results[-1] == work(turns, tasks - 1)
    return seconds


def measure_tasks(tasks: int) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    makers: dict[str, Callable[[], Executor]] = {
        "standard library": lambda: ProcessPoolExecutor(WORKERS),
        "noria": lambda: LocalExecutor(WORKERS, progress=False),
    }
    for milliseconds in MILLISECONDS:
        turns = turns_of(milliseconds)
        for chunksize in (1, 20) if milliseconds == 1 else (1,):
            print(f"{tasks} tasks of {milliseconds} ms", file=sys.stderr)
            seconds, cpu = {}, {}
            for name, make in makers.items():
                before = cpu_seconds()
                with make() as executor:
                    seconds[name] = seconds_for(executor, turns, tasks, chunksize)
                cpu[name] = cpu_seconds() - before
            ideal = tasks * milliseconds / 1000 / WORKERS
            rows.append(
                (
                    f"{milliseconds} ms" + (f", chunksize={chunksize}" if chunksize > 1 else ""),
                    f"{ideal:.1f}",
                    f"{seconds['standard library']:.1f}",
                    f"{seconds['noria']:.1f}",
                    f"{seconds['noria'] / seconds['standard library']:.1f}",
                    f"{cpu['noria'] / cpu['standard library']:.1f}",
                )
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small run that shows that the program works")
    parser.add_argument("--record", action="store_true", help="write the tables to docs/benchmarks.md")
    arguments = parser.parse_args()
    from benchmarks.report import Table, publish

    tasks = TASKS // 50 if arguments.quick else TASKS
    units = measure_units(TRIVIAL_CALLS // 10 if arguments.quick else TRIVIAL_CALLS)
    rows = measure_tasks(tasks)
    publish(
        "executor",
        [
            Table(f"Units of the Python runtime, {WORKERS} workers", ["", "measured", "target"], units),
            Table(
                f"{tasks:,} tasks on {WORKERS} workers, seconds",
                [
                    "native CPU time",
                    "ideal",
                    "ProcessPoolExecutor",
                    "LocalExecutor",
                    "ratio",
                    "ratio of CPU time",
                ],
                rows,
            ),
        ],
        [
            "Workers were started and warm, except in the first row of the first table. A task is a loop "
            "over small integers and a list. Ideal: native CPU time by two cores that do nothing else. CPU "
            "time depends less than the clock on what else the machine does."
        ],
        record=arguments.record,
    )


if __name__ == "__main__":
    main()
