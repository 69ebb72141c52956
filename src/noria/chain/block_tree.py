"""The blocks that may still matter: the final one and what descends from it, each with the state after it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from noria.chain.block_store import BlockStore, StoredBlock
from noria.chain.contract_view import ContractView
from noria.chain.slot_start import positions_in
from noria.consensus.blocks import Block
from noria.consensus.certificate import Certificate
from noria.consensus.finality import FinalityState
from noria.consensus.fork_choice import (
    BlockNode,
    UnknownAncestor,
    genesis_node,
    line,
    snapshot_block,
)
from noria.consensus.genesis import genesis_states
from noria.consensus.lottery import tie_break
from noria.consensus.payloads import PayloadHeader
from noria.consensus.slots import first_slot
from noria.consensus.validity import BlockState, ChainRules
from noria.consensus.votes import Checkpoint
from noria.consensus.weight import Snapshot, take_snapshot
from noria.primitives.types import Address, Hash32

SNAPSHOTS_MAX: Final = 64
VIEWS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class KnownBlock:
    """A block that has been executed.

    Attributes
    ----------
    node
        What fork choice knows of it.
    state
        What consensus carries on from it.
    proposer
        Who made it; zero for genesis.
    certificate
        What it shows of its proposer's work.
    """

    node: BlockNode
    state: BlockState
    proposer: Address
    certificate: Certificate | None

    @property
    def root(self) -> Hash32:
        """The block's root."""
        return self.node.root

    @property
    def payload_hash(self) -> Hash32:
        """The engine's name for it."""
        return self.state.payload.block_hash


class BlockView:
    """A known block as the parent of others: `noria.consensus.validity.ParentView` on the engine's state."""

    def __init__(self, tree: BlockTree, known: KnownBlock, state: ContractView) -> None:
        self._tree, self._known, self._state = tree, known, state

    @property
    def block(self) -> BlockState:
        """Return what consensus carries on from it."""
        return self._known.state

    @property
    def state(self) -> ContractView:
        """Return the contracts' state after it."""
        return self._state

    def snapshot(self, epoch: int) -> Snapshot | None:
        """Return an epoch's snapshot on this chain."""
        return self._tree.snapshot(self._known.root, epoch)


