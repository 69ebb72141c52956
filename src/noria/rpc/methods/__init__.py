"""The methods, by namespace and theme."""

from __future__ import annotations

from noria.rpc.methods import debug, dev, eth, eth_filters, eth_state, net_web3, noria
from noria.rpc.registry import Registry


def registry_for(*, development: bool, consensus: bool = False) -> Registry:
    """Return the methods of a node.

    ``development`` adds unlocked accounts, mining and snapshots; ``consensus`` what a network decides on.
    """
    registry = Registry()
    for room in (eth, eth_state, eth_filters, net_web3, debug):
        registry.include(room.registry)
    if development:
        registry.include(dev.registry)
    if consensus:
        registry.include(noria.registry)
    return registry
