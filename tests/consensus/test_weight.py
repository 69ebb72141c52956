"""Weight is paid, accepted, recent, covered by a bond, and awake; and invariant 4 on a small model."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.consensus.parameters import DEVNET
from noria.consensus.state import CreditEntry, InvalidState, MinerRecord
from noria.consensus.weight import (
    InvalidSnapshot,
    Snapshot,
    SnapshotRow,
    TooManyMiners,
    bond_cover,
    capacity_cover,
    credit_of_batch,
    credit_up_to,
    grant_at,
    next_floor,
    snapshot_root,
    take_snapshot,
    voting_epochs_since,
    window,
)
from noria.primitives.types import Address, BlsPublicKey, Hash32
from tests.consensus.world import PlainState, address, bls_key

SMALL = replace(
    DEVNET, window_epochs=3, leak_epochs=2, bond_min_wei=5, bond_per_weight_wei=10, floor_min_wei=100
)
ROOT = Hash32(b"\x07" * 32)


def entry(number: int, epoch: int, cumulative: int) -> CreditEntry:
    return CreditEntry(Hash32(number.to_bytes(32, "big")), epoch, cumulative)


def one_miner(
    *entries: CreditEntry, bond: int = 10**9, jailed_until_epoch: int = 0, slashed_epoch: int | None = None
) -> PlainState:
    record = MinerRecord(address(0), bls_key(0), bond, 0, jailed_until_epoch, slashed_epoch)
    return PlainState({address(0): record}, {address(0): entries})


def only_row(state: PlainState, epoch: int, grant: int = 0) -> SnapshotRow | None:
    rows = take_snapshot(SMALL, state, {address(0): grant} if grant else {}, epoch).rows
    assert len(rows) <= 1
    return rows[0] if rows else None


# ---------------------------------------------------------------- credit and floor


@given(st.integers(0, 10**12), st.integers(0, 10**24), st.integers(1, 10_000), st.integers(8, 10**12))
def test_credit_is_what_the_fee_backs(weight: int, fee: int, share: int, floor: int) -> None:
    parameters = replace(DEVNET, fee_basis_points=share)
    backed = Fraction(fee) / (Fraction(share, 10_000) * floor)
    assert credit_of_batch(parameters, weight, fee, floor) == min(weight, backed.__floor__())


def test_a_batch_paid_at_the_floor_is_credited_in_full_and_half_of_it_for_half() -> None:
    price = 1000 * 100
    fee = price * SMALL.fee_basis_points // 10_000
    assert credit_of_batch(SMALL, 1000, fee, 100) == 1000
    assert credit_of_batch(SMALL, 1000, 10 * fee, 100) == 1000
    assert credit_of_batch(SMALL, 1000, fee // 2, 100) == 500
    assert credit_of_batch(SMALL, 1000, 0, 100) == 0


@pytest.mark.parametrize(
    ("floor", "paid", "credit", "expected"),
    [
        (800, 1600 * 1000, 1000, 800),  # half the mean price
        (800, 1700 * 1000, 1000, 850),
        (800, 10**9, 1000, 900),  # at most an eighth up
        (800, 1000, 1000, 700),  # at most an eighth down
        (800, 0, 0, 700),  # no market: towards the least
        (104, 0, 0, 100),  # never below it
        (100, 0, 0, 100),
    ],
)
def test_the_floor_follows_the_market(floor: int, paid: int, credit: int, expected: int) -> None:
    assert next_floor(SMALL, floor, paid, credit) == expected


@given(st.integers(8, 10**15), st.integers(0, 10**30), st.integers(0, 10**15))
def test_the_floor_moves_by_at_most_an_eighth(floor: int, paid: int, credit: int) -> None:
    parameters = replace(SMALL, floor_min_wei=8)
    moved = next_floor(parameters, floor, paid, credit)
    assert 8 * abs(moved - floor) <= floor
    assert moved >= 8
    # And it does move wherever the market is elsewhere.
    if credit and paid // (2 * credit) > floor:
        assert moved > floor


# ---------------------------------------------------------------- grants


def test_grants_are_constant_then_fall_to_an_eighth_and_stay() -> None:
    parameters = replace(DEVNET, grant_epochs=100)
    assert [grant_at(parameters, 800, epoch) for epoch in (0, 100, 150, 200, 10**6)] == [
        800,
        800,
        450,
        100,
        100,
    ]
    assert grant_at(DEVNET, 800, 10**9) == 800


@given(st.integers(1, 10**12), st.integers(1, 5000), st.integers(0, 12_000))
def test_grants_never_rise(grant: int, epochs: int, epoch: int) -> None:
    parameters = replace(DEVNET, grant_epochs=epochs)
    now, later = grant_at(parameters, grant, epoch), grant_at(parameters, grant, epoch + 1)
    assert grant >= now >= later >= Fraction(grant, 8)


# ---------------------------------------------------------------- rows


def test_the_window_is_the_last_epochs_but_two() -> None:
    assert window(SMALL, 10) == (6, 8)
    assert window(SMALL, 2) == window(SMALL, 1) == window(SMALL, 0) == (0, 0)


def test_credit_counts_inside_the_window_only() -> None:
    state = one_miner(entry(1, 5, 10), entry(2, 6, 110), entry(3, 8, 1110), entry(4, 9, 11_110))
    row = only_row(state, 10)
    assert row == SnapshotRow(address(0), bls_key(0), 10, 1110, 1100, 0)
    assert only_row(state, 20) is None


def test_genesis_work_counts_from_the_start() -> None:
    state = one_miner(entry(1, 0, 50))
    assert [row.weight if (row := only_row(state, epoch)) else 0 for epoch in range(7)] == [50] * 5 + [0, 0]


def test_the_bond_caps_the_work_but_not_the_grant() -> None:
    state = one_miner(entry(1, 0, 50), bond=10 * 20 + 9)
    assert only_row(state, 2, grant=7) == SnapshotRow(address(0), bls_key(0), 0, 50, 27, 7)


def test_a_bond_that_covers_no_work_leaves_the_grant() -> None:
    assert only_row(one_miner(entry(1, 0, 50), bond=9), 2) is None
    assert only_row(one_miner(entry(1, 0, 50), bond=5), 2, grant=7) == SnapshotRow(
        address(0), bls_key(0), 0, 50, 7, 7
    )


@pytest.mark.parametrize("bond", [0, 4])
def test_below_the_least_bond_there_is_no_weight_and_no_grant(bond: int) -> None:
    assert only_row(one_miner(entry(1, 0, 50), bond=bond), 2, grant=7) is None
    covering = replace(SMALL, bond_per_weight_wei=1)
    state = one_miner(entry(1, 0, 50), bond=bond)
    assert take_snapshot(covering, state, {}, 2).rows == ()


def test_bonds_cover_weight_and_capacity() -> None:
    assert bond_cover(SMALL, 29) == 2
    assert capacity_cover(DEVNET, DEVNET.bond_min_wei - 1) == 0
    assert capacity_cover(DEVNET, DEVNET.bond_min_wei) == DEVNET.bond_min_wei // DEVNET.bond_per_capacity_wei


def test_who_is_silent_for_leak_epochs_sleeps() -> None:
    state = one_miner(entry(1, 0, 50))
    assert only_row(replace(state, silent={address(0): 1}), 2)
    assert only_row(replace(state, silent={address(0): 2}), 2) is None
    assert only_row(replace(state, silent={address(0): 2}), 2, grant=9) is None


def test_who_is_in_jail_has_no_row_until_it_is_out() -> None:
    state = one_miner(entry(1, 0, 50), jailed_until_epoch=3)
    assert only_row(state, 2, grant=7) is None
    assert only_row(state, 3, grant=7) is not None


def test_a_slash_takes_the_grant_and_all_credit_up_to_it() -> None:
    state = one_miner(entry(1, 1, 10), entry(2, 2, 30), entry(3, 3, 70), slashed_epoch=2)
    row = only_row(state, 5, grant=1000)
    assert row == SnapshotRow(address(0), bls_key(0), 30, 70, 40, 0)
    # A slash after everything that counts leaves nothing.
    assert only_row(one_miner(entry(1, 1, 10), slashed_epoch=9), 3, grant=1000) is None


def test_silent_epochs_are_counted_only_in_the_voting_set() -> None:
    there = Snapshot(0, (SnapshotRow(address(0), bls_key(0), 0, 1, 1, 0),))
    sets = {1: there, 2: Snapshot(0, ()), 3: there, 4: there}
    assert voting_epochs_since(sets, address(0), 0, 4, 100) == 3
    assert voting_epochs_since(sets, address(0), 3, 4, 100) == 1
    assert voting_epochs_since(sets, address(0), 4, 4, 100) == 0
    assert voting_epochs_since(sets, address(1), 0, 4, 100) == 0
    assert voting_epochs_since(sets, address(0), 0, 4, 2) == 2


# ---------------------------------------------------------------- snapshots


def test_rows_stand_by_address_whatever_the_order_of_miners() -> None:
    records = [MinerRecord(address(number), bls_key(number), 5) for number in range(20)]
    grants = {address(number): number + 1 for number in range(20)}
    forward = PlainState({record.miner: record for record in records})
    backward = PlainState({record.miner: record for record in reversed(records)})
    snapshot = take_snapshot(SMALL, forward, grants, 2)
    assert snapshot == take_snapshot(SMALL, backward, grants, 2)
    assert [row.miner for row in snapshot.rows] == sorted(grants)
    assert snapshot.total_weight == sum(grants.values())
    for position, row in enumerate(snapshot.rows):
        assert snapshot.position(row.miner) == position
        assert snapshot.row(row.miner) is row
        assert snapshot.weight_of(1 << position) == row.weight
    assert snapshot.row(address(99)) is None
    assert snapshot.weight_of((1 << 20) - 1) == snapshot.total_weight
    assert snapshot.weight_of(1 << 20) == 0


def test_more_miners_than_allowed_are_named() -> None:
    records = {address(number): MinerRecord(address(number), bls_key(number), 5) for number in range(3)}
    with pytest.raises(TooManyMiners, match="3 miners with weight, at most 2"):
        take_snapshot(replace(SMALL, miners_max=2), PlainState(records), dict.fromkeys(records, 1), 2)


@pytest.mark.parametrize(
    ("lo", "hi", "weight", "grant"),
    [(5, 4, 1, 1), (0, 5, 6, 0), (0, 5, 2, 3), (0, 5, 0, 0), (-1, 5, 2, 0), (0, 0, 2, 1)],
)
def test_impossible_rows_are_refused(lo: int, hi: int, weight: int, grant: int) -> None:
    with pytest.raises(InvalidSnapshot):
        SnapshotRow(address(0), bls_key(0), lo, hi, weight, grant)


def test_rows_out_of_order_are_refused() -> None:
    low, high = sorted([address(0), address(1)])
    rows = [SnapshotRow(miner, bls_key(0), 0, 1, 1, 0) for miner in (low, high)]
    Snapshot(1, tuple(rows))
    for wrong in (rows[::-1], [rows[0], rows[0]]):
        with pytest.raises(InvalidSnapshot, match="stands after"):
            Snapshot(1, tuple(wrong))


def test_the_root_covers_chain_epoch_and_each_field() -> None:
    row = SnapshotRow(address(0), bls_key(0), 1, 9, 5, 2)
    roots = {
        snapshot_root(ROOT, Snapshot(1, (row,))),
        snapshot_root(Hash32(bytes(32)), Snapshot(1, (row,))),
        snapshot_root(ROOT, Snapshot(2, (row,))),
        snapshot_root(ROOT, Snapshot(1, ())),
        *(
            snapshot_root(ROOT, Snapshot(1, (changed,)))
            for changed in (
                replace(row, miner=address(1)),
                replace(row, bls_key=bls_key(1)),
                replace(row, lo=2),
                replace(row, hi=10),
                replace(row, weight=6),
                replace(row, grant=1),
            )
        ),
    }
    assert len(roots) == 10


@pytest.mark.parametrize(
    "change", [{"miner": b"\x01" * 19}, {"bls_key": b""}, {"bond_wei": -1}, {"slashed_epoch": -1}]
)
def test_impossible_miners_are_refused(change: dict[str, object]) -> None:
    values = {"miner": address(0), "bls_key": bls_key(0), "bond_wei": 0} | change
    with pytest.raises(InvalidState):
        MinerRecord(
            Address(values["miner"]),  # type: ignore[arg-type]
            BlsPublicKey(values["bls_key"]),  # type: ignore[arg-type]
            values["bond_wei"],  # type: ignore[arg-type]
            slashed_epoch=values.get("slashed_epoch"),  # type: ignore[arg-type]
        )


def test_impossible_credit_is_refused() -> None:
    for root, epoch, cumulative in ((b"", 0, 1), (ROOT, -1, 1), (ROOT, 0, 0)):
        with pytest.raises(InvalidState):
            CreditEntry(Hash32(root), epoch, cumulative)


# ---------------------------------------------------------------- invariant 4

batches = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 1000), st.integers(0, 2000)), max_size=12)
"""(epoch, batch weight, fee paid)."""


@given(batches, st.integers(0, 20_000), st.integers(0, 500), st.integers(0, 16), st.integers(100, 300))
def test_weight_is_never_more_than_paid_recent_bonded_work_and_grant(
    credited: list[tuple[int, int, int]], bond: int, grant: int, epoch: int, floor: int
) -> None:
    entries, cumulative = [], 0
    for number, (at, weight, fee) in enumerate(sorted(credited)):
        credit = credit_of_batch(SMALL, weight, fee, floor)
        if credit:
            cumulative += credit
            entries.append(entry(number, at, cumulative))
    row = only_row(one_miner(*entries, bond=bond), epoch, grant)
    # The model: fuel that was accepted and whose fee was paid, inside the window.
    last = max(epoch, 2) - 2
    inside = [(weight, fee) for at, weight, fee in credited if last - SMALL.window_epochs < at <= last]
    accepted = sum(weight for weight, _ in inside)
    backed = sum(Fraction(fee * 10_000, SMALL.fee_basis_points * floor) for _, fee in inside)
    weight = row.weight if row else 0
    assert weight - grant <= min(accepted, backed, Fraction(bond, SMALL.bond_per_weight_wei))
    if row:
        assert row.hi - row.lo == credit_up_to(entries, last) - credit_up_to(
            entries, last - SMALL.window_epochs
        )
