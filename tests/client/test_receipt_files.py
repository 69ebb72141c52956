"""Receipt files: what holds, and every way in which one does not."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.client.receipt_files import (
    FILE_BYTES_MAX,
    InvalidReceiptFile,
    JobReceipt,
    verify_receipt,
    verify_receipt_file,
)
from noria.market.requester.checks import receipt_seal
from noria.market.requester.evidence import Proven, Settled, SignedReceipt
from noria.primitives.hashes import blake3
from noria.primitives.types import Hash32, Wei
from noria.work.batches import build_batch
from noria.work.ids import BlobId, ProgramId, UnitId, blob_id, program_id, unit_id
from noria.work.receipts import Receipt, Status
from tests.market.requester.fakes import ROOT, key_of

PROGRAM = ProgramId(program_id(b"program"))
INPUT = BlobId(blob_id(b"input"))
OUTPUT = b"output"
UNIT = UnitId(unit_id(PROGRAM, INPUT, 1_000))


def signed(k: int) -> SignedReceipt:
    def receipt(index: int) -> Receipt:
        return Receipt(
            genesis_root=ROOT,
            job=7,
            k=k,
            miner=key_of(k).address,
            index=index,
            unit_id=UNIT,
            output_id=BlobId(blob_id(OUTPUT)),
            status=Status.OK,
            fuel=500,
            weight=500,
        )

    batch = build_batch([receipt(index) for index in range(3, 8)])
    own, nonce = receipt(5), Hash32(blake3(b"nonce"))
    return SignedReceipt(
        receipt=own,
        signature=key_of(k).sign(own.leaf().hash),
        nonce=nonce,
        seal=receipt_seal(own, nonce),
        milliseconds=1,
        price=Wei(500),
        find_proof=lambda: Proven(batch.commitment, batch.proof(2)),
    )


def data() -> bytes:
    settled = Settled(
        unit_id=UNIT,
        program=PROGRAM,
        input_id=INPUT,
        fuel_limit=1_000,
        status=Status.OK,
        output=OUTPUT,
        fuel=500,
        log=b"",
        replicas=(signed(0), signed(1)),
        own_run=False,
        cost=Wei(1_000),
        seconds=1.0,
    )
    return JobReceipt("f", settled).encode()


DATA = data()


def test_a_file_that_holds(tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    path.write_bytes(DATA)
    checked = verify_receipt_file(path)
    assert (checked.job, checked.unit_id, checked.output, checked.fuel) == (7, UNIT, OUTPUT, 500)
    assert [replica.miner for replica in checked.replicas] == [key_of(0).address, key_of(1).address]
    assert all(replica.is_sealed and replica.batch_root is not None for replica in checked.replicas)
    assert "approved batch" in "\n".join(checked.lines())
    with pytest.raises(InvalidReceiptFile, match="cannot be read"):
        verify_receipt_file(tmp_path / "nothing")


WRONG = "0x" + "ab" * 32


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("format",), "noria/receipt/2"),
        (("program",), WRONG),
        (("input_id",), WRONG),
        (("fuel_limit",), 999),
        (("unit_id",), WRONG),
        (("unit_id",), "0xab"),
        (("status",), "failed"),
        (("status",), "fine"),
        (("output_id",), WRONG),
        (("output",), "0x00"),
        (("fuel",), 501),
        (("job",), "8"),
        (("job",), "seven"),
        (("genesis_root",), WRONG),
        (("replicas",), []),
        (("replicas", 0, "miner"), "0x" + "ab" * 20),
        (("replicas", 0, "receipt"), "0xabcd"),
        (("replicas", 0, "signature"), "0x" + "11" * 65),
        (("replicas", 0, "nonce"), WRONG),
        (("replicas", 0, "seal"), WRONG),
        (("replicas", 0, "proof"), "0xabcd"),
        (("replicas", 0, "batch", "root"), WRONG),
        (("replicas", 0, "batch", "first_index"), 4),
        (("replicas", 0, "batch", "count"), 4_097),
        (("replicas", 0, "batch", "fuel"), 2_501),
    ],
)
def test_nothing_can_be_changed(where: tuple[Any, ...], value: object) -> None:
    file: Any = msgspec.json.decode(DATA)
    place = file
    for step in where[:-1]:
        place = place[step]
    assert place[where[-1]] != value
    place[where[-1]] = value
    with pytest.raises(InvalidReceiptFile):
        verify_receipt(msgspec.json.encode(file))


def test_one_miner_has_one_voice() -> None:
    file: Any = msgspec.json.decode(DATA)
    file["replicas"][1] = file["replicas"][0]
    with pytest.raises(InvalidReceiptFile, match="signed twice"):
        verify_receipt(msgspec.json.encode(file))


def test_files_that_are_none() -> None:
    for wrong in (b"", b"[]", b"{}", b"[" * 100_000, b"\xff", b" " * (FILE_BYTES_MAX + 1)):
        with pytest.raises(InvalidReceiptFile):
            verify_receipt(wrong)


@given(position=st.integers(0, len(DATA) - 1), byte=st.integers(0, 255))
def test_any_changed_byte_is_refused_or_says_the_same(position: int, byte: int) -> None:
    changed = DATA[:position] + bytes([byte]) + DATA[position + 1 :]
    try:
        checked = verify_receipt(changed)
    except InvalidReceiptFile:
        return
    assert (checked.unit_id, checked.fuel, checked.output_id) == (UNIT, 500, BlobId(blob_id(OUTPUT)))
