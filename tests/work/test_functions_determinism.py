"""The same function is the same bytes, wherever and however often it is captured."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from noria.work import archive
from noria.work.functions import capture
from tests.work.functions_project import mixture
from tests.work.guest_process import install

ROOT = Path(__file__).resolve().parents[2]


def captured_here() -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        mixture.main()
    return printed.getvalue()


def test_a_function_captured_twice_is_the_same_bytes() -> None:
    assert captured_here() == captured_here()


@pytest.mark.parametrize("seed", ["0", "1", "4242", "random"])
def test_the_hash_seed_and_the_process_do_not_show(seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    command = [sys.executable, "-m", "tests.work.functions_project.mixture"]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == captured_here()


def test_where_the_project_lies_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for place in ("here", "there"):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "wandering.py").write_text("K = 2\n\n\ndef f(x):\n    return x * K\n")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            patch.delitem(sys.modules, "wandering", raising=False)
            captured = capture(importlib.import_module("wandering").f)
            patch.delitem(sys.modules, "wandering")
        digests.append(captured.digest)
        assert str(tmp_path).encode() not in captured.part
    assert digests[0] == digests[1]


def test_everything_works_when_it_arrives(tmp_path: Path) -> None:
    assert install(tmp_path).call(mixture.everything, 2) == mixture.everything(2)


def test_calls_share_the_function_part() -> None:
    captured = capture(mixture.everything)
    parsed = [archive.parse(captured.call((x,)).archive) for x in range(3)]
    assert {one.function for one in parsed} == {captured.part}
    assert len({one.call for one in parsed}) == 3
    assert parsed[0].arguments_steps == ()


def test_the_digest_follows_source_and_data() -> None:
    def scaled(k: int):  # type: ignore[no-untyped-def]
        return lambda x: x * k

    def added(k: int):  # type: ignore[no-untyped-def]
        return lambda x: x + k

    digests = [capture(one).digest for one in (scaled(1), scaled(1), scaled(2), added(1))]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_the_archive_shows_what_travels() -> None:
    sources = archive.parse(capture(mixture.CUBE).call((2,)).archive).sources()
    assert list(sources.values()) == [
        "def __noria_around__(k):\n    def inner(x: int, options: frozenset[str] = None) -> int:\n"
        "        return int(x**k) + len(options)\n"
    ]
    assert next(iter(sources)).startswith("tests/work/functions_project/mixture.py:")
