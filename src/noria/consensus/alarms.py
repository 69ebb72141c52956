"""Alarms: a snapshot miner's signed hint that a block's certificate is a lie (protocol 4.5).

It proves nothing; it moves the check of that block to the front of a node's queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True, slots=True)
class Alarm:
    """Who warns of which block."""

    block_root: Hash32
    miner: Address
    signature: BlsSignature


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
