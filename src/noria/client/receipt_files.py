"""Receipts that leave the program: a JSON file that anybody can check without a node.

The file holds the unit's ids, the claims of all miners that ran it with their signatures, and, once the
batches are approved, the paths to the roots that stand on chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from noria.market.requester.evidence import Settled, SignedReceipt
from noria.market.typed_data import seal
from noria.primitives.addresses import checksum_address
from noria.primitives.hexes import parse_data
from noria.primitives.keys import InvalidKey, recover_address
from noria.primitives.sum_tree import SumTreeError
from noria.primitives.types import HASH_BYTES, ZERO_HASH, Address, Hash32, Wei
from noria.work.batches import BatchCommitment, BatchError, decode_proof, verify
from noria.work.ids import BlobId, ProgramId, UnitId, blob_id, unit_id
from noria.work.receipts import Receipt, ReceiptError, Status, check_unit, decode_receipt, status_of

FORMAT: Final = "noria/receipt/1"
FILE_BYTES_MAX: Final = 4 << 20
OUTPUT_BYTES_MAX: Final = 1 << 20
"""Longest output that is kept in the file; of a longer one only the name."""
REPLICAS_MAX: Final = 64


class InvalidReceiptFile(ValueError):
    """A receipt file that is none, or whose claims do not hold; the message says which."""


class _Batch(msgspec.Struct):
    root: str
    first_index: int
    count: int
    fuel: int
    weight: int


class _Replica(msgspec.Struct):
    miner: str
    receipt: str
    signature: str
    nonce: str
    seal: str | None
    price: str
    batch: _Batch | None = None
    proof: str | None = None


class _File(msgspec.Struct):
    format: str
    function: str
    genesis_root: str
    job: str
    program: str
    input_id: str
    fuel_limit: int
    unit_id: str
    status: str
    output_id: str
    output_bytes: int
    fuel: int
    own_run: bool
    replicas: list[_Replica]
    output: str | None = None


@dataclass(frozen=True, slots=True)
class CheckedReplica:
    """A miner's claim in a file, found to hold.

    Attributes
    ----------
    miner, index, k
        Whose it is, and its place.
    price
        Wei, as the requester computed it.
    is_sealed
        Whether the claim was sealed before others could be known; the seal was computed again.
    batch_root
        Root of the approved batch to which its path leads, if the file has one.
    """

    miner: Address
    index: int
    k: int
    price: Wei
    is_sealed: bool
    batch_root: Hash32 | None


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A receipt file, everything in it found to hold.

    Attributes
    ----------
    function
        Name of what was called, for people; nothing proves it.
    genesis_root, job
        Where it was ordered.
    unit_id, program, input_id, fuel_limit
        The unit; the first follows from the others.
    status, output_id, fuel
        How it ended, as all replicas say.
    output
        The output itself, if the file has it.
    own_run
        Whether the requester says that it ran the unit itself; nothing proves it.
    replicas
        Who says so.
    """

    function: str
    genesis_root: Hash32
    job: int
    unit_id: UnitId
    program: ProgramId
    input_id: BlobId
    fuel_limit: int
    status: Status
    output_id: BlobId
    fuel: int
    output: bytes | None
    own_run: bool
    replicas: tuple[CheckedReplica, ...]

    def lines(self) -> list[str]:
        """Return what was found, for people."""
        found = [
            f"unit 0x{self.unit_id.hex()}: program, input and fuel limit give this name",
            f"status {self.status.name.lower().replace('_', ' ')}, {self.fuel:,} fuel, "
            f"output 0x{self.output_id.hex()}"
            + (", which is in the file" if self.output is not None else ""),
        ]
        for replica in self.replicas:
            words = [f"{checksum_address(replica.miner)} signed receipt {replica.index} of place {replica.k}"]
            if replica.is_sealed:
                words.append("sealed before the others were known")
            if replica.batch_root is not None:
                words.append(f"in the approved batch 0x{replica.batch_root.hex()}")
            found.append(", ".join(words))
        return found


