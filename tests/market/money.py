"""The money of a real chain, read through a node's RPC and added up to the wei."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from noria.client.rpc_access import RpcAccess
from noria.execution.spec import ChainSpec
from noria.execution.system_contracts import BURNED, JOB_MARKET, OWN_CONTRACTS, SETTLEMENT
from noria.market.contracts import (
    Committed,
    Ended,
    JobState,
    MarketEvent,
    Opened,
    Paid,
    Settled,
    SettledBatch,
    ToppedUp,
    decode_event,
    read_batch,
    read_job,
    read_owed,
    read_places,
)
from noria.primitives.types import Address


class At(RpcAccess):
    """A node that is asked about one block."""

    tag = "latest"

    async def call(self, to: Address, data: bytes, *, sender: Address | None = None, value: int = 0) -> bytes:
        request = {"to": "0x" + to.hex(), "data": "0x" + data.hex()}
        return bytes.fromhex((await self.ask("eth_call", request, self.tag, kind=str))[2:])

    async def held(self, account: Address) -> int:
        """Wei of an account."""
        return int(await self.ask("eth_getBalance", "0x" + account.hex(), self.tag, kind=str), 16)

    async def header(self, number: int) -> dict[str, Any]:
        """Return a block; an empty one where a reorganisation has left none."""
        found: dict[str, Any] | None = await self.ask(
            "eth_getBlockByNumber", hex(number), False, kind=dict[str, Any] | None
        )
        return found or {"hash": "", "gasUsed": "0x0", "baseFeePerGas": "0x0"}


@dataclass
class Money:
    """What jobs had, and what became of it, by job."""

    block: int
    events: list[MarketEvent]
    put_in: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    refunded: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    paid: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    committed: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    states: dict[int, JobState] = field(default_factory=dict)
    batches: dict[int, list[SettledBatch]] = field(default_factory=lambda: defaultdict(list))

    @property
    def jobs(self) -> dict[Address, int]:
        """The last job of each requester: a number it was told is void where its opening was taken back."""
        return {each.requester: each.job for each in self.events if isinstance(each, Opened)}

    def of(self, kind: type[Any], job: int) -> list[Any]:
        """Events of a kind and a job."""
        return [each for each in self.events if isinstance(each, kind) and each.job == job]


_CHECKED: dict[str, dict[int, tuple[str, int]]] = {}
"""Base fees that were added up before, by chain, block and its hash."""


async def check_money(url: str, spec: ChainSpec, others: Iterable[Address]) -> Money:
    """Add up everything at one block; fail where a wei is missing or too much.

    Parameters
    ----------
    url
        Of a node.
    spec
        Of the chain; accounts that have money at genesis are in it.
    others
        Accounts that have got some since.
    """
    while True:
        async with At(url) as access:
            number = (await access.head()).number
            block = await access.header(number)
            access.tag = hex(number)
            failure: Exception | None = None
            try:
                money = await _check(access, number, spec, set(others))
            except Exception as error:
                failure = error
            # What was read of two branches adds up to nothing.
            if not block["hash"] or (await access.header(number))["hash"] != block["hash"]:
                continue
        if failure is not None:
            raise failure
        return money


async def _check(access: At, number: int, spec: ChainSpec, others: set[Address]) -> Money:
    logs = await access.logs([JOB_MARKET, SETTLEMENT], [], 0, number)
    events = [event for event in map(decode_event, logs) if event is not None]
    money = Money(number, events)
    spans: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    place_paid: dict[tuple[int, int], int] = defaultdict(int)
    roots = set()
    divided = 0
    for event in events:
        match event:
            case Opened():
                money.put_in[event.job] += event.budget
            case ToppedUp():
                money.put_in[event.job] += event.amount
            case Ended():
                assert event.job not in money.refunded, "paid back twice"
                money.refunded[event.job] = event.refund
            case Committed():
                spans[event.job, event.k].append((event.first_index, event.first_index + event.count))
                batch = await read_batch(access, event.miner, event.root)
                assert batch is not None
                assert (batch.job, batch.k, batch.fuel) == (event.job, event.k, event.fuel)
                money.batches[event.job].append(batch)
            case Paid():
                assert (event.job, event.k, event.root) not in roots, "a batch was paid twice"
                roots.add((event.job, event.k, event.root))
                money.paid[event.job] += event.amount
                place_paid[event.job, event.k] += event.amount
            case Settled():
                divided += event.miner_wei + event.developer_wei + event.fee
    assert divided == sum(money.paid.values())
    for job_number, put_in in money.put_in.items():
        job = await read_job(access, job_number)
        assert job is not None
        money.states[job_number] = job.state
        places = await read_places(access, job_number)
        caps = sum(place.cap for place in places)
        if job.state is JobState.ASSIGNED:
            assert caps + job.free == put_in
        assert caps <= put_in
        for place in places:
            at = (job_number, place.k)
            assert place_paid[at] <= place.committed <= place.cap
            # Every receipt is in one batch, and none is left out.
            assert [0, *(end for _, end in spans[at])] == [
                *(first for first, _ in spans[at]),
                place.next_index,
            ]
            money.committed[job_number] += place.committed
        assert money.paid[job_number] + money.refunded[job_number] <= put_in
        if job.state is JobState.ENDED:
            assert money.refunded[job_number] == put_in - money.committed[job_number]
    escrow = sum(put_in - money.paid[job] - money.refunded[job] for job, put_in in money.put_in.items())
    accounts = {*spec.alloc, *others, *(miner.address for miner in spec.miners)}
    owed = [
        await read_owed(access, contract, each) for contract in (JOB_MARKET, SETTLEMENT) for each in accounts
    ]
    assert sum(owed) == 0, "everybody here takes money"
    assert await access.held(JOB_MARKET) == escrow
    assert await access.held(SETTLEMENT) == 0
    total = 0
    for account in {*accounts, *OWN_CONTRACTS.values(), BURNED}:
        total += await access.held(account)
    assert total + await _base_fees(access, number) == spec.supply, "wei were made or lost"
    return money


async def _base_fees(access: At, number: int) -> int:
    """Wei that base fees have taken out of the world up to a block."""
    known = _CHECKED.setdefault(access.genesis_root.hex(), {})
    # A reorganisation changes the last blocks; those below are only asked for their names.
    burned = 0
    for each in range(1, number + 1):
        if each not in known or each > number - 64:
            header = await access.header(each)
            if known.get(each, ("", 0))[0] != header["hash"]:
                fee = int(header["gasUsed"], 16) * int(header["baseFeePerGas"], 16)
                known[each] = (header["hash"], fee)
        burned += known[each][1]
    return burned
