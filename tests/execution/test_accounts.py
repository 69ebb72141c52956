"""Keystore and development accounts."""

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.execution.accounts import (
    CorruptKeyFile,
    DuplicateAccount,
    EmptyPassword,
    InvalidMnemonic,
    InvalidPrivateKey,
    Keystore,
    KeystoreUnavailable,
    UnknownAccount,
    WrongPassword,
    decrypt_key_file,
    dev_accounts,
    key_address,
    parse_private_key,
)
from noria.primitives.addresses import checksum_address

PASSWORD = "correct horse"
KEY = bytes(31) + b"\x07"

# The test vector of the Web3 Secret Storage definition (scrypt), password "testpassword".
VECTOR: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
        "kdf": "scrypt",
        "kdfparams": {
            "dklen": 32,
            "n": 262144,
            "p": 8,
            "r": 1,
            "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
        },
        "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
VECTOR_KEY = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"


@pytest.fixture
def keystore(tmp_path: Path) -> Keystore:
    return Keystore(tmp_path / "keys", scrypt_n=2)


def test_a_new_account_is_listed_and_unlocked(keystore: Keystore) -> None:
    account = keystore.create(PASSWORD)
    assert keystore.list() == [account]
    assert key_address(keystore.unlock(account.address, PASSWORD)) == account.address


def test_new_accounts_differ(keystore: Keystore) -> None:
    assert keystore.create(PASSWORD).address != keystore.create(PASSWORD).address


def test_an_imported_key_comes_back(keystore: Keystore) -> None:
    account = keystore.import_key(KEY, PASSWORD)
    assert account.address == key_address(KEY)
    assert keystore.unlock(account.address, PASSWORD) == KEY


def test_key_files_are_private_and_whole(keystore: Keystore) -> None:
    account = keystore.import_key(KEY, PASSWORD)
    assert stat.S_IMODE(account.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(account.path.parent.stat().st_mode) == 0o700
    assert list(account.path.parent.iterdir()) == [account.path]
    content = json.loads(account.path.read_bytes())
    assert content["version"] == 3
    assert content["address"] == account.address.hex()
    assert content["crypto"]["kdf"] == "scrypt"
    assert KEY.hex() not in account.path.read_text()


def test_an_empty_keystore_lists_nothing(keystore: Keystore) -> None:
    assert keystore.list() == []


def test_other_files_are_passed_over(keystore: Keystore) -> None:
    account = keystore.import_key(KEY, PASSWORD)
    (account.path.parent / "README").write_text("not a key")
    (account.path.parent / ".UTC--x.partial").write_text("left behind")
    assert keystore.list() == [account]


def test_wrong_password_is_named(keystore: Keystore) -> None:
    account = keystore.import_key(KEY, PASSWORD)
    with pytest.raises(WrongPassword, match=f"wrong password for .*{account.path.name}"):
        keystore.unlock(account.address, "battery staple")


def test_empty_password_is_refused_and_nothing_written(keystore: Keystore) -> None:
    with pytest.raises(EmptyPassword):
        keystore.create("")
    assert keystore.list() == []


def test_a_second_import_is_a_duplicate(keystore: Keystore) -> None:
    account = keystore.import_key(KEY, PASSWORD)
    with pytest.raises(DuplicateAccount, match=checksum_address(account.address)):
        keystore.import_key(KEY, "another")
    assert keystore.unlock(account.address, PASSWORD) == KEY


def test_unknown_account_is_named(keystore: Keystore) -> None:
    keystore.create(PASSWORD)
    with pytest.raises(UnknownAccount, match="no key file for 0x0000"):
        keystore.unlock(bytes(20), PASSWORD)


def test_a_file_under_another_accounts_name_is_refused(keystore: Keystore) -> None:
    account = keystore.import_key(KEY, PASSWORD)
    account.path.rename(account.path.with_name("UTC--x--" + "00" * 20))
    with pytest.raises(CorruptKeyFile, match="another account's key"):
        keystore.unlock(bytes(20), PASSWORD)


def test_a_keystore_that_cannot_be_written_is_named_and_left_clean(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeystoreUnavailable, match="Not a directory"):
        Keystore(tmp_path / "file" / "keys", scrypt_n=2).create(PASSWORD)


def test_a_full_disk_leaves_nothing_behind(keystore: Keystore, monkeypatch: pytest.MonkeyPatch) -> None:
    account = keystore.import_key(KEY, PASSWORD)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(KeystoreUnavailable, match="No space left on device"):
        keystore.create(PASSWORD)
    assert list(account.path.parent.iterdir()) == [account.path]


def test_geth_test_vector_opens() -> None:
    assert decrypt_key_file(json.dumps(VECTOR).encode(), "testpassword").hex() == VECTOR_KEY


def _change(*path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        if value is None:
            del content[path[-1]]
        else:
            content[path[-1]] = value

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_change("version", value=4), "of version 4"),
        (_change("version", value=None), "not a version 3 key file"),
        (_change("crypto", value=None), "not a version 3 key file"),
        (_change("crypto", value=[]), "not a version 3 key file"),
        (_change("crypto", "kdf", value="argon2"), "uses the key derivation argon2"),
        (_change("crypto", "kdf", value="pbkdf2"), "no usable c"),
        (_change("crypto", "kdfparams", "n", value=2**40), "too much work"),
        (_change("crypto", "kdfparams", "n", value=2**70), "not a version 3 key file|no usable n"),
        (_change("crypto", "kdfparams", "n", value="262144"), "no usable n"),
        (_change("crypto", "kdfparams", "n", value=3), "is damaged"),
        (_change("crypto", "kdfparams", "r", value=2**30), "too much work"),
        (_change("crypto", "kdfparams", "p", value=17), "too much work"),
        (_change("crypto", "kdfparams", "p", value=0), "no usable p"),
        (_change("crypto", "kdfparams", "dklen", value=1), "dklen"),
        (_change("crypto", "kdfparams", "salt", value=None), "is damaged"),
        (_change("crypto", "ciphertext", value="zz"), "is damaged"),
        (_change("crypto", "ciphertext", value=None), "is damaged"),
        (_change("crypto", "mac", value=None), "is damaged"),
        (_change("address", value="0x12"), "not a version 3 key file"),
    ],
)
def test_every_damage_is_named(
    keystore: Keystore, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    account = keystore.import_key(KEY, PASSWORD)
    content = json.loads(account.path.read_bytes())
    change(content)
    account.path.write_text(json.dumps(content))
    with pytest.raises(CorruptKeyFile, match=message) as raised:
        keystore.unlock(account.address, PASSWORD)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 60_000, b"\xff\xfe", b" " * 70_000], ids=len)
