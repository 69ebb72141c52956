"""The Merkle-sum tree of protocol 3: a Merkle tree whose nodes also carry sums of fuel and of weight.

``node = K("noria/sum/1" ‖ left ‖ left.fuel ‖ left.weight ‖ right ‖ right.fuel ‖ right.weight)``, sums as
64-bit big-endian integers. Nodes are paired from the left, level by level; an odd one at the end of a level
is promoted unchanged. So position and count alone fix the shape of a path, and a number below the root's
weight names exactly one leaf. `fold` is all that a verifier needs; it trusts nothing but the root that it
then compares.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from noria.primitives.hashes import keccak256
from noria.primitives.types import HASH_BYTES, UINT64_MAX, Hash32

NODE_TAG: Final = b"noria/sum/1"
NODE_BYTES: Final = 48
"""A node as it is hashed, stored and sent: hash (32) ‖ fuel (8) ‖ weight (8)."""
LEAVES_MAX: Final = 4096
"""Most leaves of a tree."""
PATH_NODES_MAX: Final = (LEAVES_MAX - 1).bit_length()
"""Most siblings on a path."""

_NODE: Final = struct.Struct(">32sQQ")
_SUMS: Final = struct.Struct(">32xQQ")
_PAIR_BYTES: Final = 2 * NODE_BYTES


class SumTreeError(ValueError):
    """Something that is no tree, or no path of one; base of the errors below."""


class InvalidNode(SumTreeError):
    """A node that is not 48 bytes, or whose hash or sums do not fit their fields."""


class WrongLeafCount(SumTreeError):
    """No leaf at all, or more than `LEAVES_MAX`."""


class SumOverflow(SumTreeError):
    """Sums that do not fit 64 bits."""


class PositionOutOfRange(SumTreeError):
    """A leaf's position that is not below the count of leaves."""


class OffsetOutOfRange(SumTreeError):
    """A weight offset that is not below the total weight."""


class WrongPathLength(SumTreeError):
    """More or fewer siblings than position and count call for."""


@dataclass(frozen=True, slots=True)
class SumNode:
    """A node: its hash and the sums over the leaves below it.

    Parameters
    ----------
    hash
        32 bytes.
    fuel, weight
        From 0 to 2^64 - 1.

    Raises
    ------
    InvalidNode
        Where one does not fit its field.
    """

    hash: Hash32
    fuel: int
    weight: int

    def __post_init__(self) -> None:
        if len(self.hash) != HASH_BYTES:
            raise InvalidNode(f"a node's hash has {HASH_BYTES} bytes, not {len(self.hash)}")
        if not (0 <= self.fuel <= UINT64_MAX and 0 <= self.weight <= UINT64_MAX):
            raise InvalidNode(f"a node's sums have 64 bits, unlike fuel {self.fuel}, weight {self.weight}")

    def encode(self) -> bytes:
        """Return the node's `NODE_BYTES` bytes."""
        return _NODE.pack(self.hash, self.fuel, self.weight)


@dataclass(frozen=True, slots=True)
class Folded:
    """What a leaf and its path amount to.

    Attributes
    ----------
    root
        The root to which they belong; who verifies compares it with the one that he trusts.
    fuel_before, weight_before
        Sums over the leaves left of this one: its fuel and weight begin here.
    """

    root: SumNode
    fuel_before: int
    weight_before: int


@dataclass(frozen=True, slots=True)
class SumTree:
    """A tree in memory, made by `build`.

    Attributes
    ----------
    count
        Number of leaves.
    root
        Its hash, and the sums over all leaves.
    """

    count: int
    root: SumNode
    _levels: tuple[bytes, ...] = field(repr=False)
    """From the leaves to the root, each the concatenation of its nodes."""

    @classmethod
    def build(cls, leaves: bytes) -> SumTree:
        """Build a tree.

        Parameters
        ----------
        leaves
            The leaves' encodings, `NODE_BYTES` each, one after the other.

        Returns
        -------
        SumTree

        Raises
        ------
        InvalidNode
            Where that is not a whole number of nodes.
        WrongLeafCount
            Where there is none, or more than `LEAVES_MAX`.
        SumOverflow
            Where fuel or weight add up to 2^64 or more.
        """
        count, rest = divmod(len(leaves), NODE_BYTES)
        if rest:
            raise InvalidNode(f"{len(leaves)} bytes are no whole number of nodes of {NODE_BYTES} bytes")
        _require_count(count)
        sums = list(_SUMS.iter_unpack(leaves))
        for name, total in (("fuel", sum(f for f, _ in sums)), ("weight", sum(w for _, w in sums))):
            # No sum inside the tree exceeds the root's.
            if total > UINT64_MAX:
                raise SumOverflow(f"the leaves' {name} adds up to {total}, above {UINT64_MAX}")
        levels = [leaves]
        while len(levels[-1]) > NODE_BYTES:
            levels.append(_parents(levels[-1]))
        return cls(count, _decode(levels[-1]), tuple(levels))

    def path(self, position: int) -> tuple[SumNode, ...]:
        """Return the siblings that prove a leaf, from the leaves upwards.

        Parameters
        ----------
        position
            The leaf's place from the left, from 0.

        Returns
        -------
        tuple of SumNode
            Levels at which the leaf's ancestor is promoted have none.

        Raises
        ------
        PositionOutOfRange
            Where there is no such leaf.
        """
        _require_position(position, self.count)
        siblings = []
        for level in self._levels[:-1]:
            start = (position ^ 1) * NODE_BYTES
            if start < len(level):
                siblings.append(_decode(level[start : start + NODE_BYTES]))
            position >>= 1
        return tuple(siblings)

    def position_at(self, weight_offset: int) -> int:
        """Return the position of the one leaf that a weight offset names.

        At each node: left if ``x < left.weight``, else right with ``x - left.weight``.

        Parameters
        ----------
        weight_offset
            From 0 to the root's weight, exclusive.

        Returns
        -------
        int

        Raises
        ------
        OffsetOutOfRange
            Where it is not; in a tree without weight every offset is.
        """
        if not 0 <= weight_offset < self.root.weight:
            raise OffsetOutOfRange(
                f"weight offset {weight_offset} is not in [0, {self.root.weight}), the tree's weight"
            )
        position, rest = 0, weight_offset
        for level in reversed(self._levels[:-1]):
            position *= 2
            start = position * NODE_BYTES
            if start + NODE_BYTES == len(level):
                continue  # Promoted: an only child.
            left_weight = int.from_bytes(level[start + 40 : start + NODE_BYTES], "big")
            if rest >= left_weight:
                rest -= left_weight
                position += 1
        return position


