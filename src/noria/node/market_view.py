"""What a node tells of the market: its miner's jobs and earnings, where miners are, the network's numbers.

Fuel, weight, counts and Unix seconds are numbers; wei are decimal text; hashes and addresses are ``0x`` text.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from noria.execution.spec import ChainSpec
from noria.market.miner.earnings import PlaceEarnings
from noria.market.miner.session import Session
from noria.node.devnet.tiles import module as pathtracer
from noria.primitives.addresses import checksum_address
from noria.primitives.hexes import format_data
from noria.primitives.types import Address
from noria.work.runtimes import NAMES, pinned

if TYPE_CHECKING:
    from noria.node.full import FullNode

PLACES_MAX: Final = 1_000
"""Places of a ledger that are told at once."""
PATHTRACER: Final = "pathtracer"


def parameters(node: FullNode) -> dict[str, Any]:
    """Tell what a requester must know of the chain: its name before signatures, its numbers, its programs."""
    return {
        "chainId": node.spec.chain_id,
        "genesisRoot": format_data(node.chain.rules.genesis_root),
        "name": node.spec.name,
        "parameters": asdict(node.chain.rules.parameters),
        "programs": {name: format_data(program) for name, program in program_names(node.spec).items()},
        "pinned": [format_data(program) for program in node.spec.programs],
    }


def program_names(spec: ChainSpec) -> dict[str, bytes]:
    """Return the pinned programs of which this package knows a name."""
    known = {name: bytes(pinned(name).program_id) for name in NAMES}
    known[PATHTRACER] = bytes(pathtracer().id)
    return {name: program for name, program in known.items() if program in spec.programs}


async def contact(node: FullNode, address: bytes) -> dict[str, Any] | None:
    """Tell where a miner's node can be reached; `None` if it is not registered."""
    found = await node.access.contact(Address(address))
    return None if found is None else {"peer": found.peer, "addresses": list(found.addresses)}


def market(node: FullNode) -> dict[str, Any] | None:
    """Tell what this node's miner does for others; `None` where it takes no jobs."""
    if node.market is None:
        return None
    status = node.market.status()
    return {
        "miner": checksum_address(status.miner),
        "askPriceWei": None if status.ask_price is None else str(status.ask_price),
        "workers": status.workers,
        "running": status.running,
        "queued": status.queued,
        "assigned": status.assigned,
        "problem": status.problem,
        "jobs": [_session(session) for session in status.sessions],
    }


async def earnings(node: FullNode, limit: int) -> dict[str, Any] | None:
    """Tell what this node's miner has earned, the latest places first; `None` where it takes no jobs."""
    if node.market is None:
        return None
    found = await node.market.earnings(min(limit, PLACES_MAX))
    totals = found.totals
    return {
        "totals": {
            "jobs": totals.jobs,
            "fuel": totals.fuel,
            "earnedWei": str(totals.earned),
            "paidWei": str(totals.paid),
            "gasWei": str(totals.gas),
            "creditedWeight": totals.credited,
        },
        "jobs": [_place(place) for place in found.places],
    }


def _session(session: Session) -> dict[str, Any]:
    record = session.record
    return {
        "job": record.job,
        "k": record.k,
        "program": format_data(record.program),
        "peer": session.peer,
        "onChain": session.is_here,
        "closing": session.closing,
        "running": session.running,
        "queued": session.queued,
        "held": session.held,
        "untaken": len(session.results),
        "receipts": record.next_index,
        "fuel": record.fuel,
        "priceWei": str(session.price),
        "capWei": str(session.place.cap),
        "allowedWei": str(record.allow_total),
        "earnedWei": str(session.told_earned),
        "committedWei": str(session.place.committed),
        "paidWei": str(session.paid),
    }


def _place(place: PlaceEarnings) -> dict[str, Any]:
    return {
        "job": place.job,
        "k": place.k,
        "state": place.state,
        "receipts": place.receipts,
        "fuel": place.fuel,
        "weight": place.weight,
        "priceWei": str(place.price),
        "earnedWei": str(place.earned),
        "committedWei": str(place.committed),
        "paidWei": str(place.paid),
        "creditedWeight": place.credited,
        "gasWei": str(place.gas),
        "openedSeconds": place.opened,
    }
