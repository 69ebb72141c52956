"""Running state-test files in worker processes, so that no file can take the run down with it."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

MAX_FILE_BYTES: Final = 256 * 1024 * 1024
"""Larger files are refused: a worker holds the parsed file in memory. The official ones are far below."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of output and whether it tells of a success."""

    text: str
    passed: bool


def find_files(paths: Sequence[Path]) -> list[Path]:
    """List the files named, and every ``*.json`` below the folders named, sorted; hidden folders are skipped.

    A path that does not exist stays in the list, so that its failure is reported like any other.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            found[path] = None
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if name.endswith(".json"):
                    found[Path(folder) / name] = None
    return list(found)


def run_files(files: Sequence[Path], forks: Sequence[str] | None, jobs: int) -> Iterator[list[Line]]:
    """Run every file and yield its lines, in the order of ``files``.

    If a worker dies, the files that were in flight are run again one by one, each in a process of its own,
    so that the fault is reported for the file that caused it and for no other.
    """
    workers = min(jobs or os.cpu_count() or 1, len(files))
    chosen = list(forks) if forks else None
    rest = deque(files)
    while rest:
        with _pool(workers) as pool:
            # Only a few files are in flight, so that a long run holds few results in memory.
            running: deque[tuple[Path, Future[list[Line]]]] = deque()
            suspects: list[Path] = []
            while rest or running:
                try:
                    while rest and len(running) < 4 * workers:
                        running.append((rest[0], pool.submit(run_file, rest[0], chosen)))
                        rest.popleft()
                    yield running[0][1].result()
                    running.popleft()
                except BrokenProcessPool:
                    suspects = [path for path, _ in running]
                    break
                except (KeyboardInterrupt, GeneratorExit):
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        for path in suspects:
            yield _run_alone(path, chosen)


def run_file(path: Path, forks: list[str] | None) -> list[Line]:
    """Run one file in this process; any failure to read or understand it is its single line."""
    from noria._core import run_state_test

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return [_failure(path, f"file is larger than {MAX_FILE_BYTES} bytes")]
        if not path.is_file():
            return [_failure(path, "not a regular file")]
        rows = run_state_test(path.read_bytes(), forks)
    except OSError as error:
        return [_failure(path, error.strerror or str(error))]
    except Exception as error:
        # Whatever a foreign file does to the engine is a failed line, not the end of the run.
        return [_failure(path, str(error.args[-1]) if error.args else type(error).__name__)]
    return [_line(path, row) for row in rows]


def _run_alone(path: Path, forks: list[str] | None) -> list[Line]:
    with _pool(1) as pool:
        try:
            return pool.submit(run_file, path, forks).result()
        except BrokenProcessPool:
            return [_failure(path, "the engine process ended abnormally on this file")]


def _pool(workers: int) -> ProcessPoolExecutor:
    # "spawn" starts clean interpreters: nothing inherited, the same on every platform.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    import signal

    # One worker per core already: the engine's own thread pool would only add contention.
    os.environ["RAYON_NUM_THREADS"] = "1"
    # Ctrl-C ends a worker at once and without a traceback; the parent tells the user.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _line(path: Path, row: dict[str, Any]) -> Line:
    record = {"file": str(path)} | {
        key: row[key] for key in ("name", "fork", "index", "pass", "stateRoot", "error")
    }
    return Line(json.dumps(record), bool(row["pass"]))


def _failure(path: Path, reason: str) -> Line:
    row = {"name": None, "fork": None, "index": None, "pass": False, "stateRoot": None, "error": reason}
    return _line(path, row)
