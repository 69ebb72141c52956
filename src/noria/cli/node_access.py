"""How commands of the market reach a chain: the network on this machine, unless a node is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from noria.cli.errors import BadArgument

if TYPE_CHECKING:
    from noria.client.rpc_access import RpcAccess
    from noria.primitives.types import Address, Wei

TRANSACTION_SECONDS: Final = 120.0
"""Longest wait for a block with a transaction."""

NodeOption = Annotated[
    str | None,
    typer.Option(
        "--node",
        envvar="NORIA_NODE",
        help="A node's URL, or the folder of a network.",
        metavar="NODE",
        show_default="the network on this machine",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@asynccontextmanager
async def connected(node: str | None) -> AsyncIterator[RpcAccess]:
    """Connect to the first node that answers.

    Yields
    ------
    RpcAccess

    Raises
    ------
    NoNode
        Where none does, or what is named is none.
    """
    from noria.client.local_network import find_nodes, nobody
    from noria.client.rpc_access import NodeUnreachable, RpcAccess

    urls, reason = find_nodes(node), None
    for url in urls:
        access = RpcAccess(url)
        try:
            await access.start()
        except NodeUnreachable as error:
            await access.close()
            reason = error
            continue
        except BaseException:
            await access.close()
            raise
        try:
            yield access
        finally:
            await access.close()
        return
    raise nobody(urls, reason)


def money(text: str, option: str) -> Wei:
    """Read an amount of money from the command line; raise `BadArgument`."""
    from noria.primitives.amounts import parse_amount

    try:
        return parse_amount(text)
    except ValueError as error:
        raise BadArgument(f"{option}: {error}") from None


def account(text: str, option: str) -> Address:
    """Read an address from the command line; raise `BadArgument`."""
    from noria.primitives.addresses import parse_address

    try:
        return parse_address(text)
    except ValueError as error:
        raise BadArgument(f"{option}: {error}") from None
