"""What a job is run with."""

from __future__ import annotations

from dataclasses import dataclass

from noria.market.requester.chain import JobPlan
from noria.market.requester.checks import ClaimRules
from noria.market.requester.patience import PATIENCE_SECONDS
from noria.market.typed_data import Domain
from noria.primitives.keys import PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSetting:
    """What a job is run with.

    Attributes
    ----------
    plan
        As it is opened.
    sample
        Share of the units that this machine runs, too.
    session_key
        Made for this job.
    domain, rules
        For signatures and receipts.
    protocol
        Name of the work protocol.
    title, node
        For people.
    patience
        Seconds without any progress, or anybody who could make some, after which waiting units fail.
    module
        The program, where miners must be brought it.
    """

    plan: JobPlan
    sample: float
    session_key: PrivateKey
    domain: Domain
    rules: ClaimRules
    protocol: str
    title: str = ""
    node: str = ""
    patience: float = PATIENCE_SECONDS
    module: bytes | None = None
