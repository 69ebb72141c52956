"""``noria dev``: what it prints, serves and keeps, how it stops, and what keeps it from starting."""

import os
import signal
import socket
from pathlib import Path

import pytest

from noria.execution.accounts import dev_accounts
from tests.cli.command import READY, assert_one_line_error, file_with, hex_strings, noria, noria_dev, rpc


def test_it_prints_accounts_endpoints_and_one_ready_line() -> None:
    with noria_dev("--accounts", "3") as node:
        addresses = [bytes.fromhex(text[2:]) for text in hex_strings(node.lines, 40)]
        keys = [bytes.fromhex(text[2:]) for text in hex_strings(node.lines, 64)[:3]]
        assert addresses == [account.address for account in dev_accounts(3)]
        assert keys == [account.private_key for account in dev_accounts(3)]
        text = "\n".join(node.lines)
        assert "Everybody knows them" in text
        assert "5132114" in text
        assert f"ws://127.0.0.1:{node.port}" in text
        assert sum(READY.search(line) is not None for line in node.lines) == 1
        assert int(rpc(node.url, "eth_chainId"), 16) == 5132114
        assert [bytes.fromhex(text[2:]) for text in rpc(node.url, "eth_accounts")] == addresses


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly_on_a_signal(number: signal.Signals) -> None:
    with noria_dev() as node:
        code, _, errors = node.stop(number)
        assert code == 0
        assert "Traceback" not in errors
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", node.port), timeout=5)


def test_quiet_prints_the_ready_line_alone() -> None:
    with noria_dev("--quiet") as node:
        assert len(node.lines) == 1
        code, out, errors = node.stop()
        assert (code, out, errors) == (0, "", "")


def test_it_logs_blocks_and_transactions() -> None:
    with noria_dev("--accounts", "1") as node:
        account = rpc(node.url, "eth_accounts")[0]
        sent = rpc(node.url, "eth_sendTransaction", {"from": account, "to": account, "value": "0x1"})
        rpc(node.url, "evm_mine")
        assert rpc(node.url, "eth_getTransactionReceipt", sent)["status"] == "0x1"
        _, _, errors = node.stop()
        assert sent in errors
        assert "block" in errors


def test_a_chain_in_a_data_dir_goes_on_and_a_temporary_one_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    with noria_dev("--data-dir", folder) as node:
        account = rpc(node.url, "eth_accounts")[0]
        rpc(node.url, "eth_sendTransaction", {"from": account, "to": account, "value": "0x1"})
        rpc(node.url, "evm_mine")
        head = rpc(node.url, "eth_getBlockByNumber", "latest", False)
        assert node.stop()[0] == 0
    with noria_dev("--data-dir", folder) as node:
        assert rpc(node.url, "eth_getBlockByNumber", "latest", False) == head


def test_a_killed_node_comes_back_with_every_block_it_told_of(tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    with noria_dev("--data-dir", folder) as node:
        account = rpc(node.url, "eth_accounts")[0]
        for _ in range(5):
            rpc(node.url, "eth_sendTransaction", {"from": account, "to": account, "value": "0x1"})
            rpc(node.url, "evm_mine")
        head = rpc(node.url, "eth_getBlockByNumber", "latest", False)
        assert node.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    with noria_dev("--data-dir", folder) as node:
        assert rpc(node.url, "eth_getBlockByHash", head["hash"], False) == head


def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_one_line_error(noria("dev", "--quiet", "--port", str(port)), 1, str(port), "taken")


def test_a_data_dir_in_use_is_one_line(tmp_path: Path) -> None:
    with noria_dev("--data-dir", tmp_path / "chain"):
        outcome = noria("dev", "--quiet", "--port", "0", "--data-dir", tmp_path / "chain")
        assert_one_line_error(outcome, 1)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    letter = file_with(tmp_path / "letter.txt", "dear diary")
    outcome = noria("dev", "--quiet", "--port", "0", "--data-dir", tmp_path)
    assert_one_line_error(outcome, 1, str(tmp_path))
    assert [letter] == list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    outcome = noria("dev", "--quiet", "--port", "0", "--data-dir", tmp_path / "chain")
    assert_one_line_error(outcome, 1, str(tmp_path))


def test_another_chain_id_than_the_stored_one_is_refused(tmp_path: Path) -> None:
    with noria_dev("--data-dir", tmp_path / "chain", "--chain-id", "77") as node:
        assert int(rpc(node.url, "eth_chainId"), 16) == 77
        node.stop()
    outcome = noria("dev", "--quiet", "--port", "0", "--data-dir", tmp_path / "chain", "--chain-id", "78")
    assert_one_line_error(outcome, 1, "77", "78")


def test_blocks_come_at_the_pace_that_was_asked_for() -> None:
    with noria_dev("--block-time", "0.05") as node:
        first = int(rpc(node.url, "eth_blockNumber"), 16)
        while int(rpc(node.url, "eth_blockNumber"), 16) < first + 3:
            pass  # the test's own time limit ends this if no blocks come


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mnemonic", "these are no words of it"], ["mnemonic"]),
        (["--host", "203.0.113.7"], ["203.0.113.7", "no such address"]),
    ],
)
def test_what_it_cannot_start_with_is_one_line(arguments: list[str], words: list[str]) -> None:
    assert_one_line_error(noria("dev", "--quiet", "--port", "0", *arguments), 1, *words)
