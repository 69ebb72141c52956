"""Where a chain's pinned modules lie on this machine, each checked by its hash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from noria.execution.spec import ChainSpec
from noria.node.errors import NodeError
from noria.primitives.hexes import format_data
from noria.work.ids import ProgramId, program_id

PACKAGED: Final = Path(__file__).resolve().parent / "pinned"
"""Modules that come with the package."""
MODULE_BYTES_MAX: Final = 64 << 20
FILES_MAX: Final = 256


class ProgramsMissing(NodeError):
    """Pinned modules are not on this machine."""


def pinned_programs(spec: ChainSpec, folders: Iterable[Path]) -> dict[ProgramId, Path]:
    """Find the modules that a specification pins.

    Parameters
    ----------
    spec
        Of the chain.
    folders
        Where to look, beside what comes with the package and the installed runtimes.

    Raises
    ------
    ProgramsMissing
        Where one is nowhere: its certificates could not be checked.
    """
    wanted = {ProgramId(program) for program in spec.programs}
    found: dict[ProgramId, Path] = {}
    for path in _modules([PACKAGED, *folders]):
        if wanted <= found.keys():
            break
        name = program_id(path.read_bytes())
        if name in wanted:
            found.setdefault(name, path)
    missing = sorted(wanted - found.keys())
    if missing:
        raise ProgramsMissing(
            f"pinned program {format_data(missing[0])} is not on this machine: put its module into a folder"
            " and name that with programs"
        )
    return found


def _modules(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        if not folder.is_dir():
            continue
        for path in sorted(folder.glob("*.wasm"))[:FILES_MAX]:
            if path.stat().st_size <= MODULE_BYTES_MAX:
                yield path
