"""A requester written by hand, which says whatever it likes to real miners."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from noria.client.calls import encode, prepare
from noria.client.rpc_access import RpcAccess
from noria.market.contracts import (
    JOB_MARKET,
    Opened,
    assign_call,
    close_call,
    decode_event,
    open_call,
    open_directed_call,
    read_places,
    read_rules,
    refund_call,
)
from noria.market.messages import (
    Allow,
    Approval,
    BytesPart,
    Collect,
    Collected,
    Hello,
    Order,
    Ordered,
    Unit,
    Welcome,
    decode_answer,
    encode_message,
)
from noria.market.protocol import WORK_LIMITS, work_protocol
from noria.market.sending import TransactionSender
from noria.market.typed_data import Domain, details_hash, sign_allow, sign_approval, sign_session
from noria.network.config import TransportConfig
from noria.network.errors import RequestRefused
from noria.network.peers import PeerId
from noria.network.transport import Transport
from noria.primitives.keys import PrivateKey
from noria.primitives.types import Address, Hash32
from noria.work.ids import ProgramId
from tests.client.runtime import python_runtime
from tests.market.client_process import spin

DETAILS = b"by hand"
HEAVY = 1_000_000
"""Rounds of `spin` that come near the most fuel that carries weight."""
LIGHT = 1_000


class Requester:
    """Somebody with an account and a transport, and what it knows of a chain.

    Parameters
    ----------
    access
        The chain.
    key
        Of an account with money.
    transport
        Reaches miners.
    """

    def __init__(self, access: RpcAccess, key: PrivateKey, transport: Transport) -> None:
        self.access, self.key, self.transport = access, key, transport
        self.domain = Domain(access.chain_id, access.genesis_root)
        self.sender = TransactionSender(access, key)
        self._dialling = asyncio.Lock()
        self.protocol = work_protocol(access.genesis_root).name
        self.fuel_limit = access.facts.number("unit_fuel_max")
        self.program: ProgramId = python_runtime().program_id

    async def open(
        self, share: int, *, miners: int = 2, named: tuple[Address, ...] = (), extra: int = 0
    ) -> list[HostilePlace]:
        """Open a job and have its miners drawn; return its places."""
        session = PrivateKey.generate()
        common: dict[str, Any] = {
            "program_id": self.program,
            "details_hash": details_hash(DETAILS),
            "session_key": session.address,
            "max_price": 10**9,
            "public": True,
            "share": share,
        }
        if named:
            data = open_directed_call(**common, replicas=1, named=named)
            count = len(named)
        else:
            data, count = open_call(**common, miners=miners, replicas=min(2, miners)), miners
        opened = await self.sender.send_call(JOB_MARKET, data, count * share + extra)
        [job] = [event.job for event in map(decode_event, opened.logs) if isinstance(event, Opened)]
        if not named:
            await self.blocks(2)
            await self.sender.send_call(JOB_MARKET, assign_call(job))
        rows = await read_places(self.access, job)
        return [HostilePlace(self, session, job, row.k, row.miner, row.price) for row in rows]

    async def dial(self, address: str) -> PeerId:
        """Connect to a peer, unless that is so."""
        peer = PeerId(address.rpartition("/p2p/")[2])
        async with self._dialling:
            if all(info.peer != peer for info in self.transport.peers()):
                await self.transport.dial(address)
        return peer

    async def close(self, job: int) -> None:
        """End a job."""
        await self.sender.send_call(JOB_MARKET, close_call(job))

    async def refund(self, job: int) -> None:
        """Take the rest of a job back, once that can be."""
        rules = await read_rules(self.access)
        await self.blocks(rules.close_blocks + 1)
        await self.sender.send_call(JOB_MARKET, refund_call(job))

    async def blocks(self, count: int) -> None:
        """Wait for blocks."""
        number = (await self.access.head()).number + count
        async with asyncio.timeout(60 + 10 * count):
            while (await self.access.head()).number < number:
                await self.access.wait_head(number - 1, 10)


class HostilePlace:
    """One place of a job of its."""

    def __init__(
        self, who: Requester, session: PrivateKey, job: int, k: int, miner: Address, price: int
    ) -> None:
        self.who, self.session, self.job, self.k = who, session, job, k
        self.miner, self.price = miner, price
        self.peer = PeerId("")
        self.results: dict[int, Any] = {}
        self.last: Collected | None = None

    async def ask(self, message: Any) -> Any:
        return decode_answer(
            await self.who.transport.request(
                self.peer, self.who.protocol, encode_message(message), timeout_seconds=20
            )
        )

    async def dial(self) -> None:
        async with asyncio.timeout(150):
            while True:
                contact = await self.who.access.contact(self.miner)
                if contact is not None and contact.addresses:
                    break
                await self.who.blocks(1)
        self.peer = await self.who.dial(f"{contact.addresses[0].partition('/p2p/')[0]}/p2p/{contact.peer}")

    async def hello(self) -> Welcome:
        await self.dial()
        peer = self.who.transport.peer_id
        signature = sign_session(self.session, self.who.domain, self.job, self.k, peer)
        hello = Hello(1, self.job, self.k, self.who.program, DETAILS, signature)
        async with asyncio.timeout(150):
            while True:
                try:
                    welcome = await self.ask(hello)
                except RequestRefused as error:
                    # Its node may be a block behind.
                    if not str(error).startswith("unknown-job:"):
                        raise
                    await self.who.blocks(1)
                    continue
                assert isinstance(welcome, Welcome)
                return welcome

    def allow(self, total: int) -> Allow:
        """Sign an allow, whether there is money for it or not."""
        return Allow(str(total), sign_allow(self.session, self.who.domain, self.job, self.k, total))

    async def order(self, count: int, allow: int, *, first: int = 0, rounds: int = LIGHT) -> Ordered:
        _, captured = prepare(spin)
        units = [
            Unit(number, self.who.fuel_limit, [BytesPart(encode(captured, (number, rounds), {}).archive)])
            for number in range(first, first + count)
        ]
        answer = await self.ask(Order(self.job, self.k, units, self.allow(allow) if allow else None))
        assert isinstance(answer, Ordered)
        return answer

    async def collect(self, wait: int = 2_000, **fields: Any) -> Collected:
        answer = await self.ask(Collect(self.job, self.k, wait, taken=list(self.results), **fields))
        assert isinstance(answer, Collected)
        self.results |= {result.number: result for result in answer.results}
        self.last = answer
        return answer

    async def has(self, count: int) -> None:
        """Wait for results."""
        async with asyncio.timeout(150):
            while len(self.results) < count:
                await self.collect()

    async def approve(self) -> int:
        """Approve what is offered; return how many batches that was."""
        answer = await self.collect(500, flush=True)
        approvals = [
            Approval(offer.root, sign_approval(self.session, self.who.domain, self.job, self.k, offer))
            for offer in answer.offers
        ]
        if approvals:
            await self.collect(0, approvals=approvals)
        return len(approvals)

    @property
    def received(self) -> int:
        """Price of the results that have come."""
        return sum(int(result.fuel) for result in self.results.values()) * self.price


@asynccontextmanager
async def requester(url: str, key: PrivateKey) -> AsyncIterator[Requester]:
    """A requester that asks a node; its transport is closed afterwards."""
    async with RpcAccess(url) as access, transport_of(access.genesis_root) as transport:
        yield Requester(access, key, transport)


@asynccontextmanager
async def transport_of(genesis_root: Hash32) -> AsyncIterator[Transport]:
    """A peer that asks miners."""
    config = TransportConfig(
        network=genesis_root.hex(),
        agent="by-hand",
        protocols=(work_protocol(genesis_root),),
        listen=(),
        peers_wanted=0,
        limits=WORK_LIMITS,
    )
    transport = await Transport.start(secrets.token_bytes(32), config)
    try:
        yield transport
    finally:
        await transport.close()
