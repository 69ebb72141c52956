"""Blob stores of several processes, some of which are killed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from noria.primitives.types import Hash32
from noria.work.blob_errors import BlobMissing
from noria.work.blobs import BLOCK_BYTES, BlobStore
from noria.work.ids import BlobId, blob_id

REPOSITORY = Path(__file__).resolve().parents[2]
Process = subprocess.Popen[str]


@contextmanager
def working(folder: Path, *task: object) -> Iterator[Process]:
    """Run `tests.work.blob_process`; it is killed at the end, if it has not ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.work.blob_process", str(folder), *map(str, task)],
        cwd=REPOSITORY, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def blobs_of(folder: Path) -> list[Path]:
    return sorted((folder / "blobs").rglob("*/*"))


def named(text: str) -> BlobId:
    return BlobId(Hash32(bytes.fromhex(text)))


def check(folder: Path) -> None:
    """Check that every visible blob is whole and counted, and that nothing else is left."""
    with BlobStore(folder) as store:
        names = [path.parent.name + path.name for path in blobs_of(folder)]
        for name in names:
            assert blob_id(store.get(named(name))).hex() == name
        usage = store.usage()
        assert usage.blobs == len(names)
        sizes = [path.stat().st_size for path in blobs_of(folder)]
        assert usage.stored_bytes == sum(max(1, -(-size // BLOCK_BYTES)) * BLOCK_BYTES for size in sizes)
        assert not list((folder / "partial").iterdir())
        assert not list((folder / "quarantine").iterdir())


def test_killed_writers_leave_whatever_they_acknowledged_and_no_half_blob(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    acknowledged: list[str] = []
    for kill_after in (1, 3, 6, 2):
        with ExitStack() as stack:
            writers = [stack.enter_context(working(folder, "write", f"{kill_after}-{n}")) for n in range(2)]
            for process in writers:
                acknowledged += [line(process) for _ in range(kill_after)]
                process.kill()
        check(folder)
        with BlobStore(folder) as store:
            for name in acknowledged:
                assert len(name) == 64
                assert store.has(named(name))


@pytest.mark.parametrize(("where", "visible"), [("written", 0), ("placed", 1)])
def test_a_writer_killed_between_two_steps(tmp_path: Path, where: str, visible: int) -> None:
    folder = tmp_path / "store"
    data = b"half-way" * 1000
    with working(folder, "stop", where) as process:
        assert line(process) == "stopped"
        assert len(blobs_of(folder)) == visible
        if where == "written":
            [partial] = (folder / "partial").iterdir()
            assert partial.read_bytes() == data
        process.kill()
        process.wait()
    check(folder)
    with BlobStore(folder) as store:
        if visible:
            # It appeared whole; it was only not acknowledged.
            assert store.get(blob_id(data)) == data
        else:
            with pytest.raises(BlobMissing):
                store.get(blob_id(data))
        store.put(data)
        assert store.get(blob_id(data)) == data


def test_what_a_living_writer_writes_is_not_cleaned_up(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with BlobStore(folder) as store, working(folder, "stop", "written") as process:
        assert line(process) == "stopped"
        [partial] = (folder / "partial").iterdir()
        store._files.clean_partials()
        assert partial.exists()
        process.kill()
        process.wait()
        store._files.clean_partials()
        assert not partial.exists()


def test_processes_that_put_the_same_blobs_store_them_once(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with ExitStack() as stack:
        processes = [stack.enter_context(working(folder, "same", 40)) for _ in range(3)]
        assert [line(process) for process in processes] == ["ready"] * 3
        for process in processes:
            go(process)
        assert [line(process) for process in processes] == ["done"] * 3
    assert len(blobs_of(folder)) == 40
    check(folder)


def test_processes_that_fight_for_room_keep_to_the_quota(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with ExitStack() as stack:
        processes = [stack.enter_context(working(folder, "crowd", f"p{n}")) for n in range(3)]
        assert [line(process) for process in processes] == ["ready"] * 3
        for process in processes:
            go(process)
        assert [line(process) for process in processes] == ["done"] * 3
    check(folder)
    with BlobStore(folder) as store:
        assert 0 < store.usage().stored_bytes <= 10 * BLOCK_BYTES


def test_a_system_that_lets_files_grow_no_further(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with working(folder, "full", 200_000) as process:
        assert [line(process), line(process)] == ["DiskFull", "small"]
        assert process.wait(60) == 0
    assert len(blobs_of(folder)) == 1
    check(folder)


def test_a_forked_child_opens_the_store_itself(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with working(folder, "fork") as process:
        assert line(process) == "StoreForked parent"
        assert line(process) == f"2 {blob_id(b'child').hex()}"
        assert process.wait(60) == 0
    check(folder)
