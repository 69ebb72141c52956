"""Receipts of one job, draw and miner under one root, and proofs of single ones (protocol 3).

A miner builds a `Batch` and commits its `BatchCommitment` on chain. Whoever has the commitment checks a
`ReceiptProof` with `verify`, or with `verify_draw` that it is the one receipt which a weight offset names.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from noria.primitives.hashes import keccak256
from noria.primitives.sum_tree import (
    LEAVES_MAX,
    NODE_BYTES,
    PATH_NODES_MAX,
    SumNode,
    SumTree,
    decode_path,
    encode_path,
    fold,
)
from noria.primitives.types import ADDRESS_BYTES, HASH_BYTES, UINT64_MAX, UINT256_MAX, Address, Hash32
from noria.work.ids import BlobId, UnitId
from noria.work.receipts import (
    OWN,
    RECEIPT_BYTES,
    RECEIPT_TAG,
    SHARED,
    UINT32_MAX,
    Receipt,
    decode_receipt,
    status_of,
)

BATCH_RECEIPTS_MAX: Final = LEAVES_MAX
"""Most receipts of a batch."""
BATCH_TAG: Final = b"noria/batch/1"

_HEAD: Final = struct.Struct(">13s32s32sI20sQI")
_ROW: Final = struct.Struct(">32s32sBQQ")
_SUMS: Final = struct.Struct(">QQ")

BATCH_BYTES_MAX: Final = _HEAD.size + BATCH_RECEIPTS_MAX * _ROW.size
"""Longest encoding of a batch."""
PROOF_BYTES_MAX: Final = RECEIPT_BYTES + PATH_NODES_MAX * NODE_BYTES
"""Longest encoding of a proof."""


class BatchError(ValueError):
    """Receipts that are no batch, or a proof that does not hold; base of the errors below."""


class InvalidBatch(BatchError):
    """A count, field or encoding that no batch has."""


class MixedBatch(BatchError):
    """Receipts of different chains, jobs, draws or miners."""


class IndexGap(BatchError):
    """Indices that are not consecutive, or run past 64 bits."""


class InvalidProof(BatchError):
    """Bytes that are no proof."""


class ForeignReceipt(BatchError):
    """A receipt of another chain, job, draw or miner than the batch, or with an index outside it."""


class WrongRoot(BatchError):
    """Receipt and path that lead to another root or other sums than were committed."""


class OffsetElsewhere(BatchError):
    """A weight offset that names another receipt, or none."""


@dataclass(frozen=True, slots=True)
class BatchCommitment:
    """What a miner commits to on chain: whose receipts, how many, under which root.

    Parameters
    ----------
    genesis_root, job, k, miner
        As in each `Receipt`.
    first_index
        Index of the first receipt: the job's stored ``next_index`` at that time.
    count
        Receipts in the batch, 1 to `BATCH_RECEIPTS_MAX`.
    root
        Hash of the root of the sum tree.
    fuel, weight
        Its sums.

    Raises
    ------
    InvalidBatch
        Where a field does not fit.
    """

    genesis_root: Hash32
    job: int
    k: int
    miner: Address
    first_index: int
    count: int
    root: Hash32
    fuel: int
    weight: int

    def __post_init__(self) -> None:
        for name, value, size in (
            ("genesis_root", self.genesis_root, HASH_BYTES),
            ("miner", self.miner, ADDRESS_BYTES),
            ("root", self.root, HASH_BYTES),
        ):
            if len(value) != size:
                raise InvalidBatch(f"a batch's {name} has {size} bytes, not {len(value)}")
        if not 1 <= self.count <= BATCH_RECEIPTS_MAX:
            raise InvalidBatch(f"a batch has 1 to {BATCH_RECEIPTS_MAX} receipts, not {self.count}")
        for name, number, limit in (
            ("job", self.job, UINT256_MAX),
            ("k", self.k, UINT32_MAX),
            ("first_index", self.first_index, UINT64_MAX - self.count + 1),
            ("fuel", self.fuel, UINT64_MAX),
            # A receipt weighs its fuel or nothing.
            ("weight", self.weight, self.fuel),
        ):
            if not 0 <= number <= limit:
                raise InvalidBatch(f"a batch's {name} is 0 to {limit} here, not {number}")


@dataclass(frozen=True, slots=True)
class ReceiptProof:
    """A receipt and the path that ties it to its batch's root.

    Parameters
    ----------
    receipt
        The receipt.
    siblings
        Its path, from the leaves upwards. Its position is not part of it: that follows from the index.
    """

    receipt: Receipt
    siblings: tuple[SumNode, ...]

    def encode(self) -> bytes:
        """Return the receipt's bytes and then the path's, at most `PROOF_BYTES_MAX`."""
        return self.receipt.encode() + encode_path(self.siblings)


@dataclass(frozen=True, slots=True)
class Located:
    """Where a proven receipt stands in its batch.

    Attributes
    ----------
    position
        Its place from 0.
    fuel_before, weight_before
        Sums over the receipts before it.
    """

    position: int
    fuel_before: int
    weight_before: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Receipts with their tree, made by `build_batch`.

    Attributes
    ----------
    receipts
        In the order of their indices.
    commitment
        What goes on chain.
    """

    receipts: tuple[Receipt, ...]
    commitment: BatchCommitment
    _tree: SumTree = field(repr=False, compare=False)

    def proof(self, position: int) -> ReceiptProof:
        """Prove the receipt at a position.

        Parameters
        ----------
        position
            From 0: its index minus the first one.

        Returns
        -------
        ReceiptProof

        Raises
        ------
        PositionOutOfRange
            Where there is none.
        """
        siblings = self._tree.path(position)
        return ReceiptProof(self.receipts[position], siblings)

    def proof_at_weight(self, weight_offset: int) -> ReceiptProof:
        """Prove the one receipt that a weight offset names.

        Parameters
        ----------
        weight_offset
            From 0 to the batch's weight, exclusive.

        Returns
        -------
        ReceiptProof

        Raises
        ------
        OffsetOutOfRange
            Where it is not.
        """
        return self.proof(self._tree.position_at(weight_offset))

    def encode(self) -> bytes:
        """Return the batch for keeping and sending, at most `BATCH_BYTES_MAX` bytes.

        What all receipts share is written once; nothing that can be recomputed is written.
        """
        c = self.commitment
        head = _HEAD.pack(
            BATCH_TAG, c.genesis_root, c.job.to_bytes(32, "big"), c.k, c.miner, c.first_index, c.count
        )
        rows = [_ROW.pack(r.unit_id, r.output_id, r.status, r.fuel, r.weight) for r in self.receipts]
        return head + b"".join(rows)


