"""Orders of definition, scripts, and source as it is found in the wild."""

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.work.functions import RemoteError, RemoteTraceback, capture, decode_result
from noria.work.guest.container import Raised, pack_raised
from noria.work.values import encode
from tests.work.functions_project import tangled
from tests.work.guest_process import Guest, install

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    return install(tmp_path_factory.mktemp("guest"))


@pytest.mark.parametrize("function", [tangled.all_of_it, tangled.from_the_end, tangled.made_of_first])
def test_classes_arrive_in_an_order_that_works(guest: Guest, function: Any) -> None:
    assert guest.call(function) == function()


@given(st.permutations(["First", "Second", "Third", "Last", "Square", "Suit", "Shape", "WithMeta"]))
def test_classes_travel_whichever_is_met_first(order: list[str]) -> None:
    kinds = [getattr(tangled, name) for name in order]
    captured = capture(lambda: kinds)
    assert {f"{tangled.__name__}:{name}" for name in order} <= set(captured.classes)


SCRIPT = """
import enum, subprocess, sys
from dataclasses import dataclass
from noria.work.functions import capture, decode_result

START = "import sys; sys.path.insert(0, sys.argv[1]); from noria_guest.harness import main; sys.exit(main())"
K = 3

class Kind(enum.Enum):
    ODD = 1
    EVEN = 2

@dataclass(frozen=True)
class Item:
    n: int

    @property
    def kind(self):
        return Kind.ODD if self.n % 2 else Kind.EVEN

def work(item):
    return Item(item.n * K), item.kind, __name__

def fails():
    raise RuntimeError("from the script")

def run(function, *args):
    call = capture(function).call(args)
    command = [sys.executable, "-I", "-S", "-E", "-c", START, sys.argv[1]]
    done = subprocess.run(command, input=call.archive, capture_output=True)
    assert done.returncode == 0, done.stderr
    return decode_result(done.stdout, call.classes)

if __name__ == "__main__":
    back = run(work, Item(2))
    assert back == (Item(6), Kind.EVEN, "__main__"), back
    assert type(back[0]) is Item
    try:
        run(fails)
    except RuntimeError as error:
        print(error.__cause__)
"""


def test_a_script_sends_its_own_functions_and_classes(guest: Guest, tmp_path: Path) -> None:
    script = tmp_path / "my script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(guest.folder)]
    environment = {"PYTHONPATH": f"{ROOT / 'src'}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    line = SCRIPT[: SCRIPT.index('raise RuntimeError("from')].count("\n") + 1
    assert (
        f'File "my script.py", line {line}, in fails\n    raise RuntimeError("from the script")'
        in done.stdout
    )


def module_of(name: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Write a module and import it."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return __import__(name)


UNUSUAL = '''
# -*- coding: utf-8 -*-
K = "ß"
def unicode_before(α="é", *, β="→"): return α + β + K + "ü"; ignored = 1
if K:
    def indented(x=(1,
                    2), y="""a
b"""):
        """Doc
    string with odd indentation.
  """
        text = """line one
  line two"""
        return x, y, text
table = {"é": lambda x: x + 1, "ü": lambda x: x + 2, "nested": lambda: (lambda y: y * 2)}
def with_tabs(x):
\tif x:
\t\treturn "tab"
\treturn "none"
pair = (lambda: 1, lambda: 2)
def semicolons(x): y = x; return y
def continued(x, y=1 + \\
              2): return x + \\
                  y
class Late:
    z = 1
    @staticmethod
    def of(k=3): return Late.z + k
def annotated(x: "Missing", y: "Missing" = 3) -> "Missing": return x + y
'''
UNUSUAL += "last = lambda x: x"  # no line end at the end of the file


def test_source_is_cut_out_precisely(guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m = module_of("unusual_source", UNUSUAL, tmp_path, monkeypatch)
    cases: list[tuple[Any, tuple[Any, ...]]] = [
        (m.unicode_before, ()),
        (m.indented, ()),
        (m.table["é"], (1,)),
        (m.table["ü"], (1,)),
        (m.table["nested"](), (4,)),
        (m.with_tabs, (1,)),
        (m.pair[0], ()),
        (m.pair[1], ()),
        (m.semicolons, (5,)),
        (m.continued, (5,)),
        (m.Late.of, ()),
        (m.annotated, (1, 2)),
        (m.last, (9,)),
    ]
    for function, arguments in cases:
        assert guest.call(function, *arguments) == function(*arguments)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters came with Python 3.12")
def test_type_parameters_travel(guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "def f[T](x: T) -> T:\n    return x\n\nclass Box[T]:\n    def __init__(self, x: T): self.x = x\n"
    m = module_of("generic_source", text + "\ndef g(x):\n    return Box(f(x)).x\n", tmp_path, monkeypatch)
    assert guest.call(m.g, 3) == 3


def raised(**change: Any) -> bytes:
    fields = {
        "kind": "builtins:ValueError",
        "message": "m",
        "arguments": encode(("a",)),
        "attributes": encode({}),
    }
    return pack_raised(Raised(**{**fields, "notes": (), "traceback": "t", **change}))


def test_text_from_elsewhere_cannot_steer_a_terminal() -> None:
    output = raised(
        kind="a:\x1b[31mB", message="\x1b]0;title\x07", traceback="line\n\tmore\x1b[2J", notes=("\x9b1m",)
    )
    with pytest.raises(RemoteError) as caught:
        decode_result(output)
    shown = str(caught.value) + str(caught.value.__cause__) + caught.value.__notes__[0]
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\x9b" not in shown
    assert "line\n\tmore\\x1b[2J" in shown


def test_attributes_cannot_change_how_an_exception_is_treated() -> None:
    for name in ("__notes__", "__class__", "__traceback__", 3):
        with pytest.raises(RemoteError):
            decode_result(raised(attributes=encode({name: 1}), notes=("n",)))
    with pytest.raises(ValueError, match="a") as caught:
        decode_result(raised(attributes=encode({"code": 1}), notes=("n",)))
    assert caught.value.code == 1  # type: ignore[attr-defined]
    assert isinstance(caught.value.__cause__, RemoteTraceback)
