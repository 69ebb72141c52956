"""What others lack of the chain is given to them: blocks by range, and by their roots (protocol 8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

from noria.chain.chain_service import ChainService
from noria.consensus.sent_block import SentBlock, encode_sent_block
from noria.consensus.wire import InvalidMessage
from noria.network.errors import Refusal
from noria.network.messages import ANSWER_BYTES, BLOCKS_MAX, decode_range, decode_roots, encode_blocks
from noria.network.transport import Request
from noria.primitives.types import Hash32

Message = TypeVar("Message")


def decoded(decode: Callable[[bytes], Message], data: bytes) -> Message:
    """Read what a peer asks.

    Raises
    ------
    Refusal
        Where it cannot be read.
    """
    try:
        return decode(data)
    except InvalidMessage as error:
        raise Refusal(str(error)) from error


class BlockServing:
    """Answers requests for blocks.

    Parameters
    ----------
    chain
        Whose blocks they are.
    """

    def __init__(self, chain: ChainService) -> None:
        self._chain = chain

    async def by_range(self, request: Request) -> bytes:
        """Return the head's chain from a height on, as much as fits an answer."""
        wanted = decoded(decode_range, request.data)
        roots = await asyncio.to_thread(self._chain.blocks_by_height, wanted.first_height, wanted.count)
        return await asyncio.to_thread(self._answer, roots)

    async def by_roots(self, request: Request) -> bytes:
        """Return blocks up to the first that is not here, as much as fits an answer."""
        return await asyncio.to_thread(self._answer, decoded(decode_roots, request.data))

    def _answer(self, roots: Iterable[Hash32]) -> bytes:
        sent: list[bytes] = []
        size = 0
        for root in islice(roots, BLOCKS_MAX):
            body = self._chain.block_by_root(root)
            if body is None or size > ANSWER_BYTES:
                break
            sent.append(encode_sent_block(SentBlock(body.block, body.input)))
            size += len(sent[-1])
        return encode_blocks(sent)
