"""What an operator types: a miner's key, its registration and its bond, and the settings of a node."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from noria.cli.registration import register_call, unbond_call
from noria.execution.accounts import Keystore, dev_accounts
from noria.execution.system_contracts import MINER_REGISTRY
from noria.node.bls_keystore import read_keystore, write_keystore
from noria.node.data_dir import save_spec, store_path
from noria.primitives.addresses import checksum_address
from noria.primitives.types import NOR
from tests.chain.drawn import PARAMETERS, Network, address, key, state_of
from tests.chain.transfers import transfer
from tests.cli.command import assert_one_line_error, file_with, noria, noria_here, rpc
from tests.node.served import PASSWORD as SERVED_PASSWORD
from tests.node.served import drawn_miner, served
from tests.virtual_time import run_virtually

PASSWORD = "a password\n"
NEW, LEFT = 6, 7
"""Accounts of a miner that registers, and of one that has left."""
BOND = PARAMETERS.bond_min_wei
SLOTS = 56
"""Age of a chain: more than an unbonding lasts where work counts for one epoch."""

Run = Callable[..., CompletedProcess[str]]


def shown(number: int) -> str:
    return checksum_address(address(number))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs commands in this process."""
    for name in [name for name in os.environ if name.startswith("NORIA_")]:
        monkeypatch.delenv(name)

    def here(*arguments: str | Path) -> CompletedProcess[str]:
        return noria_here(capsys, *arguments)

    return here


@pytest.fixture
def password(tmp_path: Path) -> Path:
    return file_with(tmp_path / "password", PASSWORD)


# ---------------------------------------------------------------- keys


def test_a_miners_key_is_made_in_an_encrypted_file(run: Run, tmp_path: Path, password: Path) -> None:
    file = tmp_path / "miner.key.json"
    made = run("miner", "key", file, "--password-file", password)
    assert made.returncode == 0, made
    public_key = read_keystore(file, PASSWORD.strip()).public_key
    assert made.stdout == f"0x{public_key.hex()}\n"
    assert file.stat().st_mode & 0o077 == 0
    kept = file.read_bytes()
    assert_one_line_error(run("miner", "key", file, "--password-file", password), 1, str(file))
    assert file.read_bytes() == kept


# ---------------------------------------------------------------- registration and bond


def registry_transaction(number: int, nonce: int, call: bytes, value: int = 0) -> bytes:
    return transfer(dev_accounts()[number], nonce, to=MINER_REGISTRY, value=value, gas=2_000_000, data=call)


