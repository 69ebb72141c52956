"""Parameters of a network: each within its bounds, and together such as a chain can have."""

import dataclasses
from typing import Any

import pytest

from noria.execution.parameters import DEVNET, ChainParameters, InvalidParameters, mainnet_parameters
from noria.primitives.types import NOR, UINT256_MAX

MAINNET = mainnet_parameters(
    bond_min_wei=1_000 * NOR, bond_per_weight_wei=10**6, bond_per_capacity_wei=10**6, floor_min_wei=10**6
)


@pytest.mark.parametrize("name", ChainParameters.__slots__)
def test_every_parameter_has_bounds(name: str) -> None:
    bad_values: list[Any] = [-1, UINT256_MAX + 1, 1.0, "1", True, None]
    for value in bad_values:
        with pytest.raises(InvalidParameters, match=f"^{name}: ") as raised:
            dataclasses.replace(DEVNET, **{name: value})
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch_slots": 7}, "epoch_slots: 7 is not within 8 and"),
        ({"win_numerator": 4}, "win_numerator: 4 is above win_denominator 3"),
        ({"leak_epochs": 65}, "leak_epochs: 65 is above window_epochs 64"),
        ({"floor_min_wei": 7}, r"floor_min_wei: 7 \(7 wei\) is not within 8 and"),
        ({"miners_max": 65_537}, "miners_max: 65537 is not within 1 and 65536"),
    ],
)
def test_parameters_that_no_chain_can_have_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidParameters, match=message):
        dataclasses.replace(DEVNET, **changes)


def test_the_networks_are_those_of_the_protocol() -> None:
    assert (MAINNET.slot_seconds, MAINNET.epoch_slots, MAINNET.window_epochs) == (2, 1024, 384)
    assert (DEVNET.slot_seconds, DEVNET.epoch_slots, DEVNET.window_epochs) == (1, 16, 64)
    assert (MAINNET.leak_epochs, MAINNET.jail_epochs, MAINNET.pool_rate) == (96, 384, 65_536)
    assert (DEVNET.leak_epochs, DEVNET.jail_epochs, DEVNET.pool_rate) == (64, 32, 64)
    assert MAINNET.unbonding_epochs == 388
    assert len(MAINNET.numbers()) == len(ChainParameters.__slots__)


def test_a_devnet_bond_covers_two_fifths_of_a_grant() -> None:
    # So no miner of four passes a third of the weight: 1.4 / 4.4.
    assert DEVNET.bond_min_wei // DEVNET.bond_per_weight_wei == 8 * 10**10
