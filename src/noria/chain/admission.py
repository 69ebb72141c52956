"""The way of raw transactions into the mempool: many callers, one batch at a time.

Whatever arrives while a batch is being checked makes up the next batch. So signatures are recovered on all
cores and accounts are read together however the transactions came, one by one or thousands at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

import structlog

from noria._core import Engine, Header, InvalidTransaction, Transaction, decode_transactions
from noria.chain.errors import ChainStopped
from noria.execution.mempool import Mempool
from noria.execution.rejections import RejectedTransaction

BATCH: Final = 512
"""Transactions that are checked together. Bounds how long the loop is held: about 5 microseconds each."""
INLINE: Final = 4
"""Batches of at most so many are decoded on the loop: a thread would cost more than it saves."""
WAITING_MAX: Final = 65_536
"""Transactions that may wait to be checked."""
WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Their encoded sizes together."""
_CACHE_MAX: Final = 65_536

Outcome = bytes | RejectedTransaction
"""The hash of an accepted transaction, or why it was not accepted."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class ChainView(Protocol):
    """What admission needs of the chain."""

    engine: Engine
    mempool: Mempool

    @property
    def pool_head(self) -> Header:
        """The head that the mempool has followed."""
        ...

    def admitted(self, executable: list[Transaction]) -> None:
        """Take note of a checked batch and of the transactions that it made executable."""
        ...


@dataclass(slots=True)
class _Job:
    raws: Sequence[bytes] | None
    decoded: Sequence[Transaction | InvalidTransaction] | None
    count: int
    size: int
    done: asyncio.Future[list[Outcome]]


class Admission:
    """Checks transactions and adds them to the mempool.

    Parameters
    ----------
    chain
        Where to.
    executor
        Threads for decoding and for reading accounts.
    now
        Unix seconds.
    """

    def __init__(self, chain: ChainView, executor: Executor, now: Callable[[], float]) -> None:
        self._chain = chain
        self._executor = executor
        self._now = now
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._accounts: dict[bytes, tuple[int, int]] = {}
        self._stopped = False

    def forget_accounts(self) -> None:
        """Drop what is known of accounts, because the head has changed."""
        self._accounts = {}

    async def submit(
        self,
        *,
        raws: Sequence[bytes] | None = None,
        decoded: Sequence[Transaction | InvalidTransaction] | None = None,
    ) -> list[Outcome]:
        """Check transactions, encoded or decoded; one outcome each, in order."""
        items: Sequence[object] = raws if raws is not None else decoded or ()
        count = len(items)
        if count == 0:
            return []
        if self._stopped:
            raise ChainStopped()
        size = sum(map(len, raws or ()))
        if self._waiting + count > WAITING_MAX or self._waiting_bytes + size > WAITING_BYTES_MAX:
            busy = RejectedTransaction(
                "pool-full",
                f"txpool is full: {self._waiting} transactions wait to be checked; send again later",
            )
            return [busy] * count
        self._waiting += count
        self._waiting_bytes += size
        jobs: list[Awaitable[list[Outcome]]] = []
        for start in range(0, count, BATCH):
            stop = min(start + BATCH, count)
            job = _Job(
                None if raws is None else raws[start:stop],
                None if decoded is None else decoded[start:stop],
                stop - start,
                sum(map(len, raws[start:stop])) if raws is not None else 0,
                asyncio.get_running_loop().create_future(),
            )
            self._jobs.append(job)
            jobs.append(job.done)
        self._wake.set()
        outcomes: list[Outcome] = []
        for done in jobs:
            outcomes += await done
        return outcomes

    async def run(self) -> None:
        """Check what is submitted, until cancelled."""
        try:
            while True:
                while not self._jobs:
                    self._wake.clear()
                    await self._wake.wait()
                jobs = self._take()
                try:
                    await self._check(jobs)
                except Exception as error:
                    # The store cannot be read, for example: who asked is told, and the next may succeed.
                    _log.error("admission_failed", error=repr(error))
                    _fail(jobs, error)
                finally:
                    _fail(jobs, ChainStopped())  # those without an answer: this task was cancelled
                    self._waiting -= sum(job.count for job in jobs)
                    self._waiting_bytes -= sum(job.size for job in jobs)
        finally:
            self._stopped = True
            _fail(self._jobs, ChainStopped())
            self._jobs.clear()

    def _take(self) -> list[_Job]:
        jobs = [self._jobs.popleft()]
        count = jobs[0].count
        while self._jobs and count + self._jobs[0].count <= BATCH:
            jobs.append(self._jobs.popleft())
            count += jobs[-1].count
        return jobs

    async def _check(self, jobs: list[_Job]) -> None:
        raws = [raw for job in jobs if job.raws is not None for raw in job.raws]
        found: list[Transaction | InvalidTransaction] = []
        if raws:
            found = await self._run(len(raws), decode_transactions, raws)
        batch: list[Transaction | InvalidTransaction] = []
        at = 0
        for job in jobs:
            if job.raws is not None:
                batch += found[at : at + job.count]
                at += job.count
            elif job.decoded is not None:
                batch += job.decoded
        senders = {item.sender for item in batch if not isinstance(item, InvalidTransaction)}
        await self._know(senders)
        # No await from here on: the accounts are those of the head.
        outcomes = self._add(batch)
        at = 0
        for job in jobs:
            if not job.done.done():
                job.done.set_result(outcomes[at : at + job.count])
            at += job.count

    async def _know(self, senders: set[bytes]) -> None:
        """Read the accounts that are not known yet, all at one head."""
        while True:
            accounts = self._accounts
            if len(accounts) > _CACHE_MAX:
                accounts.clear()
            unknown = [sender for sender in senders if sender not in accounts]
            if not unknown:
                return
            found = await self._run(
                len(unknown), self._chain.engine.nonces, self._chain.pool_head.hash, unknown
            )
            # Had the head changed meanwhile, `forget_accounts` would have put a new dictionary in its place.
            accounts.update(zip(unknown, found, strict=True))

    def _add(self, batch: list[Transaction | InvalidTransaction]) -> list[Outcome]:
        pool = self._chain.mempool
        accounts = self._accounts
        base_fee = self._chain.pool_head.next_base_fee()
        now = self._now()
        outcomes: list[Outcome] = []
        executable: list[Transaction] = []
        for item in batch:
            if isinstance(item, InvalidTransaction):
                outcomes.append(_rejection(item))
                continue
            try:
                promoted = pool.add(item, account=accounts[item.sender], base_fee=base_fee, now=now)
            except RejectedTransaction as rejected:
                outcomes.append(rejected.with_traceback(None))
                continue
            outcomes.append(item.hash)
            if promoted == 1:
                executable.append(item)
            elif promoted:
                executable += islice(pool.executable(item.sender, item.nonce), promoted)
        self._chain.admitted(executable)
        return outcomes

    async def _run(self, count: int, function: Callable[..., T], *arguments: Any) -> T:
        """Call the engine for so many transactions: at once for a few, in a thread for many."""
        if count <= INLINE:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


def _fail(jobs: Iterable[_Job], error: Exception) -> None:
    """Give an error to those who still wait for an outcome."""
    for job in jobs:
        if not job.done.done():
            job.done.set_exception(error)
            job.done.exception()  # a caller that has gone away is no reason to complain


def _rejection(error: InvalidTransaction) -> RejectedTransaction:
    kind, message = error.args
    return RejectedTransaction(kind, message)
