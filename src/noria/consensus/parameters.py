"""The numbers that a network chooses (protocol 9), and what the bounds on receipts are made of.

They are defined where the chain's specification is read, `noria.execution.parameters`.
"""

from __future__ import annotations

from noria.execution.parameters import (
    BASIS_POINTS,
    DEVNET,
    DEVNET_GRANT_FUEL,
    EPOCH_SLOTS_MIN,
    FLOOR_MIN_LEAST_WEI,
    WHOLE_PERCENT,
    ChainParameters,
    InvalidParameters,
    mainnet_parameters,
)
from noria.work.receipts import WeightRules

__all__ = [
    "BASIS_POINTS",
    "DEVNET",
    "DEVNET_GRANT_FUEL",
    "EPOCH_SLOTS_MIN",
    "FLOOR_MIN_LEAST_WEI",
    "WHOLE_PERCENT",
    "ChainParameters",
    "InvalidParameters",
    "mainnet_parameters",
    "weight_rules",
]


def weight_rules(parameters: ChainParameters) -> WeightRules:
    """Return the bounds on the units that carry weight (protocol 3)."""
    return WeightRules(fuel_limit_max=parameters.unit_fuel_max, input_bytes_max=parameters.input_bytes_max)
