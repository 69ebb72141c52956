"""Encrypted BLS keys of miners: one file each, EIP-2335, as staking tools read and write them."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path
from typing import Any, Final

import msgspec

from noria.node.errors import NodeError
from noria.primitives.keys import BlsSecretKey, InvalidKey

KEYSTORE_BYTES_MAX: Final = 64 << 10
PASSWORD_BYTES_MAX: Final = 4 << 10
SCRYPT_MEMORY_BYTES_MAX: Final = 1 << 30
PBKDF2_ROUNDS_MAX: Final = 10_000_000
ROUNDS: Final = 262_144
VERSION: Final = 4
_CONTROL: Final = {*range(0x20), *range(0x7F, 0xA0)}


class KeystoreError(NodeError):
    """A key file cannot be used; the message names it and says what to do."""


class WrongKeystorePassword(KeystoreError):
    """The password does not open the key file."""


class DamagedKeystore(KeystoreError):
    """The file is no EIP-2335 key file, or its content does not fit together."""


class _Module(msgspec.Struct):
    function: str
    params: dict[str, Any]
    message: str


class _Crypto(msgspec.Struct):
    kdf: _Module
    checksum: _Module
    cipher: _Module


class _File(msgspec.Struct):
    crypto: _Crypto
    version: int
    pubkey: str = ""


def write_keystore(path: Path, key: BlsSecretKey, password: str, *, rounds: int = ROUNDS) -> None:
    """Encrypt a key into a new file that only its owner can read.

    Parameters
    ----------
    path
        Must not exist.
    key, password
        What is hidden, and what opens it.
    rounds
        Of PBKDF2; each makes guessing slower.

    Raises
    ------
    KeystoreError
        Where the password is empty, or the file is there already or cannot be written.
    """
    from eth_keyfile.keyfile import create_keyfile_json

    if not password:
        raise KeystoreError("a key file needs a password: give one that is not empty")
    document = create_keyfile_json(
        key.secret,
        _password(password),
        version=VERSION,
        kdf="pbkdf2",
        iterations=rounds,
        description="noria miner",
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(document, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise KeystoreError(f"key file {path}: is there already; keys are never overwritten") from None
    except OSError as error:
        raise KeystoreError(f"key file {path}: cannot be written ({error.strerror})") from None


def read_keystore(path: Path, password: str) -> BlsSecretKey:
    """Open a key file.

    Raises
    ------
    WrongKeystorePassword, DamagedKeystore, KeystoreError
        Where it cannot be opened. No message tells anything of key or password.
    """
    from eth_keyfile.keyfile import decode_keyfile_json

    data = _read(path)
    try:
        found = msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise DamagedKeystore(f"key file {path}: is no EIP-2335 key file") from None
    if found.version != VERSION:
        raise DamagedKeystore(
            f"key file {path}: version {found.version} is not {VERSION}: it holds no BLS key"
        )
    _check_work(path, found.crypto.kdf)
    try:
        secret = decode_keyfile_json(json.loads(data), _password(password))
        key = BlsSecretKey(secret)
    except InvalidKey:
        raise DamagedKeystore(f"key file {path}: what is in it is no BLS key") from None
    except ValueError as error:
        if "hecksum" in str(error):
            raise WrongKeystorePassword(f"key file {path}: the password does not open it") from None
        raise DamagedKeystore(f"key file {path}: is damaged") from None
    except (KeyError, TypeError, OverflowError):
        raise DamagedKeystore(f"key file {path}: is damaged") from None
    if found.pubkey and found.pubkey.removeprefix("0x").lower() != key.public_key.hex():
        raise DamagedKeystore(f"key file {path}: its public key is another key's")
    return key


def read_password_file(path: Path) -> str:
    """Return the first line of a password file.

    Raises
    ------
    KeystoreError
        Where it cannot be read or has no line.
    """
    try:
        with path.open("rb") as file:
            line = file.read(PASSWORD_BYTES_MAX + 1).split(b"\n", 1)[0].rstrip(b"\r")
        if not 0 < len(line) <= PASSWORD_BYTES_MAX:
            raise KeystoreError(f"password file {path}: its first line is empty or too long")
        return line.decode()
    except OSError as error:
        raise KeystoreError(f"password file {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise KeystoreError(f"password file {path}: is not UTF-8 text") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(KEYSTORE_BYTES_MAX + 1)
    except OSError as error:
        raise KeystoreError(f"key file {path}: cannot be read ({error.strerror})") from None
    if len(data) > KEYSTORE_BYTES_MAX:
        raise DamagedKeystore(f"key file {path}: is longer than {KEYSTORE_BYTES_MAX} bytes")
    return data


def _check_work(path: Path, kdf: _Module) -> None:
    """Refuse a file whose key derivation would take the machine down."""

    def number(name: str) -> int:
        value = kdf.params.get(name)
        if type(value) is not int or value < 1:
            raise DamagedKeystore(f"key file {path}: kdf.{name} is no positive number")
        return value

    if kdf.function == "pbkdf2":
        if number("c") > PBKDF2_ROUNDS_MAX:
            raise DamagedKeystore(f"key file {path}: takes more than {PBKDF2_ROUNDS_MAX} rounds to open")
    elif kdf.function == "scrypt":
        if 128 * number("n") * number("r") * number("p") > SCRYPT_MEMORY_BYTES_MAX:
            raise DamagedKeystore(f"key file {path}: takes more than 1 GiB to open")
    else:
        raise DamagedKeystore(f"key file {path}: unknown key derivation {kdf.function!r:.40}")


def _password(text: str) -> bytes:
    """As EIP-2335 wants it: NFKD, without control characters."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if ord(c) not in _CONTROL).encode()
