"""Weight: useful work, paid for and accepted on chain (protocol 4.3)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from noria.consensus.bitfield import positions_of
from noria.consensus.parameters import BASIS_POINTS, ChainParameters
from noria.consensus.state import CreditEntry, MinerRecord, StateView
from noria.primitives import rlp
from noria.primitives.hashes import blake3
from noria.primitives.rlp import integer_to_bytes
from noria.primitives.types import Address, BlsPublicKey, Hash32

SNAPSHOT_TAG: Final = b"noria/snapshot/1"
FLOOR_STEP: Final = 8
"""The floor price moves by at most one part in this many per epoch."""
GRANT_REST: Final = 8
"""Grants fall to one part in this many."""


class InvalidSnapshot(ValueError):
    """Rows that are no snapshot: out of order, doubled, empty, or with bounds that contradict each other."""


class TooManyMiners(ValueError):
    """More rows than ``MAX_MINERS``."""


def credit_of_batch(parameters: ChainParameters, batch_weight: int, fee_paid_wei: int, floor_wei: int) -> int:
    """Return what a batch adds to its miner's ledger, fuel: no more than its protocol fee backs.

    Protocol 4.3.

    ``min(batch weight, protocol fee paid / (FEE · floor))``, rounded down.

    Parameters
    ----------
    parameters
        The chain's.
    batch_weight
        Sum of its receipts' weights, fuel.
    fee_paid_wei
        Protocol fee paid for it, wei.
    floor_wei
        The epoch's floor price, wei per fuel.
    """
    return min(batch_weight, fee_paid_wei * BASIS_POINTS // (parameters.fee_basis_points * floor_wei))


def next_floor(
    parameters: ChainParameters, floor_wei: int, paid_in_window_wei: int, credit_in_window: int
) -> int:
    """Return the next epoch's floor price, wei per fuel (protocol 4.3).

    It heads for half the mean price of the batches credited in the window, or for ``FLOOR_MIN`` where there
    were none, in steps of at most an eighth, and is never below ``FLOOR_MIN``.

    Parameters
    ----------
    parameters
        The chain's.
    floor_wei
        This epoch's.
    paid_in_window_wei, credit_in_window
        Sums of price and of credit over the batches credited in the window.
    """
    goal = paid_in_window_wei // (2 * credit_in_window) if credit_in_window else 0
    step = floor_wei // FLOOR_STEP
    return max(parameters.floor_min_wei, min(max(goal, floor_wei - step), floor_wei + step))


def grant_at(parameters: ChainParameters, grant: int, epoch: int) -> int:
    """Return what is left of a genesis grant in an epoch, fuel (protocol 4.3).

    Constant for ``GRANT_EPOCHS``, then falling linearly to an eighth over as many epochs again.
    """
    if parameters.grant_epochs == 0:
        return grant
    falling = min(max(epoch - parameters.grant_epochs, 0), parameters.grant_epochs)
    return grant - grant * (GRANT_REST - 1) * falling // (GRANT_REST * parameters.grant_epochs)


def bond_cover(parameters: ChainParameters, bond_wei: int) -> int:
    """Return the weight that a bond covers, fuel (protocol 4.3)."""
    return bond_wei // parameters.bond_per_weight_wei


def capacity_cover(parameters: ChainParameters, bond_wei: int) -> int:
    """Return the most capacity that a bond covers, fuel per epoch; 0 below ``BOND_MIN`` (protocol 5.1)."""
    return bond_wei // parameters.bond_per_capacity_wei if bond_wei >= parameters.bond_min_wei else 0


def window(parameters: ChainParameters, epoch: int) -> tuple[int, int]:
    """Return the first and last epoch whose credit counts in an epoch: ``e-1-WINDOW`` to ``e-2``.

    Protocol 4.3.

    Snapshots 0 and 1 are taken from genesis like that of epoch 2, so that genesis work counts from the start.
    """
    last = max(epoch - 2, 0)
    return max(last + 1 - parameters.window_epochs, 0), last


def credit_up_to(credits: Sequence[CreditEntry], epoch: int) -> int:
    """Return a miner's cumulative credit at the end of an epoch (protocol 4.3)."""
    position = bisect_right(credits, epoch, key=lambda entry: entry.epoch)
    return credits[position - 1].cumulative if position else 0


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """One miner's weight in one epoch (protocol 4.3).

    Parameters
    ----------
    miner, bls_key
        Who.
    lo, hi
        Cumulative credit before and at the end of the window.
    weight
        ``w``: `grant` and what of the credit the bond covers.
    grant
        The genesis grant's part of it.

    Raises
    ------
    InvalidSnapshot
        Where these contradict each other.
    """

    miner: Address
    bls_key: BlsPublicKey
    lo: int
    hi: int
    weight: int
    grant: int

    def __post_init__(self) -> None:
        if not (0 <= self.lo <= self.hi and 0 <= self.grant <= self.weight <= self.grant + self.hi - self.lo):
            raise InvalidSnapshot(
                f"miner 0x{self.miner.hex()}: weight {self.weight} with grant {self.grant} does not come from"
                f" credit {self.lo} to {self.hi}"
            )
        if self.weight == 0:
            raise InvalidSnapshot(f"miner 0x{self.miner.hex()}: a miner without weight has no row")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Who may win and vote in an epoch, and with what weight (protocol 4.3).

    Parameters
    ----------
    epoch
        Which.
    rows
        By address, ascending. Bitfields of votes follow this order.

    Attributes
    ----------
    total_weight
        ``W``.

    Raises
    ------
    InvalidSnapshot
        Where the rows are out of order.
    """

    epoch: int
    rows: tuple[SnapshotRow, ...]
    total_weight: int = field(init=False)
    _positions: Mapping[Address, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for left, right in pairwise(self.rows):
            if left.miner >= right.miner:
                raise InvalidSnapshot(f"miner 0x{right.miner.hex()} stands after 0x{left.miner.hex()}")
        object.__setattr__(self, "total_weight", sum(row.weight for row in self.rows))
        object.__setattr__(self, "_positions", {row.miner: i for i, row in enumerate(self.rows)})

    def position(self, miner: Address) -> int | None:
        """Return a miner's place in bitfields, `None` for one without weight (protocol 4.7)."""
        return self._positions.get(miner)

    def row(self, miner: Address) -> SnapshotRow | None:
        """Return a miner's row, `None` for one without weight (protocol 4.3)."""
        position = self._positions.get(miner)
        return None if position is None else self.rows[position]

    def weight_of(self, bits: int) -> int:
        """Return the weight of the rows whose bit is set (protocol 4.7); others weigh nothing."""
        count = len(self.rows)
        return sum(self.rows[position].weight for position in positions_of(bits) if position < count)


