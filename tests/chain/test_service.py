"""Transactions and heads: what the chain accepts, follows, gives back and tells."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import msgspec
import pytest

from noria._core import Engine, InvalidBlock, UnknownBlock, decode_transactions
from noria.chain.errors import ChainStopped, TransactionNotMined
from noria.chain.events import PendingEvent
from noria.chain.production import dev_attributes
from noria.chain.service import Chain, dev_limits
from noria.execution.accounts import DevAccount
from noria.execution.mempool import RejectedTransaction
from noria.execution.spec import ChainSpec, GenesisAccount
from noria.execution.system_contracts import block_start_calls
from noria.primitives.subscriptions import Subscription
from noria.primitives.types import Wei
from tests.chain.conftest import MakeChain, Wall
from tests.chain.transfers import GWEI, SINK, authorization_transaction, transfer, tx_hash


def kind(outcome: object) -> str:
    assert isinstance(outcome, RejectedTransaction)
    return outcome.kind


async def pending_hashes(pending: Subscription[PendingEvent], count: int) -> list[bytes]:
    hashes: list[bytes] = []
    while len(hashes) < count:
        hashes += [tx.hash for tx in (await pending.get()).transactions]
    return hashes


# ---------------------------------------------------------------- submitting


async def test_each_transaction_has_its_own_outcome(chain: Chain, dev_keys: list[DevAccount]) -> None:
    good = transfer(dev_keys[0], 0)
    bad = transfer(dev_keys[1], 0)
    raws = [
        good,
        b"",
        good[:-1],
        bad[:-3] + b"\xff" * 3,
        b"\x03" + good[1:],
        transfer(dev_keys[2], 0, chain_id=1),
        transfer(dev_keys[2], 0, gas=20_999),
        transfer(dev_keys[2], 0, gas=21_015, data=b"\x01"),
        transfer(dev_keys[2], 0, gas=36_000_001),
        transfer(dev_keys[2], 0, value=10**30),
        transfer(dev_keys[2], 0, fee=1, tip=2),
        transfer(DevAccount(dev_keys[0].address, b"\x77" * 32), 0),
        good,
        transfer(dev_keys[0], 0, value=5),
    ]
    outcomes = await chain.submit(raws)
    assert outcomes[0] == tx_hash(good)
    assert [kind(outcome) for outcome in outcomes[1:3]] == ["encoding"] * 2
    assert kind(outcomes[3]) in ("signature", "insufficient-funds", "encoding")
    assert [kind(outcome) for outcome in outcomes[4:]] == [
        "blob-unsupported",
        "chain-id",
        "intrinsic-gas",
        "intrinsic-gas",
        "gas-limit",
        "insufficient-funds",
        "tip-above-fee",
        "insufficient-funds",
        "already-known",
        "replacement-underpriced",
    ]
    assert len(chain.mempool) == 1


async def test_a_mined_nonce_is_too_low(chain: Chain, dev_keys: list[DevAccount]) -> None:
    await chain.submit([transfer(dev_keys[0], 0)])
    await chain.mine()
    (refused,) = await chain.submit([transfer(dev_keys[0], 0, value=2)])
    assert str(refused) == "nonce too low: next nonce 1, tx nonce 0"
    (again,) = await chain.submit([transfer(dev_keys[0], 0)])
    assert kind(again) == "nonce-too-low"


async def test_many_at_once_keep_their_order(chain: Chain, dev_keys: list[DevAccount]) -> None:
    raws = [transfer(account, nonce) for account in dev_keys[:5] for nonce in range(500)]
    raws.insert(1_300, b"\x02\xc0")
    outcomes = await chain.submit(raws)
    assert kind(outcomes.pop(1_300)) == "encoding"
    del raws[1_300]
    assert outcomes == [tx_hash(raw) for raw in raws]
    assert await chain.submit([]) == []


async def test_decoded_transactions_are_taken_as_they_are(chain: Chain, dev_keys: list[DevAccount]) -> None:
    decoded = decode_transactions([transfer(dev_keys[0], 0), b"\x01"])
    accepted, refused = await chain.submit_decoded(decoded)
    assert isinstance(accepted, bytes)
    assert accepted in chain.mempool
    assert kind(refused) == "encoding"


async def test_a_flood_is_refused_before_it_is_checked(chain: Chain, dev_keys: list[DevAccount]) -> None:
    outcomes = await chain.submit([b"\x02"] * 65_537)
    assert {kind(outcome) for outcome in outcomes} == {"pool-full"}
    outcomes = await chain.submit([bytes(2**20)] * 65)
    assert {kind(outcome) for outcome in outcomes} == {"pool-full"}
    outcomes = await chain.submit([bytes(2**20)] * 64)
    assert {kind(outcome) for outcome in outcomes} == {"type-unsupported"}
    (accepted,) = await chain.submit([transfer(dev_keys[0], 0)])
    assert isinstance(accepted, bytes)


async def test_pending_events_carry_what_became_executable(chain: Chain, dev_keys: list[DevAccount]) -> None:
    raws = [transfer(dev_keys[0], nonce) for nonce in range(4)]
    async with chain.events.subscribe_pending() as pending:
        await chain.submit([raws[2], raws[1]])
        await chain.submit([raws[0]])
        assert await pending_hashes(pending, 3) == [tx_hash(raw) for raw in raws[:3]]
        await chain.submit([raws[3]])
        assert await pending_hashes(pending, 1) == [tx_hash(raws[3])]


async def test_a_replacement_is_mined_instead(chain: Chain, dev_keys: list[DevAccount]) -> None:
    old, new = (
        transfer(dev_keys[0], 0, value=1),
        transfer(dev_keys[0], 0, value=2, fee=110 * GWEI, tip=2 * GWEI),
    )
    await chain.submit([old])
    waiting = asyncio.ensure_future(chain.wait_for_transaction(tx_hash(old), 60))
    await asyncio.sleep(0)
    assert await chain.submit([new]) == [tx_hash(new)]
    with pytest.raises(RejectedTransaction, match="replaced by 0x") as caught:
        await waiting
    assert caught.value.kind == "replaced"
    with pytest.raises(RejectedTransaction, match="replaced by 0x"):
        await chain.wait_for_transaction(tx_hash(old), 60)
    await chain.mine()
    assert chain.engine.account(chain.head.hash, SINK).balance == 2


async def test_a_gap_filled_later_is_mined_in_order(automining: Chain, dev_keys: list[DevAccount]) -> None:
    raws = [transfer(dev_keys[0], nonce) for nonce in range(3)]
    await automining.submit(raws[1:])
    assert automining.mempool.pending_nonce(dev_keys[0].address, 0) == 0
    await automining.submit(raws[:1])
    places = [await automining.wait_for_transaction(tx_hash(raw), 60) for raw in raws]
    assert [(place.block_number, place.index) for place in places] == [(1, 0), (1, 1), (1, 2)]


async def test_waiting_ends_in_time(chain: Chain, dev_keys: list[DevAccount]) -> None:
    raw = transfer(dev_keys[0], 0)
    await chain.submit([raw])
    with pytest.raises(TransactionNotMined, match=f"{tx_hash(raw).hex()} was not mined within 0.01 s"):
        await chain.wait_for_transaction(tx_hash(raw), 0.01)


async def test_old_gapped_transactions_expire(
    make_chain: MakeChain, spec: ChainSpec, engine: Engine, dev_keys: list[DevAccount], wall: Wall
) -> None:
    limits = msgspec.structs.replace(dev_limits(spec, engine.head), gapped_lifetime_seconds=100.0)
    chain = await make_chain(limits=limits, expiry_period_seconds=0.01)
    raw = transfer(dev_keys[0], 3)
    await chain.submit([raw])
    waiting = asyncio.ensure_future(chain.wait_for_transaction(tx_hash(raw), 60))
    wall.seconds += 101
    with pytest.raises(RejectedTransaction, match="expired after 100 s behind a nonce gap: nonce 0 never"):
        await waiting
    assert len(chain.mempool) == 0


# ---------------------------------------------------------------- what a build refuses


async def test_what_a_build_refuses_is_dropped_with_its_reason(
    automining: Chain, dev_keys: list[DevAccount]
) -> None:
    """A delegated account's nonce moves without a transaction of its own."""
    authority = dev_keys[1]
    # The delegation pays more and is mined first; it takes the authority's nonce 0.
    grant = authorization_transaction(dev_keys[0], 0, authority, 0)
    low = [transfer(authority, nonce, tip=0) for nonce in (0, 1)]
    await automining.submit([*low, grant])
    place = await automining.wait_for_transaction(tx_hash(grant), 60)
    assert place.block_number >= 1
    with pytest.raises(RejectedTransaction) as caught:
        await automining.wait_for_transaction(tx_hash(low[0]), 60)
    assert caught.value.kind in ("nonce-too-low", "superseded")
    await automining.wait_for_transaction(tx_hash(low[1]), 60)
    assert len(automining.mempool) == 0


