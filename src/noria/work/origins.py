"""Where an object comes from, and so whether it can travel.

What the runtime has is imported there by name; what is the user's own travels as source; the rest cannot
travel.
"""

from __future__ import annotations

import importlib
import os
import site
import sys
import sysconfig
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Final

from noria.work.guest.kinds import UnencodableValue

MISSING: Final = frozenset(
    {
        # Processes, threads, network, foreign code, terminals.
        "_ctypes", "_multiprocessing", "_posixsubprocess", "_socket", "_ssl", "_tkinter", "asyncio",
        "ctypes", "curses", "ensurepip", "fcntl", "ftplib", "grp", "http.client", "http.server", "imaplib",
        "mailbox", "mmap", "msvcrt", "multiprocessing", "nt", "poplib", "pty", "pwd", "readline",
        "resource", "rlcompleter", "select", "selectors", "smtplib", "socket", "socketserver", "ssl",
        "subprocess", "syslog", "termios", "tkinter", "tty", "turtle", "turtledemo", "urllib.request",
        "venv", "webbrowser", "winreg", "winsound", "wsgiref", "xmlrpc",
        # Sources and tools to look at them.
        "antigravity", "bdb", "cProfile", "code", "compileall", "dbm", "doctest", "idlelib", "modulefinder",
        "pdb", "profile", "pstats", "py_compile", "pyclbr", "pydoc", "pydoc_data", "runpy", "site",
        "tabnanny", "this", "trace", "zipapp",
        # Gone from newer versions of the language.
        "aifc", "asynchat", "asyncore", "audioop", "cgi", "cgitb", "chunk", "crypt", "distutils", "imghdr",
        "imp", "lib2to3", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "smtpd", "sndhdr",
        "spwd", "sre_compile", "sre_constants", "sre_parse", "sunau", "telnetlib", "uu", "xdrlib",
    }
)  # fmt: skip
"""Modules of the standard library that do not work in the sandbox or that the runtime does not have."""


class CannotTravel(UnencodableValue):
    """A function, or something that it uses, cannot be sent; the message says what, why and what to do.

    Parameters
    ----------
    what
        The object, such as ``global 'handle'``.
    reason
        Why it cannot travel.
    remedy
        What to do.
    user
        What uses it, with file and line; nothing if it was given itself.
    """

    def __init__(self, what: str, reason: str, remedy: str, user: str) -> None:
        super().__init__(reason, remedy)
        self.args = (what, reason, remedy, user)
        self.what = what
        self.user = user

    def __str__(self) -> str:
        """Say what, why, what to do and where."""
        place = f" (in {self.path})" if self.path else ""
        needed = f" [needed by {self.user}]" if self.user else ""
        return f"{self.what} cannot travel{place}: {self.reason}; {self.remedy}{needed}"


class Origin(Enum):
    """Where a module comes from."""

    RUNTIME = "the runtime has it"
    PROJECT = "the user's own plain Python"
    INSTALLED = "an installed package that the runtime does not have"
    EXTENSION = "a compiled extension module"
    MISSING = "a module of the standard library that does not work in the sandbox"


@dataclass(frozen=True, slots=True)
class GuestModules:
    """Which modules a Python runtime offers.

    Parameters
    ----------
    packages
        Top-level packages that it has beside the standard library, such as ``numpy``.
    missing
        Modules of the standard library, with all below them, that it cannot offer.
    """

    packages: frozenset[str] = frozenset()
    missing: frozenset[str] = MISSING

    def lacks(self, name: str) -> bool:
        """Whether a module of the standard library is missing."""
        parts = name.split(".")
        return any(".".join(parts[:size]) in self.missing for size in range(1, len(parts) + 1))


