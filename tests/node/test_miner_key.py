"""A node with another BLS key than the one that is registered for its miner signs nothing."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from noria.cli.registration import register_call
from noria.consensus.validity import Rejected
from noria.execution.accounts import dev_accounts
from noria.execution.system_contracts import MINER_REGISTRY
from noria.node.bls_keystore import write_keystore
from noria.node.config import NodeConfig
from noria.node.data_dir import save_spec, store_path
from noria.node.errors import InvalidConfiguration
from noria.node.full import FullNode
from noria.primitives.hexes import format_data
from noria.primitives.keys import BlsSecretKey
from noria.primitives.types import NOR
from tests.chain.drawn import (
    FakeKey,
    Network,
    Node,
    address,
    agree,
    chain_of,
    claims_another_output,
    fast_network,
    key,
    running,
    state_of,
)
from tests.chain.transfers import transfer
from tests.virtual_time import run_virtually
from tests.work.modules import SPIN

MISTAKEN, STRANGER, LATE = 3, 9, 7
PAST_SECONDS = 1_700_000_000


def key_or_mistake(number: int) -> FakeKey:
    return FakeKey(STRANGER if number == MISTAKEN else number)


def rejections(network: Network) -> list[object]:
    return [found for node in network.nodes for found in node.findings if isinstance(found, Rejected)]


def differences(logs: list[Any]) -> list[Any]:
    return [line for line in logs if line["event"] == "miner_key_differs"]


def test_a_miner_whose_key_is_not_registered_signs_nothing_and_is_not_blamed(tmp_path: Path) -> None:
    async def story() -> None:
        network = Network(tmp_path, scheme=fast_network(tmp_path).scheme, signer=key_or_mistake)
        with capture_logs() as logs:
            await running(network)
            await network.run_to(80)
        mistaken = network.nodes[MISTAKEN]
        assert mistaken.said == []
        assert rejections(network) == []
        assert mistaken.miner is not None
        status = mistaken.miner.status
        assert (status.blocks, status.votes) == (0, 0)
        assert "is not the one" in status.last_reason
        # It follows the others, whose weight suffices.
        assert address(MISTAKEN) not in {block.header.proposer for block in chain_of(mistaken)}
        assert agree(network)
        assert min(node.chain.tree.final.epoch for node in network.nodes) >= 3
        # The operator is told once, with what to do.
        (told,) = differences(logs)
        assert told["log_level"] == "error"
        assert told["miner"] == format_data(address(MISTAKEN))
        assert told["registered"] == format_data(key(MISTAKEN).public_key)
        assert told["given"] == format_data(key(STRANGER).public_key)
        assert "miner_keystore" in told["advice"]
        await network.stop()

    run_virtually(story())


def test_it_raises_no_alarm_either(tmp_path: Path) -> None:
    async def story() -> None:
        network = fast_network(tmp_path, liars={0: claims_another_output})
        network.signer = key_or_mistake
        await running(network)
        # The liar does not mind its own lies.
        network.nodes[0].chain.checker.submit = lambda *arguments: None  # type: ignore[method-assign]
        await network.run_to(60)
        raised = [{kind for kind, _ in node.said} & {"alarm"} for node in network.nodes]
        assert raised == [set(), {"alarm"}, {"alarm"}, set()]
        assert rejections(network) == []
        await network.stop()

    run_virtually(story())


async def registering(node: Node, number: int) -> None:
    """Send the registration of a miner that is none of genesis."""
    root = node.chain.rules.genesis_root
    call = register_call(root, address(number), key(number), "peer", 0, 0)
    raw = transfer(dev_accounts()[number], 0, to=MINER_REGISTRY, value=4_000 * NOR, gas=2_000_000, data=call)
    await node.execution.submit([raw])


def folder_with_a_late_miner(folder: Path) -> Path:
    """The folder of a node on whose chain a miner has registered after genesis."""

    async def story() -> Path:
        network = Network(folder, 1, genesis_seconds=PAST_SECONDS)
        node = await network.add()
        await registering(node, LATE)
        await network.run_to(12)
        assert state_of(node).miners[address(LATE)].bls_key == key(LATE).public_key
        await network.stop()
        save_spec(node.folder, network.spec)
        shutil.move(node.folder / "engine", store_path(node.folder))
        (node.folder / "programs").mkdir()
        (node.folder / "programs" / "spin.wasm").write_bytes(SPIN)
        return node.folder

    return run_virtually(story())


def miners_config(folder: Path, secret: BlsSecretKey) -> NodeConfig:
    password, keystore = folder / "password", folder / "miner.key.json"
    password.write_text("a password\n")
    keystore.unlink(missing_ok=True)
    write_keystore(keystore, secret, "a password", rounds=100)
    return NodeConfig(
        data_dir=folder,
        listen=("/ip4/127.0.0.1/tcp/0",),
        miner_keystore=keystore,
        miner_address=format_data(address(LATE)),
        password_file=password,
    )


def test_a_node_does_not_start_with_another_key_than_the_registered_one(tmp_path: Path) -> None:
    folder = folder_with_a_late_miner(tmp_path)
    (folder / "journal").unlink()

    async def start(secret: BlsSecretKey) -> int:
        async with FullNode(miners_config(folder, secret), "noria/0") as node:
            assert node.miner is not None
            return node.chain.head.node.height

    with pytest.raises(InvalidConfiguration) as refused:
        asyncio.run(start(key(STRANGER)))
    message = str(refused.value)
    assert "miner_keystore: " in message
    assert "is not the key with which" in message
    assert len(message.splitlines()) == 1
    # Nothing of it is left: the right key starts in the same folder.
    assert asyncio.run(start(key(LATE))) > 3