def build_batch(receipts: Sequence[Receipt]) -> Batch:
    """Join receipts under one root.

    Parameters
    ----------
    receipts
        1 to `BATCH_RECEIPTS_MAX` of one chain, job, draw and miner, with consecutive indices in order.

    Returns
    -------
    Batch

    Raises
    ------
    InvalidBatch
        Where there are none or too many.
    MixedBatch
        Where they do not belong together.
    IndexGap
        Where their indices are not consecutive.
    SumOverflow
        Where their fuel adds up to 2^64 or more.
    """
    if not 1 <= len(receipts) <= BATCH_RECEIPTS_MAX:
        raise InvalidBatch(f"a batch has 1 to {BATCH_RECEIPTS_MAX} receipts, not {len(receipts)}")
    first = receipts[0]
    tree = SumTree.build(b"".join(_leaves(receipts, first)))
    commitment = BatchCommitment(
        genesis_root=first.genesis_root,
        job=first.job,
        k=first.k,
        miner=first.miner,
        first_index=first.index,
        count=tree.count,
        root=tree.root.hash,
        fuel=tree.root.fuel,
        weight=tree.root.weight,
    )
    return Batch(tuple(receipts), commitment, tree)


def decode_batch(data: bytes) -> Batch:
    """Read a batch from its encoding and rebuild its tree.

    Parameters
    ----------
    data
        Bytes from anywhere.

    Returns
    -------
    Batch
        Its commitment is computed from the receipts; who expects a certain one compares.

    Raises
    ------
    InvalidBatch
        Where these are not a batch's bytes.
    IndexGap
        Where the indices run past 64 bits.
    ReceiptError
        Where a receipt is none.
    SumOverflow
        Where the fuel adds up to 2^64 or more.
    """
    if len(data) < _HEAD.size:
        raise InvalidBatch(f"a batch has at least {_HEAD.size + _ROW.size} bytes, not {len(data)}")
    tag, genesis_root, job, k, miner, first_index, count = _HEAD.unpack_from(data)
    if tag != BATCH_TAG:
        raise InvalidBatch(f"a batch begins with {BATCH_TAG!r}, not {tag!r}")
    if not 1 <= count <= BATCH_RECEIPTS_MAX:
        raise InvalidBatch(f"a batch has 1 to {BATCH_RECEIPTS_MAX} receipts, not {count}")
    if len(data) != _HEAD.size + count * _ROW.size:
        raise InvalidBatch(f"{count} receipts take {_HEAD.size + count * _ROW.size} bytes, not {len(data)}")
    if first_index + count - 1 > UINT64_MAX:
        raise IndexGap(f"{count} indices from {first_index} run past 64 bits")
    job_number = int.from_bytes(job, "big")
    rows = _ROW.iter_unpack(memoryview(data)[_HEAD.size :])
    return build_batch(
        [
            Receipt(
                genesis_root=Hash32(genesis_root),
                job=job_number,
                k=k,
                miner=Address(miner),
                index=index,
                unit_id=UnitId(Hash32(unit)),
                output_id=BlobId(Hash32(output)),
                status=status_of(status),
                fuel=fuel,
                weight=weight,
            )
            for index, (unit, output, status, fuel, weight) in enumerate(rows, first_index)
        ]
    )


