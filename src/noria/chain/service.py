"""The chain of one node: the engine and the mempool joined, with one writer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec
import structlog

from noria._core import (
    BlockAttributes,
    Engine,
    ExecutedBlock,
    Header,
    InvalidTransaction,
    NoriaError,
    Transaction,
)
from noria.chain.admission import Admission, Outcome
from noria.chain.clock import ChainClock
from noria.chain.errors import ChainStopped
from noria.chain.events import Events, HeadEvent, PendingEvent
from noria.chain.production import Automine, IntervalMining, dev_attributes
from noria.chain.waiting import TransactionLocation, Waiters
from noria.chain.writer import EXTEND, ChainWriter, Extend, HeadChange
from noria.execution.mempool import Mempool, MempoolLimits
from noria.execution.rejections import RejectedTransaction
from noria.execution.spec import ChainSpec

TRANSFER_GAS: Final = 21_000
"""No transaction takes less."""
TRANSACTION_GAS_CAP: Final = 2**24
"""EIP-7825."""
_SPARE_CANDIDATES: Final = 64
"""Candidates beyond what fits, for those that turn out to be invalid."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Chain:
    """Engine and mempool of one chain; everything that changes them passes through here, one after the other.

    All methods belong to one event loop. What takes long runs in threads: one that writes, some that read.

    Parameters
    ----------
    engine
        Open; it is not closed by the chain.
    spec
        Of this chain.
    limits
        Of the mempool; by default those of a development chain.
    automine
        Make a block as soon as transactions are pending.
    block_time_seconds
        Make a block at this pace instead; ``None`` for automine or, without it, only by `mine`.
    clock
        Wall clock, Unix seconds.
    expiry_period_seconds
        How often transactions behind old nonce gaps are looked for.

    Attributes
    ----------
    pool_head
        The head that the mempool has followed: `head`, except while a change of it is under way.
    events
        Subscriptions to heads and pending transactions.
    production_error
        Why the last attempt to make a block failed, ``None`` if it did not.

    Examples
    --------
    >>> async def use(chain: Chain, raw: bytes) -> None:
    ...     async with chain:
    ...         (outcome,) = await chain.submit([raw])
    ...         if isinstance(outcome, bytes):
    ...             print(await chain.wait_for_transaction(outcome, timeout_seconds=10))
    """

    def __init__(
        self,
        engine: Engine,
        spec: ChainSpec,
        *,
        limits: MempoolLimits | None = None,
        automine: bool = True,
        block_time_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
        expiry_period_seconds: float = 60.0,
    ) -> None:
        self.engine = engine
        self.spec = spec
        self.pool_head = engine.head
        self._changing = False
        self.events = Events()
        self.mempool = Mempool(limits or dev_limits(spec, self.pool_head))
        self.production_error: Exception | None = None
        self._wall = clock
        self._expiry_period = expiry_period_seconds
        self._clock = ChainClock(clock)
        self._waiters = Waiters()
        self._lock = asyncio.Lock()
        self._writer = ChainWriter(engine)
        self._writing = ThreadPoolExecutor(1, "noria-chain-write")
        self._readers = ThreadPoolExecutor(max(2, os.cpu_count() or 2), "noria-chain-read")
        self._admission = Admission(self, self._readers, clock)
        self._producer: Automine | IntervalMining | None = None
        if block_time_seconds is not None:
            self._producer = IntervalMining(self.mine, block_time_seconds)
        elif automine:
            self._producer = Automine(self._mine_pending)
        self._tasks: list[asyncio.Task[None]] = []
        self._writes: set[asyncio.Task[Any]] = set()
        self._stopped = False

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Begin to admit transactions and to make blocks."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._admission.run(), name="chain-admission"),
            loop.create_task(self._expire(), name="chain-expiry"),
        ]
        if self._producer is not None:
            self._tasks.append(loop.create_task(self._producer.run(), name="chain-production"))

    async def stop(self) -> None:
        """Finish the write that is under way and stop; events end with ``"chain-stopped"``."""
        if self._stopped:
            return
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._writes, return_exceptions=True)
        self._waiters.failed(ChainStopped())
        self.events.close("chain-stopped")
        # Off the loop: a long read may have to end first.
        await asyncio.to_thread(self._writing.shutdown)
        await asyncio.to_thread(self._readers.shutdown)

    async def __aenter__(self) -> Chain:
        """Start the chain."""
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stop the chain."""
        await self.stop()

    # ------------------------------------------------------------ transactions

    async def submit(self, raws: Sequence[bytes]) -> list[Outcome]:
        """Decode network-encoded transactions and add them to the mempool.

        Returns
        -------
        list
            For each, in order, its hash or the `RejectedTransaction` that says why it was not accepted.
        """
        self._check_running()
        return await self._admission.submit(raws=raws)

    async def submit_decoded(self, transactions: Sequence[Transaction | InvalidTransaction]) -> list[Outcome]:
        """Like `submit`, for transactions as `noria._core.decode_transactions` returns them."""
        self._check_running()
        return await self._admission.submit(decoded=transactions)

    async def wait_for_transaction(self, tx_hash: bytes, timeout_seconds: float) -> TransactionLocation:
        """Wait until a transaction is mined.

        Raises
        ------
        RejectedTransaction
            It left the mempool without being mined; this says why.
        TransactionNotMined
            Not within this time.
        NoriaError
            No block can be made at present, for example `StoreFull`.
        """
        found = self.engine.transaction_location(tx_hash)
        if found is not None:
            return TransactionLocation(*found)
        departed = self.mempool.departure(tx_hash)
        if departed is not None:
            raise RejectedTransaction(departed.kind, departed.message)
        return await self._waiters.wait(tx_hash, timeout_seconds)

    def _check_running(self) -> None:
        if self._stopped:
            raise ChainStopped()

    def admitted(self, executable: list[Transaction]) -> None:
        """Tell subscribers about transactions that became executable, and the producer that there is work."""
        if executable:
            self.events.pending.publish(PendingEvent(executable))
            if self._producer is not None:
                self._producer.wake()
        self._tell_departed()

    # ------------------------------------------------------------ reading

    @property
    def head(self) -> Header:
        """Header of the canonical head, never older than what any other read has shown."""
        # A block can be read from the moment it is stored, a little before the mempool has followed it.
        return self.engine.head if self._changing else self.pool_head

    async def read(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function of the engine that may take long, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, function, *arguments)

    # ------------------------------------------------------------ blocks

    async def mine(self, timestamp: int | None = None) -> Header:
        """Make one block now with what is pending, empty if nothing is, and return its header.

        Parameters
        ----------
        timestamp
            Unix seconds, later than the parent's; by default the chain's clock.

        Raises
        ------
        InvalidTimestamp
            The chain cannot take this time.
        StoreError
            The block could not be stored; the chain is as before.
        """
        header, _ = await self._exclusive(self._mine(timestamp, empty=True))
        return header

    async def import_block(
        self, rlp: bytes, system_calls: Iterable[tuple[bytes, bytes]] = (), *, make_head: bool | None = None
    ) -> Header:
        """Check, execute and store a block made elsewhere.

        Parameters
        ----------
        rlp
            The block as Ethereum encodes it.
        system_calls
            The calls at its start, as its proposer made them.
        make_head
            Whether it becomes the head; by default if its chain is longer than the present one.

        Raises
        ------
        InvalidBlock
            It breaks a rule.
        UnknownBlock
            Its parent is not here.
        StoreError
            It could not be stored; the chain is as before.
        """
        return await self._exclusive(self._import(rlp, tuple(system_calls), make_head))

    async def revert_to(self, block_hash: bytes) -> None:
        """Make a stored block the head again, as if what came after had not happened.

        The transactions of the blocks taken back are forgotten; those that wait are checked anew.

        Raises
        ------
        UnknownBlock
            There is no such block.
        """
        await self._exclusive(self._revert(block_hash))

    async def build(self, attributes: BlockAttributes, *, deadline_seconds: float) -> ExecutedBlock:
        """Execute what is pending as a child of the head; nothing is stored.

        Candidates that turn out to be invalid leave the mempool.

        Parameters
        ----------
        attributes
            What the proposer decides.
        deadline_seconds
            When to stop taking in transactions.
        """
        parent = self.pool_head
        candidates = self.mempool.candidates(
            parent.next_base_fee(), limit=self.spec.gas_limit // TRANSFER_GAS + _SPARE_CANDIDATES
        )
        built, accounts = await self.read(
            self._writer.draft, parent, attributes, candidates, deadline_seconds
        )
        if parent.hash == self.pool_head.hash:
            self._refresh(accounts)
            self._drop_rejected(built.rejected)
        return built

    async def store(self, block: ExecutedBlock) -> Header:
        """Store a block that was built here; it becomes the head if it extends the present one."""
        return await self._exclusive(self._store(block))

    async def execute(self, rlp: bytes, system_calls: Iterable[tuple[bytes, bytes]]) -> Header:
        """Check, execute and store a block made elsewhere; it becomes the head if it extends the present one.

        Which of several branches is the head is not decided here: see `switch_to`. Raises as `import_block`.
        """
        return await self._exclusive(self._import(rlp, tuple(system_calls), EXTEND))

    async def writing(self, work: Callable[[ChainWriter], T]) -> T:
        """Run something in the thread that writes, alone. It must not change the head: see `switch_to`."""
        return await self._exclusive(self._write(work, self._writer))

    async def switch_to(self, block_hash: bytes) -> None:
        """Make a stored block the head; transactions of the blocks taken back wait again.

        Raises
        ------
        UnknownBlock
            There is no such block.
        """
        await self._exclusive(self._switch(block_hash))

    async def relax(self) -> None:
        """Let blocks be stored without waiting for the disk, until `settle`; for many that others have.

        A killed process loses nothing by it. Should the machine stop meanwhile, the engine does not open
        again: see `noria.chain.recovery.open_engine`.
        """
        await self._write(self.engine.relax)

    async def settle(self) -> None:
        """Bring all blocks to the disk, and let each wait for it again."""
        await self._write(self.engine.settle)

    # ------------------------------------------------------------ time

    @property
    def now(self) -> int:
        """The chain's time in Unix seconds: the wall clock and what it was moved by."""
        return self._clock.now()

    def increase_time(self, seconds: int) -> int:
        """Move the chain's clock forward; return by how many seconds it is ahead now.

        Raises
        ------
        InvalidTimestamp
            ``seconds`` is negative or too far.
        """
        return self._clock.increase(seconds)

    def set_next_timestamp(self, timestamp: int) -> None:
        """Fix the time of the next block (Unix seconds); the clock goes on from there.

        Raises
        ------
        InvalidTimestamp
            It is not later than the head's, or too far.
        """
        self._clock.set_next(timestamp, parent=self.head.timestamp)

    # ------------------------------------------------------------ one writer

    async def _exclusive(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work that changes the chain, alone, and to its end even if the caller goes away."""
        if self._stopped:
            work.close()
            raise ChainStopped()

        async def locked() -> T:
            async with self._lock:
                self._changing = True
                try:
                    return await work
                except Exception:
                    self._follow_engine()
                    raise
                finally:
                    self._changing = False

        task = asyncio.get_running_loop().create_task(locked())
        self._writes.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may have gone away

    def _follow_engine(self) -> None:
        """Make sure after a failure that the next block is built on what is stored."""
        try:
            head = self.engine.head
        except NoriaError as error:
            _log.error("head_unreadable", error=str(error))
            return
        if head.hash != self.pool_head.hash:
            self._adopt(HeadChange(head=head))

    async def _write(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, function, *arguments)

    async def _mine_pending(self) -> bool:
        """Make a block of what is pending; return whether there was nothing to do or something was done."""
        _, progress = await self._exclusive(self._mine(None, empty=False))
        return progress

    async def _mine(self, timestamp: int | None, *, empty: bool) -> tuple[Header, bool]:
        parent = self.pool_head
        at = self._clock.next_timestamp(parent.timestamp, timestamp)
        attributes = dev_attributes(parent, timestamp=at, gas_limit=self.spec.gas_limit)
        candidates = self.mempool.candidates(
            parent.next_base_fee(), limit=self.spec.gas_limit // TRANSFER_GAS + _SPARE_CANDIDATES
        )
        if not candidates and not empty:
            return parent, True
        # Authorisations raise nonces of accounts that sent nothing.
        others = self.mempool.senders() if any(tx.type == 4 for tx in candidates) else []
        try:
            built = await self._write(self._writer.build, parent, attributes, candidates, others, empty)
        except Exception as error:
            self.production_error = error
            self._waiters.failed(error)
            raise
        self.production_error = None
        if built.change is not None:
            self._clock.sealed(at, requested=timestamp is not None)
            self._adopt(built.change)
        else:
            self._refresh(built.accounts)
        dropped = self._drop_rejected(built.rejected)
        return self.pool_head, built.change is not None or dropped > 0

    async def _import(
        self, rlp: bytes, system_calls: tuple[tuple[bytes, bytes], ...], make_head: bool | Extend | None
    ) -> Header:
        senders = self.mempool.senders()
        header, change = await self._write(self._writer.execute, rlp, system_calls, make_head, senders)
        if change is not None:
            self._adopt(change)
        return header

    async def _revert(self, block_hash: bytes) -> None:
        self._adopt(await self._write(self._writer.set_head, block_hash, self.mempool.senders()))

    async def _store(self, block: ExecutedBlock) -> Header:
        change = await self._write(self._writer.store, block, self.mempool.senders())
        if change is not None:
            self._adopt(change)
        return block.header

    async def _switch(self, block_hash: bytes) -> None:
        if block_hash != self.pool_head.hash:
            senders = self.mempool.senders()
            self._adopt(await self._write(self._writer.switch_to, block_hash, senders))

    def _adopt(self, change: HeadChange) -> None:
        """Follow a change of the head that is already stored."""
        self.pool_head = change.head
        self._admission.forget_accounts()
        self.mempool.on_head(
            accounts=change.accounts,
            included={tx_hash for _, hashes in change.added for tx_hash in hashes},
            reinstated=change.reinstated,
            base_fee=change.head.next_base_fee(),
            now=self._wall(),
        )
        if self._waiters:
            for header, hashes in change.added:
                self._waiters.mined(header.hash, header.number, hashes)
        self._tell_departed()
        self.events.heads.publish(
            HeadEvent(change.removed, [header for header, _ in change.added], change.head)
        )
        if self._producer is not None and len(self.mempool):
            self._producer.wake()

    def _refresh(self, accounts: dict[bytes, tuple[int, int]]) -> None:
        """Check transactions anew against their accounts at the present head."""
        self.mempool.on_head(accounts=accounts, base_fee=self.pool_head.next_base_fee(), now=self._wall())

    def _drop_rejected(self, rejected: list[tuple[bytes, str, str]]) -> int:
        """Drop what a build found to be invalid, and return how many; accounts are up to date already."""
        dropped = 0
        for tx_hash, kind, message in rejected:
            transaction = self.mempool.get(tx_hash)
            if transaction is None:
                continue
            if kind == "nonce-too-high" and not self.mempool.is_first(tx_hash):
                # One before it was left out: it waits behind the gap, or for the next block.
                continue
            self.mempool.drop(tx_hash, kind, message)
            dropped += 1
            _log.warning(
                "transaction_dropped",
                hash="0x" + tx_hash.hex(),
                sender="0x" + transaction.sender.hex(),
                nonce=transaction.nonce,
                kind=kind,
                reason=message,
            )
        if dropped:
            self._tell_departed()
        return dropped

    def _tell_departed(self) -> None:
        if self._waiters:
            self._waiters.departed(self.mempool.departure)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(self._expiry_period)
            expired = self.mempool.expire(self._wall())
            if expired:
                _log.info("transactions_expired", count=len(expired))
                self._tell_departed()


def dev_limits(spec: ChainSpec, head: Header) -> MempoolLimits:
    """Return the mempool's limits for a development chain under the rules that hold at its head."""
    active = {name for name, timestamp in spec.hardforks if timestamp <= head.timestamp}
    return msgspec.structs.replace(
        MempoolLimits.for_dev(spec.chain_id, spec.gas_limit),
        transaction_gas_cap=TRANSACTION_GAS_CAP if "osaka" in active else None,
        calldata_floor=bool(active & {"prague", "osaka"}),
    )
