"""Which calls run on the event loop."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import pytest

from noria.rpc import inline
from noria.rpc.inline import InlineCalls
from noria.rpc.workers import Workers


class Clock:
    """Time that passes only where a test says so, on the wall and in threads alike."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds

    def thread_time(self) -> float:
        return self.seconds


CLOCK = Clock()


@pytest.fixture
async def calls(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[InlineCalls]:
    monkeypatch.setattr(inline, "time", CLOCK)
    workers = Workers(1, 10)
    workers.start()
    yield InlineCalls(workers)
    await workers.stop(5)


def spin(seconds: float) -> int:
    """Use the processor for a while and tell in which thread."""
    CLOCK.seconds += seconds
    return threading.get_ident()


HERE = threading.get_ident


async def test_quick_kind_runs_on_the_loop_from_the_second_call_on(calls: InlineCalls) -> None:
    assert await calls.run("a", HERE) != HERE()
    assert await calls.run("a", HERE) == HERE()
    assert await calls.run("b", HERE) != HERE()


async def test_slow_kind_stays_in_threads(calls: InlineCalls) -> None:
    for _ in range(3):
        assert await calls.run("a", spin, 2 * inline.QUICK_SECONDS) != HERE()


async def test_kind_that_becomes_slow_goes_back_to_threads(calls: InlineCalls) -> None:
    await calls.run("a", spin, 0.0)
    assert await calls.run("a", spin, 2 * inline.QUICK_SECONDS) == HERE()
    assert not calls.may_run("a")
    assert await calls.run("a", spin, 0.0) != HERE()
    assert calls.may_run("a")


async def test_slow_call_closes_the_way_for_all(calls: InlineCalls) -> None:
    for kind in ("a", "b"):
        await calls.run(kind, spin, 0.0)
    assert await calls.run("a", spin, 2 * inline.HELD_SECONDS) == HERE()
    assert not calls.may_run("b")
    assert calls._open_from >= CLOCK.seconds + inline.CLOSED_FACTOR * inline.HELD_SECONDS
    assert await calls.run("b", HERE) != HERE()


async def test_failing_call(calls: InlineCalls) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await calls.run("a", divmod, 1, 0)
    assert not calls.may_run("a")
    await calls.run("a", divmod, 1, 1)
    with pytest.raises(ZeroDivisionError):
        await calls.run("a", divmod, 1, 0)


async def test_number_of_kinds_is_bounded(calls: InlineCalls) -> None:
    for kind in range(inline._KINDS_KEPT + 10):
        calls._quick[kind] = None
        if len(calls._quick) == inline._KINDS_KEPT:
            break
    await calls.run("one more", HERE)
    assert len(calls._quick) == 1
