"""A miner at work for others: it answers on the work protocol, has units run, and sees that it is paid.

::

    service = MinerService(access, chain, transport, …)
    await service.start()
    …
    await service.stop()

`noria.market.miner.stream` answers requesters, `noria.market.miner.places` takes care of each place; here
they are joined with the chain's heads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Set
from typing import Final

import structlog

from noria.market.access import ChainAccess, ChainAccessError
from noria.market.contracts import MarketRules
from noria.market.miner.deliveries import Deliveries
from noria.market.miner.earnings import Earnings, MarketStatus, report
from noria.market.miner.journal import Journal
from noria.market.miner.keeping import Keeper
from noria.market.miner.places import Places
from noria.market.miner.stream import WorkStream
from noria.market.miner.terms import MarketChain
from noria.market.miner.units import Signing
from noria.market.typed_data import Domain
from noria.network.transport import Request, TransportProtocol
from noria.primitives.background import BackgroundTasks
from noria.primitives.types import Hash32
from noria.work.ids import ProgramId
from noria.work.workers import WorkerPool

HEAD_SECONDS: Final = 30.0
KEEPING_BLOCKS: Final = 64
"""Between two looks for batches that have left the window."""
HISTORY_BLOCKS: Final = 256
"""How far back places are looked for that were assigned while nobody looked."""
ASSIGNED_MAX: Final = 1_000

_log = structlog.get_logger(__name__)


class MinerService:
    """One miner's side of the market. Belongs to one event loop.

    Parameters
    ----------
    access, chain
        The chain, and the market's contracts as this miner uses them.
    transport, protocol
        Where requesters ask, and by which name.
    journal, deliveries, keeper
        Open; they are not closed.
    pool, workers
        Runs units and nothing else; it is not closed.
    signing, domain, rules
        Who signs, for which chain, by which rules.
    pinned
        Programs that the chain's specification pins.
    counting
        Tells which credited batches are still in the window, None where it cannot tell; called in a thread.
    clock
        Unix seconds.
    """

    def __init__(
        self,
        access: ChainAccess,
        chain: MarketChain,
        transport: TransportProtocol,
        protocol: str,
        *,
        journal: Journal,
        deliveries: Deliveries,
        keeper: Keeper,
        pool: WorkerPool,
        workers: int,
        signing: Signing,
        domain: Domain,
        rules: MarketRules,
        pinned: frozenset[ProgramId],
        counting: Callable[[], Set[Hash32] | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access, self._chain, self._transport, self._protocol = access, chain, transport, protocol
        self._journal, self._keeper, self._signing, self._counting = journal, keeper, signing, counting
        self._places = Places(
            access,
            chain,
            journal=journal,
            deliveries=deliveries,
            keeper=keeper,
            pool=pool,
            workers=workers,
            signing=signing,
            domain=domain,
            rules=rules,
            pinned=pinned,
            clock=clock,
        )
        self._stream = WorkStream(
            chain,
            transport,
            self._places,
            deliveries,
            journal,
            signing=signing,
            domain=domain,
            clock=clock,
        )
        self._tasks = BackgroundTasks("market")
        self._assigned: dict[tuple[int, int], int] = {}

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Take up what the journal has, and begin to answer.

        Raises
        ------
        JournalError, ChainAccessError
            Where that cannot be read.
        """
        self._stream.ask_price = await self._chain.ask_price()
        await self._places.start()
        head = await self._access.head()
        self._tasks.spawn(self._follow(head.number))
        self._transport.serve(self._protocol, self.answer)

    async def stop(self) -> None:
        """Stop; what is written is finished, what runs is given up and ordered again by its requesters."""
        await self._stream.stop()
        await self._places.stop()
        await self._tasks.stop()

    async def answer(self, request: Request) -> bytes:
        """Answer one request of a peer; see `WorkStream.answer`."""
        return await self._stream.answer(request)

    # ------------------------------------------------------------ the chain

    async def _follow(self, number: int) -> None:
        kept = number
        while True:
            try:
                head = await self._access.wait_head(number, HEAD_SECONDS)
                if head.number > number:
                    await self._note_assigned(number + 1, head.number)
                number = head.number
                self._stream.ask_price = await self._chain.ask_price()
            except ChainAccessError as error:
                _log.warning("market_chain_unreadable", reason=str(error))
                await asyncio.sleep(1.0)
                continue
            for live in self._places:
                live.wake.set()
            if self._counting is not None and number >= kept + KEEPING_BLOCKS:
                kept = number
                self._tasks.spawn(self._forget_old())

    async def _note_assigned(self, first: int, last: int) -> None:
        for job, k in await self._chain.assigned(max(first, last - HISTORY_BLOCKS), last):
            if (job, k) not in self._assigned:
                _log.info("market_assigned", job=job, k=k)
            self._assigned[job, k] = last
            while len(self._assigned) > ASSIGNED_MAX:
                del self._assigned[next(iter(self._assigned))]

    async def _forget_old(self) -> None:
        assert self._counting is not None
        # In this order: what leaves the journal meanwhile is credited already.
        pending = await self._journal.roots()
        counting = await asyncio.to_thread(self._counting)
        if counting is not None:
            await asyncio.to_thread(self._keeper.forget_old, counting, pending)

    # ------------------------------------------------------------ for people

    def status(self) -> MarketStatus:
        """Tell what this miner does for others now."""
        return MarketStatus(
            miner=self._signing.key.address,
            ask_price=self._stream.ask_price,
            workers=self._places.shop.workers,
            running=self._places.shop.running,
            queued=self._places.shop.queued,
            assigned=len(self._assigned),
            problem=self._places.problem,
            sessions=tuple(live.session for live in self._places),
        )

    async def earnings(self, limit: int) -> Earnings:
        """Tell what was earned, the latest places first.

        Raises
        ------
        JournalError
            Where the journal cannot be read.
        """
        places = await self._journal.places(limit=limit)
        live = {each.session.record.id: each.session for each in self._places}
        return report(places, live, await self._journal.totals())
