"""What the market's contracts know of jobs, places, batches and programs, and how a price is divided."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from noria.execution.system_contracts import PROGRAM_REGISTRY
from noria.primitives.types import Address, Hash32, Wei

WEI_MAX: Final = 2**96 - 1
"""Largest amount, and largest price of a fuel."""
FUEL_MAX: Final = 2**56 - 1
"""Most fuel of a batch."""
ASSIGN_AFTER_BLOCKS: Final = 2
"""Blocks after `open` from which on a job can be assigned."""
ASSIGN_WITHIN_BLOCKS: Final = 64
"""Blocks after `open` until which it can; then it can only be refunded."""
REPLICAS_FOR_CREDIT: Final = 2
_BASIS_POINTS: Final = 10_000


class JobState(IntEnum):
    """Where a job stands."""

    OPEN = 1
    """Waits for `assign`."""
    ASSIGNED = 2
    CLOSING = 3
    """Miners commit what they were allowed, until `T_CLOSE` blocks have passed."""
    ENDED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as `JobMarket` knows it.

    Attributes
    ----------
    number
        They count from 1.
    state, requester, session_key, terms
        As opened; `terms` is `noria.market.typed_data.terms_hash`.
    opened_block, closing_block
        Payload numbers; `closing_block` is 0 before `close`.
    miners
        Places asked for.
    places
        Places there are.
    replicas, public, directed
        As opened.
    max_price, royalty
        Wei per fuel; the royalty is that of the program when the job was opened.
    free
        Wei that no place may charge yet.
    share
        First cap of a place, wei.
    deadline
        Unix seconds; 0 for none.
    developer
        Who gets the royalty; the zero address where there is none.
    """

    number: int
    state: JobState
    requester: Address
    session_key: Address
    terms: Hash32
    opened_block: int
    closing_block: int
    miners: int
    places: int
    replicas: int
    public: bool
    directed: bool
    max_price: int
    free: Wei
    share: Wei
    deadline: int
    developer: Address
    royalty: int

    @property
    def earns_credit(self) -> bool:
        """Whether its batches can become weight, with the places that it has now."""
        return (
            self.public
            and not self.directed
            and self.replicas >= REPLICAS_FOR_CREDIT
            and self.places >= REPLICAS_FOR_CREDIT
        )

    def takes_commits(self, block: int, close_blocks: int) -> bool:
        """Tell whether a commit in block `block` would come in time; `close_blocks` is ``T_CLOSE``."""
        if self.state is JobState.CLOSING:
            return block <= self.closing_block + close_blocks
        return self.state is JobState.ASSIGNED


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A miner's place in a job.

    Attributes
    ----------
    price
        Wei per fuel, as the miner asked when it was drawn; without royalty.
    cap
        Most that it may charge, wei.
    committed
        Price of all batches so far, wei.
    next_index
        Of its next receipt.
    """

    job: int
    k: int
    miner: Address
    price: int
    cap: Wei
    committed: Wei
    next_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledBatch:
    """A batch that was committed.

    Attributes
    ----------
    block
        In which it was committed; ``T_CHALLENGE`` counts from there.
    paid, credited, void
        What has become of it.
    """

    miner: Address
    root: Hash32
    job: int
    k: int
    first_index: int
    count: int
    fuel: int
    weight: int
    block: int
    paid: bool
    credited: bool
    void: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedProgram:
    """A program that somebody, or the chain's specification, has claimed.

    Attributes
    ----------
    developer
        Who gets the royalty; `PROGRAM_REGISTRY` itself for a program that the specification pins.
    royalty
        Wei per fuel for jobs that are opened now.
    """

    program_id: Hash32
    developer: Address
    royalty: int

    @property
    def pinned(self) -> bool:
        """Whether the chain's specification pins it."""
        return self.developer == PROGRAM_REGISTRY


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerTerms:
    """What a registered miner offers.

    Attributes
    ----------
    capacity
        Fuel per epoch.
    ask_price
        Wei per fuel, at least.
    peer
        Its name on the network.
    bond
        Wei that count.
    jailed_until_epoch
        First epoch in which it can be hired again; 0 if it never was in jail.
    """

    miner: Address
    capacity: int
    ask_price: int
    peer: str
    bond: Wei
    jailed_until_epoch: int


@dataclass(frozen=True, slots=True)
class MarketRules:
    """A chain's parameters of the market: ``T_CHALLENGE``, ``T_CLOSE``, ``FEE``."""

    challenge_blocks: int
    close_blocks: int
    fee_basis_points: int


# ---------------------------------------------------------------- money


@dataclass(frozen=True, slots=True)
class PriceSplit:
    """How the price of a batch is divided, wei."""

    miner: Wei
    developer: Wei
    fee: Wei

    @property
    def total(self) -> Wei:
        """The price."""
        return Wei(self.miner + self.developer + self.fee)


def batch_price(fuel: int, price: int, royalty: int) -> Wei:
    """Return what a batch costs, wei.

    Parameters
    ----------
    fuel
        Of the batch.
    price, royalty
        Wei per fuel for miner and developer.
    """
    return Wei(fuel * (price + royalty))


def split_price(fuel: int, price: int, royalty: int, fee_basis_points: int) -> PriceSplit:
    """Divide the price of one batch as `Settlement` does: the fee of each part is rounded down."""
    miner, developer = fuel * price, fuel * royalty
    miner_fee = miner * fee_basis_points // _BASIS_POINTS
    developer_fee = developer * fee_basis_points // _BASIS_POINTS
    return PriceSplit(Wei(miner - miner_fee), Wei(developer - developer_fee), Wei(miner_fee + developer_fee))
