"""Where the tasks of an example run: on a network's miners or in this machine's sandbox."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from noria import Executor, LocalExecutor, ProgramExecutor


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let the user choose."""
    group = parser.add_argument_group("where the tasks run")
    group.add_argument("--local", action="store_true", help="on this machine, for nothing, in the sandbox")
    group.add_argument("--workers", type=int, help="with --local: tasks at once (default: one per core)")
    group.add_argument("--node", help="URL of a node, or folder of a network (default: the local network)")
    group.add_argument("--budget", default="2 NOR", help="most that all tasks may cost (default: 2 NOR)")
    group.add_argument("--replicas", type=int, help="miners that run each task and must agree (default: 2)")
    group.add_argument("--max-price", help="most that a miner may ask for one fuel, like '2 gwei'")


def chosen_executor(chosen: argparse.Namespace) -> Executor | LocalExecutor:
    """Return the executor that the options name."""
    if chosen.local:
        return LocalExecutor(chosen.workers)
    return Executor(chosen.budget, node=chosen.node, replicas=chosen.replicas, max_price=chosen.max_price)


def program_executor(chosen: argparse.Namespace, module: Path, fuel_limit: int) -> ProgramExecutor:
    """Return what runs a WebAssembly program on the miners of the network that the options name."""
    return ProgramExecutor(
        module,
        chosen.budget,
        node=chosen.node,
        replicas=chosen.replicas,
        max_price=chosen.max_price,
        fuel_limit=fuel_limit,
    )


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
