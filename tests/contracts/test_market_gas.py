"""What the market costs, and with it a unit of work: as ``docs/system-contracts.md`` says."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.market import contracts as calls
from noria.market.contracts import LIST_MAX
from noria.primitives.types import GWEI, NOR
from tests.contracts.market import (
    CHALLENGE,
    CLOSE,
    PROGRAM,
    SESSION,
    STRANGER,
    Made,
    Market,
    made,
    market_spec,
)
from tests.contracts.network import SMALL, genesis_miner
from tests.contracts.test_gas import DOCUMENT, committed

MINERS = 6
SHARE = 10**9
UNITS = (1, 100, 4096)


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    """Accounts that mine, in epochs that are longer than the measurement."""
    parameters = dataclasses.replace(SMALL, epoch_slots=512)
    spec = market_spec(parameters=parameters)
    miners = tuple(genesis_miner(number) for number in range(MINERS))
    market = Market.start(tmp_path / "engine", dataclasses.replace(spec, miners=miners))
    yield market
    market.network.engine.close()


def measure(market: Market) -> dict[str, int]:
    """Every row of the table: whole transactions, in the steady state of contracts that are in use."""
    found: dict[str, int] = {}

    def note(name: str, batches: int = 1) -> None:
        found[name] = -(-market.gas["last"] // batches)

    market.publish(3)
    note("publish a program")
    warm_up(market)
    market.open(program_id=PROGRAM, value=10 * SHARE, share=SHARE)
    note("open a job, with royalty")
    job = market.open(value=10 * SHARE, share=SHARE)
    note("open a job")
    market.pass_blocks(1)
    miner = market.assign(job)[0]
    note("assign 3 miners")
    market.request(calls.extend_call(job, SHARE))
    note("extend by a miner")
    market.request(calls.raise_cap_call(job, 1, 5))
    note("raise a cap")

    batches = [made(number, count=4096, first_index=4096 * number) for number in range(2 * LIST_MAX + 3)]
    alone, many = batches[:3], batches[3:]
    market.commit(job, 0, miner, alone[0], SHARE)
    note("commit, first batch of a place")
    market.commit(job, 0, miner, alone[1], SHARE)
    note("commit")
    market.commit_approved(job, 0, miner, alone[2])
    note("commit approved and paid")
    market.approve(job, 0, [alone[0]])
    note("approve")
    for batch in many:
        market.commit(job, 0, miner, batch, SHARE)
    market.approve(job, 0, many[:LIST_MAX])
    note("approve, per batch of 64", LIST_MAX)
    market.pass_blocks(CHALLENGE)
    market.finalize(job, 0, [alone[1]])
    note("finalize")
    market.finalize(job, 0, many[LIST_MAX:])
    note("finalize, per batch of 64", LIST_MAX)
    market.credit(job, 0, [alone[0]])
    market.credit(job, 0, [alone[1]])
    note("credit")
    market.credit(job, 0, many[:LIST_MAX])
    note("credit, per batch of 64", LIST_MAX)
    market.request(calls.close_call(job))
    note("close")
    market.pass_blocks(CLOSE)
    market.request(calls.refund_call(job), sender=STRANGER)
    note("refund, 4 places")
    return found


def warm_up(market: Market) -> None:
    """Let every contract have been used, and its counters be there."""
    job, miners = market.running(value=10 * SHARE, share=SHARE)
    batch = Made(b"\x01" * 32)
    market.commit_approved(job, 0, miners[0], batch)
    market.pass_blocks(CHALLENGE)
    market.credit(job, 0, [batch])
    assert any(SESSION.address)


def per_unit(rows: dict[str, int]) -> dict[int, tuple[int, str]]:
    """Gas and NOR of a unit, by units in a batch: approved, paid and, with 63 others, credited."""
    batch = rows["commit approved and paid"] + rows["credit, per batch of 64"]
    costs = {}
    for units in UNITS:
        gas = -(-batch // units)
        costs[units] = (gas, f"{gas * GWEI / NOR:.10f}")
    return costs


def test_gas_is_as_the_table_says(market: Market) -> None:
    assert measure(market) == committed("market gas")


def test_what_was_promised_is_kept() -> None:
    rows = committed("market gas")
    assert rows["open a job"] + rows["assign 3 miners"] <= 300_000
    assert rows["commit, first batch of a place"] <= 120_000
    assert rows["finalize, per batch of 64"] + rows["credit, per batch of 64"] <= 60_000
    assert rows["approve, per batch of 64"] + rows["credit, per batch of 64"] <= 60_000


def test_a_units_cost_follows_from_the_table() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text[text.index("<!-- unit cost -->") : text.index("<!-- /unit cost -->")]
    rows = re.findall(r"^\| ([\d,]+) +\| +([\d,]+) \| +([\d.]+) \|$", table, flags=re.M)
    found = {int(units.replace(",", "")): (int(gas.replace(",", "")), nor) for units, gas, nor in rows}
    assert found == per_unit(committed("market gas"))
