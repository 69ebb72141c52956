"""Runs archives in a plain interpreter that has nothing but the guest package, as the runtime would."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noria.work import guest
from noria.work.functions import Call, capture, decode_result

START = "import sys; sys.path.insert(0, sys.argv[1]); from noria_guest.harness import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run left."""

    status: int
    output: bytes
    log: str


@dataclass(frozen=True, slots=True)
class Guest:
    """A folder with the guest package, and the interpreter that runs it."""

    folder: Path
    interpreter: str = sys.executable

    def run(self, archive: bytes) -> Finished:
        """Run one archive to its end."""
        command = [self.interpreter, "-I", "-S", "-E", "-c", START, str(self.folder)]
        done = subprocess.run(command, input=archive, capture_output=True, timeout=60, check=False)
        return Finished(done.returncode, done.stdout, done.stderr.decode())

    def outcome(self, call: Call) -> Any:
        """Run one call and return or raise what it returned or raised."""
        done = self.run(call.archive)
        assert done.status == 0, done.log
        return decode_result(done.output, call.classes)

    def call(self, function: Callable[..., Any], *positional: Any, **named: Any) -> Any:
        """Capture, run and decode."""
        return self.outcome(capture(function).call(positional, named))


def install(folder: Path, interpreter: str = sys.executable) -> Guest:
    """Copy the guest package to where the interpreter looks for it, under the name that it has there."""
    source = Path(guest.__file__).parent
    shutil.copytree(source, folder / "noria_guest", ignore=shutil.ignore_patterns("__pycache__"))
    return Guest(folder, interpreter)
