"""The receipts of one place and the batches made of them: what is approved, and what proves a receipt."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final

from noria.market.messages import Approval, BatchOffer
from noria.market.requester.checks import Claimant, Lie, check_offer
from noria.market.requester.evidence import Proven
from noria.market.typed_data import Domain, sign_approval
from noria.primitives.keys import PrivateKey
from noria.primitives.types import Hash32
from noria.work.batches import Batch
from noria.work.receipts import Receipt

APPROVALS_MAX: Final = 64
INDEX_AHEAD_MAX: Final = 4_096
"""How far ahead of the first receipt that is missing an index may be."""
OVERLAPPING_MAX: Final = 8
"""Batches that are looked at for one receipt, where some overlap."""
BATCHES_BESIDE: Final = 64
"""Batches that a miner may have approved beside two for each receipt."""


@dataclass(slots=True)
class _Held:
    receipt: Receipt
    is_verified: bool = False


class Paperwork:
    """Receipts and approvals of one place.

    Parameters
    ----------
    who
        Whose receipts they are.
    domain, session_key
        For approvals.
    """

    def __init__(self, who: Claimant, domain: Domain, session_key: PrivateKey) -> None:
        self._who, self._domain, self._key = who, domain, session_key
        self._held: dict[int, _Held] = {}
        self._first = 0
        """Every receipt below this is in an approved batch."""
        self._next = 0
        """First index of which nothing has come."""
        self._batches: list[Batch] = []
        self._signed: dict[Hash32, Approval] = {}
        self._untold: dict[Hash32, None] = {}

    def receive(self, receipt: Receipt) -> None:
        """Take note of a receipt.

        Raises
        ------
        Lie
            Where another receipt has its index, or it is far from all others.
        """
        index = receipt.index
        if index < self._first or index in self._held:
            raise Lie(f"it used index {index} for two receipts")
        if index > self._next + INDEX_AHEAD_MAX:
            raise Lie(f"its receipt has index {index}, and {self._next} is the next one")
        self._held[index] = _Held(receipt)
        while self._next in self._held:
            self._next += 1

    def verified(self, index: int) -> None:
        """Note that a receipt was found right."""
        held = self._held.get(index)
        if held is not None:
            held.is_verified = True

    def consider(self, offer: BatchOffer) -> bool:
        """Look at a batch that is offered; tell whether there is an approval of it to send now.

        One with receipts that have not come, or are not found right yet, waits until it is offered again. A
        receipt may be in several: the chain takes one of them, whatever was approved.

        Raises
        ------
        Lie
            Where it is not made of the receipts with its indices, or there is no end of them.
        """
        root = Hash32(offer.root)
        if root in self._signed:
            # Offered again: the approval was lost.
            is_news = root not in self._untold
            self._untold[root] = None
            return is_news
        if len(self._signed) >= BATCHES_BESIDE + 2 * self._next:
            raise Lie(f"it offers {len(self._signed)} batches of {self._next} receipts, and still others")
        found: list[Receipt] = []
        for index in range(offer.first_index, offer.first_index + offer.count):
            receipt = self._right(index)
            if receipt is None:
                return False
            found.append(receipt)
        batch = check_offer(offer, found)
        signature = sign_approval(self._key, self._domain, self._who.job, self._who.k, batch.commitment)
        self._signed[root] = Approval(root, signature)
        self._untold[root] = None
        self._keep(batch)
        return True

    def _right(self, index: int) -> Receipt | None:
        """Return a receipt that was found right."""
        held = self._held.get(index)
        if held is not None:
            return held.receipt if held.is_verified else None
        batch = self._batch_of(index)
        return None if batch is None else batch.receipts[index - batch.commitment.first_index]

    def _batch_of(self, index: int) -> Batch | None:
        """Return the latest batch that begins at or before a receipt and has it."""
        place = bisect_right(self._batches, index, key=lambda each: each.commitment.first_index)
        for batch in reversed(self._batches[max(0, place - OVERLAPPING_MAX) : place]):
            if index < batch.commitment.first_index + batch.commitment.count:
                return batch
        return None

    def _keep(self, batch: Batch) -> None:
        first, count = batch.commitment.first_index, batch.commitment.count
        # What it takes the place of is not needed any more.
        begin = bisect_left(self._batches, first, key=lambda each: each.commitment.first_index)
        end = begin
        while end < len(self._batches):
            other = self._batches[end].commitment
            if other.first_index + other.count > first + count:
                break
            end += 1
        del self._batches[begin:end]
        place = bisect_right(self._batches, first, key=lambda each: each.commitment.first_index)
        self._batches.insert(place, batch)
        for index in range(first, first + count):
            self._held.pop(index, None)
        if first <= self._first:
            self._first = max(self._first, first + count)

    @property
    def is_complete(self) -> bool:
        """Whether every receipt is in a batch whose approval the miner has."""
        return not self._held and not self._untold

    def approvals(self) -> list[Approval]:
        """Return the approvals that the miner has not been told."""
        return [self._signed[root] for root in list(self._untold)[:APPROVALS_MAX]]

    def told(self, approvals: list[Approval]) -> None:
        """Note that the miner has them."""
        for approval in approvals:
            self._untold.pop(Hash32(approval.root), None)

    def find_proof(self, index: int) -> Proven | None:
        """Return a receipt's place in an approved batch."""
        batch = self._batch_of(index)
        if batch is None:
            return None
        return Proven(batch.commitment, batch.proof(index - batch.commitment.first_index))
