"""Functions that use something of everything; prints the digests of their captures when run."""

import re
from collections.abc import Callable
from functools import lru_cache, partial

from tests.work.functions_project import shapes, units
from tests.work.functions_project.pkg import deep
from tests.work.functions_project.shapes import Access, Colour, Point

NAMES = {"delta", "alpha", "charlie", "bravo", "echo"}
MIXED = frozenset({1, "a", None, (2, "b"), b"c", 2.5, Colour.RED, Point(1), int, len, units.scaled, Colour})
TABLE = {name: {name, name * 2} for name in sorted(NAMES)}
PATTERN = re.compile("a+")


def power(k: int) -> Callable[[int], int]:
    def inner(x: int, options: frozenset[str] = frozenset("abcdef")) -> int:
        return int(x**k) + len(options)

    return inner


CUBE = power(3)
STEPS = {"cube": CUBE, "square": power(2), "scaled": units.scaled}


@lru_cache(maxsize=10)
def everything(x: int) -> object:
    return (
        NAMES,
        len(MIXED),
        TABLE,
        PATTERN.findall("baab"),
        [step(x) for step in STEPS.values()],
        shapes.Derived().hello(),
        deep.spoken(),
        Access.READ | Access.WRITE,
        {Point(1), Point(2)},
    )


FUNCTIONS: list[Callable[..., object]] = [
    everything,
    CUBE,
    partial(everything, 3),
    Point(1).moved,
    lambda: MIXED,
]


def main() -> None:
    from noria.work.functions import capture

    for function in FUNCTIONS:
        captured = capture(function)
        call = captured.call([set(NAMES), {Point(3), Point(4)}, CUBE], {"b": MIXED, "a": NAMES})
        print(captured.digest.hex(), call.archive.hex())


if __name__ == "__main__":
    from tests.work.functions_project import mixture

    mixture.main()