def awake(parameters: ChainParameters, state: StateView, record: MinerRecord) -> bool:
    """Tell whether a miner has given a sign of life in its last ``LEAK`` epochs in the voting set.

    Protocol 4.3.
    """
    silent = state.voting_epochs_since(record.miner, record.sign_of_life_epoch)
    return silent < parameters.leak_epochs


def snapshot_row(
    parameters: ChainParameters, state: StateView, record: MinerRecord, grant: int, epoch: int
) -> SnapshotRow | None:
    """Return a miner's row in an epoch's snapshot (protocol 4.3).

    Parameters
    ----------
    parameters
        The chain's.
    state
        After the last block of epoch ``epoch - 2``, or genesis.
    record
        The miner in that state.
    grant
        Its genesis grant, 0 without one.
    epoch
        The snapshot's epoch.

    Returns
    -------
    SnapshotRow or None
        `None` where it has no weight, sleeps, or is in jail. Below ``BOND_MIN`` it has none, also of a grant:
        who takes its bond out is gone from all voting sets before its place is given away.
    """
    if record.bond_wei < parameters.bond_min_wei or record.jailed(epoch):
        return None
    if not awake(parameters, state, record):
        return None
    first, last = window(parameters, epoch)
    credits = state.credits(record.miner)
    hi = credit_up_to(credits, last)
    lo = credit_up_to(credits, first - 1)
    grant_now = grant_at(parameters, grant, epoch)
    if record.slashed_epoch is not None:
        lo = min(max(lo, credit_up_to(credits, record.slashed_epoch)), hi)
        grant_now = 0
    weight = min(hi - lo, bond_cover(parameters, record.bond_wei)) + grant_now
    if weight == 0:
        return None
    return SnapshotRow(record.miner, record.bls_key, lo, hi, weight, grant_now)


def take_snapshot(
    parameters: ChainParameters, state: StateView, grants: Mapping[Address, int], epoch: int
) -> Snapshot:
    """Return an epoch's snapshot (protocol 4.3).

    Parameters
    ----------
    parameters
        The chain's.
    state
        After the last block of epoch ``epoch - 2`` (its last ancestor if slots were empty); genesis for
        epochs 0 and 1.
    grants
        The genesis list, fuel.
    epoch
        Which.

    Raises
    ------
    TooManyMiners
        Where more than ``MAX_MINERS`` have weight.
    """
    rows = []
    for record in sorted(state.miners(), key=lambda record: record.miner):
        row = snapshot_row(parameters, state, record, grants.get(record.miner, 0), epoch)
        if row is not None:
            rows.append(row)
    if len(rows) > parameters.miners_max:
        raise TooManyMiners(f"{len(rows)} miners with weight, at most {parameters.miners_max} are allowed")
    return Snapshot(epoch, tuple(rows))


def snapshot_root(genesis_root: Hash32, snapshot: Snapshot) -> Hash32:
    """Return what the chain stores of a snapshot, so that nodes can compare theirs (protocol 4.1, 4.3).

    ``H("noria/snapshot/1" ‖ genesis_root ‖ rlp(epoch, [miner, bls_key, lo, hi, w, grant]…))``
    """
    rows: list[rlp.RlpItem] = [
        [
            row.miner,
            row.bls_key,
            integer_to_bytes(row.lo),
            integer_to_bytes(row.hi),
            integer_to_bytes(row.weight),
            integer_to_bytes(row.grant),
        ]
        for row in snapshot.rows
    ]
    return blake3(SNAPSHOT_TAG + genesis_root + rlp.encode([integer_to_bytes(snapshot.epoch), rows]))


def voting_epochs_since(
    membership: Mapping[int, Snapshot], miner: Address, epoch: int, now: int, enough: int
) -> int:
    """Count the epochs after `epoch`, up to `now`, in which a miner was in the voting set.

    Protocol 4.3, 4.7.

    A plain answer to `StateView.voting_epochs_since` for who keeps the voting sets.

    Parameters
    ----------
    membership
        The snapshot that counted votes in each epoch.
    miner
        Who.
    epoch, now
        Between which epochs; `now` is included.
    enough
        Where counting may stop.
    """
    count = 0
    for number in range(now, epoch, -1):
        if count >= enough:
            break
        snapshot = membership.get(number)
        count += snapshot is not None and snapshot.position(miner) is not None
    return count
