"""A node that stops anywhere comes back with everything final, and never signs what could cost its bond."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.chain.block_store import BlockStore, BlockStoreError, BlockStoreForeign
from noria.chain.block_tree import BlockTree, KnownBlock
from noria.chain.certificates import CheckState
from noria.chain.chain_service import ChainService
from noria.chain.miner import NOT_LEVEL, first_unsigned
from noria.consensus.blocks import Block, decode_block
from noria.consensus.sent_block import decode_sent_block
from noria.consensus.slashing import slashable
from noria.consensus.validity import Accepted, BlockState
from noria.consensus.votes import Vote, decode_signed_vote
from noria.execution.parameters import DEVNET
from noria.primitives.types import Hash32
from tests.chain.drawn import Node, agree, chain_of, fast_network, final_roots, heads, running, sent
from tests.virtual_time import run_virtually


@pytest.mark.parametrize("slot", [3, 17, 21, 37, 44])
def test_a_restarted_node_knows_what_it_knew(tmp_path: Path, slot: int) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(slot)
        node = network.nodes[2]
        before = {known.root: known for known in node.chain.tree}
        head, final = node.chain.head, node.chain.tree.final
        await node.stop()
        await node.start()
        assert node.chain.tree.final == final
        assert node.chain.head.root == head.root
        assert {known.root: known for known in node.chain.tree} == before
        assert node.execution.head.hash == head.payload_hash
        await network.run_to(slot + 30)
        assert len(heads(network)) == 1
        assert agree(network)
        assert node.chain.tree.final.epoch == network.nodes[0].chain.tree.final.epoch
        assert not any(len(other.hearsay.evidence) for other in network.nodes)
        await network.stop()

    run_virtually(story())


def test_a_node_that_was_away_catches_up_and_mines_on(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(20)
        node = network.nodes[1]
        await node.stop()
        await network.run_to(50)
        await node.start()
        assert node.chain.head.node.slot <= 20
        await network.run_to(90)
        assert len(heads(network)) == 1
        assert node.miner is not None
        assert node.miner.status.blocks > 0
        assert agree(network)
        await network.stop()

    run_virtually(story())


@pytest.mark.parametrize("lost", ["engine", "both"])
def test_what_the_engine_has_lost_is_executed_again(tmp_path: Path, lost: str) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(44)
        node = network.nodes[0]
        head, final = node.chain.head.root, final_roots(node)
        assert final
        await node.stop()
        shutil.rmtree(node.folder / "engine")
        if lost == "both":
            for path in node.folder.glob("blocks.sqlite*"):
                path.unlink()
        await node.start()
        if lost == "engine":
            assert node.chain.head.root == head
        await network.run_to(80)
        assert len(heads(network)) == 1
        assert final_roots(node)[: len(final)] == final
        assert agree(network)
        await network.stop()

    run_virtually(story())


def test_a_lost_engine_is_made_again_without_the_whole_chain_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(140)
        node = network.nodes[2]
        await network.run_until(lambda: node.chain.head.node.height > 60)
        before = set(node.chain.tree.nodes)
        finals = list(node.chain.store.final_checkpoints())
        count = node.chain.head.node.height
        await node.stop()
        shutil.rmtree(node.folder / "engine")
        held: list[int] = []
        restored: list[Hash32] = []
        add, start = BlockTree.add, ChainService.start

        def counted(tree: BlockTree, block: Block, state: BlockState) -> KnownBlock:
            held.append(len(tree.nodes))
            return add(tree, block, state)

        async def seen(chain: ChainService) -> None:
            restored.extend(known.root for known in chain.restored)
            await start(chain)

        monkeypatch.setattr(BlockTree, "add", counted)
        monkeypatch.setattr(ChainService, "start", seen)
        await node.start()
        assert len(held) >= count > 60
        assert max(held) < 3 * DEVNET.epoch_slots
        assert set(restored) == set(node.chain.tree.nodes) == before
        assert list(node.chain.store.final_checkpoints()) == finals
        await network.stop()

    run_virtually(story())


def test_replay_from_genesis_reaches_the_same_state_at_every_block(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(60)
        first = network.nodes[0]
        blocks = chain_of(first)
        for node in network.nodes:
            node.mute = True
        fresh = await network.add(0, mines=False, name="fresh")
        for block in blocks:
            root = block.root(first.chain.rules.genesis_root)
            assert isinstance(await fresh.chain.take(sent(first, root), "first"), Accepted)
            known = fresh.chain.tree.get(root)
            assert known is not None
            assert known.state.payload.state_root == fresh.execution.head.state_root
        assert fresh.chain.head.root == first.chain.head.root
        assert fresh.chain.tree.final == first.chain.tree.final
        await network.stop()

    run_virtually(story())


def test_verdicts_about_work_outlive_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(30)
        node = network.nodes[0]
        shown = [known.root for known in node.chain.tree if known.certificate]
        assert shown
        await node.stop()
        runs = len(network.machine.runs)
        await node.start()
        assert all(node.chain.checker.state(root) is CheckState.RIGHT for root in shown)
        assert len(network.machine.runs) == runs
        await network.stop()

    run_virtually(story())


def test_a_store_of_another_chain_is_refused(tmp_path: Path) -> None:
    BlockStore(tmp_path / "blocks", Hash32(b"\x01" * 32)).close()
    with pytest.raises(BlockStoreForeign, match="use its specification or another folder"):
        BlockStore(tmp_path / "blocks", Hash32(b"\x02" * 32))
    (tmp_path / "garbage").write_bytes(b"no database" * 1000)
    with pytest.raises(BlockStoreForeign, match="no store of blocks"):
        BlockStore(tmp_path / "garbage", Hash32(b"\x01" * 32))


# ---------------------------------------------------------------- kill -9


def mine(folder: Path, first: int, last: int, step: int) -> subprocess.CompletedProcess[str]:
    """Let a process mine from one slot to another, or be killed at a step."""
    return subprocess.run(
        [sys.executable, "-m", "tests.chain.mining_by_lot", str(folder), str(first), str(last), str(step)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def said_by(folder: Path) -> Iterator[tuple[str, bytes]]:
    # A process that is killed in the middle of a line has not sent it.
    for line in (folder / "said").read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            kind, data = line.split()
            yield kind, bytes.fromhex(data)


def check_nothing_slashable(folder: Path) -> None:
    """No two blocks for a slot, no two votes that nobody may sign both, among all that was ever sent."""
    blocks: dict[int, bytes] = {}
    votes: list[Vote] = []
    for kind, data in said_by(folder):
        if kind == "block":
            block = decode_block(decode_sent_block(data, DEVNET).block)
            assert blocks.setdefault(block.header.slot, block.signature) == block.signature
        elif kind == "vote":
            vote = decode_signed_vote(data).vote
            assert not any(slashable(other, vote) for other in votes)
            votes.append(vote)
    assert blocks


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_step_a_miner_loses_nothing_final_and_signs_nothing_twice(tmp_path: Path) -> None:
    assert mine(tmp_path, 0, 22, -1).returncode == 0
    slot, final = 22, ""
    # From the first steps of a start to far into an epoch; odd and even fall before and after writes.
    for step in (0, 1, 2, 3, 5, 8, 13, 21, 34, 47):
        killed = mine(tmp_path, slot, slot + 40, step)
        assert killed.returncode == -9, killed.stderr
        # Time passes; the next start is in the slot in which the last one was killed, or a little later.
        slot += step // 4
        check_nothing_slashable(tmp_path)
    done = mine(tmp_path, slot, slot + 60, -1)
    assert done.returncode == 0, done.stderr
    _, epoch, count, final = done.stdout.splitlines()[-1].split()
    assert int(epoch) >= 3
    assert int(count) > 20
    check_nothing_slashable(tmp_path)
    again = mine(tmp_path, slot + 61, slot + 100, -1)
    assert again.stdout.splitlines()[-1].split()[3].startswith(final)


def test_a_new_journal_lets_an_epoch_pass_before_it_votes(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(38)
        node = network.nodes[3]
        await node.stop()
        (node.folder / "journal").unlink()
        await node.start()
        await network.run_to(46)
        assert node.miner is not None
        assert node.miner.status.votes == 0
        await network.run_to(62)
        assert node.miner.status.votes == 1
        assert not any(len(other.hearsay.evidence) for other in network.nodes)
        await network.stop()

    run_virtually(story())


def votes_of(node: Node) -> list[Vote]:
    return [decode_signed_vote(data).vote for kind, data in node.said if kind == "vote"]


def test_who_has_lost_everything_votes_when_it_has_what_others_have(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(70)
        node, *others = reversed(network.nodes)
        before = votes_of(node)
        assert before[-1].source.epoch == 3
        await node.stop()
        shutil.rmtree(node.folder)
        # Nobody is there yet: by its own blocks nothing was justified, and a vote from genesis surrounds.
        network.partition([node.number], [other.number for other in others])
        node.is_level = lambda: False
        await node.start()
        assert node.miner is not None
        miner = node.miner
        await network.run_until(lambda: miner.status.last_reason == NOT_LEVEL, 40)
        await network.run_to(110)
        assert votes_of(node) == before
        network.partition()
        await node.catch_up(others[0])
        node.is_level = lambda: True
        await network.run_to(150)
        after = votes_of(node)[len(before) :]
        assert len(after) >= 2
        assert not any(slashable(old, new) for old in before for new in after)
        assert agree(network)
        assert node.chain.tree.final.epoch >= 7
        await network.stop()

    run_virtually(story())


def test_what_may_be_signed_without_a_journal_is_told_by_the_clock_and_the_blocks(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        assert first_unsigned(network.nodes[0].chain) == (0, 0)
        await network.run_to(70)
        node = network.nodes[0]
        newest = max(known.node.slot for known in node.chain.tree)
        assert first_unsigned(node.chain) == (71, 5)
        await node.stop()
        node.lag = 40.0
        await node.start()
        assert node.chain.slot < newest
        assert first_unsigned(node.chain) == (newest + 1, newest // DEVNET.epoch_slots + 1)
        await network.stop()

    run_virtually(story())


@pytest.mark.parametrize("write", ["put", "finalise"])
def test_a_miner_alone_goes_on_after_a_write_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path, 1))
        await network.run_to(20)
        node = network.nodes[0]
        right, failed = getattr(node.chain.store, write), []

        def full(*arguments: Any, **options: Any) -> None:
            failed.append(node.chain.slot)
            monkeypatch.setattr(node.chain.store, write, right)
            raise BlockStoreError("the disk is full")

        monkeypatch.setattr(node.chain.store, write, full)
        while not failed:
            await network.run_to(node.chain.slot + 1)
        # The engine has a block by now that the head is not set to.
        assert node.execution.pool_head.hash != node.chain.head.payload_hash
        await network.run_to(failed[0] + 40)
        assert node.chain.head.node.slot > failed[0] + 30
        assert node.execution.pool_head.hash == node.chain.head.payload_hash
        assert node.chain.tree.final.epoch >= 2
        await network.stop()

    run_virtually(story())
