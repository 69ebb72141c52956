from __future__ import annotations

import asyncio
from typing import cast

import pytest

from noria._core import Header
from noria.chain.events import Events, HeadEvent
from noria.primitives.subscriptions import SubscriptionClosed


def head_event(name: bytes) -> HeadEvent:
    return HeadEvent([name], [], cast(Header, None))


async def test_every_subscriber_sees_every_event_in_order() -> None:
    events = Events()
    first, second = events.subscribe_heads(), events.subscribe_heads()
    told = [head_event(bytes([index])) for index in range(5)]
    for event in told[:3]:
        events.heads.publish(event)
    assert [await first.get() for _ in range(3)] == told[:3]
    late = events.subscribe_heads()
    for event in told[3:]:
        events.heads.publish(event)
    assert [await second.get() for _ in range(5)] == told
    assert [await late.get() for _ in range(2)] == told[3:]


async def test_get_waits_for_the_next_event() -> None:
    events = Events()
    async with events.subscribe_heads() as heads:
        waiting = asyncio.ensure_future(heads.get())
        await asyncio.sleep(0)
        assert not waiting.done()
        event = head_event(b"a")
        events.heads.publish(event)
        assert await waiting is event


async def test_a_slow_subscriber_is_dropped_by_name_and_others_are_not() -> None:
    events = Events()
    slow, quick = events.subscribe_heads(capacity=2), events.subscribe_heads(capacity=10)
    for index in range(3):
        events.heads.publish(head_event(bytes([index])))
    assert slow.closed == "slow-subscriber"
    assert len(events.heads) == 1
    with pytest.raises(SubscriptionClosed) as caught:
        await slow.get()
    assert caught.value.reason == "slow-subscriber"
    assert [(await quick.get()).removed for _ in range(3)] == [[b"\0"], [b"\1"], [b"\2"]]
    with pytest.raises(SubscriptionClosed):
        async for _ in slow:
            pass


async def test_iteration_ends_with_the_chain() -> None:
    events = Events()
    pending = events.subscribe_heads()
    events.heads.publish(head_event(b"last"))
    events.close()
    assert [event.removed async for event in pending] == [[b"last"]]
    assert pending.closed == "chain-stopped"
    with pytest.raises(SubscriptionClosed, match="chain-stopped"):
        await pending.get()


async def test_close_wakes_who_waits() -> None:
    events = Events()
    pending = events.subscribe_pending()
    waiting = asyncio.ensure_future(pending.get())
    await asyncio.sleep(0)
    events.close()
    with pytest.raises(SubscriptionClosed):
        await waiting


async def test_leaving_the_context_unsubscribes() -> None:
    events = Events()
    async with events.subscribe_pending() as pending:
        assert len(events.pending) == 1
    assert len(events.pending) == 0
    assert pending.closed == "unsubscribed"
