"""What miners ask now: the registry's terms, and what each miner's node says when it is asked."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from noria.cli.errors import one_line

if TYPE_CHECKING:
    from noria.client.rpc_access import RpcAccess
    from noria.market.contracts import MinerTerms
    from noria.market.messages import Quote
    from noria.network.transport import Transport

PAGE: Final = 256
"""Rows that the registry tells at a time."""
MINERS_MAX: Final = 4_096
ASKED_MAX: Final = 64
"""Miners whose nodes are asked."""
QUOTE_SECONDS: Final = 5.0
SEED_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Offer:
    """What a miner asks.

    Attributes
    ----------
    terms
        As registered: this is what it is drawn and paid by.
    quote
        What its node says; None if it was not reached.
    problem
        Why it was not.
    """

    terms: MinerTerms
    quote: Quote | None
    problem: str


async def read_miners(access: RpcAccess) -> list[MinerTerms]:
    """Return the terms of all registered miners, the cheapest first."""
    from eth_abi.abi import decode

    from noria.cli.registration import registry_call
    from noria.execution.system_contracts import MINER_REGISTRY
    from noria.market.contracts import read_miner_terms
    from noria.primitives.types import ZERO_ADDRESS, Address

    count = int.from_bytes(await access.call(MINER_REGISTRY, registry_call("count()")), "big")
    found: list[Address] = []
    # Places of miners that have left are empty.
    for first in range(0, 2 * MINERS_MAX, PAGE):
        if len(found) >= min(count, MINERS_MAX):
            break
        answer = await access.call(MINER_REGISTRY, registry_call("rows(uint256,uint256)", first, PAGE))
        [rows] = decode(["(address,bytes32,bytes16,uint256,uint256,uint256,uint256)[]"], answer)
        addresses = (Address(bytes.fromhex(row[0][2:])) for row in rows)
        found += [address for address in addresses if address != ZERO_ADDRESS]
    terms = await asyncio.gather(*(read_miner_terms(access, miner) for miner in found))
    return sorted((each for each in terms if each is not None), key=lambda each: (each.ask_price, each.miner))


async def read_offers(access: RpcAccess, *, ask: bool = True) -> list[Offer]:
    """Return what all miners ask; their nodes are asked, too, unless that is not wanted."""
    terms = await read_miners(access)
    if not ask or not terms:
        return [Offer(each, None, "") for each in terms]
    from noria.market.protocol import work_protocol
    from noria.network.config import TransportConfig
    from noria.network.transport import Transport

    config = TransportConfig(
        network=access.genesis_root.hex(),
        agent="noria-price",
        protocols=(work_protocol(access.genesis_root),),
        listen=(),
        peers_wanted=0,
    )
    async with await Transport.start(secrets.token_bytes(SEED_BYTES), config) as transport:
        asked = await asyncio.gather(*(_ask(access, transport, each) for each in terms[:ASKED_MAX]))
    return [*asked, *(Offer(each, None, "not asked") for each in terms[ASKED_MAX:])]


async def _ask(access: RpcAccess, transport: Transport, terms: MinerTerms) -> Offer:
    from noria.market.access import ChainAccessError
    from noria.market.messages import Ask, MalformedWorkMessage, Quote
    from noria.market.protocol import work_protocol
    from noria.market.requester.link import NotReachable, Refused, WorkLink

    try:
        async with asyncio.timeout(QUOTE_SECONDS):
            contact = await access.contact(terms.miner)
            if contact is None or not contact.addresses:
                return Offer(terms, None, "no address of it is known")
            link = WorkLink(transport, work_protocol(access.genesis_root).name)
            await link.connect(contact)
            quote = await link.ask(Ask(), Quote, timeout_seconds=QUOTE_SECONDS)
    except TimeoutError:
        return Offer(terms, None, f"no answer within {QUOTE_SECONDS:g} s")
    except (ChainAccessError, NotReachable, Refused, MalformedWorkMessage) as error:
        return Offer(terms, None, one_line(str(error))[:200])
    if quote.miner != terms.miner:
        return Offer(terms, None, "its node answers for another miner")
    return Offer(terms, quote, "")
