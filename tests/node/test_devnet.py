"""Making development networks: what comes with the package, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from examples.render.scene import Tile, noria
from noria.chain.own_work import OwnWork
from noria.execution.parameters import DEVNET
from noria.execution.spec import ChainSpec
from noria.node.config import load_config
from noria.node.devnet import tiles
from noria.node.devnet.layout import NetworkError, has_network, load_network
from noria.node.devnet.making import Plan, make_network
from noria.node.devnet.processes import running
from noria.node.market import account_key
from noria.node.programs import PACKAGED, ProgramsMissing, pinned_programs
from noria.primitives.types import Hash32
from tests.client.runtime import python_runtime

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "render"


def test_the_packaged_units_are_the_examples() -> None:
    assert (PACKAGED / "pathtracer.wasm").read_bytes() == (EXAMPLE / "pathtracer.wasm").read_bytes()
    picture = noria(tiles.WIDTH, tiles.HEIGHT, tiles.SAMPLES, seed=7)
    cut = picture.tiles(tiles.TILE_WIDTH, tiles.TILE_HEIGHT)
    assert len(cut) == tiles.TILES
    assert [tiles.tile_input(7, place) for place in (0, 21, 399)] == [
        picture.encode(cut[place]) for place in (0, 21, 399)
    ]
    assert cut[21] == Tile(16, 9, 16, 9)


def test_inputs_of_a_miner_differ_from_each_other_and_from_others() -> None:
    both = [*tiles.miner_inputs(1, 64), *tiles.miner_inputs(2, 64)]
    assert len(set(both)) == 128


def test_a_network_is_made_of_work_that_was_run(tmp_path: Path) -> None:
    said: list[str] = []
    network = make_network(tmp_path / "net", Plan(nodes=2, units=3), lambda what, share: said.append(what))
    assert [node.name for node in load_network(tmp_path / "net").nodes] == ["node-1", "node-2"]
    assert "work of node-2" in said
    spec = ChainSpec.load(network.spec)
    assert len({batch.root for batch in spec.genesis_work}) == 2
    assert all(batch.count == 3 and batch.fuel > 10**7 for batch in spec.genesis_work)
    for node, batch in zip(network.nodes, spec.genesis_work, strict=True):
        assert running(network, node) is None
        work = OwnWork(network.node_folder(node) / "work")
        assert work.roots() == [batch.root]
        certificate, data = work.certificate(batch.root, 0)
        assert certificate.proof.receipt.genesis_root == spec.origin
        assert certificate.proof.receipt.miner == batch.miner
        assert data.startswith(tiles.MAGIC)
    runtime = python_runtime()
    assert spec.programs == (tiles.module().id, runtime.program_id)
    assert pinned_programs(spec, [])[runtime.program_id] == runtime.path
    for node, miner in zip(network.nodes, spec.miners, strict=True):
        assert miner.ask_price == DEVNET.floor_min_wei
        assert miner.capacity == 8 * 10**10
        config, _ = load_config(network.config(node), {}, {})
        assert config.takes_jobs
        key = account_key(config)
        assert key is not None
        assert key.address == miner.address
        covered = miner.bond // spec.parameters.bond_per_weight_wei
        assert 0 < covered <= min(batch.weight for batch in spec.genesis_work), "all of it is real work"
        assert 3 * (miner.grant + covered) < 4 * miner.grant + covered, "one of four stays below a third"
    assert ((tmp_path / "net").stat().st_mode & 0o077) == 0
    with pytest.raises(NetworkError, match="no node 'node-9'"):
        network.node("node-9")


def test_what_is_refused(tmp_path: Path) -> None:
    for nodes, units in ((0, 1), (65, 1), (1, 0), (1, tiles.TILES + 1)):
        with pytest.raises(NetworkError, match="are possible"):
            Plan(nodes=nodes, units=units)
    (tmp_path / "something").write_text("precious")
    with pytest.raises(NetworkError, match="is not empty"):
        make_network(tmp_path, Plan(nodes=1, units=1))
    assert (tmp_path / "something").read_text() == "precious"
    assert not has_network(tmp_path)
    with pytest.raises(NetworkError, match="holds no network"):
        load_network(tmp_path)
    (tmp_path / "network.json").write_text('{"nodes": 3}')
    with pytest.raises(NetworkError, match="cannot be read"):
        load_network(tmp_path)


def test_a_pinned_program_that_is_nowhere(tmp_path: Path) -> None:
    network = make_network(tmp_path / "net", Plan(nodes=1, units=1))
    spec = ChainSpec.load(network.spec)
    found = [PACKAGED / "pathtracer.wasm", python_runtime().path]
    assert sorted(pinned_programs(spec, []).values()) == sorted(found)
    other = dataclasses.replace(spec, programs=(Hash32(bytes(32)),))
    with pytest.raises(ProgramsMissing, match="is not on this machine"):
        pinned_programs(other, [tmp_path])
