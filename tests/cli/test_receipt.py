"""``noria receipt verify``: what holds is told, what does not is refused by name, and no node is asked."""

import json
from pathlib import Path

import pytest

from noria.client.receipt_files import JobReceipt
from noria.market.requester.evidence import Settled, SignedReceipt
from noria.market.typed_data import seal
from noria.primitives.addresses import checksum_address
from noria.primitives.keys import PrivateKey
from noria.primitives.types import Hash32, Wei
from noria.work.ids import ProgramId, blob_id, unit_id
from noria.work.receipts import Receipt, Status
from tests.cli.command import assert_one_line_error, noria

CHAIN, PROGRAM, NONCE = Hash32(b"\x11" * 32), ProgramId(Hash32(b"\x22" * 32)), Hash32(b"\x33" * 32)
INPUT, OUTPUT = blob_id(b"input"), b"output"
MINERS = [PrivateKey(number.to_bytes(32, "big")) for number in (5, 6)]


def signed(miner: PrivateKey, k: int) -> SignedReceipt:
    receipt = Receipt(
        genesis_root=CHAIN,
        job=7,
        k=k,
        miner=miner.address,
        index=3 + k,
        unit_id=unit_id(PROGRAM, INPUT, 10**9),
        output_id=blob_id(OUTPUT),
        status=Status.OK,
        fuel=123_456,
        weight=123_456,
    )
    sealed = seal(
        CHAIN, 7, receipt.unit_id, NONCE, receipt.status, receipt.output_id, receipt.fuel, miner.address
    )
    return SignedReceipt(receipt, miner.sign(receipt.leaf().hash), NONCE, sealed, 5, Wei(1000))


@pytest.fixture
def receipt(tmp_path: Path) -> Path:
    settled = Settled(
        unit_id=unit_id(PROGRAM, INPUT, 10**9),
        program=PROGRAM,
        input_id=INPUT,
        fuel_limit=10**9,
        status=Status.OK,
        output=OUTPUT,
        fuel=123_456,
        log=b"",
        replicas=tuple(signed(miner, k) for k, miner in enumerate(MINERS)),
        own_run=False,
        cost=Wei(2000),
        seconds=0.5,
    )
    path = tmp_path / "receipt.json"
    JobReceipt("simulate", settled).save(path)
    return path


def test_what_holds_is_told(receipt: Path) -> None:
    done = noria("receipt", "verify", receipt, environment={"NORIA_NODE": "http://127.0.0.1:1"})
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{receipt}: holds"
    assert "job 7" in lines[1]
    for miner in MINERS:
        assert f"{checksum_address(miner.address)} signed receipt" in done.stdout
    assert done.stdout.count("sealed before the others were known") == 2


def test_for_programs(receipt: Path) -> None:
    done = noria("receipt", "verify", receipt, receipt, "--json")
    assert done.returncode == 0, done
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == second
    assert (first["valid"], first["job"], first["fuel"], first["status"]) == (True, 7, 123_456, "ok")
    assert [(miner["k"], miner["index"], miner["sealed"]) for miner in first["miners"]] == [
        (0, 3, True),
        (1, 4, True),
    ]
    assert first["miners"][0]["price_wei"] == "1000"


def test_lies_are_found(receipt: Path) -> None:
    true = json.loads(receipt.read_text())
    first, second = true["replicas"]
    lies = [
        ({"fuel": 1}, "says something else"),
        ({"output": "0x00"}, "not the one that was signed"),
        ({"replicas": [first | {"signature": second["signature"]}]}, "is signed by"),
        ({"replicas": [first | {"seal": "0x" + "00" * 32}]}, "the seal of"),
    ]
    for lie, words in lies:
        receipt.write_text(json.dumps(true | lie))
        assert_one_line_error(noria("receipt", "verify", receipt), 1, "receipt.json", words)


@pytest.mark.parametrize("content", ["{}", "\x1b[2J", "[" * 100_000])
def test_what_is_no_receipt(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").write_text(content)
    done = noria("receipt", "verify", tmp_path / "a")
    assert_one_line_error(done, 1, "does not hold")
    assert "\x1b" not in done.stdout + done.stderr


def test_a_file_that_is_not_there_and_none_at_all(tmp_path: Path) -> None:
    assert_one_line_error(noria("receipt", "verify", tmp_path / "none"), 1, "cannot be read", "No such file")
    assert_one_line_error(noria("receipt", "verify", tmp_path), 1, "cannot be read", "directory")
    assert noria("receipt", "verify").returncode == 2
