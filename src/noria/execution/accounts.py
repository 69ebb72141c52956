"""Accounts that sign: encrypted key files on disk, and the known keys of a development chain.

A keystore is a folder of files in the Web3 Secret Storage format, version 3, as geth writes them; wallets and
geth can read each other's. The key derivation is deliberately slow, about a second.
"""

import json
import os
import re
import secrets
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from noria._core import InvalidKey, private_key_address
from noria.primitives.addresses import checksum_address, parse_address
from noria.primitives.types import Address

if TYPE_CHECKING:
    from eth_account import Account

DEV_MNEMONIC: Final = "test test test test test test test test test test test junk"
"""Known to everybody: whoever sends money to its accounts on a public network loses it."""
DEV_ACCOUNTS: Final = 10
MAX_DEV_ACCOUNTS: Final = 1000
DERIVATION_PATH: Final = "m/44'/60'/0'/0/{index}"
"""BIP-44, as wallets derive Ethereum accounts."""

SCRYPT_N: Final = 262_144
"""Work factor of new key files: 256 MiB of memory for about a second."""
MAX_KEY_FILE_BYTES: Final = 64 * 1024
_MAX_SCRYPT_MEMORY_BYTES: Final = 1 << 30
_MAX_PBKDF2_ROUNDS: Final = 10_000_000
_FILE_NAME: Final = re.compile(r"UTC--.*--([0-9a-fA-F]{40})")


class AccountError(Exception):
    """Something is wrong with an account or its key file; one line that says what to do."""


class WrongPassword(AccountError):
    """The password does not open the key file."""


class EmptyPassword(AccountError):
    """A new key file needs a password."""


class UnknownAccount(AccountError):
    """The keystore has no key file for this address."""


class DuplicateAccount(AccountError):
    """The keystore already has a key file for this address."""


class CorruptKeyFile(AccountError):
    """A key file that is not one, is damaged, or asks for unreasonable work."""


class InvalidPrivateKey(AccountError):
    """Not a private key of secp256k1."""


class InvalidMnemonic(AccountError):
    """Not a BIP-39 word list."""


