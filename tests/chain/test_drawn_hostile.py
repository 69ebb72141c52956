"""Whatever comes as a block is accepted, rejected by name, or waits; and lies do not lock out the truth."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path
from typing import Any, cast

import pytest

from noria._core import trie_root
from noria.chain import chain_service, under_way
from noria.chain.chain_service import COPIES_TAKEN
from noria.chain.findings import Finding, Ignored, Known
from noria.chain.import_queue import BLOCKS_MAX, COPIES_MAX, PER_SOURCE_MAX, Arrival, ImportQueue, Missing
from noria.chain.payload_body import check_body
from noria.chain.under_way import UnderWay
from noria.consensus.blocks import Block, decode_block, encode_block, signed
from noria.consensus.sent_block import SentBlock, decode_sent_block, encode_sent_block
from noria.consensus.validity import Accepted, PayloadBodyMismatch, Rejected
from noria.primitives import rlp
from noria.primitives.types import BlsSignature, Hash32
from tests.chain.drawn import (
    PARAMETERS,
    FakeKey,
    Node,
    address,
    chain_of,
    fast_network,
    running,
    sent,
    with_payload_header,
)
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


def decoded(payload: bytes) -> list[rlp.RlpItem]:
    found = rlp.decode(payload)
    assert isinstance(found, list)
    return found


def body_of(payload: bytes) -> list[rlp.RlpItem]:
    found = decoded(payload)[1]
    assert isinstance(found, list)
    return found


def with_body(block: Block, transactions: list[rlp.RlpItem]) -> bytes:
    header, _, *rest = decoded(block.payload)
    return encode_block(changed(block, payload=rlp.encode([header, transactions, *rest])))


def with_header(node: Node, block: Block, field: int, value: bytes) -> Block:
    """A block of the same proposer for the same slot, whose payload's header says something else."""
    made = with_payload_header(block, field, value)
    number = next(n for n in range(10) if address(n) == block.header.proposer)
    return signed(made, FakeKey(number).sign(made.root(node.chain.rules.genesis_root)))


EXTRA_DATA = 12
STATE_ROOT = 3


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


@pytest.mark.parametrize("more", [[b""], [b"", b""], [b"\x02"], [[]]])
def test_a_body_with_something_at_its_end_goes_no_further(tmp_path: Path, more: list[rlp.RlpItem]) -> None:
    async def story() -> None:
        node, [data, *_] = await observer_of(tmp_path, 20)
        true = decode_sent_block(data, PARAMETERS)
        block = decode_block(true.block)
        forged = with_body(block, [*body_of(block.payload), *more])
        finding = await node.chain.judge(encode_sent_block(SentBlock(forged, true.input)), "liar")
        assert isinstance(finding, Rejected)
        assert (finding.kind, finding.remember) == ("PayloadBodyMismatch", False)
        assert isinstance(await node.chain.take(data, "honest"), Accepted)
        await node.network.stop()

    run_virtually(story())


def test_a_body_has_one_form(block: Block) -> None:
    legacy: rlp.RlpItem = [b"\x01", b"\x02"]
    typed = b"\x02\xc1\x01"
    payload = decoded(block.payload)
    items = [(rlp.encode(rlp.integer_to_bytes(n)), raw) for n, raw in enumerate([rlp.encode(legacy), typed])]
    header = payload[0]
    assert isinstance(header, list)
    header[4] = trie_root(items)

    def check(*transactions: rlp.RlpItem) -> None:
        check_body(rlp.encode([header, list(transactions), [], []]))

    check(legacy, typed)
    # Each of these has the same root.
    for other in ([rlp.encode(legacy), typed], [legacy, typed, b""]):
        with pytest.raises(PayloadBodyMismatch):
            check(*other)


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
        false = with_header(node, decode_block(true.block), STATE_ROOT, b"\x42" * 32)
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


def test_a_root_that_is_forgotten_by_what_follows_it_is_still_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_service, "INVALID_MAX", 1)

    async def story() -> None:
        node, [data, *_] = await observer_of(tmp_path, 20)
        true = decode_sent_block(data, PARAMETERS)
        block = decode_block(true.block)
        false = with_header(node, block, STATE_ROOT, b"\x42" * 32)
        sent_false = encode_sent_block(SentBlock(encode_block(false), true.input))
        assert isinstance(await node.chain.take(sent_false, "liar"), Rejected)
        parent = false.root(node.chain.rules.genesis_root)
        child = changed(block, header=dataclasses.replace(block.header, parent_root=parent))
        finding = await node.chain.judge(
            encode_sent_block(SentBlock(encode_block(child), true.input)), "liar"
        )
        assert isinstance(finding, Rejected)
        assert "PayloadRejected" in finding.message
        await node.network.stop()

    run_virtually(story())


