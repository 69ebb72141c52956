"""Blocks that cannot be judged yet: too early, or without their parent or their input. Bounded in every way.

Pure: it is told the time. What a root does not cover, such as the signature, may differ between copies of a
block, so that copies wait side by side, few of them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import Final

from noria.consensus.blocks import Block
from noria.primitives.hashes import blake3
from noria.primitives.types import Hash32

BLOCKS_MAX: Final = 512
BYTES_MAX: Final = 64 << 20
COPIES_MAX: Final = 3
"""Copies of one root."""
PER_SOURCE_MAX: Final = 128
WAIT_SECONDS: Final = 60.0


class Missing(Enum):
    """What a block waits for."""

    PARENT = "parent"
    SLOT = "slot"
    INPUT = "input"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A block as it came.

    Attributes
    ----------
    block, root
        What it is.
    data
        Its encoding.
    input
        The input that came with it.
    source
        Who sent it; empty for this node itself.
    """

    block: Block
    root: Hash32
    data: bytes
    input: bytes | None
    source: str

    @property
    def key(self) -> Hash32:
        """Name of this very copy."""
        return blake3(self.data + (self.input or b""))

    @property
    def size(self) -> int:
        """What it takes, bytes."""
        return len(self.data) + len(self.input or b"")


@dataclass(frozen=True, slots=True)
class Waiting:
    """An arrival that waits, since when and for what."""

    arrival: Arrival
    missing: Missing
    since: float


class ImportQueue:
    """Arrivals that wait, oldest first."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Hash32, Waiting] = OrderedDict()
        self._by_root: dict[Hash32, set[Hash32]] = {}
        self._children: dict[Hash32, set[Hash32]] = {}
        self._sources: dict[str, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """Return how many arrivals wait."""
        return len(self._waiting)

    @property
    def size_bytes(self) -> int:
        """What they take together."""
        return self._bytes

    def has(self, root: Hash32) -> bool:
        """Tell whether a copy of a block waits."""
        return root in self._by_root

    def waits(self, arrival: Arrival) -> bool:
        """Tell whether this very copy waits."""
        return arrival.key in self._waiting

    def has_children(self, root: Hash32) -> bool:
        """Tell whether others wait for a block."""
        return root in self._children

    def ancestor(self, root: Hash32) -> Hash32:
        """Return the first root on the way back from a waiting block that does not wait here itself."""
        seen: set[Hash32] = set()
        while (keys := self._by_root.get(root)) and root not in seen:
            seen.add(root)
            root = self._waiting[next(iter(keys))].arrival.block.header.parent_root
        return root

    def add(self, arrival: Arrival, missing: Missing, now: float) -> list[Arrival]:
        """Let an arrival wait; return what had to go to make room, itself included."""
        key = arrival.key
        if key in self._waiting:
            return []
        if len(self._by_root.get(arrival.root, ())) >= COPIES_MAX:
            return [arrival]
        if arrival.source and self._sources.get(arrival.source, 0) >= PER_SOURCE_MAX:
            return [arrival]
        self._waiting[key] = Waiting(arrival, missing, now)
        self._by_root.setdefault(arrival.root, set()).add(key)
        self._children.setdefault(arrival.block.header.parent_root, set()).add(key)
        self._sources[arrival.source] = self._sources.get(arrival.source, 0) + 1
        self._bytes += arrival.size
        gone = []
        while len(self._waiting) > BLOCKS_MAX or self._bytes > BYTES_MAX:
            gone.append(self._remove(next(iter(self._waiting))))
        return gone

    def children(self, parent: Hash32) -> list[Arrival]:
        """Take out what waits for a parent that has come."""
        return [self._remove(key) for key in list(self._children.get(parent, ()))]

    def descendants(self, root: Hash32) -> list[Arrival]:
        """Take out everything that waits below a block that will never come."""
        found, todo = [], [root]
        while todo:
            for arrival in self.children(todo.pop()):
                found.append(arrival)
                todo.append(arrival.root)
        return found

    def copies(self, root: Hash32) -> list[Arrival]:
        """Take out all copies of a block."""
        return [self._remove(key) for key in list(self._by_root.get(root, ()))]

    def due(self, slot: int) -> list[Arrival]:
        """Take out what has waited for its slot and may be tried again in this one."""
        keys = [
            key
            for key, waiting in self._waiting.items()
            if waiting.missing is not Missing.PARENT
            and waiting.missing is not Missing.INPUT
            and waiting.arrival.block.header.slot <= slot
        ]
        return [self._remove(key) for key in keys]

    def expire(self, now: float, final_slot: int) -> list[Arrival]:
        """Take out what has waited too long, or can no longer matter."""
        keys = [
            key
            for key, waiting in self._waiting.items()
            if now - waiting.since > WAIT_SECONDS or waiting.arrival.block.header.slot <= final_slot
        ]
        return [self._remove(key) for key in keys]

    def clear(self) -> list[Arrival]:
        """Take out everything."""
        return [self._remove(key) for key in list(self._waiting)]

    def _remove(self, key: Hash32) -> Arrival:
        arrival = self._waiting.pop(key).arrival
        self._bytes -= arrival.size
        _discard(self._by_root, arrival.root, key)
        _discard(self._children, arrival.block.header.parent_root, key)
        left = self._sources[arrival.source] - 1
        if left:
            self._sources[arrival.source] = left
        else:
            del self._sources[arrival.source]
        return arrival


def _discard(groups: dict[Hash32, set[Hash32]], name: Hash32, key: Hash32) -> None:
    group = groups[name]
    group.discard(key)
    if not group:
        del groups[name]
