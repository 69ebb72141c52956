from __future__ import annotations

import pytest

from noria.chain.clock import TIMESTAMP_MAX, ChainClock
from noria.chain.errors import InvalidTimestamp


class Wall:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


def test_blocks_follow_the_wall_clock_and_are_never_at_the_same_second() -> None:
    wall = Wall(1_000.9)
    clock = ChainClock(wall)
    assert clock.next_timestamp(990) == 1_000
    assert clock.next_timestamp(1_000) == 1_001
    assert clock.next_timestamp(5_000) == 5_001


def test_increases_add_up() -> None:
    wall = Wall(1_000.0)
    clock = ChainClock(wall)
    assert clock.increase(60) == 60
    assert clock.increase(0) == 60
    assert clock.increase(40) == 100
    wall.seconds += 5
    assert clock.now() == 1_105
    assert clock.next_timestamp(10) == 1_105


def test_a_fixed_time_holds_for_one_block_and_the_clock_goes_on_from_there() -> None:
    wall = Wall(1_000.0)
    clock = ChainClock(wall)
    clock.set_next(9_000, parent=1_000)
    assert clock.next_timestamp(1_000) == 9_000
    assert clock.next_timestamp(1_000) == 9_000, "asking changes nothing"
    clock.sealed(9_000, requested=False)
    wall.seconds += 7
    assert clock.next_timestamp(9_000) == 9_007


def test_a_requested_time_moves_the_clock_too() -> None:
    wall = Wall(1_000.0)
    clock = ChainClock(wall)
    assert clock.next_timestamp(1_000, 8_000) == 8_000
    clock.sealed(8_000, requested=True)
    assert clock.now() == 8_000
    clock.sealed(8_001, requested=False)
    assert clock.now() == 8_000


def test_the_past_and_the_far_future_are_refused_by_name() -> None:
    clock = ChainClock(Wall(1_000.0))
    with pytest.raises(InvalidTimestamp, match="timestamp 1000 is not later than the parent block's, 1000"):
        clock.next_timestamp(1_000, 1_000)
    with pytest.raises(InvalidTimestamp, match="too far"):
        clock.set_next(TIMESTAMP_MAX + 1, parent=1)
    with pytest.raises(InvalidTimestamp, match="cannot go back by 5 s"):
        clock.increase(-5)
    with pytest.raises(InvalidTimestamp, match="too far"):
        clock.increase(TIMESTAMP_MAX)
    assert clock.offset == 0
