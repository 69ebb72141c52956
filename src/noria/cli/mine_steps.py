"""The way of a miner from an empty account to its first block: catch up, get money, register, mine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from noria.cli.errors import BadArgument, CommandError
from noria.cli.mine_report import Standing, changes, count_of, per_core_hour, short_money
from noria.primitives.addresses import checksum_address
from noria.primitives.amounts import format_amount
from noria.primitives.types import NOR, Wei

if TYPE_CHECKING:
    from noria.cli.mine_network import Place
    from noria.cli.mine_report import Teller
    from noria.market.access import ChainAccess
    from noria.market.contracts import MinerTerms
    from noria.market.miner.earnings import MarketStatus, Totals
    from noria.market.miner.service import MinerService
    from noria.node.full import FullNode
    from noria.primitives.keys import BlsSecretKey, PrivateKey
    from noria.primitives.types import Address

RESERVE: Final = Wei(2 * NOR)
"""What a miner has beside its bond, for the gas of its transactions."""
ASK_SECONDS: Final = 1.0
PLACES_WATCHED: Final = 64
ONCE_AN_EPOCH: Final = "one change per epoch"
"""What the registry says of a second change."""
CAPACITY_SHARE: Final = 2
"""A core promises one part in so many of what it could do: it has other work, too, and units end late."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user wants; None where it was left open.

    Attributes
    ----------
    ask
        Wei per fuel, at least.
    capacity
        Fuel per epoch.
    cores
        Units at once.
    bond
        Wei.
    """

    ask: int | None
    capacity: int | None
    cores: int
    bond: int | None


class Mining:
    """One run of `noria mine`, on top of a node that runs.

    Parameters
    ----------
    full
        The node.
    access
        Its chain.
    account, key
        Who mines.
    options
        What the user wants.
    place
        The network.
    tell
        Who is told.
    """

    def __init__(
        self,
        full: FullNode,
        access: ChainAccess,
        account: PrivateKey,
        key: BlsSecretKey,
        options: Options,
        place: Place,
        tell: Teller,
    ) -> None:
        self._full, self._access = full, access
        self._account, self._key = account, key
        self._options, self._place, self._tell = options, place, tell
        self._parameters = full.spec.parameters
        self._new_terms: bytes | None = None
        self._refused_epoch = -1
        self._first: Totals | None = None
        self._last: Standing | None = None

    async def run(self, summary_seconds: float) -> None:
        """Do everything that is needed, then mine and tell of it until cancelled."""
        if self._full.market is None:
            raise CommandError(
                f"the chain {self._place.chain.name} has no market: nobody can order work there"
            )
        await self.catch_up()
        await self.register()
        await self._watch(summary_seconds)

    async def catch_up(self) -> None:
        """Wait for peers, and until this node knows what they know."""
        full, tell = self._full, self._tell
        begins = full.spec.timestamp
        while True:
            at = full.chain.status
            if begins > (now := _unix_seconds()):
                tell.wait("genesis", f"the chain begins in {begins - now:.0f} s", seconds=round(begins - now))
            elif not full.sync.peers and self._place.bootstrap:
                asked = list(self._place.bootstrap)
                tell.wait("peers", f"waiting for peers: {', '.join(asked[:2])}", peers=asked)
            elif full.sync.is_far_behind:
                goal = full.sync.goal
                tell.wait("sync", f"catching up: at height {at.head_height} of {goal}",
                          height=at.head_height, goal=goal)  # fmt: skip
            else:
                peers = len(full.sync.peers)
                tell.say(
                    "synced",
                    f"at height {at.head_height}, with {count_of(peers, 'peer')}",
                    height=at.head_height,
                    peers=peers,
                )
                return
            await asyncio.sleep(ASK_SECONDS)

    # ------------------------------------------------------------ work

    async def _watch(self, summary_seconds: float) -> None:
        """Tell what happens, and every so often how far things are."""
        loop = asyncio.get_running_loop()
        before = await self._standing()
        self._first = before.totals
        told = loop.time()
        problem = ""
        while True:
            await asyncio.sleep(ASK_SECONDS)
            self._last = after = await self._standing()
            for event, text, values in changes(before, after):
                self._tell.say(event, text, **values)
            before = after
            await self._change_terms()
            status = self._market.status()
            if status.problem != problem:
                problem = status.problem
                if problem:
                    self._tell.warn(problem)
            if loop.time() - told >= summary_seconds:
                told = loop.time()
                await self._summarise(status, after)

    async def _summarise(self, status: MarketStatus, now: Standing) -> None:
        at, totals = self._full.chain.status, now.totals
        balance = await self._access.balance(self._account.address)
        peers = len(self._full.sync.peers)
        self._tell.say(
            "summary",
            f"{count_of(len(status.sessions), 'job')} now, {count_of(status.running, 'unit')} running and "
            f"{status.queued:,} waiting; {short_money(totals.earned)} earned, {short_money(totals.paid)} "
            f"paid, {short_money(totals.gas)} gas; {count_of(now.blocks, 'block')}, "
            f"{count_of(now.votes, 'vote')}; "
            f"balance {short_money(balance)}; height {at.head_height}, {count_of(peers, 'peer')}",
            jobs=len(status.sessions),
            running=status.running,
            queued=status.queued,
            fuel=totals.fuel,
            earned_wei=str(totals.earned),
            paid_wei=str(totals.paid),
            gas_wei=str(totals.gas),
            blocks=now.blocks,
            votes=now.votes,
            balance_wei=str(balance),
            height=at.head_height,
            finalised_epoch=at.finalised.epoch,
            peers=peers,
        )

    async def _standing(self) -> Standing:
        earnings = await self._market.earnings(PLACES_WATCHED)
        miner = self._full.miner
        status = None if miner is None else miner.status
        return Standing(
            {(place.job, place.k): place for place in earnings.places},
            earnings.totals,
            0 if status is None else status.blocks,
            0 if status is None else status.votes,
        )

    @property
    def _market(self) -> MinerService:
        market = self._full.market
        assert market is not None, "a node with the miner's account has one"
        return market

    def farewell(self) -> tuple[str, dict[str, str | int]]:
        """Return what this run has brought: for people, and for programs."""
        first, last = self._first, self._last
        if first is None or last is None:
            return "ended", {}
        paid, blocks = last.totals.paid - first.paid, last.blocks
        fuel = last.totals.fuel - first.fuel
        text = f"ended: {fuel:,} fuel burned, {short_money(paid)} paid, {count_of(blocks, 'block')} made"
        return text, {"fuel": fuel, "paid_wei": str(paid), "blocks": blocks}

    # ------------------------------------------------------------ registration

    async def register(self) -> MinerTerms:
        """Register the miner, or change its terms to those that are wanted now."""
        from noria.market.contracts import read_miner_terms

        address = self._account.address
        terms = await read_miner_terms(self._access, address)
        if terms is None:
            await self._register_anew()
        else:
            await self._take_up(terms)
        terms = await read_terms(self._access, address)
        self._tell.say(
            "registered",
            f"registered with a bond of {format_amount(terms.bond)}; asks {terms.ask_price:,} wei "
            f"per fuel, {per_core_hour(terms.ask_price)}",
            bond_wei=str(terms.bond),
            ask_price_wei=str(terms.ask_price),
            capacity=terms.capacity,
        )
        return terms

    async def _register_anew(self) -> None:
        from noria.cli.registration import register_call
        from noria.market.contracts import read_floor_price

        parameters, options = self._parameters, self._options
        least = parameters.bond_min_wei
        bond = least if options.bond is None else options.bond
        if bond < least:
            raise BadArgument(
                f"--bond {format_amount(bond)} is below this chain's least, {format_amount(least)}"
            )
        capacity = self._capacity(bond)
        ask = options.ask if options.ask is not None else await read_floor_price(self._access)
        await self._fund(bond)
        call = register_call(
            self._access.genesis_root,
            self._account.address,
            self._key,
            self._full.transport.peer_id,
            capacity,
            ask,
        )
        await self._send(call, bond, "register")

    async def _take_up(self, terms: MinerTerms) -> None:
        """Go on as a miner that is registered already."""
        from noria.cli.registration import registry_call, update_call

        if terms.bond < self._parameters.bond_min_wei:
            self._tell.warn(
                f"its bond is {format_amount(terms.bond)}, below the least of "
                f"{format_amount(self._parameters.bond_min_wei)}: it gets no work and makes no blocks"
            )
        options, peer = self._options, self._full.transport.peer_id
        capacity = terms.capacity if options.capacity is None else self._capacity(terms.bond)
        ask = terms.ask_price if options.ask is None else options.ask
        if (capacity, ask, peer) != (terms.capacity, terms.ask_price, terms.peer):
            await self._fund(0)
            self._new_terms = update_call(peer, capacity, ask)
            await self._change_terms()
        if await self._sleeps():
            await self._fund(0)
            await self._send(registry_call("wake()"), 0, "wake")

    async def _change_terms(self) -> None:
        """Change the registered terms if that is wanted; they can be changed once an epoch."""
        from noria.market.access import CallReverted

        epoch = self._full.chain.status.epoch
        if self._new_terms is None or epoch <= self._refused_epoch:
            return
        try:
            await self._send(self._new_terms, 0, "change its terms")
        except CallReverted as error:
            if ONCE_AN_EPOCH not in str(error):
                raise
            self._refused_epoch = epoch
            text = "terms are changed once an epoch: works on as before, and changes them in the next one"
            self._tell.say("postponed", text, epoch=epoch)
            return
        self._new_terms = None
        terms = await read_terms(self._access, self._account.address)
        self._tell.say(
            "terms",
            f"asks {terms.ask_price:,} wei per fuel now, {per_core_hour(terms.ask_price)}",
            ask_price_wei=str(terms.ask_price),
            capacity=terms.capacity,
        )

    async def _sleeps(self) -> bool:
        """Tell whether no vote has been seen for so long that its weight does not count, or soon will not."""
        view = self._full.chain.tree.view(self._full.chain.head.root)
        record = None if view is None else view.state.miner(self._account.address)
        if record is None:
            return False
        silent = self._full.chain.status.epoch - record.sign_of_life_epoch
        return silent * 2 > self._parameters.leak_epochs

    def _capacity(self, bond: int) -> int:
        """Return the fuel per epoch to promise."""
        from noria.cli.mine_report import FUEL_PER_CORE_SECOND

        parameters = self._parameters
        covered = bond // parameters.bond_per_capacity_wei
        if self._options.capacity is None:
            seconds = parameters.slot_seconds * parameters.epoch_slots
            able = self._options.cores * seconds * FUEL_PER_CORE_SECOND // CAPACITY_SHARE
            return max(1, min(covered, able))
        if self._options.capacity > covered:
            needed = format_amount(self._options.capacity * parameters.bond_per_capacity_wei)
            raise BadArgument(
                f"--capacity {self._options.capacity} needs a bond of {needed}: raise --bond, or ask for"
                f" at most {covered}"
            )
        return self._options.capacity

    async def _fund(self, bond: int) -> None:
        """Wait until the account has a bond and something for gas."""
        address = self._account.address
        # What is left for gas may shrink before more is needed.
        needed = bond + (RESERVE if bond else RESERVE // 20)
        balance = await self._access.balance(address)
        if balance >= needed:
            return
        missing = Wei(bond + RESERVE - balance)
        if self._place.local is not None:
            from noria.client.wallet import faucet

            await faucet(self._access, address, missing)
            self._tell.say("faucet", f"got {format_amount(missing)} from the faucet", wei=str(missing))
            return
        shown = checksum_address(address)
        self._tell.say(
            "unfunded",
            f"send {format_amount(missing)} to {shown} on chain {self._access.chain_id} "
            f"({self._place.chain.name}): a bond of {format_amount(bond)}, the rest for gas; waiting",
            address=shown,
            missing_wei=str(missing),
        )
        while await self._access.balance(address) < needed:
            await asyncio.sleep(ASK_SECONDS)
        self._tell.say("funded", "the money is there")

    async def _send(self, data: bytes, wei: int, what: str) -> None:
        from noria.execution.system_contracts import MINER_REGISTRY
        from noria.market.sending import send_transaction

        self._tell.say("sending", f"asking the chain to {what}", what=what)
        await send_transaction(self._access, self._account, MINER_REGISTRY, data, value=wei)


async def read_terms(access: ChainAccess, address: Address) -> MinerTerms:
    """Return the terms of a miner that is registered."""
    from noria.market.contracts import read_miner_terms

    terms = await read_miner_terms(access, address)
    if terms is None:
        raise CommandError(f"{checksum_address(address)} is not registered, although it was: start again")
    return terms


def _unix_seconds() -> float:
    import time

    return time.time()
