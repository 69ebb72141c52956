"""Validity: the right block passes, and each rule that is broken is named, the cheapest first."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from noria.consensus.blocks import Block, make_block
from noria.consensus.payloads import read_payload_header
from noria.consensus.slashing import ProposalEvidence
from noria.consensus.state import StateView
from noria.consensus.validity import (
    Accepted,
    BlockState,
    FromTheFuture,
    InvalidBlock,
    LotteryLost,
    NotYet,
    ParentMissing,
    ParentView,
    PayloadBodyMismatch,
    Postponed,
    ProposerInJail,
    Rejected,
    SlotNotAfterParent,
    SnapshotMissing,
    UnknownProposer,
    VoterInJail,
    WrongCertificate,
    WrongEvidence,
    WrongLotteryProof,
    WrongPayload,
    WrongSignature,
    WrongVotes,
    check_all_evidence,
    check_before_forwarding,
    check_contents,
    judge,
)
from noria.consensus.votes import AggregatedVote, Checkpoint
from noria.consensus.weight import Snapshot
from noria.consensus.wire import WrongShape
from noria.primitives.types import ZERO_HASH, BlsSignature, Hash32
from tests.consensus.world import (
    GENESIS_SECONDS,
    PlainState,
    World,
    address,
    aggregate_all,
    certificate_at,
    payload_bytes,
)

WORLD = World(4, work={number: [7, 9, 11] for number in range(4)}, grant=3)
PARENT = WORLD.extend(WORLD.genesis, 16)
SLOT, MINER = WORLD.winner(PARENT, PARENT.block.slot + 1)
RIGHT = WORLD.block(PARENT, SLOT, MINER, votes=aggregate_all(WORLD, PARENT, 1))
NOW = (GENESIS_SECONDS + SLOT) * 1000


@dataclass(frozen=True)
class View:
    """A parent with something changed."""

    block: BlockState = PARENT.block
    state: StateView = PARENT.state
    missing: tuple[int, ...] = ()

    def snapshot(self, epoch: int) -> Snapshot | None:
        return None if epoch in self.missing else PARENT.snapshot(epoch)


def forward(block: Block, parent: ParentView | None = PARENT, now: int = NOW) -> None:
    check_before_forwarding(WORLD.rules, block, parent, now)


def rebuilt(block: Block = RIGHT, *, resign: bool = True, **changes: object) -> Block:
    """The block with parts changed, its hashes right and signed again."""
    header = {name: getattr(block.header, name) for name in ("slot", "parent_root", "proposer", "vrf_proof")}
    contents = {name: getattr(block, name) for name in ("certificate", "votes", "evidence", "payload")}
    parts: dict[str, Any] = header | contents | {"signature": block.signature} | changes
    made = make_block(**parts)
    return WORLD.sign(made, WORLD.numbers[made.header.proposer]) if resign else made


def jailed(miner: int) -> PlainState:
    records = dict(PARENT.state.records)
    records[address(miner)] = replace(records[address(miner)], jailed_until_epoch=2)
    return replace(PARENT.state, records=records)


# ---------------------------------------------------------------- before forwarding


def test_a_right_block_passes() -> None:
    forward(RIGHT)
    after = check_contents(WORLD.rules, RIGHT, PARENT)
    assert after.root == RIGHT.root(WORLD.genesis_root)
    assert (after.slot, after.height) == (SLOT, 2)
    assert after.payload == read_payload_header(RIGHT.payload)
    assert after.finality.justified == Checkpoint(1, WORLD.genesis_root)
    assert judge(lambda: forward(RIGHT)) == Accepted()


def test_a_long_chain_of_right_blocks_passes_and_finalises() -> None:
    link = WORLD.genesis
    for _ in range(60):
        slot = link.block.slot + 1
        slot, miner = WORLD.winner(link, slot)
        epoch = slot // 16
        votes = aggregate_all(WORLD, link, epoch) if epoch else ()
        block = WORLD.block(link, slot, miner, votes=votes)
        check_before_forwarding(WORLD.rules, block, link, (GENESIS_SECONDS + slot) * 1000)
        link = WORLD.link(link, block)
    assert link.block.height == 60
    assert link.block.finality.justified.epoch == link.block.slot // 16
    assert link.block.finality.finalised.epoch == link.block.slot // 16 - 1


def stranger() -> Block:
    return replace(RIGHT, header=replace(RIGHT.header, proposer=address(99)))


def loser() -> Block:
    slot = SLOT
    while True:
        for miner in range(4):
            if not WORLD.wins(PARENT, miner, slot):
                return WORLD.block(PARENT, slot, miner)
        slot += 1


def with_proof(proof: BlsSignature) -> Block:
    return WORLD.sign(replace(RIGHT, header=replace(RIGHT.header, vrf_proof=proof)), MINER)


def payload(**changes: object) -> bytes:
    header = read_payload_header(RIGHT.payload)
    fields: dict[str, object] = {
        "parent_hash": header.parent_hash,
        "number": header.number,
        "timestamp": header.timestamp,
        "randao": header.prev_randao,
        "beacon_root": header.parent_beacon_block_root,
    }
    return payload_bytes(**(fields | changes))  # type: ignore[arg-type]


def other_certificate() -> Block:
    """Another certificate than the draw names: none where there must be one, one where there must be none."""
    if RIGHT.certificate is not None:
        return rebuilt(certificate=None)
    batch = WORLD.batches[address(MINER)]
    return rebuilt(certificate=certificate_at(batch, 0))


OTHER_MINER = (MINER + 1) % 4

BEFORE_FORWARDING: list[tuple[str, Callable[[], Block], type[InvalidBlock]]] = [
    (
        "slot",
        lambda: replace(RIGHT, header=replace(RIGHT.header, slot=PARENT.block.slot)),
        SlotNotAfterParent,
    ),
    ("stranger", stranger, UnknownProposer),
    ("signature", lambda: rebuilt(resign=False, votes=()), WrongSignature),
    ("another's signature", lambda: WORLD.sign(RIGHT, OTHER_MINER), WrongSignature),
    ("proof", lambda: with_proof(BlsSignature(bytes(96))), WrongLotteryProof),
    ("proof of another slot", lambda: with_proof(WORLD.proof(PARENT, MINER, SLOT + 1)), WrongLotteryProof),
    ("proof of another miner", lambda: with_proof(WORLD.proof(PARENT, OTHER_MINER, SLOT)), WrongLotteryProof),
    ("lottery", loser, LotteryLost),
    ("payload parent", lambda: rebuilt(payload=payload(parent_hash=ZERO_HASH)), WrongPayload),
    ("payload number", lambda: rebuilt(payload=payload(number=3)), WrongPayload),
    ("payload time", lambda: rebuilt(payload=payload(timestamp=1)), WrongPayload),
    ("prevRandao", lambda: rebuilt(payload=payload(randao=ZERO_HASH)), WrongPayload),
    ("beacon root", lambda: rebuilt(payload=payload(beacon_root=ZERO_HASH)), WrongPayload),
    ("certificate", other_certificate, WrongCertificate),
]


@pytest.mark.parametrize(
    ("make", "error"), [case[1:] for case in BEFORE_FORWARDING], ids=[case[0] for case in BEFORE_FORWARDING]
)
def test_each_rule_before_forwarding_is_named(make: Callable[[], Block], error: type[InvalidBlock]) -> None:
    block = make()
    now = (GENESIS_SECONDS + block.header.slot) * 1000
    with pytest.raises(error) as caught:
        forward(block, now=now)
    assert "\n" not in str(caught.value)
    verdict = judge(lambda: forward(block, now=now))
    assert verdict == Rejected(error.__name__, str(caught.value), error is not WrongSignature)


def test_an_early_block_is_held_and_not_condemned() -> None:
    forward(RIGHT, now=NOW - 500)
    with pytest.raises(FromTheFuture, match="starts in 501 ms"):
        forward(RIGHT, now=NOW - 501)
    # Whatever else is wrong with it: nothing is known before its time.
    verdict = judge(lambda: forward(stranger(), None, NOW - 60_000))
    assert verdict == Postponed("FromTheFuture", f"slot {SLOT} starts in 60000 ms")


def test_a_block_without_parent_or_snapshot_waits() -> None:
    with pytest.raises(ParentMissing):
        forward(RIGHT, None)
    with pytest.raises(SnapshotMissing, match="snapshot of epoch 1"):
        forward(RIGHT, View(missing=(1,)))
    assert isinstance(judge(lambda: forward(RIGHT, None)), Postponed)


def test_a_proposer_in_jail_is_refused() -> None:
    with pytest.raises(ProposerInJail):
        forward(RIGHT, View(state=jailed(MINER)))
    forward(RIGHT, View(state=jailed(OTHER_MINER)))


def test_the_cheapest_fault_is_named_first() -> None:
    """A block with all faults at once, mended one by one, names them in the order of cost."""
    wrong_payload = payload(timestamp=1)
    proof = BlsSignature(bytes(96))
    wrong = other_certificate().certificate
    order = []
    for step in range(5):
        made = make_block(
            slot=PARENT.block.slot if step < 1 else SLOT,
            parent_root=PARENT.block.root,
            proposer=RIGHT.header.proposer,
            vrf_proof=proof if step < 3 else RIGHT.header.vrf_proof,
            certificate=wrong,
            votes=(),
            evidence=(),
            payload=wrong_payload if step < 4 else RIGHT.payload,
            signature=BlsSignature(bytes(96)),
        )
        block = made if step < 2 else WORLD.sign(made, MINER)
        verdict = judge(lambda block=block: forward(block))  # type: ignore[misc]
        assert isinstance(verdict, Rejected)
        order.append(verdict.kind)
    assert order == [
        "SlotNotAfterParent",
        "WrongSignature",
        "WrongLotteryProof",
        "WrongPayload",
        "WrongCertificate",
    ]


# ---------------------------------------------------------------- contents


def contents(block: Block, parent: ParentView = PARENT) -> BlockState:
    forward(block, parent)
    return check_contents(WORLD.rules, block, parent)


(VOTES,) = RIGHT.votes


@pytest.mark.parametrize(
    "votes",
    [
        (replace(VOTES, vote=replace(VOTES.vote, target=Checkpoint(1, PARENT.block.root))),),
        (replace(VOTES, vote=replace(VOTES.vote, source=Checkpoint(0, PARENT.block.root))),),
        (replace(VOTES, bits=VOTES.bits & -VOTES.bits),),
        (replace(VOTES, bits=1 << 4),),
        (replace(VOTES, signature=BlsSignature(bytes(96))),),
        (VOTES, replace(VOTES, signature=BlsSignature(bytes(96)))),
    ],
    ids=["target", "source", "fewer voters", "no such voter", "signature", "second is wrong"],
)
def test_votes_that_cannot_be_counted_are_named(votes: tuple[AggregatedVote, ...]) -> None:
    with pytest.raises(WrongVotes):
        contents(rebuilt(votes=votes))


def test_a_voter_in_jail_is_named() -> None:
    with pytest.raises(VoterInJail):
        contents(RIGHT, View(state=jailed(OTHER_MINER)))
    others = [number for number in range(4) if number != OTHER_MINER]
    without = rebuilt(votes=aggregate_all(WORLD, PARENT, 1, others))
    assert contents(without, View(state=jailed(OTHER_MINER))).finality.justified.epoch == 1


def test_votes_wait_for_their_snapshot() -> None:
    with pytest.raises(SnapshotMissing, match="epoch 0"):
        check_contents(WORLD.rules, RIGHT, View(missing=(0,)))


def test_votes_may_come_in_parts_and_twice() -> None:
    parts = [aggregate_all(WORLD, PARENT, 1, [number, (number + 1) % 4])[0] for number in range(4)]
    assert contents(rebuilt(votes=tuple(parts))).finality.justified.epoch == 1
    assert contents(rebuilt(votes=(parts[0], parts[0]))).finality.justified.epoch == 0


def test_evidence_convicts_or_spoils_the_block() -> None:
    double = ProposalEvidence(RIGHT.signed_header, WORLD.block(PARENT, SLOT, MINER, extra=b"x").signed_header)
    block = rebuilt(evidence=(double,))
    contents(block)
    assert check_all_evidence(WORLD.rules, block, PARENT) == (address(MINER),)
    for evidence in ((ProposalEvidence(RIGHT.signed_header, RIGHT.signed_header),), (double, double)):
        with pytest.raises(WrongEvidence):
            contents(rebuilt(evidence=evidence))
    records = dict(PARENT.state.records)
    records[address(MINER)] = replace(records[address(MINER)], slashed_epoch=1)
    with pytest.raises(WrongEvidence, match="NobodyGuilty"):
        contents(block, View(state=replace(PARENT.state, records=records)))


def test_evidence_of_an_epoch_that_has_not_begun_spoils_the_block() -> None:
    slot = 2 * WORLD.parameters.epoch_slots
    later = (rebuilt(slot=slot), rebuilt(slot=slot, votes=()))
    evidence = ProposalEvidence(*(block.signed_header for block in later))
    with pytest.raises(WrongEvidence, match="FutureOffence"):
        contents(rebuilt(evidence=(evidence,)))
    assert check_all_evidence(WORLD.rules, rebuilt(slot=slot, evidence=(evidence,)), PARENT)


# ---------------------------------------------------------------- verdicts


def test_what_the_root_does_not_cover_is_not_remembered() -> None:
    assert not WrongSignature.remember
    assert not PayloadBodyMismatch.remember
    rules = [error for error in InvalidBlock.__subclasses__() if error.__module__ == InvalidBlock.__module__]
    assert {error for error in rules if not error.remember} == {WrongSignature, PayloadBodyMismatch}


def test_malformed_bytes_are_rejected_and_not_remembered() -> None:
    def fail() -> None:
        raise WrongShape("block: slot is missing")

    assert judge(fail) == Rejected("WrongShape", "block: slot is missing", False)


def test_defects_are_not_verdicts() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        judge(fail)
    assert not issubclass(NotYet, InvalidBlock)


def test_a_block_of_another_chain_has_another_root_and_a_wrong_signature() -> None:
    rules = replace(WORLD.rules, genesis_root=Hash32(b"\x05" * 32))
    with pytest.raises(WrongSignature):
        check_before_forwarding(rules, RIGHT, PARENT, NOW)
