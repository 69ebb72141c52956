"""What comes back from a call: values, errors by name, logs, fuel, receipts; and what users do wrong."""

import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria import LocalExecutor
from noria.client.errors import OutOfFuel, OutputLimitReached, ProgramFailed, UnitFailed, failure
from noria.primitives.types import ZERO_ADDRESS, ZERO_HASH
from noria.work.functions import CannotTravel, MalformedResult, RemoteError, RemoteTraceback
from noria.work.guest.kinds import UnencodableValue
from noria.work.ids import blob_id
from noria.work.receipts import RECEIPT_BYTES, Status, decode_receipt
from noria.work.runtimes import Runtime, RuntimeMissing
from noria.work.workers import ProgramMissing
from tests.client import tasks
from tests.client.runtime import python_runtime

PATIENCE = 90.0
FUEL = 5 * 10**9
"""Some seconds at most."""


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    with LocalExecutor(2, fuel_limit=FUEL, runtime=python_runtime()) as executor:
        yield executor


def test_instances_of_ones_own_classes_go_and_come(executor: LocalExecutor) -> None:
    future = executor.submit(tasks.total, tasks.Sample("primes", [2, 3, 5]))
    assert future.result(PATIENCE) == tasks.Sample("primes", [10])
    assert future.log == "adding primes\n"
    assert 0 < future.fuel < FUEL
    assert 0 < future.seconds < PATIENCE


def test_lambdas_closures_and_recursion(executor: LocalExecutor) -> None:
    factor = 3
    assert executor.submit(lambda x: x * factor, 5).result(PATIENCE) == 15

    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    assert executor.submit(factorial, 30).result(PATIENCE) == factorial(30)


def test_exceptions_come_back_with_type_and_traceback(executor: LocalExecutor) -> None:
    future = executor.submit(tasks.fail, 7)
    with pytest.raises(tasks.Unlucky) as raised:
        future.result(PATIENCE)
    assert raised.value.args == ("no luck", 7)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    shown = "".join(traceback.format_exception(raised.value))
    assert 'raise Unlucky("no luck", number)' in shown
    assert "noria/client" not in shown
    assert future.log == "about to fail\n"
    assert future.receipt.status == Status.OK, "the program ran to its end: raising is a result"


def test_each_call_has_a_receipt(executor: LocalExecutor) -> None:
    first, second = (executor.submit(tasks.multiply, 6, 7) for _ in range(2))
    third = executor.submit(tasks.multiply, 6, 8)
    assert [future.result(PATIENCE) for future in (first, second, third)] == [42, 42, 48]
    receipt = first.receipt
    assert (receipt.genesis_root, receipt.job, receipt.k, receipt.miner) == (ZERO_HASH, 0, 0, ZERO_ADDRESS)
    assert (receipt.status, receipt.fuel, receipt.weight) == (Status.OK, first.fuel, 0)
    assert receipt.output_id == blob_id(b"NoriaRe\x01V\x01i\x01\x2a")
    assert second.receipt.index == receipt.index + 1
    assert (second.receipt.unit_id, second.receipt.fuel) == (receipt.unit_id, receipt.fuel)
    assert third.receipt.unit_id != receipt.unit_id
    assert len(receipt.encode()) == RECEIPT_BYTES
    assert decode_receipt(receipt.encode()) == receipt


def test_the_same_call_is_the_same_unit_in_every_executor(executor: LocalExecutor) -> None:
    here = executor.submit(tasks.spin, 100)
    here.result(PATIENCE)
    with LocalExecutor(1, fuel_limit=FUEL, runtime=python_runtime()) as other:
        there = other.submit(tasks.spin, 100)
        there.result(PATIENCE)
    assert there.receipt.unit_id == here.receipt.unit_id
    assert (there.receipt.output_id, there.fuel) == (here.receipt.output_id, here.fuel)


# ---------------------------------------------------------------- calls that the sandbox ends


def test_an_endless_loop_runs_out_of_fuel(executor: LocalExecutor) -> None:
    future = executor.submit(tasks.endless)
    with pytest.raises(OutOfFuel, match=r"endless burned all of its 5,000,000,000 fuel") as raised:
        future.result(PATIENCE)
    error = raised.value
    assert (error.function, error.status, error.fuel, error.log) == ("endless", 2, FUEL, "")
    assert future.receipt.fuel == FUEL
    assert executor.submit(tasks.multiply, 1, 1).result(PATIENCE) == 1


def test_endless_printing_runs_out_of_fuel_and_keeps_the_beginning(executor: LocalExecutor) -> None:
    future = executor.submit(tasks.chatter)
    with pytest.raises(OutOfFuel) as raised:
        future.result(PATIENCE)
    assert len(future.log) == 65_536
    (note,) = raised.value.__notes__
    assert note.startswith("The last lines that it printed:\nxxx")
    assert len(note) < 1000


def test_recursion_and_memory_end_as_in_python(executor: LocalExecutor) -> None:
    nested, filled = executor.submit(tasks.nest, 0), executor.submit(tasks.fill)
    with pytest.raises(RecursionError):
        nested.result(PATIENCE)
    with pytest.raises(MemoryError):
        filled.result(PATIENCE)
    assert executor.stats().machine_failures == 0


