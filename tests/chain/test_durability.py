"""What was acknowledged is there after a kill, a full disk and a restart."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from noria._core import Engine, StoreLocked
from noria.execution.spec import ChainSpec
from noria.node.data_dir import SPEC_FILE, store_path
from noria.node.dev import DevConfig, DevNode

REPOSITORY = Path(__file__).resolve().parents[2]
Mined = list[tuple[int, bytes, bytes]]


@asynccontextmanager
async def mining(data_dir: Path, blocks: int, *limits: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `tests.chain.mining_process`; it is killed at the end, if it has not ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chain.mining_process", str(data_dir), str(blocks), *map(str, limits),
        cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def read_line(process: asyncio.subprocess.Process) -> list[str]:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 60)
    return line.decode().split(maxsplit=3)


def acknowledged(words: list[str]) -> tuple[int, bytes, bytes]:
    assert words[0] == "mined", words
    return int(words[1]), bytes.fromhex(words[2]), bytes.fromhex(words[3])


def check_chain(data_dir: Path, mined: Mined) -> int:
    """Check in a store that nobody uses that every acknowledged block is whole; return the head's number."""
    engine = Engine(str(store_path(data_dir)), ChainSpec.load(data_dir / SPEC_FILE).engine_json())
    try:
        for number, block_hash, tx_hash in mined:
            assert engine.canonical_hash(number) == block_hash
            assert engine.transaction_location(tx_hash) == (block_hash, number, 0)
            assert engine.receipt_json(block_hash, 0) is not None
        head = engine.head
        parent = head
        while parent.number:
            found = engine.header(parent.parent_hash)
            assert found is not None
            assert found.number == parent.number - 1
            parent = found
        assert parent.hash == engine.genesis_hash
        return head.number
    finally:
        engine.close()


@pytest.mark.parametrize("rounds", [5])
async def test_a_killed_node_loses_nothing_that_it_acknowledged(tmp_path: Path, rounds: int) -> None:
    mined: Mined = []
    data_dir = tmp_path / "chain"
    for turn in range(rounds):
        async with mining(data_dir, 1_000_000) as process:
            words = await read_line(process)
            assert words[0] == "ready"
            assert int(words[1]) >= len(mined), "the node came back behind what it had acknowledged"
            # Another moment of its work every time, and in the midst of it.
            for _ in range(3 + 7 * turn):
                mined.append(acknowledged(await read_line(process)))
            process.kill()
            # What it said before it died counts as well.
            while words := await read_line(process):
                if len(words) == 4 and len(words[3].strip()) == 64:
                    mined.append(acknowledged(words))
        head = check_chain(data_dir, mined)
        assert head - len(mined) <= turn + 1, "at most the block in the making is there beside them"


async def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    mined: Mined = []
    data_dir = tmp_path / "chain"
    async with mining(data_dir, 3) as process:
        assert (await read_line(process))[0] == "ready"
        mined += [acknowledged(await read_line(process)) for _ in range(3)]
        assert await read_line(process) == ["done"]
    size = max(path.stat().st_size for path in store_path(data_dir).rglob("*") if path.is_file())
    async with mining(data_dir, 1_000, size + 1_000_000) as process:
        assert await read_line(process) == ["ready", "3"]
        while (words := await read_line(process))[0] == "mined":
            mined.append(acknowledged(words))
        assert words[:2] == ["error", "StoreFull"]
        assert await process.wait() == 0
    assert 3 < len(mined) < 1_000
    assert check_chain(data_dir, mined) == len(mined)
    # With space again it goes on where it was.
    async with mining(data_dir, 2) as process:
        assert await read_line(process) == ["ready", str(len(mined))]
        mined += [acknowledged(await read_line(process)) for _ in range(2)]
        assert await read_line(process) == ["done"]
    assert check_chain(data_dir, mined) == len(mined)


async def test_two_nodes_cannot_share_a_folder(tmp_path: Path) -> None:
    async with mining(tmp_path / "chain", 1_000_000) as process:
        assert (await read_line(process))[0] == "ready"
        with pytest.raises(StoreLocked) as caught:
            await DevNode(DevConfig(data_dir=tmp_path / "chain")).start()
        assert "\n" not in str(caught.value)
        acknowledged(await read_line(process))  # the first one is not troubled
    async with DevNode(DevConfig(data_dir=tmp_path / "chain")) as node:
        assert node.chain.head.number >= 1
