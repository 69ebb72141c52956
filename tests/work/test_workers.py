"""A pool of workers: how units end, in which order they run, and what happens when one goes wrong."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from pathlib import Path

import pytest

from noria.work import worker_handle, worker_process
from noria.work.ids import InvalidFuelLimit, ProgramId, program_id
from noria.work.receipts import Status
from noria.work.worker_channel import PART_BYTES_MAX, RUN, Channel, Frame
from noria.work.workers import (
    ENGINES,
    CacheFailure,
    InputTooLarge,
    InvalidProgram,
    Loading,
    MachineFailure,
    PoolClosed,
    PoolForked,
    ProgramMissing,
    ProgramSource,
    QueueFull,
    UnitFuture,
    WorkerPool,
)
from tests.work.modules import BOMB, ECHO, ENDLESS, FLOOD, NOTHING, SPIN, TRAP, large, place, turns

PATIENCE = 60.0
MUCH = 2**63


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs and their compiled code, which all tests of this file share."""
    return tmp_path_factory.mktemp("workers")


@pytest.fixture
def pool(folder: Path) -> Iterator[WorkerPool]:
    pool = WorkerPool(2, cache=folder / "cache")
    yield pool
    pool.close(cancel_queued=True, stop_running=True)


@pytest.fixture
def single(folder: Path) -> Iterator[WorkerPool]:
    pool = WorkerPool(1, cache=folder / "cache", queue_limit=3, queue_bytes=1000)
    yield pool
    pool.close(cancel_queued=True, stop_running=True)


