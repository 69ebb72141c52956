"""What a miner claims about one unit that it ran (protocol 3), and the checks of a claim on its own.

A receipt's encoding is what is hashed: ``leaf = K(encoding)``, 192 bytes with every integer in a fixed width,
so that a contract hashes them as they come and slices the fields out. The byte table is in
``docs/receipts.md``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from noria.primitives.hashes import keccak256
from noria.primitives.sum_tree import SumNode
from noria.primitives.types import (
    ADDRESS_BYTES,
    FUEL_MAX,
    HASH_BYTES,
    UINT64_MAX,
    UINT256_MAX,
    Address,
    Hash32,
)
from noria.work.ids import BlobId, ProgramId, UnitId, unit_id

RECEIPT_TAG: Final = b"noria/receipt/1"
RECEIPT_BYTES: Final = 192
UINT32_MAX: Final = 2**32 - 1

SHARED: Final = struct.Struct(">15s32s32sI20s")
"""What the receipts of one job, draw and miner share: tag ‖ genesis_root ‖ job ‖ k ‖ miner."""
OWN: Final = struct.Struct(">Q32s32sBQQ")
"""What follows: index ‖ unit_id ‖ output_id ‖ status ‖ fuel ‖ weight."""


class Status(IntEnum):
    """How a unit ended (protocol 2). Every one of them is a result, the same on every machine."""

    OK = 0
    FAILED = 1
    """The program exited with an error or trapped."""
    OUT_OF_FUEL = 2
    MEMORY_LIMIT = 3
    """The module's initial memory or table exceeds the limit."""
    STACK_LIMIT = 4
    OUTPUT_LIMIT = 5


class ReceiptError(ValueError):
    """Something that is no receipt, or one that claims what may not be claimed; base of the errors below."""


class InvalidReceipt(ReceiptError):
    """A field that does not fit, a status that is none, or bytes that are not a receipt's."""


class WrongWeight(ReceiptError):
    """A weight that is neither the fuel nor 0."""


class WrongUnit(ReceiptError):
    """Program, input and fuel limit that give another unit than the receipt's."""


class FuelMismatch(ReceiptError):
    """Fuel above the unit's limit, or a unit out of fuel that did not burn exactly its limit."""


class WeightNotAllowed(ReceiptError):
    """Weight claimed for a unit that carries none."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A miner's claim: this unit gave this status and output and burned this fuel.

    Parameters
    ----------
    genesis_root
        The chain on which the job was opened.
    job
        Number of the job, 256 bits.
    k
        Which of the job's draws chose the miner, 32 bits.
    miner
        The miner's address.
    index
        Place among the receipts of this job, draw and miner, 64 bits.
    unit_id
        What ran.
    output_id
        What came out.
    status
        How it ended.
    fuel
        Fuel burned, 64 bits.
    weight
        `fuel`, or 0.

    Raises
    ------
    InvalidReceipt
        Where a field does not fit.
    WrongWeight
        Where `weight` is neither `fuel` nor 0.
    """

    genesis_root: Hash32
    job: int
    k: int
    miner: Address
    index: int
    unit_id: UnitId
    output_id: BlobId
    status: Status
    fuel: int
    weight: int

    def __post_init__(self) -> None:
        # One test of all fields for the many that are right; the slow words are for the one that is not.
        if not (
            len(self.genesis_root) == len(self.unit_id) == len(self.output_id) == HASH_BYTES
            and len(self.miner) == ADDRESS_BYTES
            and 0 <= self.job <= UINT256_MAX
            and 0 <= self.k <= UINT32_MAX
            and 0 <= self.index <= UINT64_MAX
            and 0 <= self.status <= Status.OUTPUT_LIMIT
            and 0 <= self.fuel <= UINT64_MAX
        ):
            raise InvalidReceipt(_complaint(self))
        if self.weight != self.fuel and self.weight != 0:
            raise WrongWeight(f"a receipt of {self.fuel} fuel weighs that or 0, not {self.weight}")

    def encode(self) -> bytes:
        """Return the receipt's `RECEIPT_BYTES` bytes, the preimage of its leaf."""
        return SHARED.pack(
            RECEIPT_TAG, self.genesis_root, self.job.to_bytes(32, "big"), self.k, self.miner
        ) + OWN.pack(self.index, self.unit_id, self.output_id, self.status, self.fuel, self.weight)

    def leaf(self) -> SumNode:
        """Return the receipt's leaf in the sum tree of its batch."""
        return SumNode(keccak256(self.encode()), self.fuel, self.weight)


def decode_receipt(data: bytes) -> Receipt:
    """Read a receipt from its encoding.

    Parameters
    ----------
    data
        Bytes from anywhere.

    Returns
    -------
    Receipt
        One whose encoding is exactly `data`.

    Raises
    ------
    InvalidReceipt
        Where these are not a receipt's bytes.
    WrongWeight
        Where the weight is neither the fuel nor 0.
    """
    if len(data) != RECEIPT_BYTES:
        raise InvalidReceipt(f"a receipt has {RECEIPT_BYTES} bytes, not {len(data)}")
    tag, genesis_root, job, k, miner = SHARED.unpack_from(data)
    if tag != RECEIPT_TAG:
        raise InvalidReceipt(f"a receipt begins with {RECEIPT_TAG!r}, not {tag!r}")
    index, unit, output, status, fuel, weight = OWN.unpack_from(data, SHARED.size)
    return Receipt(
        genesis_root=Hash32(genesis_root),
        job=int.from_bytes(job, "big"),
        k=k,
        miner=Address(miner),
        index=index,
        unit_id=UnitId(Hash32(unit)),
        output_id=BlobId(Hash32(output)),
        status=status_of(status),
        fuel=fuel,
        weight=weight,
    )


