"""The future of a call that miners run: a result, and everything that shows where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any, Protocol, TypeVar

from noria.client.receipt_files import JobReceipt
from noria.market.requester.evidence import Settled
from noria.market.requester.units import WorkUnit
from noria.primitives.types import Wei
from noria.work.results import printable
from noria.work.workers import Outcome

T = TypeVar("T")


class UnitKeeper(Protocol):
    """The part of a session that a future needs."""

    def stop_unit(self, unit: WorkUnit) -> None:
        """Let nobody run a unit any more; its `failed` is told `CancelledError` unless it has ended."""


class NetworkFuture(Future[T]):
    """What `Executor.submit` returns: a `concurrent.futures.Future` with receipts.

    `result`, `exception`, `cancel` and the rest behave as in the standard library; `stop` cancels even a call
    that runs. The attributes below are there once the call has ended, with a result or an exception; before,
    and after a call that never ran to an end, they raise `concurrent.futures.InvalidStateError`.
    """

    def __init__(self, name: str, conclude: Callable[[Outcome], T]) -> None:
        super().__init__()
        self._name = name
        self._conclude: Callable[[Outcome], T] | None = conclude
        self._settled: Settled | None = None
        self._earlier_cost = 0
        self._is_stopping = False
        self._is_announced = False
        # Set by the executor, before anybody else has the future.
        self.keeper: UnitKeeper | None = None
        self.unit: WorkUnit | None = None

    @property
    def receipt(self) -> JobReceipt:
        """The claims of all miners that ran the call, signed; it can be saved and checked without a node."""
        return JobReceipt(self._name, self._known())

    @property
    def log(self) -> str:
        """What the function printed, cut at 64 KiB; control characters are written out."""
        return printable(self._known().log.decode("utf-8", errors="replace"))

    @property
    def fuel(self) -> int:
        """Fuel that the call burned, as each of its miners was paid for."""
        return self._known().fuel

    @property
    def cost(self) -> Wei:
        """Wei that the call cost, of all miners together and with attempts that ran out of fuel."""
        return Wei(self._known().cost + self._earlier_cost)

    @property
    def seconds(self) -> float:
        """From the moment at which the first miner was given the call to its result."""
        return self._known().seconds

    def cancel(self) -> bool:
        """Cancel the call if no miner has it yet, as the standard library does.

        Returns
        -------
        bool
            Whether it is cancelled. False if it runs, which only `stop` ends, or has ended.
        """
        cancelled = super().cancel()
        if cancelled:
            self._let_go()
        return cancelled

    def stop(self) -> bool:
        """Cancel the call even if it runs: miners stop and charge nothing for what has not ended.

        Returns
        -------
        bool
            Whether it is, or is about to be, cancelled. False if it has ended.
        """
        if self.cancel():
            return True
        if self.done():
            return self.cancelled()
        self._is_stopping = True
        self._let_go()
        return True

    def cancelled(self) -> bool:
        """Whether the call was cancelled before it ran, or stopped while it did."""
        if super().cancelled():
            return True
        return self._is_stopping and self.done() and isinstance(super().exception(), CancelledError)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception, as the standard library does; that of a stopped call is raised."""
        error = super().exception(timeout)
        if isinstance(error, CancelledError) and self._is_stopping:
            raise error
        return error

    def _let_go(self) -> None:
        if self.keeper is not None and self.unit is not None:
            self.keeper.stop_unit(self.unit)

    # ------------------------------------------------------------ for the executor alone

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called before the call had ended."""
        return self._is_stopping

    def begin(self) -> bool:
        """Note that miners are about to get it; tell whether it is still wanted."""
        if self._is_announced:
            return not super().cancelled()
        self._is_announced = True
        return self.set_running_or_notify_cancel()

    def charge(self, settled: Settled) -> None:
        """Count an attempt that is made again with more fuel."""
        self._earlier_cost += settled.cost

    def settle(self, settled: Settled) -> None:
        """Make the result."""
        conclude, self._conclude = self._conclude, None
        self.unit = self.keeper = None
        if conclude is None or self.done():
            return
        self._settled = settled
        outcome = Outcome(settled.status, settled.output, settled.log, settled.fuel, settled.seconds)
        try:
            result = conclude(outcome)
        except Exception as error:
            # Frames of this package would tell nobody anything.
            self.set_exception(error.with_traceback(None))
        else:
            self.set_result(result)

    def fail(self, error: BaseException) -> None:
        """End without a result."""
        self.unit = self.keeper = self._conclude = None
        if not self._is_announced:
            # Whoever waits for a cancelled call is told only here.
            self.begin()
        if not self.done():
            self.set_exception(error)

    def _known(self) -> Settled:
        if self._settled is not None:
            return self._settled
        if not self.done():
            raise InvalidStateError("the call has not ended yet; wait for result() first")
        raise InvalidStateError("the call never ran to an end, so there is nothing to tell of it")


AnyNetworkFuture = NetworkFuture[Any]
