"""The committed artefacts are what the pinned compiler makes of the sources."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from noria.execution.system_contracts import artifact

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted((REPOSITORY / "contracts").glob("*.vy"))


def build(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, root / "contracts" / "build.py", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources and artefacts in another folder, under another name."""
    root = tmp_path / "elsewhere"
    shutil.copytree(REPOSITORY / "contracts", root / "contracts")
    artifacts = Path("src", "noria", "execution", "artifacts")
    shutil.copytree(REPOSITORY / artifacts, root / artifacts)
    return root


def test_there_are_contracts() -> None:
    assert "Consensus" in [source.stem for source in SOURCES]


def test_artifacts_match_their_sources_wherever_they_are_compiled(copy: Path) -> None:
    shutil.rmtree(copy / "src")
    assert build(copy).returncode == 0
    for source in SOURCES:
        made = copy / "src" / "noria" / "execution" / "artifacts" / f"{source.stem}.json"
        committed = REPOSITORY / made.relative_to(copy)
        assert made.read_text() == committed.read_text()
        assert json.loads(made.read_text())["runtime_bytecode"] == artifact(source.stem).runtime_bytecode


def test_check_passes_on_what_is_committed(copy: Path) -> None:
    result = build(copy, "--check")
    assert (result.returncode, result.stderr) == (0, "")


def test_check_finds_a_changed_source(copy: Path) -> None:
    source = copy / "contracts" / "Consensus.vy"
    source.write_text(source.read_text().replace("8192\n", "4096\n"))
    result = build(copy, "--check")
    assert result.returncode == 1
    assert result.stderr == "Consensus.vy: its artefact is out of date: make contracts\n"


def test_check_finds_an_artefact_without_source(copy: Path) -> None:
    (copy / "src" / "noria" / "execution" / "artifacts" / "Gone.json").write_text("{}")
    result = build(copy, "--check")
    assert result.returncode == 1
    assert result.stderr == "artefact Gone.json has no contract: delete it\n"


def test_a_contract_that_does_not_compile_changes_nothing(copy: Path) -> None:
    (copy / "contracts" / "Consensus.vy").write_text("nonsense(")
    target = copy / "src" / "noria" / "execution" / "artifacts" / "Consensus.json"
    before = target.read_text()
    assert build(copy).returncode != 0
    assert target.read_text() == before
