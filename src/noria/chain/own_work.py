"""A miner's own credited work: the receipts and inputs that its blocks must show when they are drawn.

Protocol 4.5, 5.5. A batch is two files: ``….inputs`` has the parts of all inputs, each once, because units
of one map share most of theirs; ``….batch`` has the receipts and says where each input lies. It is written
when the other is whole, so that a batch is kept whole or not at all.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noria.consensus.certificate import Certificate
from noria.consensus.wire import FieldOutOfRange, InvalidMessage, Reader, TooManyItems, integer_to_bytes
from noria.primitives import rlp
from noria.primitives.hashes import blake3
from noria.primitives.types import HASH_BYTES, Hash32
from noria.work.batches import BATCH_BYTES_MAX, BATCH_RECEIPTS_MAX, Batch, BatchError, decode_batch
from noria.work.ids import BlobId, ProgramId, blob_id
from noria.work.receipts import ReceiptError, check_unit

PARTS_MAX: Final = 16
"""Parts of one input."""
_INPUT_BYTES_MAX: Final = 64 << 20
_PIECE_BYTES_MAX: Final = 12 + 2
_UNIT_BYTES_MAX: Final = 2 * (HASH_BYTES + 1) + 9 + 8 + PARTS_MAX * _PIECE_BYTES_MAX
_FILE_BYTES_MAX: Final = BATCH_BYTES_MAX + BATCH_RECEIPTS_MAX * _UNIT_BYTES_MAX + 32
_BATCHES_HELD: Final = 16
_PARTS_SHARED: Final = 1024
"""Parts of inputs that are remembered while a batch is written, so that they need not be written again."""


class OwnWorkError(Exception):
    """Work of one's own that cannot be shown; base of the errors below."""


class BatchMissing(OwnWorkError):
    """A batch that is not here, though it is credited to this miner."""


class BatchDamaged(OwnWorkError):
    """A file that is not the batch that its name says."""


class InputMissing(OwnWorkError):
    """An input that is gone, or is not what its receipt says."""


@dataclass(frozen=True, slots=True)
class OwnUnit:
    """What a receipt's unit is made of."""

    program: ProgramId
    input_id: BlobId
    fuel_limit: int


@dataclass(frozen=True, slots=True)
class OwnBatch:
    """A batch with the units of its receipts in their order, and the pieces of each input: (begin, end)."""

    batch: Batch
    units: tuple[OwnUnit, ...]
    pieces: tuple[tuple[tuple[int, int], ...], ...]