class BlockTree:
    """Known blocks by root. The event loop changes it; any thread may read through its views.

    Parameters
    ----------
    rules
        The chain's.
    grants
        Genesis weights.
    genesis
        The genesis payload's header.
    store
        Where older blocks are.
    contracts
        Makes the view of the state after a payload.

    Attributes
    ----------
    final
        The highest final checkpoint.
    """

    def __init__(
        self,
        rules: ChainRules,
        grants: Mapping[Address, int],
        genesis: PayloadHeader,
        store: BlockStore,
        contracts: Callable[[Hash32], ContractView],
    ) -> None:
        self._rules, self._grants, self._store, self._contracts = rules, grants, store, contracts
        root = rules.genesis_root
        randomness, finality = genesis_states(root)
        state = BlockState(root, 0, 0, genesis, randomness, finality)
        self.genesis = KnownBlock(genesis_node(root), state, Address(bytes(20)), None)
        self.final = finality.finalised
        self._blocks: dict[Hash32, KnownBlock] = {root: self.genesis}
        self.nodes: dict[Hash32, BlockNode] = {root: self.genesis.node}
        self._views: OrderedDict[Hash32, BlockView] = OrderedDict()
        self._snapshots: OrderedDict[tuple[Hash32, int], Snapshot] = OrderedDict()

    def __contains__(self, root: Hash32) -> bool:
        """Tell whether a block is here."""
        return root in self._blocks

    def __len__(self) -> int:
        """Return how many blocks are here."""
        return len(self._blocks)

    def __iter__(self) -> Iterator[KnownBlock]:
        """Iterate over the blocks that are here."""
        return iter(list(self._blocks.values()))

    def get(self, root: Hash32) -> KnownBlock | None:
        """Return a block that is here."""
        return self._blocks.get(root)

    def view(self, root: Hash32) -> BlockView | None:
        """Return a block as a parent, `None` if it is not here."""
        known = self._blocks.get(root)
        if known is None:
            return None
        view = self._views.get(root)
        if view is None:
            view = BlockView(self, known, self._contracts(known.payload_hash))
            self._views[root] = view
            while len(self._views) > VIEWS_MAX:
                self._views.popitem(last=False)
        return view

    def add(self, block: Block, state: BlockState) -> KnownBlock:
        """Add an executed block whose parent is here."""
        header = block.header
        node = BlockNode(
            root=state.root,
            parent_root=header.parent_root,
            slot=state.slot,
            height=state.height,
            tie=tie_break(header.vrf_proof),
            justified=state.finality.justified,
            finalised=state.finality.finalised,
        )
        known = KnownBlock(node, state, header.proposer, block.certificate)
        self._blocks[node.root] = known
        self.nodes[node.root] = node
        return known

    def take_back(self, roots: Iterable[Hash32]) -> None:
        """Forget blocks that were just added, because they could not be stored."""
        for root in roots:
            self._blocks.pop(root, None)
            self.nodes.pop(root, None)
            self._views.pop(root, None)

    def restore(self, block: Block, stored: StoredBlock, payload: PayloadHeader) -> KnownBlock:
        """Add a block from the store: what consensus carries on is read from the contracts.

        Blocks come in order, the final one first.
        """
        view = self._contracts(stored.payload)
        empty = FinalityState(self.final, self.final)
        state = BlockState(stored.root, stored.slot, stored.height, payload, view.randomness(), empty)
        known = self.add(block, state)
        finality = view.finality(
            lambda epoch, indices: positions_in(self._needed(known.root, epoch), view, indices)
        )
        node = replace(known.node, justified=finality.justified, finalised=finality.finalised)
        known = replace(known, node=node, state=replace(state, finality=finality))
        self._blocks[stored.root] = known
        self.nodes[stored.root] = node
        return known

    def begin_at(self, final: Checkpoint) -> None:
        """Let the tree begin at a final block that has been restored."""
        if final.root != self.genesis.root:
            del self._blocks[self.genesis.root], self.nodes[self.genesis.root]
        self.final = final

    def dropped_by(self, final: Checkpoint) -> list[Hash32]:
        """Return the blocks that will never be final once a checkpoint is."""
        stay = self._descendants(final.root) | {node.root for node in line(self.nodes, final.root)}
        return [root for root in self._blocks if root not in stay]

    def finalise(self, final: Checkpoint) -> None:
        """Move the final checkpoint; forget what is below it and what does not descend from it."""
        stay = self._descendants(final.root)
        for root in [root for root in self._blocks if root not in stay]:
            del self._blocks[root]
            self._views.pop(root, None)
        # Threads walk the old mapping to its end.
        self.nodes = {root: known.node for root, known in self._blocks.items()}
        self.final = final

    def _descendants(self, root: Hash32) -> set[Hash32]:
        """Return a block and what descends from it, in one pass over all."""
        found = {root}
        for node in sorted(self.nodes.values(), key=lambda node: node.height):
            if node.parent_root in found:
                found.add(node.root)
        return found

    def snapshot(self, root: Hash32, epoch: int) -> Snapshot | None:
        """Return an epoch's snapshot on the chain that ends in a block (protocol 4.3).

        `None` where the chain has not come as far as the snapshot's block.
        """
        where = self._snapshot_payload(root, epoch)
        if where is None:
            return None
        key = (where, epoch)
        found = self._snapshots.get(key)
        if found is None:
            found = take_snapshot(self._rules.parameters, self._contracts(where), self._grants, epoch)
            self._snapshots[key] = found
            while len(self._snapshots) > SNAPSHOTS_MAX:
                self._snapshots.popitem(last=False)
        return found

    def _needed(self, root: Hash32, epoch: int) -> Snapshot:
        snapshot = self.snapshot(root, epoch)
        if snapshot is None:
            raise UnknownAncestor(f"the snapshot of epoch {epoch} below 0x{root.hex()} is not there")
        return snapshot

    def _snapshot_payload(self, root: Hash32, epoch: int) -> Hash32 | None:
        """Return the payload after which an epoch's snapshot is taken."""
        parameters = self._rules.parameters
        if epoch <= 1:
            return self.genesis.payload_hash
        try:
            known = self._blocks.get(snapshot_block(parameters, self.nodes, root, epoch))
        except UnknownAncestor:
            known = None
        if known is not None:
            return known.payload_hash
        if root not in self._blocks:
            return None
        # It lies below the final block, where there is only one chain.
        stored = self._store.last_final_before(first_slot(parameters, epoch - 1))
        return self.genesis.payload_hash if stored is None else stored.payload
