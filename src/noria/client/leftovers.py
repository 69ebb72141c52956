"""Jobs that their programs left behind: ended, and what is left of their money brought back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from noria.client.rpc_access import RpcAccess
from noria.client.wallet import Wallet
from noria.market.access import CallReverted, ChainAccessError
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
from noria.market.requester.errors import OPENING_MAY_COME
from noria.market.requester.journal import JobJournal, JournalError, StoredJob
from noria.market.sending import TransactionReverted, TransactionSender
from noria.primitives.keys import PrivateKey

LOG_BLOCKS: Final = 50_000
"""So many blocks are searched at a time for a job whose number was not noted."""
REORGANISED_BLOCKS: Final = 64
"""By so much a job's block may be earlier than the head was when it was sent."""
JOBS_MAX: Final = 16
"""Jobs in one go: first those that were seen to longest ago, so that none is left out for ever."""
GOES_ON: Final = (JobState.OPEN, JobState.ASSIGNED)
ATTEMPTS: Final = 3
"""To end one job, where blocks are taken back."""
NOT_YET: Final = "the block with its end was taken back: the next command looks again"


@dataclass(frozen=True, slots=True)
class Leftover:
    """What was done about a job.

    Attributes
    ----------
    id, number
        In the journal, and on the chain; None where it was never opened.
    state
        As noted now: ``closing`` until it can be paid back, then ``closed``; as before while its opening may
        still come into a block.
    message
        What was done, or why nothing could be.
    """

    id: int
    number: int | None
    state: str
    message: str


async def close_leftovers(
    access: RpcAccess, wallet: Wallet, journal: JobJournal | None = None, *, first: int | None = None
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
    first
        The row of a job that must be among those that are seen to, if it is left.

    Returns
    -------
    list of Leftover
        One for each of `JOBS_MAX` at most; none of them raises.

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
        found.sort(key=lambda job: job.id != first)
        done = []
        for stored in found[:JOBS_MAX]:
            try:
                state, message, number = await _end(access, chain, stored)
            except (ChainAccessError, JournalError) as error:
                state, message, number = stored.state, f"it could not be ended: {error}", stored.number
            # Also where nothing could be done: others come before it next time.
            with suppress(JournalError):
                journal.set_state(stored.id, state, number)
            done.append(Leftover(stored.id, number, state, message))
        return done
    finally:
        if own:
            journal.close()


async def _end(access: RpcAccess, chain: JobChain, stored: StoredJob) -> tuple[str, str, int | None]:
    job = await _find(access, stored)
    if job is None and not stored.is_alive:
        if not await _is_past(access, stored):
            return stored.state, OPENING_MAY_COME, None
        # What used the nonce may be the opening, in a block that came after the search.
        job = await _find(access, stored)
    if stored.is_alive and (job is None or job.state in GOES_ON):
        return stored.state, "its program is about to end it", stored.number
    if job is None:
        return "closed", "it was never opened: nothing is locked", None
    number = job.number
    for _ in range(ATTEMPTS):
        # A block that is taken back takes the job's end with it.
        if job.state not in GOES_ON:
            break
        head = await access.head()
        is_late = job.state is JobState.OPEN and head.number > job.opened_block + ASSIGN_WITHIN_BLOCKS
        try:
            await (chain.refund if is_late else chain.close)(number)
        except (CallReverted, TransactionReverted):
            # What was sent before may be in a block again by now.
            job = await read_job(access, number) or job
            if job.state in GOES_ON:
                raise
        else:
            job = await read_job(access, number) or job
    if job.state is JobState.CLOSING:
        rules = await read_rules(access)
        head = await access.head()
        if head.number <= job.closing_block + rules.close_blocks:
            last = job.closing_block + rules.close_blocks
            return "closing", f"it is ended; the rest is paid back after block {last}", number
        await chain.refund(number)
        job = await read_job(access, number) or job
    if job.state is not JobState.ENDED:
        return "closing", NOT_YET, number
    return "closed", "it is over, and the rest is paid back", number


async def _is_past(access: RpcAccess, stored: StoredJob) -> bool:
    """Tell whether a job that no block has can never come: a final block has its opening's nonce."""
    nonce = stored.opening_nonce
    return nonce is None or await access.final_nonce(stored.requester) > nonce


async def _find(access: RpcAccess, stored: StoredJob) -> Job | None:
    """Return a stored job as the chain has it, by its session key: a number may have been another's."""
    key = PrivateKey(stored.session_key).address
    if stored.number is not None:
        job = await read_job(access, stored.number)
        if job is not None and job.session_key == key:
            return job
    last = (await access.head()).number
    sent = last - LOG_BLOCKS if stored.opening_block is None else stored.opening_block - REORGANISED_BLOCKS
    topics = ([OPENED_TOPIC], None, [address_topic(stored.requester)])
    while last >= max(0, sent):
        first = max(0, sent, last - LOG_BLOCKS + 1)
        for log in reversed(await access.logs([JOB_MARKET], topics, first, last)):
            event = decode_event(log)
            if isinstance(event, Opened):
                job = await read_job(access, event.job)
                if job is not None and job.session_key == key:
                    return job
        last = first - 1
    return None
