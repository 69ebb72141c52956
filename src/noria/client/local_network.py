"""Which node a program talks to when nobody has said so: the network that runs on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from noria.client.node_url import DEFAULT_URL, InvalidUrl, socket_url

NODE_VARIABLE: Final = "NORIA_NODE"
"""Environment variable that names a node's URL, or the folder of a network."""
FILE: Final = "network.json"
HERE: Final = "noria-network"
"""Folder in which a network is made unless another is named."""
POINTER: Final = "local-network"
"""File in the user's state folder that names the folder of the network that was started last."""
FILE_BYTES_MAX: Final = 1 << 20


class NoNode(ValueError):
    """There is no node to talk to; the message says how to start one."""


class _Node(msgspec.Struct):
    name: str
    rpc_port: int


class _File(msgspec.Struct):
    nodes: list[_Node]


def pointer_file() -> Path:
    """Return the file in which `noria network up` notes its folder for the user's other programs."""
    from platformdirs import user_state_path

    return user_state_path("noria", appauthor=False) / POINTER


def find_nodes(node: str | None = None) -> list[str]:
    """Return the URLs of nodes to try, the best first.

    What is named counts alone: the argument, then `NODE_VARIABLE`. Otherwise the network in
    ``./noria-network`` or the one that was started last by this user, and then `DEFAULT_URL`.

    Parameters
    ----------
    node
        A URL, or the folder of a network.

    Raises
    ------
    NoNode
        Where what is named is neither.
    """
    named = node or os.environ.get(NODE_VARIABLE)
    if named:
        return _named(named)
    found: list[str] = []
    for folder in (Path(HERE), pointed_folder()):
        if folder is not None:
            found += _nodes(folder)
    return list(dict.fromkeys([*found, DEFAULT_URL]))


def nobody(urls: list[str], reason: object) -> NoNode:
    """Return the error for when none of the URLs answers."""
    return NoNode(
        f"no node answers at {', '.join(urls[:4])} ({reason}): start a network with `noria network up`, "
        f"or name a node: node=…, --node or {NODE_VARIABLE}"
    )


def _named(named: str) -> list[str]:
    if "://" in named:
        try:
            socket_url(named)
        except InvalidUrl as error:
            raise NoNode(str(error)) from None
        return [named]
    folder = Path(named).expanduser()
    nodes = _nodes(folder)
    if not nodes:
        raise NoNode(
            f"{named} is neither a URL like {DEFAULT_URL} nor a folder with a network: "
            f"make one with `noria network up --dir {named}`"
        )
    return nodes


def pointed_folder() -> Path | None:
    """Return the folder of the network that was started last by this user, if one is known."""
    try:
        text = pointer_file().read_bytes()[: FILE_BYTES_MAX + 1].decode().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return Path(text) if text else None


def _nodes(folder: Path) -> list[str]:
    try:
        with (folder / FILE).open("rb") as file:
            found = msgspec.json.decode(file.read(FILE_BYTES_MAX), type=_File)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return []
    return [f"http://127.0.0.1:{node.rpc_port}" for node in found.nodes if 0 < node.rpc_port < 65536]
