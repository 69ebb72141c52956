"""One place's way to its money: batches offered, committed, paid, credited, until nothing is left of it.

What is on the present chain is the truth: each step begins by reading it, so that a reorganisation that
takes a commit back, or a restart in the middle, is a step like any other. The journal has the batches'
borders and the approvals, and keeps both until they are final.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from noria.market.access import CallReverted, ChainAccess, TransactionResult
from noria.market.contracts import LIST_MAX, Job, JobState, MarketRules, SettledBatch
from noria.market.messages import Approval, BatchOffer
from noria.market.miner import entries as book
from noria.market.miner.admission import is_approved
from noria.market.miner.batching import (
    BATCH_FUEL_MAX,
    COMMIT_GAS,
    SETTLE_GAS,
    Situation,
    Step,
    next_step,
)
from noria.market.miner.entries import BatchRecord
from noria.market.miner.journal import Journal
from noria.market.miner.keeping import Keeper, NotKept
from noria.market.miner.session import Session
from noria.market.miner.terms import MarketChain, mark_of
from noria.market.typed_data import Domain
from noria.primitives.types import Hash32, Signature
from noria.work.batches import BATCH_RECEIPTS_MAX, Batch

APPROVE_BLOCKS: Final = 64
"""Where the time for challenges is longer than this, an approval that comes late is worth a transaction."""
BASIS_POINTS: Final = 10_000
OFFERS_MAX: Final = 64
CREDITS_MAX: Final = 3
CREDIT_PAUSE_BLOCKS: Final = 32
"""How often, and after how many blocks, what was credited with nothing is tried again."""

_log = structlog.get_logger(__name__)


class Settler:
    """Takes care of one place's batches. Belongs to one event loop; `step` is not called while it runs.

    Parameters
    ----------
    access, chain
        The chain, and the market's contracts on it.
    domain, rules
        Of the chain.
    batches
        Of the place, as the journal has them.
    looked
        Called when the session has learnt from the chain where its job stands, before anything is sent.

    Attributes
    ----------
    finished
        Whether nothing more will come of the place, for ever.
    """

    def __init__(
        self,
        session: Session,
        journal: Journal,
        keeper: Keeper,
        access: ChainAccess,
        chain: MarketChain,
        domain: Domain,
        rules: MarketRules,
        batches: Sequence[BatchRecord],
        looked: Callable[[], None] = lambda: None,
    ) -> None:
        self.session, self.finished = session, False
        self._journal, self._keeper, self._access, self._chain = journal, keeper, access, chain
        self._domain, self._rules, self._looked = domain, rules, looked
        self._batches = list(batches)
        self._approvals: dict[Hash32, bytes] = {b.root: b.approval for b in batches if b.approval}
        self._offered_block: int | None = None
        self._unkept: set[Hash32] = set()
        self._done: dict[Hash32, int] = {}
        """Batches with nothing before them, and the head at which that was seen first."""
        self._not_before: dict[Hash32, tuple[int, int]] = {}
        """Batches whose credit came to nothing: in which block to try again, and how often that was tried."""
        self._ended_block: int | None = None
        self._gone_block: int | None = None

    @property
    def is_owed(self) -> bool:
        """Whether a batch may have been sent and is not done with."""
        return any(batch.fixed for batch in self._batches)

    # ------------------------------------------------------------ approvals

    async def approve(self, approvals: Sequence[Approval]) -> bool:
        """Take approvals of batches of this place; return whether there was one."""
        found = False
        for approval in approvals:
            root = Hash32(approval.root)
            batch = next((batch for batch in self._batches if batch.root == root), None)
            if batch is None or root in self._approvals:
                continue
            session = self.session
            if not is_approved(self._domain, session.job, session.record.k, batch, approval):
                continue
            await self._journal.write(book.keep_approval(root, approval.signature))
            self._approvals[root] = approval.signature
            found = True
        self._tell_offers()
        return found

    # ------------------------------------------------------------ one step

    async def step(self) -> None:
        """Do what is due, until nothing is.

        Raises
        ------
        ChainAccessError, JournalError
            Where it could not be done now; the next block is another chance.
        """
        while True:
            is_here = await self._look()
            self._looked()
            if not is_here or not await self._act():
                return

    async def _look(self) -> bool:
        """Read the chain; return whether it has the place."""
        session, record = self.session, self.session.record
        head = await self._access.head()
        job = await self._chain.job(record.job)
        place = None if job is None else await self._chain.place(record.job, record.k)
        if job is None or place is None or mark_of(job, place) != record.mark:
            await self._miss(head.number)
            return False
        session.is_here, self._gone_block = True, None
        session.job, session.place = job, place
        if job.state is not JobState.ASSIGNED or (job.deadline and head.timestamp >= job.deadline):
            session.closing = True
        if place.next_index > record.next_index:
            # Receipts of which this journal knows nothing: it is older than what was sent.
            _log.warning("journal_behind", job=record.job, index=place.next_index, known=record.next_index)
            record.next_index = place.next_index
            await self._journal.write(book.keep_sums(record))
        await self._end_if_over(job, head.number)
        return not self.finished

    async def _miss(self, head: int) -> None:
        """Note that the present chain lacks the place: it comes back, or is gone once that is final."""
        self.session.is_here = False
        if self._gone_block is None:
            self._gone_block = head
            _log.warning("place_taken_back", job=self.session.record.job, k=self.session.record.k)
        elif await self._access.finalised_number() >= max(self._gone_block, self.session.record.seen):
            await self._finish("gone")

    async def _end_if_over(self, job: Job, head: int) -> None:
        over = job.state is JobState.ENDED or (
            job.state is JobState.CLOSING and head > job.closing_block + self._rules.close_blocks
        )
        if not over:
            self._ended_block = None
            return
        if self._ended_block is None:
            self._ended_block = head
        committed = [b for b in self._batches if b.end <= self.session.place.next_index]
        if not committed and await self._access.finalised_number() >= self._ended_block:
            await self._finish("ended")

    async def _finish(self, state: str) -> None:
        session, record = self.session, self.session.record
        lost = record.next_index - session.place.next_index
        if lost > 0:
            _log.warning("work_unpaid", job=record.job, k=record.k, receipts=lost, state=state)
        record.state = state
        await self._journal.write(book.keep_income(record), *book.forget_receipts(record.id))
        self.finished = True
        session.tell()

    # ------------------------------------------------------------ what to do

    async def _act(self) -> bool:
        """Do the one thing that is due; return whether the chain has changed by it."""
        try:
            changed = await self._commit_next()
        except CallReverted as error:
            # What is committed is still to be paid.
            _log.warning("commit_refused", job=self.session.record.job, reason=str(error))
            changed = False
        return changed or await self._collect_pay()

    async def _commit_next(self) -> bool:
        session = self.session
        first = session.place.next_index
        await self._dissolve_misfits(first)
        pending = [batch for batch in self._batches if batch.first_index >= first]
        offered = pending[0] if pending else None
        if self._ended_block is not None or (offered is not None and offered.first_index != first):
            # Over; or the chain is older than what is final, because this node is still catching up.
            return False
        ready, ready_fuel = await self._ready(first)
        gas_price = await self._chain.gas_price()
        gas = COMMIT_GAS + SETTLE_GAS * (1 + session.job.earns_credit)
        head = (await self._access.head()).number
        if self._offered_block is None:
            self._offered_block = head
        step = next_step(
            Situation(
                offered=offered.count if offered else 0,
                approved=offered is not None and offered.root in self._approvals,
                fixed=offered is not None and offered.fixed,
                age_blocks=head - self._offered_block,
                offered_wei=self._income(offered.fuel if offered else 0),
                ready=ready,
                ready_wei=self._income(ready_fuel),
                gas_wei=gas * gas_price,
                flush=session.flush,
                closing=session.closing,
            )
        )
        if step is Step.OFFER:
            await self._offer(offered, first, ready, head)
            return session.closing
        self._tell_offers()
        return step is Step.COMMIT and offered is not None and await self._commit(offered)

    def _income(self, fuel: int) -> int:
        part = BASIS_POINTS - self._rules.fee_basis_points
        return fuel * self.session.record.price * part // BASIS_POINTS

    async def _ready(self, first: int) -> tuple[int, int]:
        """Return how many receipts one batch could have now, and their fuel."""
        count, fuel = await self._journal.sums(self.session.record.id, first, BATCH_RECEIPTS_MAX)
        if fuel > BATCH_FUEL_MAX:
            count, fuel = await self._journal.sums(self.session.record.id, first, 1)
        return count, fuel

    async def _dissolve_misfits(self, first: int) -> None:
        """Forget batches whose borders the chain does not have: the journal is older than what was sent."""
        if any(batch.first_index < first < batch.end for batch in self._batches):
            misfits = [batch for batch in self._batches if batch.end > first]
            _log.warning("batches_do_not_fit", job=self.session.record.job, count=len(misfits))
            for batch in misfits:
                self._batches.remove(batch)
                await self._journal.write(book.drop_batch(batch.root))

    async def _offer(self, old: BatchRecord | None, first: int, count: int, head: int) -> None:
        batch, _ = await self._keeper.build(self.session.record, first, count)
        made = batch.commitment
        record = BatchRecord(made.root, first, made.count, made.fuel, made.weight, b"", False)
        statements = [book.offer(self.session.record.id, record)]
        if old is not None and old.root != record.root:
            statements.insert(0, book.drop_batch(old.root))
            self._batches.remove(old)
            self._approvals.pop(old.root, None)
        await self._journal.write(*statements)
        if all(batch.root != record.root for batch in self._batches):
            self._batches.append(record)
        self._offered_block = head
        self._tell_offers()
        self.session.tell()

    def _tell_offers(self) -> None:
        first = self.session.place.next_index
        self.session.offers = [
            BatchOffer(batch.root, batch.first_index, batch.count, batch.fuel, batch.weight)
            for batch in self._batches
            if batch.root not in self._approvals and (batch.first_index >= first or self._is_slow)
        ][:OFFERS_MAX]

    @property
    def _is_slow(self) -> bool:
        """Whether an approval is still welcome when a batch is committed."""
        return self._rules.challenge_blocks > APPROVE_BLOCKS

    async def _commit(self, record: BatchRecord) -> bool:
        session, approval = self.session, self._approvals.get(record.root)
        if approval is None and session.allow is None:
            return False  # work for nothing can be committed only if it is approved
        batch, receipts = await self._keeper.build(session.record, record.first_index, record.count)
        if batch.commitment.root != record.root:
            _log.error("batch_differs", job=session.record.job, root=record.root.hex())
            self._batches.remove(record)
            await self._journal.write(book.drop_batch(record.root))
            return True
        if session.job.earns_credit and record.weight:
            await self._keep(batch, receipts)
        if not record.fixed:
            await self._journal.write(book.fix(record.root))
            fixed = BatchRecord(
                record.root, record.first_index, record.count, record.fuel, record.weight, b"", True
            )
            self._batches[self._batches.index(record)] = record = fixed
        result = await self._chain.commit(
            batch.commitment, session.allow, None if approval is None else Signature(approval)
        )
        self._tell_offers()
        return await self._settled(result, "commit", [record.root])

    async def _keep(self, batch: Batch, receipts: Sequence[book.ReceiptRecord]) -> None:
        root = batch.commitment.root
        if await asyncio.to_thread(self._keeper.has, root):
            return
        try:
            await self._keeper.keep(self.session.record, batch, receipts)
        except NotKept as error:
            # It is paid all the same, but a block could not show it.
            self._unkept.add(root)
            _log.error("batch_not_kept", reason=str(error))

    # ------------------------------------------------------------ what is committed

    async def _collect_pay(self) -> bool:
        """Have committed batches paid and credited; forget those that are done with for ever."""
        session, record = self.session, self.session.record
        final = await self._access.finalised_number()
        head = (await self._access.head()).number
        approve: list[tuple[Hash32, Signature]] = []
        finalize: list[Hash32] = []
        credit: list[Hash32] = []
        paid, credited, forgotten = record.paid, record.credited, False
        for batch in [b for b in self._batches if b.end <= session.place.next_index]:
            found = await self._chain.batch(batch.root)
            if found is None:
                continue
            if self._may_be_credited(found):
                self._done.pop(batch.root, None)
            is_due = head >= found.block + self._rules.challenge_blocks
            if found.paid:
                paid += batch.fuel * session.price
                credited += found.weight if found.credited else 0
                if self._may_be_credited(found):
                    if is_due and head >= self._not_before.get(batch.root, (0, 0))[0]:
                        credit.append(batch.root)
                elif self._done.setdefault(batch.root, head) <= final:
                    await self._forget(batch, found)
                    forgotten = True
                continue
            self._done.pop(batch.root, None)
            if is_due:
                finalize.append(batch.root)
            elif batch.root in self._approvals and self._is_slow:
                approve.append((batch.root, Signature(self._approvals[batch.root])))
        session.paid, session.credited = paid, credited
        job, k = record.job, record.k
        if approve:
            some = approve[:LIST_MAX]
            if await self._settled(await self._chain.approve(job, k, some), "approve", [r for r, _ in some]):
                return True
        if finalize:
            result = await self._chain.finalize(job, k, finalize[:LIST_MAX])
            if await self._settled(result, "finalize", finalize[:LIST_MAX]):
                return True
        if credit:
            roots = credit[:LIST_MAX]
            if await self._settled(await self._chain.credit(job, k, roots), "credit", roots):
                for root in roots:
                    now = await self._chain.batch(root)
                    if now is not None and not now.credited:
                        self._put_off(root, head)
                return True
        # Then perhaps nothing is left of it.
        return forgotten and self._ended_block is not None

    def _may_be_credited(self, found: SettledBatch) -> bool:
        """Tell whether a paid batch has credit before it."""
        if found.credited or found.void or not found.weight or found.root in self._unkept:
            return False
        return self.session.job.earns_credit and self._not_before.get(found.root, (0, 0))[1] <= CREDITS_MAX

    def _put_off(self, root: Hash32, head: int) -> None:
        """Note that the fee for a batch backs no weight now, or that a reorganisation has taken it back."""
        tries = self._not_before.get(root, (0, 0))[1] + 1
        self._not_before[root] = (head + CREDIT_PAUSE_BLOCKS * tries, tries)

    async def _forget(self, batch: BatchRecord, found: SettledBatch) -> None:
        record = self.session.record
        record.paid += batch.fuel * self.session.price
        record.credited += found.weight if found.credited else 0
        self._batches.remove(batch)
        for known in (self._approvals, self._done, self._not_before):
            known.pop(batch.root, None)
        await self._journal.write(book.keep_income(record), *book.forget_batch(record.id, batch))

    async def _settled(self, result: TransactionResult | None, what: str, roots: Sequence[Hash32]) -> bool:
        """Note what came of a transaction; return whether the chain has changed by it."""
        record = self.session.record
        if result is None:
            return False
        record.gas += result.fee
        _log.info(
            "market_transaction",
            what=what,
            job=record.job,
            k=record.k,
            batches=len(roots),
            ok=result.ok,
            block=result.block_number,
            fee_wei=result.fee,
        )
        await self._journal.write(book.keep_income(record))
        return result.ok
