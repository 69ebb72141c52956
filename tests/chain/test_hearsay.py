"""What waits to be included in a block, and what cannot drive it out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from noria.chain.findings import Ignored
from noria.chain.offences import EvidencePool
from noria.consensus.parameters import DEVNET
from noria.consensus.slashing import AttributedVote, VoteEvidence, encode_evidence, slashed
from noria.consensus.slots import epoch_of
from noria.consensus.state import MinerRecord
from noria.consensus.validity import Accepted
from noria.consensus.votes import Checkpoint, Vote, vote_message
from noria.primitives.types import Hash32
from tests.chain import drawn
from tests.chain.drawn import FakeKey, chain_of, fast_network, running, state_of
from tests.consensus.world import FAKE, PlainState, address, bls_key
from tests.virtual_time import run_virtually

ROOT = Hash32(b"\x01" * 32)
MINERS = [address(number) for number in range(20)]
STATE = PlainState({miner: MinerRecord(miner, bls_key(n), 1000) for n, miner in enumerate(MINERS)})


def vote(source: int, target: int, which: int = 0) -> Vote:
    return Vote(Checkpoint(source, ROOT), Checkpoint(target, Hash32(which.to_bytes(32, "big"))))


def twice(number: int, target: int) -> VoteEvidence:
    """A miner's two votes for one epoch."""
    signed = (
        AttributedVote(it, (MINERS[number],), FAKE.sign(bls_key(number), vote_message(ROOT, it)))
        for it in (vote(0, target), vote(0, target, 1))
    )
    return VoteEvidence(*signed)


# ---------------------------------------------------------------- evidence


def test_offences_of_the_future_do_not_stand_before_those_of_the_present() -> None:
    pool = EvidencePool()
    for number in range(16):
        pool.add(twice(number, 2**60))
    pool.add(twice(19, 3))
    chosen, guilty = pool.select(DEVNET, FAKE, ROOT, STATE, 3)
    assert (chosen, guilty) == ((twice(19, 3),), (MINERS[19],))


def test_what_the_next_epoch_can_punish_waits_and_what_is_paid_for_goes() -> None:
    pool = EvidencePool()
    for evidence in (twice(0, 3), twice(1, 3), twice(1, 4)):
        pool.add(evidence)
    records = {**STATE.records, MINERS[1]: slashed(DEVNET, STATE.records[MINERS[1]], 3)}
    state = replace(STATE, records=records)
    pool.prune(DEVNET, FAKE, ROOT, state, 3)
    assert [pool.has(it) for it in (twice(0, 3), twice(1, 3), twice(1, 4))] == [True, False, True]
    assert pool.select(DEVNET, FAKE, ROOT, state, 3)[1] == (MINERS[0],)
    assert pool.select(DEVNET, FAKE, ROOT, state, 4)[1] == tuple(sorted(MINERS[:2]))


def test_nodes_take_no_evidence_of_an_offence_that_is_far_off(tmp_path: Path) -> None:
    async def story() -> None:
        network = await running(fast_network(tmp_path))
        await network.run_to(20)
        node = network.nodes[0]
        root, guilty = node.chain.rules.genesis_root, drawn.address(3)

        def evidence(target: int) -> bytes:
            votes = (vote(0, target), vote(0, target, 1))
            signed = (AttributedVote(it, (guilty,), FakeKey(3).sign(vote_message(root, it))) for it in votes)
            return encode_evidence([VoteEvidence(*signed)])

        for target in (3, 2**60):
            finding = await node.hearsay.judge_evidence(evidence(target))
            assert isinstance(finding, Ignored)
            assert "cannot be punished" in finding.reason
        assert not len(node.hearsay.evidence)
        # The next epoch's is kept until it has begun.
        assert isinstance(await node.hearsay.judge_evidence(evidence(2)), Accepted)
        await network.run_to(60)
        shown = next(block for block in chain_of(node) if block.evidence)
        epoch = epoch_of(node.chain.rules.parameters, shown.header.slot)
        assert state_of(node).miners[guilty].slashed_epoch == epoch >= 2
        # Before, the node has made a block without it.
        own = [block.header.slot for block in chain_of(node) if block.header.proposer == drawn.address(0)]
        assert any(20 < slot < 32 for slot in own)
        await network.stop()

    run_virtually(story())
