"""The input of a Python unit: a function part that a whole map shares, and the arguments of one call.

The layout lies in `noria.work.guest.container`, because the runtime reads what the host writes.
"""

from __future__ import annotations

from dataclasses import dataclass

from noria.work.guest import container
from noria.work.guest.container import (
    ARGUMENTS_TAG,
    FUNCTION_TAG,
    MAX_ARCHIVE_BYTES,
    MAX_FUNCTION_BYTES,
    MAX_STEPS,
    MalformedArchive,
    Step,
)

__all__ = [
    "MAX_ARCHIVE_BYTES",
    "MAX_FUNCTION_BYTES",
    "MAX_STEPS",
    "Archive",
    "ArchiveTooLarge",
    "MalformedArchive",
    "join",
    "pack_arguments",
    "pack_function",
    "parse",
]


class ArchiveTooLarge(ValueError):
    """A function with its data, or a call with its arguments, exceeds a limit; the message names both."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A parsed archive."""

    function: bytes
    """The function part, byte for byte: its hash identifies the function."""
    steps: tuple[Step, ...]
    """How function and surroundings are built."""
    entry: bytes
    """Encoded reference to the callable."""
    arguments_steps: tuple[Step, ...]
    """How functions and classes among the arguments are built."""
    call: bytes
    """Encoded positional and keyword arguments."""

    def sources(self) -> dict[str, str]:
        """Return the source text in the archive, for people: what travels, by file and line."""
        found: dict[str, str] = {}
        for step in self.steps + self.arguments_steps:
            if step[0] in (container.FUNCTION, container.CLASS):
                file, line, text = (step[5], step[6], step[7]) if step[0] == container.FUNCTION else step[3:6]
                found[f"{file}:{line}"] = text
        return found


def pack_function(steps: tuple[Step, ...], entry: bytes) -> bytes:
    """Make a function part.

    Parameters
    ----------
    steps
        How to build the function.
    entry
        Encoded reference to the callable.

    Returns
    -------
    bytes

    Raises
    ------
    ArchiveTooLarge
        If there are more than `MAX_STEPS` steps, or the part is longer than `MAX_FUNCTION_BYTES`.
    """
    return _checked(FUNCTION_TAG, steps, entry, MAX_FUNCTION_BYTES, "pass large data as arguments")


def pack_arguments(steps: tuple[Step, ...], call: bytes) -> bytes:
    """Make an arguments part.

    Parameters
    ----------
    steps
        How to build functions and classes among the arguments.
    call
        Encoded positional and keyword arguments.

    Returns
    -------
    bytes

    Raises
    ------
    ArchiveTooLarge
        If there are more than `MAX_STEPS` steps, or the part is longer than an archive.
    """
    return _checked(ARGUMENTS_TAG, steps, call, MAX_ARCHIVE_BYTES - 12, "split the work into smaller units")


def _checked(tag: str, steps: tuple[Step, ...], last: bytes, limit: int, remedy: str) -> bytes:
    if len(steps) > MAX_STEPS:
        raise ArchiveTooLarge(
            f"{len(steps)} functions, classes and globals; at most {MAX_STEPS} travel; {remedy}"
        )
    size = len(last) + sum(len(field) for step in steps for field in step if isinstance(field, str | bytes))
    if size < limit:
        part = container.pack_part(tag, steps, last)
        size = len(part)
        if size <= limit:
            return part
    raise ArchiveTooLarge(f"{size} bytes of source and data; at most {limit} travel; {remedy}")


def join(function: bytes, arguments: bytes) -> bytes:
    """Make an archive of a function part and an arguments part.

    Parameters
    ----------
    function, arguments
        What `pack_function` and `pack_arguments` returned.

    Returns
    -------
    bytes

    Raises
    ------
    ArchiveTooLarge
        If the archive is longer than `MAX_ARCHIVE_BYTES`.
    """
    size = len(function) + len(arguments) + 12
    if size > MAX_ARCHIVE_BYTES:
        raise ArchiveTooLarge(
            f"an archive of {size} bytes; at most {MAX_ARCHIVE_BYTES} travel; split the work"
        )
    return container.join(function, arguments)


def parse(data: bytes) -> Archive:
    """Parse an archive without running anything of it.

    Parameters
    ----------
    data
        Anything, from anybody.

    Returns
    -------
    Archive

    Raises
    ------
    MalformedArchive
        If `data` is not an archive; the message says which part and why.
    """
    function, arguments = container.split(data)
    steps, entry = container.parse_part(function, FUNCTION_TAG)
    more, call = container.parse_part(arguments, ARGUMENTS_TAG, len(steps))
    return Archive(function, steps, entry, more, call)
