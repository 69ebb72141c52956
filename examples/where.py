"""Where the tasks of an example run: on a network's miners or in this machine's sandbox."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from noria import LocalExecutor


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let the user choose."""
    group = parser.add_argument_group("where the tasks run")
    group.add_argument("--local", action="store_true", help="on this machine, for nothing, in the sandbox")
    group.add_argument("--workers", type=int, help="with --local: tasks at once (default: one per core)")


def chosen_executor(chosen: argparse.Namespace) -> LocalExecutor:
    """Return the executor that the options name."""
    return LocalExecutor(chosen.workers)


@contextmanager
def stop_on_errors(*kinds: type[Exception]) -> Iterator[None]:
    """End the process with one line for what a user can mend: bad input of these kinds, files, networks."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        known = isinstance(error, (*kinds, OSError, UnicodeDecodeError, ValueError))
        if not known and not type(error).__module__.startswith("noria."):
            raise
        sys.exit(f"error: {error}")
