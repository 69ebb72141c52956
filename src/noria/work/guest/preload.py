"""What a runtime imports before its snapshot is taken, so that units find it loaded."""

from __future__ import annotations

import importlib
from typing import Final

PRELOADED: Final = (
    *("abc", "argparse", "array", "ast", "base64", "binascii", "bisect", "calendar", "cmath", "codecs"),
    *(
        "collections",
        "collections.abc",
        "colorsys",
        "concurrent.futures",
        "contextlib",
        "contextvars",
        "copy",
    ),
    *("csv", "dataclasses", "datetime", "decimal", "difflib", "enum", "fnmatch", "fractions", "functools"),
    *("graphlib", "hashlib", "heapq", "hmac", "html", "inspect", "io", "itertools", "json", "keyword"),
    *(
        "linecache",
        "logging",
        "math",
        "numbers",
        "operator",
        "os.path",
        "pathlib",
        "pickle",
        "pprint",
        "queue",
    ),
    *("random", "re", "secrets", "shlex", "statistics", "string", "struct", "textwrap", "threading", "time"),
    *("tokenize", "traceback", "types", "typing", "unicodedata", "unittest", "urllib.parse", "uuid"),
    *("warnings", "weakref", "xml.etree.ElementTree", "zlib", "zoneinfo"),
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
    harness = importlib.import_module(".harness", __package__)
    # Formatting a first traceback imports more, which would cost each unit that raises.
    harness.describe(ValueError(), harness.Program())
    return missing
