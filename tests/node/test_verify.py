"""Verifying the store of a node: one that goes on meanwhile, and one in which something is wrong."""

import asyncio
import dataclasses
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noria.chain.block_store import BlockBody, BlockStore, StoredBlock
from noria.chain.unit_runner import PoolRunner
from noria.consensus.blocks import Block, decode_block, encode_block, signed
from noria.consensus.votes import Checkpoint
from noria.node import verify
from noria.node.data_dir import save_spec
from noria.node.verify import (
    EnginesDisagree,
    NothingToVerify,
    VerificationFailed,
    Verified,
    line,
    verify_chain,
)
from noria.primitives import rlp
from noria.primitives.hashes import blake3
from noria.primitives.types import BlsSignature, Hash32
from noria.work.ids import ProgramId
from noria.work.workers import Outcome
from tests.chain.drawn import Network, claims_another_output, key
from tests.virtual_time import run_virtually
from tests.work.modules import SPIN

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
    above = list(store.not_final())
    store.finalise(Checkpoint(1, chain[final - 1].root), roots(chain[:final]), [])
    assert roots(list(line(store, above))) == roots(chain)


# ---------------------------------------------------------------- a store in which something is wrong

PAST_SECONDS = 1_700_000_000
"""Genesis of the chains that are verified: their blocks must not lie in the future."""
SLOTS = 60
Liars = dict[int, Callable[[int, Outcome], Outcome]] | None


def made_chain(folder: Path, *, lies: bool = False) -> Path:
    """The folder of a node that has made a chain alone; who lies does not mind."""

    async def story() -> Path:
        liars: Liars = {0: claims_another_output} if lies else None
        network = Network(folder, 1, liars=liars, genesis_seconds=PAST_SECONDS)
        node = await network.add()
        if lies:
            node.chain.checker.submit = lambda *arguments: None  # type: ignore[method-assign]
        await network.run_to(SLOTS)
        await network.stop()
        save_spec(node.folder, network.spec)
        (node.folder / "programs").mkdir()
        (node.folder / "programs" / "spin.wasm").write_bytes(SPIN)
        return node.folder

    return run_virtually(story())


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_chain(tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="module")
def lying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_chain(tmp_path_factory.mktemp("lying"), lies=True)


@pytest.fixture
def node(honest: Path, tmp_path: Path) -> Path:
    """A copy of a right node's folder, for a test to change."""
    return shutil.copytree(honest, tmp_path / "node", ignore=shutil.ignore_patterns("engine"))


def verified(folder: Path, *, height: int | None = None) -> list[Verified]:
    async def collect() -> list[Verified]:
        return [found async for found in verify_chain(folder, height=height)]

    return asyncio.run(collect())


def change(folder: Path, statement: str, *values: object) -> None:
    """Change one row of the stored chain."""
    db = sqlite3.connect(folder / "blocks.sqlite")
    try:
        with db:
            assert db.execute(statement, values).rowcount == 1
    finally:
        db.close()


def rows(folder: Path) -> list[tuple[int, bytes, Block]]:
    """Height, root and block of all that is stored, in order."""
    db = sqlite3.connect(folder / "blocks.sqlite")
    try:
        found = db.execute("SELECT height, root, block FROM blocks JOIN bodies USING (root) ORDER BY height")
        return [(height, root, decode_block(data)) for height, root, data in found]
    finally:
        db.close()


def first_shown(folder: Path, above: int = 0) -> tuple[int, bytes, Block]:
    """The first block that shows work above a height."""
    return next(row for row in rows(folder) if row[0] > above and row[2].certificate is not None)


def final_epoch(folder: Path) -> int:
    db = sqlite3.connect(folder / "blocks.sqlite")
    try:
        return int(db.execute("SELECT max(epoch) FROM finals").fetchone()[0])
    finally:
        db.close()


def test_a_right_chain_is_verified_from_its_bytes(honest: Path) -> None:
    found = verified(honest)
    assert [each.stored.height for each in found] == list(range(1, len(rows(honest)) + 1))
    shown = [each for each in found if each.block.certificate is not None]
    assert len(found) > len(shown) > 3
    assert all((each.outcome is not None) == (each in shown) for each in found)
    assert final_epoch(honest) >= 2
    # Up to one height its certificate alone is run again.
    at = shown[1].stored.height
    assert [each.outcome is not None for each in verified(honest, height=at)] == [False] * (at - 1) + [True]
    with pytest.raises(NothingToVerify, match=r"there is no block 1000: the last one is \d+$"):
        verified(honest, height=1000)


def test_a_lying_certificate_is_named_with_its_block(lying: Path) -> None:
    height, root, block = first_shown(lying)
    assert block.certificate is not None
    with pytest.raises(VerificationFailed) as failed:
        verified(lying)
    assert str(failed.value).startswith(
        f"block {height} (slot {block.header.slot}, 0x{root.hex()}): its certificate is a lie: "
    )
    assert len(str(failed.value).splitlines()) == 1
    # All else of these blocks is right, and a certificate that is not asked for is not run.
    assert [each.outcome for each in verified(lying, height=height - 1)] == [None] * (height - 1)
    second, _, _ = first_shown(lying, above=height)
    with pytest.raises(VerificationFailed, match=f"^block {second} .*: its certificate is a lie: "):
        verified(lying, height=second)


