"""``noria send`` against a real node: paid from three kinds of keys, and refused with one line."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.execution.accounts import Keystore, dev_accounts
from noria.primitives.addresses import checksum_address
from tests.cli.command import DevProcess, assert_one_line_error, file_with, noria, noria_dev, rpc

RECEIVER = "0x" + "42" * 20
NOBODY = "0x" + "77" * 20


@pytest.fixture(scope="module")
def node() -> Iterator[DevProcess]:
    with noria_dev("--quiet", "--accounts", "3") as node:
        yield node


def balance(node: DevProcess, account: str) -> int:
    return int(rpc(node.url, "eth_getBalance", account, "latest"), 16)


def address(index: int) -> str:
    return checksum_address(dev_accounts(3)[index].address)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return file_with(tmp_path / "key.txt", dev_accounts(3)[1].private_key.hex())


@pytest.fixture
def empty_keystore(tmp_path: Path) -> list[str]:
    return ["--keystore", str(tmp_path / "none")]


def test_from_an_account_that_the_node_holds(node: DevProcess, empty_keystore: list[str]) -> None:
    before = balance(node, RECEIVER)
    outcome = noria(
        *("send", "--to", RECEIVER, "--value", "1.5 NOR", "--from", address(0), "--rpc", node.url),
        *empty_keystore,
    )
    assert outcome.returncode == 0, outcome
    assert "success" in outcome.stdout
    assert balance(node, RECEIVER) - before == 1_500_000_000_000_000_000


def test_signed_with_a_key_from_a_file(node: DevProcess, key_file: Path) -> None:
    before = balance(node, RECEIVER), balance(node, address(1))
    outcome = noria(
        *("send", "--to", RECEIVER, "--value", "7 gwei", "--private-key-file", key_file),
        *("--rpc", node.url, "--json"),
    )
    assert outcome.returncode == 0, outcome
    receipt = json.loads(outcome.stdout)
    fee = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
    assert receipt["from"] == address(1).lower()
    assert balance(node, RECEIVER) - before[0] == 7 * 10**9
    assert before[1] - balance(node, address(1)) == 7 * 10**9 + fee


def test_a_call_may_need_more_gas_than_was_estimated_and_a_payment_may_not(
    node: DevProcess, key_file: Path
) -> None:
    def gas_limit(data: str) -> tuple[int, int]:
        outcome = noria(
            *("send", "--to", RECEIVER, "--value", "1 wei", "--private-key-file", key_file),
            *("--data", data, "--rpc", node.url, "--json"),
        )
        assert outcome.returncode == 0, outcome
        receipt = json.loads(outcome.stdout)
        sent = rpc(node.url, "eth_getTransactionByHash", receipt["transactionHash"])
        return int(sent["gas"], 16), int(receipt["gasUsed"], 16)

    assert gas_limit("0x") == (21_000, 21_000)
    limit, used = gas_limit("0x" + "11" * 100)
    assert limit >= used + used // 4 > 21_000


def test_signed_with_a_key_from_the_keystore(node: DevProcess, tmp_path: Path) -> None:
    store = tmp_path / "keys"
    Keystore(store, scrypt_n=2).import_key(dev_accounts(3)[2].private_key, "correct horse")
    right = file_with(tmp_path / "right.txt", "correct horse\n")
    wrong = file_with(tmp_path / "wrong.txt", "battery staple\n")
    command = ["send", "--to", RECEIVER, "--value", "3 wei", "--from", address(2), "--rpc", node.url]
    command += ["--keystore", str(store), "--password-file"]
    before = balance(node, RECEIVER)
    assert_one_line_error(noria(*command, wrong), 1, "wrong password")
    assert balance(node, RECEIVER) == before
    outcome = noria(*command, right)
    assert outcome.returncode == 0, outcome
    assert balance(node, RECEIVER) - before == 3


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("1.5", "units"),
        ("1.5 ETH", "units"),
        ("-1 NOR", "not an amount"),
        ("1e3 wei", "not an amount"),
        ("0.5 wei", "whole number of wei"),
        ("", "not an amount"),
        ("9" * 80 + " NOR", "largest"),
    ],
)
def test_a_bad_amount_is_refused_before_anything_is_sent(value: str, word: str) -> None:
    outcome = noria(
        "send", "--to", RECEIVER, "--value", value, "--from", address(0), "--rpc", "http://127.0.0.1:1"
    )
    assert_one_line_error(outcome, 2, word)


def test_addresses_are_checked(key_file: Path) -> None:
    mistyped = "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    outcome = noria("send", "--to", mistyped, "--value", "1 wei", "--private-key-file", key_file)
    assert_one_line_error(outcome, 2, "capitals")
    outcome = noria("send", "--to", RECEIVER, "--from", address(0), "--private-key-file", key_file)
    assert_one_line_error(outcome, 2, address(1))


def test_a_sender_is_needed() -> None:
    assert_one_line_error(noria("send", "--to", RECEIVER, "--value", "1 wei"), 2, "--from")


def test_an_account_that_nobody_here_holds(node: DevProcess, empty_keystore: list[str]) -> None:
    outcome = noria("send", "--to", RECEIVER, "--from", NOBODY, "--rpc", node.url, *empty_keystore)
    assert_one_line_error(outcome, 1, NOBODY)


def test_what_the_node_refuses_is_told(node: DevProcess, key_file: Path) -> None:
    outcome = noria(
        *("send", "--to", RECEIVER, "--value", "1000000 NOR", "--private-key-file", key_file),
        *("--rpc", node.url),
    )
    assert_one_line_error(outcome, 1, "insufficient funds")


def test_a_node_that_is_not_there(key_file: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        outcome = noria("send", "--to", RECEIVER, "--private-key-file", key_file, "--rpc", url)
        assert_one_line_error(outcome, 1, url, "refused")


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1", "127.0.0.1:8545", "http://", "http://[", "http://a:99999"]
)
def test_what_is_no_url_is_refused(key_file: Path, url: str) -> None:
    outcome = noria("send", "--to", RECEIVER, "--private-key-file", key_file, "--rpc", url)
    assert_one_line_error(outcome, 2, "--rpc")


def test_it_stops_waiting_and_says_so(key_file: Path) -> None:
    with noria_dev("--quiet", "--block-time", "3600") as slow:
        outcome = noria(
            *("send", "--to", RECEIVER, "--value", "1 wei", "--private-key-file", key_file),
            *("--rpc", slow.url, "--wait", "0.2"),
        )
    assert_one_line_error(outcome, 1, "was sent", "0.2 s")
    assert "waiting for a block" in outcome.stderr
