"""What a development node keeps in its folder: the chain's specification beside its store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from noria.execution.spec import ChainSpec
from noria.node.errors import NodeError

SPEC_FILE: Final = "chain.json"
STORE_FOLDER: Final = "store"


class ForeignDataDirectory(NodeError):
    """The folder holds something that is not this node's chain."""


class UnusableDataDirectory(NodeError):
    """The folder cannot be made, read or written."""


def store_path(data_dir: Path) -> Path:
    """Return where the engine's store lies."""
    return data_dir / STORE_FOLDER


def saved_spec(data_dir: Path) -> ChainSpec | None:
    """Return the specification of the chain in a folder; ``None`` if the folder is empty or not there.

    Raises
    ------
    ForeignDataDirectory
        It holds other things, but no chain.
    UnusableDataDirectory
        It cannot be read.
    SpecError
        The specification in it is damaged.
    """
    path = data_dir / SPEC_FILE
    try:
        if path.exists():
            return ChainSpec.load(path)
        if not data_dir.exists():
            return None
        strangers = [entry.name for entry in data_dir.iterdir() if not entry.name.startswith(f"{SPEC_FILE}.")]
    except OSError as error:
        raise UnusableDataDirectory(_complaint(data_dir, error)) from error
    if strangers:
        raise ForeignDataDirectory(
            f"{data_dir} is not empty and holds no {SPEC_FILE}: it is no chain's folder; choose another one"
        )
    return None


def save_spec(data_dir: Path, spec: ChainSpec) -> ChainSpec:
    """Write the specification into a new folder, whole or not at all, and return the one that is there then.

    Where another process was faster, that is the other's.

    Raises
    ------
    UnusableDataDirectory
        It cannot be written.
    """
    path = data_dir / SPEC_FILE
    partial = data_dir / f"{SPEC_FILE}.{os.getpid()}"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                file.write(spec.to_json())
                file.flush()
                os.fsync(file.fileno())
            try:
                path.hardlink_to(partial)
            except FileExistsError:
                return ChainSpec.load(path)
        finally:
            partial.unlink(missing_ok=True)
        _sync_folder(data_dir)
    except OSError as error:
        raise UnusableDataDirectory(_complaint(data_dir, error)) from error
    return spec


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _complaint(data_dir: Path, error: OSError) -> str:
    return f"data directory {data_dir} cannot be used: {error.strerror or error}; choose another or mend it"
