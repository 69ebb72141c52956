"""Plain Python as people write it: numbers, lists, dictionaries, text, objects, recursion."""

from __future__ import annotations

from typing import Final


def nbody(steps: int) -> float:
    import math

    bodies = [
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 39.478],
        [4.841, -1.160, -0.104, 0.606, 2.812, -0.025, 0.0377],
        [8.343, 4.125, -0.403, -1.011, 1.826, 0.008, 0.0113],
        [12.894, -15.111, -0.223, 1.083, 0.869, -0.011, 0.0017],
        [15.380, -25.919, 0.179, 0.979, 0.595, -0.035, 0.0020],
    ]
    pairs = [(bodies[i], bodies[j]) for i in range(5) for j in range(i + 1, 5)]
    time = 0.01
    for _ in range(steps):
        for one, two in pairs:
            dx, dy, dz = one[0] - two[0], one[1] - two[1], one[2] - two[2]
            square = dx * dx + dy * dy + dz * dz
            pull = time / (square * math.sqrt(square))
            mass = two[6] * pull
            one[3] -= dx * mass
            one[4] -= dy * mass
            one[5] -= dz * mass
            mass = one[6] * pull
            two[3] += dx * mass
            two[4] += dy * mass
            two[5] += dz * mass
        for body in bodies:
            body[0] += time * body[3]
            body[1] += time * body[4]
            body[2] += time * body[5]
    return bodies[0][0]


def fannkuch(size: int) -> tuple[int, int]:
    order = list(range(size))
    left = [0] * size
    most = checksum = turn = 0
    depth = size
    while True:
        while depth != 1:
            left[depth - 1] = depth
            depth -= 1
        if order[0]:
            flipped = order[:]
            flips = 0
            first = flipped[0]
            while first:
                flipped[: first + 1] = flipped[first::-1]
                flips += 1
                first = flipped[0]
            most = max(most, flips)
            checksum += -flips if turn & 1 else flips
        while True:
            if depth == size:
                return checksum, most
            order.insert(depth, order.pop(0))
            left[depth] -= 1
            if left[depth] > 0:
                break
            depth += 1
        turn += 1


def json_texts(rounds: int) -> int:
    import json

    value = {"a": [1, 2.5, "x" * 20, None, True] * 20, "b": {str(n): n * 1.1 for n in range(200)}}
    return sum(len(json.dumps(json.loads(json.dumps(value)))) for _ in range(rounds))


def word_counts(rounds: int) -> tuple[str, int]:
    counts: dict[str, int] = {}
    words = ("the quick brown fox jumps over the lazy dog and runs away from it " * 20).split()
    for turn in range(rounds):
        for word in words:
            key = word + str(turn % 7)
            counts[key] = counts.get(key, 0) + 1
    return max(counts.items(), key=lambda item: (item[1], item[0]))


def fibonacci(number: int) -> int:
    return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)


def sieve(size: int) -> int:
    flags = bytearray([1]) * size
    for number in range(2, int(size**0.5) + 1):
        if flags[number]:
            flags[number * number :: number] = bytes(len(range(number * number, size, number)))
    return sum(flags)


def spectral_norm(size: int) -> float:
    def element(row: int, column: int) -> float:
        return 1.0 / ((row + column) * (row + column + 1) // 2 + row + 1)

    values = [1.0] * size
    for _ in range(2):
        rows = []
        for row in range(size):
            total = 0.0
            for column in range(size):
                total += element(row, column) * values[column]
            rows.append(total)
        values = rows
    return values[0]


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x = x
        self.y = y

    def plus(self, other: Point) -> Point:
        return Point(self.x + other.x, self.y + other.y)


def objects(count: int) -> int:
    point, step = Point(0, 0), Point(1, 2)
    for _ in range(count):
        point = point.plus(step)
    return point.x + point.y


def expressions(rounds: int) -> int:
    import re

    text = "name: John Smith, email: john.smith@example.com; phone +49 123 4567\n" * 50
    mail = re.compile(r"(\w+)\.(\w+)@(\w+)\.com")
    count = 0
    for _ in range(rounds):
        count += len(mail.findall(text)) + len(re.sub(r"\d+", lambda found: str(len(found[0])), text))
    return count


def alignment(length: int) -> int:
    import random

    source = random.Random(1)
    one = [source.choice("ACGT") for _ in range(length)]
    two = [source.choice("ACGT") for _ in range(length)]
    above = list(range(0, -length - 1, -1))
    for row, mine in enumerate(one, 1):
        line = [-row]
        for column, theirs in enumerate(two, 1):
            same = above[column - 1] + (1 if mine == theirs else -1)
            line.append(max(same, above[column] - 1, line[column - 1] - 1))
        above = line
    return above[-1]


def long_integers(rounds: int) -> int:
    value = 3
    for _ in range(rounds):
        value = value * value % (1 << 2000) + 7
    return value % 1_000_003


WORKLOADS: Final = (
    (nbody, 40_000),
    (fannkuch, 9),
    (json_texts, 900),
    (word_counts, 3_000),
    (fibonacci, 30),
    (sieve, 10_000_000),
    (spectral_norm, 500),
    (objects, 800_000),
    (expressions, 600),
    (alignment, 900),
    (long_integers, 20_000),
)
"""Functions, and an argument with which each takes some tenths of a second."""
