"""Why a runtime is not there, each reason by its own name."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class RuntimeProblem(Exception):
    """A runtime cannot be used or installed; base of the errors below."""


class UnknownRuntime(RuntimeProblem):
    """No runtime has this name."""


class RuntimeMissing(RuntimeProblem):
    """The runtime is not installed."""


class RuntimeDamaged(RuntimeProblem):
    """What is installed is not what is pinned."""


class DownloadFailed(RuntimeProblem):
    """The package that the runtime is made from cannot be had."""


class WrongPackage(RuntimeProblem):
    """A package, or a file in it, is not the one that is pinned."""


class SnapshotDiffers(RuntimeProblem):
    """The snapshot taken here is not the pinned program."""


class InstallBusy(RuntimeProblem):
    """Another process has been installing for too long."""


class NoRoom(RuntimeProblem):
    """The disk, or the user's share of it, is full."""


class FolderUnusable(RuntimeProblem):
    """The folder of runtimes cannot be made, read or written."""


def os_failure(folder: Path, error: OSError) -> RuntimeProblem:
    """Return the named error for one of the operating system."""
    if error.errno in _DISK_FULL:
        return NoRoom(
            f"no room left in {folder} ({error.strerror}); free 500 MB, or set NORIA_CACHE to another folder"
        )
    return FolderUnusable(
        f"{error.filename or folder} cannot be used: {error.strerror or error}; "
        "set NORIA_CACHE to a folder of yours"
    )
