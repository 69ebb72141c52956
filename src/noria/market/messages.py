"""What a requester and a miner say to each other about one place of a job (protocol 5.2 to 5.4).

One protocol of requests and answers, MessagePack by schema: a request is one of `Hello`, `Put`, `Order`,
`Collect`, `Read` and `Ask`, the answer the kind that its docstring names. The requester always asks; results
reach it as answers to `Collect`, which waits for them. A peer that has said `Hello` with a signature of the
job's session key speaks for the job from then on; a later `Hello` from another peer takes its place.

Numbers are bounded by their types, bytes by `MESSAGE_BYTES_MAX` and the constants here; nothing is built that
the schema does not name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

T = TypeVar("T")

VERSION: Final = 1
"""Of the protocol; a miner refuses a `Hello` of another one and says which it speaks."""

MESSAGE_BYTES_MAX: Final = 4 << 20
INLINE_BYTES_MAX: Final = 256 << 10
"""Longest part of an input, and longest output, inside a message; what is longer goes piece by piece."""
PIECE_BYTES_MAX: Final = 1 << 20
"""Longest piece of a blob or an output in one message."""
BLOB_BYTES_MAX: Final = 64 << 20
UNITS_MAX: Final = 256
"""Units in one `Order`, results and seals in one `Collected`."""
PARTS_MAX: Final = 16
"""Parts that make one input."""
NAMES_MAX: Final = 4096
"""Unit numbers in one list."""
WAIT_MILLISECONDS_MAX: Final = 20_000
"""Longest time for which `Collect` waits. The protocol's own limit must be longer."""
WORK_SECONDS: Final = 30.0
"""The protocol's time limit for one request."""
DETAILS_BYTES_MAX: Final = 1024
LOG_BYTES_MAX: Final = 64 << 10
REASON_CHARACTERS_MAX: Final = 500

Hash: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]
Miner: TypeAlias = Annotated[bytes, Meta(min_length=20, max_length=20)]
Signed: TypeAlias = Annotated[bytes, Meta(min_length=65, max_length=65)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Fuel: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
WeiText: TypeAlias = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,28})$")]
"""An amount in wei as decimal text: MessagePack's integers end at 64 bits."""
Name: TypeAlias = Annotated[str, Meta(max_length=128)]
Reason: TypeAlias = Annotated[str, Meta(max_length=REASON_CHARACTERS_MAX)]
Numbers: TypeAlias = Annotated[list[Count], Meta(max_length=NAMES_MAX)]


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything here."""


# ---------------------------------------------------------------- parts of messages


class Allow(_Message, frozen=True):
    """Permission to charge a place up to a total, cumulative; signed as in `noria.market.typed_data`."""

    total: WeiText
    signature: Signed


class Approval(_Message, frozen=True):
    """The requester's consent to one batch, which pays it at once; signed as in `noria.market.typed_data`."""

    root: Hash
    signature: Signed


class BlobPart(_Message, frozen=True, tag="blob"):
    """A part of an input that was put before; `size` in bytes."""

    blob: Hash
    size: Count


class BytesPart(_Message, frozen=True, tag="bytes"):
    """A part of an input that travels with its unit."""

    data: Annotated[bytes, Meta(max_length=INLINE_BYTES_MAX)]


class Unit(_Message, frozen=True):
    """A unit that is ordered; its program is the job's, its input the parts one after the other.

    Attributes
    ----------
    number
        The requester's name for it, once per place. The same number again with the same unit changes nothing.
    fuel_limit
        Of the unit.
    parts
        Of the input.
    sealed
        Whether only a seal is sent at first, and the result once it is asked for with `Collect.open`.
    """

    number: Count
    fuel_limit: Fuel
    parts: Annotated[list[BytesPart | BlobPart], Meta(max_length=PARTS_MAX)]
    sealed: bool = False


class Refused(_Message, frozen=True):
    """A unit that was not taken.

    `reason` is a name: ``full`` (window; send it later), ``unpaid`` (a higher allow is needed first),
    ``blob-missing`` (put it, then order again), ``blob-size`` (it is not as long as said),
    ``input-too-large``, ``fuel-limit``, ``number-taken``, ``program``, ``closing``.
    """

    number: Count
    reason: Name
    message: Reason = ""


