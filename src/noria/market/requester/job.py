"""The life of one job: opened, assigned, worked on, closed.

A `JobRunner` belongs to one event loop. It holds a `Dispatcher` and, for each drawn miner, a `Place`, has
`Upkeep` see to their money and their number, and watches the chain.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from noria.market.access import ChainAccessError, Head
from noria.market.contracts import Job, JobState
from noria.market.contracts import Place as ChainPlace
from noria.market.requester.chain import (
    ASSIGN_AFTER_BLOCKS,
    ASSIGN_WITHIN_BLOCKS,
    JobChain,
    OpenedJob,
)
from noria.market.requester.checks import Claimant
from noria.market.requester.dispatch import Dispatcher
from noria.market.requester.errors import (
    JobClosed,
    JobError,
    JobNotOpened,
    JobStalled,
    NoMiners,
    OpeningOverdue,
)
from noria.market.requester.job_setting import JobSetting
from noria.market.requester.journal import JobJournal, JournalError
from noria.market.requester.link import WorkLink, WorkTransport
from noria.market.requester.money import Purse
from noria.market.requester.patience import Patience, first_line, stalled_message
from noria.market.requester.place import JobTerms, Place
from noria.market.requester.reasons import JobView, PlaceView, explain
from noria.market.requester.record import JobRecord
from noria.market.requester.sampling import OwnRuns
from noria.market.requester.units import WorkUnit
from noria.market.requester.upkeep import Upkeep
from noria.primitives.addresses import checksum_address
from noria.primitives.amounts import format_amount
from noria.primitives.background import BackgroundTasks
from noria.primitives.types import Wei

TICK_SECONDS: Final = 0.25
IDLE_SECONDS: Final = 0.05
"""The same while nothing is left to do: whoever closes the job should not wait."""
HEAD_SECONDS: Final = 5.0
AWAY_SECONDS: Final = 1.0
"""Before a node that could not be asked is asked again."""
FLUSH_SECONDS: Final = 4.0
"""For the last batches to be offered and approved."""
CLOSE_SECONDS: Final = 20.0
KEY_STEP: Final = 1 << 16

__all__ = ["JobRunner", "JobSetting"]

LOGGER: Final = logging.getLogger("noria.jobs")


class JobRunner:
    """Runs one job.

    Parameters
    ----------
    chain
        Where it is opened.
    transport
        How miners are reached.
    setting
        What it is.
    own_runs
        What runs units on this machine; None where that cannot be.
    journal
        Where it is noted; None for nowhere.
    warn
        Told what the user should know while the job runs.
    tell_wait
        Told once what is waited for, when nothing has happened for a while.
    clock
        Seconds.
    """

    def __init__(
        self,
        chain: JobChain,
        transport: WorkTransport,
        setting: JobSetting,
        *,
        own_runs: OwnRuns | None = None,
        journal: JobJournal | None = None,
        warn: Callable[[str], None] = lambda _: None,
        tell_wait: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = "new"
        self.problem = ""
        self.opened: OpenedJob | None = None
        self.places: list[Place] = []
        plan = setting.plan
        self._chain, self._transport, self._setting = chain, transport, setting
        self._clock, self._tell_wait = clock, tell_wait
        self._record = JobRecord(journal, setting, chain.requester, clock)
        self._patience = Patience(setting.patience, clock)
        self._tasks = BackgroundTasks("job", expected=(ChainAccessError, JobError))
        self.dispatcher = Dispatcher(
            plan.replicas,
            setting.sample,
            own_runs=own_runs,
            spawn=self._tasks.spawn,
            keep=self._record.keep,
            clock=clock,
        )
        self.purse = Purse(budget=plan.budget, free=plan.budget, share=plan.share)
        self._upkeep = Upkeep(
            chain,
            plan,
            self.purse,
            self.dispatcher,
            self.places,
            spawn=self._tasks.spawn,
            warn=warn,
            clock=clock,
        )
        self._began_at = clock()
        self._head = self._highest = 0
        self._balance: int | None = None
        self._generation = 0
        self._closing = asyncio.Event()
        self._hurry = False
        self._over = asyncio.Event()
        self._is_ending = False
        self._opening_may_come = False

    # ------------------------------------------------------------ from whoever orders

    def add(self, unit: WorkUnit) -> None:
        """Take a unit on."""
        if self._is_ending or self.state == "closed":
            unit.started()
            unit.failed(JobClosed(self.problem or "the job is over: make another executor"))
            return
        self.dispatcher.add(unit)
        self.dispatcher.fill()

    def stop(self, unit: WorkUnit) -> None:
        """Let nobody run a unit any more."""
        self.dispatcher.stop(unit)
        self.dispatcher.fill()

    async def top_up(self, amount: int) -> None:
        """Add to the budget.

        Raises
        ------
        JobError, ChainAccessError
            Where that cannot be.
        """
        if self.opened is None:
            raise JobNotOpened("the job is not open yet: it is opened with the first call; try again then")
        await self._chain.top_up(self.opened.number, amount)
        self.purse.top_up(amount)
        self._upkeep.funded(self.opened.number)

    async def close(self, *, hurry: bool = False) -> None:
        """End the job: what it still has is ended at once if there is hurry, and awaited otherwise."""
        self._hurry = self._hurry or hurry
        self._closing.set()
        if self.state == "new":
            self.state = "closed"
            self._over.set()
        await self._over.wait()

    # ------------------------------------------------------------ its life

    async def run(self) -> None:
        """Open the job and see it through."""
        self._tasks.spawn(self._mind())
        try:
            await self._open()
            await self._assign()
            self.state = "running"
            await self._work()
        except (JobError, ChainAccessError, JournalError) as error:
            LOGGER.info("job %s failed: %s", self.number, error)
            self.problem = str(error)
            failure = error if isinstance(error, JobError) else JobError(str(error))
            self.dispatcher.fail_all(failure)
        finally:
            try:
                await self._finish()
            finally:
                self._over.set()

    @property
    def number(self) -> int | None:
        """The job's number, once it is open."""
        return None if self.opened is None else self.opened.number

    async def _open(self) -> None:
        self.state = "opening"
        setting, plan = self._setting, self._setting.plan
        self._record.begin()
        with suppress(ChainAccessError):
            self._balance = await self._chain.balance()
        head = await self._chain.head()
        self._record.opening(nonce=await self._chain.nonce(), block=head.number)
        # Whatever ends the waiting: a transaction that was sent may be in a block later, with the budget.
        self._opening_may_come = True
        try:
            self.opened = await self._chain.open(plan, setting.session_key.address)
        except JobError as error:
            self._opening_may_come = isinstance(error, OpeningOverdue)
            raise
        self.purse.free = plan.budget - (plan.share * len(plan.named) if plan.named else 0)
        LOGGER.info("job %s is open since block %s", self.opened.number, self.opened.block)
        self._record.note(self.view, force=True)

    async def _assign(self) -> None:
        """Wait until the miners are drawn; have it done as soon as that can be."""
        self.state = "assigning"
        assigning: asyncio.Task[None] | None = None
        number, is_first = 0, True
        while not self._hurry and (self.dispatcher.live or not self._closing.is_set()):
            opened = self._still_open()
            try:
                head = await self._chain.wait_head(number, HEAD_SECONDS)
                number = self._head = head.number
                self._highest = max(self._highest, number)
                job = await self._chain.job(opened.number)
                if job is None or job.session_key != self._setting.session_key.address:
                    await self._find_again()
                    continue
                if job.state is JobState.ASSIGNED:
                    await self._look(job)
                    return
            except ChainAccessError as error:
                await self._node_away(error)
                continue
            if job.state is not JobState.OPEN:
                raise JobClosed(f"job {opened.number} was ended before its miners were drawn")
            if head.number > opened.block + ASSIGN_WITHIN_BLOCKS:
                price = format_amount(Wei(job.max_price))
                raise NoMiners(
                    f"nobody could assign job {opened.number} within {ASSIGN_WITHIN_BLOCKS} blocks: no "
                    f"miner asks for at most {price} per fuel; raise max_price (`noria price` shows what "
                    "miners ask), or wait for others to join"
                )
            if assigning is not None and assigning.done():
                refusal = assigning.exception()
                self.problem = "" if refusal is None else f"the miners could not be drawn yet: {refusal}"
                assigning = None
            if assigning is None and head.number + 1 >= opened.block + ASSIGN_AFTER_BLOCKS:
                draw = self._chain.assign(opened.number, is_certain=is_first)
                assigning, is_first = self._tasks.spawn(draw), False
            self._record.note(self.view)

    def _still_open(self) -> OpenedJob:
        assert self.opened is not None
        return self.opened

    async def _find_again(self) -> None:
        """Find the job's number after a reorganisation; places of the old one are void."""
        former = self._still_open()
        found = await self._chain.reopened(former, self._setting.session_key.address)
        if found is None:
            # Its transaction waits again where it was in a block.
            await self._look_for_its_money(former)
            self.problem = f"a reorganisation took job {former.number} back: it waits for a block again"
            return
        self.problem = ""
        self.opened = found
        self._generation += 1
        for place in self.places:
            place.close("a reorganisation took the job back")
            self.dispatcher.place_lost(place.k)
        self.places.clear()
        self.purse.places.clear()
        self.purse.raising.clear()
        LOGGER.warning("a reorganisation made job %s of job %s", found.number, former.number)

    async def _look_for_its_money(self, former: OpenedJob) -> None:
        """Give a job up that was taken back with the money it was opened with."""
        balance = self._balance = await self._chain.balance()
        budget = self._setting.plan.budget
        if balance >= budget or self._head < self._highest:
            # It is opened again; or the node is only catching up.
            return
        if await self._chain.reopened(former, self._setting.session_key.address) is None:
            raise JobNotOpened(
                f"a reorganisation took job {former.number} back, and money that the account had been sent: "
                f"{checksum_address(self._chain.requester)} has {format_amount(balance)}, the budget is "
                f"{format_amount(budget)}. Nothing is locked, nothing was paid: run it again"
            )

    async def _work(self) -> None:
        self.problem = ""
        watcher = self._tasks.spawn(self._watch())
        try:
            while True:
                if self._hurry or (self._closing.is_set() and not self.dispatcher.live):
                    return
                if watcher.done():
                    watcher.result()
                    return
                self.dispatcher.tick()
                self._upkeep.look(self._still_open().number)
                self.problem = self._upkeep.take_problem() or self.problem
                self._record.note(self.view)
                if self._record.is_asked_to_close:
                    raise JobClosed("the job was cancelled from elsewhere (`noria job cancel`)")
                await asyncio.wait([watcher], timeout=TICK_SECONDS if self.dispatcher.live else IDLE_SECONDS)
        finally:
            watcher.cancel()

    async def _watch(self) -> None:
        """Follow the chain."""
        number = self._head
        while True:
            try:
                head: Head = await self._chain.wait_head(number, HEAD_SECONDS)
                if head.number == number:
                    continue
                number = self._head = head.number
                self._highest = max(self._highest, number)
                opened = self._still_open()
                job = await self._chain.job(opened.number)
                if job is None or job.session_key != self._setting.session_key.address:
                    await self._find_again()
                    continue
                if job.state in (JobState.CLOSING, JobState.ENDED):
                    raise JobClosed(
                        f"job {opened.number} is over: its deadline has passed, or somebody closed it"
                    )
                if job.state is JobState.OPEN:
                    # A reorganisation took the draw back.
                    self._tasks.spawn(self._chain.assign(opened.number))
                    continue
                await self._look(job)
                self.problem = ""
            except ChainAccessError as error:
                await self._node_away(error)

    async def _node_away(self, error: ChainAccessError) -> None:
        """Wait a little for a node that cannot be asked."""
        self.problem = f"the node cannot be asked: {error}"
        await asyncio.sleep(AWAY_SECONDS)

    async def _look(self, job: Job) -> None:
        """Read the places: new ones begin, caps that have changed are noted."""
        rows = await self._chain.places(job.number)
        if not self.purse.raising:
            self.purse.free = job.free
        known = {place.who.k: place for place in self.places}
        for row in rows:
            place = known.get(row.k)
            if place is None:
                self._begin(job, row)
            elif place.who.miner != row.miner:
                # Drawn anew after a reorganisation.
                place.close("a reorganisation drew another miner")
                self.dispatcher.place_lost(place.k)
                self.places.remove(place)
                self._generation += 1
                self._begin(job, row)
            elif row.k not in self.purse.raising and row.cap != place.ledger.cap:
                place.ledger.cap = max(row.cap, place.ledger.allowed)
                place.raised()
        with suppress(ChainAccessError):
            self._balance = await self._chain.balance()

    def _begin(self, job: Job, row: ChainPlace) -> None:
        setting = self._setting
        who = Claimant(setting.domain.genesis_root, job.number, row.k, row.miner)
        terms = JobTerms(
            domain=setting.domain,
            job=job.number,
            session_key=setting.session_key,
            program=setting.plan.program,
            details=setting.plan.details,
            rules=setting.rules,
            peer=self._transport.peer_id,
            module=setting.module,
        )
        ledger = self.purse.add_place(row.k, row.price + job.royalty, row.cap)

        place = Place(
            who,
            terms,
            ledger,
            WorkLink(self._transport, setting.protocol, self._clock),
            find=lambda: self._chain.contact(row.miner),
            events=self.dispatcher,
            expected_fuel=lambda: self.dispatcher.expected_fuel,
            banned=lambda reason: self._record.ban(row.miner, reason),
            key=self._generation * KEY_STEP + row.k,
            clock=self._clock,
        )
        self.places.append(place)
        self.dispatcher.places[place.k] = place
        bans = self._record.bans()
        if row.miner in bans:
            ledger.is_banned = True
            place.close(f"it lied before: {bans[row.miner].reason}")
        else:
            self._tasks.spawn(place.run())

    # ------------------------------------------------------------ patience

    async def _mind(self) -> None:
        """See to it that nobody waits for nothing."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            counts = self.dispatcher.counts
            is_moving = (
                not self.dispatcher.live
                or self.dispatcher.is_running_here
                or any(place.is_at_work for place in self.places)
            )
            # Blocks are progress as long as the job waits for one of them.
            head = 0 if self.state == "running" else self._head
            pieces = sum(place.pieces for place in self.places)
            told = (counts.done, counts.failed, counts.stopped, counts.news, pieces, len(self.places))
            self._patience.look((self.state, self.number, head, *told), is_moving=is_moving)
            if self._patience.should_tell():
                self._tell_wait(first_line(explain(self.view())))
            if self._patience.is_over:
                message = stalled_message(explain(self.view()), self._patience.waited)
                LOGGER.warning("job %s has stalled", self.number)
                self._patience.begin_again()
                self.dispatcher.fail_all(JobStalled(message))

    # ------------------------------------------------------------ the end

    async def _finish(self) -> None:
        """Approve the last batches, end the job, and leave."""
        self._is_ending = True
        if self._hurry:
            self.dispatcher.fail_all(JobClosed("the job was ended"))
        if self.opened is not None:
            self.state = "closing"
            with suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(1.0 if self._hurry else FLUSH_SECONDS):
                    await self._flush()
            await self._end_on_chain()
        elif not self._opening_may_come:
            self.state = "failed" if self.problem else "closed"
        for place in self.places:
            place.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await self._tasks.stop()
        self._record.leave(self.view)

    async def _flush(self) -> None:
        """Wait until each miner has the approvals of all that it has released."""
        if self._hurry:
            # What was cancelled must have been told.
            while any(place.is_usable and place.is_cancelling for place in self.places):
                await asyncio.sleep(0.01)
            return
        for place in self.places:
            if place.is_usable:
                place.flush()
        while any(place.is_usable and not place.is_settled for place in self.places):
            await asyncio.sleep(0.01)

    async def _end_on_chain(self) -> None:
        opened = self._still_open()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._chain.close(opened.number)
                job = await self._chain.job(opened.number)
            if job is not None and job.state is JobState.ENDED:
                self.state = "closed"
        except (ChainAccessError, TimeoutError) as error:
            self.problem = self.problem or f"the job could not be ended on chain yet: {error}"
            LOGGER.warning("job %s could not be ended on chain yet: %s", opened.number, error)

    # ------------------------------------------------------------ what is known

    def view(self) -> JobView:
        """Return a snapshot."""
        setting, plan, counts = self._setting, self._setting.plan, self.dispatcher.counts
        places: tuple[PlaceView, ...] = tuple(place.view() for place in self.places)
        return JobView(
            state=self.state,
            requester=checksum_address(self._chain.requester),
            budget=str(self.purse.budget),
            max_price=str(plan.max_price),
            miners=plan.miners,
            replicas=plan.replicas,
            job=self.number,
            balance=None if self._balance is None else str(self._balance),
            free=str(max(0, self.purse.free)),
            spent=str(self.purse.spent),
            sample=setting.sample,
            is_directed=bool(plan.named),
            opened_block=0 if self.opened is None else self.opened.block,
            head_block=self._head,
            units=counts.units,
            done=counts.done,
            failed=counts.failed + counts.stopped,
            waiting=self.dispatcher.waiting,
            fuel=counts.fuel,
            places=places,
            problem=self.problem,
            seconds=round(self._clock() - self._began_at, 1),
        )
