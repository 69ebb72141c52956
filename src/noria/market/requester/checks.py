"""What can be found out about a miner's claim without another opinion. Everything here is pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from noria.market.messages import BatchOffer, Result
from noria.market.requester.evidence import Proven, SignedReceipt
from noria.market.typed_data import seal as seal_of
from noria.primitives.keys import InvalidKey, recover_address
from noria.primitives.types import ZERO_HASH, Address, Hash32, Signature, Wei
from noria.work.batches import Batch, BatchError, build_batch
from noria.work.ids import BlobId, UnitId, blob_id
from noria.work.receipts import FuelMismatch, Receipt, ReceiptError, WeightRules, check_fuel, status_of


class Lie(Exception):
    """A miner said something that cannot be true; the message says what."""


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What a job's receipts must keep to.

    Attributes
    ----------
    weight
        Bounds on units that carry weight.
    pinned, public
        Whether the chain pins the job's program, and whether the job is public.
    output_bytes_max
        Longest output.
    """

    weight: WeightRules
    pinned: bool
    public: bool
    output_bytes_max: int


@dataclass(frozen=True, slots=True)
class Claimant:
    """Whose receipts these are."""

    genesis_root: Hash32
    job: int
    k: int
    miner: Address


def check_result(
    result: Result,
    output: bytes,
    who: Claimant,
    rules: ClaimRules,
    *,
    unit: UnitId,
    fuel_limit: int,
    input_bytes: int,
    seal: Hash32 | None,
    price: int,
    find_proof: Callable[[], Proven | None],
) -> SignedReceipt:
    """Check a result as far as that goes with what the requester knows.

    Parameters
    ----------
    result
        What the miner sent.
    output
        The output, fetched if it did not come along.
    who
        Whose receipt it must be.
    rules
        Of the job.
    unit, fuel_limit, input_bytes
        The unit that was ordered.
    seal
        What the miner sealed before, if it was asked to.
    price
        Wei per fuel.
    find_proof
        As for `SignedReceipt`.

    Raises
    ------
    Lie
        Where something cannot be true.
    """
    if len(output) != result.output_bytes or blob_id(output) != result.output_id:
        raise Lie(f"the output of unit {result.number} is not what its receipt names")
    try:
        receipt = Receipt(
            genesis_root=who.genesis_root,
            job=who.job,
            k=who.k,
            miner=who.miner,
            index=result.index,
            unit_id=unit,
            output_id=BlobId(Hash32(result.output_id)),
            status=status_of(result.status),
            fuel=result.fuel,
            weight=result.weight,
        )
    except ReceiptError as error:
        raise Lie(f"the receipt of unit {result.number} is none: {error}") from None
    _check_fuel(receipt, fuel_limit)
    if receipt.weight and not rules.weight.carries_weight(
        fuel_limit=fuel_limit, input_bytes=input_bytes, pinned=rules.pinned, public=rules.public
    ):
        raise Lie(f"the receipt of unit {result.number} claims weight that the unit does not carry")
    signature = Signature(result.signature)
    if not is_signed_by(receipt, signature, who.miner):
        raise Lie(f"the receipt of unit {result.number} is not signed by the miner of the place")
    nonce = Hash32(result.nonce)
    if seal is None:
        if nonce != ZERO_HASH:
            raise Lie(f"the result of unit {result.number} opens a seal that was never sent")
    elif seal != receipt_seal(receipt, nonce):
        raise Lie(f"the result of unit {result.number} is not the one that was sealed")
    return SignedReceipt(
        receipt=receipt,
        signature=signature,
        nonce=nonce,
        seal=seal,
        milliseconds=result.milliseconds,
        price=Wei(receipt.fuel * price),
        find_proof=find_proof,
    )


def _check_fuel(receipt: Receipt, fuel_limit: int) -> None:
    try:
        check_fuel(receipt, fuel_limit)
    except FuelMismatch as error:
        raise Lie(str(error)) from None


def is_signed_by(receipt: Receipt, signature: bytes, miner: Address) -> bool:
    """Tell whether the miner signed the receipt."""
    try:
        return recover_address(receipt.leaf().hash, signature) == miner
    except (InvalidKey, ValueError):
        return False


def receipt_seal(receipt: Receipt, nonce: Hash32) -> Hash32:
    """Return the seal of a receipt's result."""
    return seal_of(
        receipt.genesis_root,
        receipt.job,
        receipt.unit_id,
        nonce,
        receipt.status,
        receipt.output_id,
        receipt.fuel,
        receipt.miner,
    )


def check_offer(offer: BatchOffer, receipts: Sequence[Receipt]) -> Batch:
    """Check that an offered batch is made of these receipts and nothing else.

    Parameters
    ----------
    offer
        From the miner.
    receipts
        Those with the offer's indices, found right one by one.

    Raises
    ------
    Lie
        Where it is not.
    """
    try:
        batch = build_batch(receipts)
    except (BatchError, ValueError) as error:
        raise Lie(f"a batch is offered that is none: {error}") from None
    made = batch.commitment
    offered = (offer.root, offer.first_index, offer.count, offer.fuel, offer.weight)
    if offered != (made.root, made.first_index, made.count, made.fuel, made.weight):
        raise Lie(
            f"a batch of receipts {offer.first_index} to {offer.first_index + offer.count - 1} is offered "
            "under another root or with other sums than they have"
        )
    return batch
