"""Fees, rewards and the share of certificates that is checked."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.consensus.parameters import DEVNET
from noria.consensus.rewards import FeeSplit, block_reward, protocol_fee, split_fee, subsidy
from noria.consensus.sampling import CERTAIN, check_chance

amounts = st.integers(0, 2**100)


@pytest.mark.parametrize(("price", "fee"), [(0, 0), (19, 0), (20, 1), (1000, 50), (1019, 50)])
def test_the_fee_is_five_percent(price: int, fee: int) -> None:
    assert protocol_fee(DEVNET, price) == fee


@pytest.mark.parametrize(("fee", "burned", "pool"), [(0, 0, 0), (1, 1, 0), (2, 1, 1), (101, 51, 50)])
def test_half_is_burned_and_half_pays_blocks(fee: int, burned: int, pool: int) -> None:
    assert split_fee(fee) == FeeSplit(burned, pool)


def test_a_block_earns_its_part_of_the_pool() -> None:
    assert block_reward(DEVNET, 6400) == 100
    assert block_reward(DEVNET, 63) == 0


@pytest.mark.parametrize(
    ("vault", "fees", "paid"),
    [(2**14 * 10, 1000, 10), (2**14 * 1000, 100, 25), (2**14 - 1, 100, 0), (2**50, 3, 0)],
)
def test_the_subsidy_is_bounded_by_vault_and_users(vault: int, fees: int, paid: int) -> None:
    assert subsidy(vault, fees) == paid


@given(amounts, st.integers(1, 200))
def test_no_wei_is_made_or_lost(fees: int, blocks: int) -> None:
    vault, pool, paid, burned = 10 * fees, 0, 0, 0
    for _ in range(blocks % 7):
        split, extra = split_fee(fees), subsidy(vault, fees)
        assert 4 * extra <= fees
        vault, pool, burned = vault - extra, pool + split.pool + extra, burned + split.burned
        reward = block_reward(DEVNET, pool)
        assert 0 <= reward <= pool
        pool, paid = pool - reward, paid + reward
    assert vault + pool + paid + burned == 10 * fees + (blocks % 7) * fees
    assert vault >= 0


def test_everything_is_checked_where_there_is_time() -> None:
    # 5 % of 16 s are 800 ms.
    assert check_chance(DEVNET, certificates_per_epoch=8, mean_run_milliseconds=100) == CERTAIN
    assert check_chance(DEVNET, certificates_per_epoch=16, mean_run_milliseconds=100) == CERTAIN // 2
    assert check_chance(DEVNET, certificates_per_epoch=0, mean_run_milliseconds=100) == CERTAIN


@given(st.integers(1, 2000), st.integers(1, 10**5), st.integers(1, 100))
def test_checking_stays_within_its_share_and_uses_it(certificates: int, run: int, share: int) -> None:
    parameters = replace(DEVNET, verify_share_percent=share)
    chance = check_chance(parameters, certificates_per_epoch=certificates, mean_run_milliseconds=run)
    budget = Fraction(16_000 * share, 100)
    spent = Fraction(chance, CERTAIN) * certificates * run
    assert spent <= budget
    if chance < CERTAIN:
        assert Fraction(chance + 1, CERTAIN) * certificates * run > budget
