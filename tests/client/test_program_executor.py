"""`ProgramExecutor`: WebAssembly programs on miners, whether the chain pins them or not."""

import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from noria import ProgramExecutor
from noria.client.chain_setup import ProgramUnknown
from noria.client.errors import OutOfFuel, OutputLimitReached, ProgramFailed, StackLimitReached
from noria.client.job_front import JobFront, UnitsWithoutWeight
from noria.client.network_futures import NetworkFuture
from noria.client.programs import ProgramTooLarge, given_program
from noria.client.receipt_files import verify_receipt_file
from noria.client.wallet import Wallet
from noria.market.messages import BLOB_BYTES_MAX, INLINE_BYTES_MAX
from noria.work.ids import ProgramId, blob_id, program_id, unit_id
from noria.work.workers import InputTooLarge, InvalidProgram, ProgramSource
from tests.client.network_world import UNIT_FUEL_MAX, World, world
from tests.market.requester.fakes import PRICE, Ways, key_of
from tests.market.requester.test_job import flip_a_bit
from tests.work.modules import ECHO, ENDLESS, FLOOD, TRAP, command

PATIENCE = 60.0
RECURSION = command(b"\x10\x02")
Opened = Callable[..., AbstractContextManager[World]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Opened:
    """Opens a world of miners that have, or are yet to be brought, one program."""

    @contextmanager
    def open_world(
        module: bytes, *, is_pinned: bool = False, ways: list[Ways] | None = None
    ) -> Iterator[World]:
        path = tmp_path / "program.wasm"
        path.write_bytes(module)
        source = ProgramSource(program_id(module), path)
        with world(monkeypatch, tmp_path, ways, program=source, is_pinned=is_pinned) as made:
            yield made

    return open_world


def executor(program: Any, **settings: Any) -> ProgramExecutor:
    settings.setdefault("wallet", Wallet(key_of(4_711)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnitsWithoutWeight)
        return ProgramExecutor(program, settings.pop("budget", "4 NOR"), progress=False, **settings)


def test_a_program_is_brought_once_to_each_miner_and_run(opened: Opened, tmp_path: Path) -> None:
    with opened(ECHO) as made, executor(tmp_path / "program.wasm", miners=2) as program:
        future = program.submit_input(b"to be")
        assert future.result(PATIENCE) == b"to be"
        inputs = [b"%d" % number for number in range(40)]
        assert list(program.map_inputs(inputs)) == inputs
        assert list(program.map_inputs([])) == []
        assert len(set(future.receipt.miners)) == 2
        assert all(replica.receipt.weight == 0 for replica in future.receipt.settled.replicas)
        assert future.cost == 2 * future.fuel * PRICE
        future.receipt.save(tmp_path / "receipt.json")
        places = [place for miner in made.miners for place in miner.places.values()]
        assert [bytes(place.blobs[program.program]) for place in places] == [ECHO] * 2
    checked = verify_receipt_file(tmp_path / "receipt.json")
    assert (checked.program, checked.function) == (program_id(ECHO), "program.wasm")
    assert all(replica.is_sealed for replica in checked.replicas)
    assert made.chain.calls.count("close") == 1


@pytest.mark.parametrize("name", [program_id(ECHO), f"0x{program_id(ECHO).hex()}", ECHO])
def test_a_pinned_program_is_not_brought_and_carries_weight(opened: Opened, name: str | bytes) -> None:
    with opened(ECHO, is_pinned=True) as made, warnings.catch_warnings():
        warnings.simplefilter("error")
        wallet = Wallet(key_of(4_711))
        with ProgramExecutor(name, wallet=wallet, progress=False, fuel_limit=10**8) as program:
            future = program.submit_input(b"input")
            assert future.result(PATIENCE) == b"input"
            assert {each.receipt.weight for each in future.receipt.settled.replicas} == {future.fuel}
        assert not any(place.blobs for miner in made.miners for place in miner.places.values())


def test_one_is_told_once_that_a_program_carries_no_weight(opened: Opened) -> None:
    with opened(ENDLESS), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with ProgramExecutor(ENDLESS, wallet=Wallet(key_of(4_711)), progress=False) as program:
            future = program.submit_input(b"")
            deadline = time.monotonic() + PATIENCE
            # It runs again with more fuel.
            while program.stats().fuel < UNIT_FUEL_MAX:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert future.stop()
    assert [each.category for each in told] == [UnitsWithoutWeight]
    assert "does not pin program 0x" in str(told[0].message)


@pytest.mark.filterwarnings("ignore::noria.client.job_front.UnitsWithoutWeight")
def test_a_call_that_is_stopped_between_two_attempts_is_not_made_again(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[NetworkFuture[bytes]] = []
    stopped: list[bool] = []
    monkeypatch.setattr(JobFront, "_warn_of_long_calls", lambda _, __: stopped.append(calls[0].stop()))
    with opened(ENDLESS), ProgramExecutor(ENDLESS, wallet=Wallet(key_of(4_711)), progress=False) as program:
        calls.append(program.submit_input(b""))
        with pytest.raises(CancelledError):
            calls[0].result(PATIENCE)
    assert stopped == [True]
    assert calls[0].cancelled()


def test_a_miner_that_has_lost_the_program_is_brought_it_again(opened: Opened) -> None:
    with opened(ECHO) as made, executor(ECHO, miners=2) as program:
        assert program.submit_input(b"one").result(PATIENCE) == b"one"
        for miner in made.miners:
            miner.forget()
        assert program.submit_input(b"two").result(PATIENCE) == b"two"
        assert [place.state for place in program.stats().places] == ["ready", "ready"]


def test_a_miner_that_never_has_the_program_is_given_up(opened: Opened) -> None:
    # Its sandbox takes another program than everybody's: whatever it is brought is not that.
    with opened(ECHO, ways=[Ways(workers=1), Ways(workers=1), Ways(workers=1)]) as made:
        made.miners[1].ways.program = ProgramId(program_id(TRAP))
        with executor(ECHO) as program:
            assert list(program.map_inputs([b"1", b"2"])) == [b"1", b"2"]
            deadline = time.monotonic() + PATIENCE
            while (place := program.stats().places[1]).state != "closed":
                assert time.monotonic() < deadline
                program.submit_input(b"more").result(PATIENCE)
            assert place.reason.startswith("program")


def test_long_inputs_travel_by_themselves(opened: Opened) -> None:
    data = bytes(range(256)) * (INLINE_BYTES_MAX // 256 + 5)
    with opened(ECHO), executor(ECHO) as program:
        future = program.submit_input(data)
        # The program writes no more than the beginning.
        assert data.startswith(future.result(PATIENCE))
        assert future.receipt.unit_id == unit_id(program.program, blob_id(data), UNIT_FUEL_MAX)
        with pytest.raises(InputTooLarge, match="split the work"):
            program.submit_input(bytes(BLOB_BYTES_MAX + 1))


def test_liars_are_found_by_replicas_and_own_runs(opened: Opened) -> None:
    ways = [Ways(workers=1), Ways(workers=1, lie=flip_a_bit), Ways(workers=1)]
    with opened(ECHO, ways=ways), executor(ECHO) as program:
        assert list(program.map_inputs([b"%d" % n for n in range(12)])) == [b"%d" % n for n in range(12)]
        assert [place.state for place in program.stats().places] == ["ready", "banned", "ready"]


def test_own_runs_find_a_liar_who_is_alone(opened: Opened) -> None:
    with opened(ECHO, ways=[Ways(lie=flip_a_bit), Ways()]) as made:
        made.chain.spare = []
        with executor(ECHO, replicas=1, miners=2, sample=1.0) as program:
            assert list(program.map_inputs([b"%d" % n for n in range(8)])) == [b"%d" % n for n in range(8)]
            assert program.stats().places[0].state == "banned"


@pytest.mark.parametrize(
    ("module", "kind", "words"),
    [
        (TRAP, ProgramFailed, "exited with an error, or did what WebAssembly forbids: my last words"),
        (ENDLESS, OutOfFuel, "larger fuel_limit"),
        (RECURSION, StackLimitReached, "recursion without end"),
        (FLOOD, OutputLimitReached, "write less"),
    ],
)
def test_units_that_do_not_end_well(opened: Opened, module: bytes, kind: type[Exception], words: str) -> None:
    with (
        opened(module),
        executor(module, fuel_limit=50_000_000_000 if module is FLOOD else 50_000_000) as program,
    ):
        future = program.submit_input(b"my last words")
        with pytest.raises(kind, match=words):
            future.result(PATIENCE)
        assert future.fuel > 0
        results = program.map_inputs([b"my last words"])
        with pytest.raises(kind):
            next(results)


def test_nothing_is_opened_for_a_program_that_the_sandbox_refuses(opened: Opened, tmp_path: Path) -> None:
    with opened(ECHO) as made:
        for module, words in (
            (b"(module)", "not a WebAssembly module"),
            (ECHO[:-7], "invalid module"),
            (bytes.fromhex("0061736d01000000"), "not a command"),
        ):
            with pytest.raises(InvalidProgram, match=words):
                executor(module)
        with pytest.raises(FileNotFoundError):
            executor(tmp_path / "nothing.wasm")
        with pytest.raises(ProgramUnknown, match="does not pin program 0x2222"):
            executor("0x" + "22" * 32)
        made.access.facts.parameters["program_bytes_max"] = len(ECHO) - 1
        with pytest.raises(ProgramTooLarge, match="at most"):
            executor(ECHO)
        assert made.chain.calls == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"budget": 0}, "budget"), ({"fuel_limit": 0}, "fuel_limit"), ({"miners": 99}, "miners")],
)
def test_numbers_that_make_no_sense(opened: Opened, settings: dict[str, Any], words: str) -> None:
    with opened(ECHO), pytest.raises(ValueError, match=words):
        executor(ECHO, **settings)


