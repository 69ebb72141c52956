"""Verifying the store of a node that goes on meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.chain.block_store import BlockBody, BlockStore, StoredBlock
from noria.consensus.votes import Checkpoint
from noria.node.verify import line
from noria.primitives.hashes import blake3
from noria.primitives.types import Hash32

GENESIS = Hash32(bytes(32))


def block(height: int, parent: Hash32, *, branch: bytes = b"") -> StoredBlock:
    root = blake3(branch + height.to_bytes(8, "big"))
    return StoredBlock(root, parent, height, height, root, final=False)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    store = BlockStore(tmp_path / "blocks.sqlite", GENESIS)
    yield store
    store.close()


@pytest.fixture
def chain(store: BlockStore) -> list[StoredBlock]:
    """Six blocks, and a shorter branch from the second."""
    blocks = [block(1, GENESIS)]
    for height in range(2, 7):
        blocks.append(block(height, blocks[-1].root))
    branch = [block(3, blocks[1].root, branch=b"b")]
    branch.append(block(4, branch[0].root, branch=b"b"))
    store.put([(each, BlockBody(each.root, None)) for each in (*blocks, *branch)])
    return blocks


def roots(blocks: list[StoredBlock]) -> list[Hash32]:
    return [each.root for each in blocks]


def test_the_longest_line_is_verified(store: BlockStore, chain: list[StoredBlock]) -> None:
    assert roots(list(line(store, store.not_final()))) == roots(chain)


@pytest.mark.parametrize("final", [1, 3, 6])
def test_each_block_comes_once_though_some_become_final_meanwhile(
    store: BlockStore, chain: list[StoredBlock], final: int
) -> None:
    above = store.not_final()
    store.finalise(Checkpoint(1, chain[final - 1].root), roots(chain[:final]), [])
    assert roots(list(line(store, above))) == roots(chain)
