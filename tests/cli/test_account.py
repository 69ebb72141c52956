"""``noria account``: key files made, listed, imported, refused."""

import json
from pathlib import Path

import pytest

from noria.execution.accounts import Keystore
from tests.cli.command import assert_one_line_error, file_with, hex_strings, noria

KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    return file_with(tmp_path / "password.txt", "correct horse\n")


def test_a_new_account_is_listed_and_opens_with_its_password(keystore: Path, password_file: Path) -> None:
    made = noria("account", "new", "--keystore", keystore, "--password-file", password_file)
    assert made.returncode == 0, made
    (address,) = hex_strings([made.stdout], 40)
    listed = noria("account", "list", "--keystore", keystore)
    assert listed.returncode == 0
    assert listed.stdout.splitlines()[0].startswith(f"{address}  {keystore}")
    (stored,) = Keystore(keystore).list()
    assert len(Keystore(keystore).unlock(stored.address, "correct horse")) == 32


def test_an_imported_key_keeps_its_address_and_value(
    keystore: Path, password_file: Path, tmp_path: Path
) -> None:
    key_file = file_with(tmp_path / "key.txt", f"0x{KEY}\n")
    outcome = noria("account", "import", key_file, "--keystore", keystore, "--password-file", password_file)
    assert (outcome.returncode, outcome.stdout) == (0, f"{ADDRESS}\n")
    assert Keystore(keystore).unlock(bytes.fromhex(ADDRESS[2:]), "correct horse").hex() == KEY
    assert KEY not in "".join(path.read_text() for path in keystore.iterdir())
    again = noria("account", "import", key_file, "--keystore", keystore, "--password-file", password_file)
    assert_one_line_error(again, 1, ADDRESS, "already")


def test_a_key_file_of_a_wallet_is_imported_with_its_own_password(
    keystore: Path, password_file: Path, tmp_path: Path
) -> None:
    other = Keystore(tmp_path / "wallet", scrypt_n=2)
    stored = other.import_key(bytes.fromhex(KEY), "correct horse")
    outcome = noria(
        "account", "import", stored.path, "--keystore", keystore, "--password-file", password_file
    )
    assert (outcome.returncode, outcome.stdout) == (0, f"{ADDRESS}\n")
    wrong = file_with(tmp_path / "wrong.txt", "battery staple\n")
    refused = noria("account", "import", stored.path, "--keystore", tmp_path / "b", "--password-file", wrong)
    assert_one_line_error(refused, 1, "wrong password")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["private key"]),
        ("0x1234", ["64 hexadecimal digits"]),
        ("00" * 32, ["private key"]),
        ("ff" * 32, ["private key"]),
        (json.dumps({"version": 1}), ["key file"]),
        ("{" * 70_000, ["larger"]),
    ],
)
def test_what_is_no_key_is_refused(
    keystore: Path, password_file: Path, tmp_path: Path, content: str, words: list[str]
) -> None:
    file = file_with(tmp_path / "key.txt", content)
    outcome = noria("account", "import", file, "--keystore", keystore, "--password-file", password_file)
    assert_one_line_error(outcome, 1, *words)
    assert not keystore.exists()


def test_a_secret_is_never_repeated_in_an_error(keystore: Path, password_file: Path, tmp_path: Path) -> None:
    file = file_with(tmp_path / "key.txt", KEY + "00")
    outcome = noria("account", "import", file, "--keystore", keystore, "--password-file", password_file)
    assert_one_line_error(outcome, 1)
    assert KEY not in outcome.stderr


def test_an_empty_password_is_refused(keystore: Path, tmp_path: Path) -> None:
    empty = file_with(tmp_path / "empty.txt", "\n")
    outcome = noria("account", "new", "--keystore", keystore, "--password-file", empty)
    assert_one_line_error(outcome, 1, "password")
    assert not keystore.exists()


def test_without_a_terminal_a_password_file_is_needed(keystore: Path) -> None:
    assert_one_line_error(noria("account", "new", "--keystore", keystore), 1, "--password-file")


def test_missing_files_are_named(keystore: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.txt"
    outcome = noria("account", "new", "--keystore", keystore, "--password-file", missing)
    assert_one_line_error(outcome, 1, str(missing), "No such file")


def test_an_empty_keystore_lists_nothing_and_says_so(keystore: Path) -> None:
    outcome = noria("account", "list", "--keystore", keystore)
    assert (outcome.returncode, outcome.stdout) == (0, "")
    assert str(keystore) in outcome.stderr
