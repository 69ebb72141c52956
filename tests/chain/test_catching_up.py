"""Blocks that do not wait for the disk while a node catches up, and what is left of them afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from noria._core import Engine, StoreUnsettled
from noria.chain.recovery import open_engine
from noria.node.data_dir import store_path
from tests.chain.drawn import agree, fast_network, final_roots, heads, running
from tests.chain.test_durability import Mined, acknowledged, check_chain, mining, read_line
from tests.node.networked import Networked, Speaker
from tests.virtual_time import run_virtually

MARK = "noria.unsettled"


async def test_killed_while_it_does_not_wait_for_the_disk_an_engine_has_every_block(tmp_path: Path) -> None:
    mined: Mined = []
    data_dir = tmp_path / "chain"
    for turn in range(3):
        async with mining(data_dir, 1_000_000, 0, 1) as process:
            words = await read_line(process)
            assert words[0] == "ready"
            assert int(words[1]) >= len(mined)
            assert (store_path(data_dir) / MARK).exists()
            for _ in range(3 + 11 * turn):
                mined.append(acknowledged(await read_line(process)))
            process.kill()
            while words := await read_line(process):
                if len(words) == 4 and len(words[3].strip()) == 64:
                    mined.append(acknowledged(words))
        assert check_chain(data_dir, mined) - len(mined) <= turn + 1
        # Whoever opens it brings it to the disk first.
        assert not (store_path(data_dir) / MARK).exists()


def test_after_a_power_cut_the_engine_is_made_again_from_the_blocks(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(44)
        node = network.nodes[0]
        head, final = node.chain.head.root, final_roots(node)
        assert final
        await node.stop()
        # As it is left by a machine that stopped while commits did not wait for the disk.
        path = node.folder / "engine"
        (path / MARK).write_text("another run of the system\n")
        with pytest.raises(StoreUnsettled, match="delete the directory to sync anew"):
            Engine(str(path), network.spec.engine_json())
        engine = open_engine(path, network.spec)
        assert engine.head.number == 0
        engine.close()
        await node.start()
        assert node.chain.head.root == head
        await network.run_to(80)
        assert len(heads(network)) == 1
        assert final_roots(node)[: len(final)] == final
        assert agree(network)
        await network.stop()

    run_virtually(story())


def test_an_engine_that_was_settled_is_opened_as_it_is(tmp_path: Path) -> None:
    spec = fast_network(tmp_path, 1).spec
    for settle in (True, False):
        engine = open_engine(tmp_path / "engine", spec)
        engine.relax()
        assert (tmp_path / "engine" / MARK).exists()
        if settle:
            engine.settle()
            assert not (tmp_path / "engine" / MARK).exists()
        engine.close()
    open_engine(tmp_path / "engine", spec).close()
    assert not (tmp_path / "engine" / MARK).exists()
    shutil.rmtree(tmp_path / "engine")


class Watched:
    """An engine that notes when commits need not wait."""

    def __init__(self, engine: Engine, said: list[str]) -> None:
        self._engine, self._said = engine, said

    def __getattr__(self, name: str) -> Any:
        if name in ("relax", "settle"):
            self._said.append(name)
        return getattr(self._engine, name)


def test_only_a_node_that_is_far_behind_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    async def story() -> None:
        network = Networked(tmp_path)
        said: dict[str, list[str]] = {}

        async def join(number: int, name: str = "", *, mines: bool = True) -> Speaker:
            node = Speaker(network, number, mines, name)
            notes = said.setdefault(name or str(number), [])
            node.wrap = lambda engine: Watched(engine, notes)
            network.nodes.append(node)
            network.speakers.append(node)
            await node.start()
            return node

        for number in range(4):
            await join(number)
        await network.run_to(110)
        late = await join(0, "late", mines=False)
        await network.run_to(116)
        assert late.chain.head.node.height >= network.speakers[0].chain.head.node.height - 1
        await network.stop()
        assert said["late"] == ["relax", "settle"]
        assert [said[str(number)] for number in range(4)] == [[]] * 4

    run_virtually(story())
