"""What a chain of drawn blocks tells: its head as consensus sees it, what is justified and what is final."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from noria.consensus.votes import Checkpoint
from noria.primitives.subscriptions import Subscription, Topic
from noria.primitives.types import Hash32

CAPACITY: Final = 1_024
"""Events kept for a subscriber that does not read."""


@dataclass(frozen=True, slots=True)
class NewHead:
    """The head has moved.

    Attributes
    ----------
    root, slot, height
        The new head; height counts blocks since genesis.
    payload_hash
        The engine's name for it.
    depth
        Blocks of the old head's chain that are not on the new one's: 0 unless the chain reorganised.
    """

    root: Hash32
    slot: int
    height: int
    payload_hash: Hash32
    depth: int


@dataclass(frozen=True, slots=True)
class NewFinality:
    """Something has become justified or final on the head's chain."""

    justified: Checkpoint
    finalised: Checkpoint


class ConsensusEvents:
    """Subscriptions to what happens on the chain."""

    __slots__ = ("finality", "heads")

    def __init__(self) -> None:
        self.heads: Topic[NewHead] = Topic()
        self.finality: Topic[NewFinality] = Topic()

    def subscribe_heads(self, capacity: int = CAPACITY) -> Subscription[NewHead]:
        """Subscribe to every change of the head from now on."""
        return self.heads.subscribe(capacity)

    def subscribe_finality(self, capacity: int = CAPACITY) -> Subscription[NewFinality]:
        """Subscribe to every change of justified and final checkpoint from now on."""
        return self.finality.subscribe(capacity)

    def close(self, reason: str = "chain-stopped") -> None:
        """End every subscription."""
        self.heads.close(reason)
        self.finality.close(reason)
