"""What a requester holds of a unit once it has a result: who said so, signed, and how it was checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from noria.primitives.types import Hash32, Signature, Wei
from noria.work.batches import BatchCommitment, ReceiptProof
from noria.work.ids import BlobId, ProgramId, UnitId
from noria.work.receipts import Receipt, Status


@dataclass(frozen=True, slots=True)
class Proven:
    """A receipt's place in a batch that the requester has approved."""

    commitment: BatchCommitment
    proof: ReceiptProof


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A miner's claim of how a unit ended, with its signature.

    Attributes
    ----------
    receipt
        What is claimed.
    signature
        The miner's account over the receipt's leaf hash.
    nonce
        Of the seal that came first; zeros where there was none.
    seal
        That seal, or None.
    milliseconds
        How long the miner says that it ran.
    price
        Wei that it costs, royalty included.
    find_proof
        Returns the receipt's place in an approved batch, as soon as there is one.
    """

    receipt: Receipt
    signature: Signature
    nonce: Hash32
    seal: Hash32 | None
    milliseconds: int
    price: Wei
    find_proof: Callable[[], Proven | None] = field(repr=False, compare=False, default=lambda: None)


@dataclass(frozen=True, slots=True)
class Settled:
    """A unit's result, as it was accepted.

    Attributes
    ----------
    unit_id, program, input_id, fuel_limit
        The unit.
    status, output, fuel, log
        How it ended.
    replicas
        Claims of miners that say just that. May be empty after a run of one's own.
    own_run
        Whether this machine ran it again and found the same.
    cost
        Wei of all claims that are paid for, wrong ones excluded.
    seconds
        From the first order to the result.
    """

    unit_id: UnitId
    program: ProgramId
    input_id: BlobId
    fuel_limit: int
    status: Status
    output: bytes
    fuel: int
    log: bytes
    replicas: tuple[SignedReceipt, ...]
    own_run: bool
    cost: Wei
    seconds: float
