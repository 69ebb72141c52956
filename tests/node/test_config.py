"""Settings come from the right place, and every mistake is one line that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noria.node.config import NodeConfig, load_config
from noria.node.errors import InvalidConfiguration


def written(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text)
    return path


def test_without_anything_all_is_default() -> None:
    config, settings = load_config(None, {}, {})
    assert config == NodeConfig()
    assert {each.origin for each in settings} == {"default"}


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, 'rpc_port = 1\nworkers = 2\npeers = 3\ndata_dir = "beside"\nmdns = true\n')
    environment = {"NORIA_RPC_PORT": "11", "NORIA_WORKERS": "12", "NORIA_MDNS": "no", "NORIA_PEERS": ""}
    config, settings = load_config(file, environment, {"rpc_port": 111, "bootstrap": [], "workers": None})
    assert (config.rpc_port, config.workers, config.peers, config.mdns) == (111, 12, 3, False)
    assert config.data_dir == tmp_path / "beside"
    origins = {each.name: each.origin for each in settings}
    assert origins["rpc_port"] == "flag"
    assert origins["workers"] == "NORIA_WORKERS"
    assert origins["peers"] == str(file)
    assert origins["spec"] == "default"


def test_lists_come_from_flags_files_and_the_environment(tmp_path: Path) -> None:
    file = written(tmp_path, 'bootstrap = ["/ip4/192.0.2.1/tcp/1"]')
    assert load_config(file, {}, {})[0].bootstrap == ("/ip4/192.0.2.1/tcp/1",)
    environment = {"NORIA_BOOTSTRAP": "/ip4/192.0.2.1/tcp/2, /ip4/192.0.2.1/tcp/3"}
    assert len(load_config(file, environment, {})[0].bootstrap) == 2
    assert load_config(file, environment, {"bootstrap": ["/dns4/example.org/tcp/4"]})[0].bootstrap == (
        "/dns4/example.org/tcp/4",
    )


@pytest.mark.parametrize(
    ("text", "environment", "flags", "words"),
    [
        ("rpc_prot = 1", {}, {}, ["node.toml", "rpc_prot", "did you mean 'rpc_port'"]),
        ("rpc_port = 'x'", {}, {}, ["node.toml", "rpc_port", "no whole number"]),
        ("rpc_port = 70000", {}, {}, ["node.toml", "rpc_port", "70000", "0 to 65535"]),
        ("mdns = 1", {}, {}, ["mdns", "neither true nor false"]),
        ("rpc_port = true", {}, {}, ["rpc_port", "no whole number"]),
        ("bootstrap = 'x'", {}, {}, ["bootstrap", "no list"]),
        ("bootstrap = ['example.org']", {}, {}, ["bootstrap", "'example.org'", "/ip4/"]),
        ("listen = []", {}, {}, ["listen", "is empty"]),
        ("listen = ['/ip4/300.0.0.1/tcp/1']", {}, {}, ["listen", "300.0.0.1"]),
        ("external = ['/dns4/example.org/tcp/1']", {}, {}, ["external", "example.org", "its address"]),
        ("listen = ['/ip6/192.0.2.1/tcp/1']", {}, {}, ["listen", "192.0.2.1"]),
        ("listen = ['/ip4/192.0.2.1/tcp/65536']", {}, {}, ["listen", "65536"]),
        ("listen = ['/ip4/192.0.2.1/udp/1']", {}, {}, ["listen", "udp"]),
        ("rpc_port = ", {}, {}, ["node.toml", "no TOML"]),
        ("", {"NORIA_WORKERS": "many"}, {}, ["NORIA_WORKERS", "workers", "'many'"]),
        ("", {"NORIA_WORKERS": "0"}, {}, ["NORIA_WORKERS", "workers", "1 to"]),
        ("", {"NORIA_MDNS": "perhaps"}, {}, ["NORIA_MDNS", "'perhaps'"]),
        ("", {}, {"log_level": "loud"}, ["log_level", "'loud'", "debug"]),
        ("", {}, {"miner_address": "0x12"}, ["miner_address"]),
        ("", {}, {"miner_keystore": Path("k")}, ["miner_address", "missing"]),
        ("job_workers = 1025", {}, {}, ["node.toml", "job_workers", "1025", "0 to 1024"]),
        ("job_storage_mb = 1", {}, {}, ["node.toml", "job_storage_mb", "64 to"]),
        ("", {"NORIA_MINE_JOBS": "2"}, {}, ["NORIA_MINE_JOBS", "mine_jobs", "neither true nor false"]),
        ("", {}, {"miner_account_keystore": Path("accounts")}, ["miner_keystore", "missing"]),
        ("", {}, {"miner_address": "0x" + "11" * 20}, ["miner_address", "miner_keystore is missing"]),
        ("", {}, {"password_file": Path("p")}, ["password_file", "miner_keystore is missing"]),
        ("password_file = 'p'", {}, {}, ["node.toml", "password_file", "miner_keystore is missing"]),
        ("", {}, {"fee_recipient": "0x" + "11" * 20}, ["fee_recipient", "miner_keystore is missing"]),
        (
            "",
            {"NORIA_MINER_ADDRESS": "0x" + "11" * 20},
            {},
            ["NORIA_MINER_ADDRESS", "miner_keystore is missing"],
        ),
        ("", {"NORIA_RPC_PROT": "1"}, {}, ["NORIA_RPC_PROT", "'rpc_prot'", "did you mean NORIA_RPC_PORT"]),
        ("", {"NORIA_BOOTSTRAPS": "x"}, {}, ["NORIA_BOOTSTRAPS", "did you mean NORIA_BOOTSTRAP?"]),
        ("", {"NORIA_LogLevel": "info"}, {}, ["NORIA_LogLevel", "did you mean NORIA_LOG_LEVEL"]),
        ("", {"NORIA_rpc_port": "1"}, {}, ["NORIA_rpc_port", "did you mean NORIA_RPC_PORT"]),
        (
            "",
            {},
            {"miner_keystore": Path("k"), "miner_address": "0x" + "11" * 20},
            ["password_file", "missing"],
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_name(
    tmp_path: Path, text: str, environment: dict[str, str], flags: dict[str, Any], words: list[str]
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(InvalidConfiguration) as caught:
        load_config(file, environment, flags)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_variables_of_other_commands_and_of_others_are_let_be() -> None:
    environment = {
        f"NORIA_{name}": "something"
        for name in (
            "CACHE", "CONFIG", "DEBUG", "FIXTURES", "JOBS", "KEYSTORE", "NODE", "RPC", "SOAK_SECONDS",
            "WALLET",
            # What Kubernetes tells of a service called noria.
            "SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_8545_TCP", "PORT_8545_TCP_ADDR",
        )
    }  # fmt: skip
    environment |= {"NORIA_RPC_PROT": "", "norialog": "x", "RPC_PROT": "1"}
    assert load_config(None, environment, {})[0] == NodeConfig()


def test_a_wallets_password_file_does_not_make_a_node_a_miners(tmp_path: Path) -> None:
    environment = {"NORIA_PASSWORD_FILE": str(tmp_path / "password")}
    assert load_config(None, environment, {})[0].password_file is None
    miner = {"miner_keystore": tmp_path / "key.json", "miner_address": "0x" + "11" * 20}
    assert load_config(None, environment, miner)[0].password_file == tmp_path / "password"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"absent\.toml: cannot be read"):
        load_config(tmp_path / "absent.toml", {}, {})


def test_a_miner_takes_jobs_where_its_account_is_there_and_nobody_says_no(tmp_path: Path) -> None:
    miner = {
        "miner_keystore": tmp_path / "key.json",
        "miner_address": "0x" + "11" * 20,
        "password_file": tmp_path / "password",
    }
    assert not load_config(None, {}, miner)[0].takes_jobs
    file = written(tmp_path, 'miner_account_keystore = "accounts"\njob_workers = 3')
    config, _ = load_config(file, {}, miner)
    assert config.takes_jobs
    assert (config.miner_account_keystore, config.job_workers) == (tmp_path / "accounts", 3)
    assert not load_config(file, {"NORIA_MINE_JOBS": "no"}, miner)[0].takes_jobs
