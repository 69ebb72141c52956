"""What the market's contracts log, by their topics, as values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from noria.execution.system_contracts import JOB_MARKET, PROGRAM_REGISTRY, SETTLEMENT, WORK_LEDGER
from noria.market.access import EventLog
from noria.primitives.hashes import keccak256
from noria.primitives.types import Address, Hash32


@dataclass(frozen=True, slots=True)
class Opened:
    """A job was opened with a budget in wei. Topics: job, requester."""

    job: int
    requester: Address
    program_id: Hash32
    details_hash: Hash32
    budget: int


@dataclass(frozen=True, slots=True)
class Assigned:
    """A miner was drawn (or named) for place k, at a price in wei per fuel. Topics: job, miner."""

    job: int
    miner: Address
    k: int
    price: int


@dataclass(frozen=True, slots=True)
class ToppedUp:
    """Wei were added to what is free. Topic: job."""

    job: int
    amount: int


@dataclass(frozen=True, slots=True)
class CapRaised:
    """A place may now charge up to `cap` wei. Topic: job."""

    job: int
    k: int
    cap: int


@dataclass(frozen=True, slots=True)
class Closing:
    """A job ends: commits are taken up to and with block `last_block`. Topic: job."""

    job: int
    last_block: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A job is over, and this many wei went back. Topic: job."""

    job: int
    refund: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A miner committed a batch. Topics: job, miner."""

    job: int
    miner: Address
    k: int
    root: Hash32
    first_index: int
    count: int
    fuel: int
    weight: int


@dataclass(frozen=True, slots=True)
class Paid:
    """A batch was paid: `amount` wei in all. Topic: job."""

    job: int
    k: int
    root: Hash32
    amount: int


@dataclass(frozen=True, slots=True)
class Settled:
    """How the batches paid in one call were divided, wei. Topic: job."""

    job: int
    k: int
    miner_wei: int
    developer_wei: int
    fee: int


@dataclass(frozen=True, slots=True)
class Credited:
    """A batch became weight, fuel. Topics: miner, root."""

    miner: Address
    root: Hash32
    credit: int
    cumulative: int


@dataclass(frozen=True, slots=True)
class Published:
    """A program was published. Topics: program, developer."""

    program_id: Hash32
    developer: Address
    royalty: int
    metadata: bytes


@dataclass(frozen=True, slots=True)
class RoyaltyChanged:
    """A developer asks for another royalty, wei per fuel. Topic: program."""

    program_id: Hash32
    royalty: int


MarketEvent = (
    Opened
    | Assigned
    | ToppedUp
    | CapRaised
    | Closing
    | Ended
    | Committed
    | Paid
    | Settled
    | Credited
    | Published
    | RoyaltyChanged
)


@dataclass(frozen=True, slots=True)
class _Kind:
    contract: Address
    make: Callable[..., MarketEvent]
    topics: tuple[str, ...]
    data: tuple[str, ...]


_BY_TOPIC: Final[dict[Hash32, _Kind]] = {}


def _event(contract: Address, make: type[Any], topics: tuple[str, ...], data: tuple[str, ...]) -> Hash32:
    """Note how an event is read; its topics come first among the fields. Return its first topic."""
    types = ",".join(topics + data)
    topic = keccak256(f"{make.__name__}({types})".encode())
    _BY_TOPIC[topic] = _Kind(contract, make, topics, data)
    return topic


OPENED_TOPIC: Final = _event(JOB_MARKET, Opened, ("uint256", "address"), ("bytes32", "bytes32", "uint256"))
ASSIGNED_TOPIC: Final = _event(JOB_MARKET, Assigned, ("uint256", "address"), ("uint256", "uint256"))
TOPPED_UP_TOPIC: Final = _event(JOB_MARKET, ToppedUp, ("uint256",), ("uint256",))
CAP_RAISED_TOPIC: Final = _event(JOB_MARKET, CapRaised, ("uint256",), ("uint256", "uint256"))
CLOSING_TOPIC: Final = _event(JOB_MARKET, Closing, ("uint256",), ("uint256",))
ENDED_TOPIC: Final = _event(JOB_MARKET, Ended, ("uint256",), ("uint256",))
COMMITTED_TOPIC: Final = _event(
    SETTLEMENT,
    Committed,
    ("uint256", "address"),
    ("uint256", "bytes32", "uint256", "uint256", "uint256", "uint256"),
)
PAID_TOPIC: Final = _event(SETTLEMENT, Paid, ("uint256",), ("uint256", "bytes32", "uint256"))
SETTLED_TOPIC: Final = _event(SETTLEMENT, Settled, ("uint256",), ("uint256", "uint256", "uint256", "uint256"))
CREDITED_TOPIC: Final = _event(WORK_LEDGER, Credited, ("address", "bytes32"), ("uint256", "uint256"))
PUBLISHED_TOPIC: Final = _event(PROGRAM_REGISTRY, Published, ("bytes32", "address"), ("uint256", "bytes"))
ROYALTY_CHANGED_TOPIC: Final = _event(PROGRAM_REGISTRY, RoyaltyChanged, ("bytes32",), ("uint256",))


def job_topic(job: int) -> Hash32:
    """Return the topic by which a job's events are found."""
    return Hash32(job.to_bytes(32, "big"))


def address_topic(address: Address) -> Hash32:
    """Return the topic by which a requester's, miner's or developer's events are found."""
    return Hash32(address.rjust(32, b"\0"))


def decode_event(log: EventLog) -> MarketEvent | None:
    """Return what an event says; None where it is no event of the market's contracts."""
    kind = _BY_TOPIC.get(log.topics[0]) if log.topics else None
    if kind is None or log.address != kind.contract or len(log.topics) != len(kind.topics) + 1:
        return None
    try:
        indexed = [
            decode([type_], topic)[0] for type_, topic in zip(kind.topics, log.topics[1:], strict=True)
        ]
        values = [*indexed, *decode(kind.data, log.data)]
    except DecodingError:
        return None
    types = kind.topics + kind.data
    return kind.make(*(_plain(type_, value) for type_, value in zip(types, values, strict=True)))


def _plain(type_: str, value: Any) -> Any:
    return bytes.fromhex(value[2:]) if type_ == "address" else value
