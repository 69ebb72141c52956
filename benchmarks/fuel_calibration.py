"""Nanoseconds per fuel: of each kind of instruction, and of the slowest programs that could be found.

    python -m benchmarks.fuel_calibration [--runs 3] [--record]

An instruction's price is the smallest whole number with which it takes at most ``CACHED`` ns per fuel where
all it needs is in the nearest cache, unless a program that makes it slow on purpose would then take more than
``WORST`` ns per fuel: that one decides. Times are processor time, the best of some runs.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
from dataclasses import dataclass
from typing import Final

from benchmarks.peers import ROOT
from benchmarks.report import Table, publish

CACHED: Final = 1.5
"""Nanoseconds per fuel that an instruction may take with everything at hand."""
WORST: Final = 30.0
"""Nanoseconds per fuel that any program may take."""
PRICES: Final = ROOT / "crates" / "sandbox" / "src" / "prices.csv"
BUILD: Final = [
    "cargo",
    "build",
    "--release",
    "--locked",
    "-p",
    "noria-sandbox",
    "-p",
    "noria-python",
    "--examples",
]
PROGRAM_SECONDS: Final = 1800
AROUND: Final = {
    # What stands beside the measured instruction and takes time as well.
    "trunc": ("f64.convert", 1.6),
    "any_true": ("splat", 1.6),
    "all_true": ("splat", 1.6),
    "bitmask": ("splat", 1.6),
    "extract_lane": ("splat", 1.1),
    "demote_f64$": ("promote", 0.85),
    "try_table": ("call", 1.8),
    "throw_ref": ("throw", 186.0),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A program that repeats something."""

    name: str
    instruction: str | None
    nanoseconds: float
    """Of one repetition."""
    fuel: float
    """Of one repetition, with what is around it."""

    @property
    def rate(self) -> float:
        """Nanoseconds per fuel."""
        return self.nanoseconds / self.fuel


def example(name: str, *arguments: str) -> list[dict[str, object]]:
    """Build and run an example of the sandbox crate; it prints a JSON object per line."""
    subprocess.run([*BUILD, "--quiet"], cwd=ROOT, check=True, timeout=PROGRAM_SECONDS)
    program = ROOT / "target" / "release" / "examples" / name
    done = subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        check=True,
        timeout=PROGRAM_SECONDS,
        stdout=subprocess.PIPE,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def measure(runs: int) -> list[Measured]:
    """All programs."""
    measured = []
    for row in example("calibrate", str(runs)):
        times, instruction = float(str(row["times"])), row["instruction"]
        measured.append(
            Measured(
                name=str(row["name"]),
                instruction=None if instruction is None else str(instruction),
                nanoseconds=float(str(row["ns"])) / times,
                fuel=float(str(row["fuel"])) / times,
            )
        )
    return measured


def prices() -> dict[str, int]:
    """The table as it is: fuel of an instruction without its length."""
    rows = [line.split(",") for line in PRICES.read_text().splitlines() if line and not line.startswith("#")]
    return {row[0]: int(row[1]) for row in rows[1:]}


def alone(measured: Measured) -> float:
    """Nanoseconds of the instruction without what stands beside it."""
    around = next(
        (ns for part, (_, ns) in AROUND.items() if re.search(part, measured.instruction or "")), 0.0
    )
    return max(0.0, measured.nanoseconds - around)


def proposal(nanoseconds: float) -> int:
    """The price that the time in the nearest cache asks for."""
    return max(1, math.ceil(nanoseconds / CACHED))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="each program so often; the best counts")
    parser.add_argument("--quick", action="store_true", help="one run of each")
    parser.add_argument("--record", action="store_true", help="write the tables to docs/benchmarks.md")
    options = parser.parse_args()

    measured = measure(1 if options.quick else options.runs)
    table = prices()
    single = [row for row in measured if row.instruction is not None]
    slow = sorted((row for row in measured if row.instruction is None), key=lambda row: -row.rate)
    too_cheap = [row.name for row in single if proposal(alone(row)) > table[row.instruction or ""]]
    too_slow = [row.name for row in slow if row.rate > WORST]
    instructions = Table(
        "Instructions with all they need in the nearest cache, each waiting for the one before",
        ("instruction", "ns", f"asks for (ns / {CACHED:g})", "price"),
        [
            (row.name, f"{alone(row):.2f}", str(proposal(alone(row))), str(table[row.instruction or ""]))
            for row in single
        ],
    )
    programs = Table(
        "Programs made to be slow",
        ("what it repeats", "ns", "fuel", "ns per fuel"),
        [(row.name, f"{row.nanoseconds:,.1f}", f"{row.fuel:,.1f}", f"{row.rate:.2f}") for row in slow],
    )
    notes = [
        f"Instructions priced below what their time asks for: {', '.join(too_cheap) or 'none'}.",
        f"Programs above {WORST:g} ns per fuel: {', '.join(too_slow) or 'none'}.",
    ]
    publish("fuel_calibration", [programs, instructions], notes, record=options.record)


if __name__ == "__main__":
    main()
