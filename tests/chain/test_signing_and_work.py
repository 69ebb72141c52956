"""What a miner keeps: its journal, its work; and how much of a core it gives to checking others."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.chain.genesis_work import UnusableWork, run_genesis_work
from noria.chain.own_journal import JournalDamaged, JournalError, JournalForeign, OwnJournal
from noria.chain.own_work import BatchDamaged, BatchMissing, InputMissing, OwnWork
from noria.chain.verify_budget import HORIZON_SECONDS, VerifyBudget
from noria.consensus.certificate import check_input
from noria.consensus.votes import Checkpoint, SignedVote, Vote
from noria.consensus.voting import WouldBeSlashable
from noria.execution.parameters import DEVNET
from noria.primitives.types import Address, BlsSignature, Hash32
from noria.work.batches import verify_draw
from noria.work.receipts import check_unit
from noria.work.workers import WorkerPool
from tests.work.modules import SPIN, place, turns

ROOT, MINER = Hash32(b"\x01" * 32), Address(b"\x02" * 20)


def vote(source: int, target: int, root: bytes = b"\x03") -> SignedVote:
    return SignedVote(
        Vote(Checkpoint(source, ROOT), Checkpoint(target, Hash32(root * 32))), MINER, BlsSignature(bytes(96))
    )


def journal(folder: Path) -> OwnJournal:
    return OwnJournal(folder / "journal", ROOT, MINER)


def test_a_journal_remembers_across_restarts(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.propose(7)
    first.vote(vote(0, 1))
    first.vote(vote(1, 2))
    second = journal(tmp_path)
    assert second.record == first.record
    assert second.last_vote == vote(1, 2)
    second.propose(8)
    assert journal(tmp_path).record.proposed_slot == 8
    assert journal(tmp_path).last_vote == vote(1, 2)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(1, 6)), max_size=30))
def test_no_journal_lets_anything_slashable_through(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    slots: list[int] = []
    votes: list[Vote] = []
    for proposes, source, distance in steps:
        book = journal(folder)
        try:
            if proposes:
                book.propose(source)
                assert source not in slots
                slots.append(source)
            else:
                book.vote(vote(source, source + distance))
                new = vote(source, source + distance).vote
                for old in votes:
                    same = old == new
                    assert same or old.target.epoch != new.target.epoch
                    assert not (old.source.epoch < new.source.epoch and new.target.epoch < old.target.epoch)
                    assert not (new.source.epoch < old.source.epoch and old.target.epoch < new.target.epoch)
                votes.append(new)
        except WouldBeSlashable:
            assert journal(folder).record == book.record


def test_another_miners_journal_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    journal(tmp_path).propose(1)
    with pytest.raises(JournalForeign, match="use another folder"):
        OwnJournal(tmp_path / "journal", ROOT, Address(b"\x09" * 20))
    with pytest.raises(JournalForeign):
        OwnJournal(tmp_path / "journal", Hash32(b"\x09" * 32), MINER)
    data = (tmp_path / "journal").read_bytes()
    for at in range(len(data)):
        (tmp_path / "journal").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises((JournalDamaged, JournalForeign)):
            journal(tmp_path)
    (tmp_path / "journal").write_bytes(data[:-1])
    with pytest.raises(JournalDamaged, match="miss an epoch"):
        journal(tmp_path)


def test_a_journal_that_cannot_be_written_signs_nothing(tmp_path: Path) -> None:
    book = journal(tmp_path)
    (tmp_path / "journal").unlink()
    tmp_path.rmdir()
    with pytest.raises(JournalError, match="nothing is signed"):
        book.propose(5)
    assert book.record.proposed_slot == 0


def test_a_vote_and_a_block_that_are_noted_at_once_are_both_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = journal(tmp_path)
    writes, other_writes, sync = threading.Event(), threading.Event(), os.fsync

    def delayed(descriptor: int) -> None:
        # The first who writes waits for the second, who must not begin before the first has ended.
        if writes.is_set():
            other_writes.set()
        else:
            writes.set()
            other_writes.wait(0.5)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", delayed)
    with ThreadPoolExecutor(2) as threads:
        voted = threads.submit(book.vote, vote(0, 1))
        assert writes.wait(10)
        threads.submit(book.propose, 7).result()
        voted.result()
    again = journal(tmp_path)
    assert again.record == book.record
    assert again.last_vote == vote(0, 1)
    assert again.record.proposed_slot == 7


# ---------------------------------------------------------------- work


def test_genesis_work_is_run_kept_and_shown(tmp_path: Path) -> None:
    source = place(tmp_path, SPIN)
    inputs = [turns(1000 + n) for n in range(5)]
    with WorkerPool(1, cache=tmp_path / "compiled") as pool:
        made = run_genesis_work(
            pool, source, inputs, miner=MINER, origin=ROOT, parameters=DEVNET, fuel_limit=10**6
        )
        with pytest.raises(UnusableWork, match="carries no weight"):
            run_genesis_work(
                pool, source, inputs, miner=MINER, origin=ROOT, parameters=DEVNET, fuel_limit=10**12
            )
        with pytest.raises(UnusableWork, match="are no batch"):
            run_genesis_work(pool, source, [], miner=MINER, origin=ROOT, parameters=DEVNET)
        with pytest.raises(UnusableWork, match="carries no weight"):
            run_genesis_work(pool, source, [bytes(300_000)], miner=MINER, origin=ROOT, parameters=DEVNET)
    entry = made.entry
    assert entry.count == 5
    assert entry.weight == entry.fuel == sum(receipt.fuel for receipt in made.batch.receipts) > 5000
    work = OwnWork(tmp_path / "work", durable=False)
    made.keep(work)
    assert work.roots() == [entry.root]
    work = OwnWork(tmp_path / "work", durable=False)
    seen = set()
    for offset in range(0, entry.weight, max(1, entry.weight // 50)):
        certificate, data = work.certificate(entry.root, offset)
        verify_draw(made.batch.commitment, certificate.proof, offset)
        check_unit(
            certificate.proof.receipt, certificate.program, certificate.input_id, certificate.fuel_limit
        )
        check_input(DEVNET, certificate, data)
        seen.add(data)
    assert seen == set(inputs)
    path = next((tmp_path / "work" / "batches").glob("*.batch"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BatchDamaged):
        OwnWork(tmp_path / "work", durable=False).certificate(entry.root, 0)
    work.forget(entry.root)
    assert work.roots() == []
    with pytest.raises(BatchMissing, match="are lost"):
        work.certificate(entry.root, 0)
    assert list((tmp_path / "work" / "batches").iterdir()) == []


def test_an_input_that_is_gone_or_damaged_is_missed_by_name(tmp_path: Path) -> None:
    source = place(tmp_path, SPIN)
    with WorkerPool(1, cache=tmp_path / "compiled") as pool:
        made = run_genesis_work(
            pool, source, [turns(10)], miner=MINER, origin=ROOT, parameters=DEVNET, fuel_limit=10**6
        )
    work = OwnWork(tmp_path / "work", durable=False)
    made.keep(work)
    path = next((tmp_path / "work" / "batches").glob("*.inputs"))
    data = path.read_bytes()
    for damaged in (b"", data[:-1], bytes([data[0] ^ 1]) + data[1:]):
        path.write_bytes(damaged)
        with pytest.raises(InputMissing, match="is damaged"):
            work.certificate(made.entry.root, 0)
    path.unlink()
    with pytest.raises(InputMissing, match="are lost"):
        work.certificate(made.entry.root, 0)


def test_what_inputs_share_is_kept_once_and_what_weighs_nothing_not_at_all(tmp_path: Path) -> None:
    source = place(tmp_path, SPIN)
    inputs = [turns(10 + n) for n in range(20)]
    with WorkerPool(1, cache=tmp_path / "compiled") as pool:
        made = run_genesis_work(
            pool, source, inputs, miner=MINER, origin=ROOT, parameters=DEVNET, fuel_limit=10**6
        )
    work = OwnWork(tmp_path / "work", durable=False)
    parts = [(data[:3], data[3:]) for data in inputs]
    work.keep(made.batch, made.units, parts)
    path = next((tmp_path / "work" / "batches").glob("*.inputs"))
    assert path.stat().st_size == sum(map(len, {part for each in parts for part in each}))
    again = OwnWork(tmp_path / "work", durable=False)
    assert again.has(made.entry.root)
    assert {again.certificate(made.entry.root, x)[1] for x in range(0, made.entry.weight, 7)} == set(inputs)
    work.keep(made.batch, made.units, [(), *((data,) for data in inputs[1:])])
    fresh = OwnWork(tmp_path / "work", durable=False)
    with pytest.raises(InputMissing):
        fresh.certificate(made.entry.root, 0)
    assert fresh.certificate(made.entry.root, made.entry.weight - 1)[1] == inputs[-1]


# ---------------------------------------------------------------- how much is checked


def test_everything_is_checked_while_the_share_suffices() -> None:
    budget = VerifyBudget(DEVNET, lambda: 0.999, 0.0)
    now = 0.0
    for _ in range(200):
        now += 1.0
        assert budget.drawn(10**7, now)
        assert budget.seconds_until_free(now) == 0.0
        budget.spent(10**7, 0.01, now)
    assert budget.probability == 1.0


@pytest.mark.parametrize("seconds", [0.2, 1.0, 3.0])
def test_checks_keep_within_their_share_however_much_is_asked(seconds: float) -> None:
    chance = random.Random(1)
    budget = VerifyBudget(DEVNET, chance.random, 0.0)
    now, spent, drawn = 0.0, 0.0, 0
    for _ in range(5000):
        now += 1.0
        if budget.drawn(10**9, now):
            drawn += 1
            budget.spent(10**9, seconds, now)
            spent += seconds
    assert 0.5 * 0.05 < spent / now < 1.5 * 0.05
    assert 0 < budget.probability < 1
    assert drawn > 0


def test_a_debt_is_worked_off_before_the_next_check() -> None:
    budget = VerifyBudget(replace(DEVNET, verify_share_percent=10), lambda: 0.0, 0.0)
    saved = 0.1 * HORIZON_SECONDS
    budget.spent(1, saved + 1.0, 0.0)
    assert budget.seconds_until_free(0.0) == pytest.approx(10.0)
    assert budget.seconds_until_free(10.5) == 0.0
    assert budget.seconds_until_free(10**6) == 0.0
    budget.spent(1, saved, 10**6)
    assert budget.seconds_until_free(10**6) == pytest.approx(0.0, abs=1e-6)
