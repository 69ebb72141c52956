"""A unit on its way through a miner, and what its receipt is made with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from noria.market.messages import BlobPart, BytesPart, Result
from noria.market.miner.entries import ReceiptRecord
from noria.primitives.hashes import blake3
from noria.primitives.keys import PrivateKey
from noria.primitives.types import Hash32
from noria.work.ids import BlobId, UnitId
from noria.work.receipts import Status, WeightRules
from noria.work.worker_units import UnitFuture

if TYPE_CHECKING:
    from noria.market.miner.session import Session

NO_NONCE: Final = Hash32(bytes(32))
NONCE_TAG: Final = b"noria/nonce/1"


class UnitState(Enum):
    """Where a unit is on its way."""

    QUEUED = "queued"
    RUNNING = "running"
    SEALED = "sealed"
    """It has run; the requester has its seal and has not asked for more."""
    HELD = "held"
    """Its result waits for money."""
    RELEASING = "releasing"
    """Its receipt is being written."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of a unit that ran; `output` is None where it was put into the store."""

    unit: UnitId
    input: BlobId
    input_bytes: int
    status: Status
    fuel: int
    output_id: BlobId
    output: bytes | None
    output_bytes: int
    log: bytes
    milliseconds: int


@dataclass(slots=True, eq=False)
class OrderedUnit:
    """A unit that is here and not released."""

    session: Session
    number: int
    fuel_limit: int
    parts: tuple[BytesPart | BlobPart, ...]
    digest: bytes
    inline_bytes: int
    sealed: bool
    opened: bool = False
    begun_seconds: float = 0.0
    state: UnitState = UnitState.QUEUED
    future: UnitFuture[Finished] | None = None
    finished: Finished | None = None
    nonce: Hash32 = NO_NONCE
    seal: Hash32 | None = None

    @property
    def spent_seconds(self) -> float:
        """Time that a worker has given it, about; 0 if it has not begun."""
        if self.finished is not None:
            return self.finished.milliseconds / 1000 + 0.001
        if self.future is None or not (self.future.running() or self.future.done()):
            return 0.0
        return time.monotonic() - self.begun_seconds


@dataclass(frozen=True, slots=True)
class Signing:
    """Whose receipts these are.

    Attributes
    ----------
    secret
        From which nonces are made: the same for the same unit after a restart, and known to nobody else.
    """

    genesis_root: Hash32
    key: PrivateKey
    secret: bytes
    rules: WeightRules

    def nonce(self, job: int, k: int, number: int, unit: UnitId) -> Hash32:
        """Return the nonce of a unit's seal."""
        return blake3(
            NONCE_TAG + self.secret + b"".join(n.to_bytes(32, "big") for n in (job, k, number)) + unit
        )


@dataclass(frozen=True, slots=True)
class Untaken:
    """A released result that the requester has not confirmed, and the digest of its unit."""

    result: Result
    digest: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes in an answer, about."""
        return len(self.result.output or b"") + len(self.result.log) + 320


def untaken_of(record: ReceiptRecord) -> Untaken:
    """Return what is told of a receipt until it is taken."""
    result = Result(
        number=record.number,
        index=record.index,
        status=record.status,
        fuel=record.fuel,
        weight=record.weight,
        output_id=record.output_id,
        nonce=record.nonce,
        output=record.output,
        output_bytes=record.output_bytes,
        log=record.log,
        milliseconds=record.milliseconds,
        signature=record.signature,
    )
    return Untaken(result, record.digest)
