"""What is spoken on a chain's network: topics of gossip, protocols of requests, their limits (protocol 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from noria.consensus.alarms import ALARM_BYTES_MAX
from noria.consensus.parameters import ChainParameters
from noria.consensus.sent_block import sent_block_bytes_max
from noria.consensus.slashing import EVIDENCE_BYTES_MAX
from noria.consensus.votes import SIGNED_VOTE_BYTES_MAX
from noria.network import blobs
from noria.network.config import ProtocolSpec, TopicSpec
from noria.network.messages import RANGE_BYTES, ROOTS_BYTES_MAX, STATUS_BYTES_MAX, blocks_bytes_max
from noria.network.peer_lists import ANSWER_BYTES_MAX, REQUEST_BYTES_MAX
from noria.primitives.types import Hash32

TRANSACTION_BYTES_MAX: Final = 128 << 10
"""Longest transaction that is passed on."""
REQUEST_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of a chain's topics and protocols: nothing said on one chain is heard on another.

    Attributes
    ----------
    blocks
        Blocks with their inputs, as `noria.consensus.sent_block` encodes them.
    transactions
        One as Ethereum's network encodes it.
    votes, alarms
        As `noria.consensus.votes` and `noria.consensus.alarms` encode one.
    evidence
        A list of one piece.
    status, range, roots
        Protocols: see `noria.network.messages`.
    peers
        Protocol: see `noria.network.peer_lists`.
    """

    blocks: str
    transactions: str
    votes: str
    evidence: str
    alarms: str
    status: str
    range: str
    roots: str
    peers: str


def chain_topics(genesis_root: Hash32) -> Topics:
    """Return the names on a chain's network."""
    chain = genesis_root.hex()[:16]
    gossip = [f"noria/{chain}/{name}/1" for name in ("blocks", "transactions", "votes", "evidence", "alarms")]
    protocols = [f"/noria/{chain}/{name}/1" for name in ("status", "range", "roots", "peers")]
    return Topics(*gossip, *protocols)


def topic_specs(topics: Topics, parameters: ChainParameters) -> tuple[TopicSpec, ...]:
    """Return the topics with their limits, for `noria.network.config.TransportConfig`."""
    return (
        TopicSpec(topics.blocks, sent_block_bytes_max(parameters), 2.0),
        TopicSpec(topics.transactions, TRANSACTION_BYTES_MAX, 0.5),
        TopicSpec(topics.votes, SIGNED_VOTE_BYTES_MAX),
        TopicSpec(topics.evidence, EVIDENCE_BYTES_MAX),
        TopicSpec(topics.alarms, ALARM_BYTES_MAX),
    )


def protocol_specs(topics: Topics, parameters: ChainParameters) -> tuple[ProtocolSpec, ...]:
    """Return the protocols with their limits, for `noria.network.config.TransportConfig`."""
    answer = blocks_bytes_max(parameters)
    return (
        ProtocolSpec(topics.status, STATUS_BYTES_MAX, STATUS_BYTES_MAX, REQUEST_SECONDS),
        ProtocolSpec(topics.range, RANGE_BYTES, answer, REQUEST_SECONDS),
        ProtocolSpec(topics.roots, ROOTS_BYTES_MAX, answer, REQUEST_SECONDS),
        ProtocolSpec(topics.peers, REQUEST_BYTES_MAX, ANSWER_BYTES_MAX, REQUEST_SECONDS),
        blobs.PROTOCOL,
    )
