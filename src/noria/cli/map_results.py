"""The file that a map writes its results to: what stands in it is finished, whenever the map is killed.

One line of JSON for each line of input, in the order in which they end; once all are there, the file is put
in the order of the input, so that two runs leave the same bytes. ``line`` counts from 1. ``unit`` names what
ran (program, source, arguments, fuel limit); by it a later run knows whether a line is its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from noria.cli.errors import BadArgument, CommandError
from noria.work.results import printable

RECORD_BYTES_MAX: Final = 256 << 20
"""Longest line that is read back."""
BEGINNING: Final = b'{"line": '
"""How every result begins, also one that a killed process left unfinished."""


class Results(Protocol):
    """Where the results of a map go."""

    def found(self, line: int, unit: str) -> str | None:
        """Look for the result of a line.

        Parameters
        ----------
        line, unit
            Its number, and the unit that gives its result; no unit if it cannot be run.

        Returns
        -------
        str or None
            ``"result"`` or ``"error"`` if it is there already.

        Raises
        ------
        CommandError
            If it is there, but of another unit.
        """

    def add(self, record: dict[str, Any]) -> None:
        """Write a result."""

    def finish(self) -> None:
        """Say that all are there."""


@dataclass(slots=True)
class _Entry:
    unit: str
    failed: bool
    start: int
    size: int


class StreamResults:
    """Results on standard output, which nobody can go on with."""

    def found(self, line: int, unit: str) -> str | None:
        """Nothing is there."""
        return None

    def add(self, record: dict[str, Any]) -> None:
        """Write a result, at once."""
        text = json.dumps(record)
        print(printable(text) if sys.stdout.isatty() else text, flush=True)

    def finish(self) -> None:
        """Nothing is left to do."""


class FileResults:
    """Results in a file, which only one process at a time may write.

    Parameters
    ----------
    path
        The file; it need not exist.

    Raises
    ------
    BadArgument
        If it holds something else.
    CommandError
        If it cannot be written, or another process writes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._entries: dict[int, _Entry] = {}
        self._end = 0
        self._lines = 0
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise CommandError(f"--output {path} cannot be written: {error.strerror}") from None
        try:
            self._lock()
            self._read()
        except BaseException:
            os.close(self._descriptor)
            raise

    def found(self, line: int, unit: str) -> str | None:
        """Look for the result of a line; see `Results.found`."""
        self._lines = line
        entry = self._entries.get(line)
        if entry is None:
            return None
        if entry.unit != unit:
            raise CommandError(
                f"{self.path.name} has a result for line {line}, but of another script, function, input, fuel"
                " limit or runtime: name another --output, or remove the file to begin again"
            )
        return "error" if entry.failed else "result"

    def add(self, record: dict[str, Any]) -> None:
        """Append a result in one piece."""
        data = json.dumps(record).encode() + b"\n"
        place, view = self._end, memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, place)
            place, view = place + written, view[written:]
        self._note(record, self._end, len(data))
        self._end = place

    def finish(self) -> None:
        """Put the file in the order of the input, in one step."""
        lines = sorted(self._entries)
        if lines and lines[-1] > self._lines:
            raise CommandError(
                f"{self.path.name} has a result for line {lines[-1]}, which the input has no more: "
                "name another --output, or remove the file to begin again"
            )
        if lines == list(self._entries):
            return
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        try:
            with partial.open("xb") as stream:
                for line in lines:
                    entry = self._entries[line]
                    stream.write(os.pread(self._descriptor, entry.size, entry.start))
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def _lock(self) -> None:
        if not self.path.is_file():
            raise BadArgument(f"--output {self.path} is no regular file: leave out --output, or name a file")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"{self.path} is being written by another process: wait for it, or end it"
            ) from None

    def _read(self) -> None:
        """Read what is there; a line that a killed process left unfinished is cut off."""
        with os.fdopen(os.dup(self._descriptor), "rb") as stream:
            stream.seek(0)
            for number, data in enumerate(iter(lambda: stream.readline(RECORD_BYTES_MAX), b""), start=1):
                if not data.endswith(b"\n") and BEGINNING.startswith(data[: len(BEGINNING)]):
                    break
                record = _record(data)
                if record is None or record["line"] in self._entries:
                    raise BadArgument(
                        f"--output {self.path}: line {number} is no result of this command: name another"
                    )
                self._note(record, self._end, len(data))
                self._end += len(data)
        if os.fstat(self._descriptor).st_size > self._end:
            os.ftruncate(self._descriptor, self._end)

    def _note(self, record: dict[str, Any], start: int, size: int) -> None:
        self._entries[record["line"]] = _Entry(record.get("unit", ""), "error" in record, start, size)


def _record(data: bytes) -> dict[str, Any] | None:
    """Read a result back; None if it is none."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("line")) is not int or record["line"] < 1:
        return None
    if not isinstance(record.get("unit", ""), str) or ("result" in record) == ("error" in record):
        return None
    return record