@dataclass(frozen=True, slots=True)
class JobReceipt:
    """What shows that miners ran a call: `NetworkFuture.receipt`.

    Attributes
    ----------
    function
        Qualified name of what was called.
    settled
        The unit and its result.
    """

    function: str
    settled: Settled

    @property
    def unit_id(self) -> UnitId:
        """Name of the unit."""
        return self.settled.unit_id

    @property
    def output_id(self) -> BlobId:
        """Name of the output."""
        return blob_id(self.settled.output)

    @property
    def status(self) -> Status:
        """How the unit ended."""
        return self.settled.status

    @property
    def fuel(self) -> int:
        """Fuel that it burned."""
        return self.settled.fuel

    @property
    def replicas(self) -> tuple[SignedReceipt, ...]:
        """The claims of the miners, each with its signature."""
        return self.settled.replicas

    @property
    def miners(self) -> tuple[Address, ...]:
        """Who ran it."""
        return tuple(signed.receipt.miner for signed in self.settled.replicas)

    @property
    def own_run(self) -> bool:
        """Whether this machine ran it again and found the same."""
        return self.settled.own_run

    @property
    def cost(self) -> Wei:
        """What all claims together cost."""
        return self.settled.cost

    def encode(self) -> bytes:
        """Return the receipt as JSON, as `save` writes it."""
        settled = self.settled
        first = settled.replicas[0].receipt if settled.replicas else None
        output = settled.output if len(settled.output) <= OUTPUT_BYTES_MAX else None
        file = _File(
            format=FORMAT,
            function=self.function,
            genesis_root=_text(first.genesis_root if first else ZERO_HASH),
            job=str(first.job if first else 0),
            program=_text(settled.program),
            input_id=_text(settled.input_id),
            fuel_limit=settled.fuel_limit,
            unit_id=_text(settled.unit_id),
            status=settled.status.name.lower(),
            output_id=_text(self.output_id),
            output_bytes=len(settled.output),
            fuel=settled.fuel,
            own_run=settled.own_run,
            replicas=[_replica(signed) for signed in settled.replicas],
            output=None if output is None else _text(output),
        )
        return msgspec.json.format(msgspec.json.encode(file))

    def save(self, path: str | Path) -> None:
        """Write the receipt to a file, which `verify_receipt_file` and ``noria receipt verify`` check."""
        Path(path).write_bytes(self.encode() + b"\n")


