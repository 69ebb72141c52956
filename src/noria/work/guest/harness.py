"""One call of a user's function: archive on stdin, encoded outcome on stdout, the rest in the log.

The Python runtime's snapshot is taken after this module has been imported; a unit then begins with `main`.
"""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType
from typing import Any

from . import container
from .container import ARGUMENTS_TAG, FUNCTION_TAG, MalformedArchive, Raised, pack_raised, parse_part, split
from .decoder import MalformedValue
from .encoder import encode
from .kinds import UnencodableValue, short
from .loader import Program

MAX_TRACEBACK = 32 << 10
"""Characters of a traceback that go back; the middle of a longer one is left out."""

MAX_EXCEPTION_BYTES = 1 << 20
"""Longest encoding of an exception's arguments or attributes."""

STATUS_RAN = 0
"""The function returned or raised, and the output says which."""

STATUS_BAD_INPUT = 2
"""The input is not an archive; the log says why."""


def main() -> int:
    """Run the archive on file descriptor 0 and return the exit status."""
    archive = read_all(0)
    if "random" in sys.modules:
        # The snapshot would otherwise give every unit the same numbers: the system's are bound to the unit.
        sys.modules["random"].seed(os.urandom(32))
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        output = run(archive)
    except (MalformedArchive, MalformedValue) as error:
        print(f"noria: {error}", file=sys.stderr)
        return STATUS_BAD_INPUT
    finally:
        sys.stdout = stdout
        flush()
    write_all(1, output)
    return STATUS_RAN


def run(archive: bytes) -> bytes:
    """Run an archive and return the output.

    Raises
    ------
    MalformedArchive, MalformedValue
        If `archive` is not an archive.
    """
    function, arguments = split(archive)
    steps, entry = parse_part(function, FUNCTION_TAG)
    more, call = parse_part(arguments, ARGUMENTS_TAG, len(steps))
    del archive, function, arguments
    program = Program()
    try:
        program.run(steps)
        callee = program.value(entry)
        program.run(more)
        positional, named = program.value(call)
        value = callee(*positional, **named)
        return container.OUTPUT_MAGIC + b"V" + encode(value, path="result", class_name=program.class_name)
    except (MalformedArchive, MalformedValue):
        raise
    except BaseException as error:
        # Whatever it is, it is a result of the user's program: a SystemExit must not pass for success.
        value = positional = named = None
        return pack_raised(describe(error, program))


def describe(error: BaseException, program: Program) -> Raised:
    """Take an exception apart for the way back."""
    kind = type(error)
    name = f"{kind.__module__}:{kind.__qualname__}"
    given: tuple[Any, ...] = error.args
    attributes = {key: value for key, value in vars(error).items() if key != "__notes__"}
    if kind is UnencodableValue:
        name, given, attributes = "noria:UnencodableValue", (error.reason, error.remedy, error.path), {}  # type: ignore[attr-defined]
    notes = getattr(error, "__notes__", None)
    return Raised(
        name,
        message_of(error),
        encoded(given, program),
        encoded(attributes, program),
        tuple(note for note in notes if type(note) is str) if type(notes) is list else (),
        formatted(error, program),
    )


def encoded(value: object, program: Program) -> bytes | None:
    """Encode a part of an exception, if it has an encoding."""
    try:
        return encode(value, class_name=program.class_name, limit=MAX_EXCEPTION_BYTES)
    except Exception:
        return None


def message_of(error: BaseException) -> str:
    """Return the text of an exception, whose own code may fail."""
    try:
        return cut(str(error))
    except Exception as failure:
        return f"<no message: {type(failure).__name__} in __str__>"


def formatted(error: BaseException, program: Program) -> str:
    """Format the traceback without the harness's own frames."""
    try:
        program.show_sources()
        shown = traceback.TracebackException(type(error), error, users_frames(error.__traceback__))
        return cut("".join(shown.format()))
    except Exception as failure:
        return f"{short(error)} <no traceback: {type(failure).__name__}>\n"


def users_frames(frames: TracebackType | None) -> TracebackType | None:
    """Leave out the outermost frames, which are those of this package."""
    while frames is not None and frames.tb_frame.f_globals.get("__package__") == __package__:
        frames = frames.tb_next
    return frames


def cut(text: str) -> str:
    """Leave out the middle of a long text."""
    if len(text) <= MAX_TRACEBACK:
        return text
    half = MAX_TRACEBACK // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def flush() -> None:
    """Send what is buffered of the log on its way."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        return


def read_all(descriptor: int) -> bytes:
    """Read to the end, at most one byte more than an archive may have."""
    pieces: list[bytes] = []
    left = container.MAX_ARCHIVE_BYTES + 1
    while left > 0:
        piece = os.read(descriptor, min(left, 1 << 20))
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
