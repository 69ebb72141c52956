"""WebAssembly programs that a job runs: read, checked in the sandbox, and where they lie."""

from __future__ import annotations

import os
import re
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from noria._core import Sandbox
from noria.market.messages import BLOB_BYTES_MAX
from noria.market.requester.errors import JobError
from noria.primitives.types import Hash32
from noria.work.folders import compiled_folder
from noria.work.ids import ProgramId, program_id
from noria.work.workers import ProgramSource

Program: TypeAlias = str | os.PathLike[str] | bytes
"""A module's path or bytes; or the id of a program that the chain pins, as 32 bytes or in hexadecimal."""

_ID: Final = re.compile(r"0x[0-9a-fA-F]{64}")
_ID_BYTES: Final = 32
NAME_LETTERS: Final = 100


class ProgramTooLarge(JobError):
    """A program that miners do not take from a requester."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class GivenProgram:
    """A program as somebody named it.

    Attributes
    ----------
    id
        Of the program.
    name
        For people.
    module
        Its bytes; None where only its id is known.
    source
        Where the module lies, likewise.
    """

    id: ProgramId
    name: str
    module: bytes | None = None
    source: ProgramSource | None = None


def given_program(program: Program) -> GivenProgram:
    """Read a program, and have the sandbox of this machine take it, as each miner's does.

    Parameters
    ----------
    program
        As `Program` says.

    Raises
    ------
    InvalidProgram
        If the sandbox refuses it; the message says why.
    OSError
        If the file cannot be read.
    ProgramTooLarge
        If it is longer than any that can be brought to a miner.
    CacheFailure
        If the sandbox cannot keep compiled code.
    """
    if isinstance(program, bytes):
        if len(program) == _ID_BYTES:
            return GivenProgram(ProgramId(Hash32(program)), f"0x{program.hex()[:16]}")
        module, name, path = program, "", None
    elif isinstance(program, str) and _ID.fullmatch(program):
        return GivenProgram(ProgramId(Hash32(bytes.fromhex(program[2:]))), program[:18])
    else:
        path = Path(program).resolve()
        name = path.name[:NAME_LETTERS]
        with path.open("rb") as file:
            module = file.read(BLOB_BYTES_MAX + 1)
    if len(module) > BLOB_BYTES_MAX:
        raise ProgramTooLarge(f"program {name} is longer than {BLOB_BYTES_MAX:,} bytes: no miner takes it")
    Sandbox(compiled_folder()).load(module)
    number = program_id(module)
    if path is None:
        path, is_own = _written(module), True
    else:
        is_own = False
    given = GivenProgram(number, name or f"0x{number.hex()[:16]}", module, ProgramSource(number, path))
    if is_own:
        weakref.finalize(given, path.unlink, missing_ok=True)
    return given


def _written(module: bytes) -> Path:
    """Put a module where workers find it, should it have to be compiled again."""
    descriptor, name = tempfile.mkstemp(prefix="noria-", suffix=".wasm")
    with os.fdopen(descriptor, "wb") as file:
        file.write(module)
    return Path(name)
