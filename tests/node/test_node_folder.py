"""A node's folder: one process at a time, one chain, one name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from noria.execution.accounts import dev_accounts
from noria.execution.spec import ChainSpec, SpecError, dev_spec
from noria.node.data_dir import UnusableDataDirectory
from noria.node.errors import ChainMismatch, InvalidConfiguration
from noria.node.node_folder import DataDirectoryInUse, NodeFolder

LOCK = "import sys; from pathlib import Path; from noria.node.node_folder import NodeFolder; "


def spec(name: str = "one") -> ChainSpec:
    return replace(dev_spec([account.address for account in dev_accounts(1)], 1_700_000_000), name=name)


def locked_elsewhere(folder: Path) -> subprocess.CompletedProcess[str]:
    code = LOCK + f"NodeFolder(Path({str(folder)!r})).lock(); print('locked')"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_one_process_at_a_time(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path / "node")
    folder.lock()
    with pytest.raises(DataDirectoryInUse, match=r"in use by process \d+: stop it"):
        NodeFolder(tmp_path / "node").lock()
    assert "DataDirectoryInUse" in locked_elsewhere(tmp_path / "node").stderr
    folder.release()
    # A process that has died holds nothing any more.
    assert locked_elsewhere(tmp_path / "node").stdout == "locked\n"
    folder.lock()
    folder.release()


def test_a_folder_remembers_its_chain(tmp_path: Path) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    one.write_bytes(spec("one").to_json())
    other.write_bytes(spec("other").to_json())
    folder = NodeFolder(tmp_path / "node")
    with pytest.raises(InvalidConfiguration, match="give --spec"):
        folder.specification(None)
    assert folder.specification(one) == spec("one")
    assert folder.specification(None) == spec("one")
    assert folder.specification(one) == spec("one")
    with pytest.raises(ChainMismatch, match="holds the chain 'one'"):
        folder.specification(other)
    other.write_text("{}")
    with pytest.raises(SpecError, match=r"other\.json"):
        folder.specification(other)


def test_the_peers_name_stays(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path / "node")
    folder.path.mkdir()
    seed = folder.seed()
    assert NodeFolder(tmp_path / "node").seed() == seed
    assert ((tmp_path / "node" / "identity").stat().st_mode & 0o777) == 0o600
    (tmp_path / "node" / "identity").write_bytes(b"short")
    with pytest.raises(UnusableDataDirectory, match="damaged"):
        folder.seed()


def test_blocked_peers(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    assert folder.blocked_peers() == frozenset()
    folder.blocked.write_text("a\n\n  b  \n")
    assert folder.blocked_peers() == {"a", "b"}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableDataDirectory):
        NodeFolder(tmp_path / "file" / "node").lock()
