"""What a choice is worth: the formula, the cheapest choice, and liars that are really let loose."""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.market.requester.confidence import (
    Unreachable,
    catch_probability,
    choose,
    evaluate,
    wrong_probability,
)
from noria.market.requester.dispatch import Dispatcher
from noria.market.requester.evidence import Settled, SignedReceipt
from noria.market.requester.units import Claim, Copy
from noria.primitives.hashes import blake3
from noria.primitives.types import ZERO_HASH, Signature, Wei
from noria.work.ids import blob_id
from noria.work.receipts import Receipt
from tests.market.requester.fakes import ROOT, TruthfulRuns, Wanted, key_of, truth

SHARES = st.floats(0.0, 1.0)


def test_the_formula() -> None:
    assert wrong_probability(1, 0.0, 0.3) == pytest.approx(0.3)
    assert wrong_probability(2, 0.0, 0.3) == pytest.approx(0.09)
    assert wrong_probability(2, 0.5, 0.3) == pytest.approx(0.045)
    # Two differ with 2 · 0.3 · 0.7; the third opinion is a lie with 0.3.
    assert wrong_probability(2, 0.0, 0.3, third_opinion=True) == pytest.approx(0.09 + 0.42 * 0.3)
    assert catch_probability(2, 0.0, 0.3, lies=1) == pytest.approx(0.7)
    assert catch_probability(2, 0.1, 0.3, lies=10) == pytest.approx(1 - 0.27**10)
    assert catch_probability(1, 0.05, 0.3, lies=20) == pytest.approx(1 - 0.95**20)


@given(replicas=st.integers(1, 8), sample=SHARES, liars=SHARES)
def test_more_of_anything_is_never_worse(replicas: int, sample: float, liars: float) -> None:
    wrong = wrong_probability(replicas, sample, liars)
    assert 0.0 <= wrong <= 1.0
    assert wrong_probability(replicas, 1.0, liars) == 0.0
    if replicas < 8:
        assert wrong_probability(replicas + 1, sample, liars) <= wrong
    assert wrong <= wrong_probability(replicas, sample, liars, third_opinion=True) + 1e-12


@given(confidence=st.floats(0.5, 0.999_999), liars=st.floats(0.01, 0.4))
def test_the_choice_keeps_what_it_promises(confidence: float, liars: float) -> None:
    try:
        choice = choose(confidence, liars=liars, replicas_min=2)
    except Unreachable:
        assert wrong_probability(8, 0.5, liars) > 1 - confidence
        return
    assert choice.confidence >= confidence - 1e-9
    assert 2 <= choice.replicas <= 8
    if choice.replicas > 2:
        # With one less it would take more than may be sampled, or cost as much.
        fewer = wrong_probability(choice.replicas - 1, 0.5, liars)
        assert fewer > 1 - confidence or choice.sample == 0.0


def test_choices_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="below 1"):
        choose(1.0)
    with pytest.raises(ValueError, match="share"):
        evaluate(2, 1.5)
    with pytest.raises(ValueError, match="replicas"):
        evaluate(0, 0.0)
    with pytest.raises(Unreachable, match="ask for less"):
        choose(0.999999, liars=0.5)
    chosen = choose(0.99, liars=0.1)
    assert (chosen.replicas, chosen.sample, chosen.cost) == (2, 0.0, 2.0)
    assert chosen.confidence == pytest.approx(0.99)


# ---------------------------------------------------------------- liars let loose


@dataclass
class SimulatedPlace:
    """A place that answers at once, without a line or a signature."""

    k: int
    is_liar: bool
    dispatcher: Dispatcher
    is_banned: bool = False

    @property
    def is_usable(self) -> bool:
        return not self.is_banned

    def room(self) -> int:
        return 1_000

    def eagerness(self) -> float:
        return 0.0

    def order(self, copy: Copy) -> None:
        self.pending = copy
        ORDERED.append((self, copy))

    def open(self, copy: Copy) -> None:
        unit = copy.state.unit
        assert unit is not None
        outcome = truth(unit.input, unit.fuel_limit)
        output = blake3(b"the same lie" + unit.input) if self.is_liar else outcome.output
        receipt = Receipt(
            genesis_root=ROOT,
            job=1,
            k=self.k,
            miner=key_of(self.k).address,
            index=copy.number,
            unit_id=unit.unit_id,
            output_id=blob_id(output),
            status=outcome.status,
            fuel=outcome.fuel,
            weight=0,
        )
        signed = SignedReceipt(receipt, Signature(bytes(65)), ZERO_HASH, None, 1, Wei(1))
        self.dispatcher.on_claim(copy, Claim(signed, output, b""))

    def cancel(self, copy: Copy) -> None:
        pass

    def verified(self, copy: Copy) -> None:
        pass

    def ban(self, reason: str) -> None:
        # Liars are not sent away here: what is measured is a single unit's chance.
        self.is_caught = True


ORDERED: list[tuple[SimulatedPlace, Copy]] = []


class Stays(Dispatcher):
    """A dispatcher for which every unit meets miners as if they were new."""

    def place_banned(self, k: int) -> None:
        pass


async def simulate(replicas: int, sample: float, share: float, units: int, seed: int) -> tuple[int, int]:
    """Return how many units were told wrongly, and how many lies were seen."""
    source = random.Random(seed)
    tasks: set[asyncio.Task[Any]] = set()

    def spawn(work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    wrong = caught = 0
    for number in range(units):
        dispatcher = Stays(replicas, sample, own_runs=TruthfulRuns(), spawn=spawn, source=source)
        for k in range(replicas):
            dispatcher.places[k] = SimulatedPlace(k, source.random() < share, dispatcher)
        wanted = Wanted(b"unit %d" % number)
        dispatcher.add(wanted.unit)
        dispatcher.fill()
        for place, copy in list(ORDERED):
            if copy.is_sealed:
                dispatcher.on_seal(copy, ZERO_HASH)
            else:
                place.open(copy)
        ORDERED.clear()
        settled: Settled = await wanted.future
        wrong += settled.output != wanted.expected.output
        caught += any(getattr(place, "is_caught", False) for place in dispatcher.places.values())
        assert wanted.told == 1
    return wrong, caught


@pytest.mark.parametrize(("replicas", "sample"), [(1, 0.0), (1, 0.1), (2, 0.0), (2, 0.1), (2, 0.5), (3, 0.0)])
async def test_measured_rates_are_those_of_the_formula(replicas: int, sample: float) -> None:
    share, units = 0.3, 3_000
    wrong, caught = await simulate(replicas, sample, share, units, seed=17)
    expected = wrong_probability(replicas, sample, share)
    spread = 4 * (expected * (1 - expected) / units) ** 0.5
    assert abs(wrong / units - expected) <= spread + 1e-9, (wrong / units, expected)
    some_liar = 1 - (1 - share) ** replicas
    seen = some_liar - expected
    spread = 4 * (seen * (1 - seen) / units) ** 0.5
    assert abs(caught / units - seen) <= spread + 1e-9, (caught / units, seen)
