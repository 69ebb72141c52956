"""Blocks and payloads as they are sent."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria._core import BlockAttributes, Engine
from noria.consensus.blocks import (
    BLOCK_BYTES_MAX,
    Block,
    InvalidCertificateForm,
    decode_block,
    encode_block,
    signed,
)
from noria.consensus.headers import block_root
from noria.consensus.payloads import (
    PAYLOAD_BYTES_MAX,
    PayloadError,
    WrongBeaconRoot,
    WrongPayloadParent,
    WrongPrevRandao,
    WrongTimestamp,
    check_links,
    read_payload_header,
)
from noria.consensus.slashing import ProposalEvidence
from noria.consensus.wire import FieldTooLong, InvalidMessage, MessageTooLong, WrongShape
from noria.execution.system_contracts import block_start_calls
from noria.primitives import rlp
from noria.primitives.types import ZERO_ADDRESS, ZERO_HASH, BlsSignature, Hash32
from tests.consensus.hostile import bytes_like, check_decoder, peak_bytes
from tests.consensus.world import World, aggregate_all, payload_bytes

WORLD = World(4, work={number: [7, 9, 11] for number in range(4)}, grant=1)
PARENT = WORLD.extend(WORLD.genesis, 16)
SLOT, MINER = WORLD.winner(PARENT, PARENT.block.slot + 1)
PLAIN = WORLD.block(PARENT, SLOT, MINER)
DOUBLE = ProposalEvidence(PLAIN.signed_header, WORLD.block(PARENT, SLOT, MINER, extra=b"x").signed_header)
FULL = WORLD.block(PARENT, SLOT, MINER, votes=aggregate_all(WORLD, PARENT, 1), evidence=(DOUBLE,))
SAMPLES = [encode_block(PLAIN), encode_block(FULL)]


def test_the_samples_carry_everything() -> None:
    assert FULL.votes
    assert FULL.evidence
    assert any(block.certificate for block in (PLAIN, FULL))


@pytest.mark.parametrize("block", [PLAIN, FULL])
def test_blocks_are_read_as_written(block: Block) -> None:
    assert decode_block(encode_block(block)) == block
    assert block.root(WORLD.genesis_root) == block_root(WORLD.genesis_root, block.header)


def test_the_root_covers_everything_but_the_signature() -> None:
    root = FULL.root(WORLD.genesis_root)
    assert signed(FULL, BlsSignature(bytes(96))).root(WORLD.genesis_root) == root
    assert FULL.root(ZERO_HASH) != root
    for item in range(8):
        fields = rlp.decode(encode_block(FULL))
        assert isinstance(fields, list)
        field = fields[item]
        assert isinstance(field, bytes)
        # Change the last bit, or for the composite ones take what they are when empty.
        fields[item] = {4: b"\xc0", 5: b"\xc0", 6: b"\xc0", 7: _other_payload()}.get(
            item, field[:-1] + bytes([field[-1] ^ 1])
        )
        if fields[item] == field:
            continue
        assert decode_block(rlp.encode(fields)).root(WORLD.genesis_root) != root, item


def _other_payload() -> bytes:
    return payload_bytes(
        parent_hash=ZERO_HASH, number=1, timestamp=1, randao=ZERO_HASH, beacon_root=ZERO_HASH
    )


@settings(max_examples=400)
@given(bytes_like(SAMPLES))
def test_any_bytes_are_a_block_or_a_named_rejection(data: bytes) -> None:
    check_decoder(data, decode_block, encode_block)


@given(st.integers(0, 8), bytes_like([b"\xc0"]))
def test_any_bytes_in_any_field_are_a_block_or_a_named_rejection(field: int, data: bytes) -> None:
    fields = rlp.decode(SAMPLES[1])
    assert isinstance(fields, list)
    fields[field] = data
    check_decoder(rlp.encode(fields), decode_block, encode_block)


def test_the_bounds_of_blocks_are_named() -> None:
    with pytest.raises(MessageTooLong):
        decode_block(bytes(BLOCK_BYTES_MAX + 1))
    with pytest.raises(FieldTooLong, match="payload has"):
        decode_block(encode_block(replace(PLAIN, payload=bytes(PAYLOAD_BYTES_MAX + 1))))
    fields = rlp.decode(SAMPLES[0])
    assert isinstance(fields, list)
    fields[4] = rlp.encode([bytes(192), bytes(32), bytes(32), b"\x01"])
    with pytest.raises(InvalidCertificateForm, match="block: certificate: a receipt begins with"):
        decode_block(rlp.encode(fields))


@pytest.mark.parametrize("filler", [b"\xc0", b"\x80", b"\x00"])
def test_a_block_of_the_largest_size_costs_little_more_than_itself(filler: bytes) -> None:
    size = BLOCK_BYTES_MAX - 4
    hostile = b"\xfa" + size.to_bytes(3, "big") + filler * size
    assert peak_bytes(decode_block, hostile) < 100_000
    # And with the filler where the payload's transactions are.
    count = 4 << 20
    transactions = b"\xfa" + count.to_bytes(3, "big") + filler * count
    payload = rlp.decode(PLAIN.payload)
    assert isinstance(payload, list)
    head = rlp.encode(payload[0])
    body = head + transactions + b"\xc0\xc0"
    stuffed = b"\xfa" + len(body).to_bytes(3, "big") + body
    block = encode_block(replace(PLAIN, payload=stuffed))
    assert decode_block(block).payload == stuffed
    assert peak_bytes(decode_block, block) < 3 * len(block)


# ---------------------------------------------------------------- payloads


def test_a_payload_of_the_engine_is_read(engine: Engine) -> None:
    head, randao, beacon = engine.head, Hash32(b"\x07" * 32), Hash32(b"\x08" * 32)
    built = engine.build(
        head.hash,
        BlockAttributes(
            timestamp=head.timestamp + 1,
            fee_recipient=ZERO_ADDRESS,
            prev_randao=randao,
            parent_beacon_block_root=beacon,
            gas_limit=head.gas_limit,
            system_calls=block_start_calls(randao),
        ),
        [],
    )
    found = read_payload_header(built.rlp())
    assert found.block_hash == built.header.hash
    assert found.parent_hash == head.hash
    assert found.number == 1
    assert found.timestamp == head.timestamp + 1
    assert found.state_root == built.header.state_root
    assert found.fee_recipient == ZERO_ADDRESS
    assert (found.prev_randao, found.parent_beacon_block_root) == (randao, beacon)


@pytest.mark.parametrize("place", [2, 3])
def test_uncles_and_withdrawals_are_refused(place: int) -> None:
    payload = rlp.decode(PLAIN.payload)
    assert isinstance(payload, list)
    payload[place] = [b""]
    with pytest.raises(WrongShape, match="where none are allowed"):
        read_payload_header(rlp.encode(payload))


@given(bytes_like([PLAIN.payload]))
def test_any_bytes_are_a_payload_or_a_named_rejection(data: bytes) -> None:
    try:
        header = read_payload_header(data)
    except InvalidMessage:
        return
    assert len(header.block_hash) == 32


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"parent_hash": ZERO_HASH}, WrongPayloadParent),
        ({"number": 3}, WrongPayloadParent),
        ({"timestamp": 99}, WrongTimestamp),
        ({"prev_randao": ZERO_HASH}, WrongPrevRandao),
        ({"parent_beacon_block_root": ZERO_HASH}, WrongBeaconRoot),
    ],
)
def test_each_tie_to_the_envelope_holds(change: dict[str, object], error: type[PayloadError]) -> None:
    header = read_payload_header(PLAIN.payload)

    def check(changed: object) -> None:
        check_links(
            replace(header, **changed) if changed else header,  # type: ignore[arg-type]
            parent_payload=PARENT.block.payload,
            parent_root=PARENT.block.root,
            vrf_proof=PLAIN.header.vrf_proof,
            slot_seconds=1_700_000_000 + SLOT,
        )

    check({})
    with pytest.raises(error):
        check(change)
