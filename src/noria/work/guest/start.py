"""What the runtime does before its snapshot is taken.

Modules go into memory, and the common ones are imported.
The interpreter finds its library in one archive of compiled modules. A unit finds no files at all.
"""

from __future__ import annotations

import gc
import sys
import zlib
from typing import Final

from . import preload
from .embedded import EmbeddedModules

LEFT_OUT: Final = frozenset(
    (
        *("__hello__", "__phello__", "antigravity", "this"),
        *("_aix_support", "_android_support", "_apple_support", "_ios_support", "_osx_support"),
        *("bdb", "cProfile", "code", "compileall", "doctest", "modulefinder", "pdb", "profile", "profiling"),
        *("pstats", "py_compile", "pyclbr", "pydoc", "pydoc_data", "runpy", "site", "tabnanny", "trace"),
        *("_pyrepl", "curses", "pty", "rlcompleter", "tkinter", "tty", "turtle", "turtledemo", "idlelib"),
        *("ftplib", "imaplib", "mailbox", "poplib", "smtplib", "socketserver", "ssl", "webbrowser"),
        *("wsgiref", "xmlrpc", "ctypes", "dbm", "ensurepip", "venv", "zipapp"),
    )
)
"""Of no use without a terminal, a network, processes, files of one's own, or the sources of what runs."""


def start() -> None:
    """Make everything ready for the first unit.

    Raises
    ------
    RuntimeError
        The interpreter lacks a module that people are told they can rely on.
    """
    archive = next(entry for entry in sys.path if entry.endswith(".zip"))
    known = sys.stdlib_module_names
    absent = {name for name in sys.builtin_module_names if name.partition(".")[0] not in known}
    modules, resources = embedded(archive)
    importer = EmbeddedModules(modules, resources, frozenset(absent))
    missing = preload.preload()
    if missing:
        raise RuntimeError(f"the runtime lacks {', '.join(missing)}")
    importer.install()
    gc.collect()
    # What is there now stays: no collection looks at it, or writes to its memory, again.
    gc.freeze()


def embedded(archive: str) -> tuple[dict[str, tuple[bool, bytes]], dict[str, dict[str, bytes]]]:
    """Return what an archive holds of the standard library and the time zones, compressed.

    First the modules: for each name whether it is a package, and its code. Then each package's other files.
    """
    from zipfile import ZipFile

    wanted = (sys.stdlib_module_names - LEFT_OUT) | {"tzdata"}
    modules: dict[str, tuple[bool, bytes]] = {}
    resources: dict[str, dict[str, bytes]] = {}
    with ZipFile(archive) as opened:
        for path in sorted(opened.namelist()):
            folder, _, file = path.rpartition("/")
            if (folder or file).partition("/")[0].removesuffix(".pyc") not in wanted:
                continue
            data = opened.read(path)
            package = folder.replace("/", ".")
            if not file.endswith(".pyc"):
                resources.setdefault(package, {})[file] = zlib.compress(data, 9)
                continue
            # The first 16 bytes are about the file that the code was compiled from.
            code = zlib.compress(data[16:], 9)
            if file == "__init__.pyc":
                modules[package] = (True, code)
            else:
                modules[f"{package}.{file}".lstrip(".").removesuffix(".pyc")] = (False, code)
    return modules, resources
