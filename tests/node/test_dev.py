from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest

from noria._core import Engine, StoreError, StoreLocked
from noria.execution.spec import ChainSpec, SpecError, dev_spec
from noria.node.data_dir import (
    SPEC_FILE,
    ForeignDataDirectory,
    UnusableDataDirectory,
    save_spec,
    saved_spec,
    store_path,
)
from noria.node.dev import DevConfig, DevNode
from noria.node.errors import ChainMismatch, InvalidConfiguration, NodeError
from tests.chain.transfers import transfer, tx_hash


async def test_a_node_without_a_folder_leaves_nothing_behind() -> None:
    async with DevNode(DevConfig()) as node:
        folder = node.data_dir
        assert store_path(folder).exists()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert node.spec.chain_id == 5_132_114
        assert len(node.accounts) == 10
        head = node.chain.head.hash
        assert [node.chain.engine.account(head, account.address).balance for account in node.accounts] == [
            10_000 * 10**18
        ] * 10
    assert not folder.exists()
    with pytest.raises(RuntimeError, match="not running"):
        _ = node.chain


async def test_a_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    config = DevConfig(data_dir=tmp_path / "a" / "chain", chain_id=77, gas_limit=5_000_000, accounts=3)
    async with DevNode(config) as node:
        raw = transfer(node.accounts[0], 0, chain_id=77)
        assert await node.chain.submit([raw]) == [tx_hash(raw)]
        place = await node.chain.wait_for_transaction(tx_hash(raw), 60)
        spec = node.spec
    assert ChainSpec.load(tmp_path / "a" / "chain" / SPEC_FILE) == spec
    # Values that are not given are the chain's.
    async with DevNode(DevConfig(data_dir=config.data_dir, accounts=2)) as node:
        assert node.spec == spec
        assert node.chain.head.hash == place.block_hash
        assert node.chain.mempool.limits.chain_id == 77
        assert (await node.chain.mine()).gas_limit == 5_000_000
    async with DevNode(config) as node:
        assert node.chain.head.number == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chain_id": 78}, "holds a chain with chain id 5132114, asked for is 78"),
        ({"gas_limit": 30_000_000}, "holds a chain with gas limit 36000000, asked for is 30000000"),
        ({"accounts": 11}, "without genesis funds for 1 of these 11 accounts"),
        ({"mnemonic": "abandon " * 11 + "about"}, "without genesis funds for 10 of these 10 accounts"),
    ],
)
async def test_another_chain_than_asked_for_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = DevConfig(data_dir=tmp_path / "chain")
    async with DevNode(config):
        pass
    before = (tmp_path / "chain" / SPEC_FILE).read_bytes()
    with pytest.raises(ChainMismatch, match=message) as caught:
        await DevNode(dataclasses.replace(config, **change)).start()  # type: ignore[arg-type]
    assert str(tmp_path / "chain") in str(caught.value)
    assert (tmp_path / "chain" / SPEC_FILE).read_bytes() == before
    async with DevNode(config):
        pass


async def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ForeignDataDirectory, match="is not empty and holds no chain"):
        await DevNode(DevConfig(data_dir=tmp_path)).start()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


async def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UnusableDataDirectory, match="cannot be used: Not a directory"):
            await DevNode(DevConfig(data_dir=place)).start()


async def test_a_folder_that_cannot_be_written_is_named() -> None:
    # Not even root can make folders here.
    with pytest.raises(UnusableDataDirectory, match="data directory /proc/noria cannot be used: "):
        await DevNode(DevConfig(data_dir=Path("/proc/noria"))).start()


async def test_a_damaged_specification_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / SPEC_FILE).write_bytes(b'{"name": "x"')
    with pytest.raises(SpecError, match=r"chain\.json"):
        await DevNode(DevConfig(data_dir=tmp_path)).start()


async def test_a_store_of_another_chain_is_refused(tmp_path: Path) -> None:
    config = DevConfig(data_dir=tmp_path / "chain")
    async with DevNode(config) as node:
        spec = node.spec
    (tmp_path / "chain" / SPEC_FILE).write_bytes(
        dataclasses.replace(spec, timestamp=spec.timestamp - 1).to_json()
    )
    with pytest.raises(StoreError) as caught:
        await DevNode(config).start()
    assert "\n" not in str(caught.value)


async def test_a_locked_store_is_named_and_opens_when_it_is_free(tmp_path: Path) -> None:
    config = DevConfig(data_dir=tmp_path / "chain")
    async with DevNode(config):
        pass
    other = Engine(
        str(store_path(tmp_path / "chain")), ChainSpec.load(tmp_path / "chain" / SPEC_FILE).engine_json()
    )
    with pytest.raises(StoreLocked):
        await DevNode(config).start()
    other.close()
    async with DevNode(config) as node:
        assert node.chain.head.number == 0


def test_the_first_of_two_specifications_stays(tmp_path: Path) -> None:
    first, second = dev_spec([], 1_700_000_000), dev_spec([], 1_800_000_000)
    assert saved_spec(tmp_path / "chain") is None
    assert save_spec(tmp_path / "chain", first) == first
    assert save_spec(tmp_path / "chain", second) == first
    assert saved_spec(tmp_path / "chain") == first
    assert [path.name for path in (tmp_path / "chain").iterdir()] == [SPEC_FILE]


def test_a_half_written_specification_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / f"{SPEC_FILE}.12345").write_bytes(b'{"na')
    assert saved_spec(tmp_path) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accounts": -1}, "-1 accounts are asked for, 0 to 1000 are possible"),
        ({"accounts": 1_001}, "1001 accounts"),
        ({"block_time_seconds": 0}, "block time 0 s is out of bounds"),
        ({"block_time_seconds": 86_401}, "block time 86401 s is out of bounds"),
    ],
)
def test_a_configuration_has_bounds(fields: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message) as caught:
        DevConfig(**fields)  # type: ignore[arg-type]
    assert isinstance(caught.value, NodeError)


async def test_a_bad_chain_id_is_named_and_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="chain_id: 0 is not within"):
        await DevNode(DevConfig(data_dir=tmp_path / "chain", chain_id=0)).start()
    assert not (tmp_path / "chain").exists()


async def test_blocks_only_on_demand(tmp_path: Path) -> None:
    async with DevNode(DevConfig(automine=False)) as node:
        raw = transfer(node.accounts[0], 0)
        await node.chain.submit([raw])
        assert node.chain.head.number == 0
        await node.chain.mine()
        assert (await node.chain.wait_for_transaction(tx_hash(raw), 1)).block_number == 1


def test_a_configuration_does_not_show_its_mnemonic() -> None:
    assert "junk" not in repr(DevConfig())
