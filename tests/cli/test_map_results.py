"""The results file of a map: what stands in it is finished, wherever its writer was killed."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.cli.errors import BadArgument, CommandError
from noria.cli.map_results import FileResults


def record(line: int, **more: Any) -> dict[str, Any]:
    return {"line": line, "result": line * line, "fuel": 1, "unit": f"{line:064x}"} | more


def fill(path: Path, lines: list[int]) -> None:
    with FileResults(path) as results:
        for line in lines:
            results.add(record(line))


def lines_of(path: Path) -> list[int]:
    return [json.loads(text)["line"] for text in path.read_text().splitlines()]


def test_results_are_found_again_by_line_and_unit(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with FileResults(path) as results:
        assert results.found(2, "b") is None
        results.add({"line": 2, "result": None, "unit": "b"})
        results.add({"line": 1, "error": {"type": "E", "message": "m"}, "unit": "a"})
        results.add({"line": 3, "error": {"type": "E", "message": "m"}})
    with FileResults(path) as results:
        assert (results.found(1, "a"), results.found(2, "b"), results.found(3, "")) == (
            "error",
            "result",
            "error",
        )
        assert results.found(4, "") is None
        for line, unit in [(1, "b"), (2, ""), (3, "c")]:
            with pytest.raises(CommandError, match=f"line {line}, but of another script"):
                results.found(line, unit)


@given(lines=st.permutations(range(1, 8)), cut=st.integers(0, 10_000), data=st.data())
def test_wherever_it_was_cut_the_rest_completes_it(lines: list[int], cut: int, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path, whole = Path(folder) / "out", Path(folder) / "whole"
        fill(whole, sorted(lines))
        fill(path, lines)
        size = cut % (path.stat().st_size + 1)
        os.truncate(path, size)
        kept = path.read_bytes().count(b"\n")
        with FileResults(path) as results:
            there = [line for line in sorted(lines) if results.found(line, f"{line:064x}")]
            assert there == sorted(lines[:kept])
            rest = data.draw(st.permutations([line for line in lines if line not in there]))
            for line in rest:
                results.add(record(line))
            results.finish()
        assert path.read_bytes() == whole.read_bytes()


def test_finished_results_stand_in_the_order_of_the_input(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with FileResults(path) as results:
        for line in (3, 1, 2):
            results.found(line, "")
            results.add(record(line))
        assert lines_of(path) == [3, 1, 2]
        results.found(3, f"{3:064x}")
        results.finish()
    assert lines_of(path) == [1, 2, 3]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_results_of_lines_that_are_no_more_are_told(tmp_path: Path) -> None:
    path = tmp_path / "out"
    fill(path, [1, 2, 3])
    with FileResults(path) as results:
        results.found(2, f"{2:064x}")
        with pytest.raises(CommandError, match="line 3, which the input has no more"):
            results.finish()
    assert lines_of(path) == [1, 2, 3]


@pytest.mark.parametrize(
    "content",
    [
        b"my thesis\n",
        b"my thesis",
        b"{}\n",
        b'{"line": 1}\n',
        b'{"line": 0, "result": 1}\n',
        b'{"line": true, "result": 1}\n',
        b'{"line": 1, "result": 1, "error": {}}\n',
        b'{"line": 1, "result": 1, "unit": 5}\n',
        b'[{"line": 1, "result": 1}]\n',
        b'{"line": 1, "result": 1}\n{"line": 1, "result": 1}\n',
        b'{"line": 1, "result": 1}\nrest\n',
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
    ],
)
def test_a_file_with_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "out"
    path.write_bytes(content)
    with pytest.raises(BadArgument, match="is no result of this command"):
        FileResults(path)
    assert path.read_bytes() == content


def test_only_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with FileResults(path), pytest.raises(CommandError, match="written by another process"):
        FileResults(path)
    with FileResults(path) as results:
        assert results.found(1, "") is None


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be written"):
        FileResults(tmp_path / "missing" / "out")
    with pytest.raises(CommandError, match="cannot be written"):
        FileResults(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadArgument, match="no regular file"):
        FileResults(tmp_path / "pipe")