def until(true: Callable[[], object]) -> None:
    """Wait for what no future tells."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def endless(pool: WorkerPool, folder: Path) -> UnitFuture[object]:
    """A unit that runs and does not end."""
    unit = pool.submit(place(folder, SPIN), turns(2**62), MUCH)
    until(lambda: unit.process is not None and folder)
    return unit  # type: ignore[return-value]


def process_of(unit: UnitFuture[object]) -> int:
    """The process that runs a unit."""
    until(lambda: unit.process is not None)
    assert unit.process is not None
    return unit.process.pid


# ---------------------------------------------------------------- how units end


@pytest.mark.parametrize(
    ("module", "data", "status", "output"),
    [
        (ECHO, b"to be written", Status.OK, b"to be written"),
        (ECHO, b"", Status.OK, b""),
        (TRAP, b"last words", Status.FAILED, b"last words"),
        (ENDLESS, b"", Status.OUT_OF_FUEL, b""),
        (FLOOD, bytes(60_000), Status.OUTPUT_LIMIT, b""),
    ],
)
def test_units_end_with_their_status(
    pool: WorkerPool, folder: Path, module: bytes, data: bytes, status: Status, output: bytes
) -> None:
    unit = pool.submit(place(folder, module), data, 100_000_000)
    outcome = unit.result(PATIENCE)
    assert (outcome.status, outcome.output) == (status, output)
    assert outcome.log == (data if module in (ECHO, TRAP) else b"")
    assert 0 < outcome.fuel <= 100_000_000
    assert unit.record is not None
    assert (unit.record.status, unit.record.fuel) == (status, outcome.fuel)
    stats = pool.stats()
    assert (stats.units, stats.failed, stats.retries) == (1, int(status != Status.OK), 0)
    assert stats.fuel == outcome.fuel
    assert stats.busy_seconds >= outcome.seconds > 0


def test_a_unit_that_needs_all_its_memory_gets_it(pool: WorkerPool, folder: Path) -> None:
    assert pool.submit(place(folder, BOMB), b"", MUCH).result(PATIENCE).status == Status.OK


def test_every_engine_gives_the_same(folder: Path) -> None:
    outcomes = set()
    for engine in ENGINES:
        with WorkerPool(1, cache=folder / "cache", engine=engine) as pool:
            outcome = pool.submit(place(folder, SPIN), turns(1000), 10**6).result(PATIENCE)
            outcomes.add((outcome.status, outcome.output, outcome.fuel))
    assert len(outcomes) == 1


def test_many_units_of_several_programs(pool: WorkerPool, folder: Path) -> None:
    programs = [place(folder, module) for module in (ECHO, TRAP, NOTHING)]
    units = [
        (number, pool.submit(programs[number % 3], str(number).encode(), 10**6)) for number in range(300)
    ]
    for number, unit in units:
        outcome = unit.result(PATIENCE)
        assert outcome.status == (Status.FAILED if number % 3 == 1 else Status.OK)
        assert outcome.log == (b"" if number % 3 == 2 else str(number).encode())
    # Two as a rule; one that cannot be used again is replaced.
    assert pool.stats().processes < 10


# ---------------------------------------------------------------- order and back-pressure


def test_higher_priorities_go_first_and_equals_in_order(single: WorkerPool, folder: Path) -> None:
    blocker = endless(single, folder)
    order: list[str] = []
    units = []
    for name, priority in [("low", -1), ("first", 0), ("high", 5)]:
        unit = single.submit(place(folder, NOTHING), b"", 10**6, priority=priority)
        unit.add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]
        units.append(unit)
    assert blocker.stop()
    wait(units, PATIENCE)
    assert order == ["high", "first", "low"]


def test_a_full_queue_tells_or_waits(single: WorkerPool, folder: Path) -> None:
    blocker = endless(single, folder)
    nothing = place(folder, NOTHING)
    queued = [single.submit(nothing, b"", 10**6) for _ in range(3)]
    assert single.stats().queued == 3
    with pytest.raises(QueueFull, match="3 units with 0 bytes"):
        single.submit(nothing, b"", 10**6, wait_seconds=0.01)
    waiting = threading.Thread(target=lambda: queued.append(single.submit(nothing, b"", 10**6)))
    waiting.start()
    assert queued[1].cancel()
    waiting.join(PATIENCE)
    assert single.stats().queued == 3
    blocker.stop()
    assert [unit.result(PATIENCE).status for unit in (queued[0], queued[2], queued[3])] == [0, 0, 0]


def test_inputs_that_wait_are_bounded_in_bytes(single: WorkerPool, folder: Path) -> None:
    blocker = endless(single, folder)
    echo = place(folder, ECHO)
    large_one = single.submit(echo, bytes(5000), 10**6)
    with pytest.raises(QueueFull, match="5000 bytes"):
        single.submit(echo, b"x", 10**6, wait_seconds=0)
    large_one.cancel()
    assert single.submit(echo, b"x", 10**6, wait_seconds=0)
    blocker.stop()


def test_callbacks_may_submit_to_a_full_queue(single: WorkerPool, folder: Path) -> None:
    nothing = place(folder, NOTHING)
    more: list[UnitFuture[object]] = []
    enough = threading.Event()

    def follow(_: object) -> None:
        more.extend(single.submit(nothing, b"", 10**6) for _ in range(10))  # type: ignore[misc]
        enough.set()

    single.submit(nothing, b"", 10**6).add_done_callback(follow)
    assert enough.wait(PATIENCE)
    assert not wait(more, PATIENCE).not_done


# ---------------------------------------------------------------- cancelling


def test_a_unit_that_waits_is_cancelled(single: WorkerPool, folder: Path) -> None:
    blocker = endless(single, folder)
    unit = single.submit(place(folder, NOTHING), b"input", 10**6)
    assert not blocker.cancel(), "a running unit is not cancelled, as with any executor"
    assert unit.cancel()
    assert unit.cancel()
    assert unit.cancelled()
    assert blocker.stop()
    assert wait([unit], PATIENCE, FIRST_COMPLETED).done == {unit}
    until(lambda: single.stats().running == 0)
    stats = single.stats()
    assert (stats.cancelled, stats.queued, stats.units) == (2, 0, 0)


def test_a_unit_that_runs_is_stopped_and_others_are_not(pool: WorkerPool, folder: Path) -> None:
    other = pool.submit(place(folder, SPIN), turns(200_000_000), MUCH)
    unit = endless(pool, folder)
    process = process_of(unit)
    assert unit.stop()
    with pytest.raises(CancelledError):
        unit.result(PATIENCE)
    with pytest.raises(CancelledError):
        unit.exception()
    assert unit.cancelled()
    assert unit.done()
    assert not unit.running()
    assert unit.record is None
    assert not Path(f"/proc/{process}").exists()
    assert other.result(PATIENCE).status == Status.OK
    assert not other.stop()
    assert pool.submit(place(folder, ECHO), b"again", 10**6).result(PATIENCE).output == b"again"
    assert pool.stats().retries == 0


# ---------------------------------------------------------------- machines fail


def test_a_killed_worker_costs_a_second_attempt(pool: WorkerPool, folder: Path) -> None:
    unit = pool.submit(place(folder, SPIN), turns(400_000_000), MUCH)
    os.kill(process_of(unit), signal.SIGKILL)  # type: ignore[arg-type]
    assert unit.result(PATIENCE).status == Status.OK
    stats = pool.stats()
    assert (stats.retries, stats.units, stats.machine_failures) == (1, 1, 0)


def test_killed_twice_is_a_failure_of_the_machine_and_no_result(pool: WorkerPool, folder: Path) -> None:
    unit = endless(pool, folder)
    first = process_of(unit)
    os.kill(first, signal.SIGKILL)
    until(lambda: unit.process is not None and unit.process.pid != first)
    other = pool.submit(place(folder, SPIN), turns(50_000_000), MUCH)
    os.kill(process_of(unit), signal.SIGSEGV)
    with pytest.raises(MachineFailure, match=r"in 2 attempts: .*SIGKILL .* and then .*SIGSEGV"):
        unit.result(PATIENCE)
    assert unit.record is None
    assert other.result(PATIENCE).status == Status.OK
    stats = pool.stats()
    assert (stats.retries, stats.units, stats.machine_failures) == (1, 1, 1)


def test_a_worker_killed_while_idle_costs_nothing(single: WorkerPool, folder: Path) -> None:
    nothing = place(folder, NOTHING)
    single.submit(nothing, b"", 10**6).result(PATIENCE)
    (process,) = single.process_ids()
    os.kill(process, signal.SIGKILL)
    until(lambda: not single.process_ids())
    assert single.submit(nothing, b"", 10**6).result(PATIENCE).status == Status.OK
    assert single.stats().retries == 0


@pytest.mark.parametrize("how", ["running", "stopped"])
def test_what_hangs_is_ended(folder: Path, how: str) -> None:
    with WorkerPool(1, cache=folder / "cache", wall_seconds=0.3) as pool:
        place(folder, SPIN)
        pool.submit(place(folder, SPIN), turns(1), MUCH).result(PATIENCE)
        unit = endless(pool, folder)
        if how == "stopped":
            os.kill(process_of(unit), signal.SIGSTOP)
        with pytest.raises(MachineFailure, match=r"the unit ran longer than 0\.3 seconds"):
            unit.result(PATIENCE)
        assert pool.submit(place(folder, NOTHING), b"", 10**6).result(PATIENCE).status == Status.OK


def test_a_worker_that_cannot_start_is_a_failure_of_the_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WorkerPool(1, cache=folder / "cache") as pool:
        monkeypatch.setattr("noria.work.worker_handle.START", "import sys; sys.exit('no such thing')")
        with pytest.raises(MachineFailure, match="exit code 1: no such thing"):
            pool.submit(place(folder, NOTHING), b"", 10**6).result(PATIENCE)
        monkeypatch.setattr("sys.executable", "/nowhere/python")
        with pytest.raises(MachineFailure, match=r"cannot be started.*No such file"):
            pool.submit(place(folder, NOTHING), b"", 10**6).result(PATIENCE)


def test_the_memory_of_a_worker_is_limited(folder: Path) -> None:
    with WorkerPool(1, cache=folder / "cache", memory_bytes=2 << 30) as pool:
        pool.submit(place(folder, NOTHING), b"", 10**6).result(PATIENCE)
        limits = Path(f"/proc/{pool.process_ids()[0]}/limits").read_text().splitlines()
    (data,) = [line.split()[3] for line in limits if line.startswith("Max data size")]
    assert int(data) == 2 << 30


# ---------------------------------------------------------------- programs and their cache


@pytest.mark.parametrize(
    ("module", "kind"),
    [(b"", "not-webassembly"), (b"#!/bin/sh", "not-webassembly"), (ECHO[:-3], "invalid")],
)
def test_what_is_no_program_is_refused(pool: WorkerPool, folder: Path, module: bytes, kind: str) -> None:
    unit = pool.submit(place(folder, module), b"", 10**6)
    with pytest.raises(InvalidProgram) as refused:
        unit.result(PATIENCE)
    assert refused.value.args[0] == kind
    assert pool.stats().retries == 0
    assert pool.submit(place(folder, ECHO), b"x", 10**6).result(PATIENCE).output == b"x"


def test_a_module_that_is_gone_or_another_is_named(pool: WorkerPool, folder: Path) -> None:
    unknown = ProgramId(program_id(b"something else"))
    with pytest.raises(ProgramMissing, match=r"cannot be read .*No such file.*install it again"):
        pool.submit(ProgramSource(unknown, folder / "nothing.wasm"), b"", 10**6).result(PATIENCE)
    with pytest.raises(ProgramMissing, match="is not program"):
        pool.submit(ProgramSource(unknown, place(folder, ECHO).path), b"", 10**6).result(PATIENCE)


def test_compiled_code_needs_no_module_and_broken_code_is_made_again(tmp_path: Path) -> None:
    echo = place(tmp_path, ECHO)
    cache = tmp_path / "cache"
    with WorkerPool(1, cache=cache) as pool:
        pool.submit(echo, b"", 10**6).result(PATIENCE)
    (code,) = cache.glob("*.code")
    module = echo.path.read_bytes()
    echo.path.unlink()
    with WorkerPool(1, cache=cache) as pool:
        assert pool.submit(echo, b"x", 10**6).result(PATIENCE).output == b"x"
    code.write_bytes(code.read_bytes()[:-100])
    with WorkerPool(1, cache=cache) as pool:
        with pytest.raises(ProgramMissing):
            pool.submit(echo, b"x", 10**6).result(PATIENCE)
        echo.path.write_bytes(module)
        assert pool.submit(echo, b"x", 10**6).result(PATIENCE).output == b"x"


def test_an_unusable_cache_is_named(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o777)
    cache.chmod(0o777)
    with WorkerPool(1, cache=cache) as pool:
        for _ in range(2):
            with pytest.raises(CacheFailure, match="others may write"):
                pool.submit(place(tmp_path, ECHO), b"", 10**6).result(PATIENCE)
        cache.chmod(0o700)
        assert pool.submit(place(tmp_path, ECHO), b"x", 10**6).result(PATIENCE).output == b"x"


def test_what_could_not_be_compiled_is_not_tried_again_for_every_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        attempts = 0

        def load_cached(self, program: bytes) -> None:
            return None

        def load(self, module: bytes) -> None:
            self.attempts += 1
            raise CacheFailure("no space left")

        def progress(self) -> tuple[str, int, int]:
            return "compiling", 0, 0

    left, right = socket.socketpair()
    channel = Channel(left.detach())
    worker = worker_process._Worker(channel, str(tmp_path), "wasmtime", 1 << 50, 1 << 50)
    disk = FullDisk()
    worker.sandbox = disk  # type: ignore[assignment]
    echo = place(tmp_path, ECHO)
    request = Frame(RUN, 0, 10, 1, first=echo.id, second=bytes(echo.path))
    for _ in range(5):
        with pytest.raises(CacheFailure, match="no space left"):
            worker.run(request)
    assert disk.attempts == 1
    monkeypatch.setattr(worker_process, "REFUSAL_SECONDS", 0.0)
    with pytest.raises(CacheFailure):
        worker.run(request)
    assert disk.attempts == 2
    channel.close()
    right.close()


@pytest.mark.slow
def test_compiling_is_shown_done_once_and_leaves_no_large_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.work.worker_handle.COMPILER_BYTES", 40 << 20)
    program = place(tmp_path, large(6000))
    seen: list[Loading] = []
    with WorkerPool(2, cache=tmp_path / "cache") as pool:
        units = [pool.submit(program, b"", 10**6) for _ in range(2)]
        while not all(unit.done() for unit in units):
            seen += [loading] if (loading := pool.loading()) else []
            wait(units, 0.05)
        assert [unit.result().status for unit in units] == [Status.OK, Status.OK]
        assert pool.loading() is None
        stats = pool.stats()
        assert (stats.retries, stats.machine_failures) == (0, 0)
        assert 3 <= stats.processes <= 4, "whoever compiled gave way to a fresh process"
    compiling = [loading for loading in seen if loading.stage == "compiling"]
    assert {loading.functions for loading in compiling} == {6001}
    done = [loading.functions_done for loading in compiling]
    assert done == sorted(done)
    assert done[-1] > done[0]
    assert len(list((tmp_path / "cache").glob("*.code"))) == 1


# ---------------------------------------------------------------- mistakes and the end


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", 0), ("queue_limit", 0), ("queue_bytes", 0), ("memory_bytes", 1000), ("wall_seconds", 0),
        ("wall_seconds", float("nan")), ("load_seconds", -1), ("engine", "v8"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, name: str, value: object) -> None:
    settings = {"workers": 1, "cache": tmp_path} | {name: value}
    with pytest.raises(ValueError, match=r"must be|is no engine"):
        WorkerPool(**settings)  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())


def test_what_is_no_unit_is_refused(single: WorkerPool, folder: Path) -> None:
    echo = place(folder, ECHO)
    for limit in (-1, 2**64):
        with pytest.raises(InvalidFuelLimit):
            single.submit(echo, b"", limit)
    with pytest.raises(InputTooLarge, match="split the work"):
        single.submit(echo, bytes(PART_BYTES_MAX + 1), 10**6)


def test_a_callback_that_ends_threads_ends_none_of_the_pools(single: WorkerPool, folder: Path) -> None:
    def leave(_: object) -> None:
        raise SystemExit

    nothing = place(folder, NOTHING)
    single.submit(nothing, b"", 10**6).add_done_callback(leave)
    assert single.submit(nothing, b"", 10**6).result(PATIENCE).status == Status.OK


def test_closing_finishes_what_is_there(folder: Path) -> None:
    pool = WorkerPool(2, cache=folder / "cache")
    units = [pool.submit(place(folder, NOTHING), b"", 10**6) for _ in range(50)]
    pool.close(wait=False)
    with pytest.raises(PoolClosed):
        pool.submit(place(folder, NOTHING), b"", 10**6)
    pool.close()
    pool.close()
    assert all(unit.done() for unit in units)
    assert pool.process_ids() == []


def test_closing_in_a_hurry_leaves_nothing_behind(folder: Path) -> None:
    pool = WorkerPool(1, cache=folder / "cache", queue_limit=1)
    unit = endless(pool, folder)
    process = process_of(unit)
    queued = pool.submit(place(folder, NOTHING), b"", 10**6)
    refused: list[bool] = []

    def waits() -> None:
        try:
            pool.submit(place(folder, NOTHING), b"", 10**6)
        except PoolClosed:
            refused.append(True)

    waiting = threading.Thread(target=waits)
    waiting.start()
    pool.close(cancel_queued=True, stop_running=True)
    waiting.join(PATIENCE)
    assert refused == [True]
    assert unit.cancelled()
    assert queued.cancelled()
    assert not Path(f"/proc/{process}").exists()


def test_leaving_with_an_error_stops_what_runs(folder: Path) -> None:
    units = []

    def interrupted() -> None:
        with WorkerPool(1, cache=folder / "cache") as pool:
            units.append(endless(pool, folder))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert units[0].cancelled()


def test_a_forked_process_has_no_pool(single: WorkerPool, folder: Path) -> None:
    nothing = place(folder, NOTHING)
    single.submit(nothing, b"", 10**6).result(PATIENCE)
    child = os.fork()
    if not child:
        code = 1
        try:
            single.submit(nothing, b"", 10**6)
        except PoolForked:
            single.close(stop_running=True)
            code = 42
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert single.submit(nothing, b"", 10**6).result(PATIENCE).status == Status.OK
    assert single.stats().processes == 1


def test_the_memory_of_who_starts_a_worker_is_not_the_workers(tmp_path: Path) -> None:
    large = bytearray(worker_handle.COMPILER_BYTES + (32 << 20))
    large[:: 4 << 10] = b"x" * len(large[:: 4 << 10])
    with WorkerPool(1, cache=tmp_path / "cache") as pool:
        assert pool.submit(place(tmp_path, NOTHING), b"", 10**6).result(PATIENCE).status == Status.OK
        assert pool.stats().processes == 1, "compiling a small program made no large process"
    del large
