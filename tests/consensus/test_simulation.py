"""Many nodes on a bad network: the honest never finalise differently, go on, and punish (invariant 5)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from math import sqrt

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.consensus.parameters import DEVNET, DEVNET_GRANT_FUEL
from noria.consensus.weight import bond_cover
from tests.consensus.byzantine import (
    LIAR,
    Behaviour,
    DoubleVoter,
    Equivocator,
    FalseAlarmist,
    ForeignReplay,
    Forger,
    Silent,
    SurroundVoter,
    TwoFaced,
    Withholder,
    WrongInput,
)
from tests.consensus.simulation import Diverged, Partition, Plan, Simulation, Weather

GRANT = DEVNET_GRANT_FUEL
WORK = [2 * 10**9] * 40
BONDED = bond_cover(DEVNET, DEVNET.bond_min_wei)
EPOCH = DEVNET.epoch_slots


def run(plan: Plan) -> Simulation:
    """Run a plan; divergence raises. No honest miner is ever punished (invariant 9), or ignored."""
    simulation = Simulation(plan)
    simulation.run()
    honest = simulation.addresses([node.number for node in simulation.honest])
    assert not simulation.slashed() & honest
    for node in simulation.honest:
        assert not honest & set(node.alarm_record.ignored), node.number
    return simulation


def assert_finalising(simulation: Simulation, *, behind: int = 3) -> None:
    """Every honest node has finalised nearly everything."""
    for node in simulation.honest:
        assert node.final.epoch >= simulation.plan.epochs - behind, node.number


def byzantine_share(plan: Plan) -> float:
    weights = [
        (plan.grants or dict.fromkeys(range(plan.nodes), GRANT))[n] + BONDED for n in range(plan.nodes)
    ]
    return sum(weights[n] for n in plan.byzantine) / sum(weights)


# ---------------------------------------------------------------- honest networks


def test_a_run_is_repeated_by_its_seed() -> None:
    def history(seed: int) -> tuple[object, ...]:
        plan = Plan(6, 4, seed, Weather(loss=0.1), {0: Equivocator(), 1: Forger()} if seed else {})
        simulation = run(plan)
        return (
            [(node.head, node.final) for node in simulation.nodes],
            sorted(simulation.links),
            sorted(simulation.rejections.items()),
        )

    assert history(1) == history(1)
    assert history(1)[1] != history(2)[1]


def test_a_calm_network_finalises_every_epoch_and_shares_blocks_by_weight() -> None:
    grants = {0: GRANT, 1: GRANT, 2: 2 * GRANT, 3: 4 * GRANT}
    epochs = 60
    simulation = run(Plan(4, epochs, seed=1, grants=grants))
    assert_finalising(simulation, behind=2)
    assert simulation.deepest_reorganisation <= 2
    assert len({node.head for node in simulation.nodes}) <= 2
    head = max((node.node for node in simulation.links.values()), key=lambda node: node.height)
    slots, total = epochs * EPOCH, sum(grants.values())
    chances = {number: 2 / 3 * grant / total for number, grant in grants.items()}
    nobody = 1.0
    for chance in chances.values():
        nobody *= 1 - chance
    sigma = sqrt(slots * nobody * (1 - nobody))
    assert abs(head.height - slots * (1 - nobody)) <= 4 * sigma
    # Who won slots: each winner's block exists, whether or not it became part of the chain.
    won = Counter(
        simulation.world.numbers[link.envelope.header.proposer]
        for link in simulation.links.values()
        if link.envelope is not None
    )
    for number, chance in chances.items():
        assert abs(won[number] - slots * chance) <= 4 * sqrt(slots * chance * (1 - chance))


def test_every_checkpoint_is_final_within_three_epochs() -> None:
    simulation = Simulation(Plan(4, 40, seed=3))
    behind: list[int] = []
    watch = simulation.finalised

    def finalised(node: object) -> None:
        watch(node)  # type: ignore[arg-type]
        behind.append(simulation.slot // EPOCH - simulation.final.epoch)

    simulation.finalised = finalised  # type: ignore[method-assign]
    simulation.run()
    assert len(behind) >= 4 * 35
    assert max(behind) <= 3


def test_work_is_drawn_and_shown() -> None:
    simulation = run(Plan(4, 8, seed=4, work=dict.fromkeys(range(4), WORK)))
    assert_finalising(simulation)
    shown = [link for link in simulation.links.values() if link.envelope and link.envelope.certificate]
    empty = [link for link in simulation.links.values() if link.envelope and not link.envelope.certificate]
    # 0.4 of 1.4 of the weight is work.
    assert abs(len(shown) / (len(shown) + len(empty)) - 0.4 / 1.4) < 0.25
    assert simulation.refuted == set()


@pytest.mark.parametrize("loss", [0.05, 0.3])
def test_lost_messages_are_made_good(loss: float) -> None:
    simulation = run(Plan(7, 12, seed=5, weather=Weather(loss=loss, mean_delay=200)))
    assert_finalising(simulation)


# ---------------------------------------------------------------- Byzantine nodes

KINDS: Mapping[str, Behaviour] = {
    "equivocator": Equivocator(),
    "double voter": DoubleVoter(),
    "surround voter": SurroundVoter(),
    "withholder": Withholder((0, 1, 2)),
    "forger": Forger(),
    "wrong input": WrongInput(),
    "foreign replay": ForeignReplay(),
    "liar": LIAR,
    "false alarmist": FalseAlarmist(),
    "silent": Silent(),
    "two-faced": TwoFaced(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_three_of_ten_of_any_kind_change_nothing(kind: str) -> None:
    plan = Plan(
        10,
        14,
        seed=6,
        weather=Weather(loss=0.02),
        byzantine=dict.fromkeys(range(3), KINDS[kind]),
        work=dict.fromkeys(range(10), WORK),
    )
    assert byzantine_share(plan) == pytest.approx(0.3)
    simulation = run(plan)
    assert_finalising(simulation, behind=4)
    slashed = simulation.slashed()
    if kind in ("equivocator", "double voter", "surround voter"):
        assert slashed == simulation.addresses(range(3))
        assert sum(simulation.evidence_seen.values()) > 0
    elif kind != "two-faced":
        assert slashed == set()


def test_each_lie_of_a_forger_is_rejected_by_name() -> None:
    simulation = run(Plan(10, 20, seed=8, byzantine=dict.fromkeys(range(3), Forger())))
    expected = {
        "LotteryLost",
        "WrongLotteryProof",
        "WrongSignature",
        "WrongShape",
        "NotCanonical",
        "MessageTooLong",
        "VoteError",
        "WrongEvidenceSignature",
        "UnknownKind",
    }
    assert expected <= set(simulation.rejections)


def test_a_true_block_with_a_wrong_input_is_rejected_and_the_true_copy_taken() -> None:
    liars = range(3)
    byzantine = dict.fromkeys(liars, WrongInput())
    simulation = run(Plan(10, 14, seed=8, byzantine=byzantine, work=dict.fromkeys(range(10), WORK)))
    assert_finalising(simulation)
    assert {"WrongInput", "InputMissing"} <= set(simulation.rejections)
    for node in simulation.honest:
        shown = [
            link.envelope for link in node.chain(node.head) if link.envelope and link.envelope.certificate
        ]
        assert simulation.addresses(liars) & {block.header.proposer for block in shown}


def test_what_was_said_on_another_network_counts_for_nothing_here() -> None:
    simulation = run(Plan(10, 14, seed=8, byzantine=dict.fromkeys(range(3), ForeignReplay())))
    assert_finalising(simulation)
    assert {"ParentNeverCame", "VoteError"} <= set(simulation.rejections)
    assert not simulation.evidence_seen
    assert not simulation.slashed()


def test_blocks_that_show_work_never_done_are_left_behind() -> None:
    simulation = run(Plan(10, 14, seed=8, byzantine={0: LIAR, 1: LIAR}, work=dict.fromkeys(range(10), WORK)))
    assert_finalising(simulation)
    assert len(simulation.refuted) >= 2
    for node in simulation.honest:
        link = node.links[node.head]
        while link.parent is not None:
            assert link.block.root not in simulation.refuted
            link = link.parent


def test_who_cries_wolf_costs_others_one_run_in_leak_epochs() -> None:
    leak = 4
    plan = Plan(
        8,
        15,
        seed=17,
        byzantine={0: FalseAlarmist()},
        work=dict.fromkeys(range(8), WORK),
        parameters=replace(DEVNET, leak_epochs=leak),
        drawn=0.0,
    )
    simulation = run(plan)
    assert_finalising(simulation)
    assert {alarmist for _, alarmist, _ in simulation.alarm_runs} == simulation.addresses([0])
    for node in simulation.honest:
        epochs = [epoch for number, _, epoch in simulation.alarm_runs if number == node.number]
        # It warns of several blocks in every slot. After the time it is listened to again.
        assert {later - earlier for earlier, later in pairwise(epochs)} == {leak}
        assert len(epochs) >= 3


def test_false_alarms_silence_no_true_one() -> None:
    liars, alarmists = range(2), range(2, 4)
    plan = Plan(
        12,
        14,
        seed=18,
        byzantine={**dict.fromkeys(liars, LIAR), **dict.fromkeys(alarmists, FalseAlarmist(8))},
        work=dict.fromkeys(range(12), WORK),
        drawn=0.2,
    )
    simulation = run(plan)
    assert_finalising(simulation, behind=4)
    late = simulation.last_slot - 5
    told = {root for root in simulation.refuted if simulation.links[root].block.slot < late}
    assert len(told) >= 5
    for node in simulation.honest:
        # By itself it would have looked at one in five.
        assert told & set(node.links) <= node.refuted
        assert simulation.addresses(alarmists) <= set(node.alarm_record.ignored)


def test_all_kinds_at_once_on_a_bad_network() -> None:
    kinds: list[Behaviour] = [
        Equivocator(),
        DoubleVoter(),
        SurroundVoter(),
        Withholder((3, 4)),
        Withholder((3, 4)),
        Forger(),
        LIAR,
        Silent(),
        TwoFaced(),
    ]
    plan = Plan(
        30,
        14,
        seed=9,
        weather=Weather(loss=0.1, mean_delay=150),
        byzantine=dict(enumerate(kinds)),
        work=dict.fromkeys(range(30), WORK),
        crashes=[(20, 30, 60), (21, 80, 95), (22, 100, 101)],
    )
    assert byzantine_share(plan) == pytest.approx(0.3)
    simulation = run(plan)
    assert_finalising(simulation, behind=4)
    assert simulation.addresses([0, 1, 2]) <= simulation.slashed()


@pytest.mark.slow
def test_a_hundred_nodes() -> None:
    kinds: list[Behaviour] = [Equivocator(), DoubleVoter(), Forger(), LIAR, Silent(), Withholder((5, 11))]
    plan = Plan(
        100,
        6,
        seed=10,
        weather=Weather(loss=0.05, mean_delay=150),
        byzantine={number: kinds[number % 6] for number in range(30)},
        work=dict.fromkeys(range(100), WORK),
    )
    assert byzantine_share(plan) == pytest.approx(0.3)
    simulation = run(plan)
    assert_finalising(simulation)
    assert len({node.final for node in simulation.honest}) == 1


# ---------------------------------------------------------------- partitions, stops, silence


def halves(nodes: int, first: int, start: int, end: int) -> Weather:
    groups = (frozenset(range(first)), frozenset(range(first, nodes)))
    return Weather(partitions=(Partition(start, end, groups),))


@pytest.mark.parametrize(
    ("first", "epochs"),
    [
        (2, 8),
        (1, 8),
        pytest.param(2, DEVNET.leak_epochs // 2, marks=pytest.mark.slow),
        pytest.param(1, DEVNET.leak_epochs // 2, marks=pytest.mark.slow),
    ],
)
def test_a_partition_heals(first: int, epochs: int) -> None:
    """2/2 stops finality, 3/1 does not; afterwards all four go on together."""
    start = 3 * EPOCH
    plan = Plan(4, 3 + epochs + 5, seed=11, weather=halves(4, first, start, start + epochs * EPOCH))
    simulation = run(plan)
    assert_finalising(simulation)
    assert len({node.final for node in simulation.nodes}) == 1


def test_a_minority_finalises_nothing_alone_and_the_majority_goes_on() -> None:
    simulation = Simulation(Plan(4, 12, seed=12, weather=halves(4, 1, 3 * EPOCH, 99 * EPOCH)))
    simulation.run()
    assert simulation.nodes[0].final.epoch <= 2
    assert min(node.final.epoch for node in simulation.nodes[1:]) >= 9


def test_nodes_stop_and_start_at_any_time_and_sign_nothing_twice() -> None:
    crashes = [
        (number, 20 + 7 * step, 20 + 7 * step + 5 * number) for step in range(12) for number in range(1, 4)
    ]
    simulation = run(Plan(7, 12, seed=13, crashes=crashes, weather=Weather(loss=0.05)))
    assert_finalising(simulation, behind=4)
    assert not simulation.evidence_seen


def test_weight_that_sleeps_stops_finality_only_for_leak_epochs() -> None:
    leaky = replace(DEVNET, leak_epochs=4)
    plan = Plan(10, 14, seed=14, byzantine=dict.fromkeys(range(4), Silent()), parameters=leaky)
    simulation = run(plan)
    assert_finalising(simulation)
    # Without the rule they would wait for ever: four of ten are more than a third.
    waiting = run(replace(plan, parameters=DEVNET))
    assert {node.final.epoch for node in waiting.honest} == {0}


def two_faced(byzantine: int, seed: int, epochs: int, healed: int) -> Plan:
    """Two groups of honest nodes that do not hear each other, and Byzantine ones that talk to both."""
    both, rest = set(range(byzantine)), list(range(byzantine, 20))
    groups = (frozenset(both | set(rest[::2])), frozenset(both | set(rest[1::2])))
    weather = Weather(partitions=(Partition(2 * EPOCH, healed * EPOCH, groups),))
    return Plan(20, epochs, seed, weather, dict.fromkeys(both, TwoFaced(groups, 2 * EPOCH)))


def test_less_than_a_third_on_both_sides_of_a_partition_finalises_nothing_twice_and_is_punished() -> None:
    simulation = run(two_faced(6, 15, 16, 9))
    assert_finalising(simulation, behind=4)
    assert simulation.slashed() == simulation.addresses(range(6))


def test_the_watch_sees_what_more_than_a_third_can_do() -> None:
    """Four tenths on both sides: seven tenths of the weight finalise each. The promise ends where it says."""
    with pytest.raises(Diverged, match="others"):
        run(two_faced(8, 16, 12, 12))


# ---------------------------------------------------------------- any plan


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    nodes = draw(st.integers(4, 12))
    grants = {number: draw(st.sampled_from([GRANT // 2, GRANT, 2 * GRANT])) for number in range(nodes)}
    total = sum(grants.values()) + nodes * BONDED
    chosen, weight = list[int](), 0
    for number in draw(st.permutations(range(nodes))):
        if 10 * (weight + grants[number] + BONDED) <= 3 * total:
            weight += grants[number] + BONDED
            chosen.append(number)
    kinds = [*KINDS.values(), Withholder(tuple(chosen))]
    byzantine = {number: draw(st.sampled_from(kinds)) for number in chosen}
    start, length = draw(st.integers(EPOCH, 4 * EPOCH)), draw(st.integers(0, 3 * EPOCH))
    side = frozenset(draw(st.sets(st.integers(0, nodes - 1), min_size=1, max_size=nodes - 1)))
    stop, pause = draw(st.integers(1, 5 * EPOCH)), draw(st.integers(1, 2 * EPOCH))
    return Plan(
        nodes,
        13,
        draw(st.integers(0, 2**32)),
        Weather(
            mean_delay=draw(st.sampled_from([30, 100, 300])),
            loss=draw(st.sampled_from([0.0, 0.05, 0.2])),
            partitions=(Partition(start, start + length, (side, frozenset(range(nodes)) - side)),),
        ),
        byzantine,
        grants,
        dict.fromkeys(range(nodes), WORK),
        [(draw(st.integers(0, nodes - 1)), stop, stop + pause)],
    )


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(plans())
def test_whatever_less_than_a_third_does_the_honest_agree_and_go_on(plan: Plan) -> None:
    assert_finalising(run(plan), behind=5)
