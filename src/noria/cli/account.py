"""``noria account``: encrypted key files on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noria.cli.help import examples
from noria.cli.secrets import (
    KeystoreOption,
    PasswordFileOption,
    keystore_folder,
    read_password,
    read_secret_file,
)

app = typer.Typer(help="Accounts in encrypted key files (keystore version 3).", no_args_is_help=True)


@app.callback()
def account() -> None:
    """Accounts in encrypted key files, in the format of geth and of wallets (keystore version 3)."""


@app.command(
    "new",
    epilog=examples("noria account new", "noria account new --keystore ./keys --password-file password.txt"),
)
def new(keystore: KeystoreOption = None, password_file: PasswordFileOption = None) -> None:
    """Make a new account and store its key, encrypted with a password."""
    from noria.execution.accounts import Keystore

    password = read_password(password_file, "Password for the new account", confirm=True)
    _announce(Keystore(keystore_folder(keystore)).create(password))


@app.command("list", epilog=examples("noria account list"))
def list_accounts(keystore: KeystoreOption = None) -> None:
    """List the accounts of the keystore: address and key file."""
    from noria.execution.accounts import Keystore
    from noria.primitives.addresses import checksum_address

    folder = keystore_folder(keystore)
    accounts = Keystore(folder).list()
    for stored in accounts:
        print(f"{checksum_address(stored.address)}  {stored.path}")
    if not accounts:
        typer.echo(f"no accounts in {folder}: `noria account new` makes one", err=True)


@app.command(
    "import",
    epilog=examples(
        "noria account import key.txt",
        "noria account import UTC--2026-01-01T00-00-00Z--f39f… --password-file password.txt",
    ),
)
def import_account(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Text file with a private key (64 hexadecimal digits), or a version 3 key file.",
        ),
    ],
    keystore: KeystoreOption = None,
    password_file: PasswordFileOption = None,
) -> None:
    """Store an existing private key, encrypted with a password.

    A version 3 key file keeps its own password.
    """
    from noria.execution.accounts import Keystore, decrypt_key_file, parse_private_key

    content = read_secret_file(file, "FILE")
    if content.lstrip().startswith("{"):
        password = read_password(password_file, f"Password of {file.name}")
        private_key = decrypt_key_file(content.encode(), password, name=str(file))
    else:
        private_key = parse_private_key(content)
        password = read_password(password_file, "Password for the account", confirm=True)
    _announce(Keystore(keystore_folder(keystore)).import_key(private_key, password))


def _announce(stored: object) -> None:
    from noria.execution.accounts import StoredAccount
    from noria.primitives.addresses import checksum_address

    assert isinstance(stored, StoredAccount)
    print(checksum_address(stored.address))
    typer.echo(f"key file: {stored.path}", err=True)
