"""Slots and epochs: how time is cut.

Protocol 4.2, 4.4, 4.7. Times are integers of Unix seconds or milliseconds.
"""

from __future__ import annotations

from typing import Final

from noria.consensus.parameters import ChainParameters

EARLY_TOLERANCE_MILLISECONDS: Final = 500
"""How long before its slot a block may come without being held (protocol 4.2)."""


class BeforeGenesis(ValueError):
    """A time before the chain's first slot."""


def slot_start_seconds(parameters: ChainParameters, genesis_seconds: int, slot: int) -> int:
    """Return when a slot starts, which is its payload's timestamp (protocol 4.1, 4.2)."""
    return genesis_seconds + slot * parameters.slot_seconds


def slot_at(parameters: ChainParameters, genesis_seconds: int, time_milliseconds: int) -> int:
    """Return the slot that a time lies in (protocol 4.2).

    Raises
    ------
    BeforeGenesis
        Where it lies before slot 0.
    """
    elapsed = time_milliseconds - genesis_seconds * 1000
    if elapsed < 0:
        raise BeforeGenesis(f"{-elapsed} ms before genesis at {genesis_seconds}")
    return elapsed // (parameters.slot_seconds * 1000)


def held_milliseconds(
    parameters: ChainParameters, genesis_seconds: int, slot: int, time_milliseconds: int
) -> int:
    """Return how long a block of a slot must be held (protocol 4.2).

    It is 0 from `EARLY_TOLERANCE_MILLISECONDS` before the slot on.
    """
    wait = slot_start_seconds(parameters, genesis_seconds, slot) * 1000 - time_milliseconds
    return wait if wait > EARLY_TOLERANCE_MILLISECONDS else 0


def epoch_of(parameters: ChainParameters, slot: int) -> int:
    """Return the epoch that a slot belongs to (protocol 4.2)."""
    return slot // parameters.epoch_slots


def first_slot(parameters: ChainParameters, epoch: int) -> int:
    """Return an epoch's first slot (protocol 4.2)."""
    return epoch * parameters.epoch_slots


def feeds_randomness(parameters: ChainParameters, slot: int) -> bool:
    """Tell whether a block of this slot goes into later randomness: the first ⌊2·EPOCH/3⌋ slots.

    Protocol 4.4.
    """
    return slot % parameters.epoch_slots < 2 * parameters.epoch_slots // 3


def vote_slot(parameters: ChainParameters, epoch: int) -> int:
    """Return the slot in which an epoch's vote is cast (protocol 4.7)."""
    return first_slot(parameters, epoch) + parameters.epoch_slots // 4


def last_waiting_slot(parameters: ChainParameters, epoch: int) -> int:
    """Return the first slot in which a voter no longer waits for pending checks (protocol 4.5)."""
    return vote_slot(parameters, epoch) + parameters.epoch_slots // 8
