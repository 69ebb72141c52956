"""Ten minutes of a quiet network of four real nodes: blocks, finality, reorganisations, processor and memory.

python -m benchmarks.quiet [--seconds 600] [--quick] [--record]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.report import Table, publish
from noria.execution.parameters import DEVNET
from tests.node.networks import assert_same_final_history, network_of, wait_for_final
from tests.node.quiet import (
    CORE_SHARE_MAX,
    DEPTH_MAX,
    LAG_EPOCHS_MAX,
    MEMORY_BYTES_MAX,
    SIGMAS,
    Expected,
    Quiet,
    watch,
)

FINAL_SECONDS: Final = 300.0


def table(seen: Quiet) -> Table:
    """What was seen beside what is wanted."""

    def count(name: str, value: Expected, places: int) -> tuple[str, str, str]:
        expected = f"{value.expected:.{places}f} ± {SIGMAS * value.sigma:.{places}f}"
        return name, f"{value.found:.{places}f}", expected

    rows = [count("slots with a block, share", seen.share, 4)]
    rows += [count(f"blocks of miner {at}", made, 0) for at, made in enumerate(seen.made.values(), 1)]
    depths = ", ".join(f"{number} of depth {depth}" for depth, number in sorted(seen.depths.items()))
    cores = ", ".join(f"{100 * share:.1f}" for share in seen.cores)
    memory = ", ".join(f"{used / 2**20:.0f}" for used in seen.memory_bytes)
    rows += [
        ("finality behind, at most, epochs", f"{seen.lag_epochs}", f"≤ {LAG_EPOCHS_MAX}"),
        ("reorganisations, all nodes", depths or "none", f"none deeper than {DEPTH_MAX}"),
        ("processor of each node, % of a core", cores, f"≤ {100 * CORE_SHARE_MAX:.0f}"),
        ("resident memory of each node, MiB", memory, f"≤ {MEMORY_BYTES_MAX // 2**20}"),
    ]
    return Table("Four nodes that only mine", ("", "seen", "wanted"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--quick", action="store_true", help="one minute")
    parser.add_argument("--record", action="store_true", help="write the table to docs/benchmarks.md")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        network_of(Path(folder) / "net", parameters=DEVNET, units=64) as network,
    ):
        wait_for_final(network, 1, FINAL_SECONDS)
        seen = watch(network, 60.0 if options.quick else options.seconds)
        assert_same_final_history(network.nodes)
    states = ", ".join(f"{number} {state}" for state, number in sorted(seen.states.items()))
    notes = [
        f"{seen.seconds:.0f} s on one machine, {seen.slots} slots, {seen.blocks} final blocks, the same at"
        f" all nodes; their certificates as the first node knows them: {states}. Resident memory counts what"
        " nodes share once for each of them."
    ]
    failures = seen.failures()
    notes.append(f"Not as wanted: {'; '.join(failures)}." if failures else "All as wanted.")
    publish("quiet", [table(seen)], notes, record=options.record)


if __name__ == "__main__":
    main()
