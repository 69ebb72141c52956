"""From released receipts to batches, and what is kept of those that may be drawn (protocol 4.5, 5.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Final

import msgspec
import structlog

from noria.chain.own_work import OwnUnit, OwnWork
from noria.market.messages import BlobPart, BytesPart
from noria.market.miner.deliveries import Deliveries
from noria.market.miner.entries import PlaceRecord, ReceiptRecord
from noria.market.miner.journal import Journal
from noria.market.miner.units import Signing
from noria.primitives.types import Hash32
from noria.work.batches import Batch, build_batch
from noria.work.blob_errors import BlobStoreError
from noria.work.ids import BlobId, ProgramId, UnitId
from noria.work.receipts import Receipt, status_of

_PARTS: Final = msgspec.msgpack.Decoder(list[BytesPart | BlobPart])
_log = structlog.get_logger(__name__)


class NotKept(Exception):
    """A batch cannot be kept, so that it must not be credited; the message says why."""


class Keeper:
    """Builds batches from the journal and gives those that will be credited to the miner's own work.

    Parameters
    ----------
    work
        Where blocks find what they must show.
    """

    def __init__(self, journal: Journal, deliveries: Deliveries, work: OwnWork, signing: Signing) -> None:
        self._journal, self._deliveries, self._work, self._signing = journal, deliveries, work, signing

    async def build(self, place: PlaceRecord, first: int, count: int) -> tuple[Batch, list[ReceiptRecord]]:
        """Return a batch of released receipts, with what the journal has of them."""
        records = await self._journal.receipts(place.id, first, count)
        return await asyncio.to_thread(self._build, place, records), records

    def _build(self, place: PlaceRecord, records: Sequence[ReceiptRecord]) -> Batch:
        signing = self._signing
        return build_batch(
            [
                Receipt(
                    genesis_root=signing.genesis_root,
                    job=place.job,
                    k=place.k,
                    miner=signing.key.address,
                    index=record.index,
                    unit_id=UnitId(Hash32(record.unit)),
                    output_id=BlobId(Hash32(record.output_id)),
                    status=status_of(record.status),
                    fuel=record.fuel,
                    weight=record.weight,
                )
                for record in records
            ]
        )

    def has(self, root: Hash32) -> bool:
        """Tell whether a batch is kept. Looks at the disk."""
        return self._work.has(root)

    async def keep(self, place: PlaceRecord, batch: Batch, records: Sequence[ReceiptRecord]) -> None:
        """Keep a batch with the inputs of what carries weight.

        Raises
        ------
        NotKept
            Where that is not possible.
        """
        program = ProgramId(Hash32(place.program))
        units = [OwnUnit(program, BlobId(Hash32(record.input)), record.fuel_limit) for record in records]
        try:
            await asyncio.to_thread(self._work.keep, batch, units, self._inputs(records))
        except (OSError, BlobStoreError, ValueError) as error:
            raise NotKept(f"batch {batch.commitment.root.hex()} cannot be kept: {error}") from error

    def _inputs(self, records: Iterable[ReceiptRecord]) -> Iterator[tuple[bytes, ...]]:
        """Read inputs as they are asked for: together they may be larger than memory."""
        blobs: dict[bytes, bytes] = {}
        for record in records:
            parts = []
            for part in _PARTS.decode(record.parts) if record.parts else ():
                if isinstance(part, BytesPart):
                    parts.append(part.data)
                    continue
                if part.blob not in blobs:
                    if len(blobs) >= 8:
                        blobs.clear()
                    blobs[part.blob] = self._deliveries.read(BlobId(Hash32(part.blob)))
                parts.append(blobs[part.blob])
            yield tuple(parts)

    def forget_old(self, counting: Set[Hash32], pending: Set[Hash32]) -> list[Hash32]:
        """Let batches go that nobody can ask for any more; return them. Reads and writes the disk.

        Parameters
        ----------
        counting
            Those that are credited and still in the window.
        pending
            Those that may yet be credited.
        """
        gone = [root for root in self._work.roots() if root not in counting and root not in pending]
        for root in gone:
            self._work.forget(root)
        if gone:
            _log.info("batches_forgotten", count=len(gone))
        return gone
