"""What users say of a job, read and checked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypedDict

from noria.client.programs import GivenProgram
from noria.client.session import SessionSettings
from noria.client.wallet import Wallet
from noria.market.contracts import MINERS_MAX
from noria.market.requester import confidence as guarantee
from noria.market.requester.patience import PATIENCE_SECONDS
from noria.primitives.amounts import parse_amount
from noria.primitives.types import FUEL_MAX, Address, Wei
from noria.work.runtimes import Runtime

REPLICAS: Final = 2
MINERS_MIN: Final = 4


class JobOptions(TypedDict, total=False):
    """What may be said of any job; `noria.client.network_executor.Executor` tells what each means."""

    node: str | None
    replicas: int | None
    confidence: float | None
    liars: float
    sample: float | None
    max_price: str | int | None
    miners: int | Sequence[Address] | None
    deadline: float | None
    patience: float
    fuel_limit: int | None
    wallet: Wallet | None
    public: bool
    title: str


def settings_of(
    budget: str | int,
    options: JobOptions,
    *,
    program: GivenProgram | None = None,
    runtime: Runtime | None = None,
    tells_waits: bool,
) -> SessionSettings:
    """Read what a user said of a job; raise `ValueError` where it makes no sense."""
    fuel_limit, miners = options.get("fuel_limit"), options.get("miners")
    deadline, max_price = options.get("deadline"), options.get("max_price")
    patience = options.get("patience", PATIENCE_SECONDS)
    if fuel_limit is not None and not 0 < fuel_limit <= FUEL_MAX:
        raise ValueError(f"fuel_limit must be 1 to {FUEL_MAX}, not {fuel_limit}")
    choice = chosen(
        options.get("replicas"),
        options.get("confidence"),
        options.get("sample"),
        options.get("liars", guarantee.LIARS),
    )
    named = () if miners is None or isinstance(miners, int) else tuple(miners)
    count = miners if isinstance(miners, int) else len(named) or max(MINERS_MIN, choice.replicas + 1)
    if not choice.replicas <= count <= MINERS_MAX:
        raise ValueError(
            f"miners must be {choice.replicas} to {MINERS_MAX} for {choice.replicas} replicas, not {count}"
        )
    if deadline is not None and deadline <= 0:
        raise ValueError(f"deadline must be above 0 seconds from now, not {deadline}")
    if not patience > 0:
        raise ValueError(f"patience must be above 0 seconds, not {patience}")
    return SessionSettings(
        budget=amount_of("budget", budget),
        node=options.get("node"),
        choice=choice,
        max_price=None if max_price is None else amount_of("max_price", max_price),
        miners=count,
        named=named,
        deadline_seconds=deadline,
        runtime=runtime,
        wallet=options.get("wallet"),
        public=options.get("public", True),
        title=options.get("title") or program_name(),
        program=program,
        patience_seconds=patience,
        tells_waits=tells_waits,
    )


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
