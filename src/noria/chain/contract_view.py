"""What consensus asks of a block's state, answered from the system contracts (protocol 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, final, overload

from noria.consensus.finality import FinalityState, Tally
from noria.consensus.lottery import Randomness
from noria.consensus.state import CreditEntry, MinerRecord
from noria.consensus.votes import Checkpoint
from noria.execution.consensus_state import CheckpointState, ConsensusState, CreditLine, MinerState
from noria.primitives.types import Address, Hash32
from noria.work.batches import BatchCommitment

PositionsOf = Callable[[int, int], int]
"""(epoch of a snapshot, registry indices as bits) to rows of that snapshot as bits."""


@final
class ContractView:
    """The state after one block as `noria.consensus.state.StateView`.

    It may be used by several threads at once; what has been read is kept.

    Parameters
    ----------
    contracts
        The state after the block.
    genesis_root
        The chain's; credited batches carry it.
    origin
        What batches of genesis work carry instead.
    """

    def __init__(self, contracts: ConsensusState, genesis_root: Hash32, origin: Hash32) -> None:
        self.contracts = contracts
        self._genesis_root = genesis_root
        self._origin = origin

    # ------------------------------------------------------------ the seam of consensus

    def miners(self) -> Iterable[MinerRecord]:
        """Return every registered miner (protocol 5.1)."""
        return self._records.values()

    def miner(self, miner: Address) -> MinerRecord | None:
        """Return one registered miner (protocol 5.1).

        Its sign of life is that of its registration or last `wake`: who asks for one miner wants to know what
        it may do now, and reading all votes for that would cost more than everything else about a block.
        `miners`, from which snapshots are taken, counts votes too.
        """
        found = self.contracts.miners.get(miner)
        return None if found is None else _record(found, found.life_epoch)

    def credits(self, miner: Address) -> Sequence[CreditEntry]:
        """Return a miner's ledger, read as it is looked at (protocol 4.3)."""
        return _Credits(self.contracts, miner, self.contracts.credits(miner))

    def commitment(self, miner: Address, batch_root: Hash32) -> BatchCommitment | None:
        """Return the commitment of a batch credited to a miner (protocol 5.4)."""
        batch = self.contracts.batch(miner, batch_root)
        if batch is None:
            return None
        return BatchCommitment(
            genesis_root=self._origin if batch.genesis else self._genesis_root,
            job=batch.job,
            k=batch.k,
            miner=batch.miner,
            first_index=batch.first_index,
            count=batch.count,
            root=batch.root,
            fuel=batch.fuel,
            weight=batch.weight,
        )

    def voting_epochs_since(self, miner: Address, epoch: int) -> int:
        """Return in how many epochs after one a miner was in the voting set (protocol 4.3)."""
        found = self.contracts.miners.get(miner)
        return 0 if found is None else self.contracts.voting_epochs_since(found, epoch)

    # ------------------------------------------------------------ what is carried from block to block

    def randomness(self) -> Randomness:
        """Return the lottery's randomness after the block (protocol 4.4)."""
        found = self.contracts.randomness
        return Randomness(found.epoch, found.eta, found.running)

    def finality(self, positions: PositionsOf) -> FinalityState:
        """Return what the chain has justified and finalised after the block (protocol 4.7).

        Parameters
        ----------
        positions
            Turns a set of registry indices into one of rows of an epoch's snapshot.
        """
        tallies = tuple(
            Tally(
                target=_checkpoint(tally.target),
                source=_checkpoint(tally.source),
                voting_epoch=tally.voting_epoch,
                bits=positions(tally.voting_epoch, tally.voted),
            )
            for tally in self.contracts.open_tallies
        )
        return FinalityState(
            _checkpoint(self.contracts.justified), _checkpoint(self.contracts.finalised), tallies
        )

    @cached_property
    def _records(self) -> dict[Address, MinerRecord]:
        return {
            address: _record(found, self.contracts.sign_of_life_epoch(found))
            for address, found in self.contracts.miners.items()
        }


def _record(found: MinerState, sign_of_life_epoch: int) -> MinerRecord:
    return MinerRecord(
        miner=found.address,
        bls_key=found.bls_key,
        bond_wei=found.bond_wei,
        sign_of_life_epoch=sign_of_life_epoch,
        jailed_until_epoch=found.jailed_until_epoch,
        slashed_epoch=found.slashed_epoch,
    )


def _checkpoint(found: CheckpointState) -> Checkpoint:
    return Checkpoint(found.epoch, found.root)


class _Credits(Sequence[CreditEntry]):
    """A ledger whose lines say whether the court has voided them."""

    def __init__(self, contracts: ConsensusState, miner: Address, lines: Sequence[CreditLine]) -> None:
        self._contracts = contracts
        self._miner = miner
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, line: int) -> CreditEntry: ...
    @overload
    def __getitem__(self, line: slice) -> Sequence[CreditEntry]: ...
    def __getitem__(self, line: Any) -> Any:
        if isinstance(line, slice):
            return [self[i] for i in range(*line.indices(len(self)))]
        found = self._lines[line]
        batch = self._contracts.batch(self._miner, found.batch_root)
        return CreditEntry(found.batch_root, found.epoch, found.cumulative, batch is not None and batch.void)
