"""The mempool against a simple model, over random histories of additions, blocks and reorganisations."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from noria._core import Transaction
from noria.execution.mempool import Mempool, MempoolLimits, RejectedTransaction
from tests.execution.pool_transactions import CHAIN_ID, account, transaction

SENDERS = 4
GAS = 100_000
PRICES = st.integers(0, 30)
LIFETIME = 10.0


def price(run: list[Transaction], base_fee: int) -> int:
    """What a run of transactions is worth: the tip that even its worst pays."""
    return min(
        min(tx.max_priority_fee_per_gas for tx in run), min(tx.max_fee_per_gas for tx in run) - base_fee
    )


class PoolMachine(RuleBasedStateMachine):
    """Accounts of four senders, the chain's blocks, and every transaction that was ever accepted."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.base_fee = 10
        self.accounts: dict[int, tuple[int, int]] = {}
        self.blocks: list[list[Transaction]] = []
        self.accepted: dict[bytes, Transaction] = {}
        self.arrival: dict[bytes, float] = {}
        self.used: set[bytes] = set()
        self.pool = Mempool(MempoolLimits(chain_id=CHAIN_ID))

    @initialize(
        count=st.integers(1, 12),
        slots=st.integers(1, 6),
        gapped=st.integers(0, 5),
        account_gapped=st.integers(0, 4),
        size=st.integers(150, 1_500),
    )
    def begin(self, count: int, slots: int, gapped: int, account_gapped: int, size: int) -> None:
        self.pool = Mempool(
            MempoolLimits(
                chain_id=CHAIN_ID,
                count=count,
                account_slots=slots,
                gapped=gapped,
                account_gapped=account_gapped,
                size_bytes=size,
                gapped_lifetime_seconds=LIFETIME,
            )
        )
        self.accounts = dict.fromkeys(range(SENDERS), (0, 60 * GAS * 20))

    # ------------------------------------------------------------ what the pool holds, seen from outside

    def by_sender(self) -> dict[int, list[Transaction]]:
        found = {index: self.pool.by_sender(account(index)) for index in range(SENDERS)}
        return {index: txs for index, txs in found.items() if txs}

    def run_of(self, index: int, txs: list[Transaction]) -> list[Transaction]:
        nonce = self.accounts[index][0]
        run: list[Transaction] = []
        for tx in txs:
            if tx.nonce == nonce + len(run):
                run.append(tx)
        return run

    def expected_rejections(self, index: int, tx: Transaction) -> set[str]:
        nonce, balance = self.accounts[index]
        waiting = self.pool.by_sender(account(index))
        old = next((other for other in waiting if other.nonce == tx.nonce), None)
        expected = set()
        if tx.max_priority_fee_per_gas > tx.max_fee_per_gas:
            expected.add("tip-above-fee")
        if tx.nonce < nonce:
            expected.add("nonce-too-low")
        if old is not None:
            for new_price, old_price in (
                (tx.max_fee_per_gas, old.max_fee_per_gas),
                (tx.max_priority_fee_per_gas, old.max_priority_fee_per_gas),
            ):
                if new_price <= old_price or new_price < old_price * 110 // 100:
                    expected.add("replacement-underpriced")
        if sum(other.max_cost for other in waiting if other is not old) + tx.max_cost > balance:
            expected.add("insufficient-funds")
        return expected

    def has_room_for(self, index: int, tx: Transaction) -> bool:
        limits, waiting = self.pool.limits, self.pool.by_sender(account(index))
        if any(other.nonce == tx.nonce for other in waiting):
            return self.pool.size_bytes + tx.size <= limits.size_bytes
        run = self.run_of(index, waiting)
        is_gapped = tx.nonce > self.accounts[index][0] + len(run)
        return (
            len(self.pool) < limits.count
            and self.pool.size_bytes + tx.size <= limits.size_bytes
            and len(waiting) < limits.account_slots
            and not (is_gapped and self.pool.gapped >= limits.gapped)
            and not (is_gapped and len(waiting) - len(run) >= limits.account_gapped)
        )

    # ------------------------------------------------------------ rules

    @rule(index=st.integers(0, SENDERS - 1), fee=PRICES, below=st.integers(0, 30), size=st.integers(100, 150))
    def add_next(self, index: int, fee: int, below: int, size: int) -> None:
        ahead = self.pool.pending_nonce(account(index), self.accounts[index][0]) - self.accounts[index][0]
        self.add(index, ahead, fee, max(0, fee - below), size)

    @rule(
        index=st.integers(0, SENDERS - 1),
        ahead=st.integers(-1, 6),
        fee=PRICES,
        below=st.integers(-1, 30),
        size=st.integers(100, 300),
    )
    def add_some(self, index: int, ahead: int, fee: int, below: int, size: int) -> None:
        self.add(index, ahead, fee, max(0, fee - below), size)

    def add(self, index: int, ahead: int, fee: int, tip: int, size: int) -> None:
        nonce, balance = self.accounts[index]
        tx = transaction(index, max(0, nonce + ahead), fee=fee, tip=tip, gas=GAS, size=size)
        before = self.by_sender()
        expected = self.expected_rejections(index, tx)
        room = self.has_room_for(index, tx)
        kind = ""
        try:
            promoted = self.pool.add(tx, account=(nonce, balance), base_fee=self.base_fee, now=self.now)
        except RejectedTransaction as rejected:
            kind = rejected.kind
        if kind:
            assert kind in expected or not expected
            assert expected or not room
            assert expected or kind in {"account-limit", "pool-full", "underpriced"}
            assert self.by_sender() == before
            if not expected and kind != "account-limit":
                self.check_nothing_cheaper(index, tx)
            return
        assert not expected
        self.accepted[tx.hash] = tx
        self.arrival[tx.hash] = self.now
        after = self.by_sender()
        run = self.run_of(index, after[index])
        assert promoted == (
            0 if tx not in run else len([other for other in run if other.nonce >= tx.nonce])
        ) or (promoted == 1 and any(other.nonce == tx.nonce for other in before.get(index, [])))
        self.check_evictions(before, after, index, tx)

    def offered(self, index: int, tx: Transaction) -> tuple[bool, int]:
        """Whether a transaction would be executable, and what it would pay then."""
        run = self.run_of(index, self.pool.by_sender(account(index)))
        executable = tx.nonce <= self.accounts[index][0] + len(run)
        before = [other for other in run if other.nonce < tx.nonce]
        return executable, price([*before, tx] if executable else [tx], self.base_fee)

    def tails(self, queues: dict[int, list[Transaction]], executable: bool) -> dict[Transaction, int]:
        """What may be given up next, with what it is worth."""
        found = {}
        for index, txs in queues.items():
            run = self.run_of(index, txs)
            if executable and run:
                found[run[-1]] = price(run, self.base_fee)
            elif not executable and len(txs) > len(run):
                found[txs[-1]] = price([txs[-1]], self.base_fee)
        return found

    def check_nothing_cheaper(self, index: int, tx: Transaction) -> None:
        waiting = self.pool.by_sender(account(index))
        if any(old.nonce == tx.nonce for old in waiting):
            return
        executable, offered = self.offered(index, tx)
        gapped = self.tails(self.by_sender(), False)
        worth = self.tails(self.by_sender(), True).values() if executable else gapped.values()
        if self.pool.size_bytes + tx.size <= self.pool.limits.size_bytes:  # one would have been enough
            assert not (executable and gapped)
            assert all(other >= offered for other in worth)

    def check_evictions(
        self,
        before: dict[int, list[Transaction]],
        after: dict[int, list[Transaction]],
        index: int,
        tx: Transaction,
    ) -> None:
        executable = tx in self.run_of(index, after[index])
        prefix = [other for other in after[index] if other.nonce <= tx.nonce]
        offered = price(prefix if executable else [tx], self.base_fee)
        for sender, txs in before.items():
            kept = after.get(sender, [])
            gone = [old for old in txs if old not in kept and (sender, old.nonce) != (index, tx.nonce)]
            rest = [old for old in txs if old in kept]
            assert all(old.nonce > other.nonce for old in gone for other in rest), "not the end of a run"
            run = self.run_of(sender, txs)
            if (
                len(gone) == 1
                and sum(map(len, after.values())) == sum(map(len, before.values()))
                and sender != index
            ):
                tails = self.tails(before, gone[0] in run)
                assert tails[gone[0]] == min(tails.values()), "not the cheapest"
            for old in gone:
                departure = self.pool.departure(old.hash)
                assert departure is not None
                assert departure.kind == "evicted"
                if old in run:
                    assert executable
                    worth = price([other for other in run if other.nonce <= old.nonce], self.base_fee)
                    assert worth < offered
                elif not executable and sender != index:
                    assert price([old], self.base_fee) < offered

    @rule(take=st.integers(0, 6))
    def mine(self, take: int) -> None:
        block = self.pool.candidates(self.base_fee, limit=take)
        self.apply(added=block)

    @precondition(lambda self: self.blocks)
    @rule(keep=st.integers(0, 3))
    def reorganise(self, keep: int) -> None:
        """Replace the last block by one with some of its transactions."""
        removed = self.blocks.pop()
        self.apply(added=removed[:keep], removed=removed)

    @rule(index=st.integers(0, SENDERS - 1), balance=st.integers(0, 40))
    def pay_out(self, index: int, balance: int) -> None:
        nonce, _ = self.accounts[index]
        self.accounts[index] = (nonce, balance * GAS * 20)
        self.tell([index])

    @rule(index=st.integers(0, SENDERS - 1), by=st.integers(1, 3))
    def mined_elsewhere(self, index: int, by: int) -> None:
        nonce, balance = self.accounts[index]
        self.accounts[index] = (nonce + by, balance)
        self.blocks.clear()  # no way back beyond what is not known
        self.tell([index])

    @precondition(lambda self: len(self.pool) > 0)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        tx = data.draw(st.sampled_from(sorted(self.pool, key=lambda tx: tx.hash)))
        assert self.pool.drop(tx.hash, "other", "refused") is tx

    @rule(seconds=st.floats(0, 2 * LIFETIME))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        gapped = {
            tx.hash
            for index, txs in self.by_sender().items()
            for tx in txs
            if tx not in self.run_of(index, txs) and self.now - self.arrival[tx.hash] > LIFETIME
        }
        assert {tx.hash for tx in self.pool.expire(self.now)} == gapped

    @rule(base_fee=st.integers(0, 30))
    def change_base_fee(self, base_fee: int) -> None:
        self.base_fee = base_fee

    # ------------------------------------------------------------ blocks

    def apply(self, added: list[Transaction], removed: list[Transaction] | None = None) -> None:
        touched = set()
        for tx in removed or []:
            index = int.from_bytes(tx.sender, "big")
            nonce, balance = self.accounts[index]
            self.accounts[index] = (nonce - 1, balance + tx.max_cost)
            self.used.discard(tx.hash)
            self.arrival[tx.hash] = self.now
            touched.add(index)
        for tx in added:
            index = int.from_bytes(tx.sender, "big")
            nonce, balance = self.accounts[index]
            assert tx.nonce == nonce
            self.accounts[index] = (nonce + 1, max(0, balance - tx.max_cost))
            self.used.add(tx.hash)
            touched.add(index)
        self.blocks.append(added)
        self.tell(touched, included={tx.hash for tx in added}, reinstated=removed or [])

    def tell(
        self,
        touched: list[int] | set[int],
        included: set[bytes] | None = None,
        reinstated: list[Transaction] | None = None,
    ) -> None:
        self.pool.on_head(
            accounts={account(index): self.accounts[index] for index in touched},
            included=included or set(),
            reinstated=reinstated or [],
            base_fee=self.base_fee,
            now=self.now,
        )

    # ------------------------------------------------------------ invariants

    @invariant()
    def limits_hold(self) -> None:
        limits = self.pool.limits
        assert len(self.pool) <= limits.count
        assert self.pool.size_bytes == sum(tx.size for tx in self.pool) <= limits.size_bytes
        gapped = sum(len(txs) - len(self.run_of(index, txs)) for index, txs in self.by_sender().items())
        assert self.pool.gapped == gapped <= limits.gapped

    @invariant()
    def queues_are_paid_for_and_current(self) -> None:
        for index, txs in self.by_sender().items():
            nonce, balance = self.accounts[index]
            assert [tx.nonce for tx in txs] == sorted({tx.nonce for tx in txs})
            assert txs[0].nonce >= nonce
            assert sum(tx.max_cost for tx in txs) <= balance
            assert self.pool.pending_nonce(account(index), nonce) == nonce + len(self.run_of(index, txs))

    @invariant()
    def candidates_are_best_first(self) -> None:
        runs = {}
        for index, txs in self.by_sender().items():
            run = []
            for tx in self.run_of(index, txs):
                if tx.max_fee_per_gas < self.base_fee:
                    break
                run.append(tx)
            if run:
                runs[index] = run
        chosen = self.pool.candidates(self.base_fee)
        assert len(chosen) == sum(len(run) for run in runs.values())
        for tx in chosen:
            heads = {run[0] for run in runs.values() if run}
            assert tx in heads
            best = max(price([head], self.base_fee) for head in heads)
            assert price([tx], self.base_fee) == best
            runs[int.from_bytes(tx.sender, "big")].pop(0)
        assert self.pool.candidates(self.base_fee, limit=3) == chosen[:3]

    @invariant()
    def nothing_is_lost_without_a_reason(self) -> None:
        fates: dict[str, int] = defaultdict(int)
        for tx_hash in self.accepted:
            waits = tx_hash in self.pool
            assert (self.pool.get(tx_hash) is not None) == waits
            if waits:
                assert self.pool.departure(tx_hash) is None
            else:
                assert tx_hash in self.used or self.pool.departure(tx_hash) is not None
            fates["waits" if waits else "gone"] += 1
        assert fates["waits"] == len(self.pool)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
