"""What a requester writes down."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from noria.market.requester.evidence import SignedReceipt
from noria.market.requester.journal import JobJournal, JournalError
from noria.primitives.hashes import blake3
from noria.primitives.types import ZERO_HASH, Hash32, Signature, Wei
from noria.work.ids import BlobId, UnitId
from noria.work.receipts import RECEIPT_BYTES, Receipt, Status, decode_receipt
from tests.market.requester.fakes import ROOT, key_of

WHO = key_of(1).address


@pytest.fixture
def journal(tmp_path: Path) -> JobJournal:
    return JobJournal(tmp_path / "folder" / "jobs.sqlite")


def create(journal: JobJournal, title: str = "a title") -> int:
    return journal.create(ROOT, WHO, key_of(2).secret, title=title, node="http://node", budget=10**18)


def signed(index: int) -> SignedReceipt:
    receipt = Receipt(
        genesis_root=ROOT,
        job=7,
        k=1,
        miner=key_of(3).address,
        index=index,
        unit_id=UnitId(blake3(b"unit %d" % index)),
        output_id=BlobId(blake3(b"output")),
        status=Status.OK,
        fuel=5,
        weight=5,
    )
    return SignedReceipt(receipt, Signature(bytes(65)), ZERO_HASH, Hash32(blake3(b"seal")), 12, Wei(50))


def test_nobody_else_reads_it(journal: JobJournal) -> None:
    create(journal)
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


def test_a_job_from_beginning_to_end(journal: JobJournal) -> None:
    row = create(journal)
    [job] = journal.jobs()
    assert (job.number, job.state, job.is_alive, job.session_key) == (None, "opening", True, key_of(2).secret)
    assert key_of(2).secret.hex() not in repr(job)
    assert not journal.update(row, number=7, state="running", view=b"{}")
    assert journal.find(7) is not None
    assert journal.find(7, Hash32(bytes(32))) is None
    journal.ask_close(row)
    assert journal.leftovers(ROOT) == []
    assert journal.update(row, number=7, state="closing", view=b"{}")
    # Its process may live on for long: the money comes back meanwhile.
    assert [job.id for job in journal.leftovers(ROOT)] == [row]
    journal.set_state(row, "closed")
    assert journal.jobs(chain=ROOT)[0].state == "closed"
    assert journal.jobs(chain=Hash32(bytes(32))) == []


def test_receipts_with_their_logs(journal: JobJournal) -> None:
    row, other = create(journal), create(journal, "another")
    journal.add_receipts(row, [(signed(index), b"log %d" % index) for index in (1, 0, 2)])
    journal.add_receipts(row, [(signed(2), b"log 2")])
    found = journal.receipts(row)
    assert [(each.k, each.index, each.log) for each in found] == [(1, n, b"log %d" % n) for n in range(3)]
    assert len(found[0].receipt) == RECEIPT_BYTES
    assert decode_receipt(found[0].receipt) == signed(0).receipt
    assert journal.receipts(other) == []


def test_bans_are_remembered_for_a_chain(journal: JobJournal) -> None:
    journal.ban(ROOT, WHO, "a lie")
    assert journal.bans(ROOT)[WHO].reason == "a lie"
    assert journal.bans(Hash32(bytes(32))) == {}
    journal.unban(ROOT, WHO)
    assert journal.bans(ROOT) == {}


def test_a_job_whose_process_is_gone_is_left_over(journal: JobJournal, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from noria.market.requester.journal import JobJournal; "
        "j = JobJournal(Path(sys.argv[1])); "
        "j.create(bytes.fromhex(sys.argv[2]), bytes(20), bytes(32), title='', node='', budget=1)"
    )
    subprocess.run([sys.executable, "-c", code, journal.path, ROOT.hex()], check=True, env=os.environ)
    [job] = journal.leftovers(ROOT)
    assert not job.is_alive
    journal.adopt(job.id)
    assert journal.leftovers(ROOT) == []


@pytest.mark.parametrize("content", [b"no database at all, but long enough" * 100])
def test_files_that_are_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "jobs.sqlite"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="cannot be opened"):
        JobJournal(path)


def test_a_file_of_version_1_is_read(journal: JobJournal) -> None:
    row = create(journal)
    for column in ("opening_nonce", "opening_block"):
        journal._do(f"alter table jobs drop column {column}")
    journal._do("pragma user_version = 1")
    journal.close()
    for _ in range(2):
        again = JobJournal(journal.path)
        [job] = again.jobs()
        assert (job.id, job.opening_nonce) == (row, None)
        again.close()


def test_a_job_is_left_by_a_process_that_goes_on(journal: JobJournal) -> None:
    row = create(journal)
    journal.note_opening(row, nonce=5, block=10)
    assert journal.leftovers(ROOT) == []
    journal.release(row)
    [job] = journal.leftovers(ROOT)
    assert (job.state, job.is_alive, job.opening_nonce, job.opening_block) == ("opening", False, 5, 10)


def test_a_file_of_a_later_version(journal: JobJournal) -> None:
    journal._do("pragma user_version = 99")
    journal.close()
    with pytest.raises(JournalError, match="version 99"):
        JobJournal(journal.path)


def test_it_is_in_the_user_s_folder_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from noria.market.requester.journal import journal_path

    monkeypatch.setenv("NORIA_JOBS", str(tmp_path / "own"))
    assert journal_path() == tmp_path / "own"
    monkeypatch.delenv("NORIA_JOBS")
    assert journal_path().name == "jobs.sqlite"
