"""When blocks are made, and what is in them."""

from __future__ import annotations

import asyncio

import pytest

from noria._core import Engine, StoreFull, blake3
from noria.chain.errors import InvalidTimestamp
from noria.chain.production import DEV_FEE_RECIPIENT, Automine, IntervalMining
from noria.chain.service import Chain
from noria.execution.accounts import DevAccount
from tests.chain.conftest import MakeChain, Wall
from tests.chain.transfers import GWEI, SINK, transfer, tx_hash


async def test_a_transaction_is_mined_as_soon_as_it_comes(
    automining: Chain, dev_keys: list[DevAccount], wall: Wall
) -> None:
    raw = transfer(dev_keys[0], 0, value=7)
    assert await automining.submit([raw]) == [tx_hash(raw)]
    found = await automining.wait_for_transaction(tx_hash(raw), timeout_seconds=30)
    head = automining.head
    assert (found.block_hash, found.block_number, found.index) == (head.hash, 1, 0)
    assert automining.engine.account(head.hash, SINK).balance == 7
    assert automining.engine.account(head.hash, DEV_FEE_RECIPIENT).balance == 21_000 * GWEI
    assert head.timestamp == int(wall.seconds)
    assert len(automining.mempool) == 0


async def test_an_idle_chain_makes_no_blocks(automining: Chain, dev_keys: list[DevAccount]) -> None:
    waiting = transfer(dev_keys[0], 5)
    below = transfer(dev_keys[1], 0, fee=1, tip=0)
    assert await automining.submit([waiting, below]) == [tx_hash(waiting), tx_hash(below)]
    mined = transfer(dev_keys[2], 0)
    await automining.submit([mined])
    await automining.wait_for_transaction(tx_hash(mined), timeout_seconds=30)
    assert automining.head.number == 1
    assert {tx.hash for tx in automining.mempool} == {tx_hash(waiting), tx_hash(below)}


async def test_what_arrives_meanwhile_goes_into_the_next_block(
    automining: Chain, dev_keys: list[DevAccount]
) -> None:
    raws = [transfer(account, nonce) for nonce in range(100) for account in dev_keys]
    outcomes = await asyncio.gather(*(automining.submit([raw]) for raw in raws))
    assert [outcome for (outcome,) in outcomes] == [tx_hash(raw) for raw in raws]
    await asyncio.gather(*(automining.wait_for_transaction(tx_hash(raw), 60) for raw in raws))
    assert automining.head.number < 100
    assert automining.engine.account(automining.head.hash, SINK).balance == 1_000


async def test_the_dearest_come_first_when_a_block_is_full(chain: Chain, dev_keys: list[DevAccount]) -> None:
    # 2^24 gas each: two fit into a block of 36 million.
    raws = [
        transfer(account, 0, gas=2**24, tip=tip * GWEI, data=b"\xff", to=b"")
        for account, tip in zip(dev_keys[:3], (1, 3, 2), strict=True)
    ]
    await chain.submit(raws)
    header = await chain.mine()
    hashes = chain.engine.transaction_hashes(header.hash)
    assert hashes is not None
    assert hashes[0] == tx_hash(raws[1])
    assert len(hashes) + len(chain.mempool) == 3


async def test_mining_on_demand_makes_empty_blocks(chain: Chain) -> None:
    first, second = await chain.mine(), await chain.mine()
    assert (first.number, second.number, second.parent_hash) == (1, 2, first.hash)
    assert chain.head.hash == second.hash == chain.engine.head.hash
    assert chain.engine.transaction_hashes(second.hash) == []


async def test_attributes_follow_from_the_parent(chain: Chain, engine: Engine) -> None:
    parent = engine.head
    header = await chain.mine()
    assert header.prev_randao == blake3(b"noria/randao/1" + parent.prev_randao + (1).to_bytes(8, "big"))
    assert header.parent_beacon_block_root == blake3(parent.hash)
    assert header.fee_recipient == DEV_FEE_RECIPIENT
    assert header.gas_limit == parent.gas_limit


async def test_time_on_demand(chain: Chain, wall: Wall) -> None:
    now = int(wall.seconds)
    assert (await chain.mine()).timestamp == now
    assert (await chain.mine()).timestamp == now + 1
    assert chain.increase_time(1_000) == 1_000
    assert (await chain.mine()).timestamp == now + 1_000
    chain.set_next_timestamp(now + 5_000)
    assert (await chain.mine()).timestamp == now + 5_000
    wall.seconds += 3
    assert (await chain.mine()).timestamp == now + 5_003
    assert (await chain.mine(now + 9_000)).timestamp == now + 9_000
    with pytest.raises(InvalidTimestamp):
        await chain.mine(now + 9_000)
    with pytest.raises(InvalidTimestamp):
        chain.set_next_timestamp(now)
    assert (await chain.mine()).timestamp == now + 9_001


async def test_interval_mining_makes_blocks_full_and_empty(
    make_chain: MakeChain, dev_keys: list[DevAccount]
) -> None:
    chain = await make_chain(block_time_seconds=0.05)
    async with chain.events.subscribe_heads() as heads:
        assert (await heads.get()).head.number == 1
        raw = transfer(dev_keys[0], 0)
        await chain.submit([raw])
        found = await chain.wait_for_transaction(tx_hash(raw), timeout_seconds=30)
        while (event := await heads.get()).head.number <= found.block_number:
            pass
        assert chain.engine.transaction_hashes(event.head.hash) == []


def test_a_block_time_has_bounds() -> None:
    async def produce() -> None: ...

    for period in (0, -1, 86_401, float("nan")):
        with pytest.raises(ValueError, match="block time"):
            IntervalMining(produce, period)


async def test_a_failing_build_pauses_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    attempts = 0
    done = asyncio.Event()
    really_sleep = asyncio.sleep

    async def produce() -> bool:
        nonlocal attempts
        attempts += 1
        if attempts <= 3:
            raise StoreFull("no space")
        if attempts == 4:
            return False
        done.set()
        return True

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await really_sleep(0)

    monkeypatch.setattr("noria.chain.production.asyncio.sleep", sleep)
    automine = Automine(produce)
    automine.wake()
    task = asyncio.ensure_future(automine.run())
    await done.wait()
    task.cancel()
    assert attempts == 5
    assert pauses == [0.1, 0.2, 0.4, 0.8]


async def test_who_waits_is_told_that_no_block_can_be_made(
    automining: Chain, dev_keys: list[DevAccount], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreFull("the disk is full")

    monkeypatch.setattr(automining._writer, "build", full)
    raw = transfer(dev_keys[0], 0)
    waiting = asyncio.ensure_future(automining.wait_for_transaction(tx_hash(raw), 60))
    await asyncio.sleep(0)
    await automining.submit([raw])
    with pytest.raises(StoreFull, match="disk is full"):
        await waiting
    assert isinstance(automining.production_error, StoreFull)
    assert tx_hash(raw) in automining.mempool
    monkeypatch.undo()
    await automining.wait_for_transaction(tx_hash(raw), 60)
    assert automining.production_error is None
