"""What a value is to the codec: which kinds it takes apart, and why it refuses the others."""

from __future__ import annotations

import sys
from typing import Any

HINTS = {
    **dict.fromkeys(("generator", "dict_keys", "dict_values", "dict_items"), "turn it into a list"),
    **dict.fromkeys(
        ("map", "filter", "zip", "enumerate", "reversed", "list_iterator"), "turn it into a list"
    ),
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint8", "uint64", "float32"), "pass value.item()"),
    **dict.fromkeys(("lock", "RLock", "Lock"), "units run alone; leave the lock out"),
    "memoryview": "pass bytes(view)",
    "array": "pass list(array)",
    "ndarray": "pass array.tolist(); this runtime has no NumPy",
    "TextIOWrapper": "read the file and pass its text",
    "BufferedReader": "read the file and pass its bytes",
    "BufferedWriter": "return the bytes and write them where you are",
    "socket": "the sandbox has no network; pass the data",
    "PosixPath": "pass str(path), or read the file and pass its contents",
    "module": "pass what you need of it",
    "coroutine": "pass the result of awaiting it",
}
"""What to do with values that people try to send, by the name of their type."""


SLOTS = {"__dict__", "__weakref__"}
"""Slots that hold nothing of an instance's own."""

HEAP_TYPE = 1 << 9
"""Flag of types that a class statement has made."""


class UnencodableValue(ValueError):
    """A value has no encoding; the message says where in the argument or result, why, and what to do.

    Parameters
    ----------
    reason
        Why, with the type or the bound.
    remedy
        What to do.
    path
        Where, such as ``arguments[0]['x'][3]``; completed on the way out of nested values.
    """

    def __init__(self, reason: str, remedy: str = "", path: str = "") -> None:
        self.reason = reason
        self.remedy = remedy
        self.path = path
        self.steps: list[str] = []
        self.keep: int | None = None
        super().__init__(reason, remedy, path)

    def __str__(self) -> str:
        """Say where, why and what to do."""
        where = f"{self.path} cannot be encoded: " if self.path else ""
        return f"{where}{self.reason}" + (f"; {self.remedy}" if self.remedy else "")


def is_enumeration(kind: type) -> bool:
    """Whether `kind` is an enumeration; its module is looked at only if something has loaded it."""
    enum = sys.modules.get("enum")
    return enum is not None and issubclass(kind, enum.Enum)


def is_ordinary(kind: Any) -> bool:
    """Whether an instance of `kind` is a class written in Python with a dictionary of attributes, no more."""
    return (
        bool(kind.__flags__ & HEAP_TYPE)
        and kind.__module__.partition(".")[0] not in sys.stdlib_module_names
        and kind.__new__ is object.__new__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and kind.__getstate__ is object.__getstate__
        and kind.__dictoffset__ != 0
        and not hasattr(kind, "__setstate__")
        and not any(set(vars(base).get("__slots__", ())) - SLOTS for base in kind.__mro__)
    )


def dataclass_fields(value: Any) -> dict[str, object]:
    """Return the fields of a dataclass instance by name, in order.

    Raises
    ------
    UnencodableValue
        If the instance holds what its fields do not say.
    """
    kind: Any = type(value)
    if kind.__new__ is not object.__new__:
        raise UnencodableValue(
            f"{kind.__qualname__} is a dataclass that is made by its base class", "use a plain dataclass"
        )
    names = [name for name, field in kind.__dataclass_fields__.items() if field._field_type.name == "_FIELD"]
    fields: dict[str, object] = {}
    for name in names:
        try:
            fields[name] = object.__getattribute__(value, name)
        except AttributeError:
            raise UnencodableValue(f"field {name!r} of {kind.__qualname__} was never set", "set it") from None
    for name in getattr(value, "__dict__", ()):
        if name not in fields and type(getattr(kind, name, None)).__name__ != "cached_property":
            raise UnencodableValue(
                f"attribute {name!r} of {kind.__qualname__} is not one of its fields", "make it a field"
            )
    return fields


def refusal(kind: type) -> tuple[str, str]:
    """Why values of `kind` have no encoding, and what to do."""
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    for base in (bool, int, float, str, bytes, list, tuple, dict, set, frozenset):
        if issubclass(kind, base):
            return f"{name} is a subclass of {base.__name__}", f"pass {base.__name__}(value)"
    hint = HINTS.get(kind.__name__)
    if hint is None:
        hint = "pass its data as a dictionary, list or dataclass"
    return f"values of type {name} do not travel", hint


def short(value: object) -> str:
    """Represent a value in a path, in at most 40 characters."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= 40 else text[:37] + "..."


def unique_name(value: Any) -> str:
    """Return what tells an object in a set from all others, in every process.

    Raises
    ------
    UnencodableValue
        If there is nothing, so that no order can be found.
    """
    name = getattr(value, "__qualname__", None)
    if not isinstance(name, str) or "<" in name:
        raise UnencodableValue(
            f"{short(name or type(value).__name__)} in a set, whose order is not fixed", "put it into a list"
        )
    return f"{type(value).__qualname__} {getattr(value, '__module__', '')}:{name}"
