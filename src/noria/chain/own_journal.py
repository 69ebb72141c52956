"""What this node has signed, on the disk before anybody sees it (protocol 4.7, invariant 6).

One small file, replaced as a whole. A node that cannot write it signs nothing.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

from noria.consensus.votes import SIGNED_VOTE_BYTES_MAX, SignedVote, decode_signed_vote, encode_signed_vote
from noria.consensus.voting import OwnRecord, record_proposal, record_vote
from noria.consensus.wire import InvalidMessage, Reader, integer_to_bytes
from noria.primitives import rlp
from noria.primitives.hashes import blake3
from noria.primitives.types import ADDRESS_BYTES, HASH_BYTES, Address, Hash32

JOURNAL_TAG: Final = b"noria/journal/1"
JOURNAL_BYTES_MAX: Final = SIGNED_VOTE_BYTES_MAX + 256


class JournalError(Exception):
    """The journal cannot be used, so that nothing may be signed; the message says what to do."""


class JournalDamaged(JournalError):
    """The file is not what was written."""


class JournalForeign(JournalError):
    """The file is another miner's, or of another chain."""


class OwnJournal:
    """The record of one miner on one chain. Votes and proposals may come from different threads.

    Parameters
    ----------
    path
        The file.
    genesis_root, miner
        Whose record.
    new_from
        First slot and epoch for which anything may be signed where there is no file: what was signed before
        is not known then.

    Attributes
    ----------
    record
        What has been signed so far.
    last_vote
        The last vote with its signature, to be sent again after a restart.
    first_vote_epoch
        No vote for an earlier target may be signed.

    Raises
    ------
    JournalDamaged, JournalForeign
        Where the file is not this miner's.
    JournalError
        Where it cannot be read or written.
    """

    def __init__(
        self, path: Path, genesis_root: Hash32, miner: Address, *, new_from: tuple[int, int] = (0, 0)
    ) -> None:
        self._path, self._genesis_root, self._miner = path, genesis_root, miner
        self.record = OwnRecord()
        self.last_vote: SignedVote | None = None
        self.first_vote_epoch = 0
        # Held from reading the record until it is replaced: each entry contains all that came before it.
        self._lock = threading.Lock()
        try:
            data = path.read_bytes() if path.exists() else None
        except OSError as error:
            raise JournalError(f"{path} cannot be read: {error.strerror}") from error
        if data is not None:
            self._read(data)
            return
        slot, self.first_vote_epoch = new_from
        self._write(replace(self.record, proposed_slot=max(slot - 1, 0)), None)

    @property
    def is_new(self) -> bool:
        """Whether it has no vote, and began when there may have been votes already."""
        return self.last_vote is None and self.first_vote_epoch > 0

    def propose(self, slot: int) -> None:
        """Note that a block of a slot is about to be signed.

        Raises
        ------
        WouldBeSlashable
            Where one for this slot or a later one may have been signed.
        JournalError
            Where it cannot be written: sign nothing.
        """
        with self._lock:
            self._write(record_proposal(self.record, slot), self.last_vote)

    def vote(self, vote: SignedVote) -> None:
        """Note a vote that is about to be sent.

        Raises
        ------
        WouldBeSlashable
            Where it contradicts one that was sent before.
        JournalError
            Where it cannot be written: send nothing.
        """
        with self._lock:
            self._write(record_vote(self.record, vote.vote), vote)

    def _read(self, data: bytes) -> None:
        try:
            reader = Reader.open(data, "journal", max_bytes=JOURNAL_BYTES_MAX)
            tag = reader.blob("tag", max_bytes=len(JOURNAL_TAG))
            root = reader.fixed("genesis_root", HASH_BYTES)
            miner = reader.fixed("miner", ADDRESS_BYTES)
            source, proposed = reader.integer("source_epoch", 64), reader.integer("proposed_slot", 64)
            first = reader.integer("first_vote_epoch", 64)
            vote = reader.blob("vote", max_bytes=SIGNED_VOTE_BYTES_MAX)
            check = reader.fixed("check", HASH_BYTES)
            reader.close()
            last = decode_signed_vote(vote) if vote else None
        except InvalidMessage as error:
            raise JournalDamaged(f"{self._path} is damaged ({error}): {_ADVICE}") from error
        if tag != JOURNAL_TAG or check != blake3(data[:-HASH_BYTES]):
            raise JournalDamaged(f"{self._path} is damaged: {_ADVICE}")
        if root != self._genesis_root or miner != self._miner:
            raise JournalForeign(
                f"{self._path} is the journal of miner 0x{miner.hex()} on chain 0x{root.hex()}, not of"
                f" 0x{self._miner.hex()} on 0x{self._genesis_root.hex()}: use another folder"
            )
        self.record = OwnRecord(last.vote if last else None, source, proposed)
        self.last_vote, self.first_vote_epoch = last, first

    def _write(self, record: OwnRecord, vote: SignedVote | None) -> None:
        fields: list[rlp.RlpItem] = [
            JOURNAL_TAG,
            self._genesis_root,
            self._miner,
            integer_to_bytes(record.source_epoch),
            integer_to_bytes(record.proposed_slot),
            integer_to_bytes(self.first_vote_epoch),
            encode_signed_vote(vote) if vote else b"",
        ]
        # The check covers everything before it, list prefix included.
        unchecked = rlp.encode([*fields, bytes(HASH_BYTES)])[:-HASH_BYTES]
        partial = self._path.with_name(self._path.name + ".partial")
        try:
            with partial.open("wb") as file:
                file.write(unchecked + blake3(unchecked))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise JournalError(
                f"{self._path} cannot be written: {error.strerror}; nothing is signed"
            ) from error
        self.record, self.last_vote = record, vote


_ADVICE: Final = (
    "restore it from this machine, or remove it and let the miner miss an epoch before it votes again"
)
