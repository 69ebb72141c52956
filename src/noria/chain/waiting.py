"""Waiting until a transaction is mined."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from noria.chain.errors import TransactionNotMined
from noria.execution.rejections import Departure, RejectedTransaction


@dataclass(frozen=True, slots=True)
class TransactionLocation:
    """Where on the canonical chain a transaction stands."""

    block_hash: bytes
    block_number: int
    index: int


class Waiters:
    """Those who wait for transactions; each has a future of its own."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: dict[bytes, list[asyncio.Future[TransactionLocation]]] = {}

    def __len__(self) -> int:
        """Return the number of transactions waited for."""
        return len(self._futures)

    def __bool__(self) -> bool:
        """Return whether anybody waits."""
        return bool(self._futures)

    async def wait(self, tx_hash: bytes, timeout_seconds: float) -> TransactionLocation:
        """Wait for `mined`, `departed` or `failed`."""
        future: asyncio.Future[TransactionLocation] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(tx_hash, []).append(future)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await future
        except TimeoutError:
            raise TransactionNotMined(
                f"transaction 0x{tx_hash.hex()} was not mined within {timeout_seconds:g} s"
            ) from None
        finally:
            waiting = self._futures.get(tx_hash)
            if waiting is not None:
                waiting.remove(future)
                if not waiting:
                    del self._futures[tx_hash]

    def mined(self, block_hash: bytes, block_number: int, tx_hashes: Iterable[bytes]) -> None:
        """Tell those who wait for transactions of this block."""
        for index, tx_hash in enumerate(tx_hashes):
            for future in self._futures.get(tx_hash, ()):
                if not future.done():
                    future.set_result(TransactionLocation(block_hash, block_number, index))

    def departed(self, departure: Callable[[bytes], Departure | None]) -> None:
        """Tell those whose transaction has left the mempool; ``departure`` looks a hash up."""
        for tx_hash, futures in self._futures.items():
            left = departure(tx_hash)
            if left is not None:
                for future in futures:
                    if not future.done():
                        future.set_exception(RejectedTransaction(left.kind, left.message))

    def failed(self, error: Exception) -> None:
        """Tell all that no block can be made."""
        for futures in self._futures.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)
