"""The mempool: what it accepts, in which order it offers it, what it gives up and why."""

from __future__ import annotations

import msgspec
import pytest

from noria._core import Transaction
from noria.execution.mempool import Mempool, MempoolLimits, RejectedTransaction
from tests.execution.pool_transactions import CHAIN_ID, GWEI, RICH, account, transaction
from tests.growth import NEARLY_LINEAR, Stopwatch, growth

BASE_FEE = 10 * GWEI
LIMITS = MempoolLimits(chain_id=CHAIN_ID)


def pool_with(**limits: object) -> Mempool:
    return Mempool(msgspec.structs.replace(LIMITS, **limits))


def add(pool: Mempool, tx: Transaction, *, nonce: int = 0, balance: int = RICH, now: float = 0.0) -> int:
    return pool.add(tx, account=(nonce, balance), base_fee=BASE_FEE, now=now)


def rejection(pool: Mempool, tx: Transaction, **account_state: int) -> RejectedTransaction:
    before = set(pool)
    with pytest.raises(RejectedTransaction) as caught:
        add(pool, tx, **account_state)
    assert set(pool) == before, "a rejected transaction changed the pool"
    assert pool.get(tx.hash) is None or tx in before
    return caught.value


# ---------------------------------------------------------------- order


def test_senders_are_ordered_by_tip_and_each_by_nonce() -> None:
    pool = pool_with()
    poor, rich = (
        [transaction(1, nonce, tip=GWEI) for nonce in (0, 1)],
        [transaction(2, nonce, tip=tip * GWEI) for nonce, tip in enumerate((3, 1, 5))],
    )
    for tx in (*poor, *rich):
        add(pool, tx)
    assert pool.candidates(BASE_FEE) == [rich[0], *poor, *rich[1:]]


def test_equal_tips_go_by_arrival() -> None:
    pool = pool_with()
    txs = [transaction(sender, 0) for sender in (5, 3, 9)]
    for tx in txs:
        add(pool, tx)
    assert pool.candidates(BASE_FEE) == txs


def test_the_effective_tip_is_what_the_fee_cap_leaves() -> None:
    pool = pool_with()
    capped = transaction(1, 0, fee=BASE_FEE + 1, tip=BASE_FEE)
    plain = transaction(2, 0, fee=20 * GWEI, tip=2)
    add(pool, capped)
    add(pool, plain)
    assert pool.candidates(BASE_FEE) == [plain, capped]


def test_a_fee_cap_below_the_base_fee_holds_back_all_behind_it() -> None:
    pool = pool_with()
    first = transaction(1, 0)
    low = transaction(1, 1, fee=BASE_FEE - 1, tip=1)
    behind = transaction(1, 2)
    for tx in (first, low, behind):
        add(pool, tx)
    assert pool.candidates(BASE_FEE) == [first]
    assert pool.candidates(BASE_FEE - 1) == [first, low, behind]


def test_the_limit_of_candidates_takes_the_best() -> None:
    pool = pool_with()
    txs = [transaction(sender, 0, tip=sender) for sender in range(1, 50)]
    for tx in txs:
        add(pool, tx)
    assert pool.candidates(BASE_FEE, limit=7) == txs[:-8:-1]
    assert pool.candidates(BASE_FEE, limit=0) == []


# ---------------------------------------------------------------- nonces


def test_a_gap_is_closed_later() -> None:
    pool = pool_with()
    late = [transaction(1, nonce) for nonce in (8, 7)]
    assert [add(pool, tx, nonce=6) for tx in late] == [0, 0]
    assert pool.gapped == 2
    assert pool.candidates(BASE_FEE) == []
    assert pool.pending_nonce(account(1), 6) == 6
    first = transaction(1, 6)
    assert add(pool, first, nonce=6) == 3
    assert pool.gapped == 0
    assert pool.pending_nonce(account(1), 6) == 9
    assert pool.candidates(BASE_FEE) == [first, late[1], late[0]]
    assert pool.by_sender(account(1)) == [first, late[1], late[0]]
    assert list(pool.executable(account(1), 7)) == [late[1], late[0]]


def test_pending_nonce_of_an_unknown_sender_is_the_accounts() -> None:
    assert pool_with().pending_nonce(account(1), 41) == 41


def test_pending_nonce_counts_from_the_state_that_the_caller_sees() -> None:
    pool = pool_with()
    for nonce in (5, 6, 9):
        add(pool, transaction(1, nonce), nonce=5)
    assert [pool.pending_nonce(account(1), state) for state in (4, 5, 6, 7, 8, 9)] == [4, 7, 7, 7, 8, 10]


