"""What a requester orders: a unit in parts, its copies at miners, and what these claim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from noria.market.messages import INLINE_BYTES_MAX, PARTS_MAX, BlobPart, BytesPart
from noria.market.requester.evidence import Settled, SignedReceipt
from noria.primitives.types import Hash32
from noria.work.ids import BlobId, ProgramId, UnitId, blob_id, unit_id
from noria.work.receipts import Status
from noria.work.workers import Outcome

BLOB_FROM_BYTES: Final = 1024
"""Shortest shared part that travels by itself, once for all units."""

Key: TypeAlias = tuple[int, bytes, int]
"""What replicas must agree on: status, output's name, fuel."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a unit's input.

    Attributes
    ----------
    data
        The bytes.
    blob
        Its name, if it travels by itself; None if with the unit.
    """

    data: bytes
    blob: BlobId | None

    def message(self) -> BytesPart | BlobPart:
        """Return the part as an order names it."""
        if self.blob is None:
            return BytesPart(self.data)
        return BlobPart(self.blob, len(self.data))


def make_part(data: bytes, *, is_shared: bool = False) -> Part:
    """Return a part; one that is shared by many units, or too long for a message, becomes a blob."""
    alone = len(data) > INLINE_BYTES_MAX or (is_shared and len(data) >= BLOB_FROM_BYTES)
    return Part(data, blob_id(data) if alone else None)


class WorkUnit:
    """A unit that somebody waits for.

    Parameters
    ----------
    program, parts, fuel_limit
        The unit; its input are the parts one after the other.
    settled, failed
        Told how it ended: exactly one of them is called, once.
    started
        Told before the first miner gets it; it answers whether the unit is still wanted. Called once at most;
        if the answer is no, the unit fails.

    Raises
    ------
    ValueError
        If there are more parts than a message holds.
    """

    __slots__ = (
        "failed",
        "fuel_limit",
        "input_bytes",
        "input_id",
        "parts",
        "program",
        "settled",
        "started",
        "unit_id",
    )

    def __init__(
        self,
        program: ProgramId,
        parts: tuple[Part, ...],
        fuel_limit: int,
        *,
        settled: Callable[[Settled], None],
        failed: Callable[[Exception], None],
        started: Callable[[], bool] = lambda: True,
    ) -> None:
        if not 1 <= len(parts) <= PARTS_MAX:
            raise ValueError(f"an input has 1 to {PARTS_MAX} parts, not {len(parts)}")
        data = self.join(parts)
        self.program = program
        self.parts = parts
        self.fuel_limit = fuel_limit
        self.input_bytes = len(data)
        self.input_id: BlobId = blob_id(data)
        self.unit_id: UnitId = unit_id(program, self.input_id, fuel_limit)
        self.settled = settled
        self.failed = failed
        self.started = started

    @staticmethod
    def join(parts: tuple[Part, ...]) -> bytes:
        """Return the input."""
        return parts[0].data if len(parts) == 1 else b"".join(part.data for part in parts)

    @property
    def input(self) -> bytes:
        """The whole input."""
        return self.join(self.parts)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a miner says of a unit, checked as far as that goes without another opinion.

    Attributes
    ----------
    signed
        Its receipt.
    output, log
        Whose names the receipt has; the log has none.
    """

    signed: SignedReceipt
    output: bytes
    log: bytes

    @property
    def key(self) -> Key:
        """What must be the same at all replicas."""
        receipt = self.signed.receipt
        return (int(receipt.status), bytes(receipt.output_id), receipt.fuel)


def outcome_key(outcome: Outcome) -> Key:
    """Return what an own run says, to compare with claims."""
    return (int(outcome.status), bytes(blob_id(outcome.output)), outcome.fuel)


@dataclass(slots=True, eq=False)
class Copy:
    """A unit at one place.

    Attributes
    ----------
    state
        Of the unit.
    k
        The place.
    number
        The unit's name there.
    ordered_at
        When, on the dispatcher's clock.
    seal
        What the miner sealed, once it has.
    claim
        What it says, once it has been opened.
    is_open
        Whether its result has been asked for.
    waits_since
        When something was asked for that has not come; None if nothing is.
    is_dropped
        Whether nobody counts on it any more.
    is_verified
        Whether its claim is what was accepted.
    """

    state: UnitState
    k: int
    number: int
    ordered_at: float
    is_sealed: bool
    seal: Hash32 | None = None
    claim: Claim | None = None
    is_open: bool = False
    waits_since: float | None = None
    is_dropped: bool = False
    is_verified: bool = False


@dataclass(slots=True, eq=False)
class UnitState:
    """How far a unit is.

    Attributes
    ----------
    unit
        What runs; None once it has ended, so that its input is let go.
    unit_id, fuel_limit, input_bytes
        Of the unit.
    required
        Claims that must agree.
    wants_own_run
        Whether this machine runs it, too.
    copies
        At places, including those that failed.
    tried
        Places that get it no more.
    outcome
        Of the own run.
    own_running, own_failed
        Whether that is under way, and whether this machine cannot do it.
    accepted
        What was accepted, once it has ended well.
    ended
        Whether whoever waits has been told.
    first_at
        When it was ordered first; 0 before.
    troubles
        Why copies failed.
    """

    unit: WorkUnit | None
    unit_id: UnitId
    fuel_limit: int
    input_bytes: int
    required: int
    wants_own_run: bool
    copies: list[Copy] = field(default_factory=list)
    tried: set[int] = field(default_factory=set)
    outcome: Outcome | None = None
    own_running: bool = False
    own_failed: bool = False
    accepted: Key | None = None
    ended: bool = False
    is_stopped: bool = False
    first_at: float = 0.0
    troubles: list[str] = field(default_factory=list)

    def live(self) -> list[Copy]:
        """Return the copies that count."""
        return [copy for copy in self.copies if not copy.is_dropped]


def status_name(status: Status) -> str:
    """Return a status in words."""
    return status.name.lower().replace("_", " ")
