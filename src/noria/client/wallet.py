"""The account that pays for jobs: made at its first use, so that nothing need be set up on a local network.

Its key lies encrypted in the user's data folder. The password is in the file that ``NORIA_PASSWORD_FILE``
names; without that one is made beside the key, readable by its owner alone.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noria.execution.accounts import SCRYPT_N, AccountError, Keystore, dev_accounts
from noria.market.access import ChainAccess, TransactionResult
from noria.primitives.addresses import checksum_address
from noria.primitives.amounts import format_amount
from noria.primitives.keys import PrivateKey
from noria.primitives.types import NOR, Address, Wei

PASSWORD_VARIABLE: Final = "NORIA_PASSWORD_FILE"
WALLET_VARIABLE: Final = "NORIA_WALLET"
"""Environment variable that names another folder."""
PASSWORD_NAME: Final = "password"
PASSWORD_BYTES_MAX: Final = 4096
OWN_SCRYPT_N: Final = SCRYPT_N
GENERATED_SCRYPT_N: Final = 4096
"""A password of 256 random bits needs no slow derivation."""
FAUCET_WEI: Final = Wei(100 * NOR)
"""What the faucet gives unless asked for another amount."""
TRANSFER_GAS: Final = 21_000


class WalletError(Exception):
    """The wallet cannot be used, or has too little; the message says what to do."""


class NoFaucet(WalletError):
    """Nobody gives money away on this chain."""


@dataclass(frozen=True, slots=True)
class Wallet:
    """An account and its key.

    Attributes
    ----------
    key
        The private key; its representation does not show it.
    path
        The key file, or None if the key is nowhere on disk.
    """

    key: PrivateKey
    path: Path | None = None

    @property
    def address(self) -> Address:
        """The account."""
        return self.key.address

    def __str__(self) -> str:
        return checksum_address(self.address)


def wallet_folder() -> Path:
    """Return the user's wallet folder, which need not exist: ``NORIA_WALLET`` or one in the data folder."""
    named = os.environ.get(WALLET_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("noria", appauthor=False) / "wallet"


def open_wallet(folder: Path | None = None, *, create: bool = True) -> Wallet:
    """Return the user's wallet; make it if there is none.

    Parameters
    ----------
    folder
        Where it lies; `wallet_folder` if left out. Of several accounts there the oldest is taken.
    create
        Whether to make one.

    Raises
    ------
    WalletError
        Where it cannot be opened or made, or is not there.
    """
    folder = folder or wallet_folder()
    try:
        stored = sorted(Keystore(folder).list(), key=lambda account: account.path.name)
        if stored:
            private_key = Keystore(folder).unlock(stored[0].address, _password(folder, make=False))
            return Wallet(PrivateKey(private_key), stored[0].path)
        if not create:
            raise WalletError(f"there is no wallet in {folder}: make one with `noria wallet new`")
        return new_wallet(folder)
    except AccountError as error:
        raise WalletError(f"the wallet in {folder} cannot be opened: {error}") from None


def new_wallet(folder: Path | None = None) -> Wallet:
    """Make an account in a folder that has none.

    Raises
    ------
    WalletError
        Where there is one, or the folder cannot be written.
    """
    folder = folder or wallet_folder()
    try:
        if there := Keystore(folder).list():
            raise WalletError(
                f"{folder} has a wallet already, {checksum_address(there[0].address)}: name another folder "
                f"with {WALLET_VARIABLE}"
            )
        password = _password(folder, make=True)
        is_own = os.environ.get(PASSWORD_VARIABLE) is not None
        keystore = Keystore(folder, scrypt_n=OWN_SCRYPT_N if is_own else GENERATED_SCRYPT_N)
        account = keystore.create(password)
        # Another process may have been at the same: then its account is the wallet of both.
        account = min(keystore.list(), key=lambda each: each.path.name, default=account)
        private_key = keystore.unlock(account.address, password)
    except AccountError as error:
        raise WalletError(f"no wallet can be made in {folder}: {error}") from None
    return Wallet(PrivateKey(private_key), account.path)


async def faucet(access: ChainAccess, receiver: Address, amount: Wei = FAUCET_WEI) -> TransactionResult:
    """Give money away on a network whose development accounts have some.

    Parameters
    ----------
    access
        The chain.
    receiver
        Who gets it.
    amount
        How much, wei.

    Raises
    ------
    NoFaucet
        Where no development account has so much: this is no local network.
    ChainAccessError
        Where the transaction is not taken.
    """
    from noria.market.sending import send_transaction

    for account in dev_accounts():
        # What a transfer costs is little beside what anybody asks for.
        if await access.balance(account.address) >= amount + NOR:
            return await send_transaction(
                access, PrivateKey(account.private_key), receiver, b"", value=amount, gas=TRANSFER_GAS
            )
    raise NoFaucet(
        f"no development account has {format_amount(amount)} on chain {access.chain_id}: there is a faucet "
        "on local networks alone; have somebody send money to " + checksum_address(receiver)
    )


def _password(folder: Path, *, make: bool) -> str:
    named = os.environ.get(PASSWORD_VARIABLE)
    path = Path(named).expanduser() if named else folder / PASSWORD_NAME
    try:
        if make and not named:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                pass
            else:
                with os.fdopen(handle, "w") as file:
                    file.write(secrets.token_hex(32) + "\n")
        with path.open("rb") as file:
            lines = file.read(PASSWORD_BYTES_MAX).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise WalletError(f"the wallet's password file {path} cannot be read: {reason}") from None
    if not lines or not lines[0]:
        raise WalletError(f"the wallet's password file {path} is empty: its first line is the password")
    return lines[0]
