"""Which network `noria mine` joins, and through whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from noria.cli.errors import BadArgument, CommandError

if TYPE_CHECKING:
    from noria.cli.mine_folder import MineFolder
    from noria.execution.spec import ChainSpec

SPEC: Final = "chain.json"


@dataclass(frozen=True, slots=True)
class Place:
    """A network to join.

    Attributes
    ----------
    spec
        File of its specification; none if the node's folder has it already.
    chain
        The specification.
    bootstrap
        Addresses of peers.
    local
        Folder of a network on this machine, whose development accounts have money to give away.
    """

    spec: Path | None
    chain: ChainSpec
    bootstrap: tuple[str, ...]
    local: Path | None


def find_place(
    folder: MineFolder, network: Path | None, spec: Path | None, bootstrap: list[str] | None
) -> Place:
    """Find the network: the one that is named, the one of the last time, or the one on this machine.

    Raises
    ------
    BadArgument
        If options contradict each other, or the folder mines on another chain.
    CommandError
        If there is none.
    """
    from noria.execution.spec import ChainSpec

    if network is not None and (spec is not None or bootstrap):
        raise BadArgument("--network names a network on this machine: leave out --spec and --bootstrap")
    saved = folder.node / SPEC
    known = ChainSpec.load(saved) if saved.exists() else None
    if spec is not None or bootstrap:
        return _elsewhere(folder, spec, tuple(bootstrap or ()), known)
    local = network or _running_here()
    if local is not None:
        found = _local(local)
        if known is None or known.to_json() == found.chain.to_json():
            return found
        if network is not None:
            raise BadArgument(
                f"{folder.path} mines on {known.name}, not on {found.chain.name} of {network}: "
                "name another folder with --dir"
            )
    if known is None:
        raise CommandError(
            "no network runs on this machine: start one with `noria network up`, or join one elsewhere with "
            "--spec FILE and --bootstrap ADDRESS"
        )
    last = folder.settings()
    return Place(None, known, tuple(last.bootstrap), None)


def _elsewhere(
    folder: MineFolder, spec: Path | None, bootstrap: tuple[str, ...], known: ChainSpec | None
) -> Place:
    from noria.execution.spec import ChainSpec

    if spec is None and known is None:
        raise BadArgument("--spec is missing: a new folder needs the specification of its chain")
    if spec is None:
        assert known is not None
        return Place(None, known, bootstrap, None)
    chain = ChainSpec.load(spec)
    if known is not None and known.to_json() != chain.to_json():
        raise BadArgument(
            f"{folder.path} mines on {known.name}, not on {chain.name} of {spec}: "
            "name another folder with --dir"
        )
    return Place(spec, chain, bootstrap or tuple(folder.settings().bootstrap), None)


def _local(folder: Path) -> Place:
    from noria.execution.spec import ChainSpec
    from noria.node.devnet.layout import load_network

    network = load_network(folder.absolute())
    peers = tuple(node.multiaddress for node in network.nodes)
    return Place(network.spec, ChainSpec.load(network.spec), peers, network.folder)


def _running_here() -> Path | None:
    """Return the folder of the network on this machine: in this folder, or the one that was started last."""
    from noria.cli.network import DEFAULT_FOLDER
    from noria.client.local_network import pointed_folder
    from noria.node.devnet.layout import has_network

    for folder in (DEFAULT_FOLDER, pointed_folder()):
        if folder is not None and has_network(folder):
            return folder
    return None
