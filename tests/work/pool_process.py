"""A process with a pool, for tests that interrupt it or end it.

Usage: ``python -m tests.work.pool_process FOLDER TASK``; each task prints one line per event.
"""

import gc
import os
import sys
import time
from pathlib import Path

from noria.work.workers import WorkerPool
from tests.work.modules import ECHO, NOTHING, SPIN, place, turns


def say(*words: object) -> None:
    # In one piece: threads of the pool say something, too.
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def busy(pool: WorkerPool, folder: Path) -> list[int]:
    """Give every worker a unit that does not end, and return the processes."""
    spin = place(folder, SPIN)
    for _ in range(pool.stats().workers):
        pool.submit(spin, turns(2**62), 2**63)
    deadline = time.monotonic() + 30
    while len(pool.process_ids()) < pool.stats().workers:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return pool.process_ids()


def run(pool: WorkerPool, folder: Path) -> None:
    """Run until somebody ends this process."""
    pool.submit(place(folder, SPIN), turns(1), 10**9).result(30)
    say(*busy(pool, folder))
    sys.stdin.read()


def forked(pool: WorkerPool, folder: Path) -> None:
    """The same, while a forked child holds every descriptor of this process open."""
    processes = busy(pool, folder)
    child = os.fork()
    if not child:
        sys.stdin.read()
        os._exit(0)
    say(*processes, child)
    sys.stdin.read()


def interrupted(pool: WorkerPool, folder: Path) -> None:
    """Go on after Ctrl-C in the terminal."""
    single, spin = WorkerPool(1, cache=folder / "cache"), place(folder, SPIN)
    single.submit(spin, turns(1), 10**9).result(60)
    unit = single.submit(spin, turns(300_000_000), 2**63)
    try:
        say(*single.process_ids())
        sys.stdin.read()
    except KeyboardInterrupt:
        say("interrupted")
    say(unit.result(60).status.name, single.stats().retries)


def finishes(pool: WorkerPool, folder: Path) -> None:
    """End with units that wait."""
    echo = place(folder, ECHO)
    for number in range(20):
        unit = pool.submit(echo, str(number).encode(), 10**6)
        unit.add_done_callback(lambda unit: say(unit.result().output.decode()))


def forgotten(pool: WorkerPool, folder: Path) -> None:
    """Lose the pool while units wait."""
    other = WorkerPool(1, cache=folder / "cache")
    nothing = place(folder, NOTHING)
    units = [other.submit(nothing, b"", 10**6) for _ in range(20)]
    threads = other._crew.threads
    del other
    gc.collect()
    for thread in threads:
        thread.join(30)
    say(all(unit.done() for unit in units), any(thread.is_alive() for thread in threads))


def raises(pool: WorkerPool, folder: Path) -> None:
    """End with an interrupt that nobody catches."""
    say(*busy(pool, folder))
    sys.stdin.read()


if __name__ == "__main__":
    tasks = {
        "run": run, "forked": forked, "interrupted": interrupted, "finishes": finishes,
        "forgotten": forgotten, "raises": raises,
    }  # fmt: skip
    where = Path(sys.argv[1])
    tasks[sys.argv[2]](WorkerPool(2, cache=where / "cache"), where)
