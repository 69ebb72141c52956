"""``noria_*``: consensus, peers, certificates, miners and the market."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from noria.market.access import ChainAccessError
from noria.market.miner.journal import JournalError
from noria.rpc.context import Context, unknown_block
from noria.rpc.errors import server_error
from noria.rpc.params import AddressArg, BlockArg, CountArg, an_object, array_of, nullable
from noria.rpc.registry import Registry

if TYPE_CHECKING:
    from noria.node.view import NodeView
    from noria.rpc.params import BlockRef

registry: Final = Registry()

_NUMBER: Final = {"type": "integer", "minimum": 0}
NOW: Final = -1
"""Stands for an epoch that was left out."""
LEDGER: Final = 100
"""Jobs of a miner's ledger that are told unless more are asked for."""


def _view(context: Context) -> NodeView:
    view = context.node.consensus
    assert view is not None, "registered only where there is one"
    return view


def _name(context: Context, ref: BlockRef) -> bytes:
    """Return what names a block: a payload's hash, or a hash as it was given, which may be a root."""
    if ref.hash is not None:
        return ref.hash
    found = context.node.block_hash(ref)
    if found is None:
        raise unknown_block(ref)
    return found


@registry.method("noria_status", an_object("Status"))
def status(context: Context) -> dict[str, Any]:
    """Return where the node stands."""
    return _view(context).status()


@registry.method("noria_peers", array_of(an_object("Peer")))
def peers(context: Context) -> list[dict[str, Any]]:
    """Return the connected peers, and where they say that they stand."""
    return _view(context).peers()


@registry.method("noria_slot", _NUMBER)
def slot(context: Context) -> int:
    """Return the slot that it is now."""
    return _view(context).slot()


@registry.method("noria_epoch", _NUMBER)
def epoch(context: Context) -> int:
    """Return the epoch that it is now."""
    return _view(context).epoch()


@registry.method("noria_finality", an_object("Finality"))
def finality(context: Context) -> dict[str, Any]:
    """Return what is justified and final, and how far that is behind the clock."""
    return _view(context).finality()


@registry.method("noria_weights", an_object("Weights"))
async def weights(context: Context, epoch: CountArg = NOW) -> dict[str, Any]:
    """Return who may win and vote in an epoch, by default this one, and with what weight."""
    found = await context.node.workers.run(_view(context).weights, None if epoch == NOW else epoch)
    if found is None:
        raise server_error(f"the weights of epoch {epoch} are not known: it is too far ahead or too old")
    return found


@registry.method("noria_getBlock", nullable(an_object("Consensus block")))
async def get_block(context: Context, block: BlockArg) -> dict[str, Any] | None:
    """Return what a block's envelope says; the block is named by number, tag, hash or root."""
    return await context.node.workers.run(_view(context).block, _name(context, block))


@registry.method("noria_getCertificate", nullable(an_object("Certificate")))
async def get_certificate(context: Context, block: BlockArg) -> dict[str, Any] | None:
    """Return what a block shows of its proposer's work, and what this node has found of it."""
    return await context.node.workers.run(_view(context).certificate, _name(context, block))


@registry.method("noria_miner", nullable(an_object("Miner")))
async def miner(context: Context, address: AddressArg) -> dict[str, Any] | None:
    """Return what is registered of a miner: bond, weight, credit, signs of life."""
    return await context.node.workers.run(_view(context).miner, address)


# ---------------------------------------------------------------- the market


@registry.method("noria_parameters", an_object("Parameters"))
def parameters(context: Context) -> dict[str, Any]:
    """Return what a requester must know of the chain: chain id, genesis root, parameters, pinned programs."""
    return _view(context).parameters()


@registry.method("noria_contact", nullable(an_object("Contact")))
async def contact(context: Context, address: AddressArg) -> dict[str, Any] | None:
    """Return where a miner's node can be reached: its peer id, and addresses that this node knows."""
    try:
        return await _view(context).contact(address)
    except ChainAccessError as error:
        raise server_error(str(error)) from None


@registry.method("noria_market", nullable(an_object("Market")))
def market(context: Context) -> dict[str, Any] | None:
    """Return what this node's miner does for others now; null where it takes no jobs."""
    return _view(context).market()


@registry.method("noria_earnings", nullable(an_object("Earnings")))
async def earnings(context: Context, jobs: CountArg = LEDGER) -> dict[str, Any] | None:
    """Return what this node's miner has earned in all, and for its latest jobs."""
    try:
        return await _view(context).earnings(jobs)
    except JournalError as error:
        raise server_error(str(error)) from None
