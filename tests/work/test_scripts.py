"""Scripts as units: read and never executed here, run whole there, results as JSON."""

import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.work.functions import RemoteError, RemoteTraceback, decode_result
from noria.work.scripts import MODULES_MAX, SOURCE_BYTES_MAX, ScriptError, read_script
from tests.work.guest_process import Guest, install


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    return install(tmp_path_factory.mktemp("guest"))


def call(guest: Guest, script: Path, function: str = "main", *positional: Any, **named: Any) -> Any:
    """Read a script, call its function in a plain interpreter, and return what its JSON says."""
    done = guest.run(read_script(script).function(function).call(positional, named))
    assert done.status == 0, done.log
    return json.loads(decode_result(done.output))


def write(folder: Path, **files: str) -> Path:
    """Write files, named without ``.py``, and return the script."""
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "script.py"


def test_a_function_is_called_with_its_arguments(guest: Guest, tmp_path: Path) -> None:
    script = write(tmp_path, script="def main(a, b=2, *, c=3):\n    return [a, b, c]\n")
    assert call(guest, script, "main", 1) == [1, 2, 3]
    assert call(guest, script, "main", "ü\ud800", b=None, c={"d": [1.5, True]}) == [
        "ü\ud800", None, {"d": [1.5, True]}
    ]  # fmt: skip


def test_nothing_of_the_script_is_executed_here(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    script = write(
        tmp_path,
        script=f"import beside\nopen({str(trace)!r}, 'w')\ndef main(): pass\n",
        beside=f"open({str(trace)!r}, 'w')\n",
    )
    read_script(script).function("main").call([], {})
    assert not trace.exists()


def test_a_script_is_a_module_and_never_the_main_one(guest: Guest, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        script="if __name__ == '__main__':\n    raise SystemExit\nimport sys\n"
        "def main():\n    return [__name__, __file__, sys.modules[__name__].main is main]\n",
    )
    assert call(guest, script) == ["script", "script.py", True]
    renamed = script.rename(tmp_path / "json.py")
    assert call(guest, renamed) == ["script", "json.py", True]


def test_modules_beside_the_script_come_along(guest: Guest, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        script="from package import inner\nimport package.deep.leaf as leaf, helper, spaced.module\n"
        "def main():\n    from late import LATE\n"
        "    return [inner(2), leaf.NAME, helper.cycle(), spaced.module.X, LATE]\n",
        **{
            "package/__init__": "from .product import inner\n",
            "package/product": "from .deep import leaf\nfrom . import factor\n"
            "def inner(x):\n    return x * factor.F\n",
            "package/factor": "F = 21\n",
            "package/deep/__init__": "",
            "package/deep/leaf": "from ..factor import F\nNAME = __name__ + str(F)\n",
            "spaced/module": "X = 'no __init__'\n",
        },
        helper="import other\ndef cycle(): return other.back()\ndef base(): return 'base'\n",
        other="import helper\ndef back(): return helper.base()\n",
        late="LATE = 1\n",
        unused="raise AssertionError\n",
    )
    assert call(guest, script) == [42, "package.deep.leaf21", "base", "no __init__", 1]
    assert "unused" not in read_script(script).sources


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("Point(1, [Point(2, None)])", {"x": 1, "y": [{"x": 2, "y": None}]}),
        ("(1, {3, 1, 2}, frozenset())", [1, [1, 2, 3], []]),
        ("{1: 'a', None: 'b'}", {"1": "a", "null": "b"}),
        ("[Decimal('0.10'), Fraction(1, 3), Colour.RED]", ["0.10", "1/3", "red"]),
        ("[date(2020, 2, 29), datetime(2020, 1, 1, 2)]", ["2020-02-29", "2020-01-01T02:00:00"]),
        ("10 ** 30", 10**30),
        ("0.1 + 0.2", 0.1 + 0.2),
    ],
)
def test_results_become_json(guest: Guest, tmp_path: Path, expression: str, expected: object) -> None:
    script = write(
        tmp_path,
        script="from dataclasses import dataclass\nfrom datetime import date, datetime\n"
        "from decimal import Decimal\nfrom enum import Enum\nfrom fractions import Fraction\n"
        "@dataclass\nclass Point:\n    x: int\n    y: object\n"
        "class Colour(Enum):\n    RED = 'red'\n"
        f"def main():\n    return {expression}\n",
    )
    assert call(guest, script) == expected


@pytest.mark.parametrize(
    ("expression", "kind", "words"),
    [
        ("b'bytes'", TypeError, "no form for bytes"),
        ("object()", TypeError, "no form for object"),
        ("[float('nan')]", ValueError, "NaN and infinity"),
        ("{(1, 2): 3}", TypeError, "keys must be"),
        ("loop", ValueError, "Circular"),
    ],
)
def test_what_json_cannot_hold_is_an_error_of_the_call(
    guest: Guest, tmp_path: Path, expression: str, kind: type[Exception], words: str
) -> None:
    script = write(tmp_path, script=f"loop = []\nloop.append(loop)\ndef main():\n    return {expression}\n")
    with pytest.raises(kind, match=words):
        call(guest, script)


