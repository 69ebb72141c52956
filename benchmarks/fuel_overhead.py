"""What the sandbox's rules cost: kernels in C, plain, under each rule, all rules, and native.

    python -m benchmarks.fuel_overhead [--runs 5] [--record]

Plain and instrumented modules run on the same engine with the same settings; the native program is the same
source, compiled by the C compiler of this machine. Every kernel must return the same number everywhere. Times
are processor time.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.fuel_calibration import example
from benchmarks.kernels.build import MODULE, SOURCE
from benchmarks.report import Table, publish

RULES: Final = ("fuel", "fuel and stack", "fuel and NaN", "all", "all, NaN by the compiler")
NATIVE: Final = [os.environ.get("CC", "gcc"), "-O3", "-ffp-contract=off"]
SECONDS: Final = 600
MEAN: Final = 0.08
"""Most that counting fuel may cost, in the geometric mean."""
MOST: Final = 0.25
"""Most that counting fuel may cost in any kernel."""
NATIVE_MOST: Final = 1.5
"""Most that SHA-256 and the path tracer may take under all rules, native being 1."""


def native(runs: int) -> dict[str, tuple[float, float]]:
    """Nanoseconds and result of each kernel, compiled for this processor."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "kernels"
        subprocess.run([*NATIVE, "-o", str(program), str(SOURCE), "-lm"], check=True, timeout=SECONDS)
        done = subprocess.run(
            [program, str(runs)], check=True, timeout=SECONDS, stdout=subprocess.PIPE, text=True
        )
    rows = (line.split() for line in done.stdout.splitlines())
    return {name: (float(ns), float(result)) for name, ns, result in rows}


def percent(ratio: float) -> str:
    """A ratio as what it adds."""
    return f"{(ratio - 1) * 100:+.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="each kernel so often; the best counts")
    parser.add_argument("--quick", action="store_true", help="two runs of each")
    parser.add_argument("--record", action="store_true", help="write the tables to docs/benchmarks.md")
    options = parser.parse_args()
    runs = 2 if options.quick else options.runs

    measured: dict[str, dict[str, tuple[float, float, float]]] = {}
    for row in example("kernels", str(MODULE), str(runs)):
        values = (float(str(row["ns"])), float(str(row["result"])), float(str(row["fuel"] or 0)))
        measured.setdefault(str(row["kernel"]), {})[str(row["rules"])] = values
    peers = native(runs)

    rows = []
    ratios: dict[str, list[float]] = {rule: [] for rule in RULES}
    beside_native: dict[str, float] = {}
    for kernel, times in measured.items():
        plain, result, _ = times["plain"]
        results = {times[rule][1] for rule in RULES} | {result, peers[kernel][1]}
        if len(results) > 1:
            raise SystemExit(f"{kernel} returned different numbers: {sorted(results)}")
        for rule in RULES:
            ratios[rule].append(times[rule][0] / plain)
        beside_native[kernel] = times["all"][0] / peers[kernel][0]
        rows.append(
            (
                kernel.replace("_", " "),
                f"{plain / 1e6:.1f} ms",
                *(percent(times[rule][0] / plain) for rule in RULES),
                f"{plain / peers[kernel][0]:.2f}",
                f"{beside_native[kernel]:.2f}",
                f"{times['all'][0] / times['all'][2]:.3f}",
            )
        )
    means = {rule: math.exp(math.fsum(map(math.log, ratios[rule])) / len(rows)) for rule in RULES}
    rows.append(("geometric mean", "", *(percent(means[rule]) for rule in RULES), "", "", ""))
    table = Table(
        "What the rules cost, over the same module without them on the same engine",
        ("kernel", "plain", *RULES, "plain / native", "all / native", "ns per fuel"),
        rows,
    )
    worst = max(ratios["fuel"])
    hashing, tracing = beside_native["sha256"], beside_native["path_tracer"]
    notes = [
        f"Counting fuel: {percent(means['fuel'])} in the mean (at most {percent(1 + MEAN)} wanted), "
        f"{percent(worst)} at worst (wanted: at most {percent(1 + MOST)}).",
        f"Under all rules SHA-256 takes {hashing:.2f} times and the path tracer {tracing:.2f} times as "
        f"long as native C (wanted: at most {NATIVE_MOST}). Native is `{' '.join(NATIVE)}`.",
    ]
    publish("fuel_overhead", [table], notes, record=options.record)


if __name__ == "__main__":
    main()
