"""What the journal of a miner has of places, receipts and batches, and the statements that change it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from noria.market.miner.numbers import NumberSet, decode_numbers
from noria.primitives.types import Hash32

Statement: TypeAlias = tuple[str, tuple[Any, ...]]
"""Text with places for values, and the values."""


@dataclass(slots=True)
class PlaceRecord:
    """A place as it is remembered; see `noria.market.miner.terms`.

    Attributes
    ----------
    id
        Its name in the journal.
    price, royalty
        Wei per fuel.
    state
        ``open``, ``ended``, or ``gone`` where the chain has another job under this number.
    spent
        Numbers of units that have a receipt.
    next_index, earned, fuel, weight
        Of all that was released.
    paid, gas
        Wei received for it, and spent on transactions about it.
    credited
        Weight.
    opened
        Unix seconds.
    seen
        Number of a block at which the chain had the place.
    """

    id: int
    job: int
    k: int
    mark: bytes
    program: bytes
    price: int
    royalty: int
    credits: bool
    state: str
    allow_total: int
    allow_signature: bytes
    spent: NumberSet
    next_index: int
    earned: int
    fuel: int
    weight: int
    paid: int
    credited: int
    gas: int
    opened: int
    seen: int


@dataclass(frozen=True, slots=True)
class ReceiptRecord:
    """A released receipt with what is behind it and what came of it; `parts` are the input's, encoded."""

    index: int
    number: int
    digest: bytes
    unit: bytes
    input: bytes
    parts: bytes
    fuel_limit: int
    status: int
    fuel: int
    weight: int
    output_id: bytes
    nonce: bytes
    output: bytes | None
    output_bytes: int
    log: bytes
    milliseconds: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch that was offered; `fixed` once it may have been sent, from when on its borders do not move."""

    root: Hash32
    first_index: int
    count: int
    fuel: int
    weight: int
    approval: bytes
    fixed: bool

    @property
    def end(self) -> int:
        """Index after its last receipt."""
        return self.first_index + self.count


PLACE_COLUMNS: Final = (
    "id, job, k, mark, program, price, royalty, credits, state, allow_total, allow_signature, spent,"
    " next_index, earned, fuel, weight, paid, credited, gas, opened, seen"
)
RECEIPT_COLUMNS: Final = (
    "idx, number, digest, unit, input, parts, fuel_limit, status, fuel, weight, output_id, nonce, output,"
    " output_bytes, log, milliseconds, signature"
)


# ---------------------------------------------------------------- statements


def begin_place(record: PlaceRecord) -> Statement:
    """Remember a place; its id is given by the caller, who knows the highest."""
    return (
        "INSERT OR IGNORE INTO place (id, job, k, mark, program, price, royalty, credits, opened, seen)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.id,
            record.job,
            record.k,
            record.mark,
            record.program,
            str(record.price),
            str(record.royalty),
            int(record.credits),
            record.opened,
            record.seen,
        ),
    )


def keep_allow(place: int, total: int, signature: bytes) -> Statement:
    """Remember an allow."""
    return (
        "UPDATE place SET allow_total = ?, allow_signature = ? WHERE id = ?",
        (str(total), signature, place),
    )


def release(place: int, record: ReceiptRecord) -> Statement:
    """Remember a receipt."""
    return (
        f"INSERT INTO receipt (place, {RECEIPT_COLUMNS}) VALUES (?, {', '.join('?' * 17)})",
        (
            place,
            record.index,
            record.number,
            record.digest,
            record.unit,
            record.input,
            record.parts,
            record.fuel_limit,
            record.status,
            record.fuel,
            record.weight,
            record.output_id,
            record.nonce,
            record.output,
            record.output_bytes,
            record.log,
            record.milliseconds,
            record.signature,
        ),
    )


def keep_sums(record: PlaceRecord) -> Statement:
    """Remember what all receipts of a place amount to."""
    return (
        "UPDATE place SET spent = ?, next_index = ?, earned = ?, fuel = ?, weight = ? WHERE id = ?",
        (
            record.spent.encode(),
            record.next_index,
            str(record.earned),
            record.fuel,
            record.weight,
            record.id,
        ),
    )


def keep_income(record: PlaceRecord) -> Statement:
    """Remember what came of a place on chain."""
    return (
        "UPDATE place SET paid = ?, credited = ?, gas = ?, state = ? WHERE id = ?",
        (str(record.paid), record.credited, str(record.gas), record.state, record.id),
    )


def take(place: int, index: int) -> Statement:
    """Forget a result that has arrived; its receipt stays."""
    return (
        "UPDATE receipt SET taken = 1, output = NULL, log = x'' WHERE place = ? AND idx = ?",
        (place, index),
    )


def offer(place: int, batch: BatchRecord) -> Statement:
    """Remember a batch."""
    return (
        "INSERT OR IGNORE INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            batch.root,
            place,
            batch.first_index,
            batch.count,
            batch.fuel,
            batch.weight,
            batch.approval,
            int(batch.fixed),
        ),
    )


def keep_approval(root: Hash32, signature: bytes) -> Statement:
    """Remember the requester's consent to a batch."""
    return ("UPDATE batch SET approval = ? WHERE root = ?", (signature, root))


def fix(root: Hash32) -> Statement:
    """Remember that a batch may have been sent."""
    return ("UPDATE batch SET fixed = 1 WHERE root = ?", (root,))


def drop_batch(root: Hash32) -> Statement:
    """Forget a batch; its receipts stay, for another one."""
    return ("DELETE FROM batch WHERE root = ?", (root,))


def forget_batch(place: int, batch: BatchRecord) -> tuple[Statement, Statement]:
    """Forget a batch that is done with for ever, and those of its receipts whose results were taken."""
    return (
        ("DELETE FROM batch WHERE root = ?", (batch.root,)),
        (
            "DELETE FROM receipt WHERE place = ? AND idx >= ? AND idx < ? AND taken = 1",
            (place, batch.first_index, batch.end),
        ),
    )


def forget_receipts(place: int) -> tuple[Statement, Statement]:
    """Forget everything of a place but its earnings."""
    return (
        ("DELETE FROM receipt WHERE place = ?", (place,)),
        ("DELETE FROM batch WHERE place = ?", (place,)),
    )


def place_of(row: tuple[Any, ...]) -> PlaceRecord:
    """Read a place from its columns."""
    values = list(row)
    for place in (5, 6, 9, 13, 16, 18):
        values[place] = int(values[place])
    values[7] = bool(values[7])
    values[11] = decode_numbers(values[11])
    return PlaceRecord(*values)
