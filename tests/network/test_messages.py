"""What nodes ask each other about blocks: one encoding each, bounded, and nothing else is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.consensus.parameters import DEVNET
from noria.consensus.sent_block import SentBlock, decode_sent_block, encode_sent_block
from noria.consensus.wire import InvalidMessage
from noria.network.messages import (
    BLOCKS_MAX,
    PeerStatus,
    RangeRequest,
    decode_blocks,
    decode_range,
    decode_roots,
    decode_status,
    encode_blocks,
    encode_range,
    encode_roots,
    encode_status,
)
from noria.network.topics import chain_topics, protocol_specs, topic_specs
from noria.primitives.types import Hash32
from tests.consensus.hostile import bytes_like, check_decoder

roots = st.binary(min_size=32, max_size=32).map(Hash32)
numbers = st.integers(0, 2**64 - 1)
statuses = st.builds(PeerStatus, roots, numbers, roots, numbers, numbers, roots)
ROOTS = [Hash32(bytes([number]) * 32) for number in range(BLOCKS_MAX)]
SENT = [
    encode_sent_block(SentBlock(b"a block", None)),
    encode_sent_block(SentBlock(b"a block", b"")),
    encode_sent_block(SentBlock(b"a longer block " * 20, b"an input " * 20)),
]
SAMPLES: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], bytes], list[bytes]]] = {
    "status": (
        decode_status,
        encode_status,
        [
            encode_status(PeerStatus(ROOTS[0], 0, ROOTS[0], 0, 0, ROOTS[0])),
            encode_status(PeerStatus(ROOTS[1], 3, ROOTS[2], 70, 60, ROOTS[3], 1_800_000_000_000)),
        ],
    ),
    "range": (
        decode_range,
        encode_range,
        [encode_range(RangeRequest(1, 1)), encode_range(RangeRequest(2**64 - 1, BLOCKS_MAX))],
    ),
    "roots": (
        decode_roots,
        encode_roots,
        [encode_roots(ROOTS[:count]) for count in (1, 2, BLOCKS_MAX)],
    ),
    "blocks": (
        lambda data: decode_blocks(data, DEVNET),
        encode_blocks,
        [encode_blocks([]), encode_blocks(SENT), encode_blocks([b"x"] * BLOCKS_MAX)],
    ),
    "sent block": (lambda data: decode_sent_block(data, DEVNET), encode_sent_block, SENT),
}


@given(statuses)
def test_a_status_comes_back(status: PeerStatus) -> None:
    assert decode_status(encode_status(status)) == status


@given(st.integers(1, 2**64 - 1), st.integers(1, BLOCKS_MAX))
def test_a_range_comes_back(first: int, count: int) -> None:
    assert decode_range(encode_range(RangeRequest(first, count))) == RangeRequest(first, count)


@pytest.mark.parametrize(("first", "count"), [(0, 1), (1, 0), (1, BLOCKS_MAX + 1), (1, 255), (2**64, 1)])
def test_a_range_beyond_its_bounds_is_refused(first: int, count: int) -> None:
    with pytest.raises(InvalidMessage):
        decode_range(encode_range(RangeRequest(first, count)))


@given(st.lists(roots, min_size=1, max_size=BLOCKS_MAX))
def test_roots_come_back(wanted: list[Hash32]) -> None:
    assert decode_roots(encode_roots(wanted)) == tuple(wanted)


def test_no_roots_and_too_many_are_refused() -> None:
    for count in (0, BLOCKS_MAX + 1):
        with pytest.raises(InvalidMessage):
            decode_roots(encode_roots([Hash32(bytes(32))] * count))


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=BLOCKS_MAX))
def test_blocks_come_back(blocks: list[bytes]) -> None:
    assert decode_blocks(encode_blocks(blocks), DEVNET) == tuple(blocks)


@given(st.binary(max_size=300), st.none() | st.binary(max_size=300))
def test_a_block_travels_with_its_input(block: bytes, data: bytes | None) -> None:
    assert decode_sent_block(encode_sent_block(SentBlock(block, data)), DEVNET) == SentBlock(block, data)


def test_more_blocks_and_longer_inputs_than_allowed_are_refused() -> None:
    with pytest.raises(InvalidMessage):
        decode_blocks(encode_blocks([b"x"] * (BLOCKS_MAX + 1)), DEVNET)
    with pytest.raises(InvalidMessage):
        decode_sent_block(encode_sent_block(SentBlock(b"", bytes(DEVNET.input_bytes_max + 1))), DEVNET)


@pytest.mark.parametrize("name", SAMPLES)
@given(data=st.data())
def test_any_bytes_are_a_message_or_a_named_rejection(name: str, data: st.DataObject) -> None:
    decode, encode, samples = SAMPLES[name]
    check_decoder(data.draw(bytes_like(samples)), decode, encode)


@given(statuses, st.data())
def test_a_changed_status_is_another_one_or_refused(status: PeerStatus, data: st.DataObject) -> None:
    encoded = bytearray(encode_status(status))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_status(bytes(encoded))
    except InvalidMessage:
        return
    assert found != status
    assert encode_status(found) == bytes(encoded)


def test_names_and_limits_belong_to_one_chain() -> None:
    one, other = chain_topics(Hash32(b"\x01" * 32)), chain_topics(Hash32(b"\x02" * 32))
    assert not {spec.name for spec in topic_specs(one, DEVNET)} & {
        spec.name for spec in topic_specs(other, DEVNET)
    }
    assert all(spec.name.startswith("/") for spec in protocol_specs(one, DEVNET))
    assert all(0 < spec.bytes_max < 16 << 20 for spec in topic_specs(one, DEVNET))
