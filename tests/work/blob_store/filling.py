"""What tests of one blob store share."""

from pathlib import Path

from noria.work.blobs import BlobStore
from noria.work.ids import BlobId


class Clock:
    """Seconds since 1970 that pass when told."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> int:
        return int(self.seconds * 1e9)


def file_of(store: BlobStore, blob: BlobId) -> Path:
    return store.folder / "blobs" / blob.hex()[:2] / blob.hex()[2:]


def damage(store: BlobStore, blob: BlobId, data: bytes) -> None:
    path = file_of(store, blob)
    path.chmod(0o600)
    path.write_bytes(data)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def fill(store: BlobStore, clock: Clock, count: int = 10) -> list[BlobId]:
    """Put blobs of one block each, one second apart."""
    blobs = []
    for number in range(count):
        clock.seconds += 1
        blobs.append(store.put(f"filling {number}".encode()))
    return blobs
