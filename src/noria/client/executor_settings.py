"""What users say of a job, read and checked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from noria.market.requester import confidence as guarantee
from noria.primitives.amounts import parse_amount
from noria.primitives.types import Wei

REPLICAS: Final = 2


def chosen(
    replicas: int | None, wanted: float | None, sample: float | None, liars: float
) -> guarantee.Choice:
    """Return how results are checked; raise `ValueError` where that makes no sense."""
    if wanted is not None:
        if replicas is not None or sample is not None:
            raise ValueError("confidence chooses replicas and sample: give one or the other")
        return guarantee.choose(wanted, liars=liars, replicas_min=REPLICAS)
    return guarantee.evaluate(REPLICAS if replicas is None else replicas, sample or 0.0, liars)


def amount_of(name: str, value: str | int) -> Wei:
    """Read an amount of money; raise `ValueError` where it is none."""
    amount = parse_amount(value) if isinstance(value, str) else Wei(value)
    if amount <= 0:
        raise ValueError(f"{name} must be above 0, not {value}")
    return amount


def program_name() -> str:
    """Return what the user's program is called."""
    return Path(sys.argv[0]).name[:100] if sys.argv and sys.argv[0] else "interactive"
