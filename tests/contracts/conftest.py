"""A chain with four miners for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.execution.spec import ChainSpec
from tests.contracts.network import Network, network_spec

Start = Callable[..., Network]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Begin a chain; it is closed after the test."""
    started: list[Network] = []

    def begin(spec: ChainSpec | None = None, *, market: bool = False, **fields: Any) -> Network:
        chosen = network_spec(**fields) if spec is None else spec
        network = Network.start(tmp_path / str(len(started)), chosen, market=market)
        started.append(network)
        return network

    yield begin
    for network in started:
        network.engine.close()


@pytest.fixture
def network(start: Start) -> Network:
    """Four miners, and a first block in which nothing has happened."""
    network = start()
    network.extend()
    return network
