"""Ten miners, three of which tell the same lies (`make soak`): who is caught, by the formula and in fact."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from concurrent.futures import Future, as_completed
from typing import Any

import pytest

from noria import Executor
from noria.market.requester import job as job_module
from noria.market.requester.compare import Verdict
from noria.market.requester.confidence import wrong_probability
from noria.market.requester.dispatch import Dispatcher
from noria.market.requester.place import Place
from noria.market.requester.place_link import PlaceLink
from noria.market.requester.units import Copy, Key, UnitState
from tests.client.runtime import python_runtime
from tests.market.client_process import trivial
from tests.market.processes import LONG_SECONDS, Market, all_end, market_of
from tests.node.networks import network_of

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3_000)]
SIGMAS = 4.0


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """Ten miners, of which three tell the same lies."""
    python_runtime()
    folder = tmp_path_factory.mktemp("crowd")
    with network_of(folder / "net", 10, units=2) as network:
        for node in network.nodes[-3:]:
            Market(network, folder).restart(node, lie="plausible")
        with market_of(network, folder) as market:
            for node in network.nodes:
                market.answers(node, 5)
            yield market


class Unbanned(Dispatcher):
    """A dispatcher that draws two miners of all for each unit, and sends nobody away."""

    caught: set[bytes]
    asked: list[list[int]]
    source = random.Random(11)

    def tick(self) -> None:
        """No copies beside: what is measured is a single unit's chance."""
        self.fill()

    def place_banned(self, k: int) -> None:
        """Go on."""

    def _candidates(self, state: UnitState, usable: list[PlaceLink], room: int = 1) -> list[PlaceLink]:
        found = super()._candidates(state, usable, room)
        return self.source.sample(found, len(found))

    def _accept(self, state: UnitState, verdict: Verdict) -> None:
        type(self).asked.append([copy.k for copy in state.live()])
        super()._accept(state, verdict)

    def _compare_late(self, copy: Copy, key: Key, accepted: Key) -> None:
        if key != accepted:
            type(self).caught.add(bytes(copy.state.unit_id))
        # As if nobody had seen it, so that it is given more to do.
        self._accept_copy(copy)


@pytest.mark.parametrize(("replicas", "sample"), [(1, 0.1), (2, 0.0), (2, 0.3)])
def test_thirty_percent_of_liars(
    crowd: Market, monkeypatch: pytest.MonkeyPatch, replicas: int, sample: float, capsys: Any
) -> None:
    units, share = 1_000, 0.3
    user = crowd.user()
    for name, value in user.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NORIA_NODE", crowd.network.nodes[0].rpc_url)
    with monkeypatch.context() as patched:
        Unbanned.caught, Unbanned.asked = set(), []
        patched.setattr(job_module, "Dispatcher", Unbanned)
        patched.setattr(Place, "eagerness", lambda self: 0.0)
        with Executor("4 NOR", replicas=replicas, sample=sample, miners=10, progress=False) as executor:
            futures: dict[Future[int], int] = {}
            for number in range(units):
                futures[executor.submit(trivial, number)] = number
            wrong = sum(future.result() != trivial(futures[future]) for future in as_completed(futures))
            job = executor.job.id
            places = executor.stats().places
    assert job is not None
    caught = len(Unbanned.caught)
    liars = {
        place.k for place in places if place.miner in {node.address for node in crowd.network.nodes[-3:]}
    }
    assert len(liars) == 3
    # Who was drawn for each unit is known; by the formula the rest is the sample's chance.
    told = [sum(k in liars for k in asked) for asked in Unbanned.asked]
    all_lie = sum(lying == replicas for lying in told) / units
    expected = all_lie * (1 - sample)
    seen = sum(lying > 0 for lying in told) / units - expected
    bound = wrong_probability(replicas, sample, share)
    with capsys.disabled():
        print(
            f"\nreplicas {replicas}, sample {sample:.0%}: wrong {wrong / units:.2%}, "
            f"expected {expected:.2%}, at most {bound:.2%}; caught {caught / units:.2%}, expected {seen:.2%}"
        )
    assert wrong / units <= bound + SIGMAS * math.sqrt(bound * (1 - bound) / units)
    spread = SIGMAS * math.sqrt(all_lie * sample * (1 - sample) / units) + 1e-9
    assert abs(wrong / units - expected) <= spread, (wrong / units, expected)
    assert abs(caught / units - seen) <= spread, (caught / units, seen)
    all_end(crowd, [job])


def test_a_third_of_liars_is_sent_away(crowd: Market) -> None:
    user = crowd.user()
    settings = {"budget": "2 NOR", "miners": 10, "replicas": 2, "sample": 0.2}
    program = user.start(crowd.network.nodes[0], units=400, rounds=1_000, settings=settings)
    program.has_job()
    told = program.finish(LONG_SECONDS)
    assert told["failed"] == 0
    # Until they are known two liars may meet, and agree. Were nobody sent away, one in 15 would be wrong, but
    # for those that are run here, too. It is fewer than half of that.
    assert told["wrong"] < 400 * (3 * 2) / (10 * 9) * 0.8 / 2
    banned = {place["miner"] for place in told["view"]["places"] if place["state"] == "banned"}
    assert banned == {node.address for node in crowd.network.nodes[-3:]}
    all_end(crowd, [crowd.job_of(user)])
