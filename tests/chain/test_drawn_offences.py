"""What miners may not do is noticed, proven on chain and punished; lies about work are refuted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from noria._core import BlockAttributes
from noria.chain.certificates import CheckState
from noria.chain.findings import Ignored, Known
from noria.chain.slot_start import finality_with, slot_start, snapshot_of
from noria.consensus.alarms import Alarm, alarm_message, encode_alarm
from noria.consensus.blocks import Block, encode_block, make_block, signed
from noria.consensus.fork_choice import line
from noria.consensus.sent_block import SentBlock, encode_sent_block
from noria.consensus.slots import epoch_of, slot_start_seconds
from noria.consensus.validity import Accepted, Rejected
from noria.consensus.votes import Checkpoint, SignedVote, Vote, encode_signed_vote, vote_message
from noria.primitives.types import BlsSignature, Hash32
from noria.work.ids import ProgramId
from noria.work.workers import Outcome
from tests.chain.drawn import (
    FakeKey,
    Network,
    Node,
    address,
    agree,
    chain_of,
    claims_another_output,
    fast_network,
    final_roots,
    heads,
    running,
    state_of,
)
from tests.virtual_time import run_virtually


def another_block(node: Node, block: Block) -> Block:
    """A second, valid block by the proposer of a block for the same slot."""
    chain, rules = node.chain, node.chain.rules
    number = next(n for n in range(10) if address(n) == block.header.proposer)
    view = chain.tree.view(block.header.parent_root)
    assert view is not None
    header = block.header
    start = slot_start(
        rules,
        view,
        slot=header.slot,
        vrf_proof=header.vrf_proof,
        votes=(),
        finality=finality_with(rules, view, header.slot, ()),
        guilty=(),
    )
    built = node.engine.build(
        view.block.payload.block_hash,
        BlockAttributes(
            timestamp=slot_start_seconds(rules.parameters, rules.genesis_seconds, header.slot),
            fee_recipient=address(9),
            prev_randao=start.prev_randao,
            parent_beacon_block_root=header.parent_root,
            gas_limit=node.network.spec.gas_limit,
            extra_data=b"another",
            system_calls=start.calls(),
        ),
        [],
    )
    other = make_block(
        slot=header.slot,
        parent_root=header.parent_root,
        proposer=header.proposer,
        vrf_proof=header.vrf_proof,
        certificate=block.certificate,
        votes=(),
        evidence=(),
        payload=built.rlp(),
        signature=BlsSignature(bytes(96)),
    )
    return signed(other, FakeKey(number).sign(other.root(rules.genesis_root)))


def travelling(node: Node, block: Block, like: Block) -> bytes:
    """A block with the input of another one that shows the same work."""
    body = node.chain.block_by_root(like.root(node.chain.rules.genesis_root))
    assert body is not None
    return encode_sent_block(SentBlock(encode_block(block), body.input))


def test_two_blocks_for_one_slot_cost_the_bond(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(20)
        node = network.nodes[0]
        block = chain_of(node)[-1]
        guilty = block.header.proposer
        finding = await node.chain.judge(travelling(node, another_block(node, block), block), "peer")
        assert isinstance(finding, Accepted)
        assert len(node.hearsay.evidence) == 1
        await network.run_to(40)
        assert agree(network)
        found = state_of(network.nodes[3]).miners[guilty]
        assert found.bond_wei == 0
        assert found.slashed_epoch in (1, 2)
        assert found.jailed_until_epoch > 30
        assert any(block.evidence for block in chain_of(network.nodes[2]))
        others = [miner for miner in state_of(node).miners.values() if miner.address != guilty]
        assert all(miner.bond_wei > 0 for miner in others)
        made = [b.header.slot for b in chain_of(node) if b.header.proposer == guilty]
        punished = next(b.header.slot for b in chain_of(node) if b.evidence)
        assert max(made) <= punished
        await network.run_to(100)
        assert min(node.chain.tree.final.epoch for node in network.nodes) >= 4
        assert not len(node.hearsay.evidence)
        await network.stop()

    run_virtually(story())


def test_two_votes_for_one_epoch_cost_the_bond(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(38)
        node = network.nodes[1]
        rules = node.chain.rules
        guilty = address(3)
        source = node.chain.head.state.finality.tallies[-1].source
        vote = Vote(source, Checkpoint(2, Hash32(b"\x11" * 32)))
        forged = SignedVote(vote, guilty, FakeKey(3).sign(vote_message(rules.genesis_root, vote)))
        finding = await node.hearsay.judge_vote(encode_signed_vote(forged), "peer")
        assert isinstance(finding, Ignored)
        assert len(node.hearsay.evidence) == 1
        await network.run_to(50)
        assert state_of(network.nodes[2]).miners[guilty].bond_wei == 0
        assert agree(network)
        await network.run_to(100)
        assert len(heads(network)) == 1
        assert min(node.chain.tree.final.epoch for node in network.nodes) >= 4
        await network.stop()

    run_virtually(story())


def test_votes_of_strangers_forgeries_and_old_ones_are_not_kept(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(34)
        hearsay, rules = network.nodes[0].hearsay, network.nodes[0].chain.rules
        tally = network.nodes[0].chain.head.state.finality.tallies[-1]
        signature = FakeKey(7).sign(vote_message(rules.genesis_root, tally.vote))
        stranger = SignedVote(tally.vote, address(7), signature)
        assert isinstance(await hearsay.judge_vote(encode_signed_vote(stranger)), Ignored)
        # A vote that nobody has cast: of one that is known already, no second copy is looked at.
        uncast = Vote(tally.vote.source, Checkpoint(tally.target.epoch, Hash32(b"\x11" * 32)))
        forged = SignedVote(uncast, address(1), signature)
        assert isinstance(await hearsay.judge_vote(encode_signed_vote(forged)), Rejected)
        old = Vote(Checkpoint(5, tally.target.root), Checkpoint(9, tally.target.root))
        assert isinstance(
            await hearsay.judge_vote(encode_signed_vote(SignedVote(old, address(1), signature))), Ignored
        )
        assert isinstance(await hearsay.judge_vote(b"\xc0"), Rejected)
        assert isinstance(await hearsay.judge_evidence(b"\xc0"), Rejected)
        assert isinstance(await hearsay.judge_alarm(b"\xc0"), Rejected)
        await network.stop()

    run_virtually(story())


def lying_network(folder: Path) -> Network:
    """A network in which miner 3 did not do its work, and has a fifth of the weight."""
    return fast_network(folder, liars={3: claims_another_output})


def test_a_lie_about_work_is_refuted_by_everybody_and_never_becomes_final(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(lying_network(tmp_path))
        liar, honest = network.nodes[3], network.nodes[:3]
        # It does not mind its own lies.
        liar.chain.checker.submit = lambda *arguments: None  # type: ignore[method-assign]
        for slot in range(121):
            await network.run_to(slot)
            # Also where a lie comes that was refuted before: what is built next is built on the head.
            for node in honest:
                assert node.execution.pool_head.hash == node.chain.head.payload_hash, (slot, node.number)
        refuted = {kind for node in honest for kind, _ in node.said} & {"alarm"}
        assert refuted == {"alarm"}
        assert len({node.chain.head.root for node in honest}) == 1
        assert min(node.chain.tree.final.epoch for node in honest) >= 5
        lies = [
            block
            for block in chain_of(honest[0])
            if block.header.proposer == address(3) and block.certificate
        ]
        assert not lies
        engines = {engine for engine, _ in network.machine.runs}
        assert engines == {"wasmtime", "pulley"}
        await network.stop()

    run_virtually(story())


@pytest.mark.parametrize("is_right", [False, True])
def test_nothing_is_built_on_a_block_while_a_slow_second_engine_is_asked(
    tmp_path: Path, is_right: bool
) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path) if is_right else lying_network(tmp_path))
        looks, others = network.nodes[0], network.nodes[1:]
        chain = looks.chain
        for node in others:
            # They would build on it.
            node.chain.checker.submit = lambda *arguments: None  # type: ignore[method-assign]

        async def confirm(program: ProgramId, input: bytes, fuel_limit: int) -> Outcome:
            await asyncio.sleep(6)
            return network.machine.at_once(input, fuel_limit, "pulley")

        network.machine.confirm = confirm  # type: ignore[method-assign]
        if is_right:
            # It computes wrongly itself, once.
            network.machine.broken.add("wasmtime")
        doubted: set[Hash32] = set()
        for slot in range(100):
            await network.run_to(slot)
            now = {root for root in chain.tree.nodes if chain.checker.state(root) is CheckState.DOUBTED}
            assert now - {chain.tree.final.root} == chain.doubted
            doubted |= now
            if doubted:
                network.machine.broken.clear()
            own = {node.root for node in line(chain.tree.nodes, chain.head.root)}
            assert not own & chain.doubted, slot
        assert doubted
        states = {chain.certificate_state(root) for root in doubted}
        assert states == {CheckState.UNDECIDED if is_right else CheckState.REFUTED}
        if is_right:
            # It was the machine's fault: it is back among the others.
            assert agree(network)
        await network.stop()

    run_virtually(story())


def test_an_alarm_makes_a_node_look_that_would_not_have_looked(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        careless = await network.add(0, mines=False, name="careless")
        # Its budget is used up, so that it draws, and it never draws.
        checker = careless.chain.checker
        checker._draw = lambda: 1.0
        checker._budget(0)._demand = 1e12
        rules = careless.chain.rules

        def certified() -> list[Hash32]:
            return [block.root(rules.genesis_root) for block in chain_of(careless) if block.certificate]

        await network.run_until(lambda: len(certified()) >= 2)
        other, root = certified()[-2:]
        assert checker.state(root) is CheckState.NOT_DRAWN
        signature = FakeKey(2).sign(alarm_message(rules.genesis_root, root))
        alarm = encode_alarm(Alarm(root, address(2), signature))
        assert isinstance(await careless.hearsay.judge_alarm(alarm), Accepted)
        assert isinstance(await careless.hearsay.judge_alarm(alarm), Known | Ignored)
        await network.run_until(lambda: checker.state(root) is CheckState.RIGHT, 10)
        # It was false: whoever raised it is not listened to for a while.
        second = Alarm(other, address(2), FakeKey(2).sign(alarm_message(rules.genesis_root, other)))
        finding = await careless.hearsay.judge_alarm(encode_alarm(second))
        assert isinstance(finding, Ignored)
        assert "false alarm" in finding.reason
        forged = Alarm(other, address(1), second.signature)
        assert isinstance(await careless.hearsay.judge_alarm(encode_alarm(forged)), Rejected)
        await network.stop()

    run_virtually(story())


def test_a_machine_whose_engines_disagree_accuses_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        network.machine.broken.add("wasmtime")
        await network.run_to(60)
        states = {node.chain.checker.state(root) for node in network.nodes for root in node.chain.tree.nodes}
        assert CheckState.UNDECIDED in states
        assert CheckState.REFUTED not in states
        assert not any(kind == "alarm" for node in network.nodes for kind, _ in node.said)
        assert min(node.chain.tree.final.epoch for node in network.nodes) >= 2
        await network.stop()

    run_virtually(story())


def test_a_refuted_block_is_valid_for_ever_once_a_descendant_checkpoint_is_final(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(lying_network(tmp_path), 4)
        # Nobody of the miners looks; an observer does.
        for node in network.nodes:
            node.chain.checker.submit = lambda *arguments: None  # type: ignore[method-assign]
        observer = await network.add(0, mines=False, name="observer")
        refuted: set[Hash32] = set()
        for slot in range(121):
            await network.run_to(slot)
            refuted |= observer.chain.refuted
            # As long as it is not final, what follows a lie is not the observer's head.
            line = {block.root(observer.chain.rules.genesis_root) for block in chain_of(observer)}
            assert not line & observer.chain.refuted, slot
        lies = [b for b in chain_of(network.nodes[0]) if b.header.proposer == address(3) and b.certificate]
        assert lies
        assert min(node.chain.tree.final.epoch for node in network.nodes[:4]) >= 5
        # What two thirds have made final, the observer follows, although it knows better.
        assert observer.chain.tree.final.epoch >= 5
        assert agree(network)
        final, roots = (
            set(final_roots(observer)),
            {lie.root(observer.chain.rules.genesis_root) for lie in lies},
        )
        assert refuted & roots & final
        assert not observer.chain.refuted & final
        # It still knows. It has no weight, so that it tells nobody.
        states = {observer.chain.certificate_state(root) for root in refuted & roots & final}
        assert states == {CheckState.REFUTED}
        assert not any(kind == "alarm" for kind, _ in observer.said)
        await network.stop()

    run_virtually(story())


@pytest.mark.parametrize(("epoch", "slot"), [(1, 16), (2, 40)])
def test_snapshots_of_all_nodes_are_the_same(tmp_path: Path, epoch: int, slot: int) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(slot)
        found = set()
        for node in network.nodes:
            view = node.chain.tree.view(node.chain.head.root)
            assert view is not None
            snapshot = snapshot_of(view, epoch)
            assert len(snapshot.rows) == 4
            assert all(row.weight > row.grant > 0 for row in snapshot.rows)
            found.add(snapshot)
            assert epoch_of(node.chain.rules.parameters, slot) >= epoch
        assert len(found) == 1
        await network.stop()

    run_virtually(story())
