"""The future of a call: a result, and what is known of the unit that brought it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import InvalidStateError
from typing import Final, TypeVar

from noria.primitives.types import ZERO_ADDRESS, ZERO_HASH
from noria.work.receipts import Receipt
from noria.work.results import printable
from noria.work.workers import Outcome, ProgramSource, UnitFuture, UnitRecord

T = TypeVar("T")

LOCAL_JOB: Final = 0
"""Number of no job on any chain."""


class CallFuture(UnitFuture[T]):
    """What `LocalExecutor.submit` returns: a `concurrent.futures.Future` with a receipt.

    `result`, `exception`, `cancel` and the rest behave as in the standard library; `stop` cancels even a call
    that runs. The attributes below are there once the call has ended, with a result or an exception; before,
    and after a call that never ran to an end, they raise `concurrent.futures.InvalidStateError`.

    Parameters
    ----------
    program, input, fuel_limit, conclude
        As for `UnitFuture`.
    index
        Which of the executor's calls this is, from 0.
    """

    def __init__(
        self,
        program: ProgramSource,
        input: bytes,
        fuel_limit: int,
        conclude: Callable[[Outcome], T],
        index: int,
    ) -> None:
        super().__init__(program, input, fuel_limit, conclude)
        self._index = index

    @property
    def receipt(self) -> Receipt:
        """The receipt of the unit.

        Chain, job and miner are zero: nobody ordered the work and nobody is paid for it, so that it weighs
        nothing either. The index counts the executor's calls. What remains is what a miner would claim.
        """
        record = self._known()
        return Receipt(
            genesis_root=ZERO_HASH,
            job=LOCAL_JOB,
            k=0,
            miner=ZERO_ADDRESS,
            index=self._index,
            unit_id=record.unit_id,
            output_id=record.output_id,
            status=record.status,
            fuel=record.fuel,
            weight=0,
        )

    @property
    def log(self) -> str:
        """What the function printed, cut at 64 KiB; control characters are written out."""
        return printable(self._known().log.decode("utf-8", errors="replace"))

    @property
    def fuel(self) -> int:
        """Fuel that the call burned."""
        return self._known().fuel

    @property
    def seconds(self) -> float:
        """How long the call ran on this machine."""
        return self._known().seconds

    def _known(self) -> UnitRecord:
        if self.record is not None:
            return self.record
        if not self.done():
            raise InvalidStateError("the call has not ended yet; wait for result() first")
        raise InvalidStateError("the call never ran to an end, so there is nothing to tell of it")
