"""Nodes that only know each other through a network: they make one chain, catch up, and see through liars."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from eth_account import Account

from noria.chain import import_queue
from noria.consensus.blocks import decode_block, encode_block
from noria.consensus.fork_choice import line
from noria.consensus.sent_block import SentBlock, decode_sent_block, encode_sent_block
from noria.execution.accounts import dev_accounts
from noria.network.messages import (
    BLOCKS_MAX,
    PeerStatus,
    RangeRequest,
    decode_blocks,
    decode_range,
    encode_blocks,
    encode_range,
    encode_status,
)
from noria.network.peers import PeerId
from noria.network.transport import Request, Verdict
from noria.primitives.types import Hash32
from tests.chain.drawn import PARAMETERS, address, agree, chain_of, final_roots, heads, sent
from tests.network.memory import MemoryTransport
from tests.node.networked import TOPICS, Networked, Speaker, blamed
from tests.virtual_time import run_virtually


async def started(network: Networked, count: int = 4) -> Networked:
    for number in range(count):
        await network.join(number)
    return network


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_nodes_that_gossip_finalise_one_chain(tmp_path: Path, loss: float) -> None:
    async def story() -> None:
        network = await started(Networked(tmp_path, loss=loss))
        await network.run_to(60)
        assert agree(network)
        assert {node.chain.tree.final.epoch for node in network.speakers} <= {1, 2}
        assert min(node.chain.tree.final.epoch for node in network.speakers) >= (2 if not loss else 1)
        for node in network.speakers:
            rejected = [entry for entry in node.transport.verdicts if entry[2] is Verdict.REJECT]
            assert not rejected
            assert not node.transport.scores
        await network.stop()

    run_virtually(story())


def test_a_transaction_that_one_node_takes_is_mined_by_another(tmp_path: Path) -> None:
    async def story() -> None:
        network = Networked(tmp_path)
        watcher = await network.join(0, mines=False, name="watcher")
        for number in range(1, 4):
            await network.join(number)
        await network.run_to(4)
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
            dev_accounts()[9].private_key,
        )
        (tx_hash,) = await watcher.execution.submit([bytes(signed.raw_transaction)])
        assert isinstance(tx_hash, bytes)
        location = await watcher.execution.wait_for_transaction(tx_hash, timeout_seconds=20)
        assert location.block_number > 0
        published = [
            v for node in network.speakers for v in node.transport.verdicts if v[1] == TOPICS.transactions
        ]
        # Each other node judged it once: nobody has sent it out again as its own.
        assert [v[2] for v in published] == [Verdict.ACCEPT] * 3
        await network.stop()

    run_virtually(story())


def test_forged_transactions_are_rejected_and_early_ones_only_ignored(tmp_path: Path) -> None:
    async def story() -> None:
        network = await started(Networked(tmp_path), 1)
        stranger = network.memory.connect("stranger")
        await stranger.publish(TOPICS.transactions, b"\x02nonsense")
        await stranger.publish(TOPICS.votes, b"\xc0")
        await stranger.publish(TOPICS.blocks, b"\xc2\x80\x80")
        await asyncio.sleep(1)
        (node,) = network.speakers
        verdicts = {(v[1], v[2]) for v in node.transport.verdicts}
        assert verdicts == {
            (TOPICS.transactions, Verdict.REJECT),
            (TOPICS.votes, Verdict.REJECT),
            (TOPICS.blocks, Verdict.REJECT),
        }
        await network.stop()

    run_virtually(story())


def test_a_node_with_an_empty_store_catches_up_from_several(tmp_path: Path) -> None:
    async def story() -> None:
        network = await started(Networked(tmp_path))
        await network.run_to(230)
        late = await network.join(0, mines=False, name="late")
        await network.run_to(236)
        assert late.chain.head.node.height >= network.speakers[0].chain.head.node.height - 1
        assert late.chain.tree.final.epoch == network.speakers[0].chain.tree.final.epoch
        assert late.chain.head.node.height > 3 * 32
        await network.run_to(245)
        assert len(heads(network)) == 1
        await network.stop()

    run_virtually(story())


def test_a_range_that_no_chain_has_is_empty(tmp_path: Path) -> None:
    async def story() -> None:
        network = await started(Networked(tmp_path), 1)
        await network.run_to(4)
        stranger, (node,) = network.memory.connect("stranger"), network.speakers
        for first in (10**6, 2**63 - 1, 2**63, 2**64 - 1):
            answer = await stranger.request(
                node.peer, TOPICS.range, encode_range(RangeRequest(first, BLOCKS_MAX))
            )
            assert decode_blocks(answer, PARAMETERS) == ()
        await network.stop()

    run_virtually(story())


class Liar:
    """A peer that says it is far ahead, and then sends what a test makes of true blocks."""

    def __init__(self, transport: MemoryTransport, root: Hash32, blocks: list[bytes], kind: str) -> None:
        self.kind, self.blocks, self.asked = kind, blocks, 0
        self.status = PeerStatus(root, 0, root, 10**6, 10**6, Hash32(b"\x55" * 32))
        transport.serve(TOPICS.status, self.tell)
        transport.serve(TOPICS.range, self.send)
        transport.serve(TOPICS.roots, self.send_other)

    async def tell(self, request: Request) -> bytes:
        if self.kind == "other chain":
            return encode_status(
                PeerStatus(Hash32(b"\x66" * 32), 0, Hash32(bytes(32)), 9, 9, Hash32(bytes(32)))
            )
        return b"\xc1\x80" if self.kind == "garbled status" else encode_status(self.status)

    async def send(self, request: Request) -> bytes:
        self.asked += 1
        wanted = decode_range(request.data)
        part = self.blocks[wanted.first_height - 1 :][: wanted.count]
        if self.kind == "nothing":
            return encode_blocks([])
        if self.kind == "garbage":
            return b"\xff" * 100
        if self.kind == "silence":
            await asyncio.sleep(100)
        if self.kind == "changed" and part:
            changed = bytearray(part[0])
            changed[-3] ^= 1
            return encode_blocks([bytes(changed), *part[1:]])
        if self.kind == "old":
            return encode_blocks(self.blocks[: wanted.count])
        if self.kind == "without input":
            copies = [decode_sent_block(data, PARAMETERS) for data in part]
            return encode_blocks([encode_sent_block(SentBlock(copy.block, None)) for copy in copies])
        if self.kind == "too early" and part:
            copy = decode_sent_block(part[0], PARAMETERS)
            block = decode_block(copy.block)
            block = dataclasses.replace(block, header=dataclasses.replace(block.header, slot=115))
            return encode_blocks([encode_sent_block(SentBlock(encode_block(block), copy.input)), *part[1:]])
        if self.kind == "unlinked":
            return encode_blocks(part[1:] or part)
        return encode_blocks(part)

    async def send_other(self, request: Request) -> bytes:
        return encode_blocks(self.blocks[:1])


def blocks_of(node: Speaker) -> list[bytes]:
    """A node's chain, as it travels."""
    return [sent(node, block.root(node.chain.rules.genesis_root)) for block in chain_of(node)]


