"""Calls that are joined: how many, and what becomes of those that fail together."""

from concurrent.futures import CancelledError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.client.chunks import CALL_SOME, CHUNK_MAX, ChunkFuture, ChunkSizer, each_result
from noria.client.errors import OutOfFuel
from noria.client.network_futures import AnyNetworkFuture, NetworkFuture
from noria.work.receipts import Status

Calls = list[tuple[Any, ...]]


def out_of_fuel() -> OutOfFuel:
    return OutOfFuel("it burned all", "f", Status.OUT_OF_FUEL, 1, "")


class Units:
    """Runs chunks at once, as a miner would: no more than so many calls fit one unit."""

    def __init__(self, fits: int = 10**6) -> None:
        self.fits = fits
        self.started: list[int] = []

    def start(self, calls: Calls) -> AnyNetworkFuture:
        self.started.append(len(calls))
        future: AnyNetworkFuture = NetworkFuture("f", lambda outcome: None)
        future.set_running_or_notify_cancel()
        if len(calls) > self.fits:
            future.set_exception(out_of_fuel())
            return future
        try:
            future.set_result(CALL_SOME(reciprocal, calls))
        except Exception as error:
            future.set_exception(error)
        return future


def reciprocal(number: int) -> float:
    return 1 / number


@given(numbers=st.lists(st.integers(0, 5), min_size=1, max_size=40), fits=st.integers(1, 40))
def test_results_and_the_first_error_are_as_if_each_stood_alone(numbers: list[int], fits: int) -> None:
    future = ChunkFuture([(number,) for number in numbers], Units(fits).start)
    expected: list[float] = []
    told: list[float] = []
    for number in numbers:
        if number == 0:
            break
        expected.append(1 / number)
    results = each_result([future.result(0)])
    if 0 in numbers:
        with pytest.raises(ZeroDivisionError):
            told.extend(results)
    else:
        told = list(results)
    assert told == expected


def test_a_call_that_raises_is_run_by_itself() -> None:
    units = Units()
    results, error = ChunkFuture([(1,), (2,), (0,), (4,)], units.start).result(0)
    assert results == [1.0, 0.5]
    assert isinstance(error, ZeroDivisionError)
    assert units.started == [4, 1]


def test_what_cannot_be_sent_is_the_error_of_its_place() -> None:
    def refuse(calls: Calls) -> AnyNetworkFuture:
        raise TypeError("cannot be sent")

    results, error = ChunkFuture([(1,)], refuse).result(0)
    assert results == []
    assert isinstance(error, TypeError)


def test_a_stopped_chunk_starts_nothing_more() -> None:
    pending: list[AnyNetworkFuture] = []

    def start(calls: Calls) -> AnyNetworkFuture:
        future: AnyNetworkFuture = NetworkFuture("f", lambda outcome: None)
        pending.append(future)
        return future

    chunk = ChunkFuture([(1,), (2,)], start)
    assert chunk.stop()
    with pytest.raises(CancelledError):
        chunk.result(0)
    assert len(pending) == 1
    assert chunk.cancelled()


def test_sizes_grow_with_what_is_known_and_keep_far_from_the_limit() -> None:
    sizer = ChunkSizer(unit_fuel_max=4 * 10**9)
    assert (sizer.size(), sizer.window()) == (1, 8)
    sizer.note(1, 7_000_000, 1)
    assert sizer.window() > 8
    first = sizer.size()
    assert 50 < first < 300
    for _ in range(20):
        sizer.note(first, first * 1_000, 1)
    assert sizer.size() == CHUNK_MAX


@given(
    notes=st.lists(
        st.tuples(st.integers(1, 4096), st.integers(0, 4 * 10**9), st.integers(0, 10_000)), max_size=20
    )
)
def test_sizes_are_always_possible(notes: list[tuple[int, int, int]]) -> None:
    sizer = ChunkSizer(4 * 10**9)
    for calls, fuel, milliseconds in notes:
        sizer.note(calls, fuel, milliseconds)
        assert 1 <= sizer.size() <= CHUNK_MAX