def test_a_long_result_is_refused_by_name(executor: LocalExecutor) -> None:
    with pytest.raises(UnencodableValue, match="split the work"):
        executor.submit(lambda: "a" * 70_000_000).result(PATIENCE)

    def writes() -> None:
        import os

        while True:
            os.write(1, bytes(1_000_000))

    with pytest.raises(OutputLimitReached, match="more than 64 MiB"):
        executor.submit(writes).result(PATIENCE)

    def spoils() -> None:
        import os

        os.write(1, b"something else")

    with pytest.raises(MalformedResult):
        executor.submit(spoils).result(PATIENCE)


def test_leaving_the_interpreter_is_no_success(executor: LocalExecutor) -> None:
    def leaves() -> None:
        raise SystemExit(0)

    def leaves_at_once() -> None:
        import os

        os.write(2, b"good \x1b[31mbye")
        os._exit(3)

    with pytest.raises(RemoteError, match="SystemExit: 0"):
        executor.submit(leaves).result(PATIENCE)
    future = executor.submit(leaves_at_once)
    with pytest.raises(ProgramFailed, match=r"within .*leaves_at_once: good \\x1b\[31mbye"):
        future.result(PATIENCE)
    assert future.log == "good \\x1b[31mbye", "text from elsewhere steers no terminal"


@pytest.mark.parametrize("status", [status for status in Status if status != Status.OK])
def test_each_status_has_its_own_error(status: Status) -> None:
    error = failure("work", status, 10, 0.5, b"first\nlast\n")
    assert type(error) is not UnitFailed
    assert "work" in str(error)
    assert "\n" not in str(error)
    assert error.__notes__ == ["The last lines that it printed:\nfirst\nlast"]
    assert (error.status, error.fuel, error.log) == (status, 10, "first\nlast\n")
    kinds = {type(failure("work", other, 10, 0.5, b"")) for other in Status if other != Status.OK}
    assert len(kinds) == 5


# ---------------------------------------------------------------- mistakes


def test_functions_that_cannot_travel_say_why_at_once(executor: LocalExecutor) -> None:
    with Path(__file__).open() as handle, pytest.raises(CannotTravel, match="pass its text"):
        executor.submit(lambda: handle.read())
    with pytest.raises(CannotTravel, match="lock"):
        executor.submit(threading.Lock().acquire)
    with pytest.raises(CannotTravel, match="source"):
        executor.submit(eval("lambda: 1"))


def test_arguments_that_cannot_travel_say_which(executor: LocalExecutor) -> None:
    with pytest.raises(UnencodableValue, match=r"arguments\[0\]\['key'\]"):
        executor.submit(len, {"key": threading.Lock()})
    with pytest.raises(UnencodableValue, match="generator"):
        executor.submit(lambda: (x for x in range(3))).result(PATIENCE)


def test_a_runtime_that_is_not_there_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORIA_CACHE", str(tmp_path))
    with pytest.raises(RuntimeMissing, match="noria runtime install python"):
        LocalExecutor()
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_that_vanished_fails_the_calls(tmp_path: Path) -> None:
    installed = python_runtime()
    gone = Runtime(installed.name, installed.program_id, tmp_path / "gone.wasm")
    with LocalExecutor(1, runtime=gone, cache=tmp_path / "cache") as executor:
        future = executor.submit(tasks.multiply, 1, 1)
        with pytest.raises(ProgramMissing, match="install it again"):
            future.result(PATIENCE)


# ---------------------------------------------------------------- estimates and statistics


def test_an_estimate_comes_from_calls_that_ran(executor: LocalExecutor) -> None:
    before = executor.stats().units
    estimate = executor.estimate(tasks.spin, [1000, 2000, 3000])
    assert executor.stats().units == before + 3
    assert (estimate.function, estimate.calls, estimate.workers) == ("spin", 3, 2)
    assert estimate.fuel.least < estimate.fuel.median < estimate.fuel.most
    assert estimate.fuel.mean == pytest.approx(estimate.fuel.median, rel=0.05)
    assert estimate.fuel.deviation > 0
    assert estimate.total_fuel(1000) == pytest.approx(1000 * estimate.fuel.mean)
    assert estimate.total_seconds(1000) == pytest.approx(500 * estimate.seconds.mean)
    assert estimate.total_seconds(1) == estimate.seconds.mean
    assert str(estimate).startswith("spin, 3 calls: ")
    assert executor.estimate(tasks.spin, iter([5])).fuel.deviation == 0


def test_an_estimate_needs_a_sample_that_works(executor: LocalExecutor) -> None:
    with pytest.raises(ValueError, match="the sample is empty"):
        executor.estimate(tasks.spin, [])
    with pytest.raises(tasks.Unlucky):
        executor.estimate(tasks.fail, [0, 1, 0])


def test_statistics_add_up(executor: LocalExecutor) -> None:
    before = executor.stats()
    futures = [executor.submit(tasks.spin, 10) for _ in range(10)]
    fuel = sum(future.fuel for future in futures if future.result(PATIENCE) is not None)
    after = executor.stats()
    assert (after.units - before.units, after.fuel - before.fuel) == (10, fuel)
    assert after.busy_seconds > before.busy_seconds
    assert (after.queued, after.running, after.workers) == (0, 0, 2)
