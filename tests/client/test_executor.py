"""The contract of `concurrent.futures.Executor`, as the standard library tests it."""

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
    as_completed,
    wait,
)
from typing import Any

import pytest

import noria
from noria import LocalExecutor
from noria.work.functions import CannotTravel, CapturedFunction, capture
from noria.work.guest.kinds import UnencodableValue
from noria.work.workers import PoolForked
from tests.client import tasks
from tests.client.runtime import python_runtime

PATIENCE = 90.0
SHORT = 2_000_000
"""Turns of `tasks.spin` that take some hundred milliseconds."""


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    with LocalExecutor(2, runtime=python_runtime()) as executor:
        yield executor


@pytest.fixture
def own() -> Iterator[LocalExecutor]:
    """An executor for tests that end it."""
    executor = LocalExecutor(2, runtime=python_runtime())
    yield executor
    executor.shutdown(stop_running=True)


def settled(state: str) -> Future[Any]:
    future: Future[Any] = Future()
    if state == "cancelled":
        future.cancel()
        future.set_running_or_notify_cancel()
    elif state == "failed":
        future.set_exception(OSError())
    else:
        future.set_result(42)
    return future


# ---------------------------------------------------------------- submit


def test_submit(executor: LocalExecutor) -> None:
    assert isinstance(executor, Executor)
    future = executor.submit(pow, 2, 8)
    assert isinstance(future, Future)
    assert future.result(PATIENCE) == 256
    assert future.exception() is None
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert not future.cancel()


