"""A bar in terminals and notebooks while calls are under way or the runtime is compiled."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn

from noria.work.workers import Loading

PATIENCE_SECONDS: Final = 0.5
"""What is over sooner needs no bar."""
TICK_SECONDS: Final = 0.1
JOIN_SECONDS: Final = 5.0

STAGES: Final = {
    "instrumenting": "preparing the runtime, once",
    "compiling": "compiling the runtime, once",
    "waiting": "another process compiles it",
    "loading": "loading the runtime",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is shown.

    Parameters
    ----------
    done, total
        Calls that ended, and that were asked for.
    fuel
        Fuel of those that ended.
    loading
        How far the loading of the runtime is, if that is under way.
    note
        What is waited for, if there is something to say.
    """

    done: int
    total: int
    fuel: int
    loading: Loading | None
    note: str = ""


def is_wanted(console: Console) -> bool:
    """Whether somebody looks: a terminal that can move its cursor, or a notebook that has widgets."""
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal and not console.is_dumb_terminal


class ProgressBar:
    """Shows snapshots until everything is done; begins anew when there is more.

    Parameters
    ----------
    look
        Returns the snapshot of now.
    console
        Where to show it.
    """

    def __init__(self, look: Callable[[], Snapshot], console: Console) -> None:
        self._look = look
        self._console = console
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Show something from now on, unless that is so already."""
        with self._lock:
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._show, name="noria-progress", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Show the last state and leave the terminal as it was."""
        self._stopped.set()
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN_SECONDS)

    def _is_over(self, snapshot: Snapshot) -> bool:
        """Whether there is nothing to show; then the next start begins anew."""
        with self._lock:
            if self._stopped.is_set() or snapshot.done >= self._look().total:
                self._thread = None
                return True
        return False

    def _show(self) -> None:
        begin = self._look()
        if self._stopped.wait(PATIENCE_SECONDS) or self._is_over(self._look()):
            with self._lock:
                self._thread = None
            return
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TimeLeftColumn(),
            console=self._console,
            # What the user prints to a file must go there.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )
        with bar:
            calls = bar.add_task("calls", total=None, state="")
            runtime: TaskID | None = None
            is_over = False
            while not is_over:
                is_over = self._stopped.wait(TICK_SECONDS)
                snapshot = self._look()
                runtime = self._show_loading(bar, runtime, snapshot.loading)
                done, total = snapshot.done - begin.done, snapshot.total - begin.done
                bar.update(
                    calls,
                    completed=done,
                    total=total,
                    state=f"{done}/{total}, {snapshot.note or _short(snapshot.fuel - begin.fuel) + ' fuel'}",
                )
                is_over = self._is_over(snapshot) or is_over

    def _show_loading(self, bar: Progress, task: TaskID | None, loading: Loading | None) -> TaskID | None:
        if loading is None:
            if task is not None:
                bar.remove_task(task)
            return None
        if task is None:
            task = bar.add_task("", total=None, state="")
        bar.update(
            task,
            description=STAGES.get(loading.stage, loading.stage),
            completed=loading.functions_done,
            total=loading.functions or None,
            state=f"{100 * loading.functions_done // loading.functions} %" if loading.functions else "",
        )
        return task


def _short(fuel: float) -> str:
    """Write a number of fuel in a few letters."""
    for unit in ("", "k", "M", "G", "T", "P"):
        if fuel < 1000:
            return f"{fuel:.3g} {unit}".rstrip()
        fuel /= 1000
    return f"{fuel:.3g} E"
