"""Jobs that their programs left behind: ended, and what is left of their money brought back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from noria.client.wallet import Wallet
from noria.market.access import ChainAccess, ChainAccessError
from noria.market.contracts import (
    ASSIGN_WITHIN_BLOCKS,
    JOB_MARKET,
    OPENED_TOPIC,
    Job,
    JobState,
    Opened,
    address_topic,
    decode_event,
    read_job,
    read_rules,
)
from noria.market.requester.chain import JobChain
from noria.market.requester.journal import JobJournal, JournalError, StoredJob
from noria.market.sending import TransactionSender
from noria.primitives.keys import PrivateKey

LOG_BLOCKS: Final = 50_000
"""How far back a job is looked for whose number was not noted."""
JOBS_MAX: Final = 16
"""Jobs in one go."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """What was done about a job.

    Attributes
    ----------
    id, number
        In the journal, and on the chain; None where it was never opened.
    state
        As noted now: ``closing`` until it can be paid back, then ``closed``.
    message
        What was done, or why nothing could be.
    """

    id: int
    number: int | None
    state: str
    message: str


async def close_leftovers(
    access: ChainAccess, wallet: Wallet, journal: JobJournal | None = None
) -> list[Leftover]:
    """End jobs whose programs are gone, and have those paid back whose time has come.

    Parameters
    ----------
    access
        The chain; jobs of others are left alone.
    wallet
        Who opened them; jobs of other accounts are left alone.
    journal
        Where they are noted; the user's own if left out.

    Returns
    -------
    list of Leftover
        One for each; none of them raises.

    Raises
    ------
    JournalError
        Where the journal cannot be read.
    """
    own = journal is None
    journal = journal or JobJournal()
    try:
        chain = JobChain(access, TransactionSender(access, wallet.key))
        found = [job for job in journal.leftovers(access.genesis_root) if job.requester == wallet.address]
        done = []
        for stored in found[:JOBS_MAX]:
            try:
                state, message, number = await _end(access, chain, stored)
                journal.set_state(stored.id, state)
            except (ChainAccessError, JournalError) as error:
                state, message, number = stored.state, f"it could not be ended: {error}", stored.number
            done.append(Leftover(stored.id, number, state, message))
        return done
    finally:
        if own:
            journal.close()


async def _end(access: ChainAccess, chain: JobChain, stored: StoredJob) -> tuple[str, str, int | None]:
    job = await _find(access, stored)
    if stored.is_alive and (job is None or job.state in (JobState.OPEN, JobState.ASSIGNED)):
        return stored.state, "its program is about to end it", stored.number
    if job is None:
        return "closed", "it was never opened: nothing is locked", None
    number = job.number
    if job.state is JobState.OPEN:
        head = await access.head()
        if head.number > job.opened_block + ASSIGN_WITHIN_BLOCKS:
            await chain.refund(number)
        else:
            await chain.close(number)
        job = await read_job(access, number) or job
    elif job.state is JobState.ASSIGNED:
        await chain.close(number)
        job = await read_job(access, number) or job
    if job.state is JobState.CLOSING:
        rules = await read_rules(access)
        head = await access.head()
        if head.number <= job.closing_block + rules.close_blocks:
            last = job.closing_block + rules.close_blocks
            return "closing", f"it is ended; the rest is paid back after block {last}", number
        await chain.refund(number)
    return "closed", "it is over, and the rest is paid back", number


async def _find(access: ChainAccess, stored: StoredJob) -> Job | None:
    """Return a stored job as the chain has it, by its session key: a number may have been another's."""
    key = PrivateKey(stored.session_key).address
    if stored.number is not None:
        job = await read_job(access, stored.number)
        if job is not None and job.session_key == key:
            return job
    head = await access.head()
    first = max(0, head.number - LOG_BLOCKS)
    topics = ([OPENED_TOPIC], None, [address_topic(stored.requester)])
    for log in reversed(await access.logs([JOB_MARKET], topics, first, head.number)):
        event = decode_event(log)
        if isinstance(event, Opened):
            job = await read_job(access, event.job)
            if job is not None and job.session_key == key:
                return job
    return None