def decode_proof(data: bytes) -> ReceiptProof:
    """Read a proof from its encoding; `verify` then says whether it holds.

    Parameters
    ----------
    data
        Bytes from anywhere.

    Returns
    -------
    ReceiptProof

    Raises
    ------
    InvalidProof
        Where it is shorter or longer than any proof.
    ReceiptError, SumTreeError
        Where receipt or path are none.
    """
    if not RECEIPT_BYTES <= len(data) <= PROOF_BYTES_MAX:
        raise InvalidProof(f"a proof has {RECEIPT_BYTES} to {PROOF_BYTES_MAX} bytes, not {len(data)}")
    return ReceiptProof(decode_receipt(data[:RECEIPT_BYTES]), decode_path(data[RECEIPT_BYTES:]))


def verify(commitment: BatchCommitment, proof: ReceiptProof) -> Located:
    """Check that a batch holds a receipt.

    Parameters
    ----------
    commitment
        From the chain.
    proof
        From anywhere.

    Returns
    -------
    Located
        Where in the batch the receipt stands.

    Raises
    ------
    ForeignReceipt
        Where the receipt cannot be in this batch.
    WrongPathLength, SumOverflow
        Where the path is none for this position.
    WrongRoot
        Where it leads elsewhere.
    """
    receipt = proof.receipt
    for name in ("genesis_root", "job", "k", "miner"):
        mine, theirs = getattr(receipt, name), getattr(commitment, name)
        if mine != theirs:
            raise ForeignReceipt(f"the receipt's {name} is {_shown(mine)}, the batch's is {_shown(theirs)}")
    position = receipt.index - commitment.first_index
    if not 0 <= position < commitment.count:
        raise ForeignReceipt(
            f"the receipt's index {receipt.index} is not among the batch's {commitment.count} from "
            f"{commitment.first_index}"
        )
    folded = fold(receipt.leaf(), proof.siblings, position, commitment.count)
    committed = SumNode(commitment.root, commitment.fuel, commitment.weight)
    if folded.root != committed:
        raise WrongRoot(
            f"receipt and path give root {_node(folded.root)}, but {_node(committed)} was committed"
        )
    return Located(position, folded.fuel_before, folded.weight_before)


def verify_draw(commitment: BatchCommitment, proof: ReceiptProof, weight_offset: int) -> Located:
    """Check that a receipt is the one of its batch that a weight offset names.

    Parameters
    ----------
    commitment
        From the chain.
    proof
        From anywhere.
    weight_offset
        A number in ``[0, commitment.weight)``.

    Returns
    -------
    Located
        Where in the batch the receipt stands.

    Raises
    ------
    OffsetElsewhere
        Where it names another receipt, or none.
    ForeignReceipt, WrongPathLength, SumOverflow, WrongRoot
        As in `verify`.
    """
    located = verify(commitment, proof)
    end = located.weight_before + proof.receipt.weight
    if not located.weight_before <= weight_offset < end:
        raise OffsetElsewhere(
            f"weight offset {weight_offset} is not in [{located.weight_before}, {end}), the receipt at "
            f"position {located.position}"
        )
    return located


def _leaves(receipts: Sequence[Receipt], first: Receipt) -> Iterator[bytes]:
    """Encode the leaves as `Receipt.leaf` does, with what they share packed once: half the time."""
    genesis_root, job, k, miner = first.genesis_root, first.job, first.k, first.miner
    shared = SHARED.pack(RECEIPT_TAG, genesis_root, job.to_bytes(32, "big"), k, miner)
    own, sums = OWN.pack, _SUMS.pack
    for index, r in enumerate(receipts, first.index):
        if r.index != index:
            raise IndexGap(f"index {r.index} stands where {index} was expected; indices are consecutive")
        if r.job != job or r.k != k or r.miner != miner or r.genesis_root != genesis_root:
            raise MixedBatch(f"receipt {index} is not of the first one's chain, job, draw and miner")
        fuel, weight = r.fuel, r.weight
        leaf = keccak256(shared + own(index, r.unit_id, r.output_id, r.status, fuel, weight))
        yield leaf + sums(fuel, weight)


def _shown(value: bytes | int) -> str:
    return str(value) if isinstance(value, int) else "0x" + value.hex()


def _node(node: SumNode) -> str:
    return f"0x{node.hash.hex()} (fuel {node.fuel}, weight {node.weight})"
