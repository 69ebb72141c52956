"""What nodes ask of each other about blocks, and what they answer (protocol 8). Strict, bounded RLP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from noria.consensus.parameters import ChainParameters
from noria.consensus.sent_block import sent_block_bytes_max
from noria.consensus.wire import FieldOutOfRange, Reader, TooManyItems, integer_to_bytes
from noria.primitives import rlp
from noria.primitives.types import HASH_BYTES, Hash32

STATUS_BYTES_MAX: Final = 3 * (HASH_BYTES + 1) + 4 * 9 + 4
RANGE_BYTES: Final = 16
BLOCKS_MAX: Final = 64
"""Most blocks that are asked for at once."""
ROOTS_BYTES_MAX: Final = BLOCKS_MAX * (HASH_BYTES + 1) + 4
ANSWER_BYTES: Final = 4 << 20
"""An answer ends once it is longer than this; one block always fits."""


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """Where a node stands, as it says (protocol 8).

    Attributes
    ----------
    genesis_root
        Its chain.
    final_epoch, final_root
        Its final checkpoint.
    head_slot, head_height, head_root
        Its head.
    milliseconds
        Its clock, Unix time.
    """

    genesis_root: Hash32
    final_epoch: int
    final_root: Hash32
    head_slot: int
    head_height: int
    head_root: Hash32
    milliseconds: int = 0


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """Blocks of the answerer's chain from a height on, in order."""

    first_height: int
    count: int


def blocks_bytes_max(parameters: ChainParameters) -> int:
    """Return how long an answer with blocks can be, bytes."""
    return ANSWER_BYTES + sent_block_bytes_max(parameters) + BLOCKS_MAX * 8


def encode_status(status: PeerStatus) -> bytes:
    """Return a status's RLP: its fields in the order of their declaration."""
    return rlp.encode(
        [
            status.genesis_root,
            integer_to_bytes(status.final_epoch),
            status.final_root,
            integer_to_bytes(status.head_slot),
            integer_to_bytes(status.head_height),
            status.head_root,
            integer_to_bytes(status.milliseconds),
        ]
    )


def decode_status(data: bytes) -> PeerStatus:
    """Read a status; raise `InvalidMessage` where the bytes are none."""
    reader = Reader.open(data, "status", max_bytes=STATUS_BYTES_MAX)
    status = PeerStatus(
        genesis_root=Hash32(reader.fixed("genesis_root", HASH_BYTES)),
        final_epoch=reader.integer("final_epoch", 64),
        final_root=Hash32(reader.fixed("final_root", HASH_BYTES)),
        head_slot=reader.integer("head_slot", 64),
        head_height=reader.integer("head_height", 64),
        head_root=Hash32(reader.fixed("head_root", HASH_BYTES)),
        milliseconds=reader.integer("milliseconds", 64),
    )
    reader.close()
    return status


def encode_range(request: RangeRequest) -> bytes:
    """Return a request's RLP: first height and count."""
    return rlp.encode([integer_to_bytes(request.first_height), integer_to_bytes(request.count)])


def decode_range(data: bytes) -> RangeRequest:
    """Read a request for a range; raise `InvalidMessage` where the bytes are none."""
    reader = Reader.open(data, "range", max_bytes=RANGE_BYTES)
    # Genesis has height 0 and is nobody's to send.
    first = reader.integer("first_height", 64, least=1)
    count = reader.integer("count", 8, least=1)
    reader.close()
    if count > BLOCKS_MAX:
        raise FieldOutOfRange(f"range: {count} blocks, at most {BLOCKS_MAX} may be asked for")
    return RangeRequest(first, count)


def encode_roots(roots: Sequence[Hash32]) -> bytes:
    """Return the RLP of the roots of blocks that are asked for."""
    return rlp.encode(list[rlp.RlpItem](roots))


def decode_roots(data: bytes) -> tuple[Hash32, ...]:
    """Read a request for blocks by their roots; raise `InvalidMessage` where the bytes are none."""
    reader = Reader.open(data, "roots", max_bytes=ROOTS_BYTES_MAX)
    roots: list[Hash32] = []
    while not reader.at_end:
        if len(roots) == BLOCKS_MAX:
            raise TooManyItems(f"roots: more than {BLOCKS_MAX}")
        roots.append(Hash32(reader.fixed(f"root[{len(roots)}]", HASH_BYTES)))
    if not roots:
        raise FieldOutOfRange("roots: none")
    return tuple(roots)


def encode_blocks(sent: Sequence[bytes]) -> bytes:
    """Return an answer's RLP: blocks as `noria.consensus.sent_block` encodes them."""
    return rlp.encode(list[rlp.RlpItem](sent))


def decode_blocks(data: bytes, parameters: ChainParameters) -> tuple[bytes, ...]:
    """Read an answer; the blocks stay encoded. Raise `InvalidMessage` where the bytes are none."""
    reader = Reader.open(data, "blocks", max_bytes=blocks_bytes_max(parameters))
    blocks: list[bytes] = []
    while not reader.at_end:
        if len(blocks) == BLOCKS_MAX:
            raise TooManyItems(f"blocks: more than {BLOCKS_MAX}")
        blocks.append(
            reader.blob(f"block[{len(blocks)}]", max_bytes=sent_block_bytes_max(parameters), min_bytes=1)
        )
    return tuple(blocks)
