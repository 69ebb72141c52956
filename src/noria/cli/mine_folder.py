"""The folder of `noria mine`: a miner's keys, made at the first start and kept for all later ones.

``password`` opens ``account/`` and ``miner.key.json``; ``node/`` is the node's folder, ``node.log`` its log.
``mine.json`` tells how the network was reached last.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TextIO

import msgspec

from noria.cli.errors import BadArgument, CommandError

if TYPE_CHECKING:
    from noria.primitives.keys import BlsSecretKey, PrivateKey

DEFAULT_FOLDER: Final = Path("noria-miner")
PASSWORD: Final = "password"
ACCOUNT: Final = "account"
KEY: Final = "miner.key.json"
NODE: Final = "node"
LOG: Final = "node.log"
SETTINGS: Final = "mine.json"
LOCK: Final = "lock"
SETTINGS_BYTES_MAX: Final = 1 << 16
SCRYPT_N, ROUNDS = 4096, 16_384
"""A password of 256 random bits needs no slow derivation."""


class Settings(msgspec.Struct, frozen=True):
    """How the network was reached last.

    Attributes
    ----------
    chain
        Its name.
    bootstrap
        Addresses of peers.
    """

    chain: str = ""
    bootstrap: list[str] = []


class _Address(msgspec.Struct):
    rpc: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who mines: the account that is paid, and the key that signs blocks and votes."""

    account: PrivateKey
    key: BlsSecretKey
    is_new: bool


class MineFolder:
    """A miner's folder, which one process at a time has.

    Parameters
    ----------
    path
        Made if it is not there.

    Raises
    ------
    BadArgument
        If it holds something else.
    CommandError
        If it cannot be written, or another process mines in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            if self.path.is_dir():
                strangers = sorted(entry.name for entry in self.path.iterdir())
                if strangers and not (self.path / LOCK).exists():
                    raise BadArgument(f"--dir {path} holds {strangers[0]} and no miner: name another folder")
            else:
                self.path.mkdir(mode=0o700, parents=True)
            self._lock = (self.path / LOCK).open("a+")
        except OSError as error:
            raise CommandError(f"--dir {path} cannot be used: {error.strerror}") from None
        self._take(path)

    def _take(self, path: Path) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.seek(0)
            holder = self._lock.read(20).strip()
            self._lock.close()
            raise CommandError(
                f"{path} is mined in by process {holder or '?'}: end it, or name another folder with --dir"
            ) from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.close()

    @property
    def password_file(self) -> Path:
        """File whose first line opens the keys."""
        return self.path / PASSWORD

    @property
    def accounts(self) -> Path:
        """Folder with the account's key file."""
        return self.path / ACCOUNT

    @property
    def key_file(self) -> Path:
        """The BLS key."""
        return self.path / KEY

    @property
    def node(self) -> Path:
        """The node's folder."""
        return self.path / NODE

    def identity(self) -> Identity:
        """Open the keys; make what is missing.

        Raises
        ------
        AccountError, KeystoreError
            If they cannot be opened.
        """
        return _identity(self.path, make=True)

    def open_log(self) -> TextIO:
        """Open the node's log to write on."""
        try:
            return (self.path / LOG).open("a", buffering=1)
        except OSError as error:
            raise CommandError(f"{self.path / LOG} cannot be written: {error.strerror}") from None

    def settings(self) -> Settings:
        """Return how the network was reached last; nothing if that is not known."""
        try:
            with (self.path / SETTINGS).open("rb") as file:
                return msgspec.json.decode(file.read(SETTINGS_BYTES_MAX), type=Settings)
        except FileNotFoundError:
            return Settings()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CommandError(
                f"{self.path / SETTINGS} cannot be read: {error}; remove it, and say --network or --bootstrap"
            ) from None

    def remember(self, settings: Settings) -> None:
        """Note how the network was reached."""
        _write(self.path / SETTINGS, msgspec.json.format(msgspec.json.encode(settings)))


def running_url(folder: Path) -> str:
    """Return where the node of a miner's folder answers.

    Raises
    ------
    BadArgument
        If it does not run.
    """
    try:
        with (folder / NODE / "address.json").open("rb") as file:
            return msgspec.json.decode(file.read(SETTINGS_BYTES_MAX), type=_Address).rpc
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        raise BadArgument(
            f"no miner runs in {folder}: start it with `noria mine --dir {folder}`, name another folder with"
            " --dir, or its node with --rpc"
        ) from None


def read_account(folder: Path) -> PrivateKey:
    """Open the account of a miner's folder, which may be mining.

    Raises
    ------
    BadArgument
        If there is none.
    AccountError
        If it cannot be opened.
    """
    if not (folder / ACCOUNT).is_dir():
        raise BadArgument(f"{folder} holds no miner: name its folder with --dir, or its account with --from")
    return _identity(folder, make=False).account


def _identity(folder: Path, *, make: bool) -> Identity:
    from noria.execution.accounts import Keystore
    from noria.node.bls_keystore import read_keystore, read_password_file, write_keystore
    from noria.primitives.keys import BlsSecretKey, PrivateKey

    if make and not (folder / PASSWORD).exists():
        if (folder / ACCOUNT).exists() or (folder / KEY).exists():
            raise CommandError(f"{folder / PASSWORD} is missing, which opens the keys beside it: restore it")
        _write(folder / PASSWORD, (secrets.token_urlsafe(32) + "\n").encode())
    password = read_password_file(folder / PASSWORD)
    store = Keystore(folder / ACCOUNT, scrypt_n=SCRYPT_N)
    stored = store.list()
    is_new = not stored
    if not stored:
        if not make:
            raise BadArgument(f"{folder} holds no account: name another folder, or the account with --from")
        stored = [store.create(password)]
    account = PrivateKey(store.unlock(stored[0].address, password))
    key_file = folder / KEY
    if make and not key_file.exists():
        partial = folder / f"{KEY}.partial"
        partial.unlink(missing_ok=True)
        write_keystore(partial, BlsSecretKey.generate(), password, rounds=ROUNDS)
        partial.replace(key_file)
    return Identity(account, read_keystore(key_file, password), is_new)


def _write(path: Path, data: bytes) -> None:
    """Write a file that its owner alone can read, whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
