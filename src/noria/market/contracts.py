"""The market's contracts as values: what they answer, what their calls take and what they log.

Calls are made in `noria.market.contract_calls`, events read in `noria.market.contract_events`, and what there
is to know is in `noria.market.contract_values`; all are offered here again, so that this is the one place to
look.
"""

from __future__ import annotations

from typing import Any, Final

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from noria.execution.system_contracts import (
    JOB_MARKET,
    MINER_REGISTRY,
    PROGRAM_REGISTRY,
    SETTLEMENT,
    WORK_LEDGER,
)
from noria.market.access import ChainAccess, ChainAccessError
from noria.market.contract_calls import (
    LIST_MAX,
    METADATA_BYTES_MAX,
    MINERS_MAX,
    PLACES_MAX,
    approve_call,
    assign_call,
    call_data,
    claim_call,
    close_call,
    commit_approved_call,
    commit_call,
    credit_call,
    extend_call,
    finalize_call,
    open_call,
    open_directed_call,
    publish_call,
    raise_cap_call,
    refund_call,
    set_royalty_call,
    top_up_call,
)
from noria.market.contract_events import (
    ASSIGNED_TOPIC,
    CAP_RAISED_TOPIC,
    CLOSING_TOPIC,
    COMMITTED_TOPIC,
    CREDITED_TOPIC,
    ENDED_TOPIC,
    OPENED_TOPIC,
    PAID_TOPIC,
    PUBLISHED_TOPIC,
    ROYALTY_CHANGED_TOPIC,
    SETTLED_TOPIC,
    TOPPED_UP_TOPIC,
    Assigned,
    CapRaised,
    Closing,
    Committed,
    Credited,
    Ended,
    MarketEvent,
    Opened,
    Paid,
    Published,
    RoyaltyChanged,
    Settled,
    ToppedUp,
    address_topic,
    decode_event,
    job_topic,
)
from noria.market.contract_values import (
    ASSIGN_AFTER_BLOCKS,
    ASSIGN_WITHIN_BLOCKS,
    FUEL_MAX,
    WEI_MAX,
    Job,
    JobState,
    MarketRules,
    MinerTerms,
    Place,
    PriceSplit,
    PublishedProgram,
    SettledBatch,
    batch_price,
    split_price,
)
from noria.primitives.types import Address, Hash32, Wei

__all__ = [
    "ASSIGNED_TOPIC",
    "ASSIGN_AFTER_BLOCKS",
    "ASSIGN_WITHIN_BLOCKS",
    "CAP_RAISED_TOPIC",
    "CLOSING_TOPIC",
    "COMMITTED_TOPIC",
    "CREDITED_TOPIC",
    "ENDED_TOPIC",
    "FUEL_MAX",
    "JOB_MARKET",
    "LIST_MAX",
    "METADATA_BYTES_MAX",
    "MINERS_MAX",
    "MINER_REGISTRY",
    "OPENED_TOPIC",
    "PAID_TOPIC",
    "PLACES_MAX",
    "PROGRAM_REGISTRY",
    "PUBLISHED_TOPIC",
    "ROYALTY_CHANGED_TOPIC",
    "SETTLED_TOPIC",
    "SETTLEMENT",
    "TOPPED_UP_TOPIC",
    "WEI_MAX",
    "WORK_LEDGER",
    "Assigned",
    "CapRaised",
    "Closing",
    "Committed",
    "ContractSilent",
    "Credited",
    "Ended",
    "Job",
    "JobState",
    "MarketEvent",
    "MarketRules",
    "MinerTerms",
    "Opened",
    "Paid",
    "Place",
    "PriceSplit",
    "Published",
    "PublishedProgram",
    "RoyaltyChanged",
    "Settled",
    "SettledBatch",
    "ToppedUp",
    "address_topic",
    "approve_call",
    "assign_call",
    "batch_price",
    "call_data",
    "claim_call",
    "close_call",
    "commit_approved_call",
    "commit_call",
    "credit_call",
    "decode_event",
    "extend_call",
    "finalize_call",
    "job_topic",
    "open_call",
    "open_directed_call",
    "publish_call",
    "raise_cap_call",
    "read_batch",
    "read_floor_price",
    "read_job",
    "read_job_count",
    "read_miner_terms",
    "read_owed",
    "read_place",
    "read_places",
    "read_program",
    "read_rules",
    "refund_call",
    "set_royalty_call",
    "split_price",
    "top_up_call",
]


class ContractSilent(ChainAccessError):
    """A contract gave no answer of the expected shape: this chain has no market, or another version of it."""


# ---------------------------------------------------------------- reading

_JOB: Final = (
    "(uint256,address,address,bytes32,uint256,uint256,uint256,uint256,uint256,bool,bool,uint256,uint256,uint256,"
    "uint256,address,uint256)"
)
_PLACE: Final = "(address,uint256,uint256,uint256,uint256)"
_BATCH: Final = "(uint256,uint256,uint256,uint256,uint256,uint256,uint256,bool,bool,bool)"
_MINER: Final = "(uint256,bytes32,bytes16," + "uint256," * 10 + "bytes)"