def test_a_traceback_begins_in_the_script_and_shows_its_lines(guest: Guest, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        script="import helper\ndef main():\n    helper.fail()\n",
        helper="class Odd(Exception): pass\n\ndef fail():\n    raise Odd('so', 1)  # here\n",
    )
    with pytest.raises(RemoteError, match=r"helper\.Odd: \('so', 1\)") as raised:
        call(guest, script)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    lines = raised.value.__cause__.text.splitlines()
    assert lines[1:3] == ['  File "script.py", line 3, in main', "    helper.fail()"]
    assert lines[-2:] != lines[1:3]
    assert '  File "helper.py", line 4, in fail' in lines
    assert "    raise Odd('so', 1)  # here" in lines


def test_a_script_that_fails_when_it_is_run_tells_where(guest: Guest, tmp_path: Path) -> None:
    script = write(tmp_path, script="x = 1 / 0\ndef main(): pass\n")
    with pytest.raises(ZeroDivisionError) as raised:
        call(guest, script)
    assert 'File "script.py", line 1' in str(raised.value.__cause__)
    script = write(tmp_path, script="import nowhere_to_be_found\ndef main(): pass\n")
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        call(guest, script)


def test_a_name_that_is_bound_only_sometimes_fails_there(guest: Guest, tmp_path: Path) -> None:
    script = write(tmp_path, script="if False:\n    def main(): pass\n")
    with pytest.raises(NameError, match=r"script\.py defines no main"):
        call(guest, script)


def test_functions_are_found_however_they_are_bound(guest: Guest, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        script="import math\nfrom math import floor as down\nsquare = lambda x: x * x\n"
        "try:\n    import nothing_like_it\nexcept ImportError:\n    def root(x): return math.sqrt(x)\n"
        "with __import__('contextlib').nullcontext():\n    def inside(x): return x\n"
        "class Made(list): pass\n",
    )
    assert call(guest, script, "down", 2.5) == 2
    assert call(guest, script, "square", 3) == 9
    assert call(guest, script, "root", 16) == 4.0
    assert call(guest, script, "inside", 1) == 1
    assert call(guest, script, "Made", [1]) == [1]


def test_the_same_script_gives_the_same_bytes_and_a_change_others(tmp_path: Path) -> None:
    one = write(tmp_path / "one", script="import helper\ndef main(): pass\n", helper="A = 1\n")
    other = write(tmp_path / "other", script="import helper\ndef main(): pass\n", helper="A = 1\n")
    part = read_script(one).function("main").part
    assert read_script(other).function("main").part == part
    assert str(tmp_path).encode() not in part
    (tmp_path / "other" / "helper.py").write_text("A = 2\n")
    assert read_script(other).function("main").part != part


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"def main(:\n", "script.py, line 1: "),
        (b"def main():\n    pass\n  wrong\n", "script.py, line 3: "),
        (b"x = '\xff'\n", "script.py .* save it as UTF-8"),
        (b"# coding: nonsense\n", "script.py .* save it as UTF-8"),
        (b"x = 1\0\n", "script.py.*null"),
        (b"x = " + b"(" * 5000 + b")" * 5000, "script.py.*nested"),
        (b"x = " + b"-" * 200_000 + b"1\n", "script.py.*"),
        (b"x = 1\n", "script.py has no function 'main'"),
        (b"def other(): pass\n", "script.py has no function 'main'"),
        (b"def outer():\n    def main(): pass\n", "script.py has no function 'main'"),
        (b"async def main(): pass\n", "'main' of script.py is asynchronous"),
        (b"", "script.py has no function 'main'"),
    ],
)
def test_what_is_no_script_is_refused_by_name(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / "script.py").write_bytes(text)
    with pytest.raises(ScriptError, match=words):
        read_script(tmp_path / "script.py").function("main")


def test_doubtful_source_is_read_without_a_word_here(tmp_path: Path) -> None:
    script = write(tmp_path, script="def main(): return '\\d' is 1\n")
    assert "main" in read_script(script).names


def test_other_encodings_are_read_as_they_say(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_bytes("# coding: latin-1\ndef main(): return 'é'\n".encode("latin-1"))
    assert call(guest, tmp_path / "script.py") == "é"


def test_too_much_source_is_refused(tmp_path: Path) -> None:
    script = write(tmp_path, script="import helper\ndef main(): pass\n")
    (tmp_path / "helper.py").write_bytes(b"#" * SOURCE_BYTES_MAX)
    with pytest.raises(ScriptError, match=rf"helper\.py: .* at most {SOURCE_BYTES_MAX} bytes"):
        read_script(script)
    names = [f"module_{number}" for number in range(MODULES_MAX)]
    for name in names:
        (tmp_path / f"{name}.py").touch()
    script.write_text(f"import {', '.join(names)}\ndef main(): pass\n")
    with pytest.raises(ScriptError, match=f"more than {MODULES_MAX} modules"):
        read_script(script)


def test_a_file_that_hides_the_standard_library_is_refused(tmp_path: Path) -> None:
    script = write(tmp_path, script="import json\ndef main(): pass\n", json="x = 1\n")
    with pytest.raises(ScriptError, match=r"json\.py is named like .* rename it"):
        read_script(script)


def test_a_folder_that_is_no_package_hides_nothing(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    script = write(tmp_path, script="import json\ndef main(): return json.loads('1')\n")
    assert call(guest, script) == 1


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_whatever_is_in_a_file_it_is_read_or_refused(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "script.py"
        path.write_bytes(data)
        with suppress(ScriptError):
            assert read_script(path).sources["script"][0] == "script.py"
