"""What is written down of one job while it runs: where it stands, its receipts, and who has lied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from noria.market.requester.evidence import Settled, SignedReceipt
from noria.market.requester.job_setting import JobSetting
from noria.market.requester.journal import JobJournal, StoredBan
from noria.market.requester.reasons import JobView
from noria.primitives.types import Address

NOTE_SECONDS: Final = 0.5


class JobRecord:
    """One job's part of the journal.

    Parameters
    ----------
    journal
        Where it is noted; None for nowhere.
    setting, requester
        The job's.
    clock
        Seconds.
    """

    def __init__(
        self, journal: JobJournal | None, setting: JobSetting, requester: Address, clock: Callable[[], float]
    ) -> None:
        self.is_asked_to_close = False
        """Whether another process has asked to end the job."""
        self._journal, self._setting, self._requester = journal, setting, requester
        self._clock = clock
        self._row: int | None = None
        self._receipts: list[tuple[SignedReceipt, bytes]] = []
        self._noted_at = 0.0

    def begin(self) -> None:
        """Note that the job is about to be opened."""
        setting = self._setting
        if self._journal is not None:
            self._row = self._journal.create(
                setting.domain.genesis_root,
                self._requester,
                setting.session_key.secret,
                title=setting.title,
                node=setting.node,
                budget=setting.plan.budget,
            )

    def opening(self, *, nonce: int, block: int) -> None:
        """Note that its opening is about to be sent, with this nonce or a later one, after this block."""
        if self._journal is not None and self._row is not None:
            self._journal.note_opening(self._row, nonce=nonce, block=block)

    def keep(self, settled: Settled) -> None:
        """Keep the receipts of a unit; they are written with the next note."""
        if self._journal is not None:
            self._receipts.extend((signed, settled.log) for signed in settled.replicas)

    def note(self, look: Callable[[], JobView], *, force: bool = False) -> None:
        """Write down where the job stands, if that was not just done."""
        now = self._clock()
        if self._journal is None or self._row is None or (not force and now - self._noted_at < NOTE_SECONDS):
            return
        self._noted_at = now
        receipts, self._receipts = self._receipts, []
        if receipts:
            self._journal.add_receipts(self._row, receipts)
        view = look()
        wants_close = self._journal.update(
            self._row, number=view.job, state=view.state, view=msgspec.json.encode(view)
        )
        self.is_asked_to_close = self.is_asked_to_close or wants_close

    def leave(self, look: Callable[[], JobView]) -> None:
        """Write down where the job stands, and leave what is not over to others."""
        self.note(look, force=True)
        if self._journal is not None and self._row is not None:
            self._journal.release(self._row)

    def ban(self, miner: Address, reason: str) -> None:
        """Note that a miner lied."""
        if self._journal is not None:
            self._journal.ban(self._setting.domain.genesis_root, miner, reason)

    def bans(self) -> Mapping[Address, StoredBan]:
        """Return who is banned now."""
        return {} if self._journal is None else self._journal.bans(self._setting.domain.genesis_root)
