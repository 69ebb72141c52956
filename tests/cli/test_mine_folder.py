"""The folder of `noria mine`: one identity for ever, for its owner alone, and nothing of others touched."""

import stat
from pathlib import Path

import pytest

from noria.cli.errors import BadArgument, CommandError
from noria.cli.mine_folder import ACCOUNT, KEY, LOCK, PASSWORD, SETTINGS, MineFolder, Settings, read_account
from noria.execution.accounts import AccountError
from noria.node.errors import NodeError


def test_keys_are_made_once(tmp_path: Path) -> None:
    with MineFolder(tmp_path / "miner") as folder:
        first = folder.identity()
    with MineFolder(tmp_path / "miner") as folder:
        again = folder.identity()
    assert (first.is_new, again.is_new) == (True, False)
    assert (first.account.secret, first.key.secret) == (again.account.secret, again.key.secret)
    assert read_account(tmp_path / "miner").secret == first.account.secret


def test_its_owner_alone_can_read_it(tmp_path: Path) -> None:
    with MineFolder(tmp_path / "miner") as folder:
        folder.identity()
        folder.remember(Settings("chain", ["/ip4/127.0.0.1/tcp/1"]))
    assert stat.S_IMODE((tmp_path / "miner").stat().st_mode) == 0o700
    for name in (PASSWORD, KEY, SETTINGS):
        assert stat.S_IMODE((tmp_path / "miner" / name).stat().st_mode) == 0o600, name


def test_no_key_is_in_the_clear(tmp_path: Path) -> None:
    with MineFolder(tmp_path / "miner") as folder:
        identity = folder.identity()
    files = [path.read_bytes() for path in (tmp_path / "miner").rglob("*") if path.is_file()]
    assert len(files) == 4
    for secret in (identity.account.secret, identity.key.secret):
        assert all(secret not in data and secret.hex().encode() not in data for data in files)


def test_what_a_killed_start_left_is_completed(tmp_path: Path) -> None:
    with MineFolder(tmp_path / "miner") as folder:
        first = folder.identity()
    (tmp_path / "miner" / KEY).unlink()
    (tmp_path / "miner" / f"{KEY}.partial").write_text("{")
    with MineFolder(tmp_path / "miner") as folder:
        again = folder.identity()
    assert again.account.secret == first.account.secret
    assert again.key.secret != first.key.secret


def test_one_process_mines_in_it(tmp_path: Path) -> None:
    with (
        MineFolder(tmp_path / "miner"),
        pytest.raises(CommandError, match=r"is mined in by process \d+: end it"),
    ):
        MineFolder(tmp_path / "miner")
    MineFolder(tmp_path / "miner").__exit__()


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").write_text("dear")
    with pytest.raises(BadArgument, match="holds letters and no miner"):
        MineFolder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]
    with pytest.raises(CommandError, match="cannot be used: Not a directory"):
        MineFolder(tmp_path / "letters" / "miner")


def test_without_its_password_nothing_is_made_anew(tmp_path: Path) -> None:
    with MineFolder(tmp_path / "miner") as folder:
        folder.identity()
    (tmp_path / "miner" / PASSWORD).unlink()
    with MineFolder(tmp_path / "miner") as folder, pytest.raises(CommandError, match="password is missing"):
        folder.identity()
    (tmp_path / "miner" / PASSWORD).write_text("another\n")
    with MineFolder(tmp_path / "miner") as folder, pytest.raises(AccountError, match="wrong password"):
        folder.identity()
    (tmp_path / "miner" / PASSWORD).write_text("\n")
    with MineFolder(tmp_path / "miner") as folder, pytest.raises(NodeError, match="first line is empty"):
        folder.identity()


def test_where_there_is_no_miner_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="holds no miner"):
        read_account(tmp_path)
    (tmp_path / ACCOUNT).mkdir()
    (tmp_path / PASSWORD).write_text("secret\n")
    with pytest.raises(BadArgument, match="holds no account"):
        read_account(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"bootstrap": 1}', "\xff"])
def test_damaged_settings_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).touch()
    with MineFolder(tmp_path) as folder:
        assert folder.settings() == Settings()
        (tmp_path / SETTINGS).write_bytes(content.encode("latin-1"))
        with pytest.raises(CommandError, match=r"mine\.json cannot be read"):
            folder.settings()
        folder.remember(Settings("chain", ["a"]))
        assert folder.settings() == Settings("chain", ["a"])
