"""Find good hyper-parameters of a small neural network: every training is a task of its own.

    python -m examples.search.search
    python -m examples.search.search --local --trials 100

Random search with cross-validation over 178 wines of three growers: which of them made a wine, going by
thirteen measurements?
"""

import argparse
import csv
import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from examples.search.network import Choice, Sample, Score, Split, evaluate
from examples.where import add_options, chosen_executor, stop_on_errors

WINES = Path(__file__).resolve().parent / "wine.csv"
HELD_SHARE = 5
"""One in so many samples is kept for the end; the search never sees it."""
SHOWN = 10
SAMPLES_MAX = 20_000


class BadTable(ValueError):
    """A file without samples to learn from; the message says why."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one choice: shares of right answers, one for each part that was left out, and doubt."""

    choice: Choice
    shares: tuple[float, ...]
    doubt: float

    @property
    def mean(self) -> float:
        return sum(self.shares) / len(self.shares)

    @property
    def deviation(self) -> float:
        return math.sqrt(sum((share - self.mean) ** 2 for share in self.shares) / len(self.shares))


def read_table(path: Path) -> tuple[Sample, ...]:
    """Read samples from CSV: numbers, the last of which is the class from 0; the first line is a heading.

    Measurements are scaled to mean 0 and deviation 1.

    Raises
    ------
    BadTable
        If there are none, or a line is not of this form.
    """
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    if not 10 <= len(rows) <= SAMPLES_MAX:
        raise BadTable(f"{path.name} has {len(rows)} samples: 10 to {SAMPLES_MAX} are needed")
    samples = []
    for line, row in enumerate(rows, start=2):
        try:
            values, label = [float(text) for text in row[:-1]], int(row[-1])
        except (ValueError, IndexError):
            raise BadTable(
                f"{path.name}: line {line} is not all numbers, with a whole one at its end"
            ) from None
        if not values or len(values) != len(rows[0]) - 1 or not all(map(math.isfinite, values)):
            raise BadTable(f"{path.name}: line {line} has not {len(rows[0]) - 1} measurements and a class")
        if not 0 <= label < 100:
            raise BadTable(f"{path.name}: line {line} is of class {label}: classes are 0 to 99")
        samples.append((values, label))
    columns = list(zip(*(values for values, _ in samples), strict=True))
    means = [sum(column) / len(column) for column in columns]
    deviations = [
        math.sqrt(sum((value - mean) ** 2 for value in column) / len(column)) or 1.0
        for column, mean in zip(columns, means, strict=True)
    ]
    return tuple(
        (tuple((v - m) / d for v, m, d in zip(values, means, deviations, strict=True)), label)
        for values, label in samples
    )


def choices(count: int, seed: int) -> list[Choice]:
    """Draw choices: better than a grid, for most parameters matter little (Bergstra and Bengio 2012)."""
    dice = Random(seed)
    return [
        Choice(
            hidden=dice.choice((2, 3, 4, 6)),
            rate=_rounded(10 ** dice.uniform(-2.5, 0)),
            cooling=_rounded(dice.uniform(0.5, 1)),
            decay=_rounded(10 ** dice.uniform(-5, -1)),
        )
        for _ in range(count)
    ]


def search(
    samples: Sequence[Sample],
    drawn: Sequence[Choice],
    executor: Executor,
    *,
    parts: int,
    epochs: int,
    seed: int,
) -> tuple[list[Trial], Score]:
    """Try all choices; return the trials, the best first, and how the best does on what no trial has seen."""
    order = list(range(len(samples)))
    Random(seed).shuffle(order)
    held, known = order[: len(order) // HELD_SHARE], order[len(order) // HELD_SHARE :]
    splits = [
        Split(
            taught=tuple(number for i, number in enumerate(known) if i % parts != part),
            tested=tuple(known[part::parts]),
            epochs=epochs,
            seed=seed,
        )
        for part in range(parts)
    ]
    task = partial(evaluate, samples)
    tasks = [(choice, split) for choice in drawn for split in splits]
    scores = list(executor.map(task, *zip(*tasks, strict=True)))
    trials = []
    for i, choice in enumerate(drawn):
        own = scores[i * parts : (i + 1) * parts]
        shares = tuple(score.right / score.tried for score in own)
        trials.append(Trial(choice, shares, sum(score.doubt for score in own) / parts))
    trials.sort(key=lambda trial: (-trial.mean, trial.doubt))
    final = Split(tuple(known), tuple(held), epochs, seed)
    return trials, executor.submit(task, trials[0].choice, final).result()


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="search", description="Find good hyper-parameters of a network.")
    parser.add_argument("--trials", type=int, default=40, help="choices to try (default: 40)")
    parser.add_argument("--parts", type=int, default=5, help="parts of the cross-validation (default: 5)")
    parser.add_argument(
        "--epochs", type=int, default=8, help="times that a training sees its samples (default: 8)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, default=WINES, help="CSV of numbers, the class last")
    parser.add_argument("--output", type=Path, help="write all trials to this CSV file")
    add_options(parser)
    chosen = parser.parse_args(arguments)
    for name, least, most in (("trials", 1, 10_000), ("parts", 2, 8), ("epochs", 1, 1000)):
        if not least <= getattr(chosen, name) <= most:
            parser.error(f"--{name} is from {least} to {most}")
    samples = read_table(chosen.data)
    drawn = choices(chosen.trials, chosen.seed)
    began = time.monotonic()
    with chosen_executor(chosen) as executor:
        trials, final = search(
            samples, drawn, executor, parts=chosen.parts, epochs=chosen.epochs, seed=chosen.seed
        )
    print(f"{'right':>7} {'±':>6} {'doubt':>6}   {'hidden':>6} {'rate':>8} {'cooling':>8} {'decay':>9}")
    for trial in trials[:SHOWN]:
        choice = trial.choice
        print(
            f"{100 * trial.mean:>6.1f}% {100 * trial.deviation:>5.1f}% {trial.doubt:>6.3f}   "
            f"{choice.hidden:>6} {choice.rate:>8g} {choice.cooling:>8g} {choice.decay:>9g}"
        )
    best = trials[0].choice
    print(f"best: hidden {best.hidden}, rate {best.rate:g}, cooling {best.cooling:g}, decay {best.decay:g}")
    wrong = final.tried - final.right
    print(f"on {final.tried} wines that no trial has seen: {final.right} right, {wrong} wrong")
    print(f"{len(trials) * chosen.parts + 1} trainings in {time.monotonic() - began:.1f} s")
    if chosen.output is not None:
        with chosen.output.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("hidden", "rate", "cooling", "decay", "right", "deviation", "doubt"))
            for t in trials:
                c = t.choice
                writer.writerow((c.hidden, c.rate, c.cooling, c.decay, t.mean, t.deviation, t.doubt))


if __name__ == "__main__":
    with stop_on_errors(BadTable):
        main(sys.argv[1:])
