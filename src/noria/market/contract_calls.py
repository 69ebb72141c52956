"""Inputs of the market's contract calls (``docs/market.md``); each says which contract takes it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

from eth_abi.abi import encode
from eth_abi.grammar import parse

from noria.market.typed_data import BatchFields
from noria.primitives.hashes import keccak256
from noria.primitives.types import SIGNATURE_BYTES, Address, Hash32

LIST_MAX: Final = 64
"""Batches in one call."""
MINERS_MAX: Final = 16
"""Miners that a job can be opened for."""
PLACES_MAX: Final = 64
"""Places that a job can grow to."""
METADATA_BYTES_MAX: Final = 1024
_PARITIES: Final = {0: 0, 1: 1, 27: 0, 28: 1}
"""The last byte of a signature; wallets count from 27."""

_OPEN: Final = "bytes32,bytes32,address,uint256,uint256,uint256,bool,uint256,uint256"


def call_data(signature: str, *arguments: object) -> bytes:
    """Return the input of a call, by a signature such as ``job(uint256)``."""
    selector, types = _signature(signature)
    return selector + encode(types, arguments)


# ---------------------------------------------------------------- JobMarket


def open_call(
    *,
    program_id: bytes,
    details_hash: bytes,
    session_key: Address,
    max_price: int,
    miners: int,
    replicas: int,
    public: bool,
    share: int,
    deadline: int = 0,
) -> bytes:
    """Open a job at `JOB_MARKET`; the budget is the transaction's value.

    Parameters
    ----------
    program_id
        What runs.
    details_hash
        `noria.market.typed_data.details_hash` of what else is agreed.
    session_key
        Who may sign for the job besides the requester; the zero address for nobody.
    max_price
        Wei per fuel, royalty included, at most.
    miners
        Places to draw, 1 to `MINERS_MAX`.
    replicas
        Miners that each unit goes to, 1 to `miners`.
    public
        Whether inputs may be shown to anybody; without it there is no credit.
    share
        First cap of each place, wei.
    deadline
        Unix seconds after which anybody may close the job; 0 for never.
    """
    return call_data(
        f"open({_OPEN})",
        program_id,
        details_hash,
        session_key,
        max_price,
        miners,
        replicas,
        public,
        share,
        deadline,
    )


def open_directed_call(
    *,
    program_id: bytes,
    details_hash: bytes,
    session_key: Address,
    max_price: int,
    replicas: int,
    public: bool,
    share: int,
    named: Sequence[Address],
    deadline: int = 0,
) -> bytes:
    """Open a job at `JOB_MARKET` with miners of one's own choice, as `open_call`; it earns no credit."""
    return call_data(
        f"open_directed({_OPEN},address[])",
        program_id,
        details_hash,
        session_key,
        max_price,
        len(named),
        replicas,
        public,
        share,
        deadline,
        list(named),
    )


def assign_call(job: int) -> bytes:
    """Draw a job's miners, at `JOB_MARKET`; 2 to 64 blocks after it was opened, by anybody."""
    return call_data("assign(uint256)", job)


def extend_call(job: int, share: int) -> bytes:
    """Draw one more miner with a cap of `share` wei, at `JOB_MARKET`; by the requester."""
    return call_data("extend(uint256,uint256)", job, share)


def top_up_call(job: int) -> bytes:
    """Add the transaction's value to what is free, at `JOB_MARKET`; by the requester."""
    return call_data("top_up(uint256)", job)


def raise_cap_call(job: int, k: int, amount: int) -> bytes:
    """Move `amount` wei from what is free to the cap of place k, at `JOB_MARKET`; by the requester."""
    return call_data("raise_cap(uint256,uint256,uint256)", job, k, amount)


def close_call(job: int) -> bytes:
    """End a job, at `JOB_MARKET`; by the requester, or by anybody after the deadline."""
    return call_data("close(uint256)", job)


def refund_call(job: int) -> bytes:
    """Pay the rest back, at `JOB_MARKET`; by anybody, when the time for commits is over."""
    return call_data("refund(uint256)", job)


