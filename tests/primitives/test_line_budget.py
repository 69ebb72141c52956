"""A log says what is wrong, and stays short however often somebody does it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from noria.primitives.line_budget import AT_ONCE, KINDS_MAX, SECONDS_EACH, LineBudget


def test_a_few_lines_at_once_then_one_now_and_then_which_says_how_many_were_left_out() -> None:
    budget = LineBudget()
    assert [budget.take("vote", 5.0) for _ in range(AT_ONCE + 3)] == [0] * AT_ONCE + [None] * 3
    assert budget.take("vote", 5.0 + SECONDS_EACH) == 3
    assert budget.take("vote", 5.0 + SECONDS_EACH) is None
    assert budget.take("alarm", 5.0) == 0


@given(st.lists(st.floats(0, 5), max_size=300))
def test_no_kind_has_more_lines_than_its_time_allows_and_all_are_counted(pauses: list[float]) -> None:
    budget, now = LineBudget(), 0.0
    found = []
    for pause in pauses:
        now += pause
        found.append(budget.take("x", now))
    written = [left_out for left_out in found if left_out is not None]
    assert len(written) <= AT_ONCE + now / SECONDS_EACH + 1e-6
    last = max((at for at, left_out in enumerate(found) if left_out is not None), default=-1)
    assert len(written) + sum(written) == last + 1


def test_kinds_take_no_more_than_so_much_memory() -> None:
    budget = LineBudget()
    for _ in range(AT_ONCE + 1):
        budget.take("first", 0.0)
    for number in range(KINDS_MAX):
        budget.take(str(number), 0.0)
    assert budget.take("first", 0.0) == 0
