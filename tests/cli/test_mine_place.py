"""Where `noria mine` listens: on this machine alone, unless it joins a network elsewhere."""

from pathlib import Path

import pytest

from noria.cli.mine import LOCAL_LISTEN, _config
from noria.cli.mine_folder import MineFolder, Settings
from noria.cli.mine_network import SPEC, find_place
from noria.cli.mine_steps import Options
from noria.execution.accounts import dev_accounts
from noria.execution.spec import dev_spec
from noria.node.config import NodeConfig

LOOPBACK = "/ip4/127.0.0.1/tcp/30401/p2p/12D3KooWA"
ELSEWHERE = "/ip4/192.0.2.1/tcp/30400/p2p/12D3KooWB"


def listens(home: MineFolder, listen: list[str] | None = None) -> tuple[str, ...]:
    options = Options(ask=None, capacity=None, cores=1, bond=None)
    place = find_place(home, None, None, None)
    assert place.local is None
    return _config(home, place, home.identity(), options, listen, None, 0, "info").listen


@pytest.mark.parametrize(
    ("peers", "expected"),
    [
        ([LOOPBACK, LOOPBACK], (LOCAL_LISTEN,)),
        ([LOOPBACK, ELSEWHERE], NodeConfig().listen),
        ([ELSEWHERE], NodeConfig().listen),
        ([], NodeConfig().listen),
    ],
)
def test_a_miner_that_comes_back_listens_where_its_network_is(
    peers: list[str], expected: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network is in sight: what it knows of the last time decides."""
    monkeypatch.chdir(tmp_path)
    with MineFolder(tmp_path / "miner") as home:
        home.node.mkdir()
        (home.node / SPEC).write_bytes(dev_spec([account.address for account in dev_accounts()], 1).to_json())
        home.remember(Settings("chain", peers))
        assert listens(home) == expected
        assert listens(home, [ELSEWHERE]) == (ELSEWHERE,)
