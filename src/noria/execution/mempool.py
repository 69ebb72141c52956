"""Transactions that wait to be mined.

Within a sender they are ordered by nonce, across senders by what they pay. The pool is pure: it is told the
accounts, the base fee and the time, does no input or output, and is not safe to use from several threads.

Two classes of transactions wait: *executable* ones, which follow the account's nonce without a gap, and
*gapped* ones. Gapped transactions cost their sender nothing for as long as the gap stays open, so they have a
small limit of their own, they give way to every executable transaction when the pool is full, they never push
an executable one out, and they expire.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heapreplace

from noria._core import Transaction
from noria.execution.eviction import EvictionOrder, run_price
from noria.execution.mempool_rules import (
    MempoolLimits,
    check_replacement,
    checked_entry,
    insufficient_funds,
)
from noria.execution.rejections import Departure, RejectedTransaction
from noria.execution.sender_queue import Entry, SenderQueue

__all__ = ["Departure", "Mempool", "MempoolLimits", "RejectedTransaction"]


class Mempool:
    """Pending transactions of all senders.

    Parameters
    ----------
    limits
        What is accepted.

    Examples
    --------
    >>> pool = Mempool(MempoolLimits(chain_id=5132114))
    >>> pool.candidates(base_fee=7)
    []
    """

    __slots__ = (
        "_base_fee",
        "_by_hash",
        "_departed",
        "_gapped",
        "_gapped_order",
        "_run_order",
        "_senders",
        "_sequence",
        "_size",
        "limits",
    )

    def __init__(self, limits: MempoolLimits) -> None:
        self.limits = limits
        self._by_hash: dict[bytes, Entry] = {}
        self._senders: dict[bytes, SenderQueue] = {}
        self._size = 0
        self._gapped = 0
        self._sequence = 0
        self._base_fee = 0
        self._departed: dict[bytes, Departure] = {}
        self._run_order = EvictionOrder(SenderQueue.run_tail)
        self._gapped_order = EvictionOrder(SenderQueue.gapped_tail)

    # ------------------------------------------------------------ reading

    def __len__(self) -> int:
        """Return the number of transactions, executable and gapped."""
        return len(self._by_hash)

    def __contains__(self, tx_hash: bytes) -> bool:
        """Return whether a transaction waits here."""
        return tx_hash in self._by_hash

    @property
    def size_bytes(self) -> int:
        """Sum of the encoded sizes."""
        return self._size

    @property
    def gapped(self) -> int:
        """Number of transactions behind gaps."""
        return self._gapped

    def get(self, tx_hash: bytes) -> Transaction | None:
        """Return a waiting transaction by its hash."""
        entry = self._by_hash.get(tx_hash)
        return None if entry is None else entry.transaction

    def departure(self, tx_hash: bytes) -> Departure | None:
        """Return why a transaction left without being mined, if that was not too long ago."""
        return self._departed.get(tx_hash)

    def senders(self) -> list[bytes]:
        """Return every sender with a waiting transaction."""
        return list(self._senders)

    def by_sender(self, sender: bytes) -> list[Transaction]:
        """Return a sender's transactions in the order of their nonces, executable and gapped."""
        queue = self._senders.get(sender)
        if queue is None:
            return []
        return [queue.entries[nonce].transaction for nonce in sorted(queue.entries)]

    def is_first(self, tx_hash: bytes) -> bool:
        """Return whether a transaction waits here with its account's nonce: nothing comes before it."""
        entry = self._by_hash.get(tx_hash)
        return entry is not None and entry.nonce == self._senders[entry.transaction.sender].nonce

    def executable(self, sender: bytes, start: int | None = None) -> Iterator[Transaction]:
        """Iterate over a sender's executable transactions, optionally from a nonce on."""
        queue = self._senders.get(sender)
        if queue is not None:
            for entry in queue.run(start):
                yield entry.transaction

    def __iter__(self) -> Iterator[Transaction]:
        """Iterate over all transactions, in no particular order."""
        return (entry.transaction for entry in self._by_hash.values())

    def pending_nonce(self, sender: bytes, state_nonce: int) -> int:
        """Return the nonce for the sender's next transaction, given the account's nonce at the head."""
        queue = self._senders.get(sender)
        if queue is None:
            return state_nonce
        if queue.nonce <= state_nonce <= queue.next:
            return queue.next
        # The state that the caller read is ahead of, or behind, the one that this pool was told.
        nonce = state_nonce
        while nonce in queue.entries:
            nonce += 1
        return nonce

    def candidates(self, base_fee: int, *, limit: int | None = None) -> list[Transaction]:
        """Return executable transactions for a block, best first.

        Parameters
        ----------
        base_fee
            Of the block to be built, in wei per gas. A transaction whose fee cap is below it, and those
            behind it, are left out.
        limit
            At most so many, because no more can fit.

        Returns
        -------
        list of Transaction
            By effective tip, then by arrival, each sender's in the order of nonces.
        """
        heads: list[tuple[int, int, Entry, SenderQueue]] = []
        for queue in self._senders.values():
            entry = queue.entries.get(queue.nonce)
            if entry is not None and entry.fee_cap >= base_fee:
                tip = entry.fee_cap - base_fee
                if tip > entry.tip_cap:
                    tip = entry.tip_cap
                heads.append((-tip, entry.sequence, entry, queue))
        heapify(heads)
        chosen: list[Transaction] = []
        room = len(self._by_hash) if limit is None else limit
        while heads and room > 0:
            room -= 1
            _, _, entry, queue = heads[0]
            chosen.append(entry.transaction)
            following = queue.entries.get(entry.nonce + 1)
            if following is None or following.fee_cap < base_fee:
                heappop(heads)
            else:
                tip = following.fee_cap - base_fee
                if tip > following.tip_cap:
                    tip = following.tip_cap
                heapreplace(heads, (-tip, following.sequence, following, queue))
        return chosen

    # ------------------------------------------------------------ adding

    def add(self, transaction: Transaction, *, account: tuple[int, int], base_fee: int, now: float) -> int:
        """Accept a transaction.

        Parameters
        ----------
        transaction
            Decoded, with a valid signature.
        account
            Nonce and balance (wei) of its sender at the head.
        base_fee
            Of the next block, in wei per gas; decides what a full pool gives up.
        now
            Unix seconds.

        Returns
        -------
        int
            How many of the sender's transactions have become executable: 0 where it waits behind a gap, more
            than 1 where it closed a gap.

        Raises
        ------
        RejectedTransaction
            It was not accepted; the pool is as before.
        """
        tx_hash = transaction.hash
        if tx_hash in self._by_hash:
            raise RejectedTransaction("already-known", "already known")
        entry = self._entry(transaction, tx_hash, now)
        nonce = entry.nonce
        state_nonce, balance = account
        if nonce < state_nonce:
            raise RejectedTransaction(
                "nonce-too-low", f"nonce too low: next nonce {state_nonce}, tx nonce {nonce}"
            )
        sender = transaction.sender
        queue = self._senders.get(sender)
        if queue is None:
            queue = SenderQueue(sender, state_nonce, balance)
        elif queue.nonce != state_nonce or queue.balance > balance:
            self._settle(queue, state_nonce, balance)
        else:
            queue.balance = balance
        old = queue.entries.get(nonce)
        if old is not None:
            check_replacement(self.limits, old, entry)
        spent = queue.cost if old is None else queue.cost - old.cost
        if spent + entry.cost > balance:
            raise insufficient_funds(balance, spent, entry.cost)
        self._base_fee = base_fee
        farthest = None if old is not None else self._make_account_room(queue, nonce)
        try:
            self._make_room(queue, entry, old, base_fee)
        except RejectedTransaction:
            if farthest is not None:
                self._restore(queue, farthest)
            raise
        if farthest is not None:
            self._record(farthest.hash, "evicted", f"gave way to nonce {nonce} of the same sender")

        gapped = queue.gapped
        promoted = queue.put(entry)
        self._gapped += queue.gapped - gapped
        self._senders[sender] = queue
        self._by_hash[tx_hash] = entry
        self._size += entry.size
        if old is not None:
            del self._by_hash[old.hash]
            self._size -= old.size
            self._record(old.hash, "replaced", f"replaced by {_hex(tx_hash)}, which pays more")
        self._departed.pop(tx_hash, None)
        self._run_order.touch(queue)
        self._gapped_order.touch(queue)
        return promoted

    def _entry(self, transaction: Transaction, tx_hash: bytes, now: float) -> Entry:
        self._sequence = sequence = self._sequence + 1
        return checked_entry(self.limits, transaction, tx_hash, sequence=sequence, now=now)

    # ------------------------------------------------------------ limits

    def _make_account_room(self, queue: SenderQueue, nonce: int) -> Entry | None:
        """Check the sender's own limits.

        A lower nonce takes the place of the sender's farthest transaction behind a gap, which is returned.
        """
        limits = self.limits
        gapped = nonce > queue.next
        if gapped and queue.gapped >= limits.account_gapped:
            reason = f"{queue.gapped} transactions of this sender already wait behind a nonce gap"
        elif len(queue.entries) >= limits.account_slots:
            reason = f"{len(queue.entries)} transactions of this sender already wait"
        else:
            return None
        farthest = queue.gapped_tail()
        if farthest is None or farthest.nonce < nonce:
            raise RejectedTransaction("account-limit", f"account limit exceeded: {reason}")
        self._remove(queue, farthest)
        return farthest

    def _make_room(self, queue: SenderQueue, entry: Entry, old: Entry | None, base_fee: int) -> None:
        """Evict what is worth less until the entry fits, or raise and leave everything as it was."""
        limits = self.limits
        count = limits.count - (1 if old is None else 0)
        size = limits.size_bytes - entry.size + (0 if old is None else old.size)
        gapped = entry.nonce > queue.next
        gapped_count = limits.gapped - (1 if gapped and old is None else 0)
        if len(self._by_hash) <= count and self._size <= size and self._gapped <= gapped_count:
            return
        price = run_price(entry, base_fee)
        before = None if gapped else queue.entries.get(entry.nonce - 1)
        if before is not None:
            price = min(price, run_price(before, base_fee))
        evicted: list[tuple[SenderQueue, Entry]] = []
        while len(self._by_hash) > count or self._size > size or self._gapped > gapped_count:
            cheapest = self._gapped_order.cheapest(self._senders, base_fee) if self._gapped else None
            outbid = cheapest is not None and (not gapped or cheapest[0] < price)
            if cheapest is None and not gapped:
                cheapest = self._run_order.cheapest(self._senders, base_fee)
                outbid = cheapest is not None and cheapest[0] < price
            if cheapest is None or not outbid or cheapest[2] is old:
                for victims_queue, victim in reversed(evicted):
                    self._restore(victims_queue, victim)
                if cheapest is None or cheapest[2] is old:
                    raise RejectedTransaction("pool-full", "txpool is full")
                raise RejectedTransaction(
                    "underpriced",
                    "transaction underpriced: txpool is full and its cheapest transaction pays "
                    f"{cheapest[0]} wei per gas above the base fee, this one {price}",
                )
            self._remove(cheapest[1], cheapest[2])
            evicted.append((cheapest[1], cheapest[2]))
        for _, victim in evicted:
            self._record(victim.hash, "evicted", "txpool is full and better paying transactions came")

    # ------------------------------------------------------------ leaving

    def on_head(
        self,
        *,
        accounts: Mapping[bytes, tuple[int, int]],
        included: Collection[bytes] = (),
        reinstated: Sequence[Transaction] = (),
        base_fee: int,
        now: float,
    ) -> None:
        """Follow a change of the head.

        Parameters
        ----------
        accounts
            Nonce and balance (wei) at the new head of every sender that the change touched: at least the
            senders of all transactions in blocks added and removed.
        included
            Hashes of the transactions in the added blocks.
        reinstated
            Transactions of the removed blocks, oldest first. Those that are still valid wait again, without
            regard to the price of admission; their senders must be among ``accounts``.
        base_fee
            Of the next block, in wei per gas.
        now
            Unix seconds.
        """
        for transaction in reinstated:
            tx_hash = transaction.hash
            if tx_hash not in included and tx_hash not in self._by_hash:
                self._reinstate(transaction, tx_hash, accounts[transaction.sender], now)
        for sender, (nonce, balance) in accounts.items():
            queue = self._senders.get(sender)
            if queue is not None:
                self._settle(queue, nonce, balance, included)
        self._run_order.forget()
        self._gapped_order.forget()
        self._base_fee = base_fee
        self._enforce(base_fee)

    def drop(self, tx_hash: bytes, kind: str, message: str) -> Transaction | None:
        """Remove a transaction that can never be mined, for example because a block build refused it.

        Those of its sender with higher nonces stay, behind the gap that it leaves.
        """
        entry = self._by_hash.get(tx_hash)
        if entry is None:
            return None
        queue = self._senders[entry.transaction.sender]
        self._remove(queue, entry)
        self._record(entry.hash, kind, message)
        self._enforce(self._base_fee)
        return entry.transaction

    def expire(self, now: float) -> list[Transaction]:
        """Remove and return the transactions that have waited too long behind a gap.

        The lifetime counts from the arrival of the transaction.
        """
        lifetime = self.limits.gapped_lifetime_seconds
        expired: list[Transaction] = []
        if not self._gapped:
            return expired
        for queue in [queue for queue in self._senders.values() if queue.gapped]:
            for entry in [entry for nonce, entry in queue.entries.items() if nonce >= queue.next]:
                if now - entry.added > lifetime:
                    self._remove(queue, entry)
                    self._record(
                        entry.hash,
                        "expired",
                        f"expired after {lifetime:g} s behind a nonce gap: nonce {queue.next} never came",
                    )
                    expired.append(entry.transaction)
        return expired

    def _reinstate(
        self, transaction: Transaction, tx_hash: bytes, account: tuple[int, int], now: float
    ) -> None:
        sender = transaction.sender
        queue = self._senders.get(sender)
        if transaction.nonce < account[0]:
            # Another transaction took its nonce on the new branch.
            self._record(
                tx_hash, "superseded", f"superseded: nonce {transaction.nonce} is used on the new branch"
            )
            return
        try:
            entry = self._entry(transaction, tx_hash, now)
        except RejectedTransaction as rejected:
            self._record(tx_hash, rejected.kind, rejected.message)
            return
        if queue is None:
            queue = self._senders[sender] = SenderQueue(sender, *account)
        old = queue.entries.get(entry.nonce)
        if old is not None:
            # It was mined once and is no worse than what waits in its place.
            self._remove(queue, old)
            self._senders[sender] = queue
            self._record(old.hash, "replaced", f"replaced by {_hex(tx_hash)} of a removed block")
        gapped = queue.gapped
        queue.put_back(entry)
        self._gapped += queue.gapped - gapped
        self._by_hash[tx_hash] = entry
        self._size += entry.size

    def _settle(self, queue: SenderQueue, nonce: int, balance: int, included: Collection[bytes] = ()) -> None:
        gapped = queue.gapped
        used, unfunded = queue.settle(nonce, balance)
        self._gapped += queue.gapped - gapped
        by_hash = self._by_hash
        for entry in used:
            del by_hash[entry.hash]
            self._size -= entry.size
            if entry.hash not in included:
                self._record(
                    entry.hash,
                    "superseded",
                    f"superseded: nonce {entry.nonce} was used by another transaction",
                )
        for entry in unfunded:
            del by_hash[entry.hash]
            self._size -= entry.size
            rejected = insufficient_funds(balance, queue.cost, entry.cost)
            self._record(entry.hash, rejected.kind, rejected.message)
        if not queue.entries:
            self._senders.pop(queue.sender, None)
        else:
            self._run_order.touch(queue)
            self._gapped_order.touch(queue)

    def _enforce(self, base_fee: int) -> None:
        """Bring the pool back within its limits after transactions were reinstated or gaps opened."""
        limits = self.limits
        while (
            len(self._by_hash) > limits.count
            or self._size > limits.size_bytes
            or self._gapped > limits.gapped
        ):
            cheapest = self._gapped_order.cheapest(self._senders, base_fee) or self._run_order.cheapest(
                self._senders, base_fee
            )
            if cheapest is None:
                return
            self._remove(cheapest[1], cheapest[2])
            self._record(cheapest[2].hash, "evicted", "txpool is full after a change of the head")

    def _remove(self, queue: SenderQueue, entry: Entry) -> None:
        gapped = queue.gapped
        queue.take(entry)
        self._gapped += queue.gapped - gapped
        del self._by_hash[entry.hash]
        self._size -= entry.size
        if queue.entries:
            self._run_order.touch(queue)
            self._gapped_order.touch(queue)
        else:
            self._senders.pop(queue.sender, None)

    def _restore(self, queue: SenderQueue, entry: Entry) -> None:
        gapped = queue.gapped
        queue.put(entry)
        self._gapped += queue.gapped - gapped
        self._senders[queue.sender] = queue
        self._by_hash[entry.hash] = entry
        self._size += entry.size
        self._run_order.touch(queue)
        self._gapped_order.touch(queue)

    def _record(self, tx_hash: bytes, kind: str, message: str) -> None:
        departed = self._departed
        departed.pop(tx_hash, None)
        departed[tx_hash] = Departure(tx_hash, kind, message)
        if len(departed) > self.limits.departures:
            del departed[next(iter(departed))]


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