class OwnWork:
    """The batches of one miner in a folder. Any thread may use it.

    Parameters
    ----------
    folder
        Made if it is not there.
    durable
        Whether what is kept survives a power cut.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self._folder = folder / "batches"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._durable = durable
        self._held: OrderedDict[Hash32, OwnBatch] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, batch: Batch, units: Sequence[OwnUnit], inputs: Iterable[Sequence[bytes]]) -> None:
        """Keep a batch with its inputs, until `forget`.

        Parameters
        ----------
        batch, units
            The receipts and what they are of, in their order.
        inputs
            Of each unit, in parts that others may share; none of a unit that carries no weight, because
            nobody will ask for it.

        Raises
        ------
        ReceiptError
            Where a unit is not that of its receipt.
        OSError
            Where it cannot be written; nothing is kept then.
        """
        root = batch.commitment.root
        for receipt, unit in zip(batch.receipts, units, strict=True):
            check_unit(receipt, unit.program, unit.input_id, unit.fuel_limit)
        pieces = self._write_inputs(root, inputs)
        fields: list[rlp.RlpItem] = [
            [
                unit.program,
                unit.input_id,
                integer_to_bytes(unit.fuel_limit),
                [integer_to_bytes(number) for piece in own for number in piece],
            ]
            for unit, own in zip(units, pieces, strict=True)
        ]
        self._write(self._path(root), [rlp.encode([batch.encode(), fields])])

    def forget(self, root: Hash32) -> None:
        """Let a batch go that has left the window."""
        with self._lock:
            self._held.pop(root, None)
        self._path(root).unlink(missing_ok=True)
        self._inputs_path(root).unlink(missing_ok=True)

    def has(self, root: Hash32) -> bool:
        """Tell whether a batch is kept."""
        return self._path(root).exists()

    def roots(self) -> list[Hash32]:
        """Return the batches that are kept."""
        return sorted(Hash32(bytes.fromhex(path.stem)) for path in self._folder.glob("*.batch"))

    def certificate(self, batch_root: Hash32, weight_offset: int) -> tuple[Certificate, bytes]:
        """Return what a block shows of a draw, and the input that travels beside it (protocol 4.5).

        Raises
        ------
        BatchMissing, BatchDamaged, InputMissing
            Where it cannot be shown.
        """
        own = self._batch(batch_root)
        proof = own.batch.proof_at_weight(weight_offset)
        place = proof.receipt.index - own.batch.commitment.first_index
        unit = own.units[place]
        return (
            Certificate(proof, unit.program, unit.input_id, unit.fuel_limit),
            self._input(batch_root, unit, own.pieces[place]),
        )

    def _batch(self, root: Hash32) -> OwnBatch:
        with self._lock:
            held = self._held.get(root)
        if held is None:
            held = self._read(root)
            with self._lock:
                self._held[root] = held
                while len(self._held) > _BATCHES_HELD:
                    self._held.popitem(last=False)
        return held

    def _read(self, root: Hash32) -> OwnBatch:
        path = self._path(root)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BatchMissing(
                f"batch {root.hex()} is not in {self._folder}: blocks that must show it are lost"
            ) from error
        try:
            reader = Reader.open(data, "batch", max_bytes=_FILE_BYTES_MAX)
            batch = decode_batch(reader.blob("receipts", max_bytes=BATCH_BYTES_MAX))
            rows = [_read_unit(row) for row in reader.lists("units", max_items=BATCH_RECEIPTS_MAX)]
            reader.close()
        except (InvalidMessage, BatchError, ReceiptError) as error:
            raise BatchDamaged(f"{path} is damaged: {error}") from error
        if batch.commitment.root != root or len(rows) != batch.commitment.count:
            raise BatchDamaged(f"{path} holds another batch than its name says")
        return OwnBatch(batch, tuple(unit for unit, _ in rows), tuple(pieces for _, pieces in rows))

    def _input(self, root: Hash32, unit: OwnUnit, pieces: Sequence[tuple[int, int]]) -> bytes:
        path = self._inputs_path(root)
        try:
            with path.open("rb") as file:
                data = b"".join(os.pread(file.fileno(), end - begin, begin) for begin, end in pieces)
        except OSError as error:
            raise InputMissing(f"{path} cannot be read: blocks that must show its inputs are lost") from error
        if blob_id(data) != unit.input_id:
            raise InputMissing(f"{path} does not hold input {unit.input_id.hex()}: it is damaged")
        return data

    def _write_inputs(
        self, root: Hash32, inputs: Iterable[Sequence[bytes]]
    ) -> list[tuple[tuple[int, int], ...]]:
        """Write all parts, each once as far as is remembered; return where each input's lie."""
        places: OrderedDict[Hash32, tuple[int, int]] = OrderedDict()
        found: list[tuple[tuple[int, int], ...]] = []

        def parts() -> Iterator[bytes]:
            end = 0
            for own in inputs:
                pieces = []
                for part in own:
                    name = blake3(part)
                    if name not in places:
                        places[name] = (end, end + len(part))
                        end += len(part)
                        if len(places) > _PARTS_SHARED:
                            places.popitem(last=False)
                        yield part
                    else:
                        places.move_to_end(name)
                    pieces.append(places[name])
                found.append(tuple(pieces))

        self._write(self._inputs_path(root), parts())
        return found

    def _write(self, path: Path, pieces: Iterable[bytes]) -> None:
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                if self._durable:
                    os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if self._durable:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _path(self, root: Hash32) -> Path:
        return self._folder / f"{root.hex()}.batch"

    def _inputs_path(self, root: Hash32) -> Path:
        return self._folder / f"{root.hex()}.inputs"


def _read_unit(row: Reader) -> tuple[OwnUnit, tuple[tuple[int, int], ...]]:
    unit = OwnUnit(
        ProgramId(Hash32(row.fixed("program", HASH_BYTES))),
        BlobId(Hash32(row.fixed("input", HASH_BYTES))),
        row.integer("fuel_limit", 64),
    )
    listed = row.list("pieces")
    pieces: list[tuple[int, int]] = []
    while not listed.at_end:
        if len(pieces) == PARTS_MAX:
            raise TooManyItems(f"batch: an input in more than {PARTS_MAX} pieces")
        begin, end = listed.integer("begin", 48), listed.integer("end", 48)
        if not 0 <= end - begin <= _INPUT_BYTES_MAX:
            raise FieldOutOfRange(f"batch: an input's piece from {begin} to {end}")
        pieces.append((begin, end))
    return unit, tuple(pieces)


def own_unit(program: ProgramId, input: bytes, fuel_limit: int) -> OwnUnit:
    """Name the parts of a unit."""
    return OwnUnit(program, blob_id(input), fuel_limit)
