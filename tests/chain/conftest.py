"""A chain on the real engine, with a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from noria._core import Engine
from noria.chain.service import Chain
from noria.execution.spec import ChainSpec

MakeChain = Callable[..., Awaitable[Chain]]


class Wall:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def make_chain(engine: Engine, spec: ChainSpec, wall: Wall) -> AsyncIterator[MakeChain]:
    """Start chains on the test's engine, one after the other or at once, with any options."""
    async with AsyncExitStack() as stack:

        async def make(**options: Any) -> Chain:
            return await stack.enter_async_context(Chain(engine, spec, **{"clock": wall, **options}))

        yield make


@pytest.fixture
async def chain(make_chain: MakeChain) -> Chain:
    """A chain that makes blocks on demand only."""
    return await make_chain(automine=False)


@pytest.fixture
async def automining(make_chain: MakeChain) -> Chain:
    """A chain that makes blocks as soon as transactions are pending."""
    return await make_chain()
