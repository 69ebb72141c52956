"""Types of the standard library that the codec carries beside the basic ones: each as a name and its parts.

A module is imported only when a value of it is met, so that a unit which uses none of them starts sooner.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

Parts = tuple[Any, ...]

FACTORIES: dict[str, type] = {
    kind.__name__: kind for kind in (bool, bytes, dict, float, frozenset, int, list, set, str, tuple)
}
"""What a `defaultdict` may make: a type by its name."""

MAX_FRACTION_BYTES = 1 << 14
"""Longest half of a fraction, in bytes: reducing it takes quadratic time."""

MAX_DECIMAL_DIGITS = 1 << 20
"""Longest text of a decimal number."""


class Unsupported(Exception):
    """A value of a known type that the codec does not carry."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


def _zone(zone: Any) -> object:
    if zone is not None and type(zone).__qualname__ != "timezone":
        raise Unsupported(f"a time zone of type {type(zone).__name__}", "use datetime.timezone or UTC")
    return zone


def _date(v: Any) -> Parts:
    return (v.year, v.month, v.day)


def _datetime(v: Any) -> Parts:
    parts = (v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond)
    return (parts, v.fold, _zone(v.tzinfo))


def _time(v: Any) -> Parts:
    return ((v.hour, v.minute, v.second, v.microsecond), v.fold, _zone(v.tzinfo))


def _timezone(v: Any) -> Parts:
    return tuple(v.__getinitargs__())


def _timedelta(v: Any) -> Parts:
    return (v.days, v.seconds, v.microseconds)


def _decimal(v: Any) -> Parts:
    text = str(v)
    if len(text) > MAX_DECIMAL_DIGITS:
        raise Unsupported(
            f"a decimal number of more than {MAX_DECIMAL_DIGITS} characters", "pass less precision"
        )
    return (text,)


def _fraction(v: Any) -> Parts:
    for part in (v.numerator, v.denominator):
        if part.bit_length() > 8 * MAX_FRACTION_BYTES:
            raise Unsupported(
                f"a fraction of more than {MAX_FRACTION_BYTES} bytes a part", "pass the two integers"
            )
    return (v.numerator, v.denominator)


def _counts(v: Any) -> Parts:
    return (dict(v),)


def _ordered(v: Any) -> Parts:
    return (dict(v),)


def _default(v: Any) -> Parts:
    factory = v.default_factory
    if factory is not None and FACTORIES.get(getattr(factory, "__name__", "")) is not factory:
        raise Unsupported(
            "a defaultdict whose default is made by something other than a builtin type", "pass dict(value)"
        )
    return (factory and factory.__name__, dict(v))


def _make_datetime(kind: Any, parts: Parts) -> object:
    numbers, fold, zone = parts
    return kind(*numbers, tzinfo=zone, fold=fold)


def _make_default(kind: Any, parts: Parts) -> object:
    name, items = parts
    return kind(None if name is None else FACTORIES[name], items)


def _make_fraction(kind: Any, parts: Parts) -> object:
    for part in parts:
        if type(part) is not int or part.bit_length() > 8 * MAX_FRACTION_BYTES:
            raise ValueError("a fraction of two bounded integers expected")
    return kind(*parts)


def _make_decimal(kind: Any, parts: Parts) -> object:
    (text,) = parts
    if type(text) is not str or len(text) > MAX_DECIMAL_DIGITS:
        raise ValueError("a decimal number as bounded text expected")
    value = kind(text)
    if str(value) != text:
        raise ValueError("a decimal number in its normal form expected")
    return value


def _make_dict(kind: Any, parts: Parts) -> object:
    (items,) = parts
    if type(items) is not dict:
        raise ValueError("a dictionary expected")
    return kind(items)


def _make_random(kind: Any, parts: Parts) -> object:
    generator = kind(0)
    generator.setstate(*parts)
    return generator


def _make(kind: Any, parts: Parts) -> object:
    return kind(*parts)


_TABLE: dict[str, tuple[Callable[[Any], Parts], Callable[[Any, Parts], object]]] = {
    "builtins.range": (lambda v: (v.start, v.stop, v.step), _make),
    "builtins.slice": (lambda v: (v.start, v.stop, v.step), _make),
    "builtins.ellipsis": (lambda v: (), _make),
    "datetime.date": (_date, _make),
    "datetime.datetime": (_datetime, _make_datetime),
    "datetime.time": (_time, _make_datetime),
    "datetime.timedelta": (_timedelta, _make),
    "datetime.timezone": (_timezone, _make),
    "decimal.Decimal": (_decimal, _make_decimal),
    "fractions.Fraction": (_fraction, _make_fraction),
    "random.Random": (lambda v: (v.getstate(),), _make_random),
    "uuid.UUID": (lambda v: (v.int,), lambda kind, parts: kind(int=parts[0])),
    "collections.Counter": (_counts, _make_dict),
    "collections.OrderedDict": (_ordered, _make_dict),
    "collections.defaultdict": (_default, _make_default),
    "collections.deque": (lambda v: (list(v), v.maxlen), _make),
}
"""Per type: how it is taken apart, and how it is made of its parts."""

_ELLIPSIS = type(...)
_known: dict[type, tuple[str, Callable[[Any], Parts]] | None] = {}


def find(kind: type) -> tuple[str, Callable[[Any], Parts]] | None:
    """Return name and taking apart of an extension type, or `None`."""
    found = _known.get(kind, False)
    if found is False:
        name = f"{kind.__module__}.{kind.__qualname__}"
        entry = _TABLE.get(name)
        if entry is None or _class(name) is not kind:
            if len(_known) > 4096:
                _known.clear()
            _known[kind] = None
            return None
        found = _known[kind] = (name, entry[0])
    return found  # type: ignore[return-value]


def make(name: str, parts: Parts) -> object:
    """Make a value of the extension type `name`.

    Raises
    ------
    ValueError
        If there is no such type, or the parts are not exactly those of a value of it.
    """
    entry = _TABLE.get(name)
    if entry is None:
        raise ValueError(f"no type {name[:80]!r}")
    take, build = entry
    value = build(_class(name), parts)
    if not _same(take(value), parts):
        raise ValueError(f"parts of {name} that are not in their normal form")
    return value


def _same(taken: object, given: object) -> bool:
    """Whether two values are the same down to types; extension values in them have been checked before."""
    if type(taken) is not type(given):
        return False
    if isinstance(taken, tuple) and isinstance(given, tuple):
        return len(taken) == len(given) and all(map(_same, taken, given))
    if isinstance(taken, list | dict) and isinstance(given, list | dict):
        return len(taken) == len(given)
    return taken is given or taken == given


def _class(name: str) -> Any:
    module, _, attribute = name.partition(".")
    if attribute == "ellipsis":
        return _ELLIPSIS
    loaded = sys.modules.get(module) or importlib.import_module(module)
    return getattr(loaded, attribute)