def chain_with_one_that_left(folder: Path) -> Path:
    """A node's folder, whose chain is as old as its clock says: a miner has left, and may be paid out."""
    parameters = dataclasses.replace(PARAMETERS, epoch_slots=8, window_epochs=1, leak_epochs=1)

    async def story() -> Path:
        network = Network(folder, 1, parameters=parameters, genesis_seconds=int(time.time()) - SLOTS)
        node = await network.add()
        root = node.chain.rules.genesis_root
        register = register_call(root, address(LEFT), key(LEFT), "peer", 0, 0)
        await node.execution.submit(
            [
                registry_transaction(LEFT, 0, register, BOND),
                registry_transaction(LEFT, 1, unbond_call(BOND)),
            ]
        )
        await network.run_to(SLOTS)
        miner = state_of(node).miners[address(LEFT)]
        assert miner.bond_wei == 0
        await network.stop()
        save_spec(node.folder, network.spec)
        shutil.move(node.folder / "engine", store_path(node.folder))
        return node.folder

    return run_virtually(story())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_bond_goes_in_and_comes_out(tmp_path: Path) -> None:
    config = drawn_miner(tmp_path, chain_with_one_that_left(tmp_path))
    accounts, miner_key = tmp_path / "accounts", tmp_path / "new.key.json"
    write_keystore(miner_key, key(NEW), SERVED_PASSWORD, rounds=100)
    store = Keystore(accounts, scrypt_n=2)
    for number in (LEFT, NEW):
        store.import_key(dev_accounts()[number].private_key, SERVED_PASSWORD)
    password = config.password_file
    assert password is not None

    async def story() -> None:
        async with served(config) as (_, url):
            await asyncio.to_thread(commands, url)

    def commands(url: str) -> None:
        def told(*arguments: str | Path) -> Any:
            outcome = noria("miner", *arguments, "--rpc", url)
            assert outcome.returncode == 0, outcome
            return json.loads(outcome.stdout)

        def signing(number: int) -> list[str | Path]:
            return ["--from", shown(number), "--keystore", accounts, "--password-file", password]

        own = told("status")
        assert own["address"] == shown(0).lower()
        assert own["node"].keys() >= {"blocks", "votes"}
        assert_one_line_error(noria("miner", "status", shown(NEW), "--rpc", url), 1, "is not registered")

        bond = BOND + 7 * NOR
        terms: list[str | Path] = [
            "--miner-keystore",
            miner_key,
            "--miner-password-file",
            password,
            "--peer-id",
            "a peer",
        ]
        found = told("register", *signing(NEW), *terms, "--bond", f"{bond} wei")
        assert found["blsKey"] == "0x" + key(NEW).public_key.hex()
        assert (found["address"], found["bondWei"]) == (shown(NEW).lower(), str(bond))
        assert "node" not in found
        assert told("unbond", "--amount", "7 NOR", *signing(NEW))["bondWei"] == str(BOND)
        assert told("unbond", "--all", *signing(NEW))["bondWei"] == "0"
        early = noria("miner", "withdraw", *signing(NEW), "--rpc", url)
        assert_one_line_error(early, 1, "still bound")

        # Who left long enough ago is paid out: all but the gas is back.
        before = int(rpc(url, "eth_getBalance", shown(LEFT), "latest"), 16)
        paid = noria("miner", "withdraw", *signing(LEFT), "--rpc", url)
        assert (paid.returncode, paid.stdout) == (0, f"paid out to {shown(LEFT)}\n"), paid
        assert BOND - NOR < int(rpc(url, "eth_getBalance", shown(LEFT), "latest"), 16) - before <= BOND
        assert_one_line_error(
            noria("miner", "unbond", "--all", *signing(LEFT), "--rpc", url), 1, "registered"
        )

    asyncio.run(story())


@pytest.mark.parametrize("how", [(), ("--all", "--amount", "1 NOR")])
def test_how_much_is_unbonded_must_be_said(run: Run, how: tuple[str, ...]) -> None:
    assert_one_line_error(run("miner", "unbond", "--from", shown(NEW), *how), 2)


# ---------------------------------------------------------------- settings


def test_settings_are_shown_with_where_they_come_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = file_with(tmp_path / "node.toml", 'rpc_port = 1\nlog_level = "debug"\nbootstrap = []\n')
    monkeypatch.setenv("NORIA_LOG_LEVEL", "error")
    arguments = ("config", "show", "--config", config, "--data-dir", tmp_path / "data")
    shown = run(*arguments)
    assert shown.returncode == 0, shown
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in shown.stdout.splitlines()}
    document = json.loads(run(*arguments, "--json").stdout)
    assert set(document) == set(lines)
    for name, value, origin in (
        ("data_dir", str(tmp_path / "data"), "flag"),
        ("log_level", "error", "NORIA_LOG_LEVEL"),
        ("rpc_port", 1, str(config)),
        ("peers", 16, "default"),
    ):
        assert document[name]["value"] == value
        assert origin in document[name]["origin"]
        assert lines[name] == [str(value), document[name]["origin"]]
    config.write_text("rpc_prot = 1\n")
    assert_one_line_error(run("config", "show", "--config", config), 2, "rpc_prot", "rpc_port")
    assert_one_line_error(run("config", "show", "--config", tmp_path / "none.toml"), 2, "none.toml")
