"""Who mines from the first block on, and with what work: what a chain specification fills contracts with.

Genesis cannot name itself: its root covers the state that holds these miners and this work. So what they have
signed and hashed beforehand carries the chain's *origin*, ``H("noria/origin/1" ‖ rlp(name, chain_id,
timestamp))``, where anything later carries the genesis root.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from noria.execution.parameters import ChainParameters
from noria.execution.spec_checks import (
    SpecError,
    check_length,
    check_range,
    read_address,
    read_amount,
    read_bytes,
)
from noria.primitives import rlp
from noria.primitives.amounts import format_amount
from noria.primitives.hashes import blake3
from noria.primitives.hexes import format_data
from noria.primitives.keys import bls_verify
from noria.primitives.rlp import integer_to_bytes
from noria.primitives.types import (
    ADDRESS_BYTES,
    BLS_PUBLIC_KEY_BYTES,
    BLS_SIGNATURE_BYTES,
    HASH_BYTES,
    UINT64_MAX,
    UINT256_MAX,
    Address,
    BlsPublicKey,
    BlsSignature,
    Hash32,
    Wei,
)

ORIGIN_TAG: Final = b"noria/origin/1"
POSSESSION_TAG: Final = b"noria/pop/1"
PEER_ID_BYTES_MAX: Final = 64
BATCH_RECEIPTS_MAX: Final = 4096
UINT32_MAX: Final = 2**32 - 1
_T = TypeVar("_T")


def origin_root(name: str, chain_id: int, timestamp: int) -> Hash32:
    """Return what names a chain before its genesis is known.

    Parameters
    ----------
    name, chain_id
        Of the specification.
    timestamp
        Of genesis, Unix seconds.
    """
    return blake3(
        ORIGIN_TAG + rlp.encode([name.encode(), integer_to_bytes(chain_id), integer_to_bytes(timestamp)])
    )


def possession_message(root: bytes, miner: bytes, bls_key: bytes) -> bytes:
    """Return what a miner's BLS key signs to show that it is the miner's (protocol 5.1).

    ``"noria/pop/1" ‖ root ‖ miner ‖ bls_key``

    Parameters
    ----------
    root
        The genesis root; the origin for a miner of the specification.
    miner
        Its address.
    bls_key
        48 bytes.
    """
    return POSSESSION_TAG + root + miner + bls_key


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisMiner:
    """A miner that is registered before the first block (protocol 5.1)."""

    address: Address
    bls_key: BlsPublicKey
    proof_of_possession: BlsSignature
    """Over `possession_message` with the origin."""
    peer_id: bytes
    capacity: int
    """Fuel per epoch."""
    ask_price: int
    """Wei per fuel, at least."""
    bond: Wei
    grant: int = 0
    """Genesis weight, fuel (protocol 4.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisWork:
    """A batch of real receipts that is credited in full at genesis (protocol 3, 4.3).

    Its receipts carry the origin where later ones carry the genesis root.
    """

    miner: Address
    job: int
    k: int
    first_index: int
    count: int
    root: Hash32
    fuel: int
    weight: int


def check_miners(miners: Sequence[GenesisMiner], parameters: ChainParameters, origin: Hash32) -> None:
    """Refuse what `MinerRegistry` would refuse.

    Raises
    ------
    SpecError
        Where one could not have registered.
    """
    if len(miners) > parameters.miners_max:
        raise SpecError(f"miners: {len(miners)}, at most {parameters.miners_max} are allowed")
    _check_once("miners", (miner.address for miner in miners))
    _check_once("miners: bls_key", (miner.bls_key for miner in miners))
    for miner in miners:
        check_length("miners: address", miner.address, ADDRESS_BYTES, ADDRESS_BYTES)
        where = f"miners.{format_data(miner.address)}"
        check_length(f"{where}.bls_key", miner.bls_key, BLS_PUBLIC_KEY_BYTES, BLS_PUBLIC_KEY_BYTES)
        check_length(
            f"{where}.proof_of_possession",
            miner.proof_of_possession,
            BLS_SIGNATURE_BYTES,
            BLS_SIGNATURE_BYTES,
        )
        check_length(f"{where}.peer_id", miner.peer_id, 1, PEER_ID_BYTES_MAX)
        check_range(f"{where}.ask_price", miner.ask_price, 0, UINT256_MAX)
        check_range(f"{where}.grant", miner.grant, 0, UINT64_MAX)
        if not parameters.bond_min_wei <= miner.bond <= UINT256_MAX:
            raise SpecError(
                f"{where}.bond: {format_amount(miner.bond)} is below the least bond,"
                f" {format_amount(parameters.bond_min_wei)}"
            )
        covered = miner.bond // parameters.bond_per_capacity_wei
        check_range(f"{where}.capacity", miner.capacity, 0, covered, "the bond covers no more")
        message = possession_message(origin, miner.address, miner.bls_key)
        if not _signed(miner.bls_key, message, miner.proof_of_possession):
            raise SpecError(
                f"{where}.proof_of_possession: is not its BLS key's signature for this name, chain id and"
                " timestamp: sign again"
            )


def check_work(work: Sequence[GenesisWork], miners: Sequence[GenesisMiner]) -> None:
    """Refuse batches that nobody could have committed to.

    Whether the receipts behind a root are true is not for the specification to know: certificates show it, as
    for all work.

    Raises
    ------
    SpecError
        Where there is one.
    """
    known = {miner.address for miner in miners}
    _check_once("genesis_work: root", (batch.root for batch in work))
    following: dict[tuple[Address, int, int], int] = {}
    for batch in work:
        check_length("genesis_work: root", batch.root, HASH_BYTES, HASH_BYTES)
        where = f"genesis_work.{format_data(batch.root)}"
        if batch.miner not in known:
            raise SpecError(
                f"{where}.miner: {format_data(batch.miner)} is not among the miners: add it there"
            )
        check_range(f"{where}.job", batch.job, 0, UINT256_MAX)
        check_range(f"{where}.k", batch.k, 0, UINT32_MAX)
        check_range(f"{where}.count", batch.count, 1, BATCH_RECEIPTS_MAX)
        check_range(f"{where}.fuel", batch.fuel, 1, UINT64_MAX)
        check_range(f"{where}.weight", batch.weight, 1, batch.fuel, "a batch weighs no more than its fuel")
        series = (batch.miner, batch.job, batch.k)
        expected = following.get(series, 0)
        if batch.first_index != expected:
            raise SpecError(
                f"{where}.first_index: is {batch.first_index}, but the next receipt of this miner, job and k"
                f" is {expected}"
            )
        following[series] = expected + batch.count


# ---------------------------------------------------------------- the file


class _MinerDocument(msgspec.Struct, forbid_unknown_fields=True):
    address: str
    bls_key: str
    proof_of_possession: str
    peer_id: str
    capacity: int
    ask_price: str
    bond: str
    grant: int = 0


class _WorkDocument(msgspec.Struct, forbid_unknown_fields=True):
    miner: str
    job: int
    k: int
    first_index: int
    count: int
    root: str
    fuel: int
    weight: int


def read_miners(raw: Sequence[object]) -> tuple[GenesisMiner, ...]:
    """Read the miners of a specification file; raise `SpecError`."""
    miners = []
    for i, value in enumerate(raw):
        where = f"miners[{i}]"
        document = _convert(where, value, _MinerDocument)
        miners.append(
            GenesisMiner(
                address=read_address(f"{where}.address", document.address),
                bls_key=BlsPublicKey(read_bytes(f"{where}.bls_key", document.bls_key, BLS_PUBLIC_KEY_BYTES)),
                proof_of_possession=BlsSignature(
                    read_bytes(
                        f"{where}.proof_of_possession", document.proof_of_possession, BLS_SIGNATURE_BYTES
                    )
                ),
                peer_id=read_bytes(f"{where}.peer_id", document.peer_id),
                capacity=document.capacity,
                ask_price=read_amount(f"{where}.ask_price", document.ask_price),
                bond=read_amount(f"{where}.bond", document.bond),
                grant=document.grant,
            )
        )
    return tuple(miners)


def read_work(raw: Sequence[object]) -> tuple[GenesisWork, ...]:
    """Read the genesis work of a specification file; raise `SpecError`."""
    work = []
    for i, value in enumerate(raw):
        where = f"genesis_work[{i}]"
        document = _convert(where, value, _WorkDocument)
        work.append(
            GenesisWork(
                miner=read_address(f"{where}.miner", document.miner),
                job=document.job,
                k=document.k,
                first_index=document.first_index,
                count=document.count,
                root=Hash32(read_bytes(f"{where}.root", document.root, HASH_BYTES)),
                fuel=document.fuel,
                weight=document.weight,
            )
        )
    return tuple(work)


def read_parameters(raw: dict[str, Any]) -> ChainParameters:
    """Read the parameters of a file: every one, amounts as in ``"4000 NOR"``; raise `SpecError`."""
    names = ChainParameters.__slots__
    for name in raw:
        if name not in names:
            raise SpecError(f"parameters: unknown field {name!a}")
    values: dict[str, int] = {}
    for name in names:
        if name not in raw:
            raise SpecError(f"parameters: missing field {name!a}")
        value = raw[name]
        if name.endswith("_wei") and isinstance(value, str):
            value = read_amount(f"parameters.{name}", value)
        values[name] = value
    try:
        return ChainParameters(**values)
    except ValueError as error:
        raise SpecError(f"parameters.{error}") from error


def file_parameters(parameters: ChainParameters) -> dict[str, Any]:
    """Return parameters as a file writes them."""
    values: dict[str, Any] = {name: getattr(parameters, name) for name in ChainParameters.__slots__}
    return {name: format_amount(value) if name.endswith("_wei") else value for name, value in values.items()}


def file_miner(miner: GenesisMiner) -> dict[str, Any]:
    """Return a miner as a file writes it."""
    return {
        "address": format_data(miner.address),
        "bls_key": format_data(miner.bls_key),
        "proof_of_possession": format_data(miner.proof_of_possession),
        "peer_id": format_data(miner.peer_id),
        "capacity": miner.capacity,
        "ask_price": format_amount(miner.ask_price),
        "bond": format_amount(miner.bond),
        "grant": miner.grant,
    }


def file_work(work: GenesisWork) -> dict[str, Any]:
    """Return a batch as a file writes it."""
    return {
        "miner": format_data(work.miner),
        "job": work.job,
        "k": work.k,
        "first_index": work.first_index,
        "count": work.count,
        "root": format_data(work.root),
        "fuel": work.fuel,
        "weight": work.weight,
    }


@lru_cache(maxsize=1024)
def _signed(bls_key: bytes, message: bytes, signature: bytes) -> bool:
    """Remember the answer: equal specifications are made again and again in one process."""
    return bls_verify(bls_key, message, signature)


def _check_once(where: str, values: Iterable[bytes]) -> None:
    seen: set[bytes] = set()
    for value in values:
        if value in seen:
            raise SpecError(f"{where}: {format_data(value)} stands twice: keep one")
        seen.add(value)


def _convert(where: str, value: object, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(value, type=kind)
    except msgspec.ValidationError as error:
        raise SpecError(f"{where}: {error}") from error
