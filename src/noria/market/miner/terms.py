"""What the miner's side asks of the market's contracts, and has them do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from noria.market.access import TransactionResult
from noria.market.contracts import Job, Place, SettledBatch
from noria.primitives.hashes import blake3
from noria.primitives.types import Hash32, Signature
from noria.work.batches import BatchCommitment

MARK_TAG: Final = b"noria/place/1"


@dataclass(frozen=True, slots=True)
class HeldAllow:
    """The latest allow of a place: it may charge up to `total` wei."""

    total: int
    signature: Signature


def mark_of(job: Job, place: Place) -> Hash32:
    """Name a place by what was agreed about it.

    A reorganisation can give the same number to another job, or another price to the place: receipts of the
    one must never be taken for those of the other.
    """
    numbers = (job.number, place.k, job.royalty, place.price, job.directed, job.public, job.replicas)
    return blake3(
        MARK_TAG
        + job.requester
        + job.session_key
        + job.terms
        + place.miner
        + b"".join(int(number).to_bytes(32, "big") for number in numbers)
    )


class MarketChain(Protocol):
    """The market's contracts as one miner uses them, at this node's head.

    All raise `noria.market.access.ChainAccessError` where the chain cannot be asked or takes no transaction;
    what is done raises `noria.market.access.CallReverted` where it would fail, and returns None where it is
    sent and not yet in a block.
    """

    async def job(self, job: int) -> Job | None:
        """Return a job."""
        ...

    async def place(self, job: int, k: int) -> Place | None:
        """Return a place."""
        ...

    async def batch(self, root: Hash32) -> SettledBatch | None:
        """Return a batch that this miner has committed."""
        ...

    async def assigned(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return (job, k) of this miner's places that were assigned in these blocks."""
        ...

    async def ask_price(self) -> int | None:
        """Return what this miner asks, wei per fuel; None where it is not registered."""
        ...

    async def gas_price(self) -> int:
        """Return what a transaction pays per gas now, wei."""
        ...

    async def commit(
        self, batch: BatchCommitment, allow: HeldAllow | None, approval: Signature | None
    ) -> TransactionResult | None:
        """Commit a batch, with its approval if there is one, else with the allow."""
        ...

    async def approve(
        self, job: int, k: int, batches: Sequence[tuple[Hash32, Signature]]
    ) -> TransactionResult | None:
        """Have committed batches paid that were approved later."""
        ...

    async def finalize(self, job: int, k: int, roots: Sequence[Hash32]) -> TransactionResult | None:
        """Have batches paid whose time is up."""
        ...

    async def credit(self, job: int, k: int, roots: Sequence[Hash32]) -> TransactionResult | None:
        """Have paid batches credited."""
        ...
