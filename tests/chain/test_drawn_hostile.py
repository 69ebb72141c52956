"""Whatever comes as a block is accepted, rejected by name, or waits; and lies do not lock out the truth."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path

import pytest

from noria.chain.findings import Ignored, Known
from noria.chain.import_queue import BLOCKS_MAX, COPIES_MAX, PER_SOURCE_MAX, Arrival, ImportQueue, Missing
from noria.consensus.blocks import Block, decode_block, encode_block, make_block, signed
from noria.consensus.sent_block import SentBlock, decode_sent_block, encode_sent_block
from noria.consensus.validity import Accepted, Rejected
from noria.primitives import rlp
from noria.primitives.types import BlsSignature, Hash32
from tests.chain.drawn import PARAMETERS, FakeKey, Node, address, chain_of, fast_network, running, sent
from tests.virtual_time import run_virtually


async def observer_of(folder: Path, slot: int, kept: int = 3) -> tuple[Node, list[bytes]]:
    """A node that has all but the last blocks of a chain, and those; the network falls silent."""
    network = await running(fast_network(folder))
    await network.run_to(slot)
    first = network.nodes[0]
    root = first.chain.rules.genesis_root
    blocks = [sent(first, block.root(root)) for block in chain_of(first)]
    for node in network.nodes:
        node.mute = True
    fresh = await network.add(0, mines=False, name="observer")
    fresh.chain.wanted = lambda root, source: None
    for data in blocks[:-kept]:
        assert isinstance(await fresh.chain.take(data, "honest"), Accepted)
    return fresh, blocks[-kept:]


def changed(block: Block, **fields: object) -> Block:
    return dataclasses.replace(block, **fields)  # type: ignore[arg-type]


def with_body(block: Block, transactions: list[bytes]) -> bytes:
    decoded = rlp.decode(block.payload)
    assert isinstance(decoded, list)
    payload = rlp.encode([decoded[0], list[rlp.RlpItem](transactions), *decoded[2:]])
    return encode_block(changed(block, payload=payload))


def test_a_body_that_is_not_the_headers_does_not_lock_out_the_true_one(tmp_path: Path) -> None:
    async def story() -> None:
        node, [data, *_] = await observer_of(tmp_path, 20)
        true = decode_sent_block(data, PARAMETERS)
        forged = with_body(decode_block(true.block), [b"\x02\xc0", b"\x02\xc1\x80"])
        finding = await node.chain.take(encode_sent_block(SentBlock(forged, true.input)), "liar")
        assert isinstance(finding, Rejected)
        assert finding.kind == "PayloadBodyMismatch"
        assert not finding.remember
        assert isinstance(await node.chain.take(data, "honest"), Accepted)
        await node.network.stop()

    run_virtually(story())


def test_a_false_signature_does_not_lock_out_the_true_one(tmp_path: Path) -> None:
    async def story() -> None:
        node, [data, *_] = await observer_of(tmp_path, 20)
        true = decode_sent_block(data, PARAMETERS)
        forged = changed(decode_block(true.block), signature=BlsSignature(b"\x01" * 96))
        finding = await node.chain.judge(
            encode_sent_block(SentBlock(encode_block(forged), true.input)), "liar"
        )
        assert isinstance(finding, Rejected)
        assert finding.kind == "WrongSignature"
        assert isinstance(await node.chain.take(data, "honest"), Accepted)
        await node.network.stop()

    run_virtually(story())


def test_inputs_that_are_missing_wrong_or_uncalled_for(tmp_path: Path) -> None:
    async def story() -> None:
        node, late = await observer_of(tmp_path, 40, 12)
        network = node.network
        tried = 0
        for data in late:
            true = decode_sent_block(data, PARAMETERS)
            if true.input is None:
                finding = await node.chain.judge(encode_sent_block(SentBlock(true.block, b"more")), "liar")
                assert isinstance(finding, Rejected)
                assert finding.kind == "WrongInputSent"
            else:
                tried += 1
                finding = await node.chain.judge(encode_sent_block(SentBlock(true.block, b"other")), "liar")
                assert isinstance(finding, Rejected)
                assert finding.kind == "WrongInputSent"
                asked: list[Hash32] = []
                node.chain.wanted = lambda root, source, asked=asked: asked.append(root)  # type: ignore[misc]
                bare = asyncio.ensure_future(
                    node.chain.judge(encode_sent_block(SentBlock(true.block, None)), "liar")
                )
                await asyncio.sleep(0.01)
                assert asked == [decode_block(true.block).root(node.chain.rules.genesis_root)]
                assert node.chain.status.waiting == 1
                assert isinstance(await node.chain.take(data, "honest"), Accepted)
                assert isinstance(await bare, Known)
                assert node.chain.status.waiting == 0
                continue
            assert isinstance(await node.chain.take(data, "honest"), Accepted)
        assert tried
        await network.stop()

    run_virtually(story())


def test_a_proposer_that_lies_about_its_state_is_remembered(tmp_path: Path) -> None:
    async def story() -> None:
        node, [data, next_data, _] = await observer_of(tmp_path, 20)
        true = decode_sent_block(data, PARAMETERS)
        block = decode_block(true.block)
        number = next(n for n in range(10) if address(n) == block.header.proposer)
        header, *rest = rlp.decode(block.payload)
        assert isinstance(header, list)
        header[3] = b"\x42" * 32
        false = make_block(
            slot=block.header.slot,
            parent_root=block.header.parent_root,
            proposer=block.header.proposer,
            vrf_proof=block.header.vrf_proof,
            certificate=block.certificate,
            votes=block.votes,
            evidence=block.evidence,
            payload=rlp.encode([header, *rest]),
            signature=BlsSignature(bytes(96)),
        )
        root = false.root(node.chain.rules.genesis_root)
        false = signed(false, FakeKey(number).sign(root))
        message = encode_sent_block(SentBlock(encode_block(false), true.input))
        # It may be passed on, for all that can be seen without executing it; then it is found out.
        finding = await node.chain.take(message, "liar")
        assert isinstance(finding, Rejected)
        assert finding.kind == "PayloadRejected"
        assert "state-root" in finding.message
        again = await node.chain.judge(message, "other")
        assert isinstance(again, Rejected)
        assert again.kind == "InvalidAncestor"
        assert isinstance(await node.chain.take(data, "honest"), Accepted)
        assert isinstance(await node.chain.take(next_data, "honest"), Accepted)
        # The proposer has signed two blocks for its slot.
        assert len(node.hearsay.evidence) == 1
        await node.network.stop()

    run_virtually(story())


@pytest.mark.parametrize("seed", range(3))
def test_any_change_of_a_block_is_judged_by_name_and_the_true_one_still_accepted(
    tmp_path: Path, seed: int
) -> None:
    async def story() -> None:
        node, late = await observer_of(tmp_path, 24)
        chance = random.Random(seed)
        head = node.chain.head.root
        for _ in range(150):
            data = bytearray(late[0])
            for _ in range(chance.choice((1, 1, 2, 8))):
                data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
            if chance.random() < 0.2:
                del data[chance.randrange(len(data)) :]
            task = asyncio.ensure_future(node.chain.judge(bytes(data), f"liar {chance.randrange(9)}"))
            await asyncio.sleep(0.001)
            if task.done():
                assert isinstance(task.result(), Rejected | Ignored | Known)
            else:
                task.cancel()
        assert node.chain.head.root == head
        for data_true in late:
            assert isinstance(await node.chain.take(data_true, "honest"), Accepted | Known)
        assert node.chain.status.waiting <= 150
        await asyncio.sleep(70)
        assert node.chain.status.waiting == 0
        await node.network.stop()

    run_virtually(story())


# ---------------------------------------------------------------- the queue


def arrival(block: Block, source: str, salt: bytes = b"", parent: Hash32 | None = None) -> Arrival:
    header = block.header
    if parent is not None:
        header = dataclasses.replace(header, parent_root=parent)
    moved = dataclasses.replace(block, header=header)
    return Arrival(moved, Hash32((salt + bytes(32))[:32]), salt + b"data", None, source)


@pytest.fixture
def block(tmp_path: Path) -> Block:
    async def story() -> Block:
        network = await running(fast_network(tmp_path, 1))
        # Which slots are won goes by the genesis root.
        while not (blocks := chain_of(network.nodes[0])):
            await network.run_to(network.nodes[0].chain.slot + 1)
        found = blocks[-1]
        await network.stop()
        return found

    return run_virtually(story())


def test_the_queue_is_bounded_per_root_per_source_and_in_all(block: Block) -> None:
    queue = ImportQueue()
    copies = [arrival(block, f"peer {i}", b"same") for i in range(COPIES_MAX + 1)]
    copies = [
        Arrival(copy.block, copy.root, copy.data + bytes([i]), None, copy.source)
        for i, copy in enumerate(copies)
    ]
    for copy in copies[:-1]:
        assert queue.add(copy, Missing.PARENT, 0.0) == []
    assert queue.add(copies[-1], Missing.PARENT, 0.0) == [copies[-1]]
    for i in range(PER_SOURCE_MAX):
        assert queue.add(arrival(block, "greedy", b"g%d " % i), Missing.PARENT, 0.0) == []
    too_many = arrival(block, "greedy", b"one more")
    assert queue.add(too_many, Missing.PARENT, 0.0) == [too_many]
    gone = []
    for i in range(BLOCKS_MAX):
        gone += queue.add(arrival(block, f"peer {i}", b"p%d " % i), Missing.PARENT, 1.0)
    assert len(queue) == BLOCKS_MAX
    assert len(gone) == COPIES_MAX + PER_SOURCE_MAX
    assert queue.size_bytes == sum(one.size for one in queue.clear())
    assert len(queue) == queue.size_bytes == 0


def test_the_queue_gives_children_back_and_forgets_what_waited_too_long(block: Block) -> None:
    queue = ImportQueue()
    parent = Hash32(b"p" * 32)
    child = arrival(block, "a", b"child", parent)
    grandchild = arrival(block, "a", b"grandchild", child.root)
    queue.add(child, Missing.PARENT, 0.0)
    queue.add(grandchild, Missing.PARENT, 30.0)
    assert queue.ancestor(grandchild.root) == parent
    assert queue.has(child.root)
    assert queue.has_children(parent)
    assert queue.expire(61.0, -1) == [child]
    assert queue.children(child.root) == [grandchild]
    assert len(queue) == 0
    queue.add(child, Missing.SLOT, 0.0)
    assert queue.due(block.header.slot - 1) == []
    assert queue.due(block.header.slot) == [child]
