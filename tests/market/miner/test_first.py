from __future__ import annotations

from noria.work.ids import ProgramId
from tests.market.miner.world import PRICE, Boss, Miner


async def test_a_unit_goes_out_and_its_result_comes_back(miner: Miner, echo: ProgramId) -> None:
    miner.chain.open(program=echo)
    boss = Boss(miner, echo)
    welcome = await boss.hello()
    assert welcome.next_index == 0
    assert await boss.order(boss.unit(1, b"hello"), allow=10**12) == []
    await boss.collect_all(1)
    assert boss.results[1].output == b"hello"
    assert int(boss.last.earned) == boss.results[1].fuel * PRICE  # type: ignore[union-attr]
