"""Messages between a pool and its worker processes: length-prefixed, bounded, never pickled.

Both sides import this file, the worker at every start: it needs nothing but a few modules of the standard
library.
"""

from __future__ import annotations

import os
import select
import struct
import time
from typing import Final, NamedTuple

RUN: Final = 1
"""Pool: run a unit. ``number`` is the fuel limit, ``other`` 1 if the worker may ask for a fresh process;
parts: program id, path of the module, input."""
PROGRESS: Final = 2
"""Worker: a program is being loaded. ``number`` of ``other`` functions are compiled; parts: stage."""
RUNNING: Final = 3
"""Worker: the program is loaded and the unit runs."""
DONE: Final = 4
"""Worker: the unit ended. ``status``, ``number`` is its fuel, ``seconds`` it ran; parts: output, log."""
FRESH: Final = 5
"""Worker: the program is compiled, which took much memory: go on in a fresh process."""
REFUSED: Final = 6
"""Worker: the program cannot run. Parts: kind, message."""
MISSING: Final = 7
"""Worker: the module is not where it should be. Parts: nothing, message."""
CACHE: Final = 8
"""Worker: the cache of compiled code cannot be used. Parts: nothing, message."""
FAILED: Final = 9
"""Worker: this process cannot run the unit. Parts: nothing, message."""

PART_BYTES_MAX: Final = 256 << 20
"""Longest part of a message: the input of a unit, for instance."""

HEADER: Final = struct.Struct(">BBQQdIII")
"""kind, status, number, other, seconds, lengths of the three parts."""

PIECE_BYTES: Final = 1 << 20
"""Most bytes written at once, so that the deadline is looked at between."""


class Frame(NamedTuple):
    """One message."""

    kind: int
    status: int = 0
    number: int = 0
    other: int = 0
    seconds: float = 0.0
    first: bytes = b""
    second: bytes = b""
    third: bytes = b""


class ChannelClosed(Exception):
    """The other side is gone."""


class MalformedFrame(Exception):
    """The other side sent what is no message."""


class Channel:
    """One end of a connected pair of sockets.

    Parameters
    ----------
    descriptor
        The socket; from now on the channel's.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        os.set_blocking(descriptor, False)

    def close(self) -> None:
        """Close this end; the other side finds itself alone."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def send(self, frame: Frame, deadline: float | None = None) -> None:
        """Send one message.

        Parameters
        ----------
        frame
            The message.
        deadline
            When to give up, on the monotonic clock in seconds; never if left out.

        Raises
        ------
        ChannelClosed
            If the other side is gone.
        TimeoutError
            If it did not take the message by the deadline.
        """
        parts = (frame.first, frame.second, frame.third)
        header = HEADER.pack(*frame[:5], *(len(part) for part in parts))
        # What is short goes out at once, header and all; what is long is not copied.
        small = b"".join((header, *(part for part in parts if len(part) < PIECE_BYTES)))
        if all(len(part) < PIECE_BYTES for part in parts):
            self._write(small, deadline)
            return
        for part in (header, *parts):
            self._write(part, deadline)

    def receive(self, deadline: float | None = None) -> Frame:
        """Wait for one message.

        Parameters
        ----------
        deadline
            When to give up, on the monotonic clock in seconds; never if left out.

        Returns
        -------
        Frame

        Raises
        ------
        ChannelClosed
            If the other side is gone.
        TimeoutError
            If there is no message by the deadline.
        MalformedFrame
            If its lengths are beyond the bounds.
        """
        kind, status, number, other, seconds, *lengths = HEADER.unpack(self._read(HEADER.size, deadline))
        if max(lengths) > PART_BYTES_MAX:
            raise MalformedFrame(f"a part of {max(lengths)} bytes; at most {PART_BYTES_MAX} are allowed")
        parts = [self._read(length, deadline) if length else b"" for length in lengths]
        return Frame(kind, status, number, other, seconds, *parts)

    def _write(self, data: bytes, deadline: float | None) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self.descriptor, rest[:PIECE_BYTES]) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline)
            except OSError as error:
                raise ChannelClosed from error

    def _read(self, length: int, deadline: float | None) -> bytes:
        pieces: list[bytes] = []
        while length:
            try:
                piece = os.read(self.descriptor, min(length, PIECE_BYTES))
            except BlockingIOError:
                self._wait(select.POLLIN, deadline)
                continue
            except OSError as error:
                raise ChannelClosed from error
            if not piece:
                raise ChannelClosed
            pieces.append(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _wait(self, event: int, deadline: float | None) -> None:
        poll = select.poll()
        poll.register(self.descriptor, event)
        if deadline is None:
            poll.poll()
            return
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
