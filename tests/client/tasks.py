"""Functions that tests send to the sandbox."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sample:
    """Something of the user's own."""

    name: str
    values: list[int]


class Unlucky(Exception):
    """An error of the user's own."""


class Big:
    """Ordinary, and can be referenced weakly."""

    def __init__(self, number: int) -> None:
        self.number = number

    def doubled(self) -> int:
        return 2 * self.number


def multiply(x: int, y: int) -> int:
    return x * y


def collect(*args: Any, **named: Any) -> tuple[Any, Any]:
    return args, named


def spin(turns: int) -> int:
    """Work for a while; there is no sleep in the sandbox."""
    total = 0
    for turn in range(turns):
        total += turn & 3
    return total


def endless() -> None:
    while True:
        pass


def make_big(number: int) -> Big:
    return Big(number)


def total(sample: Sample) -> Sample:
    print("adding", sample.name)
    return Sample(sample.name, [sum(sample.values)])


def fail(number: int) -> int:
    print("about to fail")
    if number:
        raise Unlucky("no luck", number)
    return number


def nest(depth: int) -> int:
    return nest(depth + 1)


def fill() -> None:
    pieces = []
    while True:
        pieces.append(bytes(50_000_000))


def chatter() -> None:
    while True:
        print("x" * 1000)
