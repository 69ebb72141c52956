"""A block as it travels: the envelope with its payload, and beside it the input of its certificate's unit.

Protocol 4.5, 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from noria.consensus.blocks import BLOCK_BYTES_MAX
from noria.consensus.parameters import ChainParameters
from noria.consensus.wire import Reader
from noria.primitives import rlp

_OVERHEAD: Final = 16


@dataclass(frozen=True, slots=True)
class SentBlock:
    """A block's encoding and its input, `None` where it has no certificate or came without."""

    block: bytes
    input: bytes | None


def sent_block_bytes_max(parameters: ChainParameters) -> int:
    """Return how long the message can be, bytes."""
    return BLOCK_BYTES_MAX + parameters.input_bytes_max + _OVERHEAD


def encode_sent_block(sent: SentBlock) -> bytes:
    """Return the message: ``[block]`` or ``[block, input]``."""
    return rlp.encode([sent.block] if sent.input is None else [sent.block, sent.input])


def decode_sent_block(data: bytes, parameters: ChainParameters) -> SentBlock:
    """Read the message; the block itself stays encoded.

    Raises
    ------
    InvalidMessage
        Where the bytes are none.
    """
    reader = Reader.open(data, "sent block", max_bytes=sent_block_bytes_max(parameters))
    block = reader.blob("block", max_bytes=BLOCK_BYTES_MAX)
    found = None if reader.at_end else reader.blob("input", max_bytes=parameters.input_bytes_max)
    reader.close()
    return SentBlock(block, found)
