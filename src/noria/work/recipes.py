"""Objects that travel as the call that makes them: partials, caches, compiled patterns, loggers."""

from __future__ import annotations

import collections
import functools
import logging
import operator
import random
import re
import struct
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Recipe:
    """A call: who is called, with what."""

    callee: object
    """An importable object, or the recipe of one."""
    positional: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)


def _cached(value: Any) -> Recipe | None:
    parameters = value.cache_parameters()
    return Recipe(Recipe(functools.lru_cache, (), parameters), (value.__wrapped__,))


def _type_variable(value: Any) -> Recipe | None:
    named = {key: True for key in ("covariant", "contravariant") if getattr(value, f"__{key}__")}
    if value.__bound__ is not None:
        named["bound"] = value.__bound__
    return Recipe(typing.TypeVar, (value.__name__, *value.__constraints__), named)


def _getter(value: Any) -> Recipe | None:
    made = value.__reduce__()
    if isinstance(made[0], functools.partial):
        return Recipe(type(value), (*made[0].args, *made[1]), dict(made[0].keywords))
    return Recipe(made[0], tuple(made[1]))


def _method(value: Any) -> Recipe | None:
    if value.__self__ is vars(random)["_inst"]:
        # `random.randint` and its like belong to the module, not to a generator of the user's.
        return None
    name = getattr(value.__func__, "__name__", "")
    if getattr(value.__self__, name, None) == value:
        return Recipe(getattr, (value.__self__, name))
    return Recipe(functools.partial, (value.__func__, value.__self__))


def _builtin_method(value: Any) -> Recipe | None:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType) or type(owner) is random.Random:
        return None
    return Recipe(getattr, (owner, value.__name__))


def _logger(value: Any) -> Recipe | None:
    return Recipe(logging.getLogger, () if value.name == "root" else (value.name,))


def _partial(value: Any) -> Recipe | None:
    return Recipe(functools.partial, (value.func, *value.args), dict(value.keywords))


_RECIPES: dict[type, Callable[[Any], Recipe | None]] = {
    functools.partial: _partial,
    type(functools.lru_cache(lambda: None)): _cached,
    re.Pattern: lambda value: Recipe(re.compile, (value.pattern, value.flags)),
    struct.Struct: lambda value: Recipe(struct.Struct, (value.format,)),
    operator.itemgetter: _getter,
    operator.attrgetter: _getter,
    operator.methodcaller: _getter,
    logging.Logger: _logger,
    logging.RootLogger: _logger,
    types.MethodType: _method,
    types.BuiltinMethodType: _builtin_method,
    types.MethodDescriptorType: lambda value: Recipe(getattr, (value.__objclass__, value.__name__)),
    types.WrapperDescriptorType: lambda value: Recipe(getattr, (value.__objclass__, value.__name__)),
    types.GenericAlias: lambda value: Recipe(operator.getitem, (value.__origin__, value.__args__)),
    types.UnionType: lambda value: Recipe(functools.reduce, (operator.or_, list(value.__args__))),
    types.MappingProxyType: lambda value: Recipe(types.MappingProxyType, (dict(value),)),
    typing.TypeVar: _type_variable,
    collections.defaultdict: lambda value: Recipe(
        collections.defaultdict, (value.default_factory, dict(value))
    ),
}


def recipe_of(value: object) -> Recipe | None:
    """Return the call that makes an object of its kind, or None for a kind that has none."""
    find = _RECIPES.get(type(value))
    return find(value) if find is not None else None


def class_recipe(kind: Any) -> Recipe | None:
    """Return the call that makes a named tuple which has no class statement."""
    if not (issubclass(kind, tuple) and hasattr(kind, "_fields") and hasattr(kind, "_field_defaults")):
        return None
    defaults = tuple(kind._field_defaults.values())
    named = {"defaults": defaults, "module": kind.__module__}
    return Recipe(collections.namedtuple, (kind.__name__, list(kind._fields)), named)