def status_of(value: int) -> Status:
    """Return the status with a number.

    Raises
    ------
    InvalidReceipt
        Where there is none.
    """
    try:
        return Status(value)
    except ValueError:
        raise InvalidReceipt(f"a status is 0 to {Status.OUTPUT_LIMIT:d}, not {value}") from None


@dataclass(frozen=True, slots=True)
class WeightRules:
    """Bounds on the units that carry weight, from the chain's specification (protocol 9).

    Parameters
    ----------
    fuel_limit_max
        ``U_MAX`` in fuel.
    input_bytes_max
        ``INPUT_MAX`` in bytes.
    """

    fuel_limit_max: int
    input_bytes_max: int

    def carries_weight(self, *, fuel_limit: int, input_bytes: int, pinned: bool, public: bool) -> bool:
        """Tell whether a unit's receipt may weigh its fuel.

        Parameters
        ----------
        fuel_limit
            The unit's.
        input_bytes
            Length of its input.
        pinned
            Whether the chain's specification pins its program.
        public
            Whether its job is public.

        Returns
        -------
        bool
        """
        return (
            pinned
            and public
            and 0 <= fuel_limit <= self.fuel_limit_max
            and 0 <= input_bytes <= self.input_bytes_max
        )


def check_unit(receipt: Receipt, program: ProgramId, input_id: BlobId, fuel_limit: int) -> None:
    """Check a receipt against what its unit is said to be.

    Parameters
    ----------
    receipt
        The claim.
    program, input_id, fuel_limit
        What is said to be behind its `unit_id`.

    Raises
    ------
    WrongUnit
        Where these give another unit.
    FuelMismatch
        Where the fuel is above the limit, or the unit ran out of fuel and the two differ.
    """
    found = unit_id(program, input_id, fuel_limit)
    if found != receipt.unit_id:
        raise WrongUnit(
            f"the receipt is of unit {receipt.unit_id.hex()}, but program {program.hex()}, input "
            f"{input_id.hex()} and fuel limit {fuel_limit} are unit {found.hex()}"
        )
    check_fuel(receipt, fuel_limit)


def check_fuel(receipt: Receipt, fuel_limit: int) -> None:
    """Check a receipt's fuel against its unit's limit.

    Parameters
    ----------
    receipt
        The claim.
    fuel_limit
        The unit's; beyond `FUEL_MAX` it counts as that.

    Raises
    ------
    FuelMismatch
        Where the fuel is above the limit, or the unit ran out of fuel and the two differ.
    """
    most = min(fuel_limit, FUEL_MAX)
    if receipt.fuel > most:
        raise FuelMismatch(f"the receipt has {receipt.fuel} fuel, above the unit's limit of {most}")
    if receipt.status == Status.OUT_OF_FUEL and receipt.fuel != most:
        raise FuelMismatch(f"a unit out of fuel has burned its limit of {most}, not {receipt.fuel}")


def check_weight(
    receipt: Receipt, rules: WeightRules, *, fuel_limit: int, input_bytes: int, pinned: bool, public: bool
) -> None:
    """Check that a receipt claims no weight which its unit may not carry.

    Parameters
    ----------
    receipt
        The claim, its unit checked.
    rules
        The chain's bounds.
    fuel_limit, input_bytes, pinned, public
        As in `WeightRules.carries_weight`.

    Raises
    ------
    WeightNotAllowed
        Where it does.
    """
    if receipt.weight and not rules.carries_weight(
        fuel_limit=fuel_limit, input_bytes=input_bytes, pinned=pinned, public=public
    ):
        raise WeightNotAllowed(
            f"the receipt weighs {receipt.weight}, but its unit carries no weight: "
            f"fuel limit {fuel_limit} of at most {rules.fuel_limit_max}, "
            f"input {input_bytes} bytes of at most {rules.input_bytes_max}, "
            f"program {'' if pinned else 'not '}pinned, job {'' if public else 'not '}public"
        )


def _complaint(receipt: Receipt) -> str:
    for name, size in (
        ("genesis_root", HASH_BYTES),
        ("miner", ADDRESS_BYTES),
        ("unit_id", HASH_BYTES),
        ("output_id", HASH_BYTES),
    ):
        if len(value := getattr(receipt, name)) != size:
            return f"a receipt's {name} has {size} bytes, not {len(value)}"
    limits = {"job": UINT256_MAX, "k": UINT32_MAX, "index": UINT64_MAX, "fuel": UINT64_MAX}
    for name, limit in limits.items():
        if not 0 <= (value := getattr(receipt, name)) <= limit:
            return f"a receipt's {name} is 0 to {limit}, not {value}"
    return f"a status is 0 to {Status.OUTPUT_LIMIT:d}, not {receipt.status}"