class Seal(_Message, frozen=True):
    """``H("noria/seal/1" ‖ genesis_root ‖ job ‖ unit_id ‖ nonce ‖ status ‖ output_id ‖ fuel ‖ miner)``."""

    number: Count
    seal: Hash


class Result(_Message, frozen=True):
    """How a unit ended, with the miner's receipt of it.

    Attributes
    ----------
    number
        Of the unit.
    index
        Of the receipt: they count up by one, in the order in which results are released.
    status, fuel, weight, output_id
        Of the receipt.
    nonce
        Of the seal; zeros if there was none.
    output
        Absent where it is longer than `INLINE_BYTES_MAX`: `Read` fetches it.
    output_bytes
        Its length.
    log
        What the program wrote to stderr.
    milliseconds
        How long it ran.
    signature
        The miner's account over the receipt's leaf hash.
    """

    number: Count
    index: Count
    status: Annotated[int, Meta(ge=0, le=5)]
    fuel: Fuel
    weight: Fuel
    output_id: Hash
    nonce: Hash
    output: Annotated[bytes, Meta(max_length=INLINE_BYTES_MAX)] | None
    output_bytes: Count
    log: Annotated[bytes, Meta(max_length=LOG_BYTES_MAX)]
    milliseconds: Count
    signature: Signed


class Failure(_Message, frozen=True):
    """A unit that this miner could not run, or that was cancelled: no receipt, no price.

    `reason` is ``machine``, ``cancelled``, ``program`` or ``closing``.
    """

    number: Count
    reason: Name
    message: Reason = ""


class BatchOffer(_Message, frozen=True):
    """A batch that the miner is about to commit and would like approved."""

    root: Hash
    first_index: Count
    count: Annotated[int, Meta(ge=1, le=4096)]
    fuel: Fuel
    weight: Fuel


# ---------------------------------------------------------------- requests


class Ask(_Message, frozen=True, tag="ask"):
    """What would work cost here? Answered with `Quote`; anybody may ask."""


class Hello(_Message, frozen=True, tag="hello"):
    """I speak for a job. Answered with `Welcome`.

    Attributes
    ----------
    version
        `VERSION`.
    job, k
        Which place.
    program
        The job's program.
    details
        What else the job's terms cover; `noria.market.typed_data.terms_hash` of both must be the job's.
    signature
        Of the session key over `noria.market.typed_data.session_digest`, which names this peer.
    """

    version: Count
    job: Count
    k: Count
    program: Hash
    details: Annotated[bytes, Meta(max_length=DETAILS_BYTES_MAX)]
    signature: Signed


class Put(_Message, frozen=True, tag="put"):
    """A piece of a blob, in order. Answered with `Stored`; with no data it asks how much is there.

    `kind` is ``input`` (named by `noria.work.ids.blob_id`) or ``program`` (by `program_id`).
    """

    job: Count
    k: Count
    blob: Hash
    kind: Name
    size: Annotated[int, Meta(ge=0, le=BLOB_BYTES_MAX)]
    offset: Count
    data: Annotated[bytes, Meta(max_length=PIECE_BYTES_MAX)] = b""


class Order(_Message, frozen=True, tag="order"):
    """Units to run, and money for them. Answered with `Ordered`."""

    job: Count
    k: Count
    units: Annotated[list[Unit], Meta(max_length=UNITS_MAX)]
    allow: Allow | None = None


class Collect(_Message, frozen=True, tag="collect"):
    """What has happened? Answered with `Collected`, at the latest after `wait_milliseconds`.

    A newer `Collect` of the same place makes an older one answer at once, empty.

    Attributes
    ----------
    taken
        Unit numbers whose results or failures have arrived and are safe: the miner may forget them.
    open
        Sealed units whose results are wanted now.
    cancel
        Units that are not wanted any more; what has not ended costs nothing, but one that has begun stays in
        the miner's window for a while.
    allow
        As in `Order`.
    approvals
        Of batches that were offered.
    flush
        No more units come for now: offer what is there as a batch at once.
    """

    job: Count
    k: Count
    wait_milliseconds: Annotated[int, Meta(ge=0, le=WAIT_MILLISECONDS_MAX)]
    taken: Numbers = []
    open: Numbers = []
    cancel: Numbers = []
    allow: Allow | None = None
    approvals: Annotated[list[Approval], Meta(max_length=64)] = []
    flush: bool = False


