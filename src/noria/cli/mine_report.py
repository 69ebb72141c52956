"""What `noria mine` says: a line for each thing that happens, and how far it has got every so often."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from noria.cli.errors import one_line

if TYPE_CHECKING:
    from noria.market.miner.earnings import PlaceEarnings, Totals

FUEL_PER_CORE_SECOND: Final = 10**10
"""What a core of today burns in a second, about; prices of a core's hour are reckoned with it."""


class Teller:
    """Tells what happens on standard output, as lines for people or as JSON lines.

    Parameters
    ----------
    as_json
        Whether to write one JSON object for each event.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._said = ""

    def say(self, event: str, text: str, **values: object) -> None:
        """Tell of an event: its name and values for programs, its text for people."""
        if self._as_json:
            print(json.dumps({"event": event, "time": round(time.time(), 3), **values}), flush=True)
        else:
            print(f"{time.strftime('%H:%M:%S')}  {one_line(text)}", flush=True)

    def wait(self, event: str, text: str, **values: object) -> None:
        """Tell what is waited for, unless that was the last thing that was told to be waited for."""
        if text != self._said:
            self._said = text
            self.say(event, text, **values)

    def warn(self, text: str) -> None:
        """Tell on standard error what is wrong."""
        print(f"warning: {one_line(text)}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a miner has got at one moment.

    Attributes
    ----------
    places
        What its places have brought, by job and place.
    totals
        Of all places there ever were.
    blocks, votes
        Made and cast since the start.
    """

    places: dict[tuple[int, int], PlaceEarnings]
    totals: Totals
    blocks: int
    votes: int


Event = tuple[str, str, dict[str, Any]]
"""Name, text for people, values for programs."""


def changes(before: Standing, after: Standing) -> Iterator[Event]:
    """Yield what has happened between two moments, in the order of jobs."""
    for (job, k), now in sorted(after.places.items()):
        yield from _of_place(job, k, before.places.get((job, k)), now)
    if after.blocks > before.blocks:
        made = after.blocks - before.blocks
        yield "block", f"made {count_of(made, 'block')}, {after.blocks:,} since the start", {"blocks": made}


def _of_place(job: int, k: int, old: PlaceEarnings | None, new: PlaceEarnings) -> Iterator[Event]:
    where = {"job": job, "k": k}
    if old is None:
        text = f"job {job} has work for place {k}, at {per_core_hour(new.price)}"
        yield "job", text, where | {"price_wei": str(new.price)}
    committed = new.committed - (old.committed if old else 0)
    if committed > 0:
        text = f"job {job}: work for {short_money(committed)} is on chain"
        yield "committed", text, where | {"wei": str(committed)}
    paid = new.paid - (old.paid if old else 0)
    if paid > 0:
        yield "paid", f"job {job} has paid {short_money(paid)}", where | {"wei": str(paid)}
    credited = new.credited - (old.credited if old else 0)
    if credited > 0:
        text = f"job {job}: {credited:,} fuel count as weight, with which blocks are won"
        yield "credited", text, where | {"weight": credited}
    if new.state in ("ended", "gone") and (old is None or old.state != new.state):
        text = f"job {job} is over: {count_of(new.receipts, 'unit')}, {short_money(new.earned)} earned"
        if new.state == "gone":
            text = f"job {job} is gone: the chain does not have it any more"
        yield new.state, text, where | {"units": new.receipts, "earned_wei": str(new.earned)}


def short_money(wei: int) -> str:
    """Write an amount with four digits: nobody reads eighteen places."""
    from noria.primitives.amounts import format_amount

    unit = 10 ** max(0, len(str(wei)) - 4)
    return format_amount((wei + unit // 2) // unit * unit)


def per_core_hour(wei_per_fuel: int) -> str:
    """Write a price of a fuel as one of an hour of a core."""
    return f"{short_money(wei_per_fuel * FUEL_PER_CORE_SECOND * 3600)} per core-hour"


def count_of(number: int, thing: str) -> str:
    """Write a number of things."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
