"""How a failure is told to the user: one line on standard error, an exit code, no traceback."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Final

DEBUG_VARIABLE: Final = "NORIA_DEBUG"
EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


class CommandError(Exception):
    """A command cannot go on; the message says which value was wrong and what to do."""

    exit_code = EXIT_FAILURE


class BadArgument(CommandError):
    """A value on the command line cannot be used; exit code 2, as for any usage error."""

    exit_code = EXIT_USAGE


def one_line(text: str) -> str:
    """Join a message to one line and drop control characters that could rewrite the terminal."""
    joined = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in joined)


def describe(error: BaseException) -> str:
    """Say what an exception means to a user, in one line."""
    if isinstance(error, CommandError):
        return one_line(str(error))
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return one_line(f"{place}{error.strerror}")
    if _is_ours(error):
        # Engine errors are raised as (kind, message) or (message,): the message is the last part.
        return one_line(str(error.args[-1]) if error.args else str(error))
    return one_line(
        f"unexpected {type(error).__name__}: {error} (a bug; {DEBUG_VARIABLE}=1 shows where it happened)"
    )


def report(error: BaseException) -> None:
    """Print ``error: ...`` on standard error; with ``NORIA_DEBUG=1`` the traceback comes first."""
    if os.environ.get(DEBUG_VARIABLE) == "1":
        traceback.print_exception(error, file=sys.stderr)
    print(f"error: {describe(error)}", file=sys.stderr)


def _is_ours(error: BaseException) -> bool:
    """Every error class that Noria defines, in Python or in the engines, has a message meant for people."""
    return any(base.__module__.split(".")[0] in ("noria", "_core") for base in type(error).__mro__)
