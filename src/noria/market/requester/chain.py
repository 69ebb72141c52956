"""A requester's jobs on the chain: what it has the contracts do, and what it reads of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from noria.market.access import (
    CallReverted,
    ChainAccess,
    Head,
    MinerContact,
    TransactionRefused,
    TransactionResult,
)
from noria.market.contracts import (
    ASSIGN_AFTER_BLOCKS,
    ASSIGN_WITHIN_BLOCKS,
    JOB_MARKET,
    Job,
    Opened,
    Place,
    assign_call,
    close_call,
    decode_event,
    extend_call,
    open_call,
    open_directed_call,
    raise_cap_call,
    read_floor_price,
    read_job,
    read_places,
    refund_call,
    top_up_call,
)
from noria.market.requester.errors import OPENING_MAY_COME, JobNotOpened, NotFunded, OpeningOverdue
from noria.market.sending import TransactionOverdue, TransactionReverted
from noria.market.typed_data import details_hash
from noria.primitives.addresses import checksum_address
from noria.primitives.amounts import format_amount
from noria.primitives.types import Address, Wei
from noria.work.ids import ProgramId

__all__ = ["ASSIGN_AFTER_BLOCKS", "ASSIGN_WITHIN_BLOCKS", "JobChain", "JobPlan", "OpenedJob", "Sender"]

PRICE_FACTOR: Final = 8
"""Highest price unless another is named, in floor prices."""
ASSIGN_GAS: Final = 4_000_000
"""More than any draw takes; what is not used is not paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """What a job shall be.

    Attributes
    ----------
    program, details
        Its terms.
    budget, share
        Wei in all, and for each place at first.
    max_price
        Wei per fuel, royalty included.
    miners, replicas, public
        As `noria.market.contracts.open_call` takes them.
    named
        Miners of one's own choice, instead of a draw.
    deadline
        Unix seconds; 0 for none.
    """

    program: ProgramId
    details: bytes
    budget: Wei
    share: Wei
    max_price: int
    miners: int
    replicas: int
    public: bool
    named: tuple[Address, ...] = ()
    deadline: int = 0


@dataclass(frozen=True, slots=True)
class OpenedJob:
    """A job that stands on the chain."""

    number: int
    block: int


class Sender(Protocol):
    """Signs transactions of one account, one after the other."""

    @property
    def address(self) -> Address:
        """The account."""
        ...

    async def send_call(
        self, to: Address, data: bytes, value: int = 0, *, gas: int | None = None
    ) -> TransactionResult:
        """Send a transaction, and wait until a block has it."""
        ...


class JobChain:
    """One requester's jobs on a chain.

    Parameters
    ----------
    access
        The chain.
    sender
        Of the requester's account.
    """

    def __init__(self, access: ChainAccess, sender: Sender) -> None:
        self.access = access
        self._sender = sender

    @property
    def requester(self) -> Address:
        """Who pays."""
        return self._sender.address

    async def balance(self) -> Wei:
        """Return what the requester has."""
        return await self.access.balance(self.requester)

    async def nonce(self) -> int:
        """Return the nonce of the requester's next transaction."""
        return await self.access.nonce(self.requester)

    async def usual_price(self) -> int:
        """Return the price at which work counts in full, wei per fuel."""
        return await read_floor_price(self.access)

    async def open(self, plan: JobPlan, session_key: Address) -> OpenedJob:
        """Open a job, and wait until a block has it.

        Raises
        ------
        NotFunded, JobNotOpened
            Where that cannot be.
        OpeningOverdue
            Where no block has taken it in time, though one may do so later.
        """
        balance = await self.balance()
        if balance < plan.budget:
            raise NotFunded(
                f"{checksum_address(self.requester)} has {format_amount(balance)}, the budget is "
                f"{format_amount(plan.budget)}: send it money (`noria wallet faucet` on a local network), or "
                "ask for a smaller budget"
            )
        if plan.named:
            data = open_directed_call(
                program_id=plan.program,
                details_hash=details_hash(plan.details),
                session_key=session_key,
                max_price=plan.max_price,
                replicas=plan.replicas,
                public=plan.public,
                share=plan.share,
                named=plan.named,
                deadline=plan.deadline,
            )
        else:
            data = open_call(
                program_id=plan.program,
                details_hash=details_hash(plan.details),
                session_key=session_key,
                max_price=plan.max_price,
                miners=plan.miners,
                replicas=plan.replicas,
                public=plan.public,
                share=plan.share,
                deadline=plan.deadline,
            )
        try:
            result = await self._sender.send_call(JOB_MARKET, data, plan.budget)
        except (CallReverted, TransactionReverted, TransactionRefused) as error:
            raise JobNotOpened(f"the job was not opened: {error}") from None
        except TransactionOverdue as error:
            raise OpeningOverdue(f"{OPENING_MAY_COME} ({error})") from None
        return self._opened(result)

    def _opened(self, result: TransactionResult) -> OpenedJob:
        for log in result.logs:
            event = decode_event(log)
            if isinstance(event, Opened) and event.requester == self.requester:
                return OpenedJob(event.job, result.block_number)
        raise JobNotOpened("the job was not opened: the block has its transaction and no word of a job")

    async def reopened(self, opened: OpenedJob, session_key: Address) -> OpenedJob | None:
        """Find a job again after a reorganisation: the same session key under a number nearby."""
        for number in (opened.number, *range(max(1, opened.number - 8), opened.number + 9)):
            job = await read_job(self.access, number)
            if job is not None and job.session_key == session_key and job.requester == self.requester:
                return OpenedJob(number, job.opened_block)
        return None

    async def job(self, number: int) -> Job | None:
        """Return a job."""
        return await read_job(self.access, number)

    async def places(self, number: int) -> Sequence[Place]:
        """Return a job's places."""
        return await read_places(self.access, number)

    async def assign(self, number: int, *, is_certain: bool = False) -> None:
        """Have the miners drawn.

        Parameters
        ----------
        number
            The job's.
        is_certain
            Whether to send it without asking first whether it works: in the block after the head it will,
            though not yet in the head's.
        """
        gas = ASSIGN_GAS if is_certain else None
        await self._sender.send_call(JOB_MARKET, assign_call(number), gas=gas)

    async def extend(self, number: int, share: int) -> None:
        """Have one more miner drawn."""
        await self._sender.send_call(JOB_MARKET, extend_call(number, share))

    async def raise_cap(self, number: int, k: int, amount: int) -> None:
        """Let a place charge more."""
        await self._sender.send_call(JOB_MARKET, raise_cap_call(number, k, amount))

    async def top_up(self, number: int, amount: int) -> None:
        """Add to what is free."""
        await self._sender.send_call(JOB_MARKET, top_up_call(number), amount)

    async def close(self, number: int) -> None:
        """End a job."""
        await self._sender.send_call(JOB_MARKET, close_call(number))

    async def refund(self, number: int) -> None:
        """Take the rest back."""
        await self._sender.send_call(JOB_MARKET, refund_call(number))

    async def head(self) -> Head:
        """Return the head."""
        return await self.access.head()

    async def wait_head(self, after: int, timeout_seconds: float) -> Head:
        """Wait for a block."""
        return await self.access.wait_head(after, timeout_seconds)

    async def contact(self, miner: Address) -> MinerContact | None:
        """Return where a miner is."""
        return await self.access.contact(miner)
