"""What requesters put here: blobs of which inputs are made, programs that are not pinned; and long outputs.

Everything is held for the place that brought it and let go with the place. A piece is on the disk when `put`
returns; a whole blob has been checked against its name.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Final

from noria.market.messages import PIECE_BYTES_MAX, Put, Stored
from noria.market.miner.admission import Declined
from noria.market.miner.outputs import Outputs
from noria.primitives.types import Hash32
from noria.work.blob_errors import BlobMissing, BlobStoreError, DiskFull, QuotaExceeded
from noria.work.blobs import BlobStore
from noria.work.ids import BlobId, ProgramId, blob_id, program_id
from noria.work.workers import ProgramSource

CACHE_BYTES_MAX: Final = 64 << 20
CACHE_BLOBS_MAX: Final = 16_384
"""Bytes and number of blobs that are kept in memory, because units share them."""
BLOBS_MAX: Final = 65_536
"""Blobs of one place: each is a file, however short."""
PARTIALS_MAX: Final = 8
"""Blobs of one place that may be incomplete."""
PROGRAMS_MAX: Final = 64
"""Programs that are kept; of those that no place has, the one that was put longest ago goes first."""
REFUSED_MAX: Final = 1_024
"""Programs of which is remembered why the sandbox does not run them; of others that is found out again."""


class Deliveries:
    """Blobs and programs of one miner's places, in a folder. Belongs to one event loop.

    Parameters
    ----------
    folder
        Made if it is not there.
    quota_bytes
        Of all blobs; one place may take a quarter, for its blobs and its long outputs.
    pinned
        Where the modules of pinned programs lie.
    program_bytes_max
        Of a program that the chain does not pin.
    durable
        Whether what is here survives a power cut.
    """

    def __init__(
        self,
        folder: Path,
        *,
        quota_bytes: int,
        pinned: Mapping[ProgramId, Path],
        program_bytes_max: int,
        durable: bool = True,
    ) -> None:
        self._partials, self._programs = folder / "partial", folder / "programs"
        for path in (self._partials, self._programs):
            path.mkdir(parents=True, exist_ok=True)
        self._store = BlobStore(folder / "blobs", quota_bytes=quota_bytes, durable=durable)
        self._outputs = Outputs(self._store)
        self._place_bytes_max = quota_bytes // 4
        self._pinned, self._program_bytes_max = pinned, program_bytes_max
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._here: dict[int, dict[bytes, int]] = {}
        self._here_bytes: Counter[int] = Counter()
        self._locks: dict[int, asyncio.Lock] = {}
        self._sources: dict[bytes, ProgramSource] = {}
        self._refused: dict[bytes, str] = {}

    def close(self) -> None:
        """Close the store; what is in it stays."""
        self._store.close()

    def begin(self, place: int) -> int:
        """Begin a place's next turn, which its units name when they keep or drop outputs; return it."""
        self._here.setdefault(place, {})
        return self._outputs.begin(place)

    # ------------------------------------------------------------ putting

    async def put(self, place: int, request: Put, programs: Set[bytes]) -> Stored:
        """Take a piece of a blob.

        Parameters
        ----------
        place, request
            Who brings what; a program is the place's own.
        programs
            Of places that are taken care of: they stay.

        Raises
        ------
        Declined
            ``malformed`` where it is none, ``busy`` where there is no room, ``closed`` if the place is gone.
        """
        here = self._held_for(place)
        if request.kind not in ("input", "program"):
            raise Declined("malformed", f"a blob is of kind input or program, not {request.kind!r:.40}")
        is_program = request.kind == "program"
        if is_program and request.size > self._program_bytes_max:
            raise Declined("malformed", f"a program has at most {self._program_bytes_max} bytes")
        try:
            # Pieces of one place come one after the other.
            async with self._locks.setdefault(place, asyncio.Lock()):
                return await self._put(place, here, request, programs)
        except (BlobStoreError, OSError) as error:
            raise _no_room(error) from None

    async def _put(self, place: int, here: dict[bytes, int], request: Put, programs: Set[bytes]) -> Stored:
        is_program = request.kind == "program"
        if is_program:
            is_here = await asyncio.to_thread(self.program, ProgramId(Hash32(request.blob))) is not None
        else:
            is_here = await self.hold(place, request.blob) is not None
        if is_here:
            return Stored(request.size, True)
        self._check_room(place, request.size)
        partial = self._partials / f"{place}-{request.blob.hex()}"
        have = await asyncio.to_thread(_append, partial, request, self._partials)
        if have < request.size:
            return Stored(have, False)
        data = await asyncio.to_thread(_read, partial, request.size)
        name = await asyncio.to_thread(program_id if is_program else blob_id, data)
        if name != request.blob:
            await asyncio.to_thread(partial.unlink, missing_ok=True)
            raise Declined("malformed", f"these {len(data)} bytes are {name.hex()}, not {request.blob.hex()}")
        if is_program:
            await asyncio.to_thread(self._keep_program, name, data, programs)
        else:
            await asyncio.to_thread(self._store.put, data, holder=_holder(place))
            await self._note_held(place, here, name, data)
        await asyncio.to_thread(partial.unlink, missing_ok=True)
        return Stored(len(data), True)

    def _check_room(self, place: int, size: int) -> None:
        if self._bytes(place) + size > self._place_bytes_max:
            raise Declined("busy", f"this job has more than {self._place_bytes_max} bytes of blobs here")
        if len(self._held_for(place)) >= BLOBS_MAX:
            raise Declined("busy", f"this job has {BLOBS_MAX} blobs here")

    def _held_for(self, place: int) -> dict[bytes, int]:
        """Return the lengths of what a place has here in its present turn."""
        here = self._here.get(place)
        if here is None:
            raise Declined("closed", "this miner has let the job go")
        return here

    def _bytes(self, place: int) -> int:
        return self._here_bytes[place] + self._outputs.total(place)

    def has_room_for_outputs(self, place: int) -> bool:
        """Tell whether more units of a place may begin: its long outputs are within its share, or taken."""
        return not self._outputs.total(place) or self._bytes(place) < self._place_bytes_max

    async def _note_held(self, place: int, here: dict[bytes, int], blob: bytes, data: bytes) -> None:
        """Count a blob that is held for the place, or let it go where the place was let go meanwhile."""
        if place not in self._here:
            await asyncio.to_thread(self._store.unpin, BlobId(Hash32(blob)), _holder(place))
        if self._held_for(place) is not here:
            raise Declined("busy", "this job has been taken on anew meanwhile")
        if blob not in here:
            here[blob] = len(data)
            self._here_bytes[place] += len(data)
        self._remember(blob, data)

    def _remember(self, blob: bytes, data: bytes) -> None:
        if blob in self._cache:
            self._cache.move_to_end(blob)
        elif len(data) <= CACHE_BYTES_MAX:
            self._cache[blob] = data
            self._cached_bytes += len(data)
            while self._cached_bytes > CACHE_BYTES_MAX or len(self._cache) > CACHE_BLOBS_MAX:
                _, oldest = self._cache.popitem(last=False)
                self._cached_bytes -= len(oldest)

    # ------------------------------------------------------------ blobs

    async def hold(self, place: int, blob: bytes) -> int | None:
        """Hold a blob for the place if it is here; return its length, None if it is not."""
        here = self._held_for(place)
        if blob in here:
            return here[blob]
        try:
            data = await asyncio.to_thread(self._hold, place, BlobId(Hash32(blob)))
        except BlobMissing:
            return None
        except BlobStoreError as error:
            raise _no_room(error) from None
        if blob in here:
            return here[blob]
        try:
            self._check_room(place, len(data))
        except Declined:
            await asyncio.to_thread(self._store.unpin, BlobId(Hash32(blob)), _holder(place))
            raise
        await self._note_held(place, here, blob, data)
        return len(data)

    def _hold(self, place: int, blob: BlobId) -> bytes:
        self._store.pin(blob, _holder(place))
        return self._store.get(blob)

    def cached(self, blob: bytes) -> bytes | None:
        """Return a blob's bytes if they are in memory."""
        found = self._cache.get(blob)
        if found is not None:
            self._cache.move_to_end(blob)
        return found

    async def load(self, blob: bytes) -> bytes:
        """Return a blob's bytes.

        Raises
        ------
        BlobStoreError
            Where it cannot be read.
        """
        found = self.cached(blob)
        if found is None:
            found = await asyncio.to_thread(self.read, BlobId(Hash32(blob)))
            self._remember(blob, found)
        return found

    def read(self, blob: BlobId) -> bytes:
        """Return a blob's bytes. Reads the disk.

        Raises
        ------
        BlobStoreError
            Where it cannot be read.
        """
        return self._store.get(blob)

    # ------------------------------------------------------------ outputs

    def keep_output(self, place: int, turn: int, output: BlobId, data: bytes) -> None:
        """Hold a unit's long output until it is dropped. Writes the disk; any thread.

        Raises
        ------
        BlobStoreError
            Where it cannot be kept.
        """
        self._outputs.keep(place, turn, output, data)

    async def output(self, output: BlobId) -> bytes:
        """Return a long output.

        Raises
        ------
        BlobStoreError
            Where it cannot be read.
        """
        found = self.cached(output)
        if found is None:
            found = await asyncio.to_thread(self._store.get, output)
            self._remember(output, found)
        return found

    def drop_output(self, place: int, turn: int, output: BlobId) -> None:
        """Let a unit's long output go. Writes the disk; any thread."""
        self._outputs.drop(place, turn, output)

    def resume(self, place: int, turn: int, outputs: Iterable[tuple[BlobId, int]]) -> None:
        """Hold the long outputs of results that were not taken, and no others. Writes the disk; any thread.

        Raises
        ------
        BlobStoreError
            Where that cannot be noted.
        """
        self._outputs.resume(place, turn, outputs)

    # ------------------------------------------------------------ programs

    def program(self, program: ProgramId) -> ProgramSource | None:
        """Return where a program's module lies, if it is here. May look at the disk."""
        found = self._sources.get(program)
        if found is None:
            path = self._pinned.get(program) or self._programs / f"{program.hex()}.wasm"
            if not path.exists():
                return None
            found = self._sources[program] = ProgramSource(program, path)
        return found

    def refused(self, program: bytes) -> str:
        """Return why the sandbox does not run a program; nothing if that has not been seen."""
        return self._refused.get(program, "")

    def refuse(self, program: bytes, why: str) -> None:
        """Remember that the sandbox does not run a program."""
        self._refused.pop(program, None)
        self._refused[program] = why
        while len(self._refused) > REFUSED_MAX:
            del self._refused[next(iter(self._refused))]

    def _keep_program(self, program: bytes, module: bytes, programs: Set[bytes]) -> None:
        kept = sorted(self._programs.glob("*.wasm"), key=lambda path: path.stat().st_mtime)
        idle = [path for path in kept if bytes.fromhex(path.stem) not in programs]
        for path in idle[: max(0, len(kept) + 1 - PROGRAMS_MAX)]:
            self._sources.pop(bytes.fromhex(path.stem), None)
            path.unlink(missing_ok=True)
        path = self._programs / f"{program.hex()}.wasm"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(module)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    # ------------------------------------------------------------ ends

    def let_go(self, place: int) -> None:
        """Take nothing more for a place, whose blobs are about to be released. On the loop."""
        self._here.pop(place, None)
        self._here_bytes.pop(place, None)
        self._locks.pop(place, None)

    def release(self, place: int) -> None:
        """Let go of everything of a place. Writes the disk; any thread."""
        self.release_inputs(place)
        self._outputs.release(place)

    def release_inputs(self, place: int) -> None:
        """Let go of what a place has put. Writes the disk; any thread."""
        self._store.release(_holder(place))
        for path in self._partials.glob(f"{place}-*"):
            path.unlink(missing_ok=True)

    def clean(self, places: Iterable[int]) -> None:
        """Remove what other places than these have left half put. Writes the disk."""
        wanted = {str(place) for place in places}
        for path in self._partials.iterdir():
            if path.name.partition("-")[0] not in wanted:
                path.unlink(missing_ok=True)


def _append(partial: Path, request: Put, folder: Path) -> int:
    """Add a piece where it follows what is there; return how much that is now."""
    have = partial.stat().st_size if partial.exists() else 0
    if request.offset != have or have + len(request.data) > request.size:
        return min(have, request.size)
    if not request.data and request.size:
        return have
    if not partial.exists():
        others = [*folder.glob(f"{partial.name.partition('-')[0]}-*")]
        if len(others) >= PARTIALS_MAX:
            min(others, key=lambda path: path.stat().st_mtime).unlink(missing_ok=True)
    with partial.open("ab") as file:
        file.write(request.data[:PIECE_BYTES_MAX])
    return have + len(request.data)


def _read(partial: Path, size: int) -> bytes:
    with partial.open("rb") as file:
        return file.read(size)


def _no_room(error: Exception) -> Declined:
    if isinstance(error, QuotaExceeded | DiskFull):
        return Declined("busy", "no room is left for blobs here")
    return Declined("busy", f"blobs cannot be kept here: {type(error).__name__}")


def _holder(place: int) -> str:
    return f"place/{place}"