def claim_call() -> bytes:
    """Take what could not be paid, at `JOB_MARKET` or `SETTLEMENT`."""
    return call_data("claim()")


# ---------------------------------------------------------------- Settlement


def commit_call(job: int, k: int, batch: BatchFields, total: int, allow: bytes) -> bytes:
    """Commit a batch with the latest allow, at `SETTLEMENT`; by the place's miner."""
    return call_data(
        "commit(uint256,uint256,bytes32,uint256,uint256,uint256,uint256,bytes)",
        job,
        k,
        batch.root,
        batch.fuel,
        batch.weight,
        batch.count,
        total,
        allow,
    )


def commit_approved_call(job: int, k: int, batch: BatchFields, approval: bytes) -> bytes:
    """Commit a batch with its approval and be paid at once, at `SETTLEMENT`; by the place's miner."""
    return call_data(
        "commit_approved(uint256,uint256,bytes32,uint256,uint256,uint256,bytes)",
        job,
        k,
        batch.root,
        batch.fuel,
        batch.weight,
        batch.count,
        approval,
    )


def approve_call(job: int, k: int, roots: Sequence[bytes], approvals: Sequence[bytes]) -> bytes:
    """Have committed batches paid at once, at `SETTLEMENT`; by anybody who has their approvals.

    Raises
    ------
    ValueError
        Where there are too many, or an approval is no signature of 65 bytes.
    """
    signatures = [_compact(approval) for approval in _listed(approvals)]
    return call_data(
        "approve(uint256,uint256,bytes32[],(uint256,uint256)[])", job, k, _listed(roots), signatures
    )


def finalize_call(job: int, k: int, roots: Sequence[bytes]) -> bytes:
    """Have batches paid whose time for challenges is over, at `SETTLEMENT`; by anybody."""
    return call_data("finalize(uint256,uint256,bytes32[])", job, k, _listed(roots))


def credit_call(job: int, k: int, roots: Sequence[bytes]) -> bytes:
    """Have paid batches credited as weight, at `SETTLEMENT`; by anybody."""
    return call_data("credit(uint256,uint256,bytes32[])", job, k, _listed(roots))


# ---------------------------------------------------------------- ProgramRegistry


def publish_call(program_id: bytes, royalty: int, metadata: bytes) -> bytes:
    """Publish a program, at `PROGRAM_REGISTRY`: the sender becomes its developer.

    Parameters
    ----------
    royalty
        Wei per fuel.
    metadata
        At most `METADATA_BYTES_MAX` bytes for people, in the event alone.
    """
    return call_data("publish(bytes32,uint256,bytes)", program_id, royalty, metadata)


def set_royalty_call(program_id: bytes, royalty: int) -> bytes:
    """Change the royalty for jobs opened from now on, at `PROGRAM_REGISTRY`; by the program's developer."""
    return call_data("set_royalty(bytes32,uint256)", program_id, royalty)


# ---------------------------------------------------------------- inside


def _listed(values: Sequence[bytes]) -> list[bytes]:
    if len(values) > LIST_MAX:
        raise ValueError(f"{len(values)} batches in one call: at most {LIST_MAX}, send the rest in another")
    return list(values)


def _compact(signature: bytes) -> tuple[int, int]:
    """Return a signature as EIP-2098 writes it: r, and s below the parity of R's y."""
    if len(signature) != SIGNATURE_BYTES or signature[-1] not in _PARITIES:
        raise ValueError(f"{signature.hex()} is no signature of {SIGNATURE_BYTES} bytes")
    s = int.from_bytes(signature[32:64])
    if s >> 255:
        raise ValueError(f"{signature.hex()} is malleable: its s is above half of the group's order")
    return int.from_bytes(signature[:32]), (_PARITIES[signature[-1]] << 255) | s


@cache
def _signature(signature: str) -> tuple[Hash32, list[str]]:
    selector, types = Hash32(keccak256(signature.encode())[:4]), signature[signature.index("(") :]
    return selector, [] if types == "()" else [each.to_type_str() for each in parse(types).components]
