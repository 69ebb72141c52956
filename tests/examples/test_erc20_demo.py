"""The demo tells its story on a real node, and fails in one line where it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples import erc20_demo
from examples.erc20_demo import DemoFailed, development_node

DEMO = Path(erc20_demo.__file__)


def program(path: Path, body: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.slow
def test_the_demo_ends_well() -> None:
    result = subprocess.run([sys.executable, DEMO], capture_output=True, text=True, timeout=110)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Everything as expected" in result.stdout


def test_a_node_that_ends_early_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = program(tmp_path / "noria", "print('error: no space left')\nraise SystemExit(1)")
    monkeypatch.setattr(erc20_demo, "NORIA", broken)
    with (
        pytest.raises(DemoFailed, match="ended before it was ready: error: no space left"),
        development_node(),
    ):
        pass


def test_a_node_that_was_not_built_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erc20_demo, "NORIA", tmp_path / "noria")
    with pytest.raises(DemoFailed, match="noria is missing: make build"), development_node():
        pass


def test_the_node_is_stopped_when_the_story_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = f"""
import os, pathlib, time
pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
print("Listening on http://127.0.0.1:1", flush=True)
time.sleep(600)"""
    monkeypatch.setattr(erc20_demo, "NORIA", program(tmp_path / "noria", body))

    def story() -> None:
        with development_node() as address:
            raise DemoFailed(f"the story at {address}")

    with pytest.raises(DemoFailed, match="the story at http:"):
        story()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_wrong_answer_says_what_was_expected() -> None:
    with pytest.raises(DemoFailed, match="total supply: expected 2, got 1"):
        erc20_demo.expect("total supply", 1, 2)
