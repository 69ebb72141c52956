"""Key files of miners: EIP-2335's own vectors, round trips, and what cannot be opened."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from noria.node.bls_keystore import (
    DamagedKeystore,
    KeystoreError,
    WrongKeystorePassword,
    read_keystore,
    read_password_file,
    write_keystore,
)
from noria.primitives.keys import BlsSecretKey

# The test vectors of EIP-2335: password 𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑, whose letters become plain ones.
PASSWORD = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑"
SECRET = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
PUBLIC_KEY = (
    "9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07"
)
SALT = "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"
SCRYPT: dict[str, Any] = {
    "crypto": {
        "kdf": {
            "function": "scrypt",
            "params": {"dklen": 32, "n": 262144, "p": 1, "r": 8, "salt": SALT},
            "message": "",
        },
        "checksum": {
            "function": "sha256",
            "params": {},
            "message": "d2217fe5f3e9a1e34581ef8a78f7c9928e436d36dacc5e846690a5581e8ea484",
        },
        "cipher": {
            "function": "aes-128-ctr",
            "params": {"iv": "264daa3f303d7259501c93d997d84fe6"},
            "message": "06ae90d55fe0a6e9c5c3bc5b170827b2e5cce3929ed3f116c2811e6366dfe20f",
        },
    },
    "description": "This is a test keystore that uses scrypt to secure the secret.",
    "pubkey": PUBLIC_KEY,
    "path": "m/12381/60/3141592653/589793238",
    "uuid": "1d85ae20-35c5-4611-98e8-aa14a633906f",
    "version": 4,
}
PBKDF2: dict[str, Any] = {
    **SCRYPT,
    "crypto": {
        "kdf": {
            "function": "pbkdf2",
            "params": {"dklen": 32, "c": 262144, "prf": "hmac-sha256", "salt": SALT},
            "message": "",
        },
        "checksum": {
            "function": "sha256",
            "params": {},
            "message": "8a9f5d9912ed7e75ea794bc5a89bca5f193721d30868ade6f73043c6ea6febf1",
        },
        "cipher": {
            "function": "aes-128-ctr",
            "params": {"iv": "264daa3f303d7259501c93d997d84fe6"},
            "message": "cee03fde2af33149775b7223e7845e4fb2c8ae1792e5f99fe9ecf474cc8c16ad",
        },
    },
}


def stored(folder: Path, document: object) -> Path:
    path = folder / "key.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("document", [SCRYPT, PBKDF2], ids=["scrypt", "pbkdf2"])
def test_the_standards_vectors(tmp_path: Path, document: dict[str, Any]) -> None:
    key = read_keystore(stored(tmp_path, document), PASSWORD)
    assert key.secret.hex() == SECRET
    assert key.public_key.hex() == PUBLIC_KEY


def test_what_is_written_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    key, path = BlsSecretKey.generate(), tmp_path / "folder" / "key.json"
    # A control character and letters that NFKD changes: both are cleaned alike on both ways.
    write_keystore(path, key, "pass\x07w\u00f6rd", rounds=100)
    assert read_keystore(path, "pass\x07w\u00f6rd") == key
    assert read_keystore(path, "passwo\u0308rd") == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key.secret.hex() not in path.read_text()
    with pytest.raises(KeystoreError, match="is there already"):
        write_keystore(path, key, "other", rounds=100)
    with pytest.raises(KeystoreError, match="needs a password"):
        write_keystore(tmp_path / "other.json", key, "")


def test_a_wrong_password_is_told_as_such(tmp_path: Path) -> None:
    key, path = BlsSecretKey.generate(), tmp_path / "key.json"
    write_keystore(path, key, "right", rounds=100)
    with pytest.raises(WrongKeystorePassword) as caught:
        read_keystore(path, "zqxj")
    assert "zqxj" not in str(caught.value)
    assert str(path) in str(caught.value)


def changed(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(PBKDF2))
    for place, value in changes.items():
        *way, last = place.split("__")
        at = document
        for step in way:
            at = at[step]
        at[last] = value
    return document


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "no EIP-2335"),
        ([], "no EIP-2335"),
        (changed(version=3), "version 3"),
        (changed(crypto__kdf__function="md5"), "unknown key derivation"),
        (changed(crypto__kdf__params__c=10**12), "rounds"),
        (changed(crypto__kdf__params__c="many"), "no positive number"),
        (changed(crypto__kdf__params__salt=3), "damaged"),
        (changed(crypto__cipher__params={}), "damaged"),
        (changed(crypto__cipher__message="zz"), "damaged"),
        (changed(pubkey="00" * 48), "another key's"),
    ],
)
def test_what_is_no_key_file(tmp_path: Path, document: object, words: str) -> None:
    with pytest.raises(DamagedKeystore, match=words) as caught:
        read_keystore(stored(tmp_path, document), PASSWORD)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_file_that_would_take_all_memory(tmp_path: Path) -> None:
    document = json.loads(json.dumps(SCRYPT))
    document["crypto"]["kdf"]["params"]["n"] = 1 << 40
    with pytest.raises(DamagedKeystore, match="1 GiB"):
        read_keystore(stored(tmp_path, document), PASSWORD)
    (tmp_path / "long").write_bytes(b"x" * 100_000)
    with pytest.raises(DamagedKeystore, match="longer"):
        read_keystore(tmp_path / "long", PASSWORD)
    with pytest.raises(KeystoreError, match="cannot be read"):
        read_keystore(tmp_path / "absent", PASSWORD)


def test_password_files(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b"one\r\ntwo\n")
    assert read_password_file(path) == "one"
    for content in (b"", b"\n", b"\xff\n", b"x" * 5_000):
        path.write_bytes(content)
        with pytest.raises(KeystoreError):
            read_password_file(path)
