"""Classes whose definitions need one another in every direction."""

from __future__ import annotations

import abc
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tests.work.functions_project import units

SCALE = 2
Numbers = list[int]
Maybe = int | None


def registered(kind: type) -> type:
    REGISTRY[kind.__name__] = kind
    return kind


REGISTRY: dict[str, Any] = {}


def made_of_first() -> int:
    return First().value * SCALE


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...

    def bigger(self) -> Shape:
        return Square(self.area() + SCALE)


class First:
    value = 3

    def last(self) -> Last:
        return Last()


class Second(First):
    made = made_of_first()

    def third(self) -> Third:
        return Third()


@registered
class Third(Second):
    again = staticmethod(made_of_first)
    table: typing.ClassVar = {name: len(name) * SCALE for name in ("a", "bb")}


class Last(Third):
    kind = Third

    def first(self) -> First:
        return First()


class Meta(type):
    def __call__(cls, *args: Any) -> Any:
        made = super().__call__(*args)
        made.meta = SCALE
        return made


@dataclass
class Square(Shape):
    side: float
    tags: list[str] = field(default_factory=lambda: [Suit.SPADES.value])
    limit: typing.ClassVar[int] = SCALE

    def area(self) -> float:
        return units.scaled(self.side * self.side)


class WithMeta(metaclass=Meta):
    def __init__(self, x: int) -> None:
        self.x = x


class Suit(Enum):
    SPADES = "s"
    HEARTS = "h"

    @property
    def square(self) -> Square:
        return Square(len(self.value))


def handler(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def keep(function: Callable[..., Any]) -> Callable[..., Any]:
        HANDLERS[name] = function
        return function

    return keep


HANDLERS: dict[str, Callable[..., Any]] = {}


@handler("area")
def area_of(square: Square) -> float:
    return square.area()


@handler("bigger")
def bigger_of(square: Square) -> Shape:
    return square.bigger()


def all_of_it() -> object:
    last = First().last()
    return (
        [last.value, last.made, last.table, last.kind.__name__, last.again(), type(last.first()).__name__],
        [Suit.HEARTS.square, Square.limit, [f(Square(2)) for f in HANDLERS.values()]],
        sorted(REGISTRY),
        [WithMeta(1).meta, WithMeta(2).x],  # type: ignore[attr-defined]
        isinstance(3, Maybe),
        typing.cast(Numbers, [1]),
    )


def from_the_end() -> object:
    return type(Last().first().last()).__mro__[1].__name__, Suit("s").square.bigger().area()
