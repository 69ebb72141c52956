"""``noria job`` over a journal: what is told of jobs, and that bad input is one line. No node runs here."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from noria.cli.job_run import summary
from noria.market.requester.evidence import SignedReceipt
from noria.market.requester.journal import JobJournal
from noria.market.requester.reasons import JobView, PlaceView
from noria.primitives.addresses import checksum_address
from noria.primitives.keys import PrivateKey
from noria.primitives.types import NOR, ZERO_HASH, Hash32, Wei
from noria.work.ids import BlobId, ProgramId, unit_id
from noria.work.receipts import Receipt, Status
from tests.cli.command import LIMIT_SECONDS, NORIA, assert_one_line_error, noria_here
from tests.work.modules import ECHO

CHAIN = Hash32(b"\x11" * 32)
OWNER, MINER = (PrivateKey(number.to_bytes(32, "big")) for number in (7, 8))
NOBODY = "http://127.0.0.1:1"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def journal(path: Path) -> JobJournal:
    return JobJournal(path)


@pytest.fixture
def run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.setenv("NORIA_JOBS", str(path))
    monkeypatch.setenv("NORIA_WALLET", str(tmp_path / "wallet"))
    monkeypatch.setenv("NORIA_NODE", NOBODY)
    return lambda *arguments: noria_here(capsys, "job", *arguments)


def view(**changes: object) -> JobView:
    place = PlaceView(
        k=0,
        miner=checksum_address(MINER.address),
        price="1000000",
        cap=str(NOR // 4),
        state="ready",
        earned=str(NOR // 10),
        done=3,
        fuel=10**11,
    )
    values: dict[str, object] = {
        "state": "running",
        "requester": checksum_address(OWNER.address),
        "budget": str(2 * NOR),
        "max_price": "8000000",
        "miners": 4,
        "replicas": 2,
        "spent": str(NOR // 10),
        "opened_block": 3,
        "head_block": 9,
        "units": 10,
        "done": 3,
        "fuel": 10**11,
        "places": (place,),
    }
    return JobView(**values | changes)  # type: ignore[arg-type]


def add(journal: JobJournal, number: int | None, state: str, found: JobView | None, *, pid: int = 0) -> int:
    row = journal.create(
        CHAIN, OWNER.address, b"\x05" * 32, title=f"title {number}\x1b[2J", node=NOBODY, budget=2 * NOR
    )
    data = b"" if found is None else msgspec.json.encode(found)
    if found is None:
        journal.set_state(row, state)
    else:
        journal.update(row, number=number, state=state, view=data)
    if pid != os.getpid():
        # Of a process that is gone.
        journal._do("update jobs set pid = ?, process_start = 1 where id = ?", (pid, row))
    return row


def test_jobs_are_listed_the_latest_first(journal: JobJournal, run: Run) -> None:
    add(journal, 5, "closed", view(state="closed", done=10))
    add(journal, 6, "running", view(), pid=os.getpid())
    add(journal, 9, "running", view())
    add(journal, None, "opening", None)
    done = run("list")
    assert done.returncode == 0
    assert "comes back with the next job, or with `noria job cancel JOB`" in done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["-", "left"],
        ["9", "left"],
        ["6", "running"],
        ["5", "closed"],
    ]
    assert "3/10" in lines[2]
    assert "0.1 NOR" in lines[2]
    assert "\x1b" not in done.stdout
    found = json.loads(run("list", "--json").stdout)["jobs"]
    assert [job["job"] for job in found] == [None, 9, 6, 5]
    assert found[1]["spent_wei"] == str(NOR // 10)
    assert found[2]["process"] == os.getpid()


def test_jobs_that_need_nothing_are_only_listed(journal: JobJournal, run: Run) -> None:
    add(journal, 5, "closed", view(state="closed", done=10))
    add(journal, 6, "closing", view(state="closing"), pid=os.getpid())
    done = run("list")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_job_is_shown_without_a_chain_too(
    journal: JobJournal, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(journal, 5, "closed", view(state="closed"))
    done = run("show", "5")
    assert done.returncode == 1
    assert_one_line_error(done, 1, "no node answers")
    add(journal, 7, "running", view(problem="all is lost"))
    # The job's own node is asked then, which is not there either.
    monkeypatch.delenv("NORIA_NODE")
    shown = run("show")
    assert shown.returncode == 0, shown
    assert "state:      left, all is lost" in shown.stdout
    assert f"{checksum_address(MINER.address)} 3 units, 0.1 NOR earned; ready" in shown.stdout
    assert "the chain was not asked" in shown.stderr
    assert json.loads(run("show", "7", "--json").stdout)["chain"] is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (view(state="new", balance=str(NOR), units=0), "send it money"),
        (view(state="assigning", problem="nobody"), "No miner was drawn that asks for at most"),
        (view(places=()), "raise max_price"),
    ],
)
def test_what_holds_a_job_up_is_said(journal: JobJournal, run: Run, found: JobView, words: str) -> None:
    add(journal, 5, found.state, found, pid=os.getpid())
    done = run("explain")
    assert done.returncode == 0, done
    assert words in done.stdout
    answer = json.loads(run("explain", "5", "--json").stdout)
    assert any(words in reason["message"] for reason in answer["reasons"])


def test_a_job_that_was_left_is_said_to_be(journal: JobJournal, run: Run) -> None:
    add(journal, 5, "running", view())
    done = run("explain", "5")
    assert done.returncode == 0, done
    assert "Its program is gone" in done.stdout


def test_an_opening_that_was_left_may_still_come(journal: JobJournal, run: Run) -> None:
    opening = view(state="opening", opened_block=0, places=(), units=1, done=0)
    row = add(journal, None, "opening", opening)
    journal.note_opening(row, nonce=3, block=9)
    done = run("explain")
    assert done.returncode == 0, done
    assert "it may still come" in done.stdout
    assert "it may still come" in summary(opening)
    assert "nothing was spent" in summary(view(state="closed", places=(), units=1, done=0))


def test_a_job_is_cancelled_by_the_process_that_works_on_it(journal: JobJournal, path: Path) -> None:
    row = add(journal, 5, "running", view(), pid=os.getpid())
    environment = {**os.environ, "NORIA_JOBS": str(path), "NORIA_NODE": NOBODY}
    process = subprocess.Popen(
        [*NORIA, "job", "cancel"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        # As a session does with every snapshot, until it hears that it shall end.
        while not journal.update(row, number=5, state="running", view=msgspec.json.encode(view())):
            assert process.poll() is None, process.communicate()
        journal.update(row, number=5, state="closed", view=msgspec.json.encode(view(state="closed")))
        out, _ = process.communicate(timeout=LIMIT_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (0, "job 5 is closed\n")


def test_a_job_that_is_over_is_not_cancelled_again(journal: JobJournal, run: Run) -> None:
    add(journal, 5, "closed", view(state="closed"))
    done = run("cancel", "5", "--json")
    assert (done.returncode, json.loads(done.stdout)["text"]) == (0, "job 5 is closed already")


def test_a_job_that_was_left_needs_its_wallet(journal: JobJournal, run: Run) -> None:
    add(journal, 5, "running", view())
    assert_one_line_error(run("cancel"), 1, "there is no wallet")


def signed(index: int, unit: bytes, *, signer: PrivateKey = MINER) -> SignedReceipt:
    receipt = Receipt(
        genesis_root=CHAIN,
        job=5,
        k=0,
        miner=MINER.address,
        index=index,
        unit_id=unit_id(ProgramId(CHAIN), BlobId(Hash32(unit * 32)), 10**9),
        output_id=BlobId(CHAIN),
        status=Status.OK,
        fuel=123_456,
        weight=0,
    )
    return SignedReceipt(receipt, signer.sign(receipt.leaf().hash), ZERO_HASH, None, 5, Wei(10**12))


def test_receipts_and_logs(journal: JobJournal, run: Run) -> None:
    row = add(journal, 5, "closed", view(state="closed"))
    claims = [signed(0, b"\x01"), signed(1, b"\x02"), signed(2, b"\x02")]
    journal.add_receipts(row, zip(claims, (b"hello\x1b[2J\nworld\n", b"", b"other\n"), strict=True))
    listed = run("receipts", "5")
    assert listed.returncode == 0, listed
    assert listed.stdout.count(checksum_address(MINER.address)) == 3
    rows = [json.loads(line) for line in run("receipts", "--json").stdout.splitlines()]
    assert [(claim["index"], claim["fuel"], claim["price_wei"]) for claim in rows] == [
        (number, 123_456, str(10**12)) for number in range(3)
    ]
    unit = claims[0].receipt.unit_id.hex()
    logs = run("logs")
    assert logs.stdout.splitlines()[1] == f"{unit[:8]}  world"
    assert "other" in logs.stdout
    assert "\x1b" not in logs.stdout
    one = run("logs", "5", "--unit", unit[:12], "--json")
    assert json.loads(one.stdout) == {"unit": unit, "log": "hello\x1b[2J\nworld\n"}
    assert_one_line_error(run("logs", "--unit", "0xffff"), 2, "has no unit 0xffff")
    assert_one_line_error(run("receipts", "--unit", "xyz"), 2, "hexadecimal digits")


def test_a_receipt_of_somebody_else_in_the_journal_is_named(journal: JobJournal, run: Run) -> None:
    row = add(journal, 5, "closed", view(state="closed"))
    journal.add_receipts(row, [(signed(0, b"\x01", signer=OWNER), b"")])
    assert_one_line_error(run("receipts"), 1, "is not signed by its miner")


@pytest.mark.parametrize("command", ["show", "explain", "cancel", "logs", "receipts"])
def test_without_jobs(run: Run, command: str) -> None:
    assert_one_line_error(run(command), 2, "you have no job: `noria job run")


def test_unknown_and_impossible_numbers(journal: JobJournal, run: Run) -> None:
    add(journal, 5, "closed", view(state="closed"))
    assert_one_line_error(run("show", "6"), 2, "you have no job 6")
    assert_one_line_error(run("show", "0"), 2, "greater than or equal to 1")
    assert_one_line_error(run("show", "five"), 2, "JOB")


def test_a_journal_that_is_none(path: Path, run: Run) -> None:
    path.write_bytes(b"no database" * 1000)
    assert_one_line_error(run("list"), 1, str(path), "cannot be opened")


# ---------------------------------------------------------------- programs


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--map", "one"], 2, "--map is for Python scripts"),
        (["--function", "f"], 2, "--function is for Python scripts"),
        (["-i", "one", "-i", "two"], 2, "name a folder with --output-dir"),
        (["-i", "-", "-i", "-", "--output-dir", "."], 2, "there once"),
        (["-i", "one", "-o", "out", "--output-dir", "results"], 2, "leave out one of them"),
        (["-i", "one", "-i", "./one", "--output-dir", "results"], 2, "one.out: rename an input"),
        (["-i", "one", "-i", "one.out", "--output-dir", "."], 2, "one.out is an input"),
        (["--output-dir", "results"], 2, "name some with --input"),
        (["-i", "missing"], 1, "missing: No such file"),
        (["-i", "one", "-o", "nowhere/out"], 1, "nowhere/out cannot be written"),
        (["-i", "one"], 1, "no node answers"),
    ],
)
def test_what_no_program_can_be_given(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("program.wasm").write_bytes(ECHO)
    for name in ("one", "two", "one.out"):
        Path(name).write_text(name)
    assert_one_line_error(run("run", "program.wasm", *arguments), code, words)


def test_what_is_no_program(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "program.wasm"
    path.write_bytes(ECHO[:-7])
    assert_one_line_error(run("run", path), 1, "invalid module")
    script = tmp_path / "script.py"
    script.write_text("def main(): pass")
    assert_one_line_error(run("run", script, "--input", script), 2, "--input is for WebAssembly programs")
