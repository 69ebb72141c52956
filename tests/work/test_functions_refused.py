"""What cannot travel: each with a message that says what, why, where and what to do."""

import math
import socket
import subprocess
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import starlette

from noria import _core
from noria.primitives import hashes
from noria.work.archive import ArchiveTooLarge
from noria.work.functions import CannotTravel, GuestModules, capture
from noria.work.values import UnencodableValue
from tests.work.functions_project import units

HANDLE = sys.__stderr__
LOCK = threading.Lock()
NESTED = {"rows": [1, 2, {"handle": HANDLE}]}
GENERATOR = (x for x in "ab")
MADE: dict[str, Any] = {}
exec("def made(x):\n    return x\n\nanonymous = lambda x: x\n", MADE)


class Plain:
    __slots__ = ()


INSTANCE = Plain()


@dataclass
class Holder:
    value: Any

    def get(self) -> Any:
        return self.value


def uses_handle() -> object:
    return HANDLE


def uses_lock() -> object:
    with LOCK:
        return 1


def uses_nested() -> object:
    return NESTED


def uses_generator() -> object:
    return next(GENERATOR)


def uses_instance() -> object:
    return INSTANCE


def uses_package() -> object:
    return starlette.__version__


def uses_class_of_package() -> object:
    return msgspec.json.encode(1)


def uses_extension() -> object:
    return _core.keccak256(b"")


def uses_noria() -> object:
    return hashes.keccak256(b"")


def uses_socket() -> object:
    return socket.gethostname()


def uses_process() -> object:
    return subprocess.run(["true"], check=True)


def imports_package() -> object:
    import starlette.requests as requests

    return requests


def imports_missing() -> object:
    import no_such_package  # type: ignore[import-not-found]

    return no_such_package


def imports_multiprocessing() -> object:
    import multiprocessing

    return multiprocessing.cpu_count()


def module_as_value() -> object:
    return vars(units)


async def waits() -> None: ...


async def waits_and_yields() -> AsyncIterator[int]:
    yield 1


def calls_made() -> object:
    return MADE


def with_local_class() -> Callable[[], object]:
    class Local:
        pass

    return lambda: Local()


def with_open_file() -> Callable[[], object]:
    handle = HANDLE
    return lambda: handle


def with_default(handle: Any = HANDLE) -> object:
    return handle


def numbers() -> Iterator[int]:
    yield 1


def private(holder: Any) -> Callable[[], Any]:
    class Secret:
        __x = 1

        def get(self) -> Callable[[], int]:
            return lambda: self.__x

    return Secret().get()


CLOSURES = {with_open_file, lambda: 1}


def uses_closures_in_a_set() -> object:
    return CLOSURES


CASES: list[tuple[Any, str]] = [
    (uses_handle, "global 'HANDLE' cannot travel: values of type _io.TextIOWrapper do not travel; read"),
    (uses_lock, "global 'LOCK' cannot travel: values of type _thread.lock do not travel; units run alone"),
    (uses_nested, "global 'NESTED'['rows'][2]['handle'] cannot travel: values of type _io.TextIOWrapper"),
    (uses_generator, "global 'GENERATOR' cannot travel: values of type generator do not travel; turn it"),
    (uses_instance, "Plain do not travel; pass its data as a dictionary, list or dataclass"),
    (uses_package, "module starlette cannot travel: starlette is an installed package that"),
    (uses_class_of_package, "module msgspec cannot travel: msgspec is an installed package"),
    (uses_extension, "module noria._core cannot travel: noria is a compiled extension"),
    (uses_noria, "module noria.primitives.hashes cannot travel: noria is an installed package"),
    (uses_socket, "module socket cannot travel: socket is a module of the standard library that does not"),
    (uses_process, "module subprocess cannot travel"),
    (imports_package, "import of starlette.requests cannot travel: starlette is an installed package"),
    (imports_missing, "import of no_such_package cannot travel: No module named 'no_such_package'"),
    (imports_multiprocessing, "import of multiprocessing cannot travel"),
    (module_as_value, "units as a value cannot travel: only what is used of a module travels"),
    (waits, "async function waits cannot travel: a unit has no event loop; make it a plain function"),
    (waits_and_yields, "async function waits_and_yields cannot travel"),
    (MADE["made"], "function made cannot travel: its source is neither in a file"),
    (MADE["anonymous"], "lambda cannot travel: its source is neither in a file"),
    (with_local_class(), "class with_local_class.<locals>.Local cannot travel (in variable 'Local' of"),
    (with_open_file(), "variable 'handle' of with_open_file.<locals>.<lambda> cannot travel: values of type"),
    (with_default, "default of 'handle' of with_default cannot travel: values of type _io.TextIOWrapper"),
    (private(1), "it lies in a method and uses private names of the class (__name); move"),
    (msgspec.json.encode, "cannot travel: msgspec is"),
    (Holder(1).get, ""),
    (numbers, ""),
    (uses_closures_in_a_set, "in a set, whose order is not fixed; put it into a list"),
    (3, "3 cannot travel: it cannot be called; pass a function"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "message"), CASES, ids=[message[:40] for _, message in CASES])