def node_hash(left: SumNode, right: SumNode) -> Hash32:
    """Hash of the node above two nodes (protocol 3)."""
    return keccak256(NODE_TAG + left.encode() + right.encode())


def join(left: SumNode, right: SumNode) -> SumNode:
    """Return the node above two nodes.

    Raises
    ------
    SumOverflow
        Where a sum does not fit 64 bits.
    """
    fuel, weight = left.fuel + right.fuel, left.weight + right.weight
    if fuel > UINT64_MAX or weight > UINT64_MAX:
        raise SumOverflow(f"a node's sums fuel {fuel}, weight {weight} do not fit 64 bits")
    return SumNode(node_hash(left, right), fuel, weight)


def path_length(position: int, count: int) -> int:
    """Return how many siblings the path of a leaf has.

    Parameters
    ----------
    position
        The leaf's place from the left, from 0.
    count
        Number of leaves of the tree.

    Returns
    -------
    int

    Raises
    ------
    WrongLeafCount, PositionOutOfRange
        Where there is no such tree or no such leaf.

    Examples
    --------
    >>> [path_length(position, 5) for position in range(5)]
    [3, 3, 3, 3, 1]
    """
    _require_count(count)
    _require_position(position, count)
    length = 0
    while count > 1:
        length += position ^ 1 < count
        position, count = position >> 1, (count + 1) >> 1
    return length


def fold(leaf: SumNode, siblings: Sequence[SumNode], position: int, count: int) -> Folded:
    """Walk from a leaf to the root.

    Parameters
    ----------
    leaf
        The leaf, its hash recomputed by who verifies.
    siblings
        Its path, from the leaves upwards.
    position
        The leaf's place from the left, from 0.
    count
        Number of leaves of the tree.

    Returns
    -------
    Folded

    Raises
    ------
    WrongLeafCount, PositionOutOfRange
        Where there is no such tree or no such leaf.
    WrongPathLength
        Where the path's length is not the one that position and count fix.
    SumOverflow
        Where a sum on the way does not fit 64 bits.
    """
    expected = path_length(position, count)
    if len(siblings) != expected:
        raise WrongPathLength(
            f"position {position} of {count} has a path of {expected} nodes, not {len(siblings)}"
        )
    node, fuel_before, weight_before = leaf, 0, 0
    rest = iter(siblings)
    while count > 1:
        if position & 1:
            sibling = next(rest)
            fuel_before += sibling.fuel
            weight_before += sibling.weight
            node = join(sibling, node)
        elif position + 1 < count:
            node = join(node, next(rest))
        position, count = position >> 1, (count + 1) >> 1
    return Folded(node, fuel_before, weight_before)


def encode_path(siblings: Sequence[SumNode]) -> bytes:
    """Return a path's nodes one after the other."""
    return b"".join(node.encode() for node in siblings)


def decode_path(data: bytes) -> tuple[SumNode, ...]:
    """Read a path from its nodes one after the other.

    Raises
    ------
    InvalidNode
        Where that is not a whole number of nodes.
    WrongPathLength
        Where there are more than any path has.
    """
    count, rest = divmod(len(data), NODE_BYTES)
    if rest:
        raise InvalidNode(f"{len(data)} bytes are no whole number of nodes of {NODE_BYTES} bytes")
    if count > PATH_NODES_MAX:
        raise WrongPathLength(f"a path has at most {PATH_NODES_MAX} nodes, not {count}")
    return tuple(SumNode(Hash32(hash_), fuel, weight) for hash_, fuel, weight in _NODE.iter_unpack(data))


def _parents(level: bytes) -> bytes:
    """Return the level above: pairs are joined, an odd node at the end is promoted."""
    paired = len(level) // _PAIR_BYTES * _PAIR_BYTES
    sums = _SUMS.iter_unpack(level[:paired])
    # The same iterator twice takes the nodes in pairs; their own bytes are what is hashed.
    parents = [
        _NODE.pack(keccak256(NODE_TAG + level[start : start + _PAIR_BYTES]), f0 + f1, w0 + w1)
        for start, (f0, w0), (f1, w1) in zip(range(0, paired, _PAIR_BYTES), sums, sums, strict=True)
    ]
    parents.append(level[paired:])
    return b"".join(parents)


def _decode(data: bytes) -> SumNode:
    hash_, fuel, weight = _NODE.unpack(data)
    return SumNode(Hash32(hash_), fuel, weight)


def _require_count(count: int) -> None:
    if not 1 <= count <= LEAVES_MAX:
        raise WrongLeafCount(f"a tree has 1 to {LEAVES_MAX} leaves, not {count}")


def _require_position(position: int, count: int) -> None:
    if not 0 <= position < count:
        raise PositionOutOfRange(f"position {position} is not in [0, {count}), the tree's leaves")