def test_what_needs_the_module_says_so(opened: Opened) -> None:
    with opened(ECHO, is_pinned=True):
        with pytest.raises(ValueError, match="name the module's file"):
            executor(program_id(ECHO), sample=0.5)
        with executor(program_id(ECHO)) as program, pytest.raises(ValueError, match="name the module's file"):
            program.estimate([b"1"])
        with executor(ECHO) as program:
            with pytest.raises(ValueError, match="sample is empty"):
                program.estimate([])
            with pytest.raises(ValueError, match="buffersize must be >= 1"):
                program.map_inputs([b"1"], buffersize=0)


def test_an_estimate_has_the_royalty(opened: Opened) -> None:
    with opened(ECHO) as made:
        made.royalty_wei = 5_000
        with executor(ECHO) as program:
            assert program.royalty == 5_000
            estimate = program.estimate([b"some", b"more"])
        assert estimate.price == PRICE + 5_000
        assert estimate.cost == round(estimate.fuel.mean * estimate.price * 2)
        assert str(estimate).startswith("0x")


def test_leaving_a_map_stops_what_is_left(opened: Opened) -> None:
    with opened(ENDLESS) as made, executor(ENDLESS, fuel_limit=10**12) as program:
        with pytest.raises(TimeoutError):
            next(program.map_inputs([b""] * 5, timeout=2.0))
        deadline = time.monotonic() + PATIENCE
        while made.units():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert int(program.stats().spent) == 0
    with pytest.raises(RuntimeError, match="after shutdown"):
        program.submit_input(b"")
    with pytest.raises(RuntimeError, match="after shutdown"):
        program.map_inputs([b""])


def test_a_module_given_as_bytes_leaves_no_file_behind() -> None:
    given = given_program(ECHO)
    assert given.source is not None
    path = given.source.path
    assert path.read_bytes() == ECHO
    del given
    assert not path.exists()
