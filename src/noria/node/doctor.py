"""Checks of the machine that a node is to run on, each with what to do about it."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB

PYTHON_MIN: Final = (3, 11)
RELEASED: Final = 1_760_000_000
"""Unix seconds before this software; a clock that shows less is wrong."""
CLOCK_WATCH_SECONDS: Final = 0.25
CLOCK_DRIFT_MAX_SECONDS: Final = 0.05
DISK_WARN: Final = 5 * GIB
DISK_FAIL: Final = GIB // 2
MEMORY_WARN: Final = GIB
MEMORY_FAIL: Final = 256 * MIB
FILES_WARN: Final = 1_024
LIBRARIES: Final = ("eth-account", "msgspec", "starlette", "structlog", "uvicorn", "uvloop", "websockets")

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found.

    Attributes
    ----------
    name
        Of the check, e.g. ``"disk"``.
    status
        ``"ok"``; ``"warn"``: a node runs, but may be troubled; ``"fail"``: it will not run.
    detail
        What was found, with values.
    advice
        What to do about it; empty if nothing.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""


def run_checks(
    *, data_dir: Path | None = None, host: str = "127.0.0.1", ports: Sequence[int] = (8545,)
) -> list[CheckResult]:
    """Run every check; none of them changes anything.

    Parameters
    ----------
    data_dir
        Where a node would keep its chain; ``None``: the temporary folder.
    host, ports
        Where it would listen.
    """
    folder = data_dir or Path(tempfile.gettempdir())
    checks: list[tuple[str, Callable[[], CheckResult]]] = [
        ("versions", check_versions),
        ("clock", check_clock),
        *((f"port {port}", lambda port=port: check_port(host, port)) for port in ports),
        ("disk", lambda: check_disk(folder)),
        ("memory", check_memory),
        ("open files", check_open_files),
    ]
    return [_guarded(name, check) for name, check in checks]


def _guarded(name: str, check: Callable[[], CheckResult]) -> CheckResult:
    try:
        return check()
    except Exception as error:
        return CheckResult(name, "warn", f"could not be checked: {error}")


def check_versions() -> CheckResult:
    """Check Python, this package, its engines and the libraries that it stands on."""
    python = platform.python_version()
    if sys.version_info < PYTHON_MIN:
        return CheckResult("versions", "fail", f"Python {python}", "install Python 3.11 or newer")
    try:
        from noria import _core
    except ImportError as error:
        return CheckResult("versions", "fail", f"the engines cannot be loaded: {error}", "run `make build`")
    found, missing = [f"Python {python}", f"engines {_core.__version__}"], []
    try:
        package = metadata.version("noria")
        found.insert(1, f"noria {package}")
        if package != _core.__version__:
            return CheckResult("versions", "fail", ", ".join(found), "both must be equal: `make build`")
    except metadata.PackageNotFoundError:
        missing.append("noria")
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return CheckResult(
            "versions", "fail", f"not installed: {', '.join(missing)}", "run `make build` in the repository"
        )
    return CheckResult("versions", "ok", ", ".join(found))


def check_clock(
    wall: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> CheckResult:
    """Check that the wall clock shows a possible time and moves at the pace of the monotonic one."""
    wall_before, monotonic_before = wall(), monotonic()
    if wall_before < RELEASED:
        shown = time.strftime("%Y-%m-%d", time.gmtime(max(0.0, wall_before)))
        return CheckResult("clock", "fail", f"the clock shows {shown}", "set the clock, best by NTP")
    sleep(CLOCK_WATCH_SECONDS)
    drift = (wall() - wall_before) - (monotonic() - monotonic_before)
    if abs(drift) > CLOCK_DRIFT_MAX_SECONDS:
        return CheckResult(
            "clock",
            "warn",
            f"the wall clock moved {drift:+.3f} s against the monotonic one in {CLOCK_WATCH_SECONDS} s",
            "something sets the clock in steps: let NTP slew it",
        )
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wall_before))
    return CheckResult("clock", "ok", f"{shown}, drift {drift * 1000:+.1f} ms")


def check_port(host: str, port: int) -> CheckResult:
    """Check that a node can listen here."""
    name = f"port {port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        return CheckResult(name, "fail", f"{host} is no address: {error.strerror}", "check the host's name")
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except PermissionError:
            return CheckResult(name, "fail", f"{host}:{port} is not allowed", "use --port with 1024 or more")
        except OSError as error:
            return CheckResult(
                name, "fail", f"{host}:{port}: {error.strerror}", "stop what listens there, or use --port"
            )
    return CheckResult(name, "ok", f"{host}:{port} is free")


def check_disk(folder: Path) -> CheckResult:
    """Check that the folder, or where it would be made, can be written and has room."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return CheckResult("disk", "fail", f"{place} is not a folder", "choose another --data-dir")
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".noria-doctor-") as probe:
            probe.write(bytes(4096))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return CheckResult(
            "disk", "fail", f"{place} cannot be written: {error.strerror}", "choose another --data-dir"
        )
    free = shutil.disk_usage(place).free
    detail = f"{place}: {_size(free)} free"
    if free < DISK_FAIL:
        return CheckResult("disk", "fail", detail, f"free some space: at least {_size(DISK_FAIL)}")
    if free < DISK_WARN:
        return CheckResult("disk", "warn", detail, f"free some space: {_size(DISK_WARN)} last for a while")
    return CheckResult("disk", "ok", detail)


def check_memory(meminfo: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup")) -> CheckResult:
    """Check how much memory is available, to the machine and to this process's group."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    available = int(fields["MemAvailable"].split()[0]) * 1024
    detail = f"{_size(available)} available"
    try:
        allowed = int((limit / "memory.max").read_text())
        left = allowed - int((limit / "memory.current").read_text())
    except (OSError, ValueError):
        pass  # no limit, or none that can be seen
    else:
        if left < available:
            available = left
            detail = f"{_size(left)} left of the {_size(allowed)} that this group of processes may use"
    if available < MEMORY_FAIL:
        return CheckResult("memory", "fail", detail, f"a node needs {_size(MEMORY_FAIL)} at least")
    if available < MEMORY_WARN:
        return CheckResult("memory", "warn", detail, f"{_size(MEMORY_WARN)} give it room for large states")
    return CheckResult("memory", "ok", detail)


def check_open_files() -> CheckResult:
    """Check how many connections and files the process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES_WARN:
        return CheckResult(
            "open files", "warn", f"{soft} (hard limit {hard})", f"raise it: `ulimit -n {FILES_WARN}` or more"
        )
    return CheckResult("open files", "ok", "unlimited" if soft == resource.RLIM_INFINITY else str(soft))


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{max(0, count) / MIB:.0f} MiB"
