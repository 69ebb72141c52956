"""The Python runtime itself: what functions can do in it, and what they cannot."""

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from noria._core import Outcome, Program, Sandbox
from noria.work.folders import compiled_folder
from noria.work.functions import capture, decode_result
from noria.work.origins import GuestModules
from noria.work.runtimes import Runtime, RuntimeProblem, installed
from tests.work import library_calls

FUEL = 10**11


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    try:
        return installed()
    except RuntimeProblem as problem:
        pytest.skip(str(problem))


@cache
def program(path: str, engine: str = "wasmtime") -> Program:
    with open(path, "rb") as file:  # noqa: PTH123
        return Sandbox(compiled_folder(), engine).load(file.read())


def outcome(
    runtime: Runtime,
    function: Callable[..., Any],
    *arguments: Any,
    engine: str = "wasmtime",
    fuel: int = FUEL,
) -> Outcome:
    archive = capture(function).call(arguments, {}).archive
    return program(str(runtime.path), engine).run(archive, fuel)


def result(runtime: Runtime, function: Callable[..., Any], *arguments: Any) -> Any:
    call = capture(function).call(arguments, {})
    done = program(str(runtime.path)).run(call.archive, FUEL)
    assert done.status == 0, done.log.decode()
    return decode_result(done.output, call.classes)


@pytest.mark.parametrize("call", library_calls.CALLS, ids=lambda call: call.__name__)
def test_the_library_does_what_it_does_here(runtime: Runtime, call: Callable[[], object]) -> None:
    assert result(runtime, call) == call()


def importable(names: list[str]) -> dict[str, str]:
    import importlib

    failed = {}
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            failed[name] = str(error)
    return failed


def test_every_module_that_may_be_used_can_be_imported(runtime: Runtime) -> None:
    guest = GuestModules()
    names = [name for name in sorted(sys.stdlib_module_names) if name[0] != "_" and not guest.lacks(name)]
    assert len(names) > 100
    assert result(runtime, importable, names) == {}


def work_of_each_kind(seed: int) -> tuple[object, ...]:
    import json
    import math
    import random

    source = random.Random(seed)
    numbers = [source.gauss(0, 1) for _ in range(200)]
    texts = {str(number): number for number in numbers}
    nan = float("inf") - float("inf")
    return (
        json.dumps(texts),
        [math.sin(number) / number for number in numbers],
        list({"a", "b", "c", "d"}),
        hash("text"),
        [nan, -nan],
        len(repr(object())),
    )


@pytest.mark.slow
@pytest.mark.timeout(600)  # each compiles the runtime once more
@pytest.mark.parametrize("engine", ["baseline", "pulley"])
def test_other_engines_say_the_same(runtime: Runtime, engine: str) -> None:
    expected = outcome(runtime, work_of_each_kind, 3)
    found = outcome(runtime, work_of_each_kind, 3, engine=engine)
    assert expected.status == 0, expected.log
    assert (found.status, found.output, found.fuel) == (0, expected.output, expected.fuel)