async def read_job(access: ChainAccess, job: int) -> Job | None:
    """Return a job; None where that number has not been opened.

    Raises
    ------
    ChainAccessError
        As from all readers here, where the chain cannot be asked.
    """
    fields = await _ask(access, JOB_MARKET, "job(uint256)", _JOB, job)
    if fields[0] == 0:
        return None
    return Job(
        number=job,
        state=JobState(fields[0]),
        requester=_address(fields[1]),
        session_key=_address(fields[2]),
        terms=Hash32(fields[3]),
        opened_block=fields[4],
        closing_block=fields[5],
        miners=fields[6],
        places=fields[7],
        replicas=fields[8],
        public=fields[9],
        directed=fields[10],
        max_price=fields[11],
        free=Wei(fields[12]),
        share=Wei(fields[13]),
        deadline=fields[14],
        developer=_address(fields[15]),
        royalty=fields[16],
    )


async def read_job_count(access: ChainAccess) -> int:
    """Return the number of the job that was opened last; 0 where there is none."""
    return int(await _ask(access, JOB_MARKET, "job_count()", "uint256"))


async def read_place(access: ChainAccess, job: int, k: int) -> Place | None:
    """Return a place; None where the job has no such place (yet)."""
    fields = await _ask(access, JOB_MARKET, "place(uint256,uint256)", _PLACE, job, k)
    place = _place(job, k, fields)
    return place if any(place.miner) else None


async def read_places(access: ChainAccess, job: int) -> list[Place]:
    """Return all places of a job, by k."""
    rows = await _ask(access, JOB_MARKET, "places(uint256)", _PLACE + "[]", job)
    return [_place(job, k, fields) for k, fields in enumerate(rows)]


async def read_batch(access: ChainAccess, miner: Address, root: bytes) -> SettledBatch | None:
    """Return a batch; None where the miner has committed none with this root.

    Two miners may commit the same root: one of them lies, but neither stands in the other's way.
    """
    fields = await _ask(access, SETTLEMENT, "batch(address,bytes32)", _BATCH, miner, root)
    if fields[3] == 0:
        return None
    return SettledBatch(
        miner=miner,
        root=Hash32(root),
        job=fields[0],
        k=fields[1],
        first_index=fields[2],
        count=fields[3],
        fuel=fields[4],
        weight=fields[5],
        block=fields[6],
        paid=fields[7],
        credited=fields[8],
        void=fields[9],
    )


async def read_program(access: ChainAccess, program_id: bytes) -> PublishedProgram | None:
    """Return a program that was published or is pinned; None for others, which have no royalty."""
    answer = await _ask(access, PROGRAM_REGISTRY, "program(bytes32)", "(address,uint256)", program_id)
    developer = _address(answer[0])
    if not any(developer):
        return None
    return PublishedProgram(program_id=Hash32(program_id), developer=developer, royalty=answer[1])


async def read_floor_price(access: ChainAccess) -> int:
    """Return the price in wei per fuel at which a fee counts in full."""
    return int(await _ask(access, WORK_LEDGER, "floor_price()", "uint256"))


async def read_miner_terms(access: ChainAccess, miner: Address) -> MinerTerms | None:
    """Return what a miner offers; None where it is not registered."""
    fields = await _ask(access, MINER_REGISTRY, "miner(address)", _MINER, miner)
    if fields[0] == 0:
        return None
    return MinerTerms(
        miner=miner,
        capacity=fields[6],
        ask_price=fields[7],
        peer=fields[13].decode(errors="replace"),
        bond=Wei(fields[3]),
        jailed_until_epoch=fields[9],
    )


async def read_owed(access: ChainAccess, contract: Address, account: Address) -> Wei:
    """Return what an account can claim at `JOB_MARKET` or `SETTLEMENT`, wei."""
    return Wei(await _ask(access, contract, "owed(address)", "uint256", account))


async def read_rules(access: ChainAccess) -> MarketRules:
    """Return the chain's parameters of the market."""
    challenge_blocks, fee = await _ask(access, SETTLEMENT, "rules()", "(uint256,uint256)")
    close_blocks = await _ask(access, JOB_MARKET, "close_blocks()", "uint256")
    return MarketRules(challenge_blocks, close_blocks, fee)


async def _ask(access: ChainAccess, contract: Address, signature: str, type_: str, *arguments: object) -> Any:
    answer = await access.call(contract, call_data(signature, *arguments))
    try:
        [value] = decode([type_], answer)
    except (DecodingError, OverflowError):
        raise ContractSilent(
            f"contract 0x{contract.hex()} does not answer {signature} ({len(answer)} bytes): is"
            " this a Noria chain with a market?"
        ) from None
    return value


def _place(job: int, k: int, fields: tuple[Any, ...]) -> Place:
    miner, price, cap, committed, next_index = fields
    return Place(
        job=job,
        k=k,
        miner=_address(miner),
        price=price,
        cap=Wei(cap),
        committed=Wei(committed),
        next_index=next_index,
    )


def _address(text: str) -> Address:
    return Address(bytes.fromhex(text[2:]))
