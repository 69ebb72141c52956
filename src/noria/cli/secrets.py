"""Where secrets come from: a prompt or a file, never the command line, which other users can see."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from noria.cli.errors import CommandError

MAX_SECRET_FILE_BYTES: Final = 64 * 1024

KeystoreOption = Annotated[
    Path | None,
    typer.Option(
        "--keystore",
        envvar="NORIA_KEYSTORE",
        help="Folder of encrypted key files; by default one in your data folder.",
        show_default=False,
    ),
]
PasswordFileOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        help="File whose first line is the password; without it you are asked.",
        show_default=False,
    ),
]


def keystore_folder(chosen: Path | None) -> Path:
    """Return the chosen keystore folder, or the user's own."""
    if chosen is not None:
        return chosen
    from platformdirs import user_data_path

    return user_data_path("noria", appauthor=False) / "keystore"


def read_password(file: Path | None, prompt: str, *, confirm: bool = False) -> str:
    """Read a password from a file, or ask for it on the terminal without showing it."""
    if file is not None:
        lines = read_secret_file(file, "--password-file").splitlines()
        return lines[0] if lines else ""
    if not sys.stdin.isatty():
        raise CommandError("there is no terminal to ask for the password on: use --password-file")
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))


def read_secret_file(path: Path, option: str) -> str:
    """Read a small text file that holds a secret; messages name the file, never its content."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_FILE_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{option} {path}: {error.strerror}") from None
    if len(data) > MAX_SECRET_FILE_BYTES:
        raise CommandError(
            f"{option} {path}: larger than {MAX_SECRET_FILE_BYTES} bytes, which no key or password is"
        )
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise CommandError(f"{option} {path}: not UTF-8 text") from None
