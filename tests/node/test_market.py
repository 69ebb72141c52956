"""Two full nodes whose miners take a job, on the real contracts, with a restart in the middle."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from noria.execution.accounts import dev_accounts
from noria.execution.parameters import DEVNET
from noria.market.access import CallReverted, TransactionRefused
from noria.market.contracts import (
    JOB_MARKET,
    MINER_REGISTRY,
    OPENED_TOPIC,
    Opened,
    assign_call,
    call_data,
    close_call,
    decode_event,
    open_call,
    read_batch,
    read_place,
    read_places,
)
from noria.market.messages import (
    Allow,
    Approval,
    BytesPart,
    Collect,
    Collected,
    Hello,
    Order,
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
from noria.node.config import load_config
from noria.node.devnet.layout import Network
from noria.node.devnet.making import Plan, make_network
from noria.node.devnet.tiles import miner_inputs, module
from noria.node.full import FullNode
from noria.node.market_access import NodeAccess
from noria.node.view import NodeView
from noria.primitives.keys import PrivateKey
from noria.primitives.types import NOR, Address, Hash32
from tests.client.runtime import python_runtime

pytestmark = pytest.mark.slow
UNITS = 6
PRICE = DEVNET.floor_min_wei


def node_of(network: Network, number: int) -> FullNode:
    config, _ = load_config(network.config(network.nodes[number]), {}, {})
    return FullNode(config, "test")


class Client:
    """A requester with a transport of its own and one place."""

    def __init__(self, transport: Transport, domain: Domain, session: PrivateKey, job: int, k: int) -> None:
        self.transport, self.domain, self.session, self.job, self.k = transport, domain, session, job, k
        self.protocol = work_protocol(domain.genesis_root).name
        self.results: dict[int, Any] = {}
        self.peer = PeerId("")

    async def ask(self, message: Any) -> Any:
        data = await self.transport.request(self.peer, self.protocol, encode_message(message))
        return decode_answer(data)

    async def hello(self, access: NodeAccess, miner: Address) -> Welcome:
        contact = await access.contact(miner)
        assert contact is not None
        self.peer = await self.transport.dial(contact.addresses[0])
        assert self.peer == contact.peer
        signature = sign_session(self.session, self.domain, self.job, self.k, self.transport.peer_id)
        hello = Hello(1, self.job, self.k, module().id, b"test", signature)
        async with asyncio.timeout(60):
            while True:
                try:
                    welcome = await self.ask(hello)
                except RequestRefused as refusal:
                    # The miner's node has not seen the block yet.
                    if "unknown-job" not in str(refusal):
                        raise
                    await blocks(access, 1)
                    continue
                assert isinstance(welcome, Welcome)
                return welcome

    async def collect(self, wait: int = 5_000, **fields: Any) -> Collected:
        answer = await self.ask(Collect(self.job, self.k, wait, taken=list(self.results), **fields))
        assert isinstance(answer, Collected)
        assert answer.failures == []
        self.results |= {result.number: result for result in answer.results}
        return answer


async def blocks(access: NodeAccess, count: int) -> None:
    number = (await access.head()).number + count
    async with asyncio.timeout(60):
        while (await access.head()).number < number:
            await access.wait_head(number - 1, 10)


@pytest.mark.timeout(240)
async def test_a_job_on_two_nodes_is_run_paid_and_credited(tmp_path: Path) -> None:
    python_runtime()
    network = await asyncio.to_thread(make_network, tmp_path / "net", Plan(nodes=2, units=4))
    key, session = PrivateKey(dev_accounts()[0].private_key), PrivateKey.generate()
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(node_of(network, number)) for number in range(2)]
        access = nodes[0].access
        await check_access(access, key)
        domain = Domain(access.chain_id, access.genesis_root)
        sender = TransactionSender(access, key)
        call = open_call(
            program_id=module().id,
            details_hash=details_hash(b"test"),
            session_key=session.address,
            max_price=2 * PRICE,
            miners=2,
            replicas=2,
            public=True,
            share=NOR,
        )
        opened = await sender.send_call(JOB_MARKET, call, 2 * NOR)
        (job,) = [e.job for e in map(decode_event, opened.logs) if isinstance(e, Opened)]
        (log,) = await access.logs([JOB_MARKET], [[OPENED_TOPIC]], 0, opened.block_number)
        assert log.transaction == opened.transaction
        await blocks(access, 2)
        await sender.send_call(JOB_MARKET, assign_call(job))
        places = await read_places(access, job)
        assert {place.miner for place in places} == {miner.address for miner in nodes[0].spec.miners}

        transport = await Transport.start(
            secrets.token_bytes(32),
            TransportConfig(
                network=access.genesis_root.hex(),
                agent="client",
                protocols=(work_protocol(access.genesis_root),),
                listen=("/ip4/127.0.0.1/tcp/0",),
                limits=WORK_LIMITS,
            ),
        )
        stack.push_async_callback(transport.close)
        clients = [Client(transport, domain, session, job, place.k) for place in places]
        units = [
            Unit(n, DEVNET.unit_fuel_max, [BytesPart(data)]) for n, data in enumerate(miner_inputs(7, UNITS))
        ]
        for client, place in zip(clients, places, strict=True):
            await client.hello(access, place.miner)
            total = NOR // 2
            allow = Allow(str(total), sign_allow(session, domain, job, place.k, total))
            assert (await client.ask(Order(job, place.k, units, allow))).refused == []
            while len(client.results) < UNITS:
                await client.collect()
        first, second = ({n: (r.output_id, r.fuel) for n, r in c.results.items()} for c in clients)
        assert first == second
        assert all(result.weight == result.fuel > 10**6 for result in clients[0].results.values())

        # The second node stops and comes back; its miner knows what it is owed.
        await nodes[1].stop()
        nodes[1] = await stack.enter_async_context(node_of(network, 1))
        service, name = nodes[1].market, nodes[1].transport.peer_id
        assert service is not None
        mine = next(place for place in places if place.miner == service.status().miner)
        async with asyncio.timeout(60), nodes[0].transport.events() as events:
            while name not in {peer.peer for peer in nodes[0].transport.peers()}:
                await events.get()
        welcome = await clients[mine.k].hello(access, mine.miner)
        assert welcome.next_index == UNITS
        price = sum(result.fuel for result in clients[0].results.values()) * PRICE
        assert int(welcome.earned) == price

        roots: list[bytes] = []
        for client in clients:
            async with asyncio.timeout(60):
                answer = await client.collect(500, flush=True)
                while not answer.offers:
                    answer = await client.collect(500, flush=True)
            (offer,) = answer.offers
            roots.append(offer.root)
            approval = Approval(offer.root, sign_approval(session, domain, job, client.k, offer))
            await client.collect(0, approvals=[approval])
        await sender.send_call(JOB_MARKET, close_call(job))
        async with asyncio.timeout(60):
            for place, root in zip(places, roots, strict=True):
                while True:
                    batch = await read_batch(access, place.miner, root)
                    if batch is not None and batch.credited:
                        break
                    await blocks(access, 1)
                assert batch.paid
                found = await read_place(access, job, place.k)
                assert found is not None
                assert found.committed == price
        await check_view(NodeView(nodes[0]), price, roots)


async def check_access(access: NodeAccess, key: PrivateKey) -> None:
    await blocks(access, 2)
    head = await access.head()
    assert (await access.wait_head(head.number + 1_000, 0.05)).number >= head.number
    assert await access.finalised_number() <= head.number
    assert await access.balance(key.address) > NOR
    assert await access.nonce(key.address) == 0
    assert await access.tip() > 0
    assert await access.result(Hash32(bytes(32))) is None
    assert await access.logs([], [], 10**6, 10**7) == []
    assert await access.contact(key.address) is None
    with pytest.raises(CallReverted, match="JobMarket: "):
        await access.call(JOB_MARKET, close_call(99), sender=key.address)
    with pytest.raises(CallReverted, match="JobMarket: "):
        await access.estimate_gas(key.address, JOB_MARKET, close_call(99), 0)
    assert int.from_bytes(await access.call(MINER_REGISTRY, call_data("count()")), "big") == 2
    with pytest.raises(TransactionRefused, match="was not taken"):
        await access.send(b"\x02\x01")


async def check_view(view: NodeView, price: int, roots: list[bytes]) -> None:
    told = view.parameters()
    assert told["parameters"]["unit_fuel_max"] == DEVNET.unit_fuel_max
    assert set(told["programs"]) == {"python", "pathtracer"}
    market = view.market()
    assert market is not None
    assert market["askPriceWei"] == str(PRICE)
    assert market["problem"] == ""
    ledger = await view.earnings(10)
    assert ledger is not None
    (place,) = ledger["jobs"]
    assert place["earnedWei"] == str(price)
    assert (place["receipts"], ledger["totals"]["jobs"]) == (UNITS, 1)
    assert len(roots) == 2
