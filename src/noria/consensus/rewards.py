"""Where protocol fees go and what a block earns.

Protocol 5.4, 7. Amounts are integers of wei; nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from noria.consensus.parameters import BASIS_POINTS, ChainParameters

VAULT_PART: Final = 1 << 14
"""At most one part in this many of the vault is paid out per epoch."""
SUBSIDY_PART: Final = 4
"""A subsidy is at most one part in this many of what users paid."""


@dataclass(frozen=True, slots=True)
class FeeSplit:
    """Where a protocol fee goes, in wei.

    Attributes
    ----------
    burned
        Half of it, rounded up.
    pool
        The rest, from which blocks are paid.
    """

    burned: int
    pool: int


def protocol_fee(parameters: ChainParameters, price_wei: int) -> int:
    """Return the protocol's part of a price, rounded down (protocol 5.4)."""
    return price_wei * parameters.fee_basis_points // BASIS_POINTS


def split_fee(fee_wei: int) -> FeeSplit:
    """Split a protocol fee: half is burned, half feeds the reward pool (protocol 7)."""
    burned = (fee_wei + 1) // 2
    return FeeSplit(burned, fee_wei - burned)


def block_reward(parameters: ChainParameters, pool_wei: int) -> int:
    """Return what a block's proposer gets of the reward pool, rounded down (protocol 7)."""
    return pool_wei // parameters.pool_rate


def subsidy(vault_wei: int, fees_of_last_epoch_wei: int) -> int:
    """Return what the genesis vault adds to the pool in an epoch (protocol 7).

    ``min(vault / 2^14, fees of the last epoch / 4)``: never more than a quarter of what users pay.
    """
    return min(vault_wei // VAULT_PART, fees_of_last_epoch_wei // SUBSIDY_PART)
