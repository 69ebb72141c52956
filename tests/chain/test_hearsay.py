"""What waits to be included in a block, and what cannot drive it out."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.chain import certificates, hearsay, offences, vote_pool
from noria.chain.certificates import CheckState
from noria.chain.findings import Finding, Ignored
from noria.chain.offences import EACH_MAX, EvidencePool
from noria.chain.vote_pool import VOTES_MAX, VotePool
from noria.consensus.alarms import Alarm, alarm_message, encode_alarm
from noria.consensus.parameters import DEVNET
from noria.consensus.slashing import (
    AttributedVote,
    VoteEvidence,
    check_evidence,
    encode_evidence,
    slashed,
)
from noria.consensus.slots import epoch_of
from noria.consensus.state import MinerRecord
from noria.consensus.validity import Accepted, Postponed
from noria.consensus.votes import Checkpoint, SignedVote, Vote, vote_message
from noria.primitives.types import BlsSignature, Hash32
from tests.chain import drawn
from tests.chain.drawn import FakeKey, Network, Node, chain_of, fast_network, running, state_of
from tests.consensus.world import FAKE, PlainState, address, bls_key
from tests.virtual_time import run_virtually

ROOT = Hash32(b"\x01" * 32)
MINERS = [address(number) for number in range(20)]
STATE = PlainState({miner: MinerRecord(miner, bls_key(n), 1000) for n, miner in enumerate(MINERS)})


def vote(source: int, target: int, which: int = 0) -> Vote:
    return Vote(Checkpoint(source, ROOT), Checkpoint(target, Hash32(which.to_bytes(32, "big"))))


def twice(*numbers: int, target: int, which: int = 1) -> VoteEvidence:
    """Two votes of one or more miners for one epoch."""
    miners = sorted(numbers, key=lambda number: MINERS[number])
    signed = (
        AttributedVote(
            it,
            tuple(MINERS[number] for number in miners),
            FAKE.aggregate([FAKE.sign(bls_key(number), vote_message(ROOT, it)) for number in miners]),
        )
        for it in (vote(0, target), vote(0, target, which))
    )
    return VoteEvidence(*signed)


def signed(number: int, it: Vote) -> SignedVote:
    return SignedVote(it, MINERS[number], FAKE.sign(bls_key(number), vote_message(ROOT, it)))


# ---------------------------------------------------------------- votes


def foreign(number: int) -> SignedVote:
    """A vote for something that nobody else votes for."""
    return SignedVote(vote(0, 5, 1 + number), address(1000 + number), BlsSignature(bytes(96)))


@pytest.mark.parametrize(("before", "after"), [(200, 0), (0, 200), (200, 200)])
def test_votes_that_count_stay_however_many_vote_for_something_else(before: int, after: int) -> None:
    pool = VotePool()
    for number in range(before):
        pool.add(foreign(number), counts=False)
    pool.add(signed(0, vote(0, 5)), counts=True)
    for number in range(after):
        pool.add(foreign(before + number), counts=False)
    assert len(pool) == min(1 + before + after, VOTES_MAX)
    assert pool.has(signed(0, vote(0, 5)))


def test_of_other_votes_those_stay_on_which_most_agree() -> None:
    pool = VotePool()
    rival = [signed(0, vote(0, 5, 2**100)), signed(1, vote(0, 5, 2**100))]
    for number in range(100):
        pool.add(foreign(number), counts=False)
    for it in rival:
        pool.add(it, counts=False)
    for number in range(100, 200):
        pool.add(foreign(number), counts=False)
    assert all(pool.has(it) for it in rival)
    # The latest is heard of all the same: others may agree with it.
    assert pool.has(foreign(199))
    assert not pool.has(foreign(0))
    pool.prune(6)
    assert not len(pool)


def test_voters_for_anything_do_not_drive_out_what_a_block_may_include(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vote_pool, "VOTES_MAX", 3)

    async def story() -> None:
        network = await running(fast_network(tmp_path), 1)
        await network.run_to(36)
        node = network.nodes[0]
        own = node.journal.last_vote
        assert own is not None
        assert own.vote.target.epoch == 2
        assert node.hearsay.votes.has(own)
        root = node.chain.rules.genesis_root
        for number, target in ((1, 1), (1, 2), (1, 3), (2, 2), (3, 2)):
            other = vote(0, target, number)
            cast = SignedVote(other, drawn.address(number), FakeKey(number).sign(vote_message(root, other)))
            assert isinstance(await node.hearsay.take_vote(cast), Accepted)
        assert node.hearsay.votes.has(own)
        await network.stop()

    run_virtually(story())


# ---------------------------------------------------------------- evidence


def test_offences_of_the_future_do_not_stand_before_those_of_the_present() -> None:
    pool = EvidencePool()
    for number in range(16):
        pool.add(DEVNET, twice(number, target=2**60))
    pool.add(DEVNET, twice(19, target=3))
    chosen, guilty = pool.select(DEVNET, FAKE, ROOT, STATE, 3)
    assert (chosen, guilty) == ((twice(19, target=3),), (MINERS[19],))


def test_what_the_next_epoch_can_punish_waits_and_what_is_paid_for_goes() -> None:
    pool = EvidencePool()
    pieces = [twice(0, target=3), twice(1, target=3), twice(1, target=4)]
    for evidence in pieces:
        pool.add(DEVNET, evidence)
    records = {**STATE.records, MINERS[1]: slashed(DEVNET, STATE.records[MINERS[1]], 3)}
    state = replace(STATE, records=records)
    pool.forget(pool.stale(DEVNET, FAKE, ROOT, state, 3))
    assert [pool.has(it) for it in pieces] == [True, False, True]
    assert pool.select(DEVNET, FAKE, ROOT, state, 3)[1] == (MINERS[0],)
    assert pool.select(DEVNET, FAKE, ROOT, state, 4)[1] == tuple(sorted(MINERS[:2]))


def test_whoever_offends_again_and_again_leaves_room_for_what_others_have_done() -> None:
    pool = EvidencePool()
    pool.add(DEVNET, twice(0, target=3))
    for which in range(1, 1_000):
        evidence = twice(1, target=3, which=which)
        assert pool.wants(DEVNET, evidence) is (which <= EACH_MAX)
        pool.add(DEVNET, evidence)
    pool.add(DEVNET, twice(2, target=3))
    assert pool.has(twice(0, target=3))
    assert pool.has(twice(2, target=3))
    assert len(pool) == EACH_MAX + 2
    # What accuses somebody else beside it is not enough of the same.
    both = twice(1, 3, target=3)
    assert pool.wants(DEVNET, both)
    pool.add(DEVNET, both)
    assert pool.has(both)
    assert pool.select(DEVNET, FAKE, ROOT, STATE, 3)[1] == tuple(sorted(MINERS[:4]))


def test_of_one_miners_offences_those_are_kept_that_can_be_punished_first() -> None:
    pool = EvidencePool()
    late = [twice(1, target=5, which=which) for which in range(1, EACH_MAX + 1)]
    for evidence in late:
        pool.add(DEVNET, evidence)
    assert not pool.wants(DEVNET, twice(1, target=6))
    assert not pool.select(DEVNET, FAKE, ROOT, STATE, 4)[1]
    early = twice(1, target=4)
    assert pool.wants(DEVNET, early)
    pool.add(DEVNET, early)
    assert [pool.has(it) for it in (early, *late)] == [True] * EACH_MAX + [False]
    assert pool.select(DEVNET, FAKE, ROOT, STATE, 4)[1] == (MINERS[1],)


@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 7), min_size=1, max_size=3), st.integers(1, 3), st.integers(1, 6)),
        max_size=60,
    )
)
def test_about_everybody_who_was_accused_something_is_kept(
    offended: list[tuple[set[int], int, int]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offences, "POOL_MAX", 8)
        pool, accused = EvidencePool(), set[int]()
        for numbers, target, which in offended:
            evidence = twice(*numbers, target=target, which=which)
            known, wanted = pool.has(evidence), pool.wants(DEVNET, evidence)
            assert pool.add(DEVNET, evidence) is pool.has(evidence)
            accused |= numbers
            assert known or wanted or not pool.has(evidence)
            assert len(pool) <= 8
            kept = [piece.accused for piece in pool._pool.values()]
            assert {miner for miners in kept for miner in miners} == {MINERS[n] for n in accused}
            assert pool._about == Counter(miner for miners in kept for miner in miners)


def test_a_flood_of_one_miners_offences_is_neither_checked_nor_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[object] = []

    def check(*about: Any) -> Any:
        checked.append(about)
        return check_evidence(*about)

    monkeypatch.setattr(hearsay, "check_evidence", check)

    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(20)
        node = network.nodes[0]
        root = node.chain.rules.genesis_root

        def offence(number: int, which: int) -> bytes:
            votes = (vote(0, 1), vote(0, 1, which))
            signed = (
                AttributedVote(it, (drawn.address(number),), FakeKey(number).sign(vote_message(root, it)))
                for it in votes
            )
            return encode_evidence([VoteEvidence(*signed)])

        assert isinstance(await node.hearsay.judge_evidence(offence(2, 1)), Accepted)
        flood = [await node.hearsay.judge_evidence(offence(3, which)) for which in range(1, 400)]
        assert [isinstance(finding, Accepted) for finding in flood].count(True) == EACH_MAX
        assert all(isinstance(finding, Ignored) for finding in flood[EACH_MAX:])
        assert len(checked) == 1 + EACH_MAX
        # Also what the node finds out by itself.
        node.said.clear()
        for which in range(1, 50):
            cast = vote(0, 1, 1_000 + which)
            signature = FakeKey(3).sign(vote_message(root, cast))
            await node.hearsay.take_vote(SignedVote(cast, drawn.address(3), signature))
        assert not [kind for kind, _ in node.said if kind == "evidence"]
        await network.run_to(40)
        for number in (2, 3):
            assert state_of(node).miners[drawn.address(number)].slashed_epoch == 1
        await network.stop()

    run_virtually(story())


def test_nodes_take_no_evidence_of_an_offence_that_is_far_off(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(17)
        node = network.nodes[0]
        root, guilty = node.chain.rules.genesis_root, drawn.address(3)

        def evidence(target: int) -> bytes:
            votes = (vote(0, target), vote(0, target, 1))
            signed = (AttributedVote(it, (guilty,), FakeKey(3).sign(vote_message(root, it))) for it in votes)
            return encode_evidence([VoteEvidence(*signed)])

        for target in (3, 2**60):
            finding = await node.hearsay.judge_evidence(evidence(target))
            assert isinstance(finding, Ignored)
            assert "cannot be punished" in finding.reason
        assert not len(node.hearsay.evidence)
        # The next epoch's is kept until it has begun.
        assert isinstance(await node.hearsay.judge_evidence(evidence(2)), Accepted)
        await network.run_until(lambda: any(block.evidence for block in chain_of(node)))
        shown = next(block for block in chain_of(node) if block.evidence)
        epoch = epoch_of(node.chain.rules.parameters, shown.header.slot)
        assert state_of(node).miners[guilty].slashed_epoch == epoch >= 2
        # Before, the node has made a block without it.
        own = [block.header.slot for block in chain_of(node) if block.header.proposer == drawn.address(0)]
        assert any(17 < slot < 32 for slot in own)
        await network.stop()

    run_virtually(story())


# ---------------------------------------------------------------- alarms


async def careless(network: Network) -> Node:
    """A node that looks at no certificate of its own accord, with the chain of the others."""
    node = await network.add(0, mines=False, name="careless")
    checker = node.chain.checker
    checker._draw = lambda: 1.0
    checker._budget(0)._demand = 1e12
    await network.run_to(24)
    return node


def shown(node: Node) -> list[Hash32]:
    """The roots of the blocks that show work, the latest first."""
    genesis = node.chain.rules.genesis_root
    return [block.root(genesis) for block in chain_of(node)[::-1] if block.certificate]


async def alarm(node: Node, number: int, root: Hash32) -> Finding:
    signature = FakeKey(number).sign(alarm_message(node.chain.rules.genesis_root, root))
    return await node.hearsay.judge_alarm(encode_alarm(Alarm(root, drawn.address(number), signature)))


def test_an_alarm_that_this_machine_cannot_decide_does_not_mute_who_raised_it(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        node = await careless(network)
        first, second, *_ = shown(node)
        network.machine.broken.add("wasmtime")
        assert isinstance(await alarm(node, 2, first), Accepted)
        await network.run_to(25)
        assert node.chain.checker.state(first) is CheckState.UNDECIDED
        # Neither the alarm that could not be decided nor one more about the same block keeps others out.
        assert isinstance(await alarm(node, 1, first), Accepted)
        await network.run_to(26)
        assert node.chain.checker.state(first) is CheckState.UNDECIDED
        network.machine.broken.clear()
        for number in (1, 2):
            assert isinstance(await alarm(node, number, second), Accepted)
        # Whoever repeats what could not be decided lets it be tried again.
        assert isinstance(await alarm(node, 3, first), Accepted)
        await network.run_to(28)
        assert node.chain.checker.state(first) is CheckState.RIGHT
        await network.stop()

    run_virtually(story())


def test_one_alarm_of_each_signer_is_looked_into_at_a_time(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        node = await careless(network)
        checker = node.chain.checker
        checker._budget(1)._saved = -1e9  # what alarms may take is used up for a long time
        first, second, third, *_ = shown(node)
        assert isinstance(await alarm(node, 2, first), Accepted)
        assert checker.state(first) is CheckState.WAITING
        assert isinstance(await alarm(node, 2, second), Ignored)
        # Where the block is gone, so is the alarm.
        checker.forget([first])
        assert isinstance(await alarm(node, 2, second), Accepted)
        assert isinstance(await alarm(node, 2, third), Ignored)
        await network.stop()

    run_virtually(story())


def test_alarms_of_one_signer_that_come_together_cost_one_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        node = await careless(network)
        checker, thread = node.chain.checker, node.chain.importer.thread
        checker._budget(1)._saved = -1e9

        async def slow(*work: Any) -> Any:
            await asyncio.sleep(0.01)
            return await thread(*work)

        monkeypatch.setattr(node.chain.importer, "thread", slow)
        roots = shown(node)[:3]
        found = await asyncio.gather(*(alarm(node, 2, root) for root in roots))
        assert [isinstance(finding, Accepted) for finding in found] == [True, False, False]
        states = [checker.state(root) for root in roots]
        assert states == [CheckState.WAITING, CheckState.NOT_DRAWN, CheckState.NOT_DRAWN]
        await network.stop()

    run_virtually(story())


def test_an_alarm_about_a_block_of_an_epoch_that_this_chain_has_not_come_to_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        node = await careless(network)
        first, *_ = shown(node)
        with monkeypatch.context() as patch:
            # As where the block is on a rival branch, and this one has had no block for more than an epoch.
            patch.setattr(node.chain.tree, "snapshot", lambda root, epoch: None)
            finding = await alarm(node, 2, first)
        assert isinstance(finding, Postponed)
        assert finding.kind == "SnapshotMissing"
        assert isinstance(await alarm(node, 2, first), Accepted)
        await network.stop()

    run_virtually(story())


def test_an_alarm_that_found_no_place_does_not_mute_who_raised_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        node = await careless(network)
        checker = node.chain.checker
        checker._budget(1)._saved = -1e9
        first, second, *_ = shown(node)
        monkeypatch.setattr(certificates, "WAITING_MAX", 1)
        assert isinstance(await alarm(node, 2, first), Accepted)
        # The older of two alarms' blocks is looked at first.
        assert isinstance(await alarm(node, 3, second), Accepted)
        assert [checker.state(root) for root in (first, second)] == [CheckState.NOT_DRAWN, CheckState.WAITING]
        monkeypatch.undo()
        assert isinstance(await alarm(node, 2, shown(node)[2]), Accepted)
        # What made room is looked at as soon as somebody asks again.
        assert isinstance(await alarm(node, 1, first), Accepted)
        assert checker.state(first) is CheckState.WAITING
        await network.stop()

    run_virtually(story())