class KeystoreUnavailable(AccountError):
    """The keystore folder cannot be read or written."""


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account with a key file."""

    address: Address
    path: Path


@dataclass(frozen=True, slots=True)
class DevAccount:
    """An account whose key everybody knows."""

    address: Address
    private_key: bytes

    def __repr__(self) -> str:
        """Leave the key out: representations end in logs."""
        return f"DevAccount({checksum_address(self.address)})"


class Keystore:
    """A folder of encrypted key files, one account each.

    Nothing is kept in memory; several processes may use the same folder.

    Parameters
    ----------
    directory
        Created on the first write, readable by its owner alone.
    scrypt_n
        Work factor of new files, a power of two.

    Examples
    --------
    >>> keystore = Keystore(Path("keystore"))
    >>> account = keystore.create("correct horse battery staple")
    >>> private_key = keystore.unlock(account.address, "correct horse battery staple")
    """

    def __init__(self, directory: Path, *, scrypt_n: int = SCRYPT_N) -> None:
        self._directory = directory
        self._scrypt_n = scrypt_n

    def list(self) -> list[StoredAccount]:
        """Return the accounts, oldest file first. Files that are not key files by their name are passed over.

        Raises
        ------
        KeystoreUnavailable
            The folder exists and cannot be read.
        """
        try:
            names = sorted(os.listdir(self._directory))  # noqa: PTH208 - sorted names, not paths
        except FileNotFoundError:
            return []
        except OSError as error:
            raise KeystoreUnavailable(
                f"keystore {self._directory} cannot be read ({error.strerror}): check its owner"
            ) from error
        matches = ((name, _FILE_NAME.fullmatch(name)) for name in names)
        return [
            StoredAccount(Address(bytes.fromhex(match[1])), self._directory / name)
            for name, match in matches
            if match is not None
        ]

    def create(self, password: str) -> StoredAccount:
        """Make a new account and write its key file.

        Raises
        ------
        EmptyPassword, KeystoreUnavailable
        """
        while True:
            # All but one in 2**128 random words are valid keys.
            with suppress(InvalidPrivateKey):
                return self.import_key(secrets.token_bytes(32), password)

    def import_key(self, private_key: bytes, password: str) -> StoredAccount:
        """Write a key file for an existing private key.

        Raises
        ------
        InvalidPrivateKey, EmptyPassword, DuplicateAccount, KeystoreUnavailable
        """
        address = key_address(private_key)
        if not password:
            raise EmptyPassword("the password is empty: choose one, it is all that protects the key file")
        if any(account.address == address for account in self.list()):
            raise DuplicateAccount(f"account {checksum_address(address)} is already in {self._directory}")

        content = _eth_account().encrypt(private_key, password, kdf="scrypt", iterations=self._scrypt_n)
        content["address"] = address.hex()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%f000Z")
        path = self._directory / f"UTC--{now}--{address.hex()}"
        self._write(path, json.dumps(content).encode())
        return StoredAccount(address, path)

    def unlock(self, address: bytes, password: str) -> bytes:
        """Return the private key of ``address``, 32 bytes.

        Raises
        ------
        UnknownAccount, WrongPassword, CorruptKeyFile, KeystoreUnavailable
        """
        for account in self.list():
            if account.address == address:
                private_key = decrypt_key_file(_read(account.path), password, name=str(account.path))
                if private_key_address(private_key) != address:
                    raise CorruptKeyFile(f"{account.path} holds another account's key than its name says")
                return private_key
        raise UnknownAccount(
            f"no key file for {checksum_address(Address(address))} in {self._directory}: noria account list"
        )

    def _write(self, path: Path, data: bytes) -> None:
        """Write so that the file is there whole or not at all, and only its owner can read it."""
        temporary: str | None = None
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A temporary file is created with mode 0600.
            handle, temporary = tempfile.mkstemp(prefix=".", suffix=".partial", dir=self._directory)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            raise KeystoreUnavailable(
                f"keystore {self._directory} cannot be written ({error.strerror}): nothing was stored"
            ) from error


def key_address(private_key: bytes) -> Address:
    """Return the address of a private key; raise `InvalidPrivateKey`."""
    try:
        return Address(private_key_address(private_key))
    except (InvalidKey, ValueError) as error:
        raise InvalidPrivateKey("not a private key: 32 bytes, above 0 and below the curve's order") from error


def parse_private_key(text: str) -> bytes:
    """Read a private key as people paste it: 64 hexadecimal digits, with or without ``0x``.

    The message of a failure never shows the text.
    """
    digits = text.strip().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
        raise InvalidPrivateKey("not a private key: 64 hexadecimal digits are needed, with or without 0x")
    private_key = bytes.fromhex(digits)
    key_address(private_key)
    return private_key


def decrypt_key_file(data: bytes, password: str, *, name: str = "the key file") -> bytes:
    """Open the content of a version 3 key file and return the private key.

    Raises
    ------
    WrongPassword, CorruptKeyFile
    """
    _check_key_file(data, name)
    try:
        return bytes(_eth_account().decrypt(json.loads(data), password))
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise WrongPassword(f"wrong password for {name}") from error
        raise CorruptKeyFile(f"{name} is damaged: {_one_line(error)}") from error
    except Exception as error:
        # The library meets a damaged file with whatever its parts raise.
        raise CorruptKeyFile(f"{name} is damaged: {_one_line(error)}") from error


def dev_accounts(count: int = DEV_ACCOUNTS, mnemonic: str = DEV_MNEMONIC) -> list[DevAccount]:
    """Derive the accounts of a development chain (`DERIVATION_PATH`, from index 0).

    Raises
    ------
    InvalidMnemonic
        The words are not a BIP-39 mnemonic.
    ValueError
        ``count`` is not within 0 and `MAX_DEV_ACCOUNTS`.
    """
    if not 0 <= count <= MAX_DEV_ACCOUNTS:
        raise ValueError(f"{count} accounts are asked for, 0 to {MAX_DEV_ACCOUNTS} are possible")
    _eth_account()
    from eth_account.hdaccount import key_from_seed, seed_from_mnemonic
    from eth_utils.exceptions import ValidationError

    try:
        seed = seed_from_mnemonic(mnemonic, "")
    except (ValidationError, ValueError) as error:
        raise InvalidMnemonic("the mnemonic is not one of BIP-39: check its words and their order") from error
    keys = [bytes(key_from_seed(seed, DERIVATION_PATH.format(index=index))) for index in range(count)]
    return [DevAccount(key_address(key), key) for key in keys]


def _eth_account() -> "type[Account]":
    """Import the library where it is needed: it takes most of a second.

    One of its parts raises the recursion limit of the whole process a hundredfold. Deeply nested input from
    outside would then end the process where it should raise `RecursionError`, so the limit is put back.
    """
    limit = sys.getrecursionlimit()
    try:
        from eth_account import Account
    finally:
        sys.setrecursionlimit(limit)
    return Account


# ---------------------------------------------------------------- key files from outside


class _Crypto(msgspec.Struct):
    cipher: str
    kdf: str
    kdfparams: dict[str, Any]


class _KeyFile(msgspec.Struct):
    version: int
    crypto: _Crypto
    address: str = ""


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise KeystoreUnavailable(f"{path} cannot be read ({error.strerror}): check its owner") from error


def _check_key_file(data: bytes, name: str) -> None:
    """Refuse what is no key file, and work factors that would take the machine's memory or hours."""
    if len(data) > MAX_KEY_FILE_BYTES:
        raise CorruptKeyFile(f"{name} is larger than {MAX_KEY_FILE_BYTES} bytes: not a key file")
    try:
        file = msgspec.json.decode(data, type=_KeyFile)
        if file.address:
            parse_address("0x" + file.address.removeprefix("0x"), check_capitals=False)
    except (ValueError, RecursionError) as error:
        raise CorruptKeyFile(f"{name} is not a version 3 key file: {_one_line(error)}") from error
    if file.version != 3:
        raise CorruptKeyFile(f"{name} is of version {file.version}: only version 3 is read")
    parameters = file.crypto.kdfparams
    if file.crypto.kdf == "scrypt":
        n, r, p = (_positive(parameters, key, name) for key in ("n", "r", "p"))
        if 128 * n * r > _MAX_SCRYPT_MEMORY_BYTES or p > 16:
            raise CorruptKeyFile(f"{name} asks for too much work (scrypt n={n}, r={r}, p={p})")
    elif file.crypto.kdf == "pbkdf2":
        if (rounds := _positive(parameters, "c", name)) > _MAX_PBKDF2_ROUNDS:
            raise CorruptKeyFile(f"{name} asks for too much work (pbkdf2 c={rounds})")
    else:
        raise CorruptKeyFile(f"{name} uses the key derivation {_one_line(file.crypto.kdf)}: not known")
    if not 32 <= _positive(parameters, "dklen", name) <= 1024:
        raise CorruptKeyFile(f"{name} has a dklen that is not within 32 and 1024")


def _positive(parameters: dict[str, Any], key: str, name: str) -> int:
    value = parameters.get(key)
    if type(value) is not int or not 0 < value < 2**63:
        raise CorruptKeyFile(f"{name} has no usable {key} in its kdfparams")
    return value


def _one_line(value: object) -> str:
    return ascii(str(value)[:120]).strip("'\"")
