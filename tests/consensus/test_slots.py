"""Slots: where time is cut, at every boundary."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.consensus.parameters import DEVNET
from noria.consensus.slots import (
    BeforeGenesis,
    epoch_of,
    feeds_randomness,
    first_slot,
    held_milliseconds,
    last_waiting_slot,
    slot_at,
    slot_start_seconds,
    vote_slot,
)

GENESIS = 1_700_000_000
TWO_SECONDS = replace(DEVNET, slot_seconds=2)


@pytest.mark.parametrize(
    ("milliseconds", "slot"), [(0, 0), (1, 0), (1999, 0), (2000, 1), (3999, 1), (4000, 2), (2_000_000, 1000)]
)
def test_a_slot_lasts_from_its_start_to_the_next(milliseconds: int, slot: int) -> None:
    assert slot_at(TWO_SECONDS, GENESIS, GENESIS * 1000 + milliseconds) == slot


def test_there_is_no_slot_before_genesis() -> None:
    with pytest.raises(BeforeGenesis, match="1 ms before genesis"):
        slot_at(DEVNET, GENESIS, GENESIS * 1000 - 1)


@given(st.integers(0, 2**40))
def test_a_slot_begins_when_it_begins(slot: int) -> None:
    start = slot_start_seconds(TWO_SECONDS, GENESIS, slot) * 1000
    assert slot_at(TWO_SECONDS, GENESIS, start) == slot
    assert slot == 0 or slot_at(TWO_SECONDS, GENESIS, start - 1) == slot - 1


@pytest.mark.parametrize(
    ("early", "held"), [(501, 501), (500, 0), (1, 0), (0, 0), (-5000, 0), (60_000, 60_000)]
)
def test_an_early_block_is_held(early: int, held: int) -> None:
    start = slot_start_seconds(DEVNET, GENESIS, 7) * 1000
    assert held_milliseconds(DEVNET, GENESIS, 7, start - early) == held


def test_epochs() -> None:
    assert [epoch_of(DEVNET, slot) for slot in (0, 15, 16, 31, 32)] == [0, 0, 1, 1, 2]
    assert [first_slot(DEVNET, epoch) for epoch in (0, 1, 2)] == [0, 16, 32]


def test_the_first_two_thirds_of_an_epoch_feed_randomness() -> None:
    # ⌊2·16/3⌋ = 10
    assert [slot for slot in range(32) if feeds_randomness(DEVNET, slot)] == [*range(10), *range(16, 26)]
    whole = replace(DEVNET, epoch_slots=9)
    assert [slot for slot in range(9) if feeds_randomness(whole, slot)] == list(range(6))


def test_votes_are_cast_after_a_quarter_and_wait_an_eighth() -> None:
    assert vote_slot(DEVNET, 3) == 48 + 4
    assert last_waiting_slot(DEVNET, 3) == 48 + 4 + 2
