"""A node of a network on this machine: a process that reads in what nodes need, and becomes several of them.

To read its modules in takes a node longer than the rest of its start. The nodes of one machine do it once,
and share the memory that it takes::

    python -P -m noria.cli.network_node < orders.json

One line of JSON tells which: a list of orders as `noria.node.devnet.processes.Nursery` writes them.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from noria.cli.main import main
from noria.node.devnet.processes import write_pid_file

MODULES: Final = (
    "eth_account",
    "noria.cli.dev",
    "noria.cli.node",
    "noria.node.config",
    "noria.node.full",
    "noria.node.logs",
    "noria.node.view",
    "noria.rpc.backend",
    "noria.rpc.server",
    "typer._adapters",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "uvloop",
)
"""What a node reads in when it starts. None of it may start a thread: a fork has but one."""


def _become_nodes() -> None:
    """Make a process for each order; return in each of them, when it is to begin, and never in this one."""
    for name in MODULES:
        importlib.import_module(name)
    orders: list[dict[str, Any]] = json.loads(sys.stdin.readline() or "[]")
    # What is there now is never collected: each node would have its own copy of all that it looks through.
    gc.collect()
    gc.freeze()
    # No node may be there of which nobody knows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for order in orders:
        pid = os.fork()
        if pid == 0:
            _begin(order)
            return
        write_pid_file(Path(order["pid_file"]), pid)
    sys.exit(0)


def _begin(order: dict[str, Any]) -> None:
    os.setsid()
    os.chdir(order["folder"])
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, source in enumerate((nothing, log, log)):
        os.dup2(source, descriptor)
    os.close(nothing)
    os.close(log)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[1:] = order["arguments"]


if __name__ == "__main__":
    _become_nodes()
    main()
