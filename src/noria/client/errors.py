"""How a call can end other than by returning or raising: each by its own name."""

from __future__ import annotations

from typing import Final

from noria.work.receipts import Status
from noria.work.results import printable

LOG_LINES: Final = 5
"""Lines of the log that are shown with an error."""
LINE_LETTERS: Final = 150


class UnitFailed(Exception):
    """The sandbox ended a call. This is a result like any other, with a receipt; base of the errors below.

    Attributes
    ----------
    function
        Qualified name, or that of the program.
    status
        How it ended.
    fuel
        Fuel burned.
    log
        What it printed until then.
    """

    def __init__(self, message: str, function: str, status: Status, fuel: int, log: str) -> None:
        super().__init__(message)
        self.function = function
        self.status = status
        self.fuel = fuel
        self.log = log

    def __reduce__(self) -> tuple[object, ...]:
        """Let it travel between the user's own processes."""
        return type(self), (*self.args, self.function, self.status, self.fuel, self.log)


class OutOfFuel(UnitFailed):
    """The call burned all the fuel that it may."""


class StackLimitReached(UnitFailed):
    """The call was nested too deeply for the sandbox."""


class OutputLimitReached(UnitFailed):
    """The result is too long."""


class MemoryLimitReached(UnitFailed):
    """The program needs more memory at its start than there may be."""


class ProgramFailed(UnitFailed):
    """The interpreter itself could not go on; or a WebAssembly program ended with an error."""


KINDS: Final[dict[Status, type[UnitFailed]]] = {
    Status.OUT_OF_FUEL: OutOfFuel,
    Status.STACK_LIMIT: StackLimitReached,
    Status.OUTPUT_LIMIT: OutputLimitReached,
    Status.MEMORY_LIMIT: MemoryLimitReached,
}


def failure(function: str, status: Status, fuel: int, seconds: float, log: bytes) -> UnitFailed:
    """Return the error for a unit whose status is not ok.

    Parameters
    ----------
    function
        Qualified name.
    status, fuel, seconds, log
        Of the unit.

    Returns
    -------
    UnitFailed
        One of its kinds; the last lines of the log are its note.
    """
    text = printable(log.decode("utf-8", errors="replace"))
    lines = text.splitlines()
    last = lines[-1][:LINE_LETTERS] if lines else "it left no word"
    kind = KINDS.get(status, ProgramFailed)
    if status == Status.OUT_OF_FUEL:
        message = (
            f"{function} burned all of its {fuel:,} fuel in {seconds:.1f} seconds; does it end at all? If it "
            "only needs more, give LocalExecutor a larger fuel_limit, or split the work"
        )
    elif status == Status.STACK_LIMIT:
        message = f"{function} is nested too deeply for the sandbox; use a loop, or recurse less deeply"
    elif status == Status.OUTPUT_LIMIT:
        message = f"{function} returned more than 64 MiB; return less, or split the work"
    elif status == Status.MEMORY_LIMIT:
        message = f"the runtime of {function} needs more memory at its start than the sandbox gives"
    else:
        message = f"the interpreter ended within {function}: {last}"
    return _with_log(kind(message, function, status, fuel, text), lines)


def program_failure(program: str, status: Status, fuel: int, seconds: float, log: bytes) -> UnitFailed:
    """Return the error for a unit of a WebAssembly program whose status is not ok; see `failure`."""
    text = printable(log.decode("utf-8", errors="replace"))
    lines = text.splitlines()
    if status == Status.OUT_OF_FUEL:
        message = (
            f"{program} burned all of its {fuel:,} fuel in {seconds:.1f} seconds; does it end at all? If it "
            "only needs more, give a larger fuel_limit, or split the work"
        )
    elif status == Status.STACK_LIMIT:
        message = f"{program} nests its calls too deeply for the sandbox: look for a recursion without end"
    elif status == Status.OUTPUT_LIMIT:
        message = f"{program} wrote more than 64 MiB; write less, or split the work"
    elif status == Status.MEMORY_LIMIT:
        message = f"{program} begins with more memory or table entries than the sandbox gives"
    else:
        last = lines[-1][:LINE_LETTERS] if lines else "it left no word"
        message = f"{program} exited with an error, or did what WebAssembly forbids: {last}"
    return _with_log(KINDS.get(status, ProgramFailed)(message, program, status, fuel, text), lines)


def _with_log(error: UnitFailed, lines: list[str]) -> UnitFailed:
    if lines:
        shown = "\n".join(line[:LINE_LETTERS] for line in lines[-LOG_LINES:])
        error.add_note(f"The last lines that it printed:\n{shown}")
    return error
