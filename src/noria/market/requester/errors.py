"""Why a unit has no result: named, and with what to do."""

from __future__ import annotations

from typing import Final

OPENING_MAY_COME: Final = (
    "no block has taken the job's opening yet, and it may still come: the next job, or `noria job cancel`, "
    "then ends it and brings the budget back"
)


class JobError(Exception):
    """A job, or a unit of it, came to nothing; base of the errors below."""


class NotFunded(JobError):
    """The account has less than the budget and the fees."""


class JobNotOpened(JobError):
    """The job could not be opened: the contract refused, or no block took the transaction."""


class OpeningOverdue(JobNotOpened):
    """No block has taken the transaction that opens the job in time. It may still come."""


class NoMiners(JobError):
    """No miner could be drawn at this price."""


class BudgetSpent(JobError):
    """The budget is used up."""


class JobClosed(JobError):
    """The job is over, by its deadline or because it was cancelled elsewhere."""


class NoAgreement(JobError):
    """Miners gave different results, and nobody is left to decide."""


class NoMachine(JobError):
    """No miner could run the unit; nothing is known about it."""


class JobStalled(JobError):
    """Nothing has happened for as long as the user waits, and nobody is there who could do anything."""


class UnitRefused(JobError):
    """Every miner refused the unit: its input or its fuel limit is larger than they take."""
