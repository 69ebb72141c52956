"""Reading the blocks that are not final, however many they are."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from noria.chain import block_store, chain_service, recovery
from noria.chain.block_store import BlockBody, BlockStore, StoredBlock
from noria.consensus.blocks import Block, decode_block
from noria.consensus.votes import Checkpoint
from noria.primitives.hashes import blake3
from noria.primitives.types import Hash32
from tests.chain.drawn import fast_network, running
from tests.virtual_time import run_virtually

GENESIS = Hash32(bytes(32))
PART = 4


def line(first: int, last: int, parent: Hash32, word: bytes) -> list[StoredBlock]:
    """Blocks of which each follows the one before, one in every second slot."""
    found: list[StoredBlock] = []
    for height in range(first, last + 1):
        root = blake3(word + height.to_bytes(8, "big"))
        found.append(StoredBlock(root, parent, 2 * height, height, root, final=False))
        parent = root
    return found


TRUNK = line(1, 11, GENESIS, b"trunk")
BRANCH = line(4, 9, TRUNK[2].root, b"branch")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockStore]:
    monkeypatch.setattr(block_store, "RANGE_MAX", PART)
    store = BlockStore(tmp_path / "blocks.sqlite", GENESIS, durable=False)
    store.put([(each, BlockBody(each.root, None)) for each in (*reversed(TRUNK), *BRANCH)])
    yield store
    store.close()


def test_what_is_not_final_comes_in_parts_and_parents_first(
    store: BlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[int] = []
    read = store._many

    def counted(where: str, arguments: Sequence[Any]) -> list[StoredBlock]:
        found = read(where, arguments)
        parts.append(len(found))
        return found

    monkeypatch.setattr(store, "_many", counted)
    blocks = store.not_final()
    assert parts == []
    found = list(blocks)
    assert max(parts) <= PART
    assert len(found) == len(TRUNK) + len(BRANCH)
    assert set(found) == {*TRUNK, *BRANCH}
    places = {block.root: place for place, block in enumerate(found)}
    assert all(places.get(block.parent, -1) < place for place, block in enumerate(found))


def test_what_becomes_final_or_is_dropped_meanwhile_does_not_come(store: BlockStore) -> None:
    blocks = store.not_final()
    first = [next(blocks) for _ in range(PART)]
    store.finalise(
        Checkpoint(1, TRUNK[5].root),
        [block.root for block in TRUNK[:6]],
        [block.root for block in BRANCH],
    )
    assert [*first[:3], *blocks] == [*TRUNK[:3], *TRUNK[6:]]


@pytest.mark.parametrize("lost", [False, True])
def test_a_node_that_starts_has_few_blocks_in_memory_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        # Two of four cannot finalise anything.
        await network.nodes[2].stop()
        await network.nodes[3].stop()
        await network.run_to(90)
        node = network.nodes[0]
        known = set(node.chain.tree.nodes)
        assert node.chain.tree.final.epoch == 0
        assert len(known) > 20
        await network.stop()
        if lost:
            (engine := node.folder / "engine").rename(engine.with_suffix(".lost"))
        gc.collect()
        before, read, held = blocks_in_memory(), list[int](), list[int]()

        def decoded(data: bytes) -> Block:
            found = decode_block(data)
            read.append(1)
            held.append(blocks_in_memory() - before)
            return found

        for module in (recovery, chain_service):
            monkeypatch.setattr(module, "decode_block", decoded)
        await node.start()
        assert set(node.chain.tree.nodes) == known
        # Each but genesis, once for the tree and once for who listens.
        assert len(read) == 2 * (len(known) - 1)
        assert max(held) <= 4
        await network.stop()

    run_virtually(story())


def blocks_in_memory() -> int:
    return sum(isinstance(each, Block) for each in gc.get_objects())
