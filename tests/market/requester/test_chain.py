"""A requester's transactions: what is known of an opening when the wait for it ends."""

from typing import Any

import pytest

from noria.market.access import CallReverted, ChainAccessError, TransactionRefused
from noria.market.requester.chain import JobChain, JobPlan
from noria.market.requester.errors import JobNotOpened, OpeningOverdue
from noria.market.sending import TransactionOverdue
from noria.primitives.types import NOR, Address, Wei
from noria.work.ids import ProgramId
from tests.market.requester.fakes import PRICE, PROGRAM, key_of

PLAN = JobPlan(
    program=ProgramId(PROGRAM),
    details=b"",
    budget=Wei(NOR),
    share=Wei(NOR // 4),
    max_price=PRICE,
    miners=2,
    replicas=2,
    public=True,
)


class Access:
    async def balance(self, account: Address) -> Wei:
        return Wei(2 * NOR)


class Sender:
    def __init__(self, error: ChainAccessError) -> None:
        self.address, self.error = key_of(1).address, error

    async def send_call(self, *_: Any, **__: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "may_come"),
    [
        (CallReverted("no"), False),
        (TransactionRefused("no money"), False),
        (TransactionOverdue("transaction 0x12 (nonce 5) is in no block in time"), True),
    ],
)
async def test_an_opening_that_may_still_come_is_told_from_one_that_was_refused(
    error: ChainAccessError, may_come: bool
) -> None:
    access: Any = Access()
    with pytest.raises(JobNotOpened) as caught:
        await JobChain(access, Sender(error)).open(PLAN, key_of(2).address)
    assert isinstance(caught.value, OpeningOverdue) is may_come
    assert ("may still come" in str(caught.value)) is may_come
    assert str(error) in str(caught.value)
