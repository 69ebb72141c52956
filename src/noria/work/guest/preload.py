"""What a runtime imports before its snapshot is taken, so that units find it loaded."""

from __future__ import annotations

import importlib
from typing import Final

PRELOADED: Final = (
    *("abc", "bisect", "collections", "collections.abc", "contextlib", "copy", "dataclasses", "datetime"),
    *(
        "decimal",
        "enum",
        "fractions",
        "functools",
        "heapq",
        "io",
        "itertools",
        "json",
        "linecache",
        "logging",
    ),
    *("math", "operator", "os.path", "random", "re", "statistics", "string", "struct", "textwrap", "time"),
    *("traceback", "types", "typing", "uuid"),
)
"""Modules that people's functions use most, and those that the codec and the harness need on some paths."""


def preload() -> list[str]:
    """Import them; return those that this interpreter does not have."""
    missing = []
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    importlib.import_module(".harness", __package__)
    return missing
