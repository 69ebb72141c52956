"""A map's calls, whatever the order in which they end and their results are taken."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.client.futures import CallFuture
from noria.client.mapping import MapRun
from noria.primitives.types import ZERO_HASH
from noria.work.ids import ProgramId
from noria.work.workers import ProgramSource

PROGRAM = ProgramSource(ProgramId(ZERO_HASH), Path("nowhere"))


class Calls:
    """What a run has asked for; a test decides when each ends."""

    def __init__(self) -> None:
        self.pending: list[tuple[int, CallFuture[int]]] = []
        self.started: list[int] = []
        self.dropped: list[int] = []

    def submit(self, item: int) -> CallFuture[int]:
        if item < 0:
            raise ValueError(item)
        future: CallFuture[int] = CallFuture(PROGRAM, b"", 1, lambda _: 0, 0)
        self.started.append(item)
        self.pending.append((item, future))
        return future

    def finish(self, place: int = 0) -> None:
        item, future = self.pending.pop(place % len(self.pending))
        if future.set_running_or_notify_cancel():
            future.set_result(item * 10)

    def run(self, items: Iterator[int], window: int, *, is_lazy: bool = False) -> MapRun[int, int]:
        return MapRun(self.submit, items, window, self.dropped.extend, is_lazy=is_lazy)


@given(st.integers(0, 30), st.integers(1, 5), st.booleans(), st.lists(st.integers(0, 9), max_size=60))
def test_results_come_in_order_and_few_calls_wait(
    count: int, window: int, is_lazy: bool, choices: list[int]
) -> None:
    calls = Calls()
    results = calls.run(iter(range(count)), window, is_lazy=is_lazy).results(None)
    taken: list[int] = []
    for choice in [*choices, *[0, 9] * (2 * count)]:
        assert len(calls.pending) <= window
        if is_lazy:
            assert len(calls.started) <= len(taken) + window
        ended = set(calls.started) - {item for item, _ in calls.pending}
        if len(taken) in ended and choice < 5:
            taken.append(next(results))
        elif calls.pending:
            calls.finish(choice)
    assert taken == [item * 10 for item in range(count)]
    assert calls.started == list(range(count))
    assert calls.dropped == []


def test_calls_begin_before_any_result_is_taken() -> None:
    calls = Calls()
    run = calls.run(iter(range(5)), 2)
    assert calls.started == [0, 1]
    calls.finish()
    assert calls.started == [0, 1, 2]
    while calls.pending:
        calls.finish()
    assert list(run.results(0)) == [0, 10, 20, 30, 40]


def test_items_that_cannot_be_sent_stand_in_their_place() -> None:
    calls = Calls()
    results = calls.run(iter([1, -2, -3, 4]), 1).results(None)
    calls.finish()
    assert calls.started == [1, 4]
    assert next(results) == 10
    with pytest.raises(ValueError, match="-2"):
        next(results)
    assert calls.pending[0][1].cancelled(), "nobody can take what is left"


def test_all_items_may_be_bad() -> None:
    assert Calls().run(iter([-1] * 1000), 3).results(None)


def test_cancelling_drops_what_has_not_begun() -> None:
    calls = Calls()
    run = calls.run(iter(range(6)), 2)
    run.cancel()
    run.cancel()
    assert calls.dropped == [2, 3, 4, 5]
    assert all(future.cancelled() for _, future in calls.pending)
    results = run.results(None)
    with pytest.raises(CancelledError):
        next(results)
    assert calls.started == [0, 1]


def test_a_run_that_is_left_early_drops_the_rest() -> None:
    calls = Calls()
    results = calls.run(iter(range(6)), 2).results(None)
    calls.finish()
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert all(future.cancelled() for _, future in calls.pending)
    assert calls.started == [0, 1, 2]
    assert calls.dropped == [3, 4, 5]


def test_endless_items_are_not_taken_beyond_the_buffer() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    calls = Calls()
    run = calls.run(items(), 3, is_lazy=True)
    assert len(taken) == 3
    run.cancel()
    assert len(taken) == 3
    assert calls.dropped == []


def test_time_runs_out_where_a_result_is_missing() -> None:
    calls = Calls()
    results = calls.run(iter(range(3)), 1).results(0.01)
    with pytest.raises(TimeoutError):
        next(results)
    assert calls.pending[0][1].cancelled()


def test_a_waiting_thread_hears_of_new_calls() -> None:
    calls = Calls()
    run = calls.run(iter(range(50)), 1)
    found: list[int] = []
    taker = threading.Thread(target=lambda: found.extend(run.results(30)))
    taker.start()
    while calls.pending:
        calls.finish()
    taker.join(30)
    assert found == [item * 10 for item in range(50)]
