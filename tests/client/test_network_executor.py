"""`Executor` keeps the contract of `concurrent.futures`, and shows where results come from."""

import gc
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError, as_completed, wait
from pathlib import Path
from typing import Any

import pytest

from noria import Executor
from noria.client import session
from noria.client.errors import OutOfFuel
from noria.client.network_executor import UnitsWithoutWeight
from noria.client.receipt_files import InvalidReceiptFile, verify_receipt_file
from noria.client.session import BudgetRunsOut
from noria.market.requester.errors import OPENING_MAY_COME, BudgetSpent, NotFunded
from noria.market.requester.journal import JobJournal
from noria.primitives.types import NOR
from noria.work.functions import CannotTravel, RemoteTraceback
from noria.work.guest.kinds import UnencodableValue
from tests.client import tasks
from tests.client.network_world import World, executor, world
from tests.market.requester.fakes import Ways
from tests.market.requester.test_job import flip_a_bit

PATIENCE = 60.0


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def shared(patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    with world(patch, tmp_path_factory.mktemp("shared")), executor() as made:
        yield made


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    with world(monkeypatch, tmp_path) as made:
        yield made


# ---------------------------------------------------------------- as in the standard library


def test_submit(shared: Executor) -> None:
    future = shared.submit(pow, 2, 8)
    assert isinstance(future, Future)
    assert future.result(PATIENCE) == 256
    assert future.exception() is None
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert not future.cancel()
    assert not future.stop()


def test_map(shared: Executor) -> None:
    expected = list(map(pow, range(30), range(30)))
    assert list(shared.map(pow, range(30), range(30))) == expected
    assert list(shared.map(pow, range(30), range(30), chunksize=1)) == expected
    assert list(shared.map(pow, range(30), range(30), chunksize=7)) == expected
    assert list(shared.map(pow, range(30), range(30), buffersize=3)) == expected
    assert list(shared.map(pow, [], [])) == []


def test_exceptions_come_back_with_type_and_traceback(shared: Executor) -> None:
    future = shared.submit(tasks.fail, 7)
    with pytest.raises(tasks.Unlucky) as raised:
        future.result(PATIENCE)
    assert raised.value.args == ("no luck", 7)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert future.log == "about to fail\n"


@pytest.mark.parametrize("chunksize", [None, 1])
def test_map_raises_where_the_result_would_be(shared: Executor, chunksize: int | None) -> None:
    # So many that they are joined by the time of the one that raises.
    items = [*([2] * 60), 0, *([2] * 5)]
    results = shared.map(divmod, [1] * len(items), items, chunksize=chunksize)
    assert [next(results) for _ in range(60)] == [(0, 1)] * 60
    with pytest.raises(ZeroDivisionError) as raised:
        next(results)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    with pytest.raises(StopIteration):
        next(results)


def test_an_item_that_cannot_be_sent_raises_where_its_result_would_be(shared: Executor) -> None:
    results = shared.map(str, [1, 2, threading.Lock(), 4], chunksize=1)
    assert [next(results), next(results)] == ["1", "2"]
    with pytest.raises(UnencodableValue, match="lock"):
        next(results)
    with pytest.raises(CannotTravel, match="lock"):
        shared.map(threading.Lock().acquire, [])
    with pytest.raises(ValueError, match=r"chunksize must be >= 1\."):
        shared.map(pow, [1], [1], chunksize=0)


def test_short_calls_are_joined(own: World) -> None:
    with executor() as made:
        assert list(made.map(tasks.multiply, range(1_000), [2] * 1_000)) == list(range(0, 2_000, 2))
        assert made.stats().units < 300


def test_callbacks_wait_and_as_completed(shared: Executor) -> None:
    called: list[Future[int]] = []
    futures: list[Future[Any]] = [shared.submit(tasks.multiply, n, 2) for n in range(8)]
    futures[0].add_done_callback(called.append)
    assert wait(futures, PATIENCE).not_done == set()
    assert {future.result() for future in as_completed(futures, PATIENCE)} == set(range(0, 16, 2))
    deadline = time.monotonic() + PATIENCE
    while called != [futures[0]]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_callback_may_submit(shared: Executor) -> None:
    second: Future[int] = Future()

    def follow(first: Future[int]) -> None:
        shared.submit(tasks.multiply, first.result(), 2).add_done_callback(
            lambda future: second.set_result(future.result())
        )

    shared.submit(tasks.multiply, 3, 4).add_done_callback(follow)
    assert second.result(PATIENCE) == 24


def test_map_times_out_and_stops_what_is_left(own: World) -> None:
    with executor(fuel_limit=10**12) as made:
        assert list(made.map(tasks.spin, [10], chunksize=1)) == [13]
        results = made.map(tasks.spin, [10, 10, 10**12, 10**12], timeout=4.0, chunksize=1)
        assert [next(results), next(results)] == [13, 13]
        with pytest.raises(TimeoutError):
            next(results)
        assert made.submit(tasks.multiply, 2, 3).result(PATIENCE) == 6


def test_cancel_and_stop_reach_the_miners(own: World) -> None:
    with executor(fuel_limit=10**12) as made:
        running = made.submit(tasks.endless)
        deadline = time.monotonic() + PATIENCE
        while not running.running():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(InvalidStateError, match="has not ended yet"):
            _ = running.receipt
        assert not running.cancel()
        assert running.stop()
        with pytest.raises(CancelledError):
            running.result(PATIENCE)
        assert running.cancelled()
        with pytest.raises(InvalidStateError, match="never ran to an end"):
            _ = running.fuel
        while own.units():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert int(made.stats().spent) == 0


def test_a_call_is_cancelled_before_any_miner_has_it(own: World) -> None:
    own.chain.block_seconds = 0.3
    with executor() as made:
        futures = [made.submit(tasks.multiply, 1, n) for n in range(5)]
        assert futures[3].cancel()
        assert wait(futures, PATIENCE).not_done == set()
        assert [future.cancelled() for future in futures] == [False, False, False, True, False]


def test_nothing_is_taken_after_shutdown_and_all_is_finished(own: World) -> None:
    made = executor()
    futures = [made.submit(tasks.spin, 1000) for _ in range(10)]
    results = made.map(tasks.spin, range(50))
    made.shutdown()
    assert all(future.done() for future in futures)
    assert list(results) == [tasks.spin(number) for number in range(50)]
    for call in (lambda: made.submit(pow, 2, 5), lambda: made.map(pow, [2], [5])):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            call()
    made.shutdown()
    assert own.chain.calls.count("close") == 1
    assert made.job.state == "closing"


def test_an_interrupt_stops_everything_and_ends_the_job(own: World) -> None:
    futures = []

    def interrupted() -> None:
        with executor(fuel_limit=10**12) as made:
            made.submit(tasks.multiply, 1, 1).result(PATIENCE)
            futures.extend([made.submit(tasks.endless) for _ in range(6)])
            raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(future.cancelled() for future in futures)
    assert "close" in own.chain.calls
    assert own.units() == 0
    assert time.monotonic() - begin < 30


def test_an_interrupt_while_no_block_opens_the_job(own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "HURRY_SECONDS", 0.5)
    own.chain.takes_openings = False
    made = executor()
    future = made.submit(tasks.multiply, 1, 1)
    end = time.monotonic() + PATIENCE
    while "open" not in own.chain.calls:
        assert time.monotonic() < end
        time.sleep(0.01)
    made.shutdown(stop_running=True)
    assert future.cancelled()
    assert made.job.state == "opening"
    assert made._session.summary() == [OPENING_MAY_COME]
    # This process is still there, and has nothing to do with it any more.
    [left] = JobJournal().leftovers(own.domain.genesis_root)
    assert (left.number, left.state) == (None, "opening")


def test_results_outlive_an_executor_that_nobody_holds(own: World) -> None:
    made = executor()
    results = made.map(abs, range(-5, 5))
    last = made.submit(tasks.multiply, 2, 3)
    watch = weakref.ref(made)
    del made
    gc.collect()
    assert list(results) == [abs(number) for number in range(-5, 5)]
    assert last.result(PATIENCE) == 6
    del results, last
    deadline = time.monotonic() + PATIENCE
    while "close" not in own.chain.calls:
        gc.collect()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert watch() is None


def test_an_executor_that_was_never_used_opens_nothing(own: World) -> None:
    with executor() as made:
        assert made.job.state == "new"
        assert made.job.id is None
    assert own.chain.calls == []
    assert "first call" in str(made.job.explain()) or made.job.state == "closed"


# ---------------------------------------------------------------- more than that


def test_what_is_known_of_a_call(shared: Executor, tmp_path: Path) -> None:
    future = shared.submit(tasks.total, tasks.Sample("primes", [2, 3, 5]))
    assert future.result(PATIENCE) == tasks.Sample("primes", [10])
    assert future.log == "adding primes\n"
    assert future.fuel > 1000
    assert future.seconds > 0
    receipt = future.receipt
    assert future.cost == receipt.cost == 2 * future.fuel * 1_000_000
    assert len(set(receipt.miners)) == len(receipt.replicas) == 2
    path = tmp_path / "receipt.json"
    receipt.save(path)
    checked = verify_receipt_file(path)
    assert (checked.unit_id, checked.fuel, checked.function) == (receipt.unit_id, future.fuel, "total")
    assert all(replica.is_sealed for replica in checked.replicas)
    path.write_text(path.read_text().replace(f'"fuel": {future.fuel}', f'"fuel": {future.fuel + 1}'))
    with pytest.raises(InvalidReceiptFile, match="says something else"):
        verify_receipt_file(path)


def test_the_job_is_noted_and_explains_itself(own: World, tmp_path: Path) -> None:
    with executor(title="a title") as made:
        made.submit(tasks.fail, 0).result(PATIENCE)
        assert made.job.id == 7
        assert made.job.state == "running"
        assert "1 of 1 units done" in str(made.job.explain())
    journal = JobJournal(tmp_path / "jobs.sqlite")
    [stored] = journal.jobs()
    assert (stored.number, stored.title, stored.state) == (7, "a title", "closing")
    receipts = journal.receipts(stored.id)
    assert len(receipts) == 2
    assert receipts[0].log == b"about to fail\n"
    journal.close()


def test_liars_are_banned_and_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ways = [Ways(workers=1), Ways(workers=1, lie=flip_a_bit), Ways(workers=1)]
    with world(monkeypatch, tmp_path, ways) as made:
        with executor() as first:
            assert list(first.map(tasks.multiply, range(12), range(12), chunksize=1)) == [
                n * n for n in range(12)
            ]
            states = [place.state for place in first.stats().places]
            assert states == ["ready", "banned", "ready"]
        journal = JobJournal(tmp_path / "jobs.sqlite")
        [ban] = journal.bans(made.domain.genesis_root).values()
        assert ban.miner == made.miners[1].address
        journal.close()


def test_a_call_that_needs_more_than_carries_weight_gets_it(own: World) -> None:
    with executor() as made:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            future = made.submit(tasks.spin, 2_000_000)
            assert future.result(PATIENCE) == tasks.spin(2_000_000)
        assert [each.category for each in told] == [UnitsWithoutWeight]
        assert future.fuel > 300_000_000
        assert future.cost > 2 * future.fuel * 1_000_000


def test_a_fuel_limit_of_one_s_own_is_kept(own: World) -> None:
    with executor(fuel_limit=50_000_000) as made:
        future = made.submit(tasks.endless)
        with pytest.raises(OutOfFuel, match="split the work"):
            future.result(PATIENCE)
        assert future.fuel == 50_000_000


def test_the_budget_ends_by_name_and_can_be_topped_up(own: World) -> None:
    # About 7·10^12 wei a call and miner.
    with executor(budget=120 * 10**12) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore", BudgetRunsOut)
        futures = [made.submit(tasks.multiply, 1, n) for n in range(40)]
        wait(futures, PATIENCE)
        failed = [future for future in futures if isinstance(future.exception(), BudgetSpent)]
        assert 20 < len(failed) < 40
        assert "executor.top_up" in str(failed[0].exception())
        made.top_up("1 NOR")
        assert made.submit(tasks.multiply, 6, 7).result(PATIENCE) == 42
        assert int(made.stats().spent) <= int(made.stats().budget)


def test_too_little_money(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with world(monkeypatch, tmp_path, money=NOR), executor(budget="5 NOR") as made:
        future = made.submit(tasks.multiply, 1, 1)
        with pytest.raises(NotFunded):
            future.result(PATIENCE)
        assert made.job.state == "failed"


def test_confidence_chooses_replicas(own: World) -> None:
    with executor(confidence=0.99) as made:
        assert (made.choice.replicas, made.choice.sample) == (2, 0.0)
    with executor(confidence=0.9995, liars=0.2) as made:
        assert made.choice.confidence >= 0.9995
        assert made.stats().replicas == made.choice.replicas


def test_an_estimate_tells_fuel_and_money(own: World) -> None:
    with executor() as made:
        estimate = made.estimate(tasks.spin, [1000, 2000, 3000])
    assert estimate.fuel.mean > 1000
    assert estimate.cost == round(estimate.fuel.mean * 1_000_000 * 2)
    assert estimate.total_cost(10) == pytest.approx(10 * estimate.cost, rel=1e-6)
    assert estimate.cost_per_core_hour > 0
    assert "NOR per core-hour" in str(estimate)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budget": 0}, "budget"),
        ({"budget": "two"}, "not an amount"),
        ({"fuel_limit": 0}, "fuel_limit"),
        ({"replicas": 0}, "replicas"),
        ({"replicas": 2, "confidence": 0.9}, "one or the other"),
        ({"sample": 2.0}, "share"),
        ({"confidence": 1.0}, "below 1"),
        ({"miners": 1, "replicas": 2}, "miners"),
        ({"miners": 99}, "miners"),
        ({"patience": 0}, "patience must be above 0"),
        ({"deadline": -1.0}, "deadline"),
    ],
)
def test_numbers_that_make_no_sense(own: World, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        executor(**settings)
