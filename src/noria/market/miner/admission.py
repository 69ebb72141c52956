"""What a miner takes on, as pure rules: sessions, allows, approvals, units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from noria.market.contracts import Job, JobState, Place
from noria.market.messages import (
    BLOB_BYTES_MAX,
    VERSION,
    Allow,
    Approval,
    BlobPart,
    BytesPart,
    Hello,
    Refused,
    Unit,
)
from noria.market.miner.terms import HeldAllow
from noria.market.typed_data import (
    BatchFields,
    Domain,
    allow_digest,
    approval_digest,
    details_hash,
    session_digest,
    signer_of,
    terms_hash,
)
from noria.network.errors import Refusal
from noria.primitives.hashes import blake3
from noria.primitives.types import Address, Signature

UNIT_FUEL_MAX: Final = 5 * 10**12
"""Highest fuel limit that is taken: about half an hour of a worker at the slowest ordinary speed."""
INPUT_BYTES_MAX: Final = BLOB_BYTES_MAX
REASON_BYTES_MAX: Final = 256


class Declined(Refusal):
    """A request that is refused; its message begins with one of the names of ``docs/market.md``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}"[:REASON_BYTES_MAX])
        self.kind = kind


def check_version(hello: Hello) -> None:
    """Refuse another version of the protocol."""
    if hello.version != VERSION:
        raise Declined("old-version", f"this miner speaks version {VERSION}, not {hello.version}")


def check_place(job: Job | None, place: Place | None, miner: Address, number: int, k: int) -> Place:
    """Return this miner's place, if it has one.

    Raises
    ------
    Declined
        ``unknown-job``.
    """
    if job is None:
        raise Declined("unknown-job", f"there is no job {number} at this node's head")
    if place is None or job.state is JobState.OPEN:
        raise Declined("unknown-job", f"job {number} has no place {k} at this node's head")
    if place.miner != miner:
        raise Declined("unknown-job", f"place {k} of job {number} is not this miner's")
    return place


def check_running(job: Job, now: int) -> None:
    """Refuse a job that is over.

    Raises
    ------
    Declined
        ``closed``.
    """
    if job.state is not JobState.ASSIGNED:
        raise Declined(
            "closed", f"job {job.number} is {'closing' if job.state is JobState.CLOSING else 'over'}"
        )
    if job.deadline and now >= job.deadline:
        raise Declined("closed", f"job {job.number} has passed its deadline")


def check_hello(domain: Domain, job: Job, hello: Hello, peer: str) -> None:
    """Check that a peer speaks for a job, and about the job that it means.

    Raises
    ------
    Declined
        ``wrong-terms``, ``wrong-signature``.
    """
    if terms_hash(hello.program, details_hash(hello.details)) != job.terms:
        raise Declined("wrong-terms", f"these are not the program and the details of job {hello.job}")
    signer = signer_of(session_digest(domain, hello.job, hello.k, peer), hello.signature)
    if signer != job.session_key:
        raise Declined("wrong-signature", f"not job {hello.job}'s session key speaks for peer {peer}")


def check_allow(domain: Domain, job: Job, k: int, allow: Allow, held: HeldAllow | None) -> HeldAllow | None:
    """Return an allow that is higher than the one held; None where it is not.

    Raises
    ------
    Declined
        ``wrong-signature``.
    """
    total = int(allow.total)
    if held is not None and total <= held.total:
        return None
    signer = signer_of(allow_digest(domain, job.number, k, total), allow.signature)
    if signer not in (job.session_key, job.requester):
        raise Declined("wrong-signature", f"the allow of {total} wei is not signed for job {job.number}")
    return HeldAllow(total, Signature(allow.signature))


def is_approved(domain: Domain, job: Job, k: int, batch: BatchFields, approval: Approval) -> bool:
    """Tell whether an approval is the requester's."""
    signer = signer_of(approval_digest(domain, job.number, k, batch), approval.signature)
    return signer in (job.session_key, job.requester)


def check_unit(unit: Unit, fuel_limit_max: int = UNIT_FUEL_MAX) -> Refused | None:
    """Return why a unit is not taken, whoever orders it; None where it may be."""
    if unit.fuel_limit > fuel_limit_max:
        return Refused(unit.number, "fuel-limit", f"at most {fuel_limit_max} fuel are taken here")
    size = input_bytes(unit)
    if size > INPUT_BYTES_MAX:
        return Refused(unit.number, "input-too-large", f"{size} bytes; at most {INPUT_BYTES_MAX}")
    return None


def check_blobs(unit: Unit, sizes: Mapping[bytes, int]) -> Refused | None:
    """Return why a unit is not taken whose parts are not here, or not as long as it says; None if they are.

    Parameters
    ----------
    unit
        The unit.
    sizes
        Bytes of each blob that is here.
    """
    for part in unit.parts:
        if not isinstance(part, BlobPart):
            continue
        size = sizes.get(part.blob)
        if size is None:
            return Refused(unit.number, "blob-missing", part.blob.hex())
        if size != part.size:
            message = f"blob {part.blob.hex()} has {size} bytes, not {part.size}"
            return Refused(unit.number, "blob-size", message)
    return None


def input_bytes(unit: Unit) -> int:
    """Return how long a unit's input is said to be."""
    return sum(part.size if isinstance(part, BlobPart) else len(part.data) for part in unit.parts)


def inline_bytes(unit: Unit) -> int:
    """Return how many bytes of its input a unit brings with it."""
    return sum(len(part.data) for part in unit.parts if isinstance(part, BytesPart))


def unit_digest(unit: Unit) -> bytes:
    """Return what tells a unit from another under the same number; how it is shown does not."""
    return blake3(msgspec.msgpack.encode((unit.fuel_limit, unit.parts)))