def test_of_one_slot_and_proposer_so_many_blocks_are_taken_whoever_asks_for_them(tmp_path: Path) -> None:
    async def story() -> None:
        node, [data, *_] = await observer_of(tmp_path, 20)
        true = decode_sent_block(data, PARAMETERS)
        block = decode_block(true.block)

        async def judge(it: Block) -> object:
            return await node.chain.judge(encode_sent_block(SentBlock(encode_block(it), true.input)), "liar")

        found = []
        for number in range(COPIES_TAKEN + 5):
            variant = with_header(node, block, EXTRA_DATA, b"%d" % number)
            parent = variant.root(node.chain.rules.genesis_root)
            child = changed(block, header=dataclasses.replace(block.header, parent_root=parent))
            # Anybody can make it, and it waits: who comes later is asked for.
            waiting = asyncio.ensure_future(judge(child))
            await asyncio.sleep(0.001)
            found.append(await judge(variant))
            await asyncio.sleep(0.001)
            waiting.cancel()
        assert [isinstance(each, Accepted) for each in found] == [True] * COPIES_TAKEN + [False] * 5
        assert all(isinstance(each, Ignored) for each in found[COPIES_TAKEN:])
        await node.network.stop()

    run_virtually(story())


def test_more_blocks_than_can_be_checked_are_left_aside_and_no_sender_takes_all_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        node, [data, *_] = await observer_of(tmp_path, 20)
        true = decode_sent_block(data, PARAMETERS)
        block = decode_block(true.block)
        go_on, check = asyncio.Event(), node.chain.importer.check

        async def slow(*arguments: Any) -> Any:
            await go_on.wait()
            return await check(*arguments)

        monkeypatch.setattr(node.chain.importer, "check", slow)
        share = under_way.BLOCKS_MAX // under_way.SHARE

        def judge(number: int, source: str) -> asyncio.Future[Finding]:
            copy = signed(block, BlsSignature(number.to_bytes(96, "big")))
            sent_copy = encode_sent_block(SentBlock(encode_block(copy), true.input))
            return asyncio.ensure_future(node.chain.judge(sent_copy, source))

        greedy = [judge(number, "greedy") for number in range(share + 10)]
        modest = judge(share + 10, "modest")
        await asyncio.sleep(0.1)
        assert [future.done() for future in greedy] == [False] * share + [True] * 10
        assert {future.result() for future in greedy[share:]} == {
            Ignored("too many blocks are being checked")
        }
        assert not modest.done()
        assert len(node.chain._watched) == share + 1
        go_on.set()
        found = await asyncio.gather(*greedy[:share], modest)
        assert {cast(Rejected, finding).kind for finding in found} == {"WrongSignature"}
        assert len(node.chain._watched) == 0
        # What was left aside is as welcome as ever.
        assert isinstance(await node.chain.judge(data, "greedy"), Accepted)
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


# ---------------------------------------------------------------- what is under way


def test_what_is_under_way_is_bounded_per_sender_and_in_all(
    block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_way, "BLOCKS_MAX", 8)
    monkeypatch.setattr(under_way, "BYTES_MAX", 100)
    counted = UnderWay()

    def large(size: int, source: str) -> Arrival:
        return Arrival(block, Hash32(bytes(32)), bytes(size), None, source)

    # The first of a sender has room wherever there is any; then a quarter is one sender's.
    assert counted.has_room(large(100, "a"))
    assert not counted.has_room(large(101, "a"))
    counted.begin(large(20, "a"))
    assert counted.has_room(large(5, "a"))
    assert not counted.has_room(large(6, "a"))
    counted.begin(large(1, "a"))
    assert not counted.has_room(large(1, "a"))
    assert counted.has_room(large(79, "b"))
    assert not counted.has_room(large(80, "b"))
    for number in range(6):
        counted.begin(large(1, f"peer {number}"))
    assert (len(counted), counted.size_bytes) == (8, 27)
    assert not counted.has_room(large(1, "b"))
    counted.end(large(20, "a"))
    assert counted.has_room(large(1, "b"))
    for arrival in (large(1, "a"), *(large(1, f"peer {number}") for number in range(6))):
        counted.end(arrival)
    assert (len(counted), counted.size_bytes, counted._sources) == (0, 0, {})
