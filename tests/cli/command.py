"""Running the ``noria`` command as a user does: a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from noria.cli.main import _run

NORIA = [sys.executable, "-m", "noria.cli.main"]
LIMIT_SECONDS = 60
READY = re.compile(r"Listening on (http://\S+:(\d+))")


def noria(
    *arguments: str | Path, stdin: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; standard input is not a terminal."""
    return subprocess.run(
        [*NORIA, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        env={**os.environ, "COLUMNS": "200", "TERM": "dumb", **(environment or {})},
        check=False,
    )


def noria_here(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, which takes a second less than one of its own."""
    capsys.readouterr()
    code = _run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return subprocess.CompletedProcess(["noria", *map(str, arguments)], code, out, err)


def assert_one_line_error(outcome: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The command failed with this exit code and one line ``error: …``, its last, that has the words."""
    assert outcome.returncode == code, outcome
    lines = outcome.stderr.strip().splitlines()
    assert lines, outcome
    assert lines[-1].startswith("error: "), outcome
    assert sum(line.startswith("error: ") for line in lines) == 1, outcome
    assert "Traceback" not in outcome.stderr, outcome
    for word in words:
        assert word in lines[-1], outcome


@dataclass
class DevProcess:
    """A running ``noria dev``."""

    process: subprocess.Popen[str]
    url: str
    port: int
    lines: list[str] = field(default_factory=list)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; return the exit code, what it still printed, and its standard error."""
        self.process.send_signal(with_signal)
        out, err = self.process.communicate(timeout=LIMIT_SECONDS)
        return self.process.returncode, out, err


@contextmanager
def noria_dev(*arguments: str | Path, port: int = 0) -> Iterator[DevProcess]:
    """Run ``noria dev`` until the context ends; it listens when the context begins."""
    process = subprocess.Popen(
        [*NORIA, "dev", "--port", str(port), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        lines = list(_lines_until_ready(process))
        match = READY.fullmatch(lines[-1])
        assert match is not None
        yield DevProcess(process, match[1], int(match[2]), lines)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _lines_until_ready(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    # Reading waits without a limit of its own; a process that hangs is ended, which ends the reading.
    watchdog = threading.Timer(LIMIT_SECONDS, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            yield line.rstrip("\n")
            if READY.fullmatch(line.strip()):
                return
        raise AssertionError(f"noria dev ended before it listened: {process.communicate()}")
    finally:
        watchdog.cancel()


def file_with(path: Path, content: str) -> Path:
    """Write a small text file and return its path."""
    path.write_text(content)
    return path


def hex_strings(lines: Sequence[str], digits: int) -> list[str]:
    """All 0x strings with exactly this many digits, in order."""
    return re.findall(rf"0x[0-9a-fA-F]{{{digits}}}(?![0-9a-fA-F])", "\n".join(lines))


def rpc(url: str, method: str, *params: object) -> Any:
    """Result of one JSON-RPC request."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as response:
        answer = json.load(response)
    assert "error" not in answer, answer
    return answer["result"]
