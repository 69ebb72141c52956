"""Certificates: the lottery is an audit (protocol 4.5).

The number that wins a slot also names one receipt of the winner's own credited work. The block carries that
receipt with its path, and its unit's program, input and fuel limit; everybody can run the unit again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from noria.consensus.parameters import ChainParameters, weight_rules
from noria.consensus.state import CreditEntry, StateView
from noria.consensus.weight import SnapshotRow
from noria.consensus.wire import Reader, integer_to_bytes
from noria.primitives import rlp
from noria.primitives.hashes import blake3
from noria.primitives.sum_tree import SumTreeError
from noria.primitives.types import HASH_BYTES, Hash32
from noria.work.batches import (
    PROOF_BYTES_MAX,
    BatchCommitment,
    BatchError,
    ReceiptProof,
    decode_proof,
    verify_draw,
)
from noria.work.ids import BlobId, ProgramId, blob_id
from noria.work.receipts import ReceiptError, check_unit, check_weight

CERTIFICATE_TAG: Final = b"noria/certificate/1"
CERTIFICATE_BYTES_MAX: Final = PROOF_BYTES_MAX + 2 * HASH_BYTES + 32
"""Longest encoding of a certificate."""


class CertificateError(ValueError):
    """A certificate that does not show what the draw names; base of the errors below."""


class CertificateMissing(CertificateError):
    """An empty certificate where the draw names credited work."""


class CertificateNotEmpty(CertificateError):
    """A certificate where the draw falls on the grant."""


class CreditMissing(CertificateError):
    """A draw on credit that the ledger does not hold."""


class CreditVoid(CertificateError):
    """A draw on a batch that the court has voided."""


class WrongReceipt(CertificateError):
    """A receipt that is not the one which the draw names, or not of this batch."""


class WrongProgram(CertificateError):
    """A unit whose program the chain's specification does not pin."""


class WrongUnitShown(CertificateError):
    """Program, input and fuel limit that are not those of the receipt's unit, or may carry no weight."""


class WrongInput(CertificateError):
    """Input bytes that are not those of the unit, or too many."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a block shows of its proposer's work (protocol 4.5).

    Parameters
    ----------
    proof
        The receipt and its path.
    program, input_id, fuel_limit
        The receipt's unit.
    """

    proof: ReceiptProof
    program: ProgramId
    input_id: BlobId
    fuel_limit: int


@dataclass(frozen=True, slots=True)
class Named:
    """The one receipt that a draw names, by batch and weight offset (protocol 4.5).

    Attributes
    ----------
    batch_root
        The credited batch.
    weight_offset
        From 0 to the batch's weight, exclusive; the sum tree leads from it to the receipt.
    """

    batch_root: Hash32
    weight_offset: int


def named_position(row: SnapshotRow, x: int) -> int | None:
    """Return the position in the miner's cumulative credit that a draw names (protocol 4.5).

    ``lo + (x - grant)·(hi - lo)/(w - grant)``, rounded down. Each weight beyond the grant names a position of
    its own, so whoever cannot show all of them earns that much less.

    Parameters
    ----------
    row
        The proposer's row of the snapshot.
    x
        The draw, from 0 to ``row.weight``, exclusive.

    Returns
    -------
    int or None
        `None` where the draw falls on the grant.
    """
    if not 0 <= x < row.weight:
        raise ValueError(f"a draw is from 0 to the weight {row.weight}, exclusive, not {x}")
    if x < row.grant:
        return None
    return row.lo + (x - row.grant) * (row.hi - row.lo) // (row.weight - row.grant)


def named_batch(credits: Sequence[CreditEntry], position: int) -> tuple[CreditEntry, int, int]:
    """Return the ledger's line that holds a position, where in it the position lies, and the line's credit.

    Protocol 4.5.

    Raises
    ------
    CreditMissing
        Where the ledger ends before the position.
    """
    index = bisect_right(credits, position, key=lambda entry: entry.cumulative)
    if position < 0 or index == len(credits):
        raise CreditMissing(f"position {position} is not in the miner's credit")
    before = credits[index - 1].cumulative if index else 0
    entry = credits[index]
    return entry, position - before, entry.cumulative - before


