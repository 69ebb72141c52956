"""What the harness answers: values, exceptions with their traceback, and refusals."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.work import archive
from noria.work.functions import MalformedResult, RemoteError, RemoteTraceback, capture, decode_result
from noria.work.guest import harness
from noria.work.guest.container import OUTPUT_MAGIC, Raised, pack_raised
from noria.work.values import UnencodableValue, encode
from tests.work.functions_project import mixture, shapes, units
from tests.work.guest_process import Guest, install


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    return install(tmp_path_factory.mktemp("guest"))


def divides(x: int) -> float:
    return helper(x)


def helper(x: int) -> float:
    values = {"a": 1}
    return (
        values["a"]
        / x
    )  # fmt: skip


def raises_own() -> None:
    raise shapes.OutOfRange(7, 3)


def raises_from() -> None:
    try:
        helper(0)
    except ZeroDivisionError as error:
        error.add_note("while dividing")
        raise LookupError("no quotient", [1, 2]) from error


def raises_with_note() -> None:
    error = ValueError("bad")
    error.add_note("a note")
    error.extra = {"k": (1, 2)}  # type: ignore[attr-defined]
    raise error


def raises_standard() -> object:
    return json.loads("{")


def raises_unencodable_argument() -> None:
    raise ValueError(object())


def raises_exit() -> None:
    sys.exit(3)


def raises_interrupt() -> None:
    raise KeyboardInterrupt


def recurses(n: int = 0) -> int:
    return recurses(n + 1) + 1


def exhausts() -> object:
    return bytearray(1 << 62)


def raises_group() -> None:
    raise ExceptionGroup("two", [ValueError(1), TypeError(2)])


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def raises_mute() -> None:
    raise Mute("x")


def raises_system() -> object:
    return Path("/no/such/file").read_text()


def stops() -> object:
    return next(iter([]))


def test_the_traceback_names_the_users_lines(guest: Guest) -> None:
    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        guest.call(divides, 0)
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    lines = str(cause).strip().splitlines()
    name = "tests/work/test_guest_harness.py"
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{name}", line {divides.__code__.co_firstlineno + 1}, in divides'
    assert lines[2] == "    return helper(x)"
    assert f'  File "{name}", line {helper.__code__.co_firstlineno + 3}, in helper' in lines
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "harness" not in str(cause)[len(lines[1]) * 4 :].replace(name, "")


@pytest.mark.parametrize(
    ("function", "kind", "arguments"),
    [
        (raises_from, LookupError, ("no quotient", [1, 2])),
        (raises_standard, json.JSONDecodeError, None),
        (recurses, RecursionError, None),
        (exhausts, MemoryError, ()),
        (raises_system, FileNotFoundError, (2, "No such file or directory")),
        (stops, StopIteration, ()),
    ],
)
def test_exceptions_come_back_as_what_they_were(
    guest: Guest, function: Callable[[], Any], kind: type[Exception], arguments: tuple[Any, ...] | None
) -> None:
    with pytest.raises(kind) as caught:
        guest.call(function)
    assert type(caught.value) is kind
    if arguments is not None:
        assert caught.value.args == arguments
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert len(str(caught.value.__cause__)) < 10_000


def test_an_exception_class_of_the_users_comes_back_with_its_attributes(guest: Guest) -> None:
    with pytest.raises(shapes.OutOfRange, match="7 is over 3") as caught:
        guest.call(raises_own)
    assert (caught.value.value, caught.value.bound, caught.value.args) == (7, 3, ("7 is over 3",))


def test_notes_and_attributes_come_back(guest: Guest) -> None:
    with pytest.raises(ValueError, match="bad") as caught:
        guest.call(raises_with_note)
    assert caught.value.__notes__ == ["a note"]
    assert caught.value.extra == {"k": (1, 2)}  # type: ignore[attr-defined]


def test_the_cause_of_an_exception_is_in_its_traceback(guest: Guest) -> None:
    with pytest.raises(LookupError) as caught:
        guest.call(raises_from)
    text = str(caught.value.__cause__)
    assert "ZeroDivisionError: division by zero\nwhile dividing\n" in text
    assert "The above exception was the direct cause" in text


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (raises_exit, "SystemExit: 3"),
        (raises_interrupt, "KeyboardInterrupt"),
        (raises_unencodable_argument, "ValueError: <object object at"),
        (raises_group, "ExceptionGroup: two (2 sub-exceptions)"),
        (raises_mute, "Mute: x"),
    ],
)
def test_what_cannot_be_raised_here_says_what_it_was(
    guest: Guest, function: Callable[[], Any], text: str
) -> None:
    if function is raises_mute:
        with pytest.raises(Mute) as mute:
            guest.call(function)
        assert mute.value.args == ("x",)
        return
    with pytest.raises(RemoteError) as caught:
        guest.call(function)
    assert str(caught.value).startswith(text)
    assert isinstance(caught.value.__cause__, RemoteTraceback)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda: [1, {"x": (i for i in "a")}],
            "result[1]['x'] cannot be encoded: values of type generator do not",
        ),
        (lambda: units.scaled, "result cannot be encoded: values of type function do not travel"),
        (lambda: type("Made", (), {})(), "result cannot be encoded: the class Made did not travel"),
        (mixture.power(2).__class__, ""),
    ],
)
def test_a_result_without_an_encoding_says_where(
    guest: Guest, function: Callable[[], Any], message: str
) -> None:
    with pytest.raises(UnencodableValue if message else Exception) as caught:
        guest.call(function)
    assert message in str(caught.value)


def test_a_class_made_inside_the_function_cannot_come_back(guest: Guest) -> None:
    def local() -> object:
        from dataclasses import dataclass

        @dataclass
        class Local:
            x: int

        return [Local(1)]

    with pytest.raises(
        UnencodableValue, match=r"result\[0\] cannot be encoded: the class .*Local did not travel"
    ):
        guest.call(local)


def test_failures_while_the_function_is_built_are_its_own(guest: Guest) -> None:
    part = archive.pack_function((("import", "no_such_module", ""),), encode(None))
    done = guest.run(archive.join(part, archive.pack_arguments((), encode(((), {})))))
    assert done.status == harness.STATUS_RAN
    with pytest.raises(ModuleNotFoundError, match="no_such"):
        decode_result(done.output)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an archive of version 1"),
        (b"NoriaPy\x02" + bytes(20), "not an archive of version 1"),
        (b"NoriaPy\x01" + b"\x00\x00\x00\xff" + bytes(20), "a function part of 255 bytes in 20"),
        (b"NoriaPy\x01" + b"\xff\xff\xff\xff" + bytes(20), "at most 16777216 are allowed"),
        (archive.join(b"\x01N", b"\x01N"), "noria/function/1: (tag, steps, value) expected"),
    ],
)
def test_what_is_not_an_archive_is_refused_with_status_two(guest: Guest, data: bytes, message: str) -> None:
    done = guest.run(data)
    assert done.status == harness.STATUS_BAD_INPUT
    assert done.output == b""
    assert done.log.startswith("noria: ")
    assert message in done.log
    assert done.log.count("\n") == 1


def test_nothing_that_the_function_prints_gets_into_the_output(guest: Guest) -> None:
    def noisy() -> str:
        import sys as system

        print("one")
        system.stdout.write("two\n")
        system.stderr.write("three\n")
        return "value"

    done = guest.run(capture(noisy).call().archive)
    assert done.log == "one\ntwo\nthree\n"
    assert decode_result(done.output) == "value"


def test_input_is_at_its_end(guest: Guest) -> None:
    with pytest.raises(EOFError):
        guest.call(lambda: input())


def output_of(kind: str, arguments: Any = ()) -> bytes:
    return pack_raised(Raised(kind, "text", encode(arguments), encode({}), (), "trace"))


@pytest.mark.parametrize(
    "kind",
    ["builtins:SystemExit", "builtins:KeyboardInterrupt", "builtins:print", "os:system", "json:Nothing"],
)  # fmt: skip
def test_a_stranger_cannot_choose_what_is_raised(kind: str) -> None:
    with pytest.raises(RemoteError, match="text"):
        decode_result(output_of(kind, ("true",)))


@given(st.binary(max_size=100))
def test_any_output_is_a_value_an_exception_or_refused(data: bytes) -> None:
    for output in (data, OUTPUT_MAGIC + data, OUTPUT_MAGIC + b"V\x01" + data, OUTPUT_MAGIC + b"X\x01" + data):
        try:
            decode_result(output)
        except MalformedResult as error:
            assert "malformed" in str(error)  # noqa: PT017
        except RemoteError:
            assert output[8:9] == b"X"


@given(st.data())
def test_damaged_archives_are_refused_or_still_archives(data: Any) -> None:
    whole = bytearray(capture(mixture.everything).call((1,)).archive)
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(len(whole) - 5, len(whole)))])
    try:
        parsed = archive.parse(cut)
    except archive.MalformedArchive as error:
        assert len(str(error)) < 500  # noqa: PT017
        return
    rest = archive.pack_arguments(parsed.arguments_steps, parsed.call)
    assert archive.join(archive.pack_function(parsed.steps, parsed.entry), rest) == cut


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (("eval", "1"), "unknown kind"),
        (("module", "a"), "fields of 'module' are of the wrong number or type"),
        (("global", 0, "x", b""), "'global' refers to step 0, which is not before it"),
        (("global", -1, "x", b""), "'global' refers to step -1"),
        (("import", "a" * 2000, ""), "a name of more than 1024 characters"),
        ((), "unknown kind"),
        ("cell", "unknown kind"),
    ],
)
def test_steps_are_checked_before_any_is_taken(step: Any, message: str) -> None:
    data = archive.join(archive.pack_function((step,), b""), archive.pack_arguments((), b""))
    with pytest.raises(archive.MalformedArchive) as caught:
        archive.parse(data)
    assert message in str(caught.value)


FUNCTION = ("function", 0, "f", "f", "f", "f.py", 1, "def f(): pass", (), ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({6: 0}, "line 0 is not between 1 and 1000000"),
        ({6: 1_000_001}, "line 1000001 is not between"),
        ({8: ("a",)}, "variables and cells differ"),
        ({8: ("a",), 9: (5,)}, "a cell that is not before the function"),
        ({8: (1,), 9: (0,)}, "variables and cells differ"),
        ({}, ""),
    ],
)
def test_functions_are_checked_before_they_are_compiled(change: dict[int, Any], message: str) -> None:
    step = tuple(change.get(place, field) for place, field in enumerate(FUNCTION))
    part = archive.pack_function((("module", "m", "m.py"), step), b"")
    data = archive.join(part, archive.pack_arguments((), b""))
    if message:
        with pytest.raises(archive.MalformedArchive, match=message):
            archive.parse(data)
    else:
        assert archive.parse(data).sources() == {"f.py:1": "def f(): pass"}


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14", "3.15"])
def test_newer_interpreters_run_the_same_archive(version: str, tmp_path: Path) -> None:
    interpreter = shutil.which(f"python{version}")
    if interpreter is None or subprocess.run([interpreter, "-c", ""], check=False).returncode:
        pytest.skip(f"python{version} is not installed")
    newer = install(tmp_path, interpreter)
    assert newer.call(mixture.everything, 2) == mixture.everything(2)
    with pytest.raises(ZeroDivisionError) as caught:
        newer.call(divides, 0)
    assert "    return helper(x)\n" in str(caught.value.__cause__)
