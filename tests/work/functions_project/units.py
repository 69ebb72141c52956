"""A sibling module with data and helpers."""

import math

FACTOR = 10.0
TABLE = {"pi": math.pi, 3: [1, 2, (3, b"x")]}
state = {"calls": 0}


def scaled(value: float) -> float:
    return value * FACTOR


def is_even(n: int) -> bool:
    return True if n == 0 else is_odd(n - 1)


def is_odd(n: int) -> bool:
    return False if n == 0 else is_even(n - 1)


def touch() -> int:
    state["calls"] += 1
    return state["calls"]
