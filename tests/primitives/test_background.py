"""Tasks that end with their loop."""

from __future__ import annotations

import asyncio

from noria.primitives.background import cancel_all


def test_what_is_begun_while_ending_is_ended_too() -> None:
    loop = asyncio.new_event_loop()
    told: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append("second")

    async def reconnects() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append("first")
            kept.append(loop.create_task(waits()))
            await asyncio.sleep(0)

    kept = [loop.create_task(reconnects())]
    loop.run_until_complete(asyncio.sleep(0))
    cancel_all(loop)
    assert told == ["first", "second"]
    assert all(task.cancelled() for task in kept)
    cancel_all(loop)
    loop.close()
