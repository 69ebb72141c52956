"""Batches of one place: which are approved, and how a receipt is found in them again."""

import random

import pytest

from noria.market.messages import Approval, BatchOffer
from noria.market.requester.checks import Claimant, Lie
from noria.market.requester.paperwork import BATCHES_BESIDE, Paperwork
from noria.market.typed_data import approval_digest, signer_of
from noria.work.batches import build_batch, verify
from noria.work.ids import blob_id, unit_id
from noria.work.receipts import Receipt, Status
from tests.market.requester.fakes import DOMAIN, PROGRAM, ROOT, key_of

MINER, SESSION = key_of(1), key_of(2)


def receipt(index: int) -> Receipt:
    return Receipt(
        genesis_root=ROOT,
        job=7,
        k=0,
        miner=MINER.address,
        index=index,
        unit_id=unit_id(PROGRAM, blob_id(b"%d" % index), 100),
        output_id=blob_id(b"output %d" % index),
        status=Status.OK,
        fuel=10 + index,
        weight=0,
    )


RECEIPTS = [receipt(index) for index in range(200)]


def offer(first: int, end: int) -> BatchOffer:
    made = build_batch(RECEIPTS[first:end]).commitment
    return BatchOffer(made.root, made.first_index, made.count, made.fuel, made.weight)


def papers(received: int, verified: int | None = None) -> Paperwork:
    made = Paperwork(Claimant(ROOT, 7, 0, MINER.address), DOMAIN, SESSION)
    for each in RECEIPTS[:received]:
        made.receive(each)
    for index in range(received if verified is None else verified):
        made.verified(index)
    return made


def is_approved(approvals: list[Approval], wanted: BatchOffer) -> bool:
    [approval] = [each for each in approvals if each.root == wanted.root]
    return signer_of(approval_digest(DOMAIN, 7, 0, wanted), approval.signature) == SESSION.address


def test_a_longer_batch_may_take_the_place_of_one_that_was_approved() -> None:
    made = papers(6)
    assert made.consider(offer(0, 4))
    assert made.consider(offer(0, 6))
    assert is_approved(made.approvals(), offer(0, 4))
    assert is_approved(made.approvals(), offer(0, 6))
    # After all it was the shorter one that the chain has.
    assert made.consider(offer(4, 6))
    made.told(made.approvals())
    assert made.is_complete
    for index in range(6):
        proven = made.find_proof(index)
        assert proven is not None
        assert proven.proof.receipt == RECEIPTS[index]
        assert proven.commitment.first_index + verify(proven.commitment, proven.proof).position == index


def test_what_is_not_found_right_is_in_no_batch() -> None:
    made = papers(6, verified=5)
    assert made.consider(offer(0, 5))
    assert not made.consider(offer(0, 6))
    assert not made.consider(offer(4, 8))
    made.verified(5)
    assert made.consider(offer(0, 6))


def test_another_root_for_receipts_that_were_approved_is_a_lie() -> None:
    made = papers(6)
    assert made.consider(offer(0, 4))
    true = offer(0, 5)
    with pytest.raises(Lie, match="under another root"):
        made.consider(BatchOffer(offer(0, 3).root, 0, 5, true.fuel + 1, 0))


def test_there_is_an_end_of_batches() -> None:
    made = papers(20)
    pairs = [(first, end) for first in range(20) for end in range(first + 1, 21)]
    random.Random(1).shuffle(pairs)
    most = BATCHES_BESIDE + 2 * 20
    assert all(made.consider(offer(first, end)) for first, end in pairs[:most])
    with pytest.raises(Lie, match="still others"):
        made.consider(offer(*pairs[most]))
    for index in range(20):
        proven = made.find_proof(index)
        assert proven is None or proven.proof.receipt == RECEIPTS[index]
