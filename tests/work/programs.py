"""Programs that tests start, interrupt and end."""

import os
import select
import subprocess
import sys
from contextlib import suppress

PATIENCE = 60.0


class Program:
    """A running module, in a process group of its own."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def line(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        assert ready, "nothing was said"
        return self.process.stdout.readline().strip()

    def finish(self) -> tuple[int, list[str], str]:
        """Wait for its end: exit code, remaining lines, what it complained about."""
        output, complaint = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output.splitlines(), complaint

    def end(self) -> None:
        """End it, however it is."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.communicate()


def assert_gone(process: int) -> None:
    """Wait for the end of a process that is no child."""
    try:
        watched = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([watched], [], [], PATIENCE)
    finally:
        os.close(watched)
    assert ready, f"process {process} is still there"
