"""What keeps a node from starting is one line that says what to do."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.node.bls_keystore import write_keystore
from noria.node.devnet.layout import Network
from noria.node.devnet.making import Plan, make_network
from noria.primitives.keys import BlsSecretKey

LIMIT_SECONDS = 60


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A network that does not run."""
    return make_network(tmp_path_factory.mktemp("made") / "net", Plan(nodes=2, units=1))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def refused(network: Network, *flags: str, environment: dict[str, str] | None = None) -> str:
    """Start a node that cannot start; return its only line of error."""
    command = [
        sys.executable,
        "-m",
        "noria.cli.main",
        "node",
        "--config",
        str(network.config(network.nodes[0])),
    ]
    found = subprocess.run(
        [*command, *flags],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
        env=environment,
    )
    assert found.returncode in (1, 2), found.stderr
    lines = [line for line in found.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, found.stderr
    assert lines[0].startswith("error: ")
    assert "unexpected" not in lines[0]
    assert "Traceback" not in found.stderr
    assert "Listening" not in found.stdout
    return lines[0]


def test_ports_that_are_taken(network: Network, taken: int) -> None:
    assert f"127.0.0.1:{taken}: the port is taken" in refused(network, "--rpc-port", str(taken))
    peers = refused(network, "--listen", f"/ip4/127.0.0.1/tcp/{taken}")
    assert f"/ip4/127.0.0.1/tcp/{taken}" in peers


def test_keys_that_are_not_the_miners(network: Network, tmp_path: Path) -> None:
    password = (network.folder / "password").read_text().strip()
    other = tmp_path / "other.json"
    write_keystore(other, BlsSecretKey.generate(), password, rounds=100)
    assert "is not the key with which" in refused(network, "--miner-keystore", str(other))
    wrong = tmp_path / "password"
    wrong.write_text("something else\n")
    line = refused(network, "--password-file", str(wrong))
    assert "the password does not open it" in line
    assert "something else" not in line
    assert "cannot be read" in refused(network, "--miner-keystore", str(tmp_path / "absent"))


def test_specifications(network: Network, tmp_path: Path) -> None:
    assert "cannot be read" in refused(network, "--spec", str(tmp_path / "absent.json"))
    damaged = tmp_path / "damaged.json"
    document = json.loads(network.spec.read_bytes())
    document["miners"][0]["bond"] = "1 NOR"
    damaged.write_text(json.dumps(document))
    assert "is below the least bond" in refused(
        network, "--spec", str(damaged), "--data-dir", str(tmp_path / "a")
    )
    document["miners"][0]["bond"] = "4000 NOR"
    document["timestamp"] += 1
    damaged.write_text(json.dumps(document))
    line = refused(network, "--spec", str(damaged), "--data-dir", str(tmp_path / "b"))
    assert "proof_of_possession" in line
    document["timestamp"] -= 1
    document["programs"] = ["0x" + "11" * 32]
    damaged.write_text(json.dumps(document))
    # Nobody is named who might have it: there is nothing to wait for.
    alone = network.folder / "alone.toml"
    lines = network.config(network.nodes[0]).read_text().splitlines()
    alone.write_text("\n".join(line for line in lines if not line.startswith("bootstrap")))
    flags = ("--config", str(alone), "--spec", str(damaged), "--data-dir", str(tmp_path / "c"))
    assert "is not on this machine" in refused(network, *flags)


def test_addresses_and_settings(network: Network) -> None:
    assert "/ip4/" in refused(network, "--bootstrap", "example.org:30400")
    assert "rpc_port" in refused(network, "--rpc-port", "70000")
    assert "log_level" in refused(network, "--log-level", "loud")
    assert "listen: " in refused(network, "--listen", "/ip4/not-an-address/tcp/1")
