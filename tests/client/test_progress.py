"""The progress bar: what it shows, when it shows nothing, and that it leaves the terminal alone."""

import io
import threading
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from noria.client import progress
from noria.client.progress import ProgressBar, Snapshot, is_wanted
from noria.work.workers import Loading

PATIENCE = 30.0


def terminal() -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=True, width=120, color_system=None), written


class Work:
    """Snapshots that a test changes."""

    def __init__(self, total: int) -> None:
        self.snapshot = Snapshot(0, total, 0, None)

    def __call__(self) -> Snapshot:
        return self.snapshot


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_shown() -> bool:
    return any(thread.name == "noria-progress" for thread in threading.enumerate())


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "TICK_SECONDS", 0.01)


@pytest.mark.usefixtures("hasty")
def test_calls_and_fuel_are_shown_until_all_are_done() -> None:
    console, written = terminal()
    work = Work(4)
    bar = ProgressBar(work, console)
    bar.start()
    bar.start()
    work.snapshot = Snapshot(3, 4, 12_300_000_000, None)
    until(lambda: "3/4, 12.3 G fuel" in written.getvalue())
    work.snapshot = Snapshot(4, 4, 16_000_000_000, None)
    until(lambda: not is_shown())
    assert "4/4, 16 G fuel" in written.getvalue()
    assert written.getvalue().endswith("\x1b[?25h"), "the cursor is back"
    bar.stop()


@pytest.mark.usefixtures("hasty")
def test_later_calls_get_a_bar_of_their_own() -> None:
    console, written = terminal()
    work = Work(1)
    bar = ProgressBar(work, console)
    bar.start()
    until(lambda: "0/1" in written.getvalue())
    work.snapshot = Snapshot(1, 1, 5, None)
    until(lambda: not is_shown())
    work.snapshot = Snapshot(1, 3, 5, None)
    bar.start()
    until(lambda: "0/2, 0 fuel" in written.getvalue())
    bar.stop()
    assert not is_shown()
    bar.start()
    assert not is_shown(), "stopped for good"


@pytest.mark.usefixtures("hasty")
def test_the_first_compilation_is_shown() -> None:
    console, written = terminal()
    work = Work(1)
    bar = ProgressBar(work, console)
    bar.start()
    for stage, words in (
        ("instrumenting", "preparing"),
        ("compiling", "compiling the runtime, once"),
        ("waiting", "another process"),
    ):
        work.snapshot = Snapshot(0, 1, 0, Loading(stage, 4500, 10_000))
        until(lambda words=words: words in written.getvalue())  # type: ignore[misc]
    work.snapshot = Snapshot(1, 1, 7, None)
    until(lambda: not is_shown())
    assert "45 %" in written.getvalue()


def test_what_is_over_soon_is_not_shown() -> None:
    console, written = terminal()
    work = Work(1)
    bar = ProgressBar(work, console)
    bar.start()
    work.snapshot = Snapshot(1, 1, 5, None)
    bar.stop()
    assert written.getvalue() == ""


def test_nothing_is_shown_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_wanted(terminal()[0])
    assert not is_wanted(Console(file=io.StringIO()))
    monkeypatch.setenv("TERM", "dumb")
    assert not is_wanted(Console(file=io.StringIO(), force_terminal=True))
    notebook = Console(file=io.StringIO(), force_jupyter=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "ipywidgets" else None)
    assert is_wanted(notebook)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not is_wanted(notebook), "without widgets a notebook would show a warning instead"


def test_large_numbers_are_short() -> None:
    assert [progress._short(fuel) for fuel in (0, 999, 1500, 2.5e6, 10**12, 10**18)] == [
        "0", "999", "1.5 k", "2.5 M", "1 T", "1 E"
    ]  # fmt: skip