def origin_of(name: str, guest: GuestModules) -> Origin:
    """Say where the module called `name` comes from.

    Parameters
    ----------
    name
        Full name of a module that has been imported.
    guest
        What the runtime offers.

    Returns
    -------
    Origin
    """
    root = name.partition(".")[0]
    if root in guest.packages:
        return Origin.RUNTIME
    file = _file_of(sys.modules.get(name))
    if root in sys.stdlib_module_names and (file is None or _within(file, _standard_places())):
        return Origin.MISSING if guest.lacks(name) else Origin.RUNTIME
    if file is not None and file.endswith(tuple(EXTENSION_SUFFIXES)):
        return Origin.EXTENSION
    if root == "noria" or (file is not None and _within(file, _installed_places())):
        return Origin.INSTALLED
    if file is None and name != "__main__" and getattr(sys.modules.get(name), "__spec__", None) is not None:
        spec = sys.modules[name].__spec__
        if spec is not None and spec.origin in ("built-in", "frozen"):
            return Origin.EXTENSION
    return Origin.PROJECT


def check_origin(what: str, name: str, guest: GuestModules, user: str) -> None:
    """Refuse what belongs to a module that the runtime lacks.

    Parameters
    ----------
    what
        What would be refused, for the message.
    name
        Full name of its module.
    guest
        What the runtime offers.
    user
        What uses it.

    Raises
    ------
    CannotTravel
        If the module is neither the runtime's nor plain Python of the user's own.
    """
    origin = origin_of(name, guest)
    root = name.partition(".")[0]
    if origin is Origin.EXTENSION:
        raise CannotTravel(what, f"{root} is {origin.value}", "use plain Python instead", user)
    if origin is Origin.INSTALLED:
        raise CannotTravel(
            what, f"{root} is {origin.value}", "use what the runtime has, or copy the code", user
        )
    if origin is Origin.MISSING:
        raise CannotTravel(what, f"{name} is {origin.value}", "do that part outside the unit", user)


def find_import(value: object, name: str, guest: GuestModules) -> tuple[str, str] | None:
    """Find module and attribute under which the runtime has an object.

    Parameters
    ----------
    value
        A function, class or other object.
    name
        What the user's code calls it.
    guest
        What the runtime offers.

    Returns
    -------
    tuple or None
        Module name and dotted attribute.
    """
    module = getattr(value, "__module__", None)
    path = getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or name
    if isinstance(module, str) and isinstance(path, str):
        for candidate in dict.fromkeys((module.lstrip("_"), module)):
            if _holds(candidate, path, value, guest):
                return candidate, path
    wanted = [
        one
        for one in dict.fromkeys((name, path, getattr(value, "__name__", "")))
        if isinstance(one, str) and one and "." not in one
    ]
    for candidate in sorted(sys.modules, key=lambda one: (one.startswith("_"), len(one), one)):
        if candidate.partition(".")[0] not in sys.stdlib_module_names or candidate == "__main__":
            continue
        for attribute in wanted:
            if vars(sys.modules[candidate]).get(attribute) is value and _holds(
                candidate, attribute, value, guest
            ):
                return candidate, attribute
    return None


def is_at(module: str, path: str, value: object, guest: GuestModules) -> bool:
    """Whether the runtime has `value` as attribute `path` of `module`."""
    return _holds(module, path, value, guest)


def _holds(module: str, path: str, value: object, guest: GuestModules) -> bool:
    root = module.partition(".")[0]
    if root not in sys.stdlib_module_names and root not in guest.packages:
        return False
    try:
        found: object = sys.modules.get(module) or importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception:
        return False
    return found is value and origin_of(module, guest) is Origin.RUNTIME


def _file_of(module: ModuleType | None) -> str | None:
    file = getattr(module, "__file__", None)
    return str(Path(file).resolve()) if isinstance(file, str) else None


@lru_cache(maxsize=1)
def _installed_places() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    places = [paths["purelib"], paths["platlib"], *getattr(site, "getsitepackages", list)()]
    if site.ENABLE_USER_SITE:
        places.append(site.getusersitepackages())
    return tuple(str(Path(place).resolve()) + os.sep for place in places)


@lru_cache(maxsize=1)
def _standard_places() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(str(Path(paths[key]).resolve()) + os.sep for key in ("stdlib", "platstdlib"))


def _within(file: str, places: tuple[str, ...]) -> bool:
    if f"{os.sep}site-packages{os.sep}" in file or f"{os.sep}dist-packages{os.sep}" in file:
        return places is _installed_places()
    return file.startswith(places)
