"""Classes of a user's project."""

import enum
from collections import namedtuple
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, Generic, NamedTuple, TypeVar

from tests.work.functions_project import units

T = TypeVar("T")

ORIGIN_NAME = "origin"


def first_label() -> str:
    return ORIGIN_NAME.title()


class Colour(enum.Enum):
    RED = "r"
    GREEN = "g"

    def other(self) -> "Colour":
        return Colour.GREEN if self is Colour.RED else Colour.RED


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True, order=True)
class Point:
    x: float
    y: float = 0.0
    count: ClassVar[int] = 3
    label: str = field(default_factory=first_label)

    def moved(self, dx: float) -> "Point":
        return Point(self.x + units.scaled(dx), self.y, self.label)

    @staticmethod
    def unit() -> "Point":
        return Point(1.0, 1.0)

    @classmethod
    def at(cls, x: float) -> "Point":
        return cls(x)

    @property
    def length(self) -> float:
        return float((self.x**2 + self.y**2) ** 0.5)


@dataclass(slots=True)
class Spot:
    x: float


@dataclass(slots=True)
class Pixel(Spot):
    colour: Colour = Colour.RED
    _: KW_ONLY
    alpha: int = 255


class Pair(NamedTuple):
    left: int
    right: str = "r"


Size = namedtuple("Size", ["width", "height"], defaults=[2])


class Stack(Generic[T]):
    def __init__(self) -> None:
        self.items: list[T] = []

    def push(self, item: T) -> "Stack[T]":
        self.items.append(item)
        return self


class Base:
    registry: ClassVar[list[str]] = []

    def __init_subclass__(cls) -> None:
        cls.registry.append(cls.__name__)

    def hello(self) -> str:
        return f"hello from {type(self).__name__}"


class Derived(Base):
    def hello(self) -> str:
        return super().hello() + "!"

    class Inner:
        value = 41

        def next(self) -> int:
            return self.value + 1


class OutOfRange(ValueError):
    def __init__(self, value: int, bound: int) -> None:
        super().__init__(f"{value} is over {bound}")
        self.value = value
        self.bound = bound
