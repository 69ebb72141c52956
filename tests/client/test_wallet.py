"""The account that pays, and the faucet of local networks."""

import stat
from pathlib import Path
from typing import Any

import pytest

from noria.client.local_network import NODE_VARIABLE, NoNode, find_nodes
from noria.client.wallet import NoFaucet, WalletError, faucet, new_wallet, open_wallet
from noria.execution.accounts import dev_accounts
from noria.market import sending
from noria.primitives.types import NOR, Address, Wei


@pytest.fixture(autouse=True)
def _no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NORIA_PASSWORD_FILE", raising=False)


def test_it_is_made_at_its_first_use_and_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "wallet"
    first = open_wallet(folder)
    assert open_wallet(folder) == first
    assert first.path is not None
    assert first.key.secret.hex() not in repr(first)
    assert first.key.secret.hex() not in first.path.read_text()
    assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600
    with pytest.raises(WalletError, match="has a wallet already"):
        new_wallet(folder)


def test_none_is_made_if_none_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(WalletError, match="noria wallet new"):
        open_wallet(tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_password_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.client.wallet.OWN_SCRYPT_N", 4096)
    secret = tmp_path / "secret"
    monkeypatch.setenv("NORIA_PASSWORD_FILE", str(secret))
    with pytest.raises(WalletError, match="cannot be read"):
        open_wallet(tmp_path / "wallet")
    secret.write_text("\n")
    with pytest.raises(WalletError, match="is empty"):
        open_wallet(tmp_path / "wallet")
    secret.write_text("correct horse\n")
    made = open_wallet(tmp_path / "wallet")
    assert not (tmp_path / "wallet" / "password").exists()
    secret.write_text("another\n")
    with pytest.raises(WalletError, match="cannot be opened"):
        open_wallet(tmp_path / "wallet")
    secret.write_text("correct horse\n")
    assert open_wallet(tmp_path / "wallet") == made


class Bank:
    """A chain on which one development account has something."""

    chain_id = 31_337

    def __init__(self, amount: int) -> None:
        self.amount = amount

    async def balance(self, account: Address) -> Wei:
        return Wei(self.amount if account == dev_accounts()[3].address else 0)


async def test_the_faucet_gives_where_there_is_something(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, ...]] = []

    async def send(access: Any, key: Any, to: Address, data: bytes, *, value: int, gas: int) -> str:
        sent.append((key.address, to, value))
        return "sent"

    monkeypatch.setattr(sending, "send_transaction", send)
    receiver = Address(bytes(19) + b"\1")
    bank: Any = Bank(200 * NOR)
    assert await faucet(bank, receiver, Wei(5 * NOR)) == "sent"  # type: ignore[comparison-overlap]
    assert sent == [(dev_accounts()[3].address, receiver, 5 * NOR)]
    with pytest.raises(NoFaucet, match="local networks alone"):
        await faucet(bank, receiver, Wei(500 * NOR))


# ---------------------------------------------------------------- which node


NETWORK = '{"nodes": [{"name": "node-1", "rpc_port": 4001}, {"name": "node-2", "rpc_port": 4002}]}'
URLS = ["http://127.0.0.1:4001", "http://127.0.0.1:4002"]


def test_what_is_named_counts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "network.json").write_text(NETWORK)
    monkeypatch.setenv(NODE_VARIABLE, "http://elsewhere:1")
    assert find_nodes("http://named:2") == ["http://named:2"]
    assert find_nodes() == ["http://elsewhere:1"]
    assert find_nodes(str(tmp_path)) == URLS
    for wrong in ("ftp://x", "http://", str(tmp_path / "nothing")):
        with pytest.raises(NoNode):
            find_nodes(wrong)


def test_the_network_of_this_folder_or_of_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NODE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    default = "http://127.0.0.1:8545"
    assert find_nodes() == [default]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "network.json").write_text(NETWORK)
    (tmp_path / "state" / "noria").mkdir(parents=True)
    (tmp_path / "state" / "noria" / "local-network").write_text(f"{tmp_path / 'elsewhere'}\n")
    assert find_nodes() == [*URLS, default]
    (tmp_path / "noria-network").mkdir()
    (tmp_path / "noria-network" / "network.json").write_text('{"nodes": [{"name": "a", "rpc_port": 4005}]}')
    assert find_nodes() == ["http://127.0.0.1:4005", *URLS, default]
    (tmp_path / "noria-network" / "network.json").write_text("not json")
    assert find_nodes() == [*URLS, default]
