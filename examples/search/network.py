"""A small neural network in plain Python, and how well it does with given hyper-parameters.

`evaluate` is all that leaves the machine: it trains a network on a part of the samples and counts what it
gets right on the others.
"""

from collections.abc import Sequence
from math import exp, tanh
from operator import mul
from random import Random
from typing import NamedTuple

Sample = tuple[tuple[float, ...], int]
"""What was measured, each between about -3 and 3, and the class."""


class Choice(NamedTuple):
    """Hyper-parameters: size of the hidden layer, speed of learning and how it falls, decay of weights."""

    hidden: int
    rate: float
    cooling: float
    decay: float


class Split(NamedTuple):
    """Which samples, by number, teach the network, how often, and which test it."""

    taught: tuple[int, ...]
    tested: tuple[int, ...]
    epochs: int
    seed: int


class Score(NamedTuple):
    """How many of the tested samples were told right, and how far off the mean answer was, from 0 to 1."""

    right: int
    tried: int
    doubt: float


def evaluate(samples: Sequence[Sample], choice: Choice, split: Split) -> Score:
    """The task: train a network on some samples, and test it on others."""
    classes = 1 + max(label for _, label in samples)
    # All chance comes from the seed: a task that is run again comes to the same result.
    dice = Random(split.seed)
    inner = _layer(dice, choice.hidden, len(samples[0][0]))
    outer = _layer(dice, classes, choice.hidden)
    taught, rate = [samples[number] for number in split.taught], choice.rate
    for _ in range(split.epochs):
        dice.shuffle(taught)
        for values, label in taught:
            _learn(inner, outer, values, label, rate, rate * choice.decay)
        rate *= choice.cooling
    right, doubt = 0, 0.0
    for number in split.tested:
        values, label = samples[number]
        shares = _shares(outer, _activity(inner, values))
        right += max(range(classes), key=shares.__getitem__) == label
        doubt += 1.0 - shares[label]
    return Score(right, len(split.tested), doubt / len(split.tested))


def _layer(dice: Random, outputs: int, inputs: int) -> list[list[float]]:
    """Return small random weights; the last of each row is the bias."""
    return [[dice.gauss(0.0, (inputs + 1) ** -0.5) for _ in range(inputs + 1)] for _ in range(outputs)]


def _activity(inner: list[list[float]], values: tuple[float, ...]) -> list[float]:
    return [tanh(row[-1] + sum(map(mul, row, values))) for row in inner]


def _shares(outer: list[list[float]], activity: list[float]) -> list[float]:
    """How likely each class is (softmax)."""
    powers = [row[-1] + sum(map(mul, row, activity)) for row in outer]
    top = max(powers)
    likely = [exp(power - top) for power in powers]
    total = sum(likely)
    return [each / total for each in likely]


def _learn(
    inner: list[list[float]],
    outer: list[list[float]],
    values: tuple[float, ...],
    label: int,
    rate: float,
    decay: float,
) -> None:
    """Take one step down the slope of the loss (backpropagation)."""
    activity = _activity(inner, values)
    errors = _shares(outer, activity)
    errors[label] -= 1.0
    back = [0.0] * len(activity)
    keep = 1.0 - decay
    for row, error in zip(outer, errors, strict=True):
        step = rate * error
        for i, active in enumerate(activity):
            back[i] += error * row[i]
            row[i] = keep * row[i] - step * active
        row[-1] -= step
    for i, row in enumerate(inner):
        step = rate * back[i] * (1.0 - activity[i] ** 2)
        bias = row[-1] - step
        row[:] = [keep * weight - step * value for weight, value in zip(row, values, strict=False)]
        row.append(bias)
