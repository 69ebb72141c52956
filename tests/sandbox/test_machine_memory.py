"""A machine that has no memory left gives no result."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.work.modules import BOMB

LIMITED = """
import resource, sys
from pathlib import Path
from noria._core import MachineFailure, Sandbox

program = Sandbox(Path(sys.argv[1]), sys.argv[2]).load(Path(sys.argv[3]).read_bytes())
limit = int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    print("status", program.run(b"", 10**9).status)
except MachineFailure:
    print("machine failure")
"""


@pytest.mark.parametrize("engine", ["wasmtime", "baseline", "pulley"])
@pytest.mark.parametrize(("limit", "said"), [(700 << 20, "machine failure"), (4 << 30, "status 0")])
def test_memory_that_the_system_refuses(tmp_path: Path, engine: str, limit: int, said: str) -> None:
    module = tmp_path / "bomb.wasm"
    module.write_bytes(BOMB)
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "cache", engine, module, str(limit)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stdout.strip() == said, ran.stderr