class Read(_Message, frozen=True, tag="read"):
    """A piece of the output of a released result. Answered with `Piece`."""

    job: Count
    k: Count
    number: Count
    offset: Count


# ---------------------------------------------------------------- answers


class Quote(_Message, frozen=True, tag="quote"):
    """What a miner asks for, wei per fuel, and how busy it is."""

    version: Count
    miner: Miner
    ask_price: WeiText
    workers: Count
    running: Count
    queued: Count


class Welcome(_Message, frozen=True, tag="welcome"):
    """The job is known here and may send units.

    Attributes
    ----------
    miner
        Who will be paid.
    workers
        Units that it runs at once.
    window
        Most units of this place that may be ordered and not yet released.
    next_index
        Of the next receipt.
    earned
        Price of all receipts so far.
    committed
        Price of those that are committed on chain.
    known
        Units that are here and not yet taken, whatever their state: only others need be ordered again.
    """

    version: Count
    miner: Miner
    workers: Count
    window: Count
    next_index: Count
    earned: WeiText
    committed: WeiText
    known: Numbers


class Stored(_Message, frozen=True, tag="stored"):
    """How many bytes of a blob are here, from its start; all of them if `complete`."""

    have: Count
    complete: bool


class Ordered(_Message, frozen=True, tag="ordered"):
    """What became of an order: all units that are not refused were taken."""

    refused: Annotated[list[Refused], Meta(max_length=UNITS_MAX)]


class Collected(_Message, frozen=True, tag="collected"):
    """What has happened at a place; results, seals and failures come again until they are taken or opened.

    Attributes
    ----------
    results, seals, failures
        New, or not yet taken.
    running, queued
        Units of this place in that state.
    held
        Results that wait for a higher allow; 0 if none.
    needed
        The total that the allow must have for the next result to be released; 0 if none is held.
    earned
        Price of all receipts so far.
    offers
        Batches that wait for approval.
    committed, paid
        Price of what is committed and of what is paid, as the miner's node sees the chain.
    note
        Why nothing happens, where that is so, for people: ``compiling python, 40 %``.
    """

    results: Annotated[list[Result], Meta(max_length=UNITS_MAX)]
    seals: Annotated[list[Seal], Meta(max_length=NAMES_MAX)]
    failures: Annotated[list[Failure], Meta(max_length=UNITS_MAX)]
    running: Count
    queued: Count
    held: Count
    needed: WeiText
    earned: WeiText
    offers: Annotated[list[BatchOffer], Meta(max_length=64)]
    committed: WeiText
    paid: WeiText
    note: Reason = ""


class Piece(_Message, frozen=True, tag="piece"):
    """Part of an output."""

    data: Annotated[bytes, Meta(max_length=PIECE_BYTES_MAX)]


WorkRequest: TypeAlias = Ask | Hello | Put | Order | Collect | Read
WorkAnswer: TypeAlias = Quote | Welcome | Stored | Ordered | Collected | Piece

_ENCODER: Final = msgspec.msgpack.Encoder()
_REQUESTS: Final[msgspec.msgpack.Decoder[WorkRequest]] = msgspec.msgpack.Decoder(WorkRequest)
_ANSWERS: Final[msgspec.msgpack.Decoder[WorkAnswer]] = msgspec.msgpack.Decoder(WorkAnswer)


class MalformedWorkMessage(ValueError):
    """Bytes that are no work message, or one beyond its bounds."""


def encode_message(message: WorkRequest | WorkAnswer) -> bytes:
    """Return a message's bytes."""
    return _ENCODER.encode(message)


def decode_request(data: bytes) -> WorkRequest:
    """Return the request that a peer sent.

    Raises
    ------
    MalformedWorkMessage
        Where it is none.
    """
    return _decode(_REQUESTS.decode, data)


def decode_answer(data: bytes) -> WorkAnswer:
    """Return the answer that a peer sent.

    Raises
    ------
    MalformedWorkMessage
        Where it is none.
    """
    return _decode(_ANSWERS.decode, data)


def _decode(decode: Callable[[bytes], T], data: bytes) -> T:
    if len(data) > MESSAGE_BYTES_MAX:
        raise MalformedWorkMessage(f"a work message of {len(data)} bytes: at most {MESSAGE_BYTES_MAX}")
    try:
        return decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedWorkMessage(f"no work message: {error}"[:REASON_CHARACTERS_MAX]) from None
