"""The folder of a development network: what is in it, and how its nodes are found again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from noria.node.errors import NodeError

FILE: Final = "network.json"
SPEC: Final = "chain.json"
PASSWORD: Final = "password"
NODES_MAX: Final = 64


class NetworkError(NodeError):
    """A network of processes cannot be made, started or found; the message says what to do."""


class NodeEntry(msgspec.Struct, frozen=True):
    """One node of a network.

    Attributes
    ----------
    name
        Like ``node-1``; also its folder's.
    peer_id
        Its name among peers.
    address
        Its miner's account.
    p2p_port, rpc_port
        Where it listens, on this machine alone.
    """

    name: str
    peer_id: str
    address: str
    p2p_port: int
    rpc_port: int

    @property
    def rpc_url(self) -> str:
        """Where its RPC is."""
        return f"http://127.0.0.1:{self.rpc_port}"

    @property
    def multiaddress(self) -> str:
        """Where peers reach it."""
        return f"/ip4/127.0.0.1/tcp/{self.p2p_port}/p2p/{self.peer_id}"


class _File(msgspec.Struct, frozen=True):
    nodes: list[NodeEntry]


@dataclass(frozen=True, slots=True)
class Network:
    """A network's folder and its nodes."""

    folder: Path
    nodes: tuple[NodeEntry, ...]

    @property
    def spec(self) -> Path:
        """The chain specification."""
        return self.folder / SPEC

    def node_folder(self, node: NodeEntry) -> Path:
        """Return a node's data directory."""
        return self.folder / node.name

    def config(self, node: NodeEntry) -> Path:
        """Return a node's configuration file."""
        return self.folder / f"{node.name}.toml"

    def log(self, node: NodeEntry) -> Path:
        """Return a node's log."""
        return self.folder / f"{node.name}.log"

    def pid_file(self, node: NodeEntry) -> Path:
        """Return the file that names a node's process."""
        return self.folder / f"{node.name}.pid"

    def node(self, name: str) -> NodeEntry:
        """Return the node of a name; ``2`` means ``node-2``.

        Raises
        ------
        NetworkError
            Where there is none.
        """
        for node in self.nodes:
            if name in (node.name, node.name.removeprefix("node-")):
                return node
        known = ", ".join(node.name for node in self.nodes)
        raise NetworkError(f"{self.folder} has no node {name!r}: there are {known}")

    def save(self) -> None:
        """Write the list of nodes; what it names must be there already."""
        partial = self.folder / f"{FILE}.partial"
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(_File(list(self.nodes)))))
        partial.replace(self.folder / FILE)


def load_network(folder: Path) -> Network:
    """Find a network.

    Raises
    ------
    NetworkError
        Where there is none, or its file is damaged.
    """
    path = folder / FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        raise NetworkError(
            f"{folder} holds no network: make one with noria network up --dir {folder}"
        ) from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NetworkError(f"{path} cannot be read: {error}") from None
    return Network(folder, tuple(found.nodes))


def has_network(folder: Path) -> bool:
    """Tell whether there is a network in a folder."""
    return (folder / FILE).exists()
