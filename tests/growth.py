"""How the cost of some work grows with its size: a bound that holds on a slow or busy machine too."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SMALL = 1_000
LARGE = 10 * SMALL
# Work that is linear grows tenfold, a sort by little more; quadratic work grows a hundredfold.
NEARLY_LINEAR = 40.0
REPEATS = 5


class Stopwatch:
    """Seconds of this thread for each named part; what other tests left to collect does not count."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.thread_time()
        yield
        self.seconds[name] = time.thread_time() - began


def least_seconds(work: Callable[[int, Stopwatch], None], size: int) -> dict[str, float]:
    """The least time of each part of `work(size, stopwatch)` in some runs."""
    runs = []
    enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(REPEATS):
            watch = Stopwatch()
            work(size, watch)
            runs.append(watch.seconds)
    finally:
        if enabled:
            gc.enable()
    return {part: min(run[part] for run in runs) for part in runs[0]}


def growth(work: Callable[[int, Stopwatch], None]) -> dict[str, float]:
    """How many times longer each part of `work` takes for ten times the size."""
    small, large = least_seconds(work, SMALL), least_seconds(work, LARGE)
    return {part: large[part] / small[part] for part in small}
