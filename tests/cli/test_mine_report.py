"""What `noria mine` tells: each thing once, nothing that has not happened, amounts that can be read."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.cli.mine_report import Standing, Teller, changes, count_of, per_core_hour, short_money
from noria.market.miner.earnings import PlaceEarnings, Totals
from noria.primitives.amounts import parse_amount
from noria.primitives.types import NOR, Wei

PLACE = PlaceEarnings(
    job=7,
    k=2,
    state="open",
    receipts=0,
    fuel=0,
    weight=0,
    price=10**6,
    earned=Wei(0),
    committed=Wei(0),
    paid=Wei(0),
    credited=0,
    gas=Wei(0),
    opened=0,
)
TOTALS = Totals(jobs=1, fuel=0, earned=Wei(0), paid=Wei(0), credited=0, gas=Wei(0))


def standing(*places: PlaceEarnings, blocks: int = 0) -> Standing:
    return Standing({(place.job, place.k): place for place in places}, TOTALS, blocks, 0)


def names(before: Standing, after: Standing) -> list[str]:
    return [event for event, _, _ in changes(before, after)]


def test_the_life_of_a_job_is_told_step_by_step() -> None:
    nothing, drawn = standing(), standing(PLACE)
    worked = replace(PLACE, receipts=3, fuel=10**9, earned=Wei(NOR), committed=Wei(NOR), paid=Wei(NOR // 2))
    paid = replace(worked, paid=Wei(NOR), credited=5)
    over = replace(paid, state="ended")
    assert names(nothing, drawn) == ["job"]
    assert names(drawn, standing(worked)) == ["committed", "paid"]
    assert names(standing(worked), standing(paid)) == ["paid", "credited"]
    assert names(standing(paid), standing(over, blocks=2)) == ["ended", "block"]
    assert names(standing(over, blocks=2), standing(over, blocks=2)) == []
    [(_, text, values)] = changes(standing(worked), standing(replace(worked, paid=Wei(NOR))))
    assert (text, values) == ("job 7 has paid 0.5 NOR", {"job": 7, "k": 2, "wei": str(NOR // 2)})


def test_what_a_reorganisation_takes_back_is_not_told_as_earned() -> None:
    before = replace(PLACE, committed=Wei(NOR), paid=Wei(NOR))
    after = replace(PLACE, committed=Wei(0), paid=Wei(0), state="gone")
    assert names(standing(before), standing(after)) == ["gone"]
    assert names(standing(before), standing()) == []


@given(st.integers(0, 2**96))
def test_short_amounts_are_right_in_four_digits(wei: int) -> None:
    text = short_money(wei)
    assert abs(int(parse_amount(text)) - wei) * 2000 <= wei
    digits = text.split()[0].replace(".", "").strip("0")
    assert len(digits) <= 5


def test_prices_and_counts() -> None:
    assert per_core_hour(10**6) == "36 NOR per core-hour"
    assert (count_of(1, "unit"), count_of(1200, "unit")) == ("1 unit", "1,200 units")


def test_events_for_programs_and_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    Teller(as_json=True).say("paid", "job 7 has paid", wei="5")
    found = json.loads(capsys.readouterr().out)
    assert (found["event"], found["wei"]) == ("paid", "5")
    people = Teller(as_json=False)
    people.wait("sync", "catching\x1b[2J up")
    people.wait("sync", "catching\x1b[2J up")
    people.warn("a\nb")
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "catching?[2J up" in out
    assert err == "warning: a b\n"
