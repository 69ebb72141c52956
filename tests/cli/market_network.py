"""A small network of real node processes, and a user's folders beside it, for the market's commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from noria.execution.parameters import DEVNET
from noria.node.devnet.layout import Network
from noria.node.devnet.making import Plan, make_network
from noria.node.devnet.processes import Nursery, stop_nodes

NODES = 2
EPOCH_SLOTS = 8
"""Terms change once an epoch: nobody waits longer than needed."""


@dataclass(frozen=True)
class User:
    """Somebody on the machine of a network, who has a wallet and a journal of his own.

    Attributes
    ----------
    network
        The network.
    home
        The user's folder.
    """

    network: Network
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs in order to be this user's."""
        return {
            "NORIA_NODE": str(self.network.folder),
            "NORIA_WALLET": str(self.home / "wallet"),
            "NORIA_JOBS": str(self.home / "jobs.sqlite"),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_DATA_HOME": str(self.home / "data"),
        }


@contextmanager
def running_network(folder: Path) -> Iterator[Network]:
    """Make a network of two miners and run it."""
    parameters = replace(DEVNET, epoch_slots=EPOCH_SLOTS)
    with Nursery() as nursery:
        network = make_network(folder, Plan(nodes=NODES, units=1, workers=1, parameters=parameters))
        try:
            nursery.start(network, network.nodes)
            yield network
        finally:
            stop_nodes(network, network.nodes)