@pytest.mark.parametrize(
    "kind", ["nothing", "garbage", "silence", "changed", "unlinked", "other chain", "garbled status"]
)
def test_a_lying_peer_costs_time_and_nothing_else(tmp_path: Path, kind: str) -> None:
    async def story() -> None:
        network = await started(Networked(tmp_path))
        await network.run_to(60)
        first = network.speakers[0]
        root = first.chain.rules.genesis_root
        Liar(network.memory.connect("liar"), root, blocks_of(first), kind)
        late = await network.join(0, mines=False, name="late")
        await network.run_to(100)
        assert late.chain.tree.final == first.chain.tree.final
        assert agree(network)
        if kind != "unlinked":
            assert any(score < 0 for score, _ in blamed(late, PeerId("liar")))
        honest = [PeerId(f"node{number}") for number in range(4)]
        assert not any(blamed(late, peer) for peer in honest)
        await network.stop()

    run_virtually(story())


@pytest.mark.parametrize("kind", ["unlinked", "old", "too early", "without input"])
def test_a_peer_known_longer_than_all_others_does_not_keep_a_node_back(tmp_path: Path, kind: str) -> None:
    async def story() -> None:
        network = await started(Networked(tmp_path))
        await network.run_to(100)
        first, honest = network.speakers[0], list(network.speakers)
        root, blocks = first.chain.rules.genesis_root, blocks_of(first)
        liar = Liar(network.memory.connect("liar"), root, blocks, kind)
        liar.status = dataclasses.replace(liar.status, head_height=len(blocks))
        network.memory.cut = {frozenset((PeerId("late"), node.peer)) for node in honest}
        late = await network.join(0, mines=False, name="late")
        await network.run_to(102)
        asked = liar.asked
        assert asked
        assert late.chain.head.node.height <= 32
        network.separate()
        # Nothing waits for a slot to come or for a block to be given up.
        await network.run_to(106)
        assert late.chain.head.node.height >= first.chain.head.node.height - 1
        assert liar.asked == asked
        scores = [score for score, _ in blamed(late, PeerId("liar"))]
        assert bool(scores) == (kind == "old" or kind == "without input")
        assert not any(blamed(late, node.peer) for node in honest)
        await network.stop()

    run_virtually(story())


