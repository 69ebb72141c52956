"""A node's folder: one process at a time, and what is in it.

``chain.json`` (the specification), ``store/`` (the engine's), ``blocks.sqlite``, ``identity`` (the secret
of the peer's name), ``journal``, ``work/`` and ``jobs/`` (a miner's), ``blocked-peers``, ``address.json``
(where it listens).
"""

from __future__ import annotations

import fcntl
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

import msgspec

from noria.execution.spec import ChainSpec
from noria.node.data_dir import SPEC_FILE, UnusableDataDirectory, save_spec, store_path
from noria.node.errors import ChainMismatch, InvalidConfiguration, NodeError

SEED_BYTES: Final = 32
BLOCKED_MAX: Final = 4_096
SPEC_MODE: Final = 0o600


class DataDirectoryInUse(NodeError):
    """Another process uses the folder."""


@dataclass(slots=True)
class NodeFolder:
    """Paths in a node's folder, and its lock.

    Parameters
    ----------
    path
        The folder.
    """

    path: Path
    _lock: TextIO | None = field(default=None, repr=False)

    @property
    def engine(self) -> Path:
        """The engine's store."""
        return store_path(self.path)

    @property
    def blocks(self) -> Path:
        """The store of blocks."""
        return self.path / "blocks.sqlite"

    @property
    def journal(self) -> Path:
        """What the miner has signed."""
        return self.path / "journal"

    @property
    def work(self) -> Path:
        """The miner's credited work."""
        return self.path / "work"

    @property
    def jobs(self) -> Path:
        """The journal of the miner's jobs, and what requesters have put here."""
        return self.path / "jobs"

    @property
    def programs(self) -> Path:
        """Pinned modules that do not come with the package."""
        return self.path / "programs"

    @property
    def blocked(self) -> Path:
        """Names of peers that this node does not talk to, one a line; read at the start and on SIGHUP."""
        return self.path / "blocked-peers"

    @property
    def address(self) -> Path:
        """Where the running node can be reached."""
        return self.path / "address.json"

    def lock(self) -> None:
        """Make the folder and take it for this process.

        Raises
        ------
        DataDirectoryInUse
            Where another process has it.
        UnusableDataDirectory
            Where it cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / "lock").open("a+")
        except OSError as error:
            raise UnusableDataDirectory(
                f"data directory {self.path} cannot be used: {error.strerror}; choose another or mend it"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read(20).strip()
            file.close()
            raise DataDirectoryInUse(
                f"data directory {self.path} is in use by process {holder or '?'}: stop it, or choose another"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._lock = file

    def release(self) -> None:
        """Let others have the folder."""
        self.address.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def specification(self, given: Path | None) -> ChainSpec:
        """Return the chain's specification: the given one in a new folder, which then remembers it.

        Raises
        ------
        ChainMismatch
            Where the folder holds another chain.
        InvalidConfiguration
            Where there is none.
        SpecError
            Where one is damaged.
        """
        wanted = None if given is None else ChainSpec.load(given)
        path = self.path / SPEC_FILE
        if path.exists():
            saved = ChainSpec.load(path)
            if wanted is not None and wanted.to_json() != saved.to_json():
                raise ChainMismatch(
                    f"{self.path} holds the chain {saved.name!r} of another specification than {given}: "
                    "use its own, or another directory"
                )
            return saved
        if wanted is None:
            raise InvalidConfiguration(f"spec: is missing; {self.path} holds no chain yet: give --spec FILE")
        return save_spec(self.path, wanted)

    def seed(self) -> bytes:
        """Return the secret of this peer's name, made at the first start.

        Raises
        ------
        UnusableDataDirectory
            Where the file is not what was written.
        """
        path = self.path / "identity"
        try:
            if not path.exists():
                self.write_seed(secrets.token_bytes(SEED_BYTES))
            seed = path.read_bytes()
        except OSError as error:
            raise UnusableDataDirectory(
                f"{path}: {error.strerror}; mend it, or remove it for a new name"
            ) from error
        if len(seed) != SEED_BYTES:
            raise UnusableDataDirectory(f"{path}: is damaged; restore it, or remove it for a new name")
        return seed

    def write_seed(self, seed: bytes) -> None:
        """Give the node the name that a seed makes."""
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / "identity.partial"
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SPEC_MODE), "wb") as file:
            file.write(seed)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path / "identity")

    def blocked_peers(self) -> frozenset[str]:
        """Return whom not to talk to; empty where there is no such file."""
        try:
            lines = self.blocked.read_text().splitlines()
        except FileNotFoundError:
            return frozenset()
        return frozenset(line.strip() for line in lines[:BLOCKED_MAX] if line.strip())

    def write_address(self, **values: object) -> None:
        """Tell other programs of this user where the node is; whole or not at all."""
        partial = self.path / "address.json.partial"
        partial.write_bytes(msgspec.json.encode({"pid": os.getpid(), **values}))
        partial.replace(self.address)
