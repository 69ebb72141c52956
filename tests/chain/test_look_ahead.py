"""Signatures that are checked together before their blocks are imported: faster, and nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from noria.chain.block_store import BlockStoreError
from noria.chain.chain_service import ChainService
from noria.chain.import_queue import Arrival
from noria.chain.look_ahead import KNOWN_MAX, KnownSignatures, LookAhead
from noria.consensus.blocks import decode_block, encode_block
from noria.consensus.sent_block import SentBlock, encode_sent_block
from noria.consensus.signatures import SignatureScheme, Signed
from noria.consensus.slots import epoch_of
from noria.consensus.validity import Accepted, Rejected
from noria.primitives.types import BlsPublicKey, BlsSignature
from tests.chain.drawn import Node, chain_of, fast_network, running, sent
from tests.consensus.world import FAKE
from tests.virtual_time import run_virtually

BLOCKS = 45


class Counting:
    """Counts how signatures are checked."""

    def __init__(self) -> None:
        self.alone = self.together = 0

    def verify(self, public_key: BlsPublicKey, message: bytes, signature: BlsSignature) -> bool:
        self.alone += 1
        return FAKE.verify(public_key, message, signature)

    def verify_many(self, signed: Sequence[Signed]) -> bool:
        self.together += len(signed)
        return FAKE.verify_many(signed)

    def aggregate(self, signatures: Sequence[BlsSignature]) -> BlsSignature:
        return FAKE.aggregate(signatures)

    def verify_aggregate(
        self, public_keys: Sequence[BlsPublicKey], message: bytes, signature: BlsSignature
    ) -> bool:
        return FAKE.verify_aggregate(public_keys, message, signature)


_CHECK: SignatureScheme = Counting()  # mypy: it fits the seam


def signed(number: int) -> Signed:
    key, message = BlsPublicKey(bytes([number % 256]) * 48), number.to_bytes(8, "big")
    return key, message, FAKE.sign(key, message)


def test_what_was_found_right_is_believed_once() -> None:
    counting = Counting()
    known = KnownSignatures(counting)
    assert known.check_ahead([signed(1), signed(2)])
    assert known.verify(*signed(1))
    assert counting.alone == 0
    assert known.verify(*signed(1))
    assert counting.alone == 1
    # Another message, key or signature is another question.
    key, message, signature = signed(2)
    assert not known.verify(key, message + b"?", signature)
    assert not known.verify(key, message, BlsSignature(bytes(96)))
    assert counting.alone == 3


def test_with_one_wrong_among_them_nothing_is_believed() -> None:
    counting = Counting()
    known = KnownSignatures(counting)
    key, message, _ = signed(2)
    assert not known.check_ahead([signed(1), (key, message, BlsSignature(bytes(96)))])
    assert not known.check_ahead([])
    assert known.verify(*signed(1))
    assert counting.alone == 1


def test_only_so_many_are_remembered() -> None:
    known = KnownSignatures(counting := Counting())
    for start in range(0, KNOWN_MAX + 100, 100):
        assert known.check_ahead([signed(number) for number in range(start, start + 100)])
    assert known.verify(*signed(0))
    assert counting.alone == 1
    assert known.verify(*signed(KNOWN_MAX))
    assert counting.alone == 1


async def prepared(folder: Path) -> tuple[Node, list[bytes], Counting, LookAhead, ChainService]:
    """A chain of some length, and a node that knows none of it and counts signatures."""
    network = await running(fast_network(folder))
    first = network.nodes[0]
    await network.run_until(lambda: first.chain.head.node.height >= BLOCKS)
    blocks = [sent(first, block.root(first.chain.rules.genesis_root)) for block in chain_of(first)][:BLOCKS]
    network.partition([0, 1, 2, 3], [9])
    late = Node(network, 9, mines=False, name="late")
    counting = Counting()
    network.scheme = counting
    await late.start()
    return late, blocks, counting, late.chain.look_ahead(), late.chain


def arrivals(chain: ChainService, blocks: list[bytes]) -> list[Arrival]:
    found = [chain.arrival(data, "peer") for data in blocks]
    return [arrival for arrival in found if isinstance(arrival, Arrival)]


async def taken(chain: ChainService, ahead: LookAhead, line: list[Arrival]) -> list[object]:
    findings: list[object] = []
    for arrival in line:
        await asyncio.sleep(0)
        findings.append(await chain.take_arrival(arrival))
        ahead.moved(arrival.root)
        await asyncio.sleep(0)
    return findings


def test_a_line_of_blocks_needs_hardly_a_signature_alone(tmp_path: Path) -> None:
    async def story() -> None:
        late, blocks, counting, ahead, chain = await prepared(tmp_path)
        checking = chain.spawn(ahead.run())
        line = arrivals(chain, blocks)
        ahead.add(line[:20])
        await asyncio.sleep(0.01)
        ahead.add(line[20:])
        findings = await taken(chain, ahead, line)
        assert findings == [Accepted()] * BLOCKS
        assert counting.together >= 2 * BLOCKS - 4
        assert counting.alone <= 4
        checking.cancel()
        await late.stop()
        await late.network.stop()

    run_virtually(story())


def test_one_wrong_signature_of_many_is_found_and_the_others_count(tmp_path: Path) -> None:
    async def story() -> None:
        late, blocks, _, ahead, chain = await prepared(tmp_path)
        checking = chain.spawn(ahead.run())
        line = arrivals(chain, blocks)
        wrong = decode_block(line[10].data)
        forged = encode_block(dataclasses.replace(wrong, signature=BlsSignature(b"\x01" * 96)))
        (bad,) = arrivals(chain, [encode_sent_block(SentBlock(forged, line[10].input))])
        ahead.add([*line[:10], bad, *line[11:]])
        await asyncio.sleep(0.01)
        assert await taken(chain, ahead, line[:10]) == [Accepted()] * 10
        finding = await chain.take_arrival(bad)
        assert isinstance(finding, Rejected)
        assert (finding.kind, finding.remember) == ("WrongSignature", False)
        assert await taken(chain, ahead, line[10:]) == [Accepted()] * (BLOCKS - 10)
        checking.cancel()
        await late.stop()
        await late.network.stop()

    run_virtually(story())


def test_what_is_no_line_is_left_to_the_blocks_own_checks(tmp_path: Path) -> None:
    async def story() -> None:
        late, blocks, counting, ahead, chain = await prepared(tmp_path)
        checking = chain.spawn(ahead.run())
        line = arrivals(chain, blocks)
        ahead.add([line[5], line[3], line[40]])
        await asyncio.sleep(0.01)
        assert counting.together == 0
        assert await taken(chain, ahead, line[:8]) == [Accepted()] * 8
        checking.cancel()
        await late.stop()
        await late.network.stop()

    run_virtually(story())


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_where_it_ends_in_the_middle_nobody_waits_for_it(tmp_path: Path, how: str) -> None:
    async def story() -> None:
        late, blocks, _, _, chain = await prepared(tmp_path)
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def threads(check: Callable[[], int]) -> int:
            begun.set()
            await goes_on.wait()
            raise OSError("no more threads")

        ahead = LookAhead(chain.rules, chain.tree, chain._known_signatures, threads)
        checking = asyncio.create_task(ahead.run())
        line = arrivals(chain, blocks)
        ahead.add(line)
        await begun.wait()
        waiting = asyncio.create_task(ahead.passed(line[0].root))
        await asyncio.sleep(0)
        assert not waiting.done()
        if how == "fails":
            goes_on.set()
        else:
            checking.cancel()
        async with asyncio.timeout(1):
            await waiting
            await ahead.passed(line[-1].root)
        await asyncio.gather(checking, return_exceptions=True)
        await late.stop()
        await late.network.stop()

    run_virtually(story())


def test_a_line_is_taken_as_far_as_nothing_is_wrong(tmp_path: Path) -> None:
    async def story() -> None:
        late, blocks, counting, ahead, chain = await prepared(tmp_path)
        checking = chain.spawn(ahead.run())
        line = arrivals(chain, blocks)
        ahead.add(line)
        await ahead.passed(line[15].root)
        assert await chain.take_line(line[:16]) == 16
        # What lies more than an epoch ahead is settled later.
        far = [
            arrival
            for arrival in line[:16]
            if epoch_of(chain.rules.parameters, arrival.block.header.slot) > 1
        ]
        assert counting.alone <= 4 + 2 * len(far)
        assert chain.head.root == line[15].root
        # The seventeenth is wrong: what is before it counts, and its own checks say what is wrong with it.
        forged = dataclasses.replace(line[17].block, signature=BlsSignature(b"\x01" * 96))
        (bad,) = arrivals(chain, [encode_sent_block(SentBlock(encode_block(forged), line[17].input))])
        assert await chain.take_line([line[16], bad, line[18]]) == 1
        assert await chain.take_line([bad]) == 0
        assert isinstance(await chain.take_arrival(bad), Rejected)
        # Known ones, and those without a parent, are no line.
        assert await chain.take_line([line[3]]) == 0
        assert await chain.take_line(line[20:]) == 0
        assert await chain.take_line(line[17:]) == BLOCKS - 17
        assert chain.head.root == line[-1].root
        checking.cancel()
        await late.stop()
        await late.network.stop()

    run_virtually(story())


def test_a_line_that_cannot_be_stored_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        late, blocks, _, _, chain = await prepared(tmp_path)
        line = arrivals(chain, blocks)
        put = chain.store.put

        def full(*arguments: Any, **options: Any) -> None:
            raise BlockStoreError("the disk is full")

        monkeypatch.setattr(chain.store, "put", full)
        before = len(chain.tree)
        with pytest.raises(BlockStoreError):
            await chain.take_line(line[:8])
        assert (len(chain.tree), chain.head.root) == (before, chain.tree.genesis.root)
        monkeypatch.setattr(chain.store, "put", put)
        assert await chain.take_line(line[:8]) == 8
        assert chain.head.root == line[7].root
        await late.stop()
        await late.network.stop()

    run_virtually(story())
