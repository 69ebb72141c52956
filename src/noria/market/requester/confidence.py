"""What a choice of replicas and own runs is worth, and the cheapest that is worth enough.

The model is the worst of its kind: a share p of the miners lies, in every unit, and all liars tell the same
lie, so that their answers agree. The draw cannot know them. A wrong result is returned only if all r replicas
of a unit lie and its own run, with probability s, does not happen: ``p^r · (1 - s)``. Where answers differ,
an own run decides. Where this machine cannot run units, further replicas do, and a third liar may join the
first: `third_opinion`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REPLICAS_MAX: Final = 8
LIARS: Final = 0.1
"""Share of lying miners that is assumed where nobody has said otherwise."""
OWN_RUN_COST: Final = 4.0
"""What a run on one's own machine is worth, in runs by a miner: who orders work has little time to spare."""
SAMPLE_MAX: Final = 0.5
"""Largest share of units that is run again without being asked for."""


class Unreachable(ValueError):
    """A confidence that no choice reaches."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How results are checked.

    Attributes
    ----------
    replicas
        Miners that run each unit.
    sample
        Share of the units that this machine runs again.
    liars
        The share of lying miners for which the rest holds.
    confidence
        Least probability that a returned result is right.
    """

    replicas: int
    sample: float
    liars: float
    confidence: float

    @property
    def cost(self) -> float:
        """Expected price of a unit, in runs by one miner; own runs cost no money."""
        return float(self.replicas)


def _share(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is a share, 0 to 1, not {value}")
    return value


def wrong_probability(replicas: int, sample: float, liars: float, *, third_opinion: bool = False) -> float:
    """Return the most that a returned result is wrong with.

    Parameters
    ----------
    replicas
        Miners that run each unit, at least 1.
    sample
        Share of the units that this machine runs again, at random.
    liars
        Share of lying miners.
    third_opinion
        Whether differing answers are decided by a majority with further miners rather than by an own run.

    Raises
    ------
    ValueError
        Where a number makes no sense.
    """
    if not 1 <= replicas <= REPLICAS_MAX:
        raise ValueError(f"replicas are 1 to {REPLICAS_MAX}, not {replicas}")
    p, s = _share("liars", liars), _share("sample", sample)
    wrong = p**replicas
    if third_opinion and replicas > 1:
        # Of two different answers one gains the majority by one more voice of its kind.
        wrong += _lost_majority(replicas, p)
    return wrong * (1.0 - s)


def _lost_majority(replicas: int, p: float) -> float:
    """Return the probability that answers differ and liars get a majority of all in the end."""
    lost = 0.0
    pending = {(lies, replicas - lies): _binomial(replicas, lies, p) for lies in range(1, replicas)}
    for _ in range(REPLICAS_MAX):
        following: dict[tuple[int, int], float] = {}
        for (lies, truths), probability in pending.items():
            if lies > truths:
                lost += probability
            elif lies == truths:
                for more, chance in ((1, p), (0, 1.0 - p)):
                    key = (lies + more, truths + 1 - more)
                    following[key] = following.get(key, 0.0) + probability * chance
        pending = following
    return lost


def _binomial(n: int, k: int, p: float) -> float:
    from math import comb

    return comb(n, k) * p**k * (1.0 - p) ** (n - k)


def catch_probability(replicas: int, sample: float, liars: float, lies: int = 1) -> float:
    """Return the probability that a miner that lies so many times is caught.

    Each lie is caught unless all other replicas tell the same and no own run happens.

    Raises
    ------
    ValueError
        Where a number makes no sense.
    """
    if lies < 0:
        raise ValueError(f"lies are counted from 0, not {lies}")
    escapes = (
        wrong_probability(replicas, sample, liars) / liars if liars else (1.0 - sample) * (replicas == 1)
    )
    return float(1.0 - escapes**lies)


def evaluate(replicas: int, sample: float, liars: float = LIARS) -> Choice:
    """Return what a choice is worth."""
    return Choice(replicas, sample, liars, 1.0 - wrong_probability(replicas, sample, liars))


def choose(
    confidence: float,
    *,
    liars: float = LIARS,
    replicas_min: int = 1,
    replicas_max: int = REPLICAS_MAX,
    sample_max: float = SAMPLE_MAX,
    own_run_cost: float = OWN_RUN_COST,
) -> Choice:
    """Return the cheapest choice whose results are right with at least this probability.

    Parameters
    ----------
    confidence
        Wanted probability, below 1.
    liars
        Assumed share of lying miners.
    replicas_min, replicas_max, sample_max
        Bounds of the choice.
    own_run_cost
        What an own run is worth, in runs by a miner.

    Raises
    ------
    Unreachable
        Where nothing within the bounds is enough.
    ValueError
        Where a number makes no sense.
    """
    if not 0.0 <= confidence < 1.0:
        raise ValueError(f"confidence is at least 0 and below 1, not {confidence}")
    allowed = 1.0 - confidence
    best: tuple[float, int, float] | None = None
    for replicas in range(replicas_min, replicas_max + 1):
        wrong = wrong_probability(replicas, 0.0, liars)
        sample = 0.0 if wrong <= allowed else 1.0 - allowed / wrong
        if sample > sample_max:
            continue
        cost = replicas + sample * own_run_cost
        if best is None or cost < best[0]:
            best = (cost, replicas, sample)
    if best is None:
        raise Unreachable(
            f"a confidence of {confidence} cannot be had with {replicas_max} replicas while {liars:.0%} of "
            "the miners may lie: ask for less, or assume fewer liars"
        )
    return evaluate(best[1], best[2], liars)
