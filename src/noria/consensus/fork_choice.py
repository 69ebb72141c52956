"""Which block is the head: a function of the blocks one knows, whatever order they came in.

Protocol 4.5, 4.7.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from noria.consensus.parameters import ChainParameters
from noria.consensus.slots import first_slot
from noria.consensus.votes import Checkpoint
from noria.primitives.types import ZERO_HASH, Hash32

KNOWN_EPOCHS: Final = 2
"""So old must a justified checkpoint be before chains that do not know it give way (protocol 4.7)."""


class UnknownAncestor(LookupError):
    """A block whose ancestry does not reach as far back as asked within the blocks one knows."""


@dataclass(frozen=True, slots=True)
class BlockNode:
    """What fork choice knows of a valid block.

    Parameters
    ----------
    root, parent_root, slot
        As in its header.
    height
        Blocks since genesis.
    tie
        `noria.consensus.lottery.tie_break` of its proof.
    justified, finalised
        The highest of each after the block, as its own chain sees it.
    """

    root: Hash32
    parent_root: Hash32
    slot: int
    height: int
    tie: Hash32
    justified: Checkpoint
    finalised: Checkpoint


Blocks = Mapping[Hash32, BlockNode]
"""Valid blocks by root: the final one, and all that are known to descend from it."""


def genesis_node(genesis_root: Hash32) -> BlockNode:
    """Return genesis, the block of height 0 (protocol 4.7)."""
    checkpoint = Checkpoint(0, genesis_root)
    return BlockNode(genesis_root, ZERO_HASH, 0, 0, ZERO_HASH, checkpoint, checkpoint)


def line(blocks: Blocks, root: Hash32) -> Iterator[BlockNode]:
    """Walk from a block towards genesis, as far as its ancestors are known (protocol 4.7)."""
    node = blocks.get(root)
    while node is not None:
        yield node
        parent = blocks.get(node.parent_root)
        # Heights fall along every chain: whatever the mapping holds, the walk ends.
        node = parent if parent is not None and parent.height < node.height else None


def descends(blocks: Blocks, root: Hash32, ancestor: Hash32) -> bool:
    """Tell whether a block is, or descends from, another (protocol 4.7); unknown blocks do from none."""
    goal = blocks.get(ancestor)
    if goal is None:
        return False
    return any(
        node is goal for node in takewhile(lambda node: node.height >= goal.height, line(blocks, root))
    )


def checkpoint(parameters: ChainParameters, blocks: Blocks, head: Hash32, epoch: int) -> Checkpoint:
    """Return an epoch's checkpoint on the chain that ends in a block (protocol 4.7).

    Raises
    ------
    UnknownAncestor
        Where it lies before the blocks that are known.
    """
    # No block is older than genesis, which is the checkpoint of epoch 0.
    boundary = max(first_slot(parameters, epoch), 1)
    for node in line(blocks, head):
        if node.slot < boundary:
            return Checkpoint(epoch, node.root)
    raise UnknownAncestor(f"the checkpoint of epoch {epoch} below 0x{head.hex()} is not known")


def final_checkpoint(blocks: Blocks, current: Checkpoint) -> Checkpoint:
    """Return the highest final checkpoint that any known chain through the current one has.

    Protocol 4.5, 4.7.

    Refuted blocks count here: finality is what makes them viable again. A rival final checkpoint, which takes
    a third of the weight to make, never replaces the one that a node holds.
    """
    best = current
    for node in blocks.values():
        found = node.finalised
        if (found.epoch, best.root) > (best.epoch, found.root) and descends(blocks, found.root, current.root):
            best = found
    return best


def unviable(
    blocks: Blocks, final: Checkpoint, refuted: Collection[Hash32], pending: Collection[Hash32] = ()
) -> frozenset[Hash32]:
    """Return the blocks that can be neither head nor voted for (protocol 4.5, 6).

    Parameters
    ----------
    blocks
        What is known.
    final
        The node's final checkpoint.
    refuted
        Blocks whose certificate was found to be a lie. Those at or below the final checkpoint are valid for
        ever.
    pending
        Blocks that must wait for something, such as a verdict of one's own.
    """
    settled = {node.root for node in line(blocks, final.root)}
    found: set[Hash32] = set()
    for node in sorted(blocks.values(), key=lambda node: node.height):
        bad = node.root in refuted or node.root in pending or node.parent_root in found
        if bad and node.root not in settled:
            found.add(node.root)
    return frozenset(found)


def highest_justified(blocks: Blocks, final: Checkpoint, out: Collection[Hash32]) -> Checkpoint:
    """Return the highest justified checkpoint known (protocol 4.7).

    Parameters
    ----------
    blocks
        What is known.
    final
        The node's final checkpoint, below which nothing is chosen.
    out
        Blocks that are not viable; what only they say does not count.
    """
    best = final
    for node in blocks.values():
        found = node.justified
        if (
            node.root not in out
            and (found.epoch, best.root) > (best.epoch, found.root)
            and descends(blocks, found.root, final.root)
        ):
            best = found
    return best


def choose_head(
    blocks: Blocks,
    final: Checkpoint,
    epoch: int,
    refuted: Collection[Hash32] = (),
    pending: Collection[Hash32] = (),
) -> Hash32:
    """Return the head (protocol 4.5, 4.7).

    Of the chains through the highest justified checkpoint those whose own is not older than any that is known
    and at least `KNOWN_EPOCHS` old; of these the one with the most blocks; where chains are equally long, at
    the first block in which they differ the lower tie, then the lower root.

    Who has voted from a checkpoint must not vote from an older one on a chain that does not know it. Such a
    chain is given up before enough voters are silent on it for long; but not at once, or a block that is the
    first to include some votes would take back every longer chain that is about to include them.

    Parameters
    ----------
    blocks, final, refuted, pending
        As in `unviable`. The final checkpoint's block must be known.
    epoch
        The present one.

    Raises
    ------
    UnknownAncestor
        Where the final block is not known.
    """
    if final.root not in blocks:
        raise UnknownAncestor(
            f"the final block 0x{final.root.hex()} is not among the {len(blocks)} known ones"
        )
    out = unviable(blocks, final, refuted, pending)
    children: dict[Hash32, list[BlockNode]] = {final.root: []}
    above = [blocks[final.root]]
    for node in sorted(blocks.values(), key=lambda node: node.height):
        parent = blocks.get(node.parent_root)
        if parent and parent.root in children and parent.height < node.height and node.root not in out:
            children[parent.root].append(node)
            children[node.root] = []
            above.append(node)
    # Also where it is known beside the highest justified checkpoint: who has voted from it is bound by it.
    known = (node.justified.epoch for node in above if node.justified.epoch + KNOWN_EPOCHS <= epoch)
    newest = max(known, default=0)
    reach: dict[Hash32, tuple[int, int]] = {}
    for node in reversed(above):
        own = min(node.justified.epoch, newest), node.height
        reach[node.root] = max([own, *(reach[child.root] for child in children[node.root])])
    head = highest_justified(blocks, final, out).root
    while candidates := children.get(head):
        most = max(reach[node.root] for node in candidates)
        tied = [node for node in candidates if reach[node.root] == most]
        head = min(tied, key=lambda node: (node.tie, node.root)).root
    return head


def snapshot_block(parameters: ChainParameters, blocks: Blocks, head: Hash32, epoch: int) -> Hash32:
    """Return the block whose state an epoch's snapshot is taken from, on a head's chain (protocol 4.3).

    The last block of epoch ``epoch - 2``, or its last ancestor if slots were empty; genesis for 0 and 1.

    Raises
    ------
    UnknownAncestor
        Where it lies before the blocks that are known.
    """
    return checkpoint(parameters, blocks, head, max(epoch - 1, 0)).root
