"""From a user's function to units of the Python runtime, and back."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import Any, Final, TypeVar

from noria.client.errors import failure
from noria.work.functions import Call, CapturedFunction, capture, decode_result
from noria.work.guest.kinds import UnencodableValue
from noria.work.receipts import Status
from noria.work.workers import Outcome

T = TypeVar("T")


def _call_each(function: Callable[..., T], calls: Iterable[tuple[Any, ...]]) -> list[T]:
    return [function(*call) for call in calls]


CALL_EACH: Final = FunctionType(
    _call_each.__code__, {"__name__": "noria_calls", "__builtins__": builtins}, "call_each"
)
"""Calls a function several times in one unit. Functions of this package do not travel, so it has a module of
its own, which exists nowhere but there."""


def prepare(function: Callable[..., Any], calls_per_unit: int = 1) -> tuple[str, CapturedFunction]:
    """Capture a function, once for many calls.

    Parameters
    ----------
    function
        The user's.
    calls_per_unit
        If more than one, its argument is a list of tuples of arguments and its result a list.

    Returns
    -------
    str, CapturedFunction
        The function's name, for people, and what travels.

    Raises
    ------
    CannotTravel
        If it cannot travel.
    """
    if calls_per_unit > 1:
        return prepare_with(CALL_EACH, function)
    try:
        captured = capture(function)
    except UnencodableValue as error:
        # How it was found out tells the user nothing.
        raise error.with_traceback(None) from None
    return captured.name, captured


def prepare_with(caller: Callable[..., Any], function: Callable[..., Any]) -> tuple[str, CapturedFunction]:
    """Capture a function together with what calls it several times: `CALL_EACH` and its like.

    Raises
    ------
    CannotTravel
        If it cannot travel.
    """
    try:
        return capture(function).name, capture(partial(caller, function))
    except UnencodableValue as error:
        raise error.with_traceback(None) from None


def encode(captured: CapturedFunction, positional: Sequence[object], named: Mapping[str, object]) -> Call:
    """Encode the arguments of a call.

    Parameters
    ----------
    captured
        The function.
    positional, named
        The arguments.

    Returns
    -------
    Call

    Raises
    ------
    UnencodableValue, CannotTravel
        If an argument cannot be sent; the message says which.
    ArchiveTooLarge
        If all together are too long.
    """
    try:
        return captured.call(positional, named)
    except UnencodableValue as error:
        raise error.with_traceback(None) from None


def conclusion(name: str, call: Call) -> Callable[[Outcome], Any]:
    """Return what makes the result of a call, or its exception, of how the unit ended."""
    classes = call.classes

    def conclude(outcome: Outcome) -> Any:
        if outcome.status != Status.OK:
            raise failure(name, outcome.status, outcome.fuel, outcome.seconds, outcome.log)
        return decode_result(outcome.output, classes)

    return conclude