def test_what_is_no_key_file_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptKeyFile):
        decrypt_key_file(data, PASSWORD)


@given(data=st.binary(max_size=200))
def test_random_bytes_are_no_key_file(data: bytes) -> None:
    with pytest.raises(CorruptKeyFile):
        decrypt_key_file(data, PASSWORD)


@pytest.mark.parametrize("text", [KEY.hex(), "0x" + KEY.hex(), f" {KEY.hex().upper()}\n"])
def test_private_keys_are_read_as_people_paste_them(text: str) -> None:
    assert parse_private_key(text) == KEY


@pytest.mark.parametrize("text", ["", "0x", "07", "0x" + "zz" * 32, "00" * 32, "ff" * 32, "0x" + "11" * 33])
def test_what_is_no_private_key_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidPrivateKey) as raised:
        parse_private_key(text)
    assert len(text) < 10 or text not in str(raised.value)


def test_dev_accounts_are_the_known_ones() -> None:
    accounts = dev_accounts()
    assert len(accounts) == 10
    assert checksum_address(accounts[0].address) == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert checksum_address(accounts[9].address) == "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720"
    assert accounts[0].private_key.hex() == "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"


def test_dev_accounts_do_not_show_their_keys() -> None:
    [account] = dev_accounts(1)
    assert repr(account) == "DevAccount(0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266)"


def test_fewer_dev_accounts_are_the_first_ones() -> None:
    assert dev_accounts(3) == dev_accounts()[:3]
    assert dev_accounts(0) == []


def test_another_mnemonic_makes_other_accounts() -> None:
    words = "abandon " * 11 + "about"
    assert checksum_address(dev_accounts(1, words)[0].address) == "0x9858EfFD232B4033E47d90003D41EC34EcaEda94"


@pytest.mark.parametrize("words", ["", "test", "test " * 11 + "test", "nonsense words"])
def test_a_bad_mnemonic_is_named(words: str) -> None:
    with pytest.raises(InvalidMnemonic, match="not one of BIP-39"):
        dev_accounts(1, words)


@pytest.mark.parametrize("count", [-1, 1001])
def test_dev_account_count_is_bounded(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} accounts are asked for"):
        dev_accounts(count)


def test_the_recursion_limit_stays_as_it_was() -> None:
    shown = "import sys; print(sys.getrecursionlimit())"
    used = "from noria.execution.accounts import dev_accounts; dev_accounts(1)"
    assert _output(f"{used}; {shown}") == _output(shown)


def _output(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout
