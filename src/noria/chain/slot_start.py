"""What a block tells the contracts at its start, derived from it and its parent alone (protocol 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from noria.chain.contract_view import ContractView
from noria.consensus.bitfield import bits_of, positions_of
from noria.consensus.finality import FinalityState, count_vote, enter_epoch, tally_for
from noria.consensus.lottery import prev_randao
from noria.consensus.slots import epoch_of
from noria.consensus.validity import BlockState, ChainRules, SnapshotMissing
from noria.consensus.votes import AggregatedVote
from noria.consensus.weight import Snapshot, snapshot_root
from noria.execution.block_start import Ballot, SlotStart
from noria.primitives.types import Address, BlsSignature


class Parent(Protocol):
    """What must be known of the parent: `noria.consensus.validity.ParentView` on contracts."""

    @property
    def block(self) -> BlockState:
        """Return what consensus carries on from it."""
        ...

    @property
    def state(self) -> ContractView:
        """Return the contracts' state after it."""
        ...

    def snapshot(self, epoch: int) -> Snapshot | None:
        """Return an epoch's snapshot on the parent's chain."""
        ...


def finality_with(
    rules: ChainRules, parent: Parent, slot: int, votes: Sequence[AggregatedVote]
) -> FinalityState:
    """Return what a child with these checked votes has justified and finalised (protocol 4.7)."""
    before, epoch = parent.block, epoch_of(rules.parameters, slot)
    finality = enter_epoch(
        rules.parameters, before.finality, before.root, epoch_of(rules.parameters, before.slot), epoch
    )
    for aggregate in votes:
        voting_epoch = tally_for(finality, aggregate.vote).voting_epoch
        finality = count_vote(finality, aggregate, snapshot_of(parent, voting_epoch))
    return finality


def slot_start(
    rules: ChainRules,
    parent: Parent,
    *,
    slot: int,
    vrf_proof: BlsSignature,
    votes: Sequence[AggregatedVote],
    finality: FinalityState,
    guilty: Sequence[Address],
) -> SlotStart:
    """Return what a block of a slot tells `Consensus` (protocol 4.1).

    Parameters
    ----------
    rules, parent
        The chain's rules and the block's parent.
    slot, vrf_proof, votes
        The block's, checked.
    finality
        After those votes.
    guilty
        Whom its evidence convicts, ascending.
    """
    parameters = rules.parameters
    epoch, before = epoch_of(parameters, slot), epoch_of(parameters, parent.block.slot)
    first = parent.block.height == 0
    roots, members, sleepers = [], [], 0
    if first or epoch > before:
        start = max(epoch - 1, 0) if first else max(before + 2, epoch - 1)
        roots = [
            snapshot_root(rules.genesis_root, snapshot_of(parent, number))
            for number in range(start, epoch + 2)
        ]
    if epoch > before:
        voting = {tally.target.epoch: tally.voting_epoch for tally in finality.tallies}
        for number in range(max(before + 1, epoch - 1), epoch + 1):
            rows = snapshot_of(parent, voting[number]).rows
            members.append(parent.state.contracts.index_bits(row.miner for row in rows))
        sleepers = parent.state.contracts.fallen_asleep
    return SlotStart(
        prev_randao=prev_randao(parent.block.payload.prev_randao, vrf_proof),
        vrf_proof=vrf_proof,
        snapshot_roots=tuple(roots),
        members=tuple(members),
        fallen_asleep=sleepers,
        votes=_ballots(parent, votes, finality),
        guilty=tuple(guilty),
    )


def positions_in(snapshot: Snapshot, contracts_miners: ContractView, indices: int) -> int:
    """Turn a set of registry indices into one of a snapshot's rows."""
    by_index = {found.index: address for address, found in contracts_miners.contracts.miners.items()}
    rows = (snapshot.position(by_index[index]) for index in positions_of(indices) if index in by_index)
    return bits_of(row for row in rows if row is not None)


def snapshot_of(parent: Parent, epoch: int) -> Snapshot:
    """Return an epoch's snapshot; raise `SnapshotMissing` where it is not there."""
    snapshot = parent.snapshot(epoch)
    if snapshot is None:
        raise SnapshotMissing(f"the snapshot of epoch {epoch} has not been computed")
    return snapshot


def _ballots(parent: Parent, votes: Sequence[AggregatedVote], finality: FinalityState) -> tuple[Ballot, ...]:
    voters: dict[int, int] = {}
    justified: dict[int, bool] = {}
    for aggregate in votes:
        tally = tally_for(finality, aggregate.vote)
        voting_set = snapshot_of(parent, tally.voting_epoch)
        miners = [voting_set.rows[position].miner for position in positions_of(aggregate.bits)]
        target = tally.target.epoch
        voters[target] = voters.get(target, 0) | parent.state.contracts.index_bits(miners)
        # The tally is that after all of the block's votes.
        justified[target] = 3 * voting_set.weight_of(tally.bits) > 2 * voting_set.total_weight
    return tuple(Ballot(target, voters[target], justified[target]) for target in sorted(voters))
