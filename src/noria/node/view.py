"""What a node tells of itself, of consensus and of blocks: plain data for the RPC, metrics and health.

Slots, epochs, heights, fuel and seconds are numbers; hashes and addresses are ``0x`` text; wei are
decimal text.
"""

from __future__ import annotations

import time
from typing import Any, Final

from noria.chain.block_store import StoredBlock
from noria.chain.block_tree import BlockView
from noria.chain.certificates import CheckState
from noria.chain.consensus_events import NewFinality
from noria.consensus.blocks import Block, decode_block
from noria.consensus.slots import epoch_of
from noria.consensus.votes import Checkpoint
from noria.consensus.weight import Snapshot
from noria.node import market_view
from noria.node.full import FullNode
from noria.primitives.hexes import format_data
from noria.primitives.subscriptions import Subscription
from noria.primitives.types import Address, Hash32

BEHIND_MAX: Final = 4
"""Blocks by which a node may be behind its peers and be well."""
FINALITY_LAG_MAX: Final = 4
"""Epochs from the last final checkpoint to now, above which a node is not well."""


class NodeView:
    """A running node, to be read. Methods that read the disk say so; they may be called in any thread."""

    def __init__(self, node: FullNode) -> None:
        self._node = node

    # ------------------------------------------------------------ where it stands

    def status(self) -> dict[str, Any]:
        """Tell where the node stands."""
        node, at = self._node, self._node.chain.status
        return {
            "chain": node.spec.name,
            "chainId": node.spec.chain_id,
            "genesisRoot": format_data(node.chain.rules.genesis_root),
            "version": node.version,
            "peerId": node.transport.peer_id,
            "addresses": node.transport.addresses,
            "slot": at.slot,
            "epoch": at.epoch,
            "headRoot": format_data(at.head_root),
            "headSlot": at.head_slot,
            "headHeight": at.head_height,
            "headHash": format_data(node.chain.head.payload_hash),
            "justified": _checkpoint(at.justified),
            "finalised": _checkpoint(at.finalised),
            "peers": len(node.transport.peers()),
            "syncing": node.sync.is_behind,
            "syncGoalHeight": node.sync.goal,
            "waitingBlocks": at.waiting,
            "clockAheadSeconds": node.sync.clocks.ahead_seconds,
            "miner": self.own_miner(),
        }

    def slot(self) -> int:
        """Return the slot that it is now by the clock."""
        return self._node.chain.slot

    def epoch(self) -> int:
        """Return the epoch that it is now by the clock."""
        return self._node.chain.status.epoch

    def finality(self) -> dict[str, Any]:
        """Tell what is justified and final, and how many epochs that is behind the clock."""
        at = self._node.chain.status
        return {
            "epoch": at.epoch,
            "justified": _checkpoint(at.justified),
            "finalised": _checkpoint(at.finalised),
            "lagEpochs": max(0, at.epoch - at.finalised.epoch),
        }

    def peers(self) -> list[dict[str, Any]]:
        """Tell who is connected, and where they have said that they stand."""
        found = []
        for peer in self._node.transport.peers():
            at = self._node.sync.peers.get(peer.peer)
            found.append(
                {
                    "peerId": peer.peer,
                    "address": peer.address,
                    "direction": "outbound" if peer.outbound else "inbound",
                    "agent": peer.agent,
                    "score": round(peer.score, 3),
                    "roundTripSeconds": peer.round_trip_seconds,
                    "connectedSeconds": round(peer.connected_seconds, 1),
                    "headSlot": at.head_slot if at else None,
                    "headRoot": format_data(at.head_root) if at else None,
                    "finalisedEpoch": at.final_epoch if at else None,
                }
            )
        return found

    def peer_count(self) -> int:
        """Return how many peers are connected."""
        return len(self._node.transport.peers())

    def own_miner(self) -> dict[str, Any] | None:
        """Tell what this node's miner has done since the start; `None` if it mines for nobody."""
        miner = self._node.miner
        if miner is None:
            return None
        status = miner.status
        return {
            "address": format_data(status.address),
            "blocks": status.blocks,
            "votes": status.votes,
            "slotsLost": status.lost,
            "lastReason": status.last_reason,
        }

    # ------------------------------------------------------------ weights and miners

    def weights(self, epoch: int | None = None) -> dict[str, Any] | None:
        """Tell who may win and vote in an epoch, and with what weight; `None` if that is not known."""
        view = self._head()
        epoch = self.epoch() if epoch is None else epoch
        snapshot = None if view is None else view.snapshot(epoch)
        if snapshot is None:
            return None
        return {
            "epoch": epoch,
            "total": snapshot.total_weight,
            "miners": [
                {
                    "address": format_data(row.miner),
                    "blsKey": format_data(row.bls_key),
                    "weight": row.weight,
                    "grant": row.grant,
                    "work": row.hi - row.lo,
                }
                for row in snapshot.rows
            ],
        }

    def miner(self, address: bytes) -> dict[str, Any] | None:
        """Tell what registry and ledger say of a miner at the head; `None` if it is not registered."""
        view = self._head()
        record = None if view is None else view.state.miner(Address(address))
        if view is None or record is None:
            return None
        epoch = self.epoch()
        snapshot = view.snapshot(epoch)
        row = snapshot.row(Address(address)) if isinstance(snapshot, Snapshot) else None
        credits = view.state.credits(Address(address))
        return {
            "address": format_data(address),
            "blsKey": format_data(record.bls_key),
            "bondWei": str(record.bond_wei),
            "signOfLifeEpoch": record.sign_of_life_epoch,
            "jailed": record.jailed(epoch),
            "jailedUntilEpoch": record.jailed_until_epoch,
            "slashedEpoch": record.slashed_epoch,
            "weight": row.weight if row else 0,
            "grant": row.grant if row else 0,
            "batches": len(credits),
            "credit": credits[-1].cumulative if credits else 0,
        }

    # ------------------------------------------------------------ the market

    def parameters(self) -> dict[str, Any]:
        """Tell what a requester must know of the chain."""
        return market_view.parameters(self._node)

    async def contact(self, address: bytes) -> dict[str, Any] | None:
        """Tell where a miner's node can be reached; `None` if it is not registered."""
        return await market_view.contact(self._node, address)

    def market(self) -> dict[str, Any] | None:
        """Tell what this node's miner does for others; `None` where it takes no jobs."""
        return market_view.market(self._node)

    async def earnings(self, limit: int) -> dict[str, Any] | None:
        """Tell what this node's miner has earned; `None` where it takes no jobs."""
        return await market_view.earnings(self._node, limit)

    def _head(self) -> BlockView | None:
        chain = self._node.chain
        return chain.tree.view(chain.head.root)

    # ------------------------------------------------------------ blocks

    def find(self, name: bytes) -> StoredBlock | None:
        """Find a block by its root or its payload's hash. Reads the disk."""
        store = self._node.chain.store
        return store.block(Hash32(name)) or store.by_payload(Hash32(name))

    def block(self, name: bytes) -> dict[str, Any] | None:
        """Tell what a block's envelope says. Reads the disk."""
        stored = self.find(name)
        block = None if stored is None else self._decoded(stored)
        if stored is None or block is None:
            return None
        chain = self._node.chain
        return {
            "root": format_data(stored.root),
            "parentRoot": format_data(stored.parent),
            "slot": stored.slot,
            "epoch": epoch_of(chain.rules.parameters, stored.slot),
            "height": stored.height,
            "hash": format_data(stored.payload),
            "final": stored.final,
            "proposer": format_data(block.header.proposer),
            "votes": [
                {"source": _checkpoint(vote.vote.source), "target": _checkpoint(vote.vote.target)}
                for vote in block.votes
            ],
            "evidence": len(block.evidence),
            "certificate": block.certificate is not None,
            "certificateState": self._state(stored, block).value,
        }

    def certificate(self, name: bytes) -> dict[str, Any] | None:
        """Tell what a block shows of its proposer's work, and what came of it here. Reads the disk."""
        stored = self.find(name)
        block = None if stored is None else self._decoded(stored)
        if stored is None or block is None:
            return None
        found: dict[str, Any] = {
            "root": format_data(stored.root),
            "slot": stored.slot,
            "proposer": format_data(block.header.proposer),
            "state": self._state(stored, block).value,
            "certificate": None,
        }
        certificate = block.certificate
        if certificate is not None:
            receipt = certificate.proof.receipt
            found["certificate"] = {
                "program": format_data(certificate.program),
                "input": format_data(certificate.input_id),
                "fuelLimit": certificate.fuel_limit,
                "receipt": {
                    "miner": format_data(receipt.miner),
                    "job": str(receipt.job),
                    "k": receipt.k,
                    "index": receipt.index,
                    "unit": format_data(receipt.unit_id),
                    "output": format_data(receipt.output_id),
                    "status": receipt.status.name.lower(),
                    "fuel": receipt.fuel,
                    "weight": receipt.weight,
                },
            }
        return found

    def _decoded(self, stored: StoredBlock) -> Block | None:
        body = self._node.chain.block_by_root(stored.root)
        return None if body is None else decode_block(body.block)

    def _state(self, stored: StoredBlock, block: Block) -> CheckState:
        from noria.chain.certificates import receipt_id

        if block.certificate is None:
            return CheckState.EMPTY
        state = self._node.chain.checker.state(stored.root)
        if state is not None:
            return state
        remembered = self._node.chain.store.verdict(receipt_id(block.certificate))
        if remembered is None:
            return CheckState.NOT_DRAWN
        return CheckState.RIGHT if remembered else CheckState.REFUTED

    # ------------------------------------------------------------ for servers

    def subscribe_finality(self) -> Subscription[NewFinality]:
        """Subscribe to what becomes justified and final."""
        return self._node.chain.events.subscribe_finality()

    @staticmethod
    def finality_event(event: NewFinality) -> dict[str, Any]:
        """Return what a subscriber to finality is told."""
        return {"justified": _checkpoint(event.justified), "finalised": _checkpoint(event.finalised)}

    def safe(self) -> bytes:
        """Return the payload hash of the justified block."""
        return self._node.chain.payload_at("safe").hash

    def finalized(self) -> bytes:
        """Return the payload hash of the final block."""
        return self._node.chain.payload_at("finalized").hash

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Tell whether the node follows its chain, and if not why."""
        node, at = self._node, self._node.chain.status
        parameters = node.chain.rules.parameters
        problems = []
        if node.sync.goal > at.head_height + BEHIND_MAX:
            problems.append(f"{node.sync.goal - at.head_height} blocks behind its peers")
        if at.slot - at.head_slot > parameters.epoch_slots:
            problems.append(f"no block for {at.slot - at.head_slot} slots")
        if at.epoch - at.finalised.epoch > FINALITY_LAG_MAX:
            problems.append(f"nothing final for {at.epoch - at.finalised.epoch} epochs")
        if node.config.bootstrap and not node.transport.peers():
            problems.append("no peers")
        return not problems, {
            "healthy": not problems,
            "problems": problems,
            "uptimeSeconds": round(time.time() - node.started_seconds, 1),
        }

    def metrics(self) -> tuple[str, bytes]:
        """Return the metrics: their content type and text."""
        from noria.node.metrics import render

        return render(self._node)


def _checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    return {"epoch": checkpoint.epoch, "root": format_data(checkpoint.root)}
