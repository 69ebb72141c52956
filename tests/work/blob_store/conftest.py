"""A small blob store under a clock that passes when told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.work.blobs import BLOCK_BYTES, BlobStore
from tests.work.blob_store.filling import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path, clock: Clock) -> Iterator[BlobStore]:
    """Ten blocks, blobs of at most three."""
    with BlobStore(
        folder, quota_bytes=10 * BLOCK_BYTES, blob_bytes_max=3 * BLOCK_BYTES, durable=False, now_ns=clock
    ) as store:
        yield store
