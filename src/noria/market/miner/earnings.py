"""What a miner has earned, place by place and in all, and what it does now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from noria.market.miner.entries import PlaceRecord
from noria.market.miner.session import Session
from noria.primitives.types import Address, Wei


@dataclass(frozen=True, slots=True)
class PlaceEarnings:
    """What one place has brought.

    Attributes
    ----------
    state
        ``open``, ``closing``, ``ended``, or ``gone`` where a reorganisation has taken it back for ever.
    receipts, fuel, weight
        Of all that was released.
    price
        Wei per fuel, without royalty.
    earned, committed, paid
        Wei, royalty and protocol fee included: of all receipts, of those on chain, of those paid.
    credited
        Weight.
    gas
        Wei spent on transactions.
    opened
        Unix seconds.
    """

    job: int
    k: int
    state: str
    receipts: int
    fuel: int
    weight: int
    price: int
    earned: Wei
    committed: Wei
    paid: Wei
    credited: int
    gas: Wei
    opened: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all places there ever were; as in `PlaceEarnings`."""

    jobs: int
    fuel: int
    earned: Wei
    paid: Wei
    credited: int
    gas: Wei


@dataclass(frozen=True, slots=True)
class Earnings:
    """A miner's ledger: the latest places first."""

    places: tuple[PlaceEarnings, ...]
    totals: Totals


@dataclass(frozen=True, slots=True)
class MarketStatus:
    """What a miner does for others now.

    Attributes
    ----------
    ask_price
        Wei per fuel; None where it is not registered.
    workers, running, queued
        Units at once, in the pool, and waiting.
    assigned
        Places that were drawn lately.
    problem
        Why nothing is released; empty if all is well.
    sessions
        Its places.
    """

    miner: Address
    ask_price: int | None
    workers: int
    running: int
    queued: int
    assigned: int
    problem: str
    sessions: tuple[Session, ...]


def report(
    records: Sequence[PlaceRecord], live: Mapping[int, Session], totals: Mapping[str, int]
) -> Earnings:
    """Join what the journal has with what is going on."""
    paid = sum(session.paid - session.record.paid for session in live.values())
    credited = sum(session.credited - session.record.credited for session in live.values())
    return Earnings(
        tuple(_place(record, live.get(record.id)) for record in records),
        Totals(
            jobs=totals["jobs"],
            fuel=totals["fuel"],
            earned=Wei(totals["earned"]),
            paid=Wei(totals["paid"] + paid),
            credited=totals["credited"] + credited,
            gas=Wei(totals["gas"]),
        ),
    )


def _place(record: PlaceRecord, session: Session | None) -> PlaceEarnings:
    state = record.state
    if session is not None and session.closing and state == "open":
        state = "closing"
    paid = record.paid if session is None else session.paid
    return PlaceEarnings(
        job=record.job,
        k=record.k,
        state=state,
        receipts=record.next_index,
        fuel=record.fuel,
        weight=record.weight,
        price=record.price,
        earned=Wei(record.earned),
        committed=Wei(paid if session is None else session.place.committed),
        paid=Wei(paid),
        credited=record.credited if session is None else session.credited,
        gas=Wei(record.gas),
        opened=record.opened,
    )
