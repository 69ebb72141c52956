"""Long inputs and outputs, piece by piece."""

from __future__ import annotations

from noria.market.messages import PIECE_BYTES_MAX, Piece, Put, Read, Result, Stored
from noria.market.requester.checks import Claimant, Lie
from noria.market.requester.link import WorkLink
from noria.work.ids import BlobId, ProgramId

INPUT_KIND = "input"
PROGRAM_KIND = "program"


async def put_blob(
    link: WorkLink,
    who: Claimant,
    blob: BlobId | ProgramId,
    data: bytes,
    piece_seconds: float,
    kind: str = INPUT_KIND,
) -> None:
    """Bring a part of inputs, or a program, to a miner; what is there already is not sent again.

    Raises
    ------
    Lie
        Where the miner counts what it has wrongly.
    """
    answer = await link.ask(
        Put(who.job, who.k, blob, kind, len(data), 0), Stored, timeout_seconds=piece_seconds
    )
    pieces = 0
    while not answer.complete:
        have = answer.have
        if have > len(data) or pieces > len(data) // PIECE_BYTES_MAX + 8:
            raise Lie(f"it says that it has {have} bytes of a blob of {len(data)} and wants more")
        pieces += 1
        piece = data[have : have + PIECE_BYTES_MAX]
        answer = await link.ask(
            Put(who.job, who.k, blob, kind, len(data), have, piece),
            Stored,
            timeout_seconds=piece_seconds,
        )


async def fetch_output(link: WorkLink, who: Claimant, result: Result, piece_seconds: float) -> bytes:
    """Fetch an output that is too long for a message; its name is checked by whoever gets it.

    Raises
    ------
    Lie
        Where a piece is empty or too long.
    """
    output = bytearray()
    while len(output) < result.output_bytes:
        piece = await link.ask(
            Read(who.job, who.k, result.number, len(output)), Piece, timeout_seconds=piece_seconds
        )
        if not piece.data or len(output) + len(piece.data) > result.output_bytes:
            raise Lie(f"it sends other pieces of unit {result.number}'s output than it has promised")
        output += piece.data
    return bytes(output)
