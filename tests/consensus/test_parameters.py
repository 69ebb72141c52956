"""Parameters: the two networks are those of protocol 9, and no impossible network can be described."""

from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import pytest

from noria.consensus.parameters import (
    DEVNET,
    DEVNET_GRANT_FUEL,
    ChainParameters,
    InvalidParameters,
    mainnet_parameters,
)
from noria.consensus.weight import bond_cover
from noria.primitives.types import NOR

MAINNET = mainnet_parameters(
    bond_min_wei=NOR, bond_per_weight_wei=1, bond_per_capacity_wei=1, floor_min_wei=8
)


@pytest.mark.parametrize(
    ("name", "mainnet", "devnet"),
    [
        ("slot_seconds", 2, 1),
        ("epoch_slots", 1024, 16),
        ("window_epochs", 384, 64),
        ("leak_epochs", 96, 64),
        ("grant_epochs", 4096, 0),
        ("unit_fuel_max", 2 * 10**10, 4 * 10**9),
        ("input_bytes_max", 262_144, 262_144),
        ("verify_share_percent", 10, 5),
        ("memory_bytes_max", 2**30, 2**30),
        ("stack_max", 65_535, 65_535),
        ("table_max", 10**6, 10**6),
        ("program_bytes_max", 4 * 2**20, 4 * 2**20),
        ("output_bytes_max", 64 * 2**20, 64 * 2**20),
        ("challenge_blocks", 14_400, 4),
        ("data_blocks", 7_200, 64),
        ("audit_blocks", 600, 8),
        ("close_blocks", 1_200, 4),
        ("court_blocks", 600, 16),
        ("cases_max", 8, 4),
        ("jail_epochs", 384, 32),
        ("fee_basis_points", 500, 500),
        ("pool_rate", 65_536, 64),
        ("miners_max", 65_536, 65_536),
        ("unbonding_epochs", 388, 68),
    ],
)
def test_the_networks_are_those_of_the_protocol(name: str, mainnet: int, devnet: int) -> None:
    assert getattr(MAINNET, name) == mainnet
    assert getattr(DEVNET, name) == devnet


def test_expected_winners_per_slot() -> None:
    assert Fraction(MAINNET.win_numerator, MAINNET.win_denominator) == Fraction(1, 3)
    assert Fraction(DEVNET.win_numerator, DEVNET.win_denominator) == Fraction(2, 3)


def test_no_miner_of_four_on_a_devnet_passes_a_third() -> None:
    bonded = bond_cover(DEVNET, DEVNET.bond_min_wei)
    assert bonded == DEVNET_GRANT_FUEL * 4 // 10
    assert 3 * (DEVNET_GRANT_FUEL + bonded) < 4 * DEVNET_GRANT_FUEL + bonded


@pytest.mark.parametrize("name", [field.name for field in fields(ChainParameters)])
@pytest.mark.parametrize("value", [-1, 2**300, True, 1.0, "1", None])
def test_each_value_is_bounded(name: str, value: Any) -> None:
    with pytest.raises(InvalidParameters, match=f"^{name}: ") as caught:
        replace(DEVNET, **{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"win_numerator": 4, "win_denominator": 3}, "more than one winner"),
        ({"leak_epochs": 65}, "leak_epochs: 65 is above window_epochs 64"),
        ({"epoch_slots": 7}, "epoch_slots: 7 is not within 8"),
        ({"floor_min_wei": 7}, "floor_min_wei: 7 .* is not within 8"),
        ({"slot_seconds": 0}, "slot_seconds: 0 is not within 1"),
    ],
)
def test_contradictions_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameters, match=message):
        replace(DEVNET, **change)


def test_every_value_is_in_the_genesis_hash() -> None:
    assert DEVNET.numbers() == tuple(getattr(DEVNET, field.name) for field in fields(ChainParameters))
