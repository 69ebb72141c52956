"""A unit on its way through a pool: the future that its owner holds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from noria.work.ids import BlobId, UnitId, blob_id, unit_id
from noria.work.receipts import Status
from noria.work.worker_handle import Outcome, ProgramSource, WorkerProcess

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """What remains of a unit that ran, beside what its owner made of the output.

    Parameters
    ----------
    unit_id
        Program, input and fuel limit together.
    output_id
        Name of the output.
    status
        How it ended.
    fuel
        Fuel burned.
    seconds
        How long it ran here.
    log
        What it wrote to stderr, cut at 64 KiB.
    """

    unit_id: UnitId
    output_id: BlobId
    status: Status
    fuel: int
    seconds: float
    log: bytes


class Keeper(Protocol):
    """The part of a pool that a unit needs."""

    def forget(self, unit: UnitFuture[T]) -> None:
        """Take a cancelled unit out of the queue."""

    def stop(self, unit: UnitFuture[T]) -> bool:
        """End the worker that runs the unit."""


class UnitFuture(Future[T], Generic[T]):
    """Future of one unit, made by `WorkerPool.submit` and by what is built on it.

    Parameters
    ----------
    program, input, fuel_limit
        The unit.
    conclude
        Makes the future's result of the outcome, or raises its exception. Called in a thread of the pool.

    Attributes
    ----------
    record
        What is known of the unit once it has run; None before, and if it never did.
    """

    def __init__(
        self, program: ProgramSource, input: bytes, fuel_limit: int, conclude: Callable[[Outcome], T]
    ) -> None:
        super().__init__()
        self.program = program
        self.input = input
        self.fuel_limit = fuel_limit
        self.record: UnitRecord | None = None
        self.conclude: Callable[[Outcome], T] | None = conclude
        # Below, what the pool notes while it holds its lock.
        self.crew: Keeper | None = None
        self.is_queued = False
        self.is_stopping = False
        self.is_settled = False
        self.process: WorkerProcess | None = None

    def cancel(self) -> bool:
        """Cancel the unit if it has not begun, as the standard library does.

        Returns
        -------
        bool
            Whether it is cancelled. False if it runs, which only `stop` ends, or has ended.
        """
        cancelled = super().cancel()
        if cancelled and self.crew is not None:
            self.crew.forget(self)
        return cancelled

    def stop(self) -> bool:
        """Cancel the unit even if it runs: the process that runs it is ended, and another takes its place.

        Returns
        -------
        bool
            Whether it is, or is about to be, cancelled. False if it has ended.
        """
        return self.cancel() or (self.crew is not None and self.crew.stop(self))

    def cancelled(self) -> bool:
        """Whether the unit was cancelled before it ran, or stopped while it did."""
        return super().cancelled() or (self.is_stopping and self.done())

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception, as the standard library does; that of a stopped unit is raised."""
        error = super().exception(timeout)
        if isinstance(error, CancelledError) and self.is_stopping:
            raise error
        return error

    def settle(self, outcome: Outcome) -> None:
        """Make the result; for the pool alone."""
        conclude, self.conclude = self.conclude, None
        assert conclude is not None
        self.record = UnitRecord(
            unit_id=unit_id(self.program.id, blob_id(self.input), self.fuel_limit),
            output_id=blob_id(outcome.output),
            status=outcome.status,
            fuel=outcome.fuel,
            seconds=outcome.seconds,
            log=outcome.log,
        )
        self.input = b""
        try:
            result = conclude(outcome)
        except Exception as error:
            # The pool's own frames would tell nobody anything.
            self.set_exception(error.with_traceback(None))
        else:
            self.set_result(result)

    def fail(self, error: BaseException) -> None:
        """End without an outcome; for the pool alone."""
        self.input, self.conclude = b"", None
        self.set_exception(error)
