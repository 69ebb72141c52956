"""Starting the nodes that are compared: ``noria dev`` and anvil, the development node of Foundry."""

from __future__ import annotations

import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
CHAIN_ID: Final = 5132114
INSTALL_SECONDS: Final = 300.0
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0


class PeerMissing(Exception):
    """The program to compare with cannot be had on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Node:
    """A running node."""

    name: str
    host: str
    port: int
    pid: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def memory_bytes(self) -> tuple[int, int]:
        """Resident memory now and at its highest, of the process and its children."""
        now = peak = 0
        for pid in _family(self.pid):
            status = Path(f"/proc/{pid}/status").read_text()
            fields = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.MULTILINE))
            now += int(fields.get("VmRSS", 0)) * 1024
            peak += int(fields.get("VmHWM", 0)) * 1024
        return now, peak


def anvil_program() -> Path:
    """Path of the pinned anvil binary; ``make peers`` installs it from npm on first use."""
    program = ROOT / "build" / "npm" / "node_modules" / ".bin" / "anvil"
    if program.exists():
        return program
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise PeerMissing("the npm package of anvil runs on Linux x86-64 only")
    if shutil.which("npm") is None:
        raise PeerMissing("npm is not installed, and anvil comes from npm")
    outcome = subprocess.run(
        ["make", "peers"], cwd=ROOT, stdout=sys.stderr, timeout=INSTALL_SECONDS, check=False
    )
    if outcome.returncode != 0 or not program.exists():
        raise PeerMissing("`make peers` could not install anvil")
    return program


def noria_program() -> Path:
    """Path of the ``noria`` command of the interpreter that runs this program."""
    program = Path(sys.executable).parent / "noria"
    if not program.exists():
        raise PeerMissing(f"{program} does not exist; `make build` makes it")
    return program


@contextmanager
def run_anvil(options: Sequence[str] = ()) -> Iterator[Node]:
    """Run anvil with our chain id while the context is open."""
    command = [
        str(anvil_program()),
        "--quiet",
        "--chain-id",
        str(CHAIN_ID),
        # By default its old states go to the home directory, and stay there where it is killed.
        "--cache-path",
        "states",
        *options,
    ]
    with _running("anvil", command) as node:
        yield node


@contextmanager
def run_noria(options: Sequence[str] = ()) -> Iterator[Node]:
    """Run ``noria dev`` while the context is open."""
    command = [
        str(noria_program()),
        "dev",
        "--quiet",
        "--chain-id",
        str(CHAIN_ID),
    ]
    with _running("noria", [*command, *options]) as node:
        yield node


@contextmanager
def _running(name: str, command: Sequence[str]) -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        log = Path(folder) / "output.log"
        port = _free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _await_port(name, process, port, log)
            yield Node(name, "127.0.0.1", port, process.pid, log)
        finally:
            _stop(process)


def _free_port() -> int:
    # anvil says nothing in quiet mode, so it cannot be asked which port it took.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise PeerMissing(
                f"{name} ended with code {process.returncode}: {log.read_text()[-500:].strip()}"
            )
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise PeerMissing(f"{name} did not listen on port {port} within {START_SECONDS:.0f} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _family(pid: int) -> list[int]:
    members = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            members += _family(int(child))
    return members
