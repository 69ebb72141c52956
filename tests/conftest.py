"""Fixtures that several rooms' tests share."""

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from noria._core import Engine
from noria.execution.accounts import DevAccount, dev_accounts
from noria.execution.spec import ChainSpec, dev_spec

GENESIS_TIMESTAMP = 1_700_000_000
REPOSITORY = Path(__file__).resolve().parent.parent
PEERS = REPOSITORY / "build" / "npm" / "node_modules"

# These libraries raise the recursion limit of the process when they are first imported, after which deep
# input ends the process where it should raise. Only tests use them, so tests put the limit back.
_limit = sys.getrecursionlimit()
for _library in ("py_ecc", "ethereum"):
    with suppress(ImportError):
        importlib.import_module(_library)
sys.setrecursionlimit(_limit)

# A program in the background of a shell ignores interrupts, and so would every program that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Two busy cores say nothing about the code under test. In CI the examples are the same on every run.
settings.register_profile("noria", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("noria")


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that tests do is found in the user's own folders: wallet, jobs, the network started last."""
    home = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_DATA_HOME", "XDG_STATE_HOME"):
            patch.setenv(name, str(home / name.lower()))
        yield


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A command that a test has run in this process leaves no log that goes to that test's output."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def dev_keys() -> list[DevAccount]:
    """The ten funded accounts of a development chain."""
    return dev_accounts()


@pytest.fixture(scope="session")
def spec(dev_keys: list[DevAccount]) -> ChainSpec:
    """A development chain that begins at `GENESIS_TIMESTAMP`."""
    return dev_spec([account.address for account in dev_keys], GENESIS_TIMESTAMP)


@pytest.fixture
def engine_path(tmp_path: Path) -> Path:
    """An empty folder for an engine's store."""
    return tmp_path / "engine"


@pytest.fixture
def engine(engine_path: Path, spec: ChainSpec) -> Iterator[Engine]:
    """An engine at genesis of ``spec``; it need not survive a power cut."""
    engine = Engine(str(engine_path), spec.engine_json(), sync=False)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def anvil_path() -> Path:
    """The anvil program; the test is skipped where npm has not brought it."""
    return _peer("@foundry-rs/anvil-linux-amd64/bin/anvil")


@pytest.fixture(scope="session")
def cast_path() -> Path:
    """The cast program; the test is skipped where npm has not brought it."""
    return _peer("@foundry-rs/cast-linux-amd64/bin/cast")


@pytest.fixture(scope="session")
def ethers_path() -> Path:
    """The ethers package for Node.js; the test is skipped where npm has not brought it."""
    return _peer("ethers")


def _peer(name: str) -> Path:
    path = PEERS / name
    if not path.exists():
        pytest.skip(f"{name} is not installed: make peers")
    return path