async def test_a_sender_with_code_is_refused_and_the_chain_goes_on(
    tmp_path: Path, spec: ChainSpec, dev_keys: list[DevAccount]
) -> None:
    """EIP-3607: the pool does not read code, so the build must refuse it."""
    contract = GenesisAccount(balance=Wei(10**22), code=b"\x00")
    coded = dataclasses.replace(spec, alloc={**spec.alloc, dev_keys[0].address: contract})
    engine = Engine(str(tmp_path / "coded"), coded.engine_json(), sync=False)
    async with Chain(engine, coded) as chain:
        refused = [transfer(dev_keys[0], nonce) for nonce in (0, 1)]
        other = transfer(dev_keys[1], 0)
        await chain.submit([*refused, other])
        with pytest.raises(RejectedTransaction) as caught:
            await chain.wait_for_transaction(tx_hash(refused[0]), 60)
        assert caught.value.kind == "sender-not-eoa"
        await chain.wait_for_transaction(tx_hash(other), 60)
        assert chain.head.number == 1
    engine.close()


async def test_what_stood_behind_a_refused_one_waits_for_another(
    automining: Chain, dev_keys: list[DevAccount], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.execution.mempool_rules.check_intrinsic_gas", lambda *_, **__: None)
    broken, behind = transfer(dev_keys[0], 0, gas=20_000), transfer(dev_keys[0], 1)
    await automining.submit([broken, behind])
    with pytest.raises(RejectedTransaction) as caught:
        await automining.wait_for_transaction(tx_hash(broken), 60)
    assert caught.value.kind == "intrinsic-gas"
    assert [tx.hash for tx in automining.mempool] == [tx_hash(behind)]
    await automining.submit([transfer(dev_keys[0], 0)])
    place = await automining.wait_for_transaction(tx_hash(behind), 60)
    assert place.index == 1


async def test_only_refused_candidates_make_no_block(
    automining: Chain, dev_keys: list[DevAccount], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.execution.mempool_rules.check_intrinsic_gas", lambda *_, **__: None)
    broken = transfer(dev_keys[0], 0, gas=20_000)
    await automining.submit([broken])
    with pytest.raises(RejectedTransaction):
        await automining.wait_for_transaction(tx_hash(broken), 60)
    assert automining.head.number == 0
    departure = automining.mempool.departure(tx_hash(broken))
    assert departure is not None
    assert departure.kind == "intrinsic-gas"


# ---------------------------------------------------------------- heads


class Sibling:
    """A second engine of the same chain, on which another branch grows."""

    def __init__(self, path: Path, spec: ChainSpec) -> None:
        self.engine = Engine(str(path), spec.engine_json(), sync=False)
        self.spec = spec

    def extend(self, raws: list[bytes], later: int = 50) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
        parent = self.engine.head
        attributes = dev_attributes(
            parent,
            timestamp=parent.timestamp + later,
            gas_limit=self.spec.gas_limit,
            fee_recipient=b"\x0f" * 20,
        )
        transactions = [tx for tx in decode_transactions(raws) if not isinstance(tx, Exception)]
        block = self.engine.build(parent.hash, attributes, transactions)
        assert len(block.transaction_hashes) == len(raws)
        self.engine.commit(block, make_head=True)
        return block.rlp(), block_start_calls(block.header.prev_randao)


@pytest.fixture
def sibling(tmp_path: Path, spec: ChainSpec) -> Sibling:
    return Sibling(tmp_path / "sibling", spec)


async def test_a_longer_branch_wins_and_transactions_come_back(
    chain: Chain, sibling: Sibling, dev_keys: list[DevAccount]
) -> None:
    first, second, third = dev_keys[:3]
    lost = [transfer(first, nonce) for nonce in range(2)]
    both = transfer(second, 0)
    rival = transfer(third, 0, value=1)
    await chain.submit([*lost, both, rival])
    ours = await chain.mine()
    await chain.submit([transfer(first, 2)])
    ours = await chain.mine()
    waiting = transfer(first, 3)
    await chain.submit([waiting])
    async with chain.events.subscribe_heads() as heads:
        one = await chain.import_block(*sibling.extend([both]))
        two = await chain.import_block(*sibling.extend([transfer(third, 0, value=9)]))
        assert chain.head.hash == ours.hash, "a branch of equal length changes nothing"
        three = await chain.import_block(*sibling.extend([]))
        event = await heads.get()
    assert chain.head.hash == three.hash == chain.engine.head.hash
    assert event.head.hash == three.hash
    assert [header.hash for header in event.added] == [one.hash, two.hash, three.hash]
    assert event.removed == [ours.hash, ours.parent_hash]
    # What is not mined on the new branch waits again, before what waited already.
    assert [tx.nonce for tx in chain.mempool.by_sender(first.address)] == [0, 1, 2, 3]
    assert chain.mempool.pending_nonce(first.address, 0) == 4
    assert tx_hash(both) not in chain.mempool
    departure = chain.mempool.departure(tx_hash(rival))
    assert departure is not None
    assert departure.kind == "superseded"
    header = await chain.mine()
    hashes = chain.engine.transaction_hashes(header.hash)
    assert hashes is not None
    assert len(hashes) == 4
    assert chain.engine.account(header.hash, first.address).nonce == 4


async def test_a_block_known_already_changes_nothing(chain: Chain, sibling: Sibling) -> None:
    block = sibling.extend([])
    header = await chain.import_block(*block)
    assert (await chain.import_block(*block)).hash == header.hash == chain.head.hash
    async with chain.events.subscribe_heads() as heads:
        await chain.import_block(*block)
        second = await chain.import_block(*sibling.extend([]))
        assert (await heads.get()).head.hash == second.hash


async def test_a_chosen_branch_becomes_the_head_whatever_its_length(chain: Chain, sibling: Sibling) -> None:
    await chain.mine()
    await chain.mine()
    header = await chain.import_block(*sibling.extend([]), make_head=True)
    assert chain.head.hash == header.hash
    assert chain.head.number == 1
    assert (await chain.mine()).parent_hash == header.hash


async def test_bad_blocks_change_nothing(chain: Chain, sibling: Sibling, dev_keys: list[DevAccount]) -> None:
    await chain.submit([transfer(dev_keys[0], 0)])
    rlp, calls = sibling.extend([])
    orphan, orphan_calls = sibling.extend([])
    head = chain.head.hash
    with pytest.raises(UnknownBlock):
        await chain.import_block(orphan, orphan_calls)
    with pytest.raises(InvalidBlock):
        await chain.import_block(rlp, ())
    with pytest.raises(Exception, match=r"."):
        await chain.import_block(rlp[:-1], calls)
    assert chain.head.hash == head == chain.engine.head.hash
    assert len(chain.mempool) == 1
    await chain.import_block(rlp, calls)
    assert chain.head.number == 1


async def test_reverting_forgets_what_was_mined(chain: Chain, dev_keys: list[DevAccount]) -> None:
    first, second = dev_keys[:2]
    start = await chain.mine()
    raws = [transfer(first, nonce) for nonce in range(3)]
    await chain.submit(raws[:2])
    mined = await chain.mine()
    waiting, untouched = transfer(first, 2), transfer(second, 0)
    await chain.submit([waiting, untouched])
    async with chain.events.subscribe_heads() as heads:
        await chain.revert_to(start.hash)
        event = await heads.get()
    assert (event.removed, event.added, event.head.hash) == ([mined.hash], [], start.hash)
    assert chain.head.hash == start.hash
    # Its predecessors are gone, so it waits behind a gap.
    assert chain.mempool.pending_nonce(first.address, 0) == 0
    assert [tx.hash for tx in chain.mempool.candidates(GWEI)] == [tx_hash(untouched)]
    # And what was mined can be sent again.
    assert await chain.submit(raws[:2]) == [tx_hash(raw) for raw in raws[:2]]
    again = await chain.mine()
    hashes = chain.engine.transaction_hashes(again.hash)
    assert hashes is not None
    assert set(hashes) == {tx_hash(raw) for raw in (*raws, untouched)}
    with pytest.raises(UnknownBlock):
        await chain.revert_to(bytes(32))


async def test_heads_are_told_in_order(automining: Chain, dev_keys: list[DevAccount]) -> None:
    async with automining.events.subscribe_heads() as heads:
        for nonce in range(20):
            raw = transfer(dev_keys[0], nonce)
            await automining.submit([raw])
            await automining.wait_for_transaction(tx_hash(raw), 60)
        parents = automining.engine.genesis_hash
        for _ in range(20):
            event = await heads.get()
            assert event.removed == []
            assert [header.parent_hash for header in event.added] == [parents]
            parents = event.head.hash


async def test_a_subscriber_that_sleeps_never_holds_the_chain(chain: Chain) -> None:
    sleeper = chain.events.subscribe_heads(capacity=3)
    for _ in range(5):
        await chain.mine()
    assert sleeper.closed == "slow-subscriber"
    assert chain.head.number == 5


# ---------------------------------------------------------------- life


async def test_a_block_is_finished_though_its_caller_goes_away(chain: Chain) -> None:
    async with chain.events.subscribe_heads() as heads:
        mining = asyncio.ensure_future(chain.mine())
        await asyncio.sleep(0)
        mining.cancel()
        event = await heads.get()
        assert event.head.number == 1
    assert chain.head.hash == chain.engine.head.hash
    assert (await chain.mine()).number == 2


async def test_a_stopped_chain_says_so(engine: Engine, spec: ChainSpec, dev_keys: list[DevAccount]) -> None:
    chain = Chain(engine, spec, automine=False)
    await chain.start()
    heads = chain.events.subscribe_heads()
    raw = transfer(dev_keys[0], 0)
    await chain.submit([raw])
    waiting = asyncio.ensure_future(chain.wait_for_transaction(tx_hash(raw), 60))
    await asyncio.sleep(0)
    await chain.stop()
    await chain.stop()
    with pytest.raises(ChainStopped):
        await waiting
    with pytest.raises(ChainStopped):
        await chain.submit([raw])
    with pytest.raises(ChainStopped):
        await chain.mine()
    assert heads.closed == "chain-stopped"


async def test_who_submits_while_the_chain_stops_is_told(
    engine: Engine, spec: ChainSpec, dev_keys: list[DevAccount]
) -> None:
    chain = Chain(engine, spec)
    await chain.start()
    raws = [transfer(account, nonce) for nonce in range(300) for account in dev_keys]
    submitting = [asyncio.ensure_future(chain.submit(raws[at : at + 100])) for at in range(0, 3_000, 100)]
    await asyncio.sleep(0.001)
    await chain.stop()
    for outcome in await asyncio.gather(*submitting, return_exceptions=True):
        assert isinstance(outcome, ChainStopped) or (isinstance(outcome, list) and len(outcome) == 100)
    assert any(isinstance(submitted.exception(), ChainStopped) for submitted in submitting)


async def test_a_submission_given_up_troubles_nobody(chain: Chain, dev_keys: list[DevAccount]) -> None:
    given_up = asyncio.ensure_future(chain.submit([transfer(dev_keys[0], nonce) for nonce in range(50)]))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await chain.submit([transfer(dev_keys[1], 0)]) == [tx_hash(transfer(dev_keys[1], 0))]


async def test_a_restarted_chain_goes_on_from_its_head(
    engine_path: Path, spec: ChainSpec, dev_keys: list[DevAccount]
) -> None:
    engine = Engine(str(engine_path), spec.engine_json())
    async with Chain(engine, spec) as chain:
        raw = transfer(dev_keys[0], 0)
        await chain.submit([raw])
        place = await chain.wait_for_transaction(tx_hash(raw), 60)
    engine.close()
    engine = Engine(str(engine_path), spec.engine_json())
    async with Chain(engine, spec) as chain:
        assert chain.head.hash == place.block_hash
        assert await chain.wait_for_transaction(tx_hash(raw), 1) == place
        follower = transfer(dev_keys[0], 1)
        await chain.submit([follower])
        assert (
            await chain.wait_for_transaction(tx_hash(follower), 60)
        ).block_number == place.block_number + 1
    engine.close()
