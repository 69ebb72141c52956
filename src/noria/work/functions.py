"""Python functions as data: captured here, called inside the Python runtime.

A function travels as source text and copied data, never as pickled code::

    captured = capture(simulate)
    call = captured.call((3, grid), {"steps": 100})
    output = run_somewhere(call.archive)
    decode_result(output, call.classes)

`docs/functions.md` says what travels and how.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from noria.primitives.hashes import blake3
from noria.primitives.types import Hash32
from noria.work import archive
from noria.work.capture import Graph
from noria.work.guest.encoder import is_data
from noria.work.guest.kinds import UnencodableValue
from noria.work.origins import CannotTravel, GuestModules
from noria.work.results import MalformedResult, RemoteError, RemoteTraceback, decode_result

__all__ = [
    "Call",
    "CannotTravel",
    "CapturedFunction",
    "GuestModules",
    "MalformedResult",
    "RemoteError",
    "RemoteTraceback",
    "capture",
    "decode_result",
]

STANDARD: Final = GuestModules()
"""A runtime that has the standard library and nothing else."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a captured function."""

    archive: bytes
    """Input of the unit."""
    classes: Mapping[str, type]
    """What `decode_result` needs to make instances of the user's classes."""


class CapturedFunction:
    """A function as it was when it was captured; made by `capture`.

    Attributes
    ----------
    name
        Qualified name, for people.
    part
        The function part of the archive: the same for every call, in every process.
    classes
        Classes that travel with it, by name.
    """

    __slots__ = ("__weakref__", "_graph", "classes", "name", "part")

    def __init__(self, name: str, part: bytes, graph: Graph) -> None:
        self.name = name
        self.part = part
        self.classes: Mapping[str, type] = graph.classes
        self._graph = graph

    @property
    def digest(self) -> Hash32:
        """Hash of the function part."""
        return blake3(b"noria/function/1" + self.part)

    def call(self, positional: Sequence[object] = (), named: Mapping[str, object] | None = None) -> Call:
        """Encode the arguments of one call.

        Parameters
        ----------
        positional, named
            The arguments. Functions and instances of the user's classes may be among them.

        Returns
        -------
        Call

        Raises
        ------
        UnencodableValue
            If an argument has no encoding; the message says which part of which one.
        CannotTravel
            If a function or class among the arguments cannot be sent.
        ArchiveTooLarge
            If all together are too long.
        """
        graph = self._graph.fork()
        user = f"the arguments of {self.name}"
        try:
            data = graph.encode_plainly((tuple(positional), dict(named or {})), "", user)
            graph.drain()
        except UnencodableValue as error:
            if error.path.startswith(("[0][", "[1][")):
                error.path = "arguments" + error.path[3:]
            raise
        part = archive.pack_arguments(tuple(graph.steps), data)
        return Call(archive.join(self.part, part), graph.classes)

    def __repr__(self) -> str:
        return f"<captured {self.name}, {len(self.part)} bytes>"


def capture(function: Callable[..., Any], guest: GuestModules = STANDARD) -> CapturedFunction:
    """Copy a function and everything that it uses.

    Parameters
    ----------
    function
        A function, lambda, method, `functools.partial`, cached function, class or builtin. Its closure,
        defaults, the globals that it uses, and helper functions and classes of the user's own modules come
        along. Data is copied now: what changes later, here or there, stays where it changed.
    guest
        Which modules the runtime offers.

    Returns
    -------
    CapturedFunction
        With the same bytes in every process, as long as source and data are the same.

    Raises
    ------
    CannotTravel
        If the function or something that it uses cannot be sent; the message says what, where, and what to
        do.

    Examples
    --------
    >>> capture(len).call(([1, 2, 3],)).archive[:7]
    b'NoriaPy'
    """
    if not callable(function):
        raise CannotTravel(repr(function)[:80], "it cannot be called", "pass a function", "")
    name = str(getattr(function, "__qualname__", None) or type(function).__qualname__)
    graph = Graph(guest)
    try:
        entry = graph.encode(function, name if is_data(function) else "", "")
        graph.drain()
    except RecursionError:
        raise CannotTravel(name, "what it uses is nested too deeply", "flatten its closures", "") from None
    part = archive.pack_function(tuple(graph.steps), entry)
    return CapturedFunction(name, part, graph)
