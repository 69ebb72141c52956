"""Where a user's programs, runtimes and compiled code are kept: one place, shared by all processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CACHE_VARIABLE: Final = "NORIA_CACHE"
"""Environment variable that names another folder."""


def cache_folder() -> Path:
    """Return the user's cache folder, which need not exist yet; all in it can be made again.

    ``NORIA_CACHE`` if it is set, otherwise the platform's own place (``~/.cache/noria`` on Linux).
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("noria", appauthor=False)


def compiled_folder() -> Path:
    """Return the folder of compiled code, as `noria._core.Sandbox` takes it."""
    return cache_folder() / "compiled"


def runtimes_folder() -> Path:
    """Return the folder of installed runtimes."""
    return cache_folder() / "runtimes"