def verify_receipt_file(path: str | Path) -> CheckedFile:
    """Check everything that a receipt file says, without a node.

    Parameters
    ----------
    path
        What `JobReceipt.save` wrote.

    Returns
    -------
    CheckedFile

    Raises
    ------
    InvalidReceiptFile
        Where the file cannot be read, or something in it does not hold.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidReceiptFile(f"{path} cannot be read: {error.strerror}") from None
    return verify_receipt(data, str(path))


def verify_receipt(data: bytes, name: str = "the receipt") -> CheckedFile:
    """Check the content of a receipt file; see `verify_receipt_file`."""
    if len(data) > FILE_BYTES_MAX:
        raise InvalidReceiptFile(f"{name} is longer than {FILE_BYTES_MAX} bytes: no receipt file is")
    try:
        file = msgspec.json.decode(data, type=_File)
        if file.format != FORMAT:
            raise ValueError(f"its format is {file.format[:40]!r}, not {FORMAT!r}")
        if not 1 <= len(file.replicas) <= REPLICAS_MAX:
            raise ValueError(f"it has {len(file.replicas)} signed receipts, 1 to {REPLICAS_MAX} are possible")
        return _check(file)
    except (
        msgspec.MsgspecError,
        ValueError,
        RecursionError,
        ReceiptError,
        BatchError,
        SumTreeError,
        InvalidKey,
    ) as error:
        raise InvalidReceiptFile(f"{name} does not hold: {error}") from None


def _check(file: _File) -> CheckedFile:
    program = ProgramId(_hash(file.program, "program"))
    input_id = BlobId(_hash(file.input_id, "input_id"))
    named = UnitId(_hash(file.unit_id, "unit_id"))
    found = unit_id(program, input_id, file.fuel_limit)
    if found != named:
        raise ValueError(f"program, input and fuel limit are unit 0x{found.hex()}, not {file.unit_id}")
    try:
        status = Status[file.status.upper()]
    except KeyError:
        raise ValueError(f"{file.status[:40]!r} is no status") from None
    output_id = BlobId(_hash(file.output_id, "output_id"))
    output = None if file.output is None else parse_data(file.output)
    if output is not None and blob_id(output) != output_id:
        raise ValueError("the output in the file is not the one that was signed")
    genesis_root = _hash(file.genesis_root, "genesis_root")
    job = int(file.job) if file.job.isdecimal() and len(file.job) <= 78 else -1
    replicas = tuple(_check_replica(each) for each in file.replicas)
    for replica, raw in zip(replicas, file.replicas, strict=True):
        receipt = decode_receipt(parse_data(raw.receipt))
        check_unit(receipt, program, input_id, file.fuel_limit)
        claimed = (receipt.status, receipt.output_id, receipt.fuel, receipt.genesis_root, receipt.job)
        if claimed != (status, output_id, file.fuel, genesis_root, job):
            raise ValueError(f"the receipt of {checksum_address(replica.miner)} says something else")
    if len({(replica.miner, replica.k) for replica in replicas}) != len(replicas):
        raise ValueError("one miner signed twice")
    return CheckedFile(
        function=file.function[:1000],
        genesis_root=genesis_root,
        job=job,
        unit_id=named,
        program=program,
        input_id=input_id,
        fuel_limit=file.fuel_limit,
        status=status_of(status),
        output_id=output_id,
        fuel=file.fuel,
        output=output,
        own_run=file.own_run,
        replicas=replicas,
    )


def _check_replica(raw: _Replica) -> CheckedReplica:
    receipt = decode_receipt(parse_data(raw.receipt))
    shown = checksum_address(receipt.miner)
    if parse_data(raw.miner) != receipt.miner:
        raise ValueError(f"the receipt is of {shown}, not of {raw.miner[:50]}")
    signer = recover_address(receipt.leaf().hash, parse_data(raw.signature))
    if signer != receipt.miner:
        raise ValueError(f"the receipt of {shown} is signed by {checksum_address(signer)}")
    nonce = _hash(raw.nonce, "nonce")
    if raw.seal is not None and _hash(raw.seal, "seal") != _seal(receipt, nonce):
        raise ValueError(f"the seal of {shown} is of another result")
    root: Hash32 | None = None
    if raw.batch is not None and raw.proof is not None:
        root = _hash(raw.batch.root, "root")
        proof = decode_proof(parse_data(raw.proof))
        if proof.receipt != receipt:
            raise ValueError(f"the path of {shown} is of another receipt")
        verify(_commitment(raw.batch, receipt, root), proof)
    price = Wei(int(raw.price)) if raw.price.isdecimal() and len(raw.price) <= 78 else Wei(0)
    return CheckedReplica(receipt.miner, receipt.index, receipt.k, price, raw.seal is not None, root)


def _seal(receipt: Receipt, nonce: Hash32) -> Hash32:
    return seal(
        receipt.genesis_root,
        receipt.job,
        receipt.unit_id,
        nonce,
        receipt.status,
        receipt.output_id,
        receipt.fuel,
        receipt.miner,
    )


def _commitment(batch: _Batch, receipt: Receipt, root: Hash32) -> BatchCommitment:
    return BatchCommitment(
        genesis_root=receipt.genesis_root,
        job=receipt.job,
        k=receipt.k,
        miner=receipt.miner,
        first_index=batch.first_index,
        count=batch.count,
        root=root,
        fuel=batch.fuel,
        weight=batch.weight,
    )


def _replica(signed: SignedReceipt) -> _Replica:
    proven = signed.find_proof()
    batch = None
    if proven is not None:
        made = proven.commitment
        batch = _Batch(_text(made.root), made.first_index, made.count, made.fuel, made.weight)
    return _Replica(
        miner=checksum_address(signed.receipt.miner),
        receipt=_text(signed.receipt.encode()),
        signature=_text(signed.signature),
        nonce=_text(signed.nonce),
        seal=None if signed.seal is None else _text(signed.seal),
        price=str(signed.price),
        batch=batch,
        proof=None if proven is None else _text(proven.proof.encode()),
    )


def _hash(text: str, name: str) -> Hash32:
    data = parse_data(text)
    if len(data) != HASH_BYTES:
        raise ValueError(f"{name} has {len(data)} bytes, not {HASH_BYTES}")
    return Hash32(data)


def _text(data: bytes) -> str:
    return "0x" + data.hex()
