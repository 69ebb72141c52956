"""Where the public test data lies: in the folder NORIA_FIXTURES, or in ``../shared/fixtures``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def fixture_root() -> Path:
    """Folder that holds ``ethereum-tests``; it may not exist.

    A relative NORIA_FIXTURES starts at the repository's root.
    """
    return REPOSITORY / os.environ.get("NORIA_FIXTURES", "../shared/fixtures")


def require_fixture(relative: str) -> Path:
    """Path of a file or folder of the test data; skip the running test where it is absent."""
    path = fixture_root() / relative
    if not path.exists():
        pytest.skip(f"no test data: {relative} is not in {fixture_root()} (set NORIA_FIXTURES)")
    return path


def fixture_files(relative: str, pattern: str = "*.json") -> list[str]:
    """Name every file below a folder of the test data for `require_fixture`, in order, to parametrise a test.

    Where the folder is absent the list holds its own name, so that the one test made of it skips and says so.
    """
    return list(_files(relative, pattern)) or [relative]


def _files(relative: str, pattern: str) -> Iterator[str]:
    root = fixture_root()
    for path in sorted((root / relative).rglob(pattern)):
        yield path.relative_to(root).as_posix()
