"""The threads behind the server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from noria.rpc.errors import RpcError
from noria.rpc.workers import Workers


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    pool = Workers(threads=2, max_waiting=4)
    pool.start()
    yield pool
    await pool.stop(5)


async def test_result_comes_back(workers: Workers) -> None:
    assert await workers.run(divmod, 7, 2) == (3, 1)
    assert await workers.run(threading.get_ident) != threading.get_ident()


async def test_keyword_arguments(workers: Workers) -> None:
    assert await workers.run(int, "ff", base=16) == 255


async def test_exception_comes_back(workers: Workers) -> None:
    with pytest.raises(ZeroDivisionError):
        await workers.run(divmod, 1, 0)
    assert await workers.run(divmod, 1, 1) == (1, 0)


async def test_many_at_once() -> None:
    pool = Workers(threads=2, max_waiting=1_000)
    pool.start()
    assert await asyncio.gather(*(pool.run(abs, -number) for number in range(1_000))) == list(range(1_000))
    await pool.stop(5)


async def test_short_call_does_not_wait_for_a_long_one(workers: Workers) -> None:
    go_on = threading.Event()
    long = asyncio.create_task(workers.run(go_on.wait, 30))
    assert await asyncio.wait_for(workers.run(abs, -1), 10) == 1
    assert not long.done()
    go_on.set()
    assert await long


async def test_too_many_waiting(workers: Workers) -> None:
    go_on = threading.Event()
    waiting = [asyncio.create_task(workers.run(go_on.wait, 30)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(RpcError, match="server busy") as refused:
        await workers.run(abs, -1)
    assert refused.value.code == -32005
    go_on.set()
    assert await asyncio.gather(*waiting) == [True] * 4
    assert await workers.run(abs, -1) == 1


async def test_cancelled_caller_frees_its_place(workers: Workers) -> None:
    go_on = threading.Event()
    waiting = [asyncio.create_task(workers.run(go_on.wait, 30)) for _ in range(4)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    go_on.set()
    assert await workers.run(abs, -1) == 1


async def test_stop_cancels_what_waits() -> None:
    pool = Workers(threads=1, max_waiting=10)
    pool.start()
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> str:
        begun.set()
        go_on.wait(30)
        return "done"

    first = asyncio.create_task(pool.run(hold))
    await asyncio.to_thread(begun.wait, 30)
    second = asyncio.create_task(pool.run(hold))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(pool.stop(30))
    with pytest.raises(asyncio.CancelledError):
        await second
    go_on.set()
    await stopping
    assert await first == "done"


async def test_stop_leaves_a_stuck_call_behind() -> None:
    pool = Workers(threads=1, max_waiting=10)
    pool.start()
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(30)

    stuck = asyncio.create_task(pool.run(hold))
    await asyncio.to_thread(begun.wait, 30)
    await pool.stop(0.01)
    assert not stuck.done()
    go_on.set()
    await stuck


async def test_must_be_running() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        await Workers(1, 1).run(abs, 1)
