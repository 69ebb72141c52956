"""The pinned runtimes: where each comes from, how its snapshot is taken, and what program that is."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from noria.primitives.hashes import blake3
from noria.primitives.types import Hash32
from noria.work.ids import ProgramId
from noria.work.runtimes.errors import UnknownRuntime

NAMES: Final = ("python",)
"""All runtimes; each is described in the file ``NAME.toml`` beside this one."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """What is fixed about a runtime.

    Attributes
    ----------
    name
        What users call it.
    summary
        One line for a list.
    licence
        Of the package that it is made from, and of what is in that.
    program_id
        The program that the snapshot is.
    guest
        Hash of the project's own sources in it; see `guest_hash`.
    package, version, wheel, wheel_sha256
        The package, as a registry knows it, and the file.
    module, module_sha256
        Path in the wheel of the interpreter.
    library, library_sha256
        Path in the wheel of the archive of its library.
    library_path
        Where the interpreter looks for that archive.
    cut
        Functions of the module that are left out, as pairs (first, end).
    constructors
        The function that calls the constructors of what is left out, too.
    padded
        Functions that take more of the interpreter's stack, as (function, bytes).
    words
        Words of its memory that are changed at the end, as (address, old, new).
    """

    name: str
    summary: str
    licence: str
    program_id: ProgramId
    guest: Hash32
    package: str
    version: str
    wheel: str
    wheel_sha256: str
    module: str
    module_sha256: str
    library: str
    library_sha256: str
    library_path: str
    cut: tuple[tuple[int, int], ...]
    constructors: int
    words: tuple[tuple[int, int, int], ...]
    padded: tuple[tuple[int, int], ...]


@cache
def pinned(name: str) -> Pinned:
    """Return the description of a runtime.

    Raises
    ------
    UnknownRuntime
        No runtime has this name.
    """
    if name not in NAMES:
        raise UnknownRuntime(f"no runtime is called {name[:40]!r}; there are: {', '.join(NAMES)}")
    entry = tomllib.loads(files(__package__).joinpath(f"{name}.toml").read_text("utf-8"))
    return Pinned(
        name=name,
        summary=entry["summary"],
        licence=entry["licence"],
        program_id=ProgramId(Hash32(bytes.fromhex(entry["program_id"].removeprefix("0x")))),
        guest=Hash32(bytes.fromhex(entry["guest"].removeprefix("0x"))),
        **entry["source"],
        cut=tuple((first, end) for first, end in entry["snapshot"]["cut"]),
        constructors=entry["snapshot"]["constructors"],
        padded=tuple((function, size) for function, size in entry["snapshot"]["padded"]),
        words=tuple((address, old, new) for address, old, new in entry["snapshot"]["words"]),
    )


@cache
def guest_sources() -> dict[str, bytes]:
    """Return the project's own part of a runtime: file names and texts, in the order of the names."""
    folder = files("noria.work.guest")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".py"))
    return {name: folder.joinpath(name).read_bytes() for name in names}


def guest_hash() -> Hash32:
    """Hash all sources of the project that get into the snapshot: a change of one is another program."""
    parts = [b"noria/guest/1"]
    for name, text in guest_sources().items():
        parts += [name.encode(), text]
    return blake3(b"".join(len(part).to_bytes(8, "big") + part for part in parts))
