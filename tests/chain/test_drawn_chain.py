"""Several nodes make, check, vote on and finalise blocks; time is virtual, engines and stores are real."""

from __future__ import annotations

import asyncio
from pathlib import Path

from eth_account import Account

from noria.chain.certificates import CheckState
from noria.chain.findings import Ignored, Known
from noria.consensus.validity import Accepted
from noria.execution.accounts import dev_accounts
from noria.execution.consensus_state import ConsensusState, TallyState
from noria.primitives.types import Hash32
from tests.chain.drawn import (
    Network,
    address,
    agree,
    chain_of,
    fast_network,
    final_roots,
    heads,
    running,
    sent,
    state_of,
)
from tests.virtual_time import run_virtually


def test_four_miners_finalise_with_real_signatures(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(Network(tmp_path))
        await network.run_until(lambda: all(node.chain.tree.final.epoch for node in network.nodes), 100)
        await network.run_until(lambda: len(heads(network)) == 1)
        assert agree(network)
        await network.stop()

    run_virtually(story())


def test_each_epoch_becomes_final_in_the_next_but_one(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        for epoch in range(3, 8):
            # The votes for an epoch's checkpoint are cast at its quarter and included soon after.
            await network.run_to(epoch * 16 + 5)
            await network.run_until(
                lambda epoch=epoch: all(  # type: ignore[misc]
                    (node.chain.tree.final.epoch, node.chain.status.justified.epoch) == (epoch - 1, epoch)
                    for node in network.nodes
                ),
                10,
            )
        assert agree(network)
        assert len(final_roots(network.nodes[0])) > 30
        assert {node.miner.status.votes for node in network.nodes if node.miner} == {7}
        assert len({block.header.proposer for block in chain_of(network.nodes[0])}) == 4
        await network.stop()

    run_virtually(story())


def test_contracts_and_consensus_say_the_same_after_every_block(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        node = network.nodes[0]
        async with node.chain.events.subscribe_heads() as seen:
            await network.run_to(50)
            checked = 0
            for event in seen.drain():
                known = node.chain.tree.get(event.root)
                view = node.chain.tree.view(event.root)
                if known is None or view is None:
                    continue
                contracts = view.state.contracts
                finality = known.state.finality
                assert contracts.justified.epoch == finality.justified.epoch
                assert contracts.justified.root == finality.justified.root
                assert contracts.finalised.root == finality.finalised.root
                assert view.state.randomness() == known.state.randomness
                assert contracts.snapshot_root(known.state.randomness.epoch) != bytes(32)
                checked += 1
        assert checked > 10
        await network.stop()

    run_virtually(story())


def test_tags_name_the_head_what_is_justified_and_what_is_final(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        chain = network.nodes[1].chain
        assert chain.payload_at("latest").number == chain.payload_at("finalized").number == 0
        await network.run_to(58)
        latest, safe, final = (chain.payload_at(tag) for tag in ("latest", "safe", "finalized"))
        assert latest.number > safe.number > final.number > 0
        assert latest.hash == chain.execution.head.hash
        justified = chain.tree.get(chain.status.justified.root)
        assert justified is not None
        assert safe.hash == justified.payload_hash
        await network.stop()

    run_virtually(story())


def test_certificates_show_real_work_and_are_run_again_by_everybody(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        made = len(network.machine.runs)
        await network.run_to(30)
        with_work = [block for block in chain_of(network.nodes[0]) if block.certificate is not None]
        assert with_work
        root = with_work[0].root(network.nodes[0].chain.rules.genesis_root)
        for node in network.nodes:
            assert node.chain.checker.state(root) is CheckState.RIGHT
            assert not node.chain.refuted
        assert len(network.machine.runs) > made
        await network.stop()

    run_virtually(story())


def test_transactions_are_mined_and_come_back_from_the_losing_side_of_a_partition(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(6)
        network.partition([0], [1, 2, 3])
        account = dev_accounts()[9]
        signed = Account.sign_transaction(
            {
                "type": 2,
                "chainId": network.spec.chain_id,
                "nonce": 0,
                "to": address(0),
                "value": 1,
                "gas": 21_000,
                "maxFeePerGas": 10**10,
                "maxPriorityFeePerGas": 1,
            },
            account.private_key,
        )
        lonely = network.nodes[0]
        (tx_hash,) = await lonely.execution.submit([bytes(signed.raw_transaction)])
        assert isinstance(tx_hash, bytes)
        await network.run_to(30)
        await network.run_until(lambda: lonely.engine.transaction_location(tx_hash))
        await network.run_until(lambda: len(heads(network)) == 2)
        assert not any(node.chain.tree.final.epoch for node in network.nodes[:1])
        async with lonely.chain.events.subscribe_heads() as seen:
            network.partition()
            await network.run_until(lambda: any(event.depth > 0 for event in seen.drain()))
        # It is mined again on the chain that everybody has, by its miner, who has it alone.
        await network.run_until(
            lambda: lonely.engine.transaction_location(tx_hash) and len(heads(network)) == 1
        )
        assert agree(network)
        found = lonely.engine.transaction_location(tx_hash)
        assert found is not None
        assert lonely.engine.is_canonical(found[0])
        await network.stop()

    run_virtually(story())


def test_halves_do_not_finalise_apart_and_agree_again_when_joined(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(26)
        network.partition([0, 1], [2, 3])
        before = {node.chain.tree.final.epoch for node in network.nodes}
        await network.run_to(90)
        assert len(heads(network)) == 2
        assert {node.chain.tree.final.epoch for node in network.nodes} <= before | {1}
        network.partition()
        await network.run_to(150)
        assert len(heads(network)) == 1
        assert agree(network)
        assert min(node.chain.tree.final.epoch for node in network.nodes) >= 7
        # Nobody was punished for having been apart.
        assert all(miner.bond_wei > 0 for miner in state_of(network.nodes[0]).miners.values())
        await network.stop()

    run_virtually(story())


def test_blocks_that_come_in_any_order_and_twice_lead_to_the_same_head(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path), 3)
        network.partition([0, 1, 2], [3])
        late = await network.add(3, mines=False)
        await network.run_to(40)
        genesis_root = late.chain.rules.genesis_root
        blocks = [sent(network.nodes[0], block.root(genesis_root)) for block in chain_of(network.nodes[0])]
        late.chain.wanted = lambda root, source: None
        waiting = [asyncio.ensure_future(late.chain.take(data, "peer")) for data in reversed(blocks)]
        await asyncio.sleep(0.01)
        again = await late.chain.take(blocks[0], "other")
        findings = await asyncio.gather(*waiting)
        assert late.chain.head.root == network.nodes[0].chain.head.root
        assert all(isinstance(finding, Accepted | Known) for finding in [*findings, again])
        assert late.chain.status.waiting == 0
        assert isinstance(await late.chain.take(blocks[-1], "third"), Known)
        await network.stop()

    run_virtually(story())


def test_a_block_that_comes_early_is_held_until_its_slot(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path), 4)
        slow = await network.add(0, mines=False, name="slow", lag=3.0)
        await network.run_to(20)
        first = network.nodes[0].chain
        await network.run_until(lambda: slow.chain.status.waiting)
        assert slow.chain.head.node.slot < first.head.node.slot
        assert slow.chain.head.node.slot <= first.slot - 2
        for node in network.nodes[:4]:
            node.mute = True
        head = first.head.root
        await network.run_to(first.slot + 4)
        assert head in slow.chain.tree
        await network.stop()

    run_virtually(story())


def test_what_is_older_than_the_final_block_is_ignored(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        node = network.nodes[0]
        await network.run_until(lambda: chain_of(node))
        old = chain_of(node)[0]
        data = sent(node, old.root(node.chain.rules.genesis_root))
        await network.run_until(lambda: node.chain.tree.final.epoch >= 2)
        assert isinstance(await node.chain.judge(data, "peer"), Known)
        changed = bytearray(data)
        changed[-1] ^= 1
        assert isinstance(await node.chain.judge(bytes(changed), "peer"), Known | Ignored)
        await network.stop()

    run_virtually(story())


def test_states_that_share_closed_tallies_say_what_those_say_that_do_not(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(70)
        network.partition([0, 1], [2, 3])
        await network.run_to(100)
        network.partition()
        shared: dict[tuple[int, Hash32], TallyState] = {}
        leak = network.spec.parameters.leak_epochs
        checked = 0
        for node in network.nodes[::2]:
            for known in list(node.chain.tree)[::5]:
                alone = ConsensusState(node.engine, known.payload_hash, leak)
                with_others = ConsensusState(node.engine, known.payload_hash, leak, shared)
                assert with_others.voting_history == alone.voting_history
                assert with_others.fallen_asleep == alone.fallen_asleep
                checked += len(alone.voting_history)
        assert checked > 20
        assert shared
        await network.stop()

    run_virtually(story())
