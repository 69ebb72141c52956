"""When a development chain makes blocks, and what its proposer decides about them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from noria._core import BlockAttributes, Header, blake3
from noria.execution.system_contracts import block_start_calls

RANDAO_TAG: Final = b"noria/randao/1"
DEV_FEE_RECIPIENT: Final = blake3(b"noria/dev/fee-recipient/1")[:20]
"""Receives tips on a development chain; nobody holds its key."""
_PAUSE_FIRST_SECONDS: Final = 0.1
_PAUSE_LAST_SECONDS: Final = 30.0

_log = structlog.get_logger(__name__)


def dev_attributes(
    parent: Header, *, timestamp: int, gas_limit: int, fee_recipient: bytes = DEV_FEE_RECIPIENT
) -> BlockAttributes:
    """Return what the only proposer of a development chain decides about the child of ``parent``.

    Its prevRandao follows from the parent's, because there is no lottery: ``H("noria/randao/1" ‖ parent's ‖
    number)`` with BLAKE3 and the number in 8 bytes. The parent beacon block root, which tools expect to be
    some hash that names the parent, is the BLAKE3 of the parent's hash.

    Parameters
    ----------
    timestamp
        Unix seconds, later than the parent's.
    gas_limit
        Of the block.
    """
    prev_randao = blake3(RANDAO_TAG + parent.prev_randao + (parent.number + 1).to_bytes(8, "big"))
    return BlockAttributes(
        timestamp=timestamp,
        fee_recipient=fee_recipient,
        prev_randao=prev_randao,
        parent_beacon_block_root=blake3(parent.hash),
        gas_limit=gas_limit,
        system_calls=block_start_calls(prev_randao),
    )


class Automine:
    """Makes a block as soon as there is something to put into it.

    Whatever arrives while a block is being made goes into the next one. A build that achieves nothing is
    repeated after a pause, which grows, so that a persistent cause does not use up the machine.

    Parameters
    ----------
    produce
        Makes one block; returns whether it achieved anything. Raises what went wrong.
    """

    def __init__(self, produce: Callable[[], Awaitable[bool]]) -> None:
        self._produce = produce
        self._work = asyncio.Event()

    def wake(self) -> None:
        """Tell that there may be transactions to mine."""
        self._work.set()

    async def run(self) -> None:
        """Make blocks until cancelled."""
        pause = 0.0
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                progress = await self._produce()
            except Exception as error:
                progress = False
                _log.error("block_production_failed", error=str(error), kind=type(error).__name__)
            if progress:
                pause = 0.0
                continue
            pause = min(max(2 * pause, _PAUSE_FIRST_SECONDS), _PAUSE_LAST_SECONDS)
            await asyncio.sleep(pause)
            self._work.set()


class IntervalMining:
    """Makes a block at a fixed pace, empty or not.

    Parameters
    ----------
    produce
        Makes one block. Raises what went wrong.
    period_seconds
        Time from block to block.
    """

    def __init__(self, produce: Callable[[], Awaitable[object]], period_seconds: float) -> None:
        if not 0 < period_seconds <= 86_400:
            raise ValueError(f"block time {period_seconds:g} s is not within 0 and 86400 s")
        self._produce = produce
        self._period = period_seconds

    def wake(self) -> None:
        """Do nothing: blocks come when it is time."""

    async def run(self) -> None:
        """Make blocks until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._period
        while True:
            await asyncio.sleep(due - loop.time())
            try:
                await self._produce()
            except Exception as error:
                _log.error("block_production_failed", error=str(error), kind=type(error).__name__)
            # After a long build the next block is due a whole period later, not several at once.
            due = max(due + self._period, loop.time())
