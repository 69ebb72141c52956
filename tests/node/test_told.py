"""What the log says of what peers send, so that an operator sees who does what."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from noria.consensus.alarms import Alarm, encode_alarm
from noria.consensus.slashing import AttributedVote, VoteEvidence, encode_evidence
from noria.consensus.votes import Checkpoint, SignedVote, Vote, encode_signed_vote, vote_message
from noria.primitives.line_budget import AT_ONCE, SECONDS_EACH
from noria.primitives.types import BlsSignature, Hash32
from tests.chain.drawn import FakeKey, address
from tests.network.memory import MemoryTransport
from tests.node.networked import TOPICS, Networked, Speaker
from tests.virtual_time import run_virtually

UNSIGNED = BlsSignature(bytes(96))


async def a_node_and_a_stranger(folder: Path) -> tuple[Networked, Speaker, MemoryTransport]:
    network = Networked(folder)
    node = await network.join(0)
    return network, node, network.memory.connect("stranger")


def some_vote(node: Speaker, root: bytes = b"\x11" * 32) -> Vote:
    tally = node.chain.head.state.finality.tallies[-1]
    return Vote(tally.source, Checkpoint(tally.target.epoch, Hash32(root)))


def told(logged: list[MutableMapping[str, Any]], event: str = "message_rejected") -> list[dict[str, Any]]:
    return [dict(line) for line in logged if line["event"] == event]


@pytest.mark.parametrize("what", ["vote", "evidence", "alarm", "transaction", "vote that is none"])
def test_what_is_rejected_is_told_with_its_kind_its_sender_and_who_is_said_to_have_signed(
    tmp_path: Path, what: str
) -> None:
    async def story() -> None:
        network, node, stranger = await a_node_and_a_stranger(tmp_path)
        certified: list[Hash32] = []

        def is_ready() -> bool:
            known = (node.chain.tree.get(root) for root in node.chain.tree.nodes)
            certified[:] = [block.root for block in known if block is not None and block.certificate]
            return bool(certified and node.chain.head.state.finality.tallies)

        await network.run_until(is_ready)
        shown, miner = certified[0], address(2)
        first, second = (
            AttributedVote(some_vote(node, root * 32), (miner,), UNSIGNED) for root in (b"\x11", b"\x22")
        )
        topic, data, kind, name = {
            "vote": (
                TOPICS.votes,
                encode_signed_vote(SignedVote(some_vote(node), miner, UNSIGNED)),
                "WrongVoteSignature",
                True,
            ),
            "vote that is none": (TOPICS.votes, b"\xc0", "WrongShape", False),
            "evidence": (
                TOPICS.evidence,
                encode_evidence([VoteEvidence(first, second)]),
                "WrongEvidenceSignature",
                False,
            ),
            "alarm": (
                TOPICS.alarms,
                encode_alarm(Alarm(shown, miner, UNSIGNED)),
                "WrongVoteSignature",
                True,
            ),
            "transaction": (TOPICS.transactions, b"\x02nonsense", "encoding", False),
        }[what]
        with capture_logs() as logged:
            await stranger.publish(topic, data)
            await asyncio.sleep(1)
        (line,) = told(logged)
        assert (line["topic"], line["kind"], line["peer"], line["log_level"]) == (
            topic,
            kind,
            "stranger",
            "warning",
        )
        assert line["reason"]
        assert ("0x" + miner.hex() in line["reason"]) is name
        # The node goes on.
        height = node.chain.head.node.height
        await network.run_until(lambda: node.chain.head.node.height > height)
        await network.stop()

    run_virtually(story())


def test_a_flood_of_what_is_rejected_is_no_flood_in_the_log(tmp_path: Path) -> None:
    async def story() -> None:
        network, _, stranger = await a_node_and_a_stranger(tmp_path)
        with capture_logs() as logged:
            for number in range(50):
                await stranger.publish(TOPICS.votes, b"\xc0" + bytes([number]))
            await asyncio.sleep(1)
            assert 0 < len(told(logged)) <= AT_ONCE
            await asyncio.sleep(2 * SECONDS_EACH)
            await stranger.publish(TOPICS.votes, b"\xc1\xc0")
            await asyncio.sleep(1)
        assert told(logged)[-1]["left_out"] > 0
        await network.stop()

    run_virtually(story())


def test_who_is_guilty_of_an_offence_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        network = Networked(tmp_path)
        for number in range(4):
            await network.join(number)
        stranger = network.memory.connect("stranger")
        await network.run_to(38)
        node, guilty = network.speakers[0], 3
        tally = node.chain.head.state.finality.tallies[-1]
        with capture_logs() as logged:
            for root in (tally.target.root, Hash32(b"\x11" * 32)):
                vote = Vote(tally.source, Checkpoint(tally.target.epoch, root))
                signature = FakeKey(guilty).sign(vote_message(node.chain.rules.genesis_root, vote))
                await stranger.publish(
                    TOPICS.votes, encode_signed_vote(SignedVote(vote, address(guilty), signature))
                )
                await asyncio.sleep(1)
        lines = told(logged, "offence_noticed")
        assert lines
        assert {line["kind"] for line in lines} == {"VoteEvidence"}
        assert {miner for line in lines for miner in line["miners"]} == {"0x" + address(guilty).hex()}
        await network.stop()

    run_virtually(story())