def test_a_used_nonce_is_refused() -> None:
    refused = rejection(pool_with(), transaction(1, 4), nonce=5)
    assert (refused.kind, refused.message) == ("nonce-too-low", "nonce too low: next nonce 5, tx nonce 4")


def test_the_last_nonce_of_all_is_refused() -> None:
    pool = pool_with()
    assert rejection(pool, transaction(1, 2**64 - 1)).kind == "nonce-too-high"
    assert add(pool, transaction(1, 2**64 - 2)) == 0


# ---------------------------------------------------------------- the transaction alone


@pytest.mark.parametrize(
    ("tx", "kind", "message"),
    [
        (
            transaction(1, 0, fee=5, tip=6),
            "tip-above-fee",
            "max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: 6, maxFeePerGas: 5",
        ),
        (transaction(1, 0, gas=36_000_001), "gas-limit", "exceeds block gas limit"),
        (transaction(1, 0, gas=2**24 + 1), "gas-limit", "transaction gas limit too high (cap: 16777216,"),
        (
            transaction(1, 0, chain_id=1),
            "chain-id",
            f"invalid chain id for signer: have 1 want {CHAIN_ID}",
        ),
        (transaction(1, 0, size=128 * 1024 + 1), "oversized", "oversized data: transaction size 131073"),
        (transaction(1, 0, tip=4), "underpriced", "transaction underpriced: gas tip cap 4, minimum needed 5"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_what_needs_no_state_is_refused_by_name(tx: Transaction, kind: str, message: str) -> None:
    refused = rejection(pool_with(min_tip=5), tx)
    assert refused.kind == kind
    assert refused.message.startswith(message)


def test_limits_are_inclusive() -> None:
    pool = pool_with(min_tip=5)
    add(pool, transaction(1, 0, gas=2**24, fee=5, tip=5, size=128 * 1024))
    add(pool, transaction(2, 0, chain_id=None))
    add(pool_with(transaction_gas_cap=None), transaction(1, 0, gas=36_000_000))
    assert len(pool) == 2


def test_a_known_transaction_is_refused() -> None:
    pool = pool_with()
    tx = transaction(1, 0)
    add(pool, tx)
    refused = rejection(pool, tx)
    assert (refused.kind, refused.message) == ("already-known", "already known")


# ---------------------------------------------------------------- funds


def test_the_whole_queue_must_be_paid_for() -> None:
    pool = pool_with()
    cost = 100_000 * 100 * GWEI
    add(pool, transaction(1, 0), balance=2 * cost + 5)
    add(pool, transaction(1, 5, value=5), balance=2 * cost + 5)
    refused = rejection(pool, transaction(1, 1), balance=2 * cost + 5)
    assert refused.kind == "insufficient-funds"
    assert refused.message == (
        f"insufficient funds for gas * price + value: balance {2 * cost + 5}, queued cost {2 * cost + 5}, "
        f"tx cost {cost}, overshot {cost}"
    )
    # A replacement frees what it replaces.
    add(pool, transaction(1, 5, fee=110 * GWEI, tip=2 * GWEI, gas=90_000), balance=2 * cost + 5)


def test_exactly_the_balance_is_enough() -> None:
    cost = 100_000 * 100 * GWEI
    assert rejection(pool_with(), transaction(1, 0), balance=cost - 1).kind == "insufficient-funds"
    assert add(pool_with(), transaction(1, 0), balance=cost) == 1


# ---------------------------------------------------------------- replacement


@pytest.mark.parametrize(("fee", "tip", "accepted"), [
    (110, 11, True), (109, 11, False), (110, 10, False), (1_000, 10, False), (1_000, 1_000, True),
])  # fmt: skip
def test_a_replacement_pays_a_tenth_more_in_both(fee: int, tip: int, accepted: bool) -> None:
    pool = pool_with()
    old, behind = transaction(1, 0, fee=100 * GWEI, tip=10 * GWEI), transaction(1, 1)
    add(pool, old)
    add(pool, behind)
    new = transaction(1, 0, fee=fee * GWEI, tip=tip * GWEI)
    if accepted:
        assert add(pool, new) == 1
        assert pool.candidates(BASE_FEE) == [new, behind]
        departure = pool.departure(old.hash)
        assert departure is not None
        assert departure.kind == "replaced"
        assert new.hash.hex() in departure.message
    else:
        refused = rejection(pool, new)
        assert refused.kind == "replacement-underpriced"
        assert refused.message.startswith("replacement transaction underpriced")
        assert pool.candidates(BASE_FEE) == [old, behind]


def test_even_a_free_transaction_is_replaced_only_by_a_dearer_one() -> None:
    pool = pool_with()
    add(pool, transaction(1, 0, fee=0, tip=0))
    assert rejection(pool, transaction(1, 0, fee=0, tip=0)).kind == "replacement-underpriced"
    add(pool, transaction(1, 0, fee=1, tip=1))


# ---------------------------------------------------------------- limits and eviction


def test_an_account_has_so_many_slots() -> None:
    pool = pool_with(account_slots=3, account_gapped=2)
    for nonce in (0, 5, 6):
        add(pool, transaction(1, nonce))
    assert rejection(pool, transaction(1, 7)).kind == "account-limit"
    add(pool, transaction(2, 0))  # others are not concerned


def test_a_nonce_that_is_needed_takes_the_place_of_the_farthest() -> None:
    pool = pool_with(account_slots=3, account_gapped=2)
    txs = [transaction(1, nonce) for nonce in (0, 5, 6)]
    for tx in txs:
        add(pool, tx)
    needed = transaction(1, 1)
    add(pool, needed)
    assert pool.by_sender(account(1)) == [txs[0], needed, txs[1]]
    departure = pool.departure(txs[2].hash)
    assert departure is not None
    assert departure.kind == "evicted"


def test_the_farthest_stays_where_the_needed_one_is_refused() -> None:
    pool = pool_with(account_slots=2, account_gapped=2, size_bytes=400)
    for nonce in (5, 6):
        add(pool, transaction(1, nonce))
    add(pool, transaction(2, 0, tip=5, size=180))
    refused = rejection(pool, transaction(1, 4, tip=3, size=250))
    assert refused.kind == "underpriced"
    assert pool.gapped == 2


def test_a_full_run_takes_no_more() -> None:
    pool = pool_with(account_slots=3)
    for nonce in range(3):
        add(pool, transaction(1, nonce))
    assert rejection(pool, transaction(1, 3)).kind == "account-limit"
    add(pool, transaction(1, 2, fee=200 * GWEI, tip=5 * GWEI))  # replacing needs no slot


def test_a_full_pool_gives_up_its_cheapest() -> None:
    pool = pool_with(count=3)
    txs = [transaction(sender, 0, tip=sender) for sender in (3, 1, 2)]
    for tx in txs:
        add(pool, tx)
    refused = rejection(pool, transaction(4, 0, tip=1))
    assert refused.kind == "underpriced"
    assert refused.message.startswith("transaction underpriced")
    better = transaction(4, 0, tip=2)
    add(pool, better)
    assert set(pool) == {txs[0], txs[2], better}
    departure = pool.departure(txs[1].hash)
    assert departure is not None
    assert departure.kind == "evicted"


def test_only_the_end_of_a_run_is_given_up() -> None:
    pool = pool_with(count=4)
    run = [transaction(1, 0, tip=1), transaction(1, 1, tip=50), transaction(1, 2, tip=50)]
    other = transaction(2, 0, tip=5)
    for tx in (*run, other):
        add(pool, tx)
    # The run is worth what its first pays, so it goes first, from its end.
    add(pool, transaction(3, 0, tip=4))
    add(pool, transaction(4, 0, tip=4))
    assert pool.by_sender(account(1)) == run[:1]
    assert other.hash in pool


def test_a_price_behind_a_low_one_buys_no_place() -> None:
    pool = pool_with(count=2)
    add(pool, transaction(1, 0, tip=1))
    add(pool, transaction(2, 0, tip=2))
    assert rejection(pool, transaction(1, 1, tip=10 * GWEI)).kind == "underpriced"


def test_a_far_nonce_evicts_nothing_executable() -> None:
    pool = pool_with(count=3)
    txs = [transaction(sender, 0, tip=1) for sender in (1, 2, 3)]
    for tx in txs:
        add(pool, tx)
    refused = rejection(pool, transaction(4, 1_000, tip=90 * GWEI))
    assert (refused.kind, refused.message) == ("pool-full", "txpool is full")
    assert list(pool) == txs


def test_an_executable_transaction_needs_no_more_than_a_gapped_ones_place() -> None:
    pool = pool_with(count=3)
    gapped = [transaction(1, nonce, tip=90 * GWEI) for nonce in (5, 6)]
    for tx in (*gapped, transaction(2, 0, tip=1)):
        add(pool, tx)
    add(pool, transaction(3, 0, tip=0))
    assert pool.by_sender(account(1)) == gapped[:1]


def test_gapped_transactions_share_a_small_part_of_the_pool() -> None:
    pool = pool_with(gapped=2)
    cheap, dear = transaction(1, 5, tip=1), transaction(2, 5, tip=3)
    add(pool, cheap)
    add(pool, dear)
    assert rejection(pool, transaction(3, 5, tip=1)).kind == "underpriced"
    add(pool, transaction(3, 5, tip=2))
    assert cheap.hash not in pool
    assert dear.hash in pool
    assert pool.gapped == 2


def test_behind_a_gap_a_transaction_is_worth_its_own_price() -> None:
    pool = pool_with(gapped=1)
    low, high = transaction(1, 0, tip=1), transaction(1, 1, tip=50)
    add(pool, low)
    add(pool, high)
    pool.drop(low.hash, "other", "")
    assert rejection(pool, transaction(2, 5, tip=10)).kind == "underpriced"
    assert high.hash in pool


def test_bytes_are_limited() -> None:
    pool = pool_with(size_bytes=1_000)
    small = [transaction(sender, 0, tip=sender, size=200) for sender in range(1, 6)]
    for tx in small:
        add(pool, tx)
    assert pool.size_bytes == 1_000
    # It would have to push out dearer ones, and a failed attempt pushes out none.
    assert rejection(pool, transaction(9, 0, tip=3, size=600, gas=10**6)).kind == "underpriced"
    big = transaction(9, 0, tip=4, size=600, gas=10**6)
    add(pool, big)
    assert set(pool) == {small[3], small[4], big}
    assert pool.size_bytes == 1_000


def test_the_order_of_eviction_follows_the_base_fee() -> None:
    pool = pool_with(count=2)
    capped = transaction(1, 0, fee=BASE_FEE + 3, tip=BASE_FEE)
    plain = transaction(2, 0, tip=10)
    add(pool, capped)
    add(pool, plain)
    add(pool, transaction(3, 0, tip=4))
    assert capped.hash not in pool
    pool = pool_with(count=2)
    add(pool, capped)
    add(pool, plain)
    pool.add(transaction(3, 0, tip=11), account=(0, RICH), base_fee=BASE_FEE - 100, now=0.0)
    assert plain.hash not in pool


# ---------------------------------------------------------------- heads


def head(pool: Mempool, accounts: dict[int, tuple[int, int]], **more: object) -> None:
    pool.on_head(
        accounts={account(index): state for index, state in accounts.items()},
        base_fee=BASE_FEE,
        now=0.0,
        **more,  # type: ignore[arg-type]
    )


def test_mined_transactions_leave_without_a_reason() -> None:
    pool = pool_with()
    txs = [transaction(1, nonce) for nonce in range(4)]
    for tx in txs:
        add(pool, tx)
    head(pool, {1: (2, RICH)}, included={tx.hash for tx in txs[:2]})
    assert pool.candidates(BASE_FEE) == txs[2:]
    assert [pool.departure(tx.hash) for tx in txs] == [None] * 4
    head(pool, {1: (4, RICH)}, included={tx.hash for tx in txs[2:]})
    assert len(pool) == pool.size_bytes == pool.gapped == 0
    assert pool.senders() == []


def test_another_transaction_with_the_nonce_supersedes() -> None:
    pool = pool_with()
    tx, after = transaction(1, 0), transaction(1, 1)
    add(pool, tx)
    add(pool, after)
    head(pool, {1: (1, RICH)}, included={bytes(32)})
    departure = pool.departure(tx.hash)
    assert departure is not None
    assert departure.kind == "superseded"
    assert pool.candidates(BASE_FEE) == [after]


def test_a_fallen_balance_takes_what_it_does_not_cover() -> None:
    pool = pool_with()
    txs = [transaction(1, nonce) for nonce in range(3)]
    for tx in txs:
        add(pool, tx)
    head(pool, {1: (0, txs[0].max_cost + 5)})
    assert list(pool) == txs[:1]
    departure = pool.departure(txs[2].hash)
    assert departure is not None
    assert departure.kind == "insufficient-funds"


def test_a_dear_one_in_the_middle_leaves_a_gap() -> None:
    pool = pool_with()
    txs = [transaction(1, 0), transaction(1, 1, value=10**20), transaction(1, 2)]
    for tx in txs:
        add(pool, tx)
    head(pool, {1: (0, 10**19)})
    assert list(pool) == [txs[0], txs[2]]
    assert pool.gapped == 1
    assert pool.candidates(BASE_FEE) == txs[:1]


def test_removed_blocks_give_their_transactions_back() -> None:
    pool = pool_with()
    mined = [transaction(1, nonce) for nonce in (3, 4)]
    waiting, elsewhere, lost = transaction(1, 5), transaction(2, 0), transaction(3, 0)
    add(pool, waiting, nonce=5)
    head(
        pool,
        {1: (3, RICH), 2: (1, RICH), 3: (1, RICH)},
        included={elsewhere.hash},
        reinstated=[*mined, elsewhere, lost],
    )
    assert pool.candidates(BASE_FEE) == [*mined, waiting]
    assert pool.departure(elsewhere.hash) is None
    departure = pool.departure(lost.hash)
    assert departure is not None
    assert departure.kind == "superseded"


def test_the_first_nonces_are_reinstated_before_later_ones_are_paid_for() -> None:
    pool = pool_with()
    mined, waiting = transaction(1, 3), transaction(1, 4)
    add(pool, waiting, nonce=4, balance=waiting.max_cost)
    head(pool, {1: (3, mined.max_cost + 1)}, reinstated=[mined])
    assert list(pool) == [mined]
    assert pool.departure(waiting.hash) is not None


def test_the_limits_hold_after_transactions_came_back() -> None:
    pool = pool_with(count=3)
    for sender in (1, 2, 3):
        add(pool, transaction(sender, 0, tip=sender))
    back = [transaction(7, nonce, tip=2) for nonce in (0, 1)]
    head(pool, {7: (0, RICH)}, reinstated=back)
    assert len(pool) == 3
    assert {tx.sender for tx in pool} == {account(2), account(3), account(7)}


def test_dropping_leaves_a_gap_and_a_reason() -> None:
    pool = pool_with()
    txs = [transaction(1, nonce) for nonce in range(3)]
    for tx in txs:
        add(pool, tx)
    assert pool.drop(txs[1].hash, "other", "execution refused") is txs[1]
    assert pool.drop(txs[1].hash, "other", "again") is None
    assert pool.candidates(BASE_FEE) == txs[:1]
    assert pool.gapped == 1
    departure = pool.departure(txs[1].hash)
    assert departure is not None
    assert (departure.kind, departure.message) == ("other", "execution refused")
    add(pool, txs[1])  # it may come again
    assert pool.departure(txs[1].hash) is None
    assert pool.candidates(BASE_FEE) == txs


def test_only_gapped_transactions_expire() -> None:
    pool = pool_with(gapped_lifetime_seconds=100.0)
    run, old, young = transaction(1, 0), transaction(1, 5), transaction(1, 6)
    add(pool, run, now=0.0)
    add(pool, old, now=0.0)
    add(pool, young, now=50.0)
    assert pool.expire(100.0) == []
    assert pool.expire(100.5) == [old]
    assert list(pool) == [run, young]
    departure = pool.departure(old.hash)
    assert departure is not None
    assert departure.kind == "expired"
    assert pool.expire(1_000.0) == [young]
    assert pool.expire(10_000.0) == []


def test_reasons_are_remembered_within_bounds() -> None:
    pool = pool_with(departures=10)
    txs = [transaction(1, nonce) for nonce in range(15)]
    for tx in txs:
        add(pool, tx)
    for tx in reversed(txs):
        pool.drop(tx.hash, "other", "")
    assert [pool.departure(tx.hash) is not None for tx in txs] == [True] * 10 + [False] * 5


def test_first_is_the_one_with_the_accounts_nonce() -> None:
    pool = pool_with()
    txs = [transaction(1, nonce) for nonce in (4, 5)]
    for tx in txs:
        add(pool, tx, nonce=4)
    assert [pool.is_first(tx.hash) for tx in txs] == [True, False]
    assert not pool.is_first(bytes(32))


# ---------------------------------------------------------------- cost


def test_the_pool_costs_in_proportion_to_its_transactions() -> None:
    def work(size: int, watch: Stopwatch) -> None:
        pool = pool_with()
        txs = [transaction(sender, 0, tip=sender * 7919 % 10_007) for sender in range(size)]
        with watch.part("adding"):
            for tx in txs:
                add(pool, tx)
        with watch.part("choosing"):
            assert len(pool.candidates(BASE_FEE)) == size
        accounts, included = dict.fromkeys(range(size), (1, RICH)), {tx.hash for tx in txs}
        with watch.part("settling"):
            head(pool, accounts, included=included)
        assert len(pool) == 0

    grown = growth(work)
    assert max(grown.values()) < NEARLY_LINEAR, grown
