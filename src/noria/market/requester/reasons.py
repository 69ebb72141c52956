"""Why a job is where it is: a snapshot of it, and the words for people. Nothing here asks anybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from noria.primitives.amounts import format_amount
from noria.primitives.types import Wei

SILENT_SECONDS: Final = 5.0
"""A miner that has not answered for so long is worth a word."""


class PlaceView(msgspec.Struct, frozen=True):
    """One place of a job, as the requester sees it.

    Attributes
    ----------
    k
        Which place.
    miner
        Its account, checksummed.
    price
        Wei per fuel, royalty included, as decimal text like all amounts here.
    cap, allowed, earned, committed, paid
        Wei: what it may charge at most, may charge now, has released results for, has on chain, was paid.
    state
        ``finding``, ``unreachable``, ``greeting``, ``ready``, ``silent``, ``banned`` or ``closed``.
    reason
        Why, where the state is not ``ready``.
    note
        What the miner says of itself.
    workers, window
        Units that it runs at once, and most that may be ordered.
    ordered, running, queued, held
        Units of this job: at the miner in all, and in which state.
    done, fuel
        Units that were accepted from it, and their fuel.
    units_per_second
        Lately; 0 while unknown.
    silent_seconds
        Since its last answer.
    """

    k: int
    miner: str
    price: str
    cap: str
    state: str
    allowed: str = "0"
    earned: str = "0"
    committed: str = "0"
    paid: str = "0"
    reason: str = ""
    note: str = ""
    workers: int = 0
    window: int = 0
    ordered: int = 0
    running: int = 0
    queued: int = 0
    held: int = 0
    done: int = 0
    fuel: int = 0
    units_per_second: float = 0.0
    silent_seconds: float = 0.0


class JobView(msgspec.Struct, frozen=True):
    """A job, as the requester sees it.

    Attributes
    ----------
    state
        ``new``, ``opening``, ``assigning``, ``running``, ``closing``, ``closed`` or ``failed``.
    job
        Its number, once it is open.
    requester
        Who pays, checksummed.
    balance
        Wei that the account has left; None while unknown.
    budget, free, spent
        Wei: locked in all, not given to a place yet, price of all results so far.
    max_price
        Wei per fuel at most.
    miners, replicas, sample
        Places wanted, miners for each unit, share of own runs.
    is_directed
        Whether the miners were named.
    opened_block, head_block
        Where the job was opened and where the chain is; 0 while unknown.
    units, done, failed, waiting
        Units ordered in all, settled, ended by an error, and not yet given to any miner.
    fuel
        Fuel of settled units.
    places
        The places so far.
    problem
        What went wrong last, if that is still so.
    seconds
        Since the job was begun.
    """

    state: str
    requester: str
    budget: str
    max_price: str
    miners: int
    replicas: int
    job: int | None = None
    balance: str | None = None
    free: str = "0"
    spent: str = "0"
    sample: float = 0.0
    is_directed: bool = False
    opened_block: int = 0
    head_block: int = 0
    units: int = 0
    done: int = 0
    failed: int = 0
    waiting: int = 0
    fuel: int = 0
    places: tuple[PlaceView, ...] = ()
    problem: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that holds a job up.

    Attributes
    ----------
    name
        For programs, such as ``no-miner``.
    message
        For people, with what to do where there is something.
    """

    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job is where it is.

    Attributes
    ----------
    summary
        One line.
    reasons
        What holds it up, the most important first; empty if nothing does.
    """

    summary: str
    reasons: tuple[Reason, ...]

    def __str__(self) -> str:
        return "\n".join([self.summary, *(f"- {reason.message}" for reason in self.reasons)])


ASSIGN_AFTER_BLOCKS: Final = 2
ASSIGN_UNTIL_BLOCKS: Final = 64


def explain(view: JobView) -> Explanation:
    """Return why a job is where it is.

    Parameters
    ----------
    view
        Its snapshot.
    """
    return Explanation(_summary(view), tuple(_reasons(view)))


def _summary(view: JobView) -> str:
    name = "The job" if view.job is None else f"Job {view.job}"
    units = f"{view.done} of {view.units} units done" if view.units else "no units yet"
    money = f"{_money(view.spent)} of {_money(view.budget)} spent"
    return f"{name} is {view.state}: {units}, {money}."


def _reasons(view: JobView) -> list[Reason]:
    found: list[Reason] = []
    if view.problem:
        found.append(Reason("problem", view.problem))
    if view.state in ("new", "opening"):
        found += _before_open(view)
    elif view.state == "assigning":
        found += _before_assigned(view)
    elif view.state == "running":
        found += _while_running(view)
    elif view.state == "closing":
        found.append(
            Reason(
                "closing",
                "The job is over; the rest is paid back once the miners have committed their last batches.",
            )
        )
    return found


def _before_open(view: JobView) -> list[Reason]:
    if view.balance is not None and int(view.balance) < int(view.budget):
        return [
            Reason(
                "not-funded",
                f"{view.requester} has {_money(view.balance)}, the budget is {_money(view.budget)}: send it "
                "money (`noria wallet faucet` on a local network), or ask for a smaller budget.",
            )
        ]
    if view.state == "new":
        return [Reason("no-units", "The job is opened when the first call is submitted.")]
    return [Reason("waiting-for-block", "The job is being opened: its transaction waits for a block.")]


def _before_assigned(view: JobView) -> list[Reason]:
    missing = view.opened_block + ASSIGN_AFTER_BLOCKS - view.head_block
    if missing > 0:
        return [
            Reason(
                "not-assigned",
                f"The miners are drawn {ASSIGN_AFTER_BLOCKS} blocks after the opening: {missing} to go.",
            )
        ]
    if view.head_block - view.opened_block > ASSIGN_UNTIL_BLOCKS:
        return [
            Reason(
                "expired", f"Nobody assigned the job within {ASSIGN_UNTIL_BLOCKS} blocks: it is paid back."
            )
        ]
    return [
        Reason(
            "no-miner",
            f"No miner was drawn that asks for at most {_price(view.max_price)}: raise max_price "
            "(`noria price` shows what miners ask), or wait for others to join.",
        )
        if view.problem
        else Reason("waiting-for-block", "The miners are being drawn: the transaction waits for a block.")
    ]


def _while_running(view: JobView) -> list[Reason]:
    found: list[Reason] = []
    ready = [place for place in view.places if place.state == "ready"]
    if not view.places:
        found.append(
            Reason(
                "no-miner",
                f"No miner asks for at most {_price(view.max_price)}: raise max_price (`noria price` shows "
                "what miners ask).",
            )
        )
    elif len(view.places) < view.miners and not view.is_directed:
        found.append(
            Reason(
                "fewer-miners",
                f"{len(view.places)} of {view.miners} miners were drawn: no more of them ask for at most "
                f"{_price(view.max_price)}.",
            )
        )
    if view.places and len(ready) < view.replicas:
        found.append(
            Reason(
                "too-few-miners",
                f"{len(ready)} of {len(view.places)} miners can be given units, and each unit goes to "
                f"{view.replicas}.",
            )
        )
    for place in view.places:
        found += _of_place(view, place)
    is_spent = (
        int(view.free) == 0
        and ready
        and all(int(place.allowed) >= int(place.cap) and place.held for place in ready)
    )
    if is_spent:
        found.append(
            Reason(
                "budget-spent",
                f"The budget of {_money(view.budget)} is used up: add to it with executor.top_up(…).",
            )
        )
    busy = [place for place in ready if place.workers and place.ordered and not place.running]
    if ready and len(busy) == len(ready) and view.done < view.units:
        found.append(
            Reason("all-busy", "All miners are busy with other jobs: the units wait in their queues.")
        )
    if not view.units or view.done + view.failed >= view.units:
        found.append(Reason("idle", "Nothing is left to do: the job waits for more calls, or to be closed."))
    return found


def _of_place(view: JobView, place: PlaceView) -> list[Reason]:
    who = f"Miner {place.miner} (place {place.k})"
    because = f": {place.reason}" if place.reason else ""
    match place.state:
        case "finding":
            return [Reason("no-contact", f"{who} has no known address yet{because}.")]
        case "unreachable":
            return [Reason("unreachable", f"{who} cannot be reached{because}.")]
        case "greeting":
            return [Reason("greeting", f"{who} has not accepted the job yet{because}.")]
        case "silent":
            return [Reason("silent", f"{who} does not answer{because}; its units go to others.")]
        case "banned":
            return [Reason("banned", f"{who} is banned{because}.")]
        case "closed":
            return [Reason("place-closed", f"{who} takes no more units{because}.")]
    found = []
    if place.held and int(place.allowed) >= int(place.cap):
        found.append(
            Reason("cap-reached", f"{who} holds {place.held} results: its share of the budget is used up.")
        )
    elif place.held:
        found.append(Reason("held", f"{who} holds {place.held} results until its allow is raised."))
    if place.note and view.done < view.units:
        found.append(Reason("note", f"{who} says: {place.note}"))
    if place.silent_seconds > SILENT_SECONDS and place.ordered:
        found.append(Reason("slow", f"{who} has not answered for {place.silent_seconds:.0f} seconds."))
    return found


def _money(text: str) -> str:
    value = int(text)
    if value >= 10**15:
        # Nobody reads eighteen places.
        return f"{value / 10**18:.4g} NOR"
    return format_amount(Wei(value))


def _price(text: str) -> str:
    return f"{format_amount(Wei(int(text)))} per fuel"
