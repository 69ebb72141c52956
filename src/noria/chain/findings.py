"""What is found of something that came, and where a chain stands."""

from __future__ import annotations

from dataclasses import dataclass

from noria.consensus.validity import Accepted, Postponed, Rejected
from noria.consensus.votes import Checkpoint
from noria.primitives.types import Hash32


@dataclass(frozen=True, slots=True)
class Known:
    """There is nothing to do: it is here already."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """It is not wanted: too old, or one too many."""

    reason: str


Finding = Accepted | Rejected | Postponed | Known | Ignored
"""What is found of something that came."""


@dataclass(frozen=True, slots=True)
class ChainStatus:
    """Where a chain stands.

    Attributes
    ----------
    slot, epoch
        What it is now by the clock.
    head_root, head_slot, head_height
        The head.
    justified, finalised
        On the head's chain; the latter is the node's, which never goes back.
    waiting
        Blocks that cannot be judged yet.
    """

    slot: int
    epoch: int
    head_root: Hash32
    head_slot: int
    head_height: int
    justified: Checkpoint
    finalised: Checkpoint
    waiting: int