def test_the_message_says_what_why_and_what_to_do(function: Any, message: str) -> None:
    if not message:
        capture(function)
        return
    with pytest.raises(CannotTravel) as caught:
        capture(function)
    text = str(caught.value)
    assert message in text
    assert "; " in text


def test_the_message_says_where() -> None:
    with pytest.raises(CannotTravel) as caught:
        capture(uses_handle)
    line = uses_handle.__code__.co_firstlineno
    assert f"[needed by uses_handle, {Path(__file__).name}:{line}]" in str(caught.value)
    assert caught.value.what == "global 'HANDLE'"


def test_a_package_that_the_runtime_has_is_imported_there() -> None:
    assert capture(uses_package, GuestModules(packages=frozenset({"starlette"}))).part


def test_what_the_runtime_lacks_is_for_the_runtime_to_say() -> None:
    def uses_math() -> float:
        return math.pi

    with pytest.raises(CannotTravel, match="module math cannot travel"):
        capture(uses_math, GuestModules(missing=frozenset({"math"})))
    assert capture(uses_socket, GuestModules(missing=frozenset())).part


def test_a_file_that_changed_since_it_was_loaded_is_not_sent(tmp_path: Path, monkeypatch: Any) -> None:
    file = tmp_path / "edited_module.py"
    file.write_text("def f(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import edited_module  # type: ignore[import-not-found]

    file.write_text("def f(x):\n    return x - 1\n")
    with pytest.raises(CannotTravel, match="was changed after it was loaded; load the module again"):
        capture(edited_module.f)
    file.write_text("\n\n# moved down\ndef f(x):\n    return x + 1\n")
    with pytest.raises(CannotTravel, match="does not hold it"):
        capture(edited_module.f)


def test_a_module_named_like_one_of_the_standard_library_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "colorsys.py"
    file.write_text("def f(x):\n    return x\n")
    module = types.ModuleType("colorsys")
    module.__file__ = str(file)
    exec(compile(file.read_text(), str(file), "exec"), vars(module))
    known = sys.modules.get("colorsys")
    sys.modules["colorsys"] = module
    try:
        with pytest.raises(
            CannotTravel, match="a module of the standard library has its name; rename the file"
        ):
            capture(module.f)
    finally:
        del sys.modules["colorsys"]
        if known:
            sys.modules["colorsys"] = known


@pytest.mark.parametrize(
    ("positional", "named", "message"),
    [
        (
            ({"x": [0, HANDLE]},),
            {},
            "arguments[0]['x'][1] cannot be encoded: values of type _io.TextIOWrapper",
        ),
        ((1,), {"k": LOCK}, "arguments['k'] cannot be encoded: values of type _thread.lock do not travel"),
        ((Holder(INSTANCE),), {}, "arguments[0].value cannot be encoded: values of type"),
        ((waits,), {}, "async function waits cannot travel"),
        ((with_local_class,), {}, ""),
        ((with_open_file(),), {}, "variable 'handle' of with_open_file.<locals>.<lambda> cannot travel"),
    ],
)
def test_arguments_that_cannot_travel_say_where(
    positional: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    captured = capture(len)
    if not message:
        assert captured.call(positional, named).archive
        return
    with pytest.raises(UnencodableValue) as caught:
        captured.call(positional, named)
    assert message in str(caught.value)


def test_what_is_too_large_says_so() -> None:
    table = bytes(17 << 20)

    def uses_table() -> int:
        return len(table)

    with pytest.raises(ArchiveTooLarge, match="at most 16777216 travel; pass large data as arguments"):
        capture(uses_table)
    captured = capture(len)
    with pytest.raises(UnencodableValue, match="longer than 67108864 bytes; split the work"):
        captured.call((bytes(65 << 20),))
    assert len(captured.call((bytes(17 << 20),)).archive) > 17 << 20
