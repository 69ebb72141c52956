"""The examples in many processes, with and without optional processor features: one output, one fuel."""

import subprocess
import sys
from pathlib import Path

import pytest

from noria.work.folders import compiled_folder
from tests.client.runtime import python_runtime

REPOSITORY = Path(__file__).resolve().parent.parent.parent
RUNS = 100


@pytest.mark.conformance
@pytest.mark.timeout(1200)
def test_a_hundred_runs_agree() -> None:
    python_runtime()
    outputs = set()
    for run in range(RUNS):
        engine = ("wasmtime", "baseline")[run % 2]
        done = subprocess.run(
            [sys.executable, "-m", "tests.examples.example_run", engine, str(compiled_folder())],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        outputs.add(done.stdout)
    (output,) = outputs
    assert [line.split()[1] for line in output.splitlines()] == ["0", "0"]