def test_one_engine_alone_calls_nothing_a_lie(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = PoolRunner.run

    async def broken(
        self: PoolRunner, program: ProgramId, input: bytes, fuel_limit: int, *, priority: int = 0
    ) -> Outcome:
        outcome = await right(self, program, input, fuel_limit, priority=priority)
        return dataclasses.replace(outcome, output=outcome.output + b"?")

    monkeypatch.setattr(PoolRunner, "run", broken)
    height, _, _ = first_shown(node)
    with pytest.raises(EnginesDisagree, match=f"^block {height} .*two engines do not agree"):
        verified(node, height=height)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def other_signature(block: Block) -> bytes:
    return encode_block(signed(block, BlsSignature(key(7).sign(b"something else"))))


def with_transaction(block: Block) -> bytes:
    payload = rlp.decode(block.payload)
    assert isinstance(payload, list)
    header, transactions, *others = payload
    assert transactions == []
    return encode_block(dataclasses.replace(block, payload=rlp.encode([header, [b"\x02"], *others])))


CHANGES: dict[str, tuple[Callable[[Block], bytes], str]] = {
    "another signature": (other_signature, "WrongSignature: "),
    "a byte of the signature": (
        lambda block: encode_block(signed(block, BlsSignature(flipped(block.signature, 50)))),
        "WrongSignature: ",
    ),
    "a slot later": (
        lambda block: encode_block(
            dataclasses.replace(block, header=dataclasses.replace(block.header, slot=block.header.slot + 1))
        ),
        "its bytes are another block's, 0x",
    ),
    "another payload": (
        lambda block: encode_block(dataclasses.replace(block, payload=flipped(block.payload, 100))),
        "its bytes are another block's, 0x",
    ),
    "a payload with a transaction that its header does not have": (with_transaction, "PayloadBodyMismatch: "),
    "cut off": (lambda block: encode_block(block)[:-1], "NotCanonical: "),
    "nothing": (lambda block: b"", "WrongShape: "),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_bytes_of_a_block_are_named_with_it(node: Path, name: str) -> None:
    make, wanted = CHANGES[name]
    height, root, block = rows(node)[9]
    change(node, "UPDATE bodies SET block = ? WHERE root = ?", make(block), root)
    place = rf"^block {height} \(slot {block.header.slot}, 0x{root.hex()}\): "
    with pytest.raises(VerificationFailed, match=place + wanted):
        verified(node)
    assert len(verified(node, height=height - 1)) == height - 1


def test_the_bytes_of_another_block_are_not_taken(node: Path) -> None:
    _, root, _ = rows(node)[9]
    _, other, block = rows(node)[10]
    change(node, "UPDATE bodies SET block = ? WHERE root = ?", encode_block(block), root)
    with pytest.raises(VerificationFailed, match=f"^block 10 .* are another block's, 0x{other.hex()}$"):
        verified(node)


def test_missing_bytes_are_named(node: Path) -> None:
    change(node, "DELETE FROM bodies WHERE root = ?", rows(node)[9][1])
    with pytest.raises(VerificationFailed, match=r"^block 10 .*: its bytes are missing$"):
        verified(node)


def test_a_missing_block_is_named_by_what_follows_it(node: Path) -> None:
    _, root, _ = rows(node)[9]
    change(node, "DELETE FROM blocks WHERE root = ?", root)
    with pytest.raises(VerificationFailed, match=f"^block 11 .*: its parent, 0x{root.hex()}, is missing$"):
        verified(node)


def test_the_input_of_a_unit_must_be_there_and_be_the_right_one(node: Path) -> None:
    height, root, _ = first_shown(node)
    change(node, "UPDATE bodies SET input = ? WHERE root = ?", b"another input", root)
    with pytest.raises(VerificationFailed, match=rf"^block {height} .*: \w+: .*input"):
        verified(node)
    change(node, "UPDATE bodies SET input = NULL WHERE root = ?", root)
    with pytest.raises(VerificationFailed, match=f"^block {height} .*: the input of its .* is missing$"):
        verified(node)


def test_a_checkpoint_that_the_blocks_do_not_finalise_is_refused(node: Path) -> None:
    epoch = final_epoch(node)
    change(node, "INSERT INTO finals VALUES (?, ?)", epoch + 1, rows(node)[-1][1])
    with pytest.raises(
        VerificationFailed,
        match=rf"^the store holds epoch {epoch + 1} as final, its blocks finalise no more than {epoch}$",
    ):
        verified(node)


def test_another_block_of_the_final_epoch_is_refused(node: Path) -> None:
    epoch = final_epoch(node)
    change(node, "UPDATE finals SET root = ? WHERE epoch = ?", rows(node)[0][1], epoch)
    with pytest.raises(
        VerificationFailed, match=f"^epoch {epoch} is final with another block than the store holds$"
    ):
        verified(node)


def test_verification_ends_though_no_verdict_comes(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By a clock that is behind, the blocks lie in the future, and nobody waits for them for ever.
    monkeypatch.setattr(time, "time", lambda: PAST_SECONDS + 3.0)
    monkeypatch.setattr(verify, "BLOCK_SECONDS", 0.5)
    with pytest.raises(VerificationFailed, match=r"no verdict within 0\.5 s$"):
        verified(node)
