"""What comes back from a Python unit: a value, or an exception with its remote traceback."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Mapping
from typing import Any, Final

from noria.work.guest.container import OUTPUT_MAGIC, Raised, parse_raised
from noria.work.guest.decoder import MalformedValue, decode
from noria.work.guest.encoder import MAX_BYTES
from noria.work.guest.kinds import UnencodableValue

__all__ = ["MalformedResult", "RemoteError", "RemoteTraceback", "decode_result"]

NONE: Final[Mapping[str, type]] = {}


class MalformedResult(ValueError):
    """The output of a unit is not that of a Python function; the message says why."""


class RemoteTraceback(Exception):
    """Cause of every exception that comes back: where it was raised, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = printable(text)

    def __str__(self) -> str:
        return f"\n\n{self.text}"


class RemoteError(Exception):
    """An exception that cannot be made again here: its class is unknown, or it would end the process.

    Attributes
    ----------
    kind
        Module and qualified name of its class there, such as ``builtins:SystemExit``.
    message
        Its text.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = printable(kind)
        self.message = printable(message)

    def __str__(self) -> str:
        name = self.kind.removeprefix("builtins:").replace(":", ".")
        return f"{name}: {self.message}" if self.message else name


def printable(text: str) -> str:
    r"""Return text from elsewhere without what would steer a terminal.

    Parameters
    ----------
    text
        Anything.

    Returns
    -------
    str
        With every control character but tabs and line ends written out, as ``\x1b``.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def decode_result(output: bytes, classes: Mapping[str, type] = NONE, *, limit: int = MAX_BYTES) -> Any:
    """Return what the function returned, or raise what it raised.

    Parameters
    ----------
    output
        The unit's output, status 0.
    classes
        `Call.classes`: the only classes of which instances are made.
    limit
        Longest output, in bytes.

    Returns
    -------
    object

    Raises
    ------
    Exception
        The exception that the function raised, of the same type where that is a builtin, of the standard
        library or in `classes`; otherwise `RemoteError`. Its cause is a `RemoteTraceback`.
    MalformedResult
        If `output` is something else.
    """
    kind, body = output[8:9], output[9:]
    if output[:8] != OUTPUT_MAGIC or kind not in (b"V", b"X"):
        raise MalformedResult(
            "malformed result: its first bytes are others; did the function write to descriptor 1?"
        )
    try:
        if kind == b"V":
            return decode(body, class_of=classes.get, limit=limit)
        raised = parse_raised(body) if len(body) <= limit else None
    except MalformedValue as error:
        raise MalformedResult(str(error)) from None
    if raised is None:
        raise MalformedResult(
            f"malformed result: an exception of {len(body)} bytes; at most {limit} are allowed"
        )
    exception = _exception(raised, classes)
    for note in raised.notes:
        exception.add_note(printable(note))
    raise exception from RemoteTraceback(raised.traceback)


def _exception(raised: Raised, classes: Mapping[str, type]) -> Exception:
    """Make the exception again; without its class or arguments, something that says what it was."""
    unknown = RemoteError(raised.kind, raised.message)
    kind = _exception_class(raised.kind, classes)
    if kind is None or raised.arguments is None:
        return unknown
    try:
        arguments = decode(raised.arguments, class_of=classes.get)
        attributes = decode(raised.attributes, class_of=classes.get) if raised.attributes else {}
        if type(arguments) is not tuple or not _plain_names(attributes):
            return unknown
        if raised.kind == "noria:UnencodableValue":
            return UnencodableValue(*arguments)
        if kind.__module__ == "builtins":
            error = kind(*arguments)
        else:
            # A constructor of the user's may take other arguments than it hands on.
            error = kind.__new__(kind, *arguments)
            error.args = arguments
        vars(error).update(attributes)
    except Exception:
        return unknown
    return error if type(error) is kind else unknown


def _plain_names(attributes: object) -> bool:
    """Whether these are attributes that do not change how Python treats an exception."""
    return type(attributes) is dict and all(
        type(name) is str and not name.startswith("__") for name in attributes
    )


def _exception_class(name: str, classes: Mapping[str, type]) -> type[Exception] | None:
    """Find an exception class without importing anything."""
    module, _, path = name.partition(":")
    kind: object = classes.get(name)
    if name == "noria:UnencodableValue":
        kind = UnencodableValue
    elif kind is None and module == "builtins":
        kind = getattr(builtins, path, None)
    elif kind is None and module.partition(".")[0] in sys.stdlib_module_names:
        kind = vars(sys.modules[module]).get(path) if module in sys.modules else None
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        return None
    return kind if kind is UnencodableValue or f"{kind.__module__}:{kind.__qualname__}" == name else None