def test_parts_of_a_partitioned_network_agree_after_it_is_healed(tmp_path: Path) -> None:
    async def story() -> None:
        network = await started(Networked(tmp_path))
        await network.run_to(30)
        one, other = network.speakers[:1], network.speakers[1:]
        network.separate(one, other)
        await network.run_to(120)
        assert len(heads(network)) == 2
        ahead = final_roots(network.speakers[1])
        assert len(ahead) > len(final_roots(network.speakers[0]))
        network.separate()
        await network.run_to(150)
        assert len(heads(network)) == 1
        assert agree(network)
        await network.stop()

    run_virtually(story())


def test_parts_agree_also_where_nothing_has_been_final_for_long(tmp_path: Path) -> None:
    async def story() -> None:
        # With epochs as long as those of a real network many blocks are not final.
        parameters = dataclasses.replace(PARAMETERS, epoch_slots=200)
        network = await started(Networked(tmp_path, parameters=parameters))
        alone, ahead = network.speakers[0].chain, network.speakers[1].chain
        slot = 250
        await network.run_to(slot)
        # How long that takes is the lottery's affair.
        while alone.head.node.height < 135:
            await network.run_to(slot := slot + 1)
        network.separate(network.speakers[:1], network.speakers[1:])
        while ahead.head.node.height <= alone.head.node.height + 32:
            await network.run_to(slot := slot + 1)
        assert alone.tree.final.epoch == 0
        fork = next(
            node.height for node in line(alone.tree.nodes, alone.head.root) if node.root in ahead.tree
        )
        assert 128 < fork < alone.head.node.height < ahead.head.node.height - 32
        network.separate()
        await network.run_to(slot + 12)
        assert len(heads(network)) == 1
        assert not any(node.transport.scores for node in network.speakers)
        await network.stop()

    run_virtually(story())


def test_the_shorter_chain_that_knows_the_newer_justification_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is longer than what may wait for its ancestors, and no longer than the one that is to be left."""
    monkeypatch.setattr(import_queue, "PER_SOURCE_MAX", 8)
    monkeypatch.setattr(import_queue, "BLOCKS_MAX", 16)

    async def story() -> None:
        network = await started(Networked(tmp_path))
        epoch_slots = PARAMETERS.epoch_slots
        quick, slow = network.speakers[:2], network.speakers[2:]
        epoch, reach = 2, network.memory.reach
        slot = epoch * epoch_slots + epoch_slots // 4
        await network.run_to(slot - 1)

        def one_way(source: PeerId, other: PeerId) -> MemoryTransport | None:
            is_mute = source in {node.peer for node in slow} and other in {node.peer for node in quick}
            return None if is_mute else reach(source, other)

        # All votes reach one part, and too few the other one.
        network.memory.reach = one_way  # type: ignore[assignment,method-assign]
        await network.run_to(slot + 1)
        network.memory.reach = reach  # type: ignore[method-assign]
        network.separate(quick, slow)
        sleeper = slow[1]
        await sleeper.stop()
        ahead, behind = quick[0].chain, slow[0].chain
        first = behind.head.node.height
        while behind.head.node.height <= first + 40:
            await network.run_to(slot := slot + 5)
        best = behind.head
        assert (ahead.head.node.justified.epoch, behind.head.node.justified.epoch) == (epoch - 1, epoch)
        assert ahead.head.node.height > behind.head.node.height
        # While one sleeps, neither chain gets the votes of two thirds before all have found the other one.
        network.separate()
        await network.run_to(slot := slot + 60)
        for node in (*quick, slow[0]):
            assert node.chain.blocks_by_height(best.node.height, 1) == [best.root]
        await sleeper.start()
        await network.run_to(slot := slot + 100)
        assert agree(network)
        assert min(node.chain.tree.final.epoch for node in network.speakers) >= slot // epoch_slots - 3
        assert not any(node.transport.scores for node in network.speakers)
        await network.stop()

    run_virtually(story())
