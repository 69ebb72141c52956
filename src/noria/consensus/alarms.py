"""Alarms: a snapshot miner's signed hint that a block's certificate is a lie (protocol 4.5).

It proves nothing; it moves the check of that block to the front of a node's queue. So that this costs a liar
more than those who listen, each signer has one alarm outstanding, and who was wrong is not listened to for a
time: each node decides so for itself, by what its own checks have shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from noria.consensus.parameters import ChainParameters
from noria.consensus.signatures import SignatureScheme
from noria.consensus.votes import UnknownVoter, WrongVoteSignature
from noria.consensus.weight import Snapshot
from noria.consensus.wire import Reader
from noria.primitives import rlp
from noria.primitives.types import (
    ADDRESS_BYTES,
    BLS_SIGNATURE_BYTES,
    HASH_BYTES,
    Address,
    BlsSignature,
    Hash32,
)

ALARM_TAG: Final = b"noria/alarm/1"
ALARM_BYTES_MAX: Final = HASH_BYTES + ADDRESS_BYTES + BLS_SIGNATURE_BYTES + 8
ALARMISTS_MAX: Final = 4096
"""Signers whose alarms are outstanding, and as many that are ignored."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Alarm:
    """Who warns of which block."""

    block_root: Hash32
    miner: Address
    signature: BlsSignature


@dataclass(frozen=True, slots=True)
class AlarmRecord:
    """What a node remembers of those who warn (protocol 4.5).

    Attributes
    ----------
    outstanding
        The block of each signer's alarm that led to a check and is not settled.
    ignored
        The epoch from which on a signer that was wrong is listened to again.
    """

    outstanding: Mapping[Address, Hash32] = field(default_factory=dict)
    ignored: Mapping[Address, int] = field(default_factory=dict)


def alarm_message(genesis_root: Hash32, block_root: Hash32) -> bytes:
    """Return what who warns signs (protocol 4.5)."""
    return ALARM_TAG + genesis_root + block_root


def check_alarm(scheme: SignatureScheme, genesis_root: Hash32, snapshot: Snapshot, alarm: Alarm) -> None:
    """Check who warns (protocol 4.5).

    Raises
    ------
    UnknownVoter, WrongVoteSignature
        Where that is no miner with weight, or not its signature.
    """
    row = snapshot.row(alarm.miner)
    if row is None:
        raise UnknownVoter(f"miner 0x{alarm.miner.hex()} has no weight in epoch {snapshot.epoch}")
    if not scheme.verify(row.bls_key, alarm_message(genesis_root, alarm.block_root), alarm.signature):
        raise WrongVoteSignature(f"the alarm's signature is not that of miner 0x{alarm.miner.hex()}")


def why_unheard(
    record: AlarmRecord, alarm: Alarm, epoch: int, is_pending: Callable[[Hash32], bool]
) -> str | None:
    """Return why an alarm is not to be looked into, `None` if it is (protocol 4.5).

    Parameters
    ----------
    record
        The node's.
    alarm
        What has come.
    epoch
        That it is now.
    is_pending
        Whether a block's check waits or runs. What is no longer about to be checked may never be settled:
        that must not mute whoever warned of it.
    """
    name = "0x" + alarm.miner.hex()
    if record.ignored.get(alarm.miner, 0) > epoch:
        return f"{name} has raised a false alarm"
    about = record.outstanding.get(alarm.miner, alarm.block_root)
    if about != alarm.block_root and is_pending(about):
        return f"an alarm of {name} is outstanding"
    return None


def record_alarm(record: AlarmRecord, alarm: Alarm) -> AlarmRecord:
    """Return the record after an alarm whose block is to be checked (protocol 4.5)."""
    return replace(record, outstanding=_with(record.outstanding, [(alarm.miner, alarm.block_root)]))


def record_false(
    parameters: ChainParameters, record: AlarmRecord, miners: Iterable[Address], epoch: int
) -> AlarmRecord:
    """Return the record after alarms that were found to be false in an epoch (protocol 4.5)."""
    until = epoch + parameters.leak_epochs
    return replace(record, ignored=_with(record.ignored, [(miner, until) for miner in miners]))


def record_check(
    parameters: ChainParameters, record: AlarmRecord, block_root: Hash32, *, is_right: bool, epoch: int
) -> tuple[AlarmRecord, tuple[Address, ...]]:
    """Return the record after a block's check, and whose alarms it shows to be false (protocol 4.5).

    Parameters
    ----------
    parameters
        The chain's.
    record
        The node's.
    block_root
        What was checked.
    is_right
        Whether its certificate is right; not so where it is refuted, or could not be decided.
    epoch
        That it is now.
    """
    about = tuple(miner for miner, root in record.outstanding.items() if root == block_root)
    if not about:
        return record, ()
    rest = {miner: root for miner, root in record.outstanding.items() if root != block_root}
    record = replace(record, outstanding=rest)
    return (record_false(parameters, record, about, epoch), about) if is_right else (record, ())


def encode_alarm(alarm: Alarm) -> bytes:
    """Return an alarm's RLP: block root, miner, signature."""
    return rlp.encode([alarm.block_root, alarm.miner, alarm.signature])


def decode_alarm(data: bytes) -> Alarm:
    """Read an alarm.

    Raises
    ------
    InvalidMessage
        Where the bytes are none.
    """
    reader = Reader.open(data, "alarm", max_bytes=ALARM_BYTES_MAX)
    alarm = Alarm(
        Hash32(reader.fixed("block_root", HASH_BYTES)),
        Address(reader.fixed("miner", ADDRESS_BYTES)),
        BlsSignature(reader.fixed("signature", BLS_SIGNATURE_BYTES)),
    )
    reader.close()
    return alarm


def _with(entries: Mapping[Address, T], new: Iterable[tuple[Address, T]]) -> Mapping[Address, T]:
    """Add entries; where there are too many the oldest go."""
    found = {**entries, **dict(new)}
    for miner in list(found)[: max(0, len(found) - ALARMISTS_MAX)]:
        del found[miner]
    return found
