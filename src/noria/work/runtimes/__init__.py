"""Pinned runtimes: programs that run other people's code, such as Python functions.

A runtime is a started interpreter, frozen into a WebAssembly module whose id is fixed in this package. It is
made on each machine from a published package; the bytes come out the same everywhere.
"""

from noria.work.runtimes.catalogue import NAMES, Pinned, pinned
from noria.work.runtimes.errors import (
    DownloadFailed,
    FolderUnusable,
    InstallBusy,
    NoRoom,
    RuntimeDamaged,
    RuntimeMissing,
    RuntimeProblem,
    SnapshotDiffers,
    UnknownRuntime,
    WrongPackage,
)
from noria.work.runtimes.local import Progress, Runtime, install, installed, rebuild

__all__ = [
    "NAMES",
    "DownloadFailed",
    "FolderUnusable",
    "InstallBusy",
    "NoRoom",
    "Pinned",
    "Progress",
    "Runtime",
    "RuntimeDamaged",
    "RuntimeMissing",
    "RuntimeProblem",
    "SnapshotDiffers",
    "UnknownRuntime",
    "WrongPackage",
    "install",
    "installed",
    "pinned",
    "rebuild",
]