def test_another_process_says_the_same(runtime: Runtime) -> None:
    archive = capture(work_of_each_kind).call((4,), {}).archive
    code = (
        "import sys; from noria._core import Sandbox\n"
        "program = Sandbox(sys.argv[1]).load_cached(bytes.fromhex(sys.argv[2]))\n"
        "done = program.run(bytes.fromhex(sys.stdin.read()), int(sys.argv[3]))\n"
        "print(done.status, done.output.hex(), done.fuel)\n"
    )
    here = program(str(runtime.path)).run(archive, FUEL)
    there = subprocess.run(
        [sys.executable, "-c", code, str(compiled_folder()), runtime.program_id.hex(), str(FUEL)],
        input=archive.hex(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert there.stdout.split() == [str(here.status), here.output.hex(), str(here.fuel)]


def drawn(_: int) -> tuple[object, ...]:
    import os
    import random
    import secrets
    import uuid

    return random.random(), os.urandom(8), secrets.token_hex(8), uuid.uuid4().hex


def test_randomness_belongs_to_the_unit(runtime: Runtime) -> None:
    first, again, other = (result(runtime, drawn, number) for number in (1, 1, 2))
    assert first == again
    assert all(mine != theirs for mine, theirs in zip(first, other, strict=True))


def memoised(depth: int) -> int:
    import functools

    @functools.cache
    def down(left: int) -> int:
        return 0 if left == 0 else down(left - 1) + 1

    return down(depth)


def endless() -> int:
    return endless() + 1


def nested(depth: int) -> object:
    import json

    return json.loads("[" * depth)


def compared() -> bool:
    import sys

    sys.setrecursionlimit(10**6)

    class Never:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return Never() == Never()

    return Never() == Never()


def deep(depth: int) -> int:
    import sys

    sys.setrecursionlimit(10**6)

    def down(left: int) -> int:
        return 0 if left == 0 else down(left - 1) + 1

    return down(depth)


def linked(length: int) -> int:
    class Node:
        def __init__(self, following: "Node | None") -> None:
            self.following = following

    first = None
    for _ in range(length):
        first = Node(first)
    nested: list[object] = []
    for _ in range(length):
        nested = [nested]
    del first, nested
    return length


def test_long_chains_of_objects_can_be_thrown_away(runtime: Runtime) -> None:
    assert result(runtime, linked, 100_000) == 100_000


def test_recursion_is_as_deep_as_people_are_used_to(runtime: Runtime) -> None:
    assert result(runtime, memoised, 490) == 490
    assert result(runtime, deep, 100_000) == 100_000


@pytest.mark.parametrize("function", [endless, compared])
def test_recursion_without_end_is_an_ordinary_error(
    runtime: Runtime, function: Callable[..., object]
) -> None:
    with pytest.raises(RecursionError):
        result(runtime, function)


def test_nesting_that_needs_little_of_the_stack_ends_by_the_stack_rule(runtime: Runtime) -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        result(runtime, nested, 5_000)
    assert outcome(runtime, nested, 100_000).status == 4


def eats_memory() -> None:
    kept = []
    while True:
        kept.append(bytearray(1 << 24))


def test_memory_ends_with_an_ordinary_error(runtime: Runtime) -> None:
    with pytest.raises(MemoryError):
        result(runtime, eats_memory)


def refuses(value: int) -> None:
    raise ValueError(value)


def test_an_exception_costs_little_more_than_a_result(runtime: Runtime) -> None:
    assert outcome(runtime, refuses, 1).fuel < 4 * outcome(runtime, int, 1).fuel


def runs_for_ever() -> None:
    while True:
        pass


def exits(status: int) -> None:
    import os

    os._exit(status)


def test_what_is_no_result_has_a_status(runtime: Runtime) -> None:
    assert outcome(runtime, runs_for_ever, fuel=10**9).status == 2
    assert outcome(runtime, exits, 3).status == 1
    assert program(str(runtime.path)).run(b"no archive", FUEL).status == 1


def starts_a_thread() -> None:
    import threading

    threading.Thread(target=print).start()


def opens(path: str) -> None:
    from pathlib import Path

    Path(path).read_text()


def writes(path: str) -> None:
    from pathlib import Path

    Path(path).write_text("x")


def imports(name: str) -> None:
    import importlib

    importlib.import_module(name)


@pytest.mark.parametrize(
    ("function", "arguments", "error"),
    [
        (starts_a_thread, (), RuntimeError),
        (opens, ("/etc/passwd",), FileNotFoundError),
        (opens, ("/noria/noria_guest/harness.py",), FileNotFoundError),
        (writes, ("/x",), OSError),
        (imports, ("numpy",), ModuleNotFoundError),
        (imports, ("numpy._core._multiarray_umath",), ModuleNotFoundError),
        (imports, ("_host",), ModuleNotFoundError),
        (imports, ("PIL._imaging",), ModuleNotFoundError),
    ],
)
def test_what_is_not_there_is_an_ordinary_error(
    runtime: Runtime, function: Callable[..., object], arguments: tuple[str, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        result(runtime, function, *arguments)


def shows_itself() -> tuple[object, ...]:
    import os
    import sys
    import time
    from pathlib import Path

    return sys.version_info[:2], sys.path, sorted(os.environ), sys.argv, str(Path.cwd()), int(time.time())


def test_the_world_looks_the_same_everywhere(runtime: Runtime) -> None:
    assert result(runtime, shows_itself) == (
        (3, 15),
        [],
        ["HOME", "LANG", "PYTHONHASHSEED", "TZ"],
        [""],
        "/",
        1_767_225_600,
    )


def test_what_is_printed_is_in_the_log(runtime: Runtime) -> None:
    done = outcome(runtime, print, "hello", "there")
    assert (done.status, done.log) == (0, b"hello there\n")
