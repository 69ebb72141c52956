"""The Python runtime with all rules on: plain Python against this interpreter, the first compilation, a unit.

    python -m benchmarks.runtime_python [--quick] [--record]

CPU time on both sides, the best of several runs. The runtime is CPython 3.15, so a part of each ratio is the
difference between two versions of the interpreter.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, Final

from benchmarks.report import Table, publish
from benchmarks.runtime_workloads import WORKLOADS
from noria._core import Program, Sandbox
from noria.work.folders import compiled_folder
from noria.work.functions import capture, decode_result
from noria.work.runtimes import Runtime, install

FUEL: Final = 10**13
UNITS: Final = 300
STARTS: Final = 7

COMPILE: Final = """
import resource, sys, time
from noria._core import Sandbox
with open(sys.argv[1], "rb") as file:
    module = file.read()
began = time.perf_counter()
Sandbox(sys.argv[2]).load(module)
usage = resource.getrusage(resource.RUSAGE_SELF)
print(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
"""
START: Final = """
import sys, time
began = time.perf_counter()
from noria._core import Sandbox
program = Sandbox(sys.argv[1]).load_cached(bytes.fromhex(sys.argv[2]))
program.run(bytes.fromhex(sys.argv[3]), 10**12)
print(time.perf_counter() - began)
"""


def trivial(number: int) -> int:
    return number + 1


def seconds(call: Callable[[], Any], times: int) -> float:
    """CPU time of a call at its best."""
    best = math.inf
    for _ in range(times):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best


def compare(program: Program, times: int) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    ratios = []
    for function, argument in WORKLOADS:
        call = capture(function).call((argument,), {})
        outcome = program.run(call.archive, FUEL)
        assert decode_result(outcome.output, call.classes) == function(argument)
        native = seconds(lambda function=function, argument=argument: function(argument), times)  # type: ignore[misc]
        guest = seconds(lambda call=call: program.run(call.archive, FUEL), times)  # type: ignore[misc]
        ratios.append(guest / native)
        rows.append(
            (
                function.__name__,
                f"{native * 1000:,.0f}",
                f"{guest * 1000:,.0f}",
                f"{guest / native:.2f}",
                f"{outcome.fuel / 1e9:.2f}",
                f"{guest / outcome.fuel * 1e9:.3f}",
            )
        )
    rows.append(("geometric mean", "", "", f"{statistics.geometric_mean(ratios):.2f}", "", ""))
    return rows


def output_of(code: str, *arguments: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600, check=True
    )
    return [float(number) for number in done.stdout.split()]


def measure(runtime: Runtime, program: Program, quick: bool) -> list[tuple[str, str, str]]:
    archive = capture(trivial).call((1,), {}).archive
    units = []
    cpu_of_units = -time.process_time()
    for _ in range(UNITS):
        began = time.perf_counter()
        outcome = program.run(archive, FUEL)
        units.append(time.perf_counter() - began)
        assert outcome.status == 0
    cpu_of_units += time.process_time()
    arguments = (str(compiled_folder()), runtime.program_id.hex(), archive.hex())
    starts = [output_of(START, *arguments)[0] for _ in range(STARTS)]
    rows = [
        ("module", f"{runtime.path.stat().st_size / 1e6:.1f} MB", "below 60 MB"),
        ("trivial unit, warm, median", f"{statistics.median(units) * 1000:.1f} ms", "≤ 8 ms"),
        ("trivial unit, warm, CPU", f"{cpu_of_units / UNITS * 1000:.1f} ms", ""),
        ("fuel of a trivial unit", f"{outcome.fuel / 1e6:.1f} million", ""),
        (
            "new process, everything cached, with one unit, median",
            f"{statistics.median(starts) * 1000:.0f} ms",
            "≤ 300 ms",
        ),
    ]
    if not quick:
        with tempfile.TemporaryDirectory() as cache:
            wall, cpu, memory = output_of(COMPILE, str(runtime.path), cache)
        rows += [
            ("first compilation, wall", f"{wall:.1f} s", "≤ 75 s"),
            ("first compilation, CPU", f"{cpu:.1f} s", ""),
            ("first compilation, peak memory", f"{memory:.0f} MiB", "below 3 GB"),
        ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small run that shows that the program works")
    parser.add_argument("--record", action="store_true", help="write the tables to docs/benchmarks.md")
    arguments = parser.parse_args()
    runtime = install()
    program = Sandbox(compiled_folder()).load_cached(runtime.program_id)
    assert program is not None
    publish(
        "runtime_python",
        [
            Table(
                "Plain Python in the runtime",
                ["", "native ms", "runtime ms", "ratio", "fuel, 10^9", "ns / fuel"],
                compare(program, 1 if arguments.quick else 5),
            ),
            Table("The runtime", ["", "measured", "target"], measure(runtime, program, arguments.quick)),
        ],
        [
            f"Native is CPython {sys.version.split()[0]}; the runtime is CPython 3.15 with fuel, stack and "
            "NaN rule. Target: at most 3 times native, 2 aimed at."
        ],
        record=arguments.record,
    )


if __name__ == "__main__":
    main()
