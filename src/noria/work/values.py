"""The codec of arguments, captured data and results, as the host uses it.

The code itself lies in `noria.work.guest`, because the same text runs inside the Python runtime.
"""

from __future__ import annotations

from typing import Any

from noria.work.guest.decoder import MalformedValue
from noria.work.guest.decoder import decode as _decode
from noria.work.guest.encoder import MAX_BYTES, MAX_CONTAINERS, MAX_DEPTH, MAX_INTEGER_BYTES, MAX_VALUES
from noria.work.guest.encoder import encode as _encode
from noria.work.guest.kinds import UnencodableValue

__all__ = [
    "MAX_BYTES",
    "MAX_CONTAINERS",
    "MAX_DEPTH",
    "MAX_INTEGER_BYTES",
    "MAX_VALUES",
    "MalformedValue",
    "UnencodableValue",
    "decode",
    "encode",
    "named",
]


def named(*classes: type) -> dict[str, type]:
    """Return the table of classes that `encode` and `decode` take.

    Parameters
    ----------
    classes
        Dataclasses, enumerations and named tuples.

    Returns
    -------
    dict
        Each class under its module and qualified name.
    """
    return {f"{kind.__module__}:{kind.__qualname__}": kind for kind in classes}


def encode(
    value: object, *, classes: dict[str, type] | None = None, path: str = "value", limit: int = MAX_BYTES
) -> bytes:
    """Encode a value; every value has exactly one encoding.

    Parameters
    ----------
    value
        ``None``, ``bool``, ``int``, ``float`` (every bit kept), ``complex``, ``str``, ``bytes``,
        ``bytearray``, ``list``, ``tuple``, ``dict`` (order and key types kept), ``set``, ``frozenset``,
        ``range``, ``slice``, dates and times, ``Decimal``, ``Fraction``, ``UUID``, ``Counter``,
        ``OrderedDict``, ``defaultdict``, ``deque``; instances of dataclasses and named tuples and members of
        enumerations in `classes`.
    classes
        What `named` returns; none by default.
    path
        What the value is called in errors.
    limit
        Longest encoding, in bytes.

    Returns
    -------
    bytes

    Raises
    ------
    UnencodableValue
        For anything else, cycles, and what exceeds the limits of this module; the message says where.

    Examples
    --------
    >>> decode(encode({"a": [1, 2.5], (1, 2): {b"x"}}))
    {'a': [1, 2.5], (1, 2): {b'x'}}
    """
    if not classes:
        return _encode(value, path=path, limit=limit)
    names = {kind: name for name, kind in classes.items()}

    def class_name(kind: type) -> str:
        try:
            return names[kind]
        except KeyError:
            raise UnencodableValue(
                f"the class {kind.__qualname__} is not among those that travel", "add it to `classes`"
            ) from None

    return _encode(value, path=path, class_name=class_name, limit=limit)


def decode(data: bytes, *, classes: dict[str, type] | None = None, limit: int = MAX_BYTES) -> Any:
    """Decode the one value that `data` encodes.

    Parameters
    ----------
    data
        Anything, from anybody.
    classes
        The only classes of which instances are made; their ``__init__`` is not run.
    limit
        Longest input, in bytes.

    Returns
    -------
    object

    Raises
    ------
    MalformedValue
        If `data` is not exactly what `encode` returns for some value.
    """
    return _decode(data, class_of=(classes or {}).get, limit=limit)
