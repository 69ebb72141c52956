"""Running ``noria run`` on a terminal."""

import os
import pty
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.cli.command import LIMIT_SECONDS, NORIA


def on_a_terminal(
    *arguments: str, environment: Mapping[str, str], stdout: Path | None = None
) -> tuple[int, str]:
    """Run with a terminal as standard error, and as standard output if there is no file for that.

    Returns
    -------
    tuple
        Exit code, and what the terminal got.
    """
    master, slave = pty.openpty()
    pieces: list[bytes] = []

    def read() -> None:
        try:
            while piece := os.read(master, 4096):
                pieces.append(piece)
        except OSError:
            return

    with (stdout or Path(os.devnull)).open("wb") as file:
        process = subprocess.Popen(
            [*NORIA, "run", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=slave if stdout is None else file,
            stderr=slave,
            env={**os.environ, **environment, "TERM": "xterm", "COLUMNS": "120"},
        )
    os.close(slave)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        code = process.wait(timeout=LIMIT_SECONDS)
    finally:
        process.kill()
        process.wait()
        reader.join(timeout=LIMIT_SECONDS)
        os.close(master)
    return code, b"".join(pieces).decode(errors="replace")
