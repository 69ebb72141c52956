"""What consensus reads of a chain's state, kept there by the system contracts (protocol 4.1, 4.3, 5.1).

`StateView` is a seam: the chain's rooms answer it from contract storage at one block, tests from plain data.
Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from noria.primitives.types import (
    ADDRESS_BYTES,
    BLS_PUBLIC_KEY_BYTES,
    HASH_BYTES,
    Address,
    BlsPublicKey,
    Hash32,
)
from noria.work.batches import BatchCommitment


class InvalidState(ValueError):
    """State that no sequence of valid blocks leads to: the store or the contracts are damaged."""


@dataclass(frozen=True, slots=True)
class MinerRecord:
    """A registered miner (protocol 5.1).

    Parameters
    ----------
    miner
        Its address.
    bls_key
        Its BLS key, which never changes.
    bond_wei
        Bond at stake, without what is unbonding: that weighs nothing from the next snapshot on.
    sign_of_life_epoch
        Epoch of its last vote included in a block, or of its registration or `wake`, whichever was last.
    jailed_until_epoch
        First epoch in which it may win and vote again; 0 if it never was in jail.
    slashed_epoch
        Epoch in which it was last slashed in full: its grant is gone, and credit up to then weighs nothing.

    Raises
    ------
    InvalidState
        Where a field does not fit.
    """

    miner: Address
    bls_key: BlsPublicKey
    bond_wei: int
    sign_of_life_epoch: int = 0
    jailed_until_epoch: int = 0
    slashed_epoch: int | None = None

    def __post_init__(self) -> None:
        if len(self.miner) != ADDRESS_BYTES or len(self.bls_key) != BLS_PUBLIC_KEY_BYTES:
            raise InvalidState(f"miner 0x{self.miner.hex()} with key 0x{self.bls_key.hex()}: wrong lengths")
        if min(self.bond_wei, self.sign_of_life_epoch, self.jailed_until_epoch, self.slashed_epoch or 0) < 0:
            raise InvalidState(f"miner 0x{self.miner.hex()}: a number is negative")

    def jailed(self, epoch: int) -> bool:
        """Tell whether it can neither win nor vote in an epoch (protocol 4.8)."""
        return epoch < self.jailed_until_epoch


@dataclass(frozen=True, slots=True)
class CreditEntry:
    """One line of a miner's ledger, which is only ever appended to (protocol 4.3).

    Parameters
    ----------
    batch_root
        Root of the batch that was credited.
    epoch
        When.
    cumulative
        The miner's credit up to and with this batch, fuel.
    void
        Whether the court has voided the batch. It keeps its place, so that a draw that hits it fails (5.5).

    Raises
    ------
    InvalidState
        Where a field does not fit.
    """

    batch_root: Hash32
    epoch: int
    cumulative: int
    void: bool = False

    def __post_init__(self) -> None:
        if len(self.batch_root) != HASH_BYTES or self.epoch < 0 or self.cumulative <= 0:
            raise InvalidState(
                f"credit 0x{self.batch_root.hex()} of epoch {self.epoch} up to {self.cumulative} is none"
            )


class StateView(Protocol):
    """The state after one block."""

    def miners(self) -> Iterable[MinerRecord]:
        """Return every registered miner, in any order (protocol 5.1)."""
        ...

    def miner(self, miner: Address) -> MinerRecord | None:
        """Return one registered miner (protocol 5.1)."""
        ...

    def credits(self, miner: Address) -> Sequence[CreditEntry]:
        """Return a miner's ledger, oldest first; epochs never fall, cumulative credit rises (protocol 4.3).

        It is searched by halving: an answer that reads storage on demand need not read it all.
        """
        ...

    def commitment(self, miner: Address, batch_root: Hash32) -> BatchCommitment | None:
        """Return the commitment of a batch credited to a miner (protocol 5.4).

        A root alone says too little: somebody may have committed another's, falsely.
        """
        ...

    def voting_epochs_since(self, miner: Address, epoch: int) -> int:
        """Return in how many epochs after `epoch`, up to the state's own, a miner was in the voting set.

        Protocol 4.3, 4.7. More than ``LEAK`` need not be counted exactly.
        """
        ...
