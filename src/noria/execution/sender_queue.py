"""The waiting transactions of one sender, in the order of their nonces."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from noria._core import Transaction


class Entry(msgspec.Struct, gc=False, eq=False):
    """A transaction in the mempool with what ordering needs, read once.

    Attributes
    ----------
    fee_cap, tip_cap
        Wei per gas.
    cost
        The most it can take from its sender, in wei.
    size
        Encoded size in bytes.
    sequence
        Order of arrival.
    added
        Time of arrival in Unix seconds.
    run_fee_cap, run_tip_cap
        Least fee cap and tip among this and the sender's transactions that must be mined before it: a high
        price behind a low one is worth only the low one. Behind a gap they are the transaction's own.
    """

    transaction: Transaction
    hash: bytes
    nonce: int
    fee_cap: int
    tip_cap: int
    cost: int
    size: int
    sequence: int
    added: float
    run_fee_cap: int
    run_tip_cap: int


class SenderQueue:
    """Transactions of one sender: a run without gaps from the account's nonce, and others behind gaps.

    Attributes
    ----------
    nonce, balance
        Of the account in the state of the head; the run starts at this nonce.
    next
        First nonce at or after ``nonce`` for which no transaction waits: the pending nonce.
    cost
        Sum of ``cost`` of all entries, in wei.
    gapped
        Number of entries behind a gap.
    """

    __slots__ = ("balance", "cost", "entries", "gapped", "next", "nonce", "sender")

    def __init__(self, sender: bytes, nonce: int, balance: int) -> None:
        self.sender = sender
        self.nonce = nonce
        self.balance = balance
        self.next = nonce
        self.cost = 0
        self.gapped = 0
        self.entries: dict[int, Entry] = {}

    def put(self, entry: Entry) -> int:
        """Insert an entry, or put it in the place of the one with its nonce.

        Returns
        -------
        int
            How many entries have become executable: 0 behind a gap, more than 1 where it closed one.
        """
        nonce = entry.nonce
        old = self.entries.get(nonce)
        if old is not None:
            self.cost -= old.cost
        self.entries[nonce] = entry
        self.cost += entry.cost
        before = self.next
        if nonce > before:
            self.gapped = len(self.entries) - (before - self.nonce)
            return 0
        self._link(nonce)
        return 1 if nonce < before else self.next - before

    def put_back(self, entry: Entry) -> None:
        """Insert an entry of a block that is no longer canonical; `settle` must follow."""
        self.entries[entry.nonce] = entry
        self.cost += entry.cost
        self.gapped += 1  # until settled: where it stands is not known yet

    def take(self, entry: Entry) -> None:
        """Remove an entry; those behind it are then behind a gap."""
        nonce = entry.nonce
        entries = self.entries
        del entries[nonce]
        self.cost -= entry.cost
        if nonce < self.next:
            for later in range(nonce + 1, self.next):
                behind = entries[later]
                behind.run_fee_cap = behind.fee_cap
                behind.run_tip_cap = behind.tip_cap
            self.next = nonce
        self.gapped = len(entries) - (self.next - self.nonce)

    def settle(self, nonce: int, balance: int) -> tuple[list[Entry], list[Entry]]:
        """Take over the account's new nonce and balance.

        Returns
        -------
        tuple
            Entries removed because their nonce is used up, and entries removed because the balance does not
            cover them beside those before them.
        """
        entries = self.entries
        self.balance = balance
        used: list[Entry] = []
        if nonce != self.nonce:
            if nonce == self.next and not self.gapped:  # the usual case: the whole run was mined
                used = list(entries.values())
                entries.clear()
                self.cost = 0
            else:
                used = [entries.pop(at) for at in [at for at in entries if at < nonce]]
                self.cost -= sum(entry.cost for entry in used)
            self.nonce = nonce
        unfunded: list[Entry] = []
        if self.cost > balance:
            total = 0
            for at in sorted(entries):
                entry = entries[at]
                if total + entry.cost > balance:
                    unfunded.append(entries.pop(at))
                else:
                    total += entry.cost
            self.cost = total
        if entries:
            for entry in entries.values():
                entry.run_fee_cap = entry.fee_cap
                entry.run_tip_cap = entry.tip_cap
            self._link(nonce)
        else:
            self.next = nonce
            self.gapped = 0
        return used, unfunded

    def run(self, start: int | None = None) -> Iterator[Entry]:
        """Iterate over executable entries in order, from ``start`` (by default the account's nonce)."""
        for nonce in range(self.nonce if start is None else start, self.next):
            yield self.entries[nonce]

    def run_tail(self) -> Entry | None:
        """Return the last executable entry."""
        return self.entries[self.next - 1] if self.next > self.nonce else None

    def gapped_tail(self) -> Entry | None:
        """Return the entry with the highest nonce behind a gap."""
        return self.entries[max(self.entries)] if self.gapped else None

    def _link(self, start: int) -> None:
        """Renew the running minima and the end of the run from this nonce on."""
        entries = self.entries
        at = start
        entry = entries.get(at)
        if entry is not None:
            before = entries.get(at - 1) if at > self.nonce else None
            if before is None:
                fee_cap, tip_cap = entry.fee_cap, entry.tip_cap
            else:
                fee_cap, tip_cap = before.run_fee_cap, before.run_tip_cap
            while entry is not None:
                if entry.fee_cap < fee_cap:
                    fee_cap = entry.fee_cap
                if entry.tip_cap < tip_cap:
                    tip_cap = entry.tip_cap
                entry.run_fee_cap = fee_cap
                entry.run_tip_cap = tip_cap
                at += 1
                entry = entries.get(at)
        self.next = at
        self.gapped = len(entries) - (at - self.nonce)
