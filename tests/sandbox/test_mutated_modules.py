"""Programs with bytes that somebody changed: refused by name, or run to a result; nothing else."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria import _core
from tests.work import modules

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TRACER = (REPOSITORY / "examples" / "render" / "pathtracer.wasm").read_bytes()
SMALL = (modules.ECHO, modules.TRAP, modules.SPIN, modules.FLOOD)
FUEL_LIMIT = 200_000


KINDS = {"not-webassembly", "invalid", "feature", "limit", "import", "reserved-export"}


def refusal(module: bytes) -> str | None:
    """Return why the instrumenter refuses a module, if it does."""
    try:
        _core.instrument(module)
    except _core.InvalidProgram as refused:
        return str(refused.args[0])
    return None


def changed(module: bytes, source: random.Random) -> bytes:
    """Change, remove or repeat some bytes."""
    data = bytearray(module)
    for _ in range(source.choice([1, 1, 2, 5])):
        at = source.randrange(8, len(data))
        match source.randrange(4):
            case 0:
                data[at] = source.randrange(256)
            case 1:
                data[at] ^= 1 << source.randrange(8)
            case 2:
                del data[at : at + source.randrange(1, 9)]
            case _:
                data[at:at] = data[at : at + source.randrange(1, 9)]
        if len(data) <= 9:
            break
    return bytes(data)


@given(st.integers(0, 2**64))
def test_the_instrumenter_refuses_by_name(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(10):
        assert refusal(changed(TRACER, source)) in {None, *KINDS}


@given(st.binary(max_size=2_000))
def test_any_bytes_are_refused_by_name(data: bytes) -> None:
    assert refusal(data) in {None, *KINDS}
    assert refusal(b"\0asm\1\0\0\0" + data) in {None, *KINDS}


@pytest.fixture(scope="module")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> list[_core.Sandbox]:
    return [_core.Sandbox(tmp_path_factory.mktemp(engine), engine) for engine in ("wasmtime", "pulley")]


@given(seed=st.integers(0, 2**64))
def test_what_is_accepted_has_one_result(sandboxes: list[_core.Sandbox], seed: int) -> None:
    source = random.Random(seed)
    module = changed(source.choice(SMALL), source)
    outcomes = []
    for sandbox in sandboxes:
        try:
            program = sandbox.load(module)
        except _core.InvalidProgram as refused:
            outcomes.append(refused.args)
        else:
            outcome = program.run(b"some input", FUEL_LIMIT)
            outcomes.append((outcome.status, outcome.output, outcome.log, outcome.fuel))
    assert outcomes[0] == outcomes[1]
