"""A miner's own credited work: the receipts and inputs that its blocks must show when they are drawn.

Protocol 4.5, 5.5. A batch is kept whole or not at all: its inputs are stored and pinned first, then the file
that names them is put in its place.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noria.consensus.certificate import Certificate
from noria.consensus.wire import InvalidMessage, Reader, integer_to_bytes
from noria.primitives import rlp
from noria.primitives.types import HASH_BYTES, Hash32
from noria.work.batches import BATCH_BYTES_MAX, BATCH_RECEIPTS_MAX, Batch, BatchError, decode_batch
from noria.work.blobs import BlobStore
from noria.work.ids import BlobId, ProgramId, blob_id
from noria.work.receipts import ReceiptError, check_unit

_UNIT_BYTES_MAX: Final = 2 * (HASH_BYTES + 1) + 9 + 2
_FILE_BYTES_MAX: Final = BATCH_BYTES_MAX + BATCH_RECEIPTS_MAX * _UNIT_BYTES_MAX + 32
_BATCHES_HELD: Final = 16


class OwnWorkError(Exception):
    """Work of one's own that cannot be shown; base of the errors below."""


class BatchMissing(OwnWorkError):
    """A batch that is not here, though it is credited to this miner."""


class BatchDamaged(OwnWorkError):
    """A file that is not the batch that its name says."""


@dataclass(frozen=True, slots=True)
class OwnUnit:
    """What a receipt's unit is made of."""

    program: ProgramId
    input_id: BlobId
    fuel_limit: int


@dataclass(frozen=True, slots=True)
class OwnBatch:
    """A batch with the units of its receipts, in their order."""

    batch: Batch
    units: tuple[OwnUnit, ...]


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
        self._inputs = BlobStore(folder / "inputs", durable=durable)
        self._durable = durable
        self._held: OrderedDict[Hash32, OwnBatch] = OrderedDict()

    def close(self) -> None:
        """Close the store of inputs."""
        self._inputs.close()

    def keep(self, batch: Batch, units: Sequence[OwnUnit], inputs: Sequence[bytes]) -> None:
        """Keep a batch with its inputs, until `forget`.

        Raises
        ------
        ReceiptError
            Where a unit is not that of its receipt.
        """
        root = batch.commitment.root
        for receipt, unit, data in zip(batch.receipts, units, inputs, strict=True):
            check_unit(receipt, unit.program, unit.input_id, unit.fuel_limit)
            self._inputs.put(data, expected=unit.input_id, holder=_holder(root))
        fields: list[rlp.RlpItem] = [
            [unit.program, unit.input_id, integer_to_bytes(unit.fuel_limit)] for unit in units
        ]
        self._write(root, rlp.encode([batch.encode(), fields]))

    def forget(self, root: Hash32) -> None:
        """Let a batch go that has left the window; its inputs make room when room is needed."""
        self._held.pop(root, None)
        self._path(root).unlink(missing_ok=True)
        self._inputs.release(_holder(root))

    def roots(self) -> list[Hash32]:
        """Return the batches that are kept."""
        return sorted(Hash32(bytes.fromhex(path.stem)) for path in self._folder.glob("*.batch"))

    def certificate(self, batch_root: Hash32, weight_offset: int) -> tuple[Certificate, bytes]:
        """Return what a block shows of a draw, and the input that travels beside it (protocol 4.5).

        Raises
        ------
        BatchMissing, BatchDamaged
            Where the batch cannot be shown.
        BlobMissing
            Where the input is gone.
        """
        own = self._batch(batch_root)
        proof = own.batch.proof_at_weight(weight_offset)
        unit = own.units[proof.receipt.index - own.batch.commitment.first_index]
        return (
            Certificate(proof, unit.program, unit.input_id, unit.fuel_limit),
            self._inputs.get(unit.input_id),
        )

    def _batch(self, root: Hash32) -> OwnBatch:
        held = self._held.get(root)
        if held is None:
            held = self._held[root] = self._read(root)
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
            units = tuple(
                OwnUnit(
                    ProgramId(Hash32(unit.fixed("program", HASH_BYTES))),
                    BlobId(Hash32(unit.fixed("input", HASH_BYTES))),
                    unit.integer("fuel_limit", 64),
                )
                for unit in reader.lists("units", max_items=BATCH_RECEIPTS_MAX)
            )
            reader.close()
        except (InvalidMessage, BatchError, ReceiptError) as error:
            raise BatchDamaged(f"{path} is damaged: {error}") from error
        if batch.commitment.root != root or len(units) != batch.commitment.count:
            raise BatchDamaged(f"{path} holds another batch than its name says")
        return OwnBatch(batch, units)

    def _write(self, root: Hash32, data: bytes) -> None:
        path = self._path(root)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            if self._durable:
                os.fsync(file.fileno())
        partial.replace(path)
        if self._durable:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _path(self, root: Hash32) -> Path:
        return self._folder / f"{root.hex()}.batch"


def own_unit(program: ProgramId, input: bytes, fuel_limit: int) -> OwnUnit:
    """Name the parts of a unit."""
    return OwnUnit(program, blob_id(input), fuel_limit)


def _holder(root: Hash32) -> str:
    return f"batch/{root.hex()}"
