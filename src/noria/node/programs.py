"""Where a chain's pinned modules lie on this machine, each checked by its hash; the same for peers.

A node serves those it has, and fetches those it lacks before it looks at the chain: without them it could not
check certificates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from noria.execution.spec import ChainSpec
from noria.network.blob_transfer import BlobTooLong, BlobUnavailable, fetch
from noria.network.blobs import BlobKind, BlobName
from noria.network.transport import TransportProtocol
from noria.node.errors import NodeError
from noria.primitives.hexes import format_data
from noria.primitives.types import Hash32
from noria.work.ids import ProgramId, program_id
from noria.work.runtimes.catalogue import NAMES, pinned
from noria.work.runtimes.errors import RuntimeProblem
from noria.work.runtimes.local import installed

PACKAGED: Final = Path(__file__).resolve().parent / "pinned"
"""Modules that come with the package."""
MODULE_BYTES_MAX: Final = 64 << 20
FILES_MAX: Final = 256
PATIENCE_SECONDS: Final = 120.0
"""How long a node that lacks a module waits for the next piece of it."""
PAUSE_SECONDS: Final = 1.0
"""Before peers are asked again."""
TOLD_SECONDS: Final = 5.0
"""Between two lines of the log about a transfer."""

_log = structlog.get_logger(__name__)


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
    found, missing = find_programs(spec, folders)
    if missing:
        raise ProgramsMissing(
            f"pinned program {format_data(missing[0])} is not on this machine: put its module into a folder"
            " and name that with programs"
        )
    return found


def find_programs(
    spec: ChainSpec, folders: Iterable[Path]
) -> tuple[dict[ProgramId, Path], tuple[ProgramId, ...]]:
    """Find the modules that a specification pins, as far as they are here.

    Parameters
    ----------
    spec, folders
        As for `pinned_programs`.

    Returns
    -------
    (found, missing)
        Where those that are here lie, and which are not.
    """
    wanted = {ProgramId(program) for program in spec.programs}
    found: dict[ProgramId, Path] = {}
    for path in _modules([PACKAGED, *folders]):
        if wanted <= found.keys():
            break
        name = program_id(path.read_bytes())
        if name in wanted:
            found.setdefault(name, path)
    for runtime in (pinned(name) for name in NAMES):
        if runtime.program_id in wanted - found.keys():
            with suppress(RuntimeProblem):
                found[runtime.program_id] = installed(runtime.name).path
    return found, tuple(sorted(wanted - found.keys()))


def _modules(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        if not folder.is_dir():
            continue
        for path in sorted(folder.glob("*.wasm"))[:FILES_MAX]:
            if path.stat().st_size <= MODULE_BYTES_MAX:
                yield path


# ---------------------------------------------------------------- for peers, and from them


class ProgramFiles:
    """The modules that a node serves: `noria.network.blobs.BlobSource`.

    Parameters
    ----------
    programs
        Where they lie; looked at anew for every request.
    """

    def __init__(self, programs: Mapping[ProgramId, Path]) -> None:
        self._programs = programs

    def open(self, name: BlobName) -> BinaryIO | None:
        """Open a module; `None` where it is not here."""
        path = self._programs.get(ProgramId(Hash32(name.id))) if name.kind is BlobKind.PROGRAM else None
        try:
            return None if path is None else path.open("rb")
        except OSError as error:
            _log.warning("program_unreadable", program=format_data(name.id), reason=str(error))
            return None


async def fetch_programs(
    transport: TransportProtocol,
    missing: Sequence[ProgramId],
    folder: Path,
    *,
    patience_seconds: float = PATIENCE_SECONDS,
) -> dict[ProgramId, Path]:
    """Fetch modules from whoever is connected and has them; each is checked while it comes.

    What has come of one stays when this fails, and is not fetched again.

    Parameters
    ----------
    transport
        Whose configuration has `noria.network.blobs.PROTOCOL`.
    missing
        Which.
    folder
        Where they are put, as ``<program>.wasm``.
    patience_seconds
        How long to wait for the next piece.

    Raises
    ------
    ProgramsMissing
        Where nobody has sent one for as long, or it cannot be kept.
    """
    found: dict[ProgramId, Path] = {}
    for program in missing:
        path = folder / f"{program.hex()}.wasm"
        try:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            await _Fetching(transport, program, path, patience_seconds).run()
        except OSError as error:
            raise ProgramsMissing(
                f"pinned program {format_data(program)} is not on this machine, and cannot be kept in"
                f" {folder}: {error.strerror}; mend that, or name a folder that has it with programs"
            ) from error
        found[program] = path
    return found


class _Fetching:
    """One module on its way."""

    def __init__(
        self, transport: TransportProtocol, program: ProgramId, path: Path, patience_seconds: float
    ) -> None:
        self._transport, self._program, self._path = transport, program, path
        self._patience = patience_seconds
        self._since = self._told = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Ask all that are connected, again and again as long as something comes now and then."""
        name = BlobName(BlobKind.PROGRAM, self._program)
        loop = asyncio.get_running_loop()
        reason = "no peer is connected"
        _log.info("program_wanted", program=format_data(self._program))
        self._since = loop.time()
        while loop.time() < self._since + self._patience:
            peers = [info.peer for info in self._transport.peers() if info.agent]
            if peers:
                try:
                    async with asyncio.timeout(self._patience) as limit:
                        self._limit = limit
                        await fetch(
                            self._transport,
                            name,
                            peers,
                            self._path,
                            bytes_max=MODULE_BYTES_MAX,
                            progress=self._came,
                        )
                except (BlobUnavailable, BlobTooLong) as error:
                    reason = str(error)
                except TimeoutError:
                    reason = f"nothing came for {self._patience:g} s"
                else:
                    _log.info("program_fetched", program=format_data(self._program), file=str(self._path))
                    return
            await asyncio.sleep(min(PAUSE_SECONDS, self._patience))
        raise ProgramsMissing(
            f"pinned program {format_data(self._program)} is not on this machine, and peers have not sent it"
            f" ({reason:.300}): put its module into a folder and name that with programs, or name other peers"
            " with bootstrap"
        )

    def _came(self, pieces: int, count: int) -> None:
        now = asyncio.get_running_loop().time()
        self._since = now
        self._limit.reschedule(now + self._patience)
        if now >= self._told + TOLD_SECONDS:
            self._told = now
            _log.info("program_fetching", program=format_data(self._program), percent=100 * pieces // count)
