"""`ProgramExecutor`: a WebAssembly program on miners' machines, from stdin to stdout, every output checked.

::

    from noria import ProgramExecutor

    with ProgramExecutor("words.wasm", budget="2 NOR") as executor:
        for output in executor.map_inputs(texts):
            print(output)

`docs/programs.md` tells what a program may be.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Literal, Self, Unpack

from noria.client.errors import program_failure
from noria.client.estimate import Estimate, Spread
from noria.client.executor_settings import JobOptions, amount_of, settings_of
from noria.client.job_front import FUEL_LIMIT_LONG, WINDOW, JobFront, UnitsWithoutWeight, console_for
from noria.client.mapping import MapRun
from noria.client.network_estimate import NetworkEstimate
from noria.client.network_futures import NetworkFuture
from noria.client.programs import Program, given_program
from noria.market.messages import BLOB_BYTES_MAX
from noria.market.requester.reasons import JobView
from noria.market.requester.units import Part, make_part
from noria.work.folders import compiled_folder
from noria.work.ids import ProgramId
from noria.work.receipts import Status
from noria.work.workers import InputTooLarge, Outcome, WorkerPool

__all__ = ["ProgramExecutor"]


class ProgramExecutor:
    """Runs a WASI command on miners' machines: each input is a unit, its result what the program writes.

    Parameters
    ----------
    program
        Path or bytes of the module; or the id of a program that the chain pins, as 32 bytes or as ``"0x…"``.
        A module that miners do not have is brought to each of them once.
    budget
        Most that all units together may cost: ``"2 NOR"``, or wei as an integer. What is not used comes back.
    progress
        Whether to show a bar, and a summary at the end; in terminals and notebooks if left out.
    options
        As `noria.Executor` has them: ``node``, ``replicas``, ``confidence``, ``max_price`` and so on.

    Raises
    ------
    InvalidProgram
        If the sandbox refuses the module; the message says why.
    ProgramUnknown, ProgramTooLarge
        If the chain does not pin the id, or no miner takes so long a module.
    ValueError
        If a number makes no sense.
    NoNode
        If no node answers.
    WalletError, ChainAccessError
        If there is no wallet, or the node is none.
    """

    def __init__(
        self,
        program: Program,
        budget: str | int = "2 NOR",
        *,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        console = console_for(progress)
        given = given_program(program)
        options.setdefault("title", given.name)
        settings = settings_of(budget, options, program=given, tells_waits=console is None)
        self.choice = settings.choice
        self._name = given.name
        self._fuel_limit = options.get("fuel_limit")
        self._front = JobFront(settings, self._fuel_limit, console)
        self._session = self._front.session
        self.job = self._front.job
        try:
            if settings.choice.sample and self._session.program.source is None:
                raise ValueError("sample runs units here, where the program is not: name the module's file")
            if not self._session.program.is_pinned:
                warnings.warn(
                    f"the chain does not pin program {given.name}: miners are paid for its units, but earn "
                    "no weight by them, so that fewer may take them",
                    UnitsWithoutWeight,
                    stacklevel=2,
                )
        except BaseException:
            self.shutdown()
            raise

    @property
    def program(self) -> ProgramId:
        """The program of all units."""
        return self._session.program.id

    @property
    def royalty(self) -> int:
        """What the program's developer asks now, wei per fuel, beside what miners do; 0 for nothing."""
        return self._session.royalty()

    def submit_input(self, data: bytes) -> NetworkFuture[bytes]:
        """Schedule one unit.

        Parameters
        ----------
        data
            What the program reads from stdin.

        Returns
        -------
        NetworkFuture
            Of what it writes to stdout. A unit that does not end well raises one of `noria.client.errors`.

        Raises
        ------
        InputTooLarge
            If no miner takes so long an input.
        RuntimeError
            After `shutdown`.
        """
        self._front.check_open()
        return self._start(data)

    def map_inputs(
        self, inputs: Iterable[bytes], *, timeout: float | None = None, buffersize: int | None = None
    ) -> Iterator[bytes]:
        """Return the outputs for the inputs, in order.

        Units begin at once. Inputs are taken as units end, so that there may be more than fit into memory; a
        caller that stops taking outputs, or takes none in time, stops the units that are left.

        Parameters
        ----------
        inputs
            One for each unit.
        timeout
            Seconds from now, after which `TimeoutError` is raised where an output is still missing.
        buffersize
            Most units of which the output has not been taken; 512 if left out.

        Raises
        ------
        ValueError
            If the size is below 1.
        RuntimeError
            After `shutdown`.
        """
        self._front.check_open()
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be >= 1.")
        run: MapRun[bytes, bytes] = MapRun(
            lambda data: self._start(data, is_own=True),
            iter(inputs),
            buffersize or WINDOW,
            lambda _: None,
            is_lazy=True,
        )
        self._front.runs.add(run)
        return run.results(timeout)

    def estimate(self, sample: Iterable[bytes]) -> NetworkEstimate:
        """Run inputs on this machine, and tell what a unit takes and costs, royalty included.

        Parameters
        ----------
        sample
            Inputs that stand for all.

        Raises
        ------
        ValueError
            If the sample is empty, or the module is not on this machine.
        UnitFailed
            If a unit does not end well.
        """
        source = self._session.program.source
        if source is None:
            raise ValueError("an estimate runs units here, where the program is not: name the module's file")
        limit = self._fuel_limit or FUEL_LIMIT_LONG
        workers = len(os.sched_getaffinity(0))
        with WorkerPool(workers, cache=compiled_folder()) as pool:
            outcomes = [unit.result() for unit in [pool.submit(source, data, limit) for data in sample]]
        if not outcomes:
            raise ValueError("the sample is empty: give some inputs that stand for all")
        for outcome in outcomes:
            self._conclude(outcome)
        local = Estimate(
            function=self._name,
            calls=len(outcomes),
            fuel=Spread.of([outcome.fuel for outcome in outcomes]),
            seconds=Spread.of([outcome.seconds for outcome in outcomes]),
            workers=workers,
        )
        return NetworkEstimate(
            local=local,
            price=self._session.usual_price(),
            replicas=self.choice.replicas,
            workers=sum(place.workers for place in self.stats().places),
        )

    def stats(self) -> JobView:
        """Return what has been done so far: units, fuel, money, places."""
        return self._session.view()

    def top_up(self, amount: str | int) -> None:
        """Add to the budget, as `noria.Executor.top_up` does."""
        self._session.top_up(amount_of("amount", amount))

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, stop_running: bool = False
    ) -> None:
        """Take no more units, and close the job when those that are there have ended.

        Parameters
        ----------
        wait
            Return when all of this is done.
        cancel_futures
            Cancel the units that no miner has yet.
        stop_running
            Stop those that run, too: miners charge nothing for what has not ended.
        """
        self._front.shutdown(wait=wait, cancel_futures=cancel_futures, stop_running=stop_running)

    def __enter__(self) -> Self:
        """Return the executor."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> Literal[False]:
        """Shut down: at once after Ctrl-C and the like, otherwise after the last unit."""
        self.shutdown(stop_running=kind is not None and not issubclass(kind, Exception))
        return False

    # ------------------------------------------------------------ inside

    def _start(self, data: bytes, *, is_own: bool = False) -> NetworkFuture[bytes]:
        def make() -> tuple[NetworkFuture[bytes], tuple[Part, ...]]:
            if len(data) > BLOB_BYTES_MAX:
                raise InputTooLarge(
                    f"an input of {len(data):,} bytes; miners take at most {BLOB_BYTES_MAX:,}: split the work"
                )
            return NetworkFuture(self._name, self._conclude), (make_part(bytes(data)),)

        return self._front.start(make, is_own=is_own)

    def _conclude(self, outcome: Outcome) -> bytes:
        if outcome.status != Status.OK:
            raise program_failure(self._name, outcome.status, outcome.fuel, outcome.seconds, outcome.log)
        return outcome.output
