"""Transactions that arrive, whatever chain and node do meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from noria.execution.system_contracts import JOB_MARKET
from noria.market import contracts as calls
from noria.market import sending
from noria.market.access import CallReverted, ChainAccess, TransactionRefused, TransactionResult
from noria.market.sending import (
    STUCK_BLOCKS,
    TransactionOverdue,
    TransactionReverted,
    TransactionSender,
    send_transaction,
)
from noria.primitives.keys import PrivateKey
from noria.primitives.types import Address
from tests.contracts.market import DETAILS, PINNED, REQUESTER, SESSION, Market, key_of
from tests.market.chains import CHAIN_ID, EngineAccess, FakeChain, NodeAway

KEY = PrivateKey(b"\x51" * 32)
TO = Address(b"\x61" * 20)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(sending, "HEAD_SECONDS", 0.02)


@pytest.fixture
async def chain() -> FakeChain:
    return FakeChain()


@pytest.fixture
def sender(chain: FakeChain) -> TransactionSender:
    return TransactionSender(chain, KEY)


def start(work: Coroutine[Any, Any, TransactionResult]) -> asyncio.Task[TransactionResult]:
    return asyncio.get_running_loop().create_task(work)


async def test_a_transaction_is_what_was_asked_for(chain: FakeChain, sender: TransactionSender) -> None:
    task = start(sender.send_call(TO, b"data", 5))
    await chain.until_sent(1)
    await chain.mine()
    result = await task
    [tx] = chain.sent
    assert (tx.type, tx.sender, tx.nonce, tx.to, tx.value) == (2, KEY.address, 0, TO, 5)
    assert (tx.chain_id, tx.gas_limit) == (CHAIN_ID, 50_000 * 5 // 4 + 20_000)
    assert (tx.max_fee_per_gas, tx.max_priority_fee_per_gas) == (2 * 1_000 + 10, 10)
    assert (result.transaction, result.block_number, result.ok) == (tx.hash, 1, True)
    assert sender.address == KEY.address


async def test_a_limit_that_is_given_is_taken(chain: FakeChain) -> None:
    chain.refuses = "not yet"
    task = start(send_transaction(chain, KEY, TO, b"", value=1, gas=21_000))
    await chain.until_sent(1)
    await chain.mine()
    await task
    assert chain.sent[0].gas_limit == 21_000


async def test_several_are_under_way_at_once(chain: FakeChain, sender: TransactionSender) -> None:
    tasks = [start(sender.send_call(TO, bytes([number]))) for number in range(6)]
    await chain.until_sent(6)
    await chain.mine()
    results = await asyncio.gather(*tasks)
    assert [tx.nonce for tx in chain.sent] == list(range(6))
    assert len({result.transaction for result in results}) == 6


async def test_what_would_be_refused_is_not_sent(chain: FakeChain, sender: TransactionSender) -> None:
    chain.refuses = "JobMarket: no such job"
    with pytest.raises(CallReverted, match="JobMarket: no such job"):
        await sender.send_call(TO, b"data")
    assert chain.sent == []


async def test_what_a_block_refuses_is_named(chain: FakeChain, sender: TransactionSender) -> None:
    chain.reverts = "Settlement: committed already"
    task = start(sender.send_call(TO, b"data"))
    await chain.until_sent(1)
    await chain.mine()
    with pytest.raises(TransactionReverted, match="Settlement: committed already") as raised:
        await task
    assert not raised.value.result.ok
    assert raised.value.result.block_number == 1


async def test_running_out_of_gas_is_named(chain: FakeChain, sender: TransactionSender) -> None:
    chain.reverts = "any"
    task = start(sender.send_call(TO, b"data", gas=50_000))
    await chain.until_sent(1)
    await chain.mine()
    with pytest.raises(TransactionReverted, match="ran out of its 50000 gas"):
        await task


async def test_without_money_nothing_is_used_up(chain: FakeChain, sender: TransactionSender) -> None:
    chain.money = False
    with pytest.raises(TransactionRefused, match="insufficient funds"):
        await sender.send_call(TO, b"data")
    chain.money = True
    task = start(sender.send_call(TO, b"data"))
    await chain.until_sent(1)
    await chain.mine()
    await task
    assert chain.sent[0].nonce == 0


async def test_what_a_reorganisation_drops_is_sent_again(chain: FakeChain) -> None:
    sender = TransactionSender(chain, KEY, confirmations=2)
    task = start(sender.send_call(TO, b"data"))
    await chain.until_sent(1)
    await chain.mine(2)
    await chain.reorganise(2)
    await chain.until_sent(2)
    assert chain.sent[0].hash == chain.sent[1].hash
    await chain.mine(3)
    result = await task
    assert result.block_number == 3


async def test_what_was_done_before_is_sent_again_with_the_next(
    chain: FakeChain, sender: TransactionSender
) -> None:
    first = start(sender.send_call(TO, b"first"))
    await chain.until_sent(1)
    await chain.mine()
    await first
    await chain.reorganise(1)
    second = start(sender.send_call(TO, b"second"))
    await chain.until_sent(3)
    await chain.mine()
    await second
    assert [tx.nonce for tx in chain.sent] == [0, 0, 1]
    assert chain.sent[1].hash == chain.sent[0].hash


async def test_what_the_mempool_forgets_is_sent_again(chain: FakeChain, sender: TransactionSender) -> None:
    task = start(sender.send_call(TO, b"data"))
    await chain.until_sent(1)
    chain.waiting.clear()
    await chain.mine()
    await chain.until_sent(2)
    await chain.mine()
    await task
    assert chain.sent[0].hash == chain.sent[1].hash


async def test_what_is_lost_for_good_is_told_to_all_who_wait(
    chain: FakeChain, sender: TransactionSender
) -> None:
    tasks = [start(sender.send_call(TO, bytes([number]))) for number in range(2)]
    await chain.until_sent(2)
    chain.waiting.clear()
    chain.money = False
    await chain.mine()
    for task in tasks:
        with pytest.raises(TransactionRefused, match="insufficient funds"):
            await task
    # Their nonces are free again.
    chain.money = True
    task = start(sender.send_call(TO, b"third"))
    await chain.until_sent(3)
    await chain.mine()
    await task
    assert chain.sent[2].nonce == 0


async def test_a_fee_that_is_too_low_rises(chain: FakeChain, sender: TransactionSender) -> None:
    task = start(sender.send_call(TO, b"data"))
    await chain.until_sent(1)
    chain.base_fee = 5_000
    await chain.mine()
    await chain.until_sent(2)
    await chain.mine()
    result = await task
    old, new = chain.sent
    assert (new.nonce, new.to, new.gas_limit) == (old.nonce, old.to, old.gas_limit)
    assert new.max_fee_per_gas >= 2 * 5_000
    assert new.max_priority_fee_per_gas * 100 >= old.max_priority_fee_per_gas * 110
    assert result.transaction == new.hash


async def test_the_former_version_may_win(chain: FakeChain, sender: TransactionSender) -> None:
    task = start(sender.send_call(TO, b"data"))
    await chain.until_sent(1)
    former = chain.sent[0]
    chain.present_tip = 50
    chain.base_fee = 5_000
    await chain.mine()
    await chain.until_sent(2)
    chain.base_fee = 1_000
    chain.waiting[former.sender, former.nonce] = former
    await chain.mine()
    assert (await task).transaction == former.hash


async def test_what_stays_without_a_block_pays_more_in_the_end(
    chain: FakeChain, sender: TransactionSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = start(sender.send_call(TO, b"data"))
    await chain.until_sent(1)
    # Blocks pass it by although it pays enough.
    monkeypatch.setattr(chain, "_in_order", list)
    await chain.mine(sending.STUCK_BLOCKS)
    await chain.until_sent(2)
    monkeypatch.undo()
    await chain.mine()
    assert (await task).transaction == chain.sent[1].hash


async def test_fees_rise_only_so_far(
    chain: FakeChain, sender: TransactionSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = start(sender.send_call(TO, b"data"))
    await chain.until_sent(1)
    monkeypatch.setattr(chain, "_in_order", list)
    for bump in range(1, sending.BUMPS_MAX + 1):
        await chain.mine(sending.STUCK_BLOCKS)
        await chain.until_sent(1 + bump)
    for _ in range(3):
        await chain.mine(sending.STUCK_BLOCKS)
        await chain.until_watched()
    assert len(chain.sent) == 1 + sending.BUMPS_MAX
    assert chain.sent[-1].max_fee_per_gas < 20 * chain.sent[0].max_fee_per_gas
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_after_a_restart_the_chain_says_which_nonce_is_next(chain: FakeChain) -> None:
    first = start(TransactionSender(chain, KEY).send_call(TO, b"first"))
    await chain.until_sent(1)
    first.cancel()
    second = start(TransactionSender(chain, KEY).send_call(TO, b"second"))
    await chain.until_sent(2)
    await chain.mine()
    await second
    assert [tx.nonce for tx in chain.sent] == [0, 1]


async def test_a_nonce_that_somebody_else_took_is_replaced(
    chain: FakeChain, sender: TransactionSender
) -> None:
    other = start(TransactionSender(chain, KEY).send_call(TO, b"other"))
    await chain.until_sent(1)
    await chain.mine()
    await other
    # The node has not seen that block when it is asked.
    chain.lying_nonces = [0, 0]
    task = start(sender.send_call(TO, b"data"))
    await chain.until_sent(2)
    await chain.mine()
    await task
    assert chain.sent[1].nonce == 1


async def test_a_call_whose_answer_was_lost_is_not_made_twice(
    chain: FakeChain, sender: TransactionSender
) -> None:
    chain.loses_answer = True
    assert (await sender.send_call(TO, b"once")).ok
    await chain.mine(3)
    assert [tx.nonce for block in chain.blocks for tx in block] == [0]


async def test_what_was_sent_before_a_restart_may_take_the_nonce_after_all(
    chain: FakeChain, sender: TransactionSender
) -> None:
    elsewhere = FakeChain()
    before = start(TransactionSender(elsewhere, KEY).send_call(TO, b"before"))
    await elsewhere.until_sent(1)
    before.cancel()
    # This node has forgotten it, but not the others: one of them makes the block.
    task = start(sender.send_call(TO, b"after"))
    await chain.until_sent(1)
    chain.waiting.clear()
    async with chain.changed:
        chain.blocks.append(elsewhere.sent)
        chain.changed.notify_all()
    blocks = len(chain.blocks)
    async with asyncio.timeout(10):
        while not task.done():
            await chain.mine()
            await asyncio.sleep(0.01)
    # At once, not when it would be taken for stuck: time for the same call under another nonce may be short.
    assert len(chain.blocks) - blocks <= 2 < STUCK_BLOCKS
    with pytest.raises(TransactionRefused, match="has taken its nonce"):
        await task
    assert len(chain.blocks) < 20


async def test_a_node_may_be_away_for_a_while(chain: FakeChain, sender: TransactionSender) -> None:
    chain.down = True
    task = start(sender.send_call(TO, b"data"))
    await asyncio.sleep(0.01)
    chain.down = False
    await chain.until_sent(1)
    chain.down = True
    await chain.mine()
    await asyncio.sleep(0.01)
    assert not task.done()
    chain.down = False
    assert (await task).ok


async def test_time_runs_out(chain: FakeChain, sender: TransactionSender) -> None:
    chain.down = True
    with pytest.raises(TransactionOverdue, match="the node does not answer: connection refused"):
        await sender.send_call(TO, b"data", timeout_seconds=0.05)
    chain.down = False
    with pytest.raises(TransactionOverdue, match=r"\(nonce 0\) is in no block in time"):
        await sender.send_call(TO, b"data", timeout_seconds=0.05)
    # It may still come; the next one stands behind it.
    task = start(sender.send_call(TO, b"more"))
    await chain.until_sent(2)
    await chain.mine()
    await task
    assert [tx.nonce for tx in chain.blocks[0]] == [0, 1]


async def test_a_node_that_hangs_does_not_hold_the_others_for_ever(
    chain: FakeChain, sender: TransactionSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(raw: bytes) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(chain, "send", hang)
    tasks = [start(sender.send_call(TO, b"data", timeout_seconds=0.05)) for _ in range(3)]
    for task in tasks:
        with pytest.raises(TransactionOverdue):
            await task


async def test_only_so_many_are_remembered(
    chain: FakeChain, sender: TransactionSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "KEPT_MAX", 3)
    for number in range(6):
        task = start(sender.send_call(TO, b"data"))
        await chain.until_sent(number + 1)
        await chain.mine()
        await task
    assert len(sender._kept) <= 4


async def test_a_job_is_opened_on_a_real_chain(tmp_path: Path) -> None:
    market = Market.start(tmp_path / "engine")
    try:
        access: ChainAccess = EngineAccess(market)
        sender = TransactionSender(access, key_of(REQUESTER))
        data = calls.open_call(
            program_id=PINNED,
            details_hash=DETAILS,
            session_key=SESSION.address,
            max_price=100,
            miners=3,
            replicas=2,
            public=True,
            share=10,
        )
        result = await sender.send_call(JOB_MARKET, data, 30)
        [opened] = [calls.decode_event(log) for log in result.logs]
        assert opened == calls.Opened(1, sender.address, PINNED, DETAILS, 30)
        with pytest.raises(CallReverted, match="the budget does not cover the shares"):
            await sender.send_call(JOB_MARKET, data, 29)
        with pytest.raises(TransactionReverted, match="the budget does not cover the shares"):
            await sender.send_call(JOB_MARKET, data, 29, gas=300_000)
    finally:
        market.network.engine.close()


def test_an_absent_node_is_no_refusal() -> None:
    assert not issubclass(NodeAway, TransactionRefused | CallReverted)