def named_receipt(state: StateView, row: SnapshotRow, x: int) -> tuple[BatchCommitment, Named] | None:
    """Return which receipt a draw names (protocol 4.5).

    Parameters
    ----------
    state
        The parent block's; ledgers are only appended to, so it holds what the snapshot was taken from.
    row
        The proposer's row of the snapshot.
    x
        The draw.

    Returns
    -------
    (BatchCommitment, Named) or None
        `None` where the draw falls on the grant: the certificate is empty.

    Raises
    ------
    CreditMissing, CreditVoid
        Where there is nothing to show: the block cannot be valid.
    """
    position = named_position(row, x)
    if position is None:
        return None
    entry, offset, credit = named_batch(state.credits(row.miner), position)
    if entry.void:
        raise CreditVoid(f"the draw names batch 0x{entry.batch_root.hex()}, which the court has voided")
    commitment = state.commitment(row.miner, entry.batch_root)
    if commitment is None:
        raise CreditMissing(f"batch 0x{entry.batch_root.hex()} has no commitment")
    return commitment, Named(entry.batch_root, offset * commitment.weight // credit)


def check_certificate(
    parameters: ChainParameters,
    state: StateView,
    pinned: Collection[ProgramId],
    row: SnapshotRow,
    x: int,
    certificate: Certificate | None,
) -> None:
    """Check everything about a certificate that needs no input bytes and no execution (protocol 4.5).

    Parameters
    ----------
    parameters, pinned
        The chain's parameters and the programs that its specification pins.
    state
        The parent block's.
    row
        The proposer's row of the snapshot.
    x
        The draw.
    certificate
        The block's; `None` is the empty one.

    Raises
    ------
    CertificateError
        One of its subclasses.
    """
    named = named_receipt(state, row, x)
    if named is None:
        if certificate is not None:
            raise CertificateNotEmpty(
                f"draw {x} is below the grant {row.grant}, where the certificate is empty"
            )
        return
    if certificate is None:
        raise CertificateMissing(f"draw {x} is not below the grant {row.grant} and names work to be shown")
    commitment, name = named
    try:
        verify_draw(commitment, certificate.proof, name.weight_offset)
    except (BatchError, SumTreeError, ReceiptError) as error:
        raise WrongReceipt(str(error)) from error
    if certificate.program not in pinned:
        raise WrongProgram(f"program {certificate.program.hex()} is not pinned by the chain's specification")
    try:
        receipt = certificate.proof.receipt
        check_unit(receipt, certificate.program, certificate.input_id, certificate.fuel_limit)
        # Only batches of public jobs are credited; the input's length is checked with the input.
        check_weight(
            receipt,
            weight_rules(parameters),
            fuel_limit=certificate.fuel_limit,
            input_bytes=0,
            pinned=True,
            public=True,
        )
    except ReceiptError as error:
        raise WrongUnitShown(str(error)) from error


def check_input(parameters: ChainParameters, certificate: Certificate, input_bytes: bytes) -> None:
    """Check the bytes that travel beside a block (protocol 4.5).

    Bytes with another id are the sender's fault and say nothing about the block; bytes with the right id that
    are longer than ``INPUT_MAX`` refute it, and `input_refutes` tells the two apart.

    Raises
    ------
    WrongInput
        Where they are not the unit's input, or more than ``INPUT_MAX``.
    """
    if blob_id(input_bytes) != certificate.input_id:
        raise WrongInput(f"{len(input_bytes)} bytes are not input {certificate.input_id.hex()}")
    if input_refutes(parameters, certificate, len(input_bytes)):
        raise WrongInput(
            f"the unit's input has {len(input_bytes)} bytes, above {parameters.input_bytes_max}, and"
            " carries no weight"
        )


def input_refutes(parameters: ChainParameters, certificate: Certificate, input_bytes: int) -> bool:
    """Tell whether an input of this length, its id being right, makes the certificate a lie.

    Protocol 3, 4.5.
    """
    return certificate.proof.receipt.weight > 0 and input_bytes > parameters.input_bytes_max


def encode_certificate(certificate: Certificate | None) -> bytes:
    """Return a certificate's RLP: ``[proof, program, input_id, fuel_limit]``, or ``[]`` for none.

    Protocol 4.1.
    """
    if certificate is None:
        return rlp.encode([])
    return rlp.encode(
        [
            certificate.proof.encode(),
            certificate.program,
            certificate.input_id,
            integer_to_bytes(certificate.fuel_limit),
        ]
    )


def decode_certificate(data: bytes) -> Certificate | None:
    """Read a certificate (protocol 4.1).

    Raises
    ------
    InvalidMessage, BatchError, ReceiptError, SumTreeError
        Where the bytes are none.
    """
    reader = Reader.open(data, "certificate", max_bytes=CERTIFICATE_BYTES_MAX)
    if reader.at_end:
        return None
    proof = decode_proof(reader.blob("proof", max_bytes=PROOF_BYTES_MAX))
    program = ProgramId(Hash32(reader.fixed("program", HASH_BYTES)))
    input_id = BlobId(Hash32(reader.fixed("input_id", HASH_BYTES)))
    fuel_limit = reader.integer("fuel_limit", 64)
    reader.close()
    return Certificate(proof, program, input_id, fuel_limit)


def certificate_hash(certificate: Certificate | None) -> Hash32:
    """Return what a block's root holds of its certificate (protocol 4.1)."""
    return blake3(CERTIFICATE_TAG + encode_certificate(certificate))