def test_submit_with_names(executor: LocalExecutor) -> None:
    assert executor.submit(tasks.multiply, 2, y=8).result(PATIENCE) == 16
    given = executor.submit(tasks.collect, 1, self=2, fn=3)
    assert given.result(PATIENCE) == ((1,), {"self": 2, "fn": 3})
    with pytest.raises(TypeError):
        executor.submit(fn=tasks.collect, arg=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        executor.submit(arg=1)  # type: ignore[call-arg]


def test_callbacks_are_called_with_the_future(executor: LocalExecutor) -> None:
    called: list[Future[int]] = []
    done = threading.Event()
    future = executor.submit(tasks.multiply, 6, 7)
    future.add_done_callback(called.append)
    future.add_done_callback(lambda _: done.set())
    assert done.wait(PATIENCE)
    future.add_done_callback(called.append)
    assert called == [future, future]


def test_a_callback_may_submit(executor: LocalExecutor) -> None:
    second: Future[int] = Future()

    def follow(first: Future[int]) -> None:
        executor.submit(tasks.multiply, first.result(), 2).add_done_callback(
            lambda future: second.set_result(future.result())
        )

    executor.submit(tasks.multiply, 3, 4).add_done_callback(follow)
    assert second.result(PATIENCE) == 24


def test_arguments_are_not_held_once_the_call_is_queued(executor: LocalExecutor) -> None:
    value = tasks.Big(3)
    collected = threading.Event()
    watch = weakref.ref(value, lambda _: collected.set())
    executor.submit(value.doubled)
    del value
    gc.collect()
    assert collected.wait(PATIENCE)
    assert watch() is None


# ---------------------------------------------------------------- map


def test_map(executor: LocalExecutor) -> None:
    assert list(executor.map(pow, range(10), range(10))) == list(map(pow, range(10), range(10)))
    assert list(executor.map(pow, range(10), range(10), chunksize=3)) == list(map(pow, range(10), range(10)))
    assert list(executor.map(pow, range(10), range(5))) == list(map(pow, range(5), range(5)))
    assert list(executor.map(pow, [], [])) == []


def test_map_raises_where_the_result_would_be(executor: LocalExecutor) -> None:
    results = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert next(results) == (0, 1)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_with_chunks_raises_for_the_chunk(executor: LocalExecutor) -> None:
    results = executor.map(tasks.fail, [0, 0, 0, 1, 0, 0], chunksize=2)
    assert [next(results), next(results)] == [0, 0]
    with pytest.raises(tasks.Unlucky) as raised:
        next(results)
    assert raised.value.args == ("no luck", 1)


def test_an_item_that_cannot_be_sent_raises_where_its_result_would_be(executor: LocalExecutor) -> None:
    results = executor.map(str, [1, 2, threading.Lock(), 4])
    assert [next(results), next(results)] == ["1", "2"]
    with pytest.raises(UnencodableValue, match="lock"):
        next(results)


def test_map_times_out_and_stops_what_is_left(own: LocalExecutor) -> None:
    list(own.map(tasks.spin, range(4)))
    results = own.map(tasks.spin, [10, 10, 10**12, 10**12, 10**12], timeout=3.0)
    assert [next(results), next(results)] == [13, 13]
    with pytest.raises(TimeoutError):
        next(results)
    assert own.submit(tasks.multiply, 2, 3).result(PATIENCE) == 6


def test_leaving_a_map_stops_what_is_left(own: LocalExecutor) -> None:
    for first in own.map(tasks.spin, [1, *[10**12] * 100]):
        assert first == 0
        break
    assert own.submit(tasks.multiply, 2, 3).result(PATIENCE) == 6
    stats = own.stats()
    assert stats.units <= 2
    assert stats.queued == 0


def test_map_holds_no_results(executor: LocalExecutor) -> None:
    for size in (1, 2):
        for result in executor.map(tasks.make_big, range(6), chunksize=size):
            watch = weakref.ref(result)
            del result
            gc.collect()
            assert watch() is None


def test_few_calls_of_a_large_map_wait(own: LocalExecutor) -> None:
    results = own.map(tasks.spin, [1000] * 200)
    most = 0
    for _ in results:
        stats = own.stats()
        most = max(most, stats.queued + stats.running)
    assert 2 <= most <= 8
    assert own.stats().units == 200


def test_a_buffer_takes_items_as_results_are_taken(own: LocalExecutor) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    results = own.map(tasks.spin, items(), buffersize=3)
    assert len(taken) == 3
    for number in range(5):
        assert next(results) == [0, 0, 1, 3, 6][number]
    assert len(taken) <= 8
    with pytest.raises(ValueError, match="buffersize"):
        own.map(tasks.spin, [], buffersize=0)


def test_a_function_is_captured_once_for_a_map(
    executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured: list[object] = []

    def counting(function: Callable[..., Any]) -> CapturedFunction:
        captured.append(function)
        return capture(function)

    monkeypatch.setattr("noria.client.calls.capture", counting)
    assert sum(executor.map(tasks.spin, [1] * 50)) == 0
    assert captured == [tasks.spin]


def test_sizes_and_functions_are_checked_at_once(executor: LocalExecutor) -> None:
    with pytest.raises(ValueError, match=r"chunksize must be >= 1\."):
        executor.map(pow, [1], [1], chunksize=0)
    with pytest.raises(CannotTravel, match="lock"):
        executor.map(threading.Lock().acquire, [])


# ---------------------------------------------------------------- wait and as_completed


def test_wait_for_the_first(executor: LocalExecutor) -> None:
    quick: Future[Any] = executor.submit(tasks.multiply, 21, 2)
    slow = executor.submit(tasks.endless)
    done, waiting = wait([settled("cancelled"), slow], PATIENCE, return_when=FIRST_COMPLETED)
    assert (len(done), waiting) == (1, {slow})
    done, waiting = wait([quick, slow], PATIENCE, return_when=FIRST_COMPLETED)
    assert (done, waiting) == ({quick}, {slow})
    assert slow.stop()
    assert wait([slow], PATIENCE).done == {slow}


def test_wait_for_the_first_exception(executor: LocalExecutor) -> None:
    failing: Future[Any] = executor.submit(tasks.fail, 1)
    slow = executor.submit(tasks.endless)
    done, waiting = wait([settled("done"), failing, slow], PATIENCE, return_when=FIRST_EXCEPTION)
    assert failing in done
    assert waiting == {slow}
    slow.stop()
    done, waiting = wait([slow], PATIENCE, return_when=FIRST_EXCEPTION)
    assert done == {slow}


def test_wait_for_all_and_not_too_long(executor: LocalExecutor) -> None:
    futures: list[Future[Any]] = [executor.submit(divmod, 2, 0), executor.submit(tasks.multiply, 2, 21)]
    others = [settled("cancelled"), settled("failed"), settled("done")]
    done, waiting = wait([*futures, *others, *futures], PATIENCE, return_when=ALL_COMPLETED)
    assert (done, waiting) == ({*futures, *others}, set())
    slow = executor.submit(tasks.endless)
    done, waiting = wait([*others, slow], 0.05)
    assert (done, waiting) == (set(others), {slow})
    slow.stop()


def test_as_completed(executor: LocalExecutor) -> None:
    slow: Future[Any] = executor.submit(tasks.spin, SHORT)
    quick: Future[Any] = executor.submit(tasks.multiply, 7, 6)
    others = [settled("cancelled"), settled("failed"), settled("done")]
    order = list(as_completed([slow, *others, quick, slow], PATIENCE))
    assert set(order) == {slow, quick, *others}
    assert order.index(quick) < order.index(slow)
    with pytest.raises(TimeoutError, match=r"1 \(of 1\) futures unfinished"):
        list(as_completed([endless := executor.submit(tasks.endless)], 0.05))
    assert endless.stop()


# ---------------------------------------------------------------- cancel and stop


def test_cancel_before_and_stop_while_a_call_runs(own: LocalExecutor) -> None:
    running = [own.submit(tasks.endless) for _ in range(2)]
    waiting = own.submit(tasks.multiply, 1, 1)
    deadline = time.monotonic() + PATIENCE
    while not all(future.running() for future in running):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(TimeoutError):
        running[0].result(0.01)
    assert not running[0].cancel()
    assert not running[1].cancel()
    assert waiting.cancel()
    with pytest.raises(CancelledError):
        waiting.result(0)
    with pytest.raises(InvalidStateError, match="has not ended yet"):
        _ = running[0].receipt
    assert running[0].stop()
    with pytest.raises(CancelledError):
        running[0].result(PATIENCE)
    assert running[0].cancelled()
    with pytest.raises(InvalidStateError, match="never ran to an end"):
        _ = running[0].fuel
    assert running[1].running()
    assert running[1].stop()


# ---------------------------------------------------------------- shutdown


def test_nothing_is_taken_after_shutdown(own: LocalExecutor) -> None:
    own.shutdown()
    for call in (lambda: own.submit(pow, 2, 5), lambda: own.map(pow, [2], [5])):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            call()
    own.shutdown()


def test_shutdown_waits_for_calls_and_for_maps_that_nobody_has_taken() -> None:
    with LocalExecutor(2, runtime=python_runtime()) as executor:
        futures = [executor.submit(tasks.spin, 1000) for _ in range(20)]
        results = executor.map(tasks.spin, range(100))
        chunks = executor.map(tasks.spin, range(100), chunksize=7)
    assert all(future.done() for future in futures)
    assert list(results) == list(chunks) == [tasks.spin(number) for number in range(100)]
    assert executor.stats().processes == 2


def test_shutdown_without_waiting_finishes_everything(own: LocalExecutor) -> None:
    results = own.map(tasks.spin, range(50))
    own.shutdown(wait=False)
    assert list(results) == [tasks.spin(number) for number in range(50)]


def test_shutdown_may_cancel_what_has_not_begun(own: LocalExecutor) -> None:
    futures = [own.submit(tasks.spin, SHORT) for _ in range(50)]
    results = own.map(tasks.spin, range(1000))
    own.shutdown(cancel_futures=True)
    cancelled = [future for future in futures if future.cancelled()]
    assert len(cancelled) > 20
    assert all(future.done() for future in futures)
    assert all(future.exception() is None for future in futures if future not in cancelled)
    with pytest.raises(CancelledError):
        list(results)


def test_a_call_cancelled_right_before_shutdown_hinders_nobody(own: LocalExecutor) -> None:
    own.submit(int).result(PATIENCE)
    own.submit(int).cancel()
    own.shutdown()


def test_results_outlive_an_executor_that_nobody_holds() -> None:
    executor = LocalExecutor(2, runtime=python_runtime())
    results = executor.map(abs, range(-5, 5))
    last = executor.submit(tasks.multiply, 2, 3)
    del executor
    gc.collect()
    assert list(results) == [abs(number) for number in range(-5, 5)]
    assert last.result(PATIENCE) == 6


def test_an_interrupt_within_the_context_leaves_nothing_running() -> None:
    futures = []

    def interrupted() -> None:
        with LocalExecutor(1, runtime=python_runtime()) as executor:
            futures.extend([executor.submit(tasks.endless) for _ in range(3)])
            raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(future.cancelled() for future in futures)
    assert time.monotonic() - begin < 30


# ---------------------------------------------------------------- making one


@pytest.mark.parametrize("number", [0, -1])
def test_there_is_at_least_one_worker(number: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        LocalExecutor(max_workers=number, runtime=python_runtime())
    with pytest.raises(ValueError, match="fuel_limit must be"):
        LocalExecutor(fuel_limit=number, runtime=python_runtime())


def test_it_is_an_attribute_of_the_package_that_costs_nothing_until_used() -> None:
    assert noria.__all__ == ["Executor", "LocalExecutor", "ProgramExecutor"]
    with pytest.raises(AttributeError, match="RemoteExecutor"):
        _ = noria.RemoteExecutor


def test_a_forked_process_makes_its_own(executor: LocalExecutor) -> None:
    executor.submit(int).result(PATIENCE)
    child = os.fork()
    if not child:
        code = 1
        try:
            executor.submit(int)
        except PoolForked:
            code = 42
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert executor.submit(int).result(PATIENCE) == 0
