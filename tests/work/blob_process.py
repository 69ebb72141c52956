"""A process that works on a blob store and says so: for tests that end it at any moment.

Usage: ``python -m tests.work.blob_process FOLDER TASK [ARGUMENT...]``; each task prints one line per event.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from noria.work.blob_errors import BlobMissing, BlobStoreError
from noria.work.blob_files import BlobFiles
from noria.work.blob_index import Change
from noria.work.blobs import BLOCK_BYTES, BlobStore


def say(*words: object) -> None:
    print(*words, flush=True)


def wait_for_the_end(*_: Any) -> NoReturn:
    say("stopped")
    while True:
        signal.pause()


def write(store: BlobStore, seed: str) -> None:
    """Put blobs for ever."""
    source = random.Random(seed)
    while True:
        say(store.put(source.randbytes(source.randrange(2_000_000))).hex())


def stop(store: BlobStore, where: str) -> None:
    """Stop in the middle of a put."""
    if where == "written":
        BlobFiles.place = wait_for_the_end  # type: ignore[method-assign, assignment]
    else:
        Change.add = wait_for_the_end  # type: ignore[method-assign, assignment]
    store.put(b"half-way" * 1000)


def same(store: BlobStore, count: str) -> None:
    """Put the blobs that all other processes put too."""
    say("ready")
    sys.stdin.readline()
    for number in range(int(count)):
        data = random.Random(number).randbytes(20_000)
        assert store.get(store.put(data)) == data
    say("done")


def crowd(store: BlobStore, seed: str) -> None:
    """Put and get blobs for which there is no room."""
    source = random.Random(seed)
    say("ready")
    sys.stdin.readline()
    for _ in range(150):
        data = random.Random(source.randrange(40)).randbytes(source.choice([100, 5_000]))
        blob = store.put(data)
        try:
            assert store.get(blob) == data
        except BlobMissing:
            assert store.usage().stored_bytes <= store.quota_bytes
        pinned = store.put(data, holder=seed)
        assert store.get(pinned) == data
        store.release(seed)
    say("done")


def full(store: BlobStore, file_bytes_max: str) -> None:
    """Put while the system refuses to let a file grow beyond some size, as a full disk would."""
    small = store.put(b"small")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_bytes_max), resource.RLIM_INFINITY))
    try:
        store.put(bytes(10 * int(file_bytes_max)))
    except BlobStoreError as error:
        say(type(error).__name__)
    say(store.get(small).decode())


def fork(store: BlobStore) -> None:
    """Use the store of a parent process in its child."""
    blob = store.put(b"parent")
    child = os.fork()
    if not child:
        try:
            store.put(b"child")
        except BlobStoreError as error:
            say(type(error).__name__, store.get(blob).decode())
        with BlobStore(store.folder) as own:
            own.put(b"child")
        store.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    say(store.usage().blobs, store.put(b"child").hex())


if __name__ == "__main__":
    folder, task, *rest = sys.argv[1:]
    tasks: dict[str, Any] = {
        "write": write, "stop": stop, "same": same, "crowd": crowd, "full": full, "fork": fork,
    }  # fmt: skip
    quota = 10 * BLOCK_BYTES if task == "crowd" else 1 << 30
    with BlobStore(Path(folder), quota_bytes=quota, durable=task != "crowd") as opened:
        tasks[task](opened, *rest)
