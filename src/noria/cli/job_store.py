"""Jobs of this user: found in the journal, seen on the chain, told in plain values."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from noria.cli.errors import BadArgument, CommandError

if TYPE_CHECKING:
    from noria.client.rpc_access import RpcAccess
    from noria.market.contracts import Job, Place
    from noria.market.requester.journal import JobJournal, StoredJob
    from noria.market.requester.reasons import Explanation, JobView

OVER: Final = ("closed", "failed")


@dataclass(frozen=True, slots=True)
class OnChain:
    """What a chain has of a job.

    Attributes
    ----------
    job, places
        As the contract tells them.
    block
        The head's number.
    close_blocks
        ``T_CLOSE``.
    """

    job: Job
    places: list[Place]
    block: int
    close_blocks: int


@contextmanager
def opened_journal() -> Iterator[JobJournal]:
    """Open the user's journal of jobs."""
    from noria.market.requester.journal import JobJournal

    journal = JobJournal()
    try:
        yield journal
    finally:
        journal.close()


def find_job(journal: JobJournal, number: int | None) -> StoredJob:
    """Return the job with a number, or the latest.

    Raises
    ------
    BadArgument
        If there is none.
    """
    if number is not None:
        found = journal.find(number)
        if found is None:
            raise BadArgument(f"you have no job {number}: `noria job list` shows those that you have")
        return found
    latest = journal.jobs(limit=1)
    if not latest:
        raise BadArgument("you have no job: `noria job run SCRIPT --map FILE` opens one")
    return latest[0]


def view_of(job: StoredJob) -> JobView | None:
    """Return the last snapshot that was kept of a job."""
    import msgspec

    from noria.market.requester.reasons import JobView

    if job.view is None:
        return None
    try:
        return msgspec.json.decode(job.view, type=JobView)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CommandError(f"the journal's note of job {job.number} cannot be read: {error}") from None


def standing(job: StoredJob) -> str:
    """Return where a job stands: its state, or that nobody works on it any more."""
    return "left" if job.state in ("opening", "assigning", "running") and not job.is_alive else job.state


def described(job: StoredJob) -> dict[str, Any]:
    """Say in plain values what the journal knows of a job."""
    from noria.primitives.addresses import checksum_address

    view = view_of(job)
    answer: dict[str, Any] = {
        "job": job.number,
        "state": standing(job),
        "title": job.title,
        "requester": checksum_address(job.requester),
        "node": job.node,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(job.created)),
        "process": job.pid if job.is_alive else None,
        "budget_wei": job.budget,
        "spent_wei": "0",
        "units": 0,
        "done": 0,
        "failed": 0,
        "fuel": 0,
    }
    if view is not None:
        answer |= {
            "budget_wei": view.budget,
            "spent_wei": view.spent,
            "units": view.units,
            "done": view.done,
            "failed": view.failed,
            "fuel": view.fuel,
            "replicas": view.replicas,
            "sample": view.sample,
            "max_price_wei": view.max_price,
            "problem": view.problem,
            "places": [
                {
                    "k": place.k,
                    "miner": place.miner,
                    "state": place.state,
                    "reason": place.reason,
                    "note": place.note,
                    "price_wei": place.price,
                    "units": place.done,
                    "fuel": place.fuel,
                    "earned_wei": place.earned,
                    "paid_wei": place.paid,
                }
                for place in view.places
            ],
        }
    return answer


async def on_chain(access: RpcAccess, stored: StoredJob) -> OnChain | None:
    """Return what the chain has of a job; None if it has not been opened, or is another chain's."""
    from noria.market.contracts import read_job, read_places, read_rules

    if stored.number is None or access.genesis_root != stored.chain:
        return None
    job = await read_job(access, stored.number)
    if job is None or job.requester != stored.requester:
        return None
    places = await read_places(access, stored.number)
    rules = await read_rules(access)
    return OnChain(job, places, (await access.head()).number, rules.close_blocks)


def chain_values(found: OnChain) -> dict[str, Any]:
    """Say in plain values what the chain has of a job."""
    from noria.primitives.addresses import checksum_address

    job = found.job
    return {
        "state": job.state.name.lower(),
        "opened_block": job.opened_block,
        "closing_block": job.closing_block or None,
        "head_block": found.block,
        "free_wei": str(job.free),
        "places": [
            {
                "k": place.k,
                "miner": checksum_address(place.miner),
                "price_wei": str(place.price),
                "cap_wei": str(place.cap),
                "committed_wei": str(place.committed),
                "receipts": place.next_index,
            }
            for place in found.places
        ],
    }


def explained(stored: StoredJob, found: OnChain | None) -> Explanation:
    """Return why a job is where it is, from what was noted of it last and what the chain says now."""
    from noria.market.contracts import JobState
    from noria.market.requester.errors import OPENING_MAY_COME
    from noria.market.requester.reasons import Explanation, Reason, explain

    view = view_of(stored)
    if view is None:
        name = "The job" if stored.number is None else f"Job {stored.number}"
        explanation = Explanation(f"{name} is {stored.state}: nothing more was noted of it.", ())
    else:
        explanation = explain(view)
    if standing(stored) not in ("left", "closing") or stored.is_alive:
        return explanation
    end = "noria job cancel" if stored.number is None else f"noria job cancel {stored.number}"
    if found is not None and found.job.state is JobState.ENDED:
        text = "It is over on the chain, and what was left has been paid back."
    elif found is not None and found.job.state is JobState.CLOSING:
        last = found.job.closing_block + found.close_blocks
        text = (
            f"Miners can be paid until block {last}, it is {found.block}; the next job, or `{end}`, then"
            " brings back the rest."
        )
    elif found is not None:
        text = f"Its program is gone: the next job, or `{end}`, ends it and brings back what is left."
    elif stored.number is None and stored.opening_nonce is not None:
        text = f"Its program is gone; {OPENING_MAY_COME}."
    else:
        text = "Its program is gone, and the chain that was asked does not have it."
    # What the process was waiting for last says nothing any more.
    return Explanation(explanation.summary, (Reason("left", text),))
