"""The lottery: randomness, proofs, and that weight is all that counts."""

import hashlib
from dataclasses import replace
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.consensus.lottery import (
    Randomness,
    after_block,
    draw,
    eta_for,
    genesis_randomness,
    lot,
    prev_randao,
    tie_break,
    vrf_message,
    wins,
)
from noria.consensus.parameters import DEVNET
from noria.primitives.hashes import blake3
from noria.primitives.keys import BlsSecretKey, bls_verify
from noria.primitives.types import BlsSignature, Hash32

ROOT = Hash32(b"\x05" * 32)


def proof(seed: int) -> BlsSignature:
    return BlsSignature(hashlib.shake_256(seed.to_bytes(32, "big")).digest(96))


proofs = st.integers(0, 2**64).map(proof)


def test_randomness_starts_from_the_chain() -> None:
    genesis = genesis_randomness(ROOT)
    assert genesis == Randomness(0, blake3(b"noria/eta/1" + ROOT), blake3(b"noria/eta/1" + ROOT))
    assert eta_for(genesis, 0) == genesis.eta
    assert genesis_randomness(Hash32(bytes(32))).eta != genesis.eta


def test_a_block_stirs_what_comes_later_but_not_its_own_epoch() -> None:
    before = genesis_randomness(ROOT)
    after = after_block(DEVNET, before, 9, proof(1))
    assert after.eta == before.eta
    assert after.running == blake3(b"noria/eta/1" + before.running + proof(1))
    assert eta_for(after, 1) == blake3(b"noria/eta/1" + after.running + (1).to_bytes(8, "big"))
    assert eta_for(after, 1) != eta_for(before, 1)


def test_a_block_in_the_last_third_stirs_nothing() -> None:
    before = genesis_randomness(ROOT)
    assert after_block(DEVNET, before, 10, proof(1)).running == before.running
    assert after_block(DEVNET, before, 15, proof(1)).running == before.running


def test_the_first_block_of_an_epoch_fixes_its_eta() -> None:
    first = after_block(DEVNET, genesis_randomness(ROOT), 3, proof(1))
    second = after_block(DEVNET, first, 17, proof(2))
    assert (second.epoch, second.eta) == (1, eta_for(first, 1))
    third = after_block(DEVNET, second, 20, proof(3))
    assert third.eta == second.eta
    assert third.running != second.running


def test_epochs_without_blocks_still_differ() -> None:
    genesis = genesis_randomness(ROOT)
    assert len({eta_for(genesis, epoch) for epoch in range(5)}) == 5


def test_time_does_not_run_backwards() -> None:
    later = Randomness(3, ROOT, ROOT)
    with pytest.raises(ValueError, match="epoch 2 is before the parent's epoch 3"):
        eta_for(later, 2)


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 99)), max_size=20, unique_by=lambda pair: pair[0])
)
def test_randomness_depends_on_every_counted_proof_and_their_order(blocks: list[tuple[int, int]]) -> None:
    state, counted = genesis_randomness(ROOT), b""
    for slot, seed in sorted(blocks):
        state = after_block(DEVNET, state, slot, proof(seed))
        counted += proof(seed) if slot % 16 < 10 else b""
    # A second writing: fold the proofs that count, and only those.
    running = blake3(b"noria/eta/1" + ROOT)
    for at in range(0, len(counted), 96):
        running = blake3(b"noria/eta/1" + running + counted[at : at + 96])
    assert state.running == running


def test_the_message_covers_chain_randomness_and_slot() -> None:
    messages = {
        vrf_message(ROOT, ROOT, 1),
        vrf_message(Hash32(bytes(32)), ROOT, 1),
        vrf_message(ROOT, Hash32(bytes(32)), 1),
        vrf_message(ROOT, ROOT, 2),
    }
    assert len(messages) == 4
    assert vrf_message(ROOT, ROOT, 1) == b"noria/vrf/1" + ROOT + ROOT + bytes(7) + b"\x01"


def test_a_real_proof_is_unique_and_verifiable() -> None:
    key = BlsSecretKey.from_seed(bytes(32))
    message = vrf_message(ROOT, ROOT, 1)
    assert key.sign(message) == key.sign(message)
    assert bls_verify(key.public_key, message, key.sign(message))
    assert not bls_verify(key.public_key, vrf_message(ROOT, ROOT, 2), key.sign(message))


# ---------------------------------------------------------------- winning

DENOMINATOR = 2**256


@given(proofs, st.integers(1, 2**64), st.integers(0, 2**64), st.integers(1, 50), st.integers(0, 50))
def test_winning_is_exactly_the_share(
    y: BlsSignature, weight: int, others: int, numerator: int, more: int
) -> None:
    parameters = replace(DEVNET, win_numerator=numerator, win_denominator=numerator + more)
    total = weight + others
    # Least lot that loses: ⌈2^256 · F · w / W⌉.
    bound = -(-DENOMINATOR * numerator * weight // ((numerator + more) * total))
    assert wins(parameters, y, weight, total) == (lot(y) < bound)


@given(st.integers(1, 2**60), st.integers(0, 2**60), st.integers(0, 2**60))
def test_splitting_an_identity_gains_nothing(first: int, second: int, others: int) -> None:
    """Linear: the lots that win for w₁ and for w₂ are together as many as those that win for w₁ + w₂.

    Expected wins of both parts are the sum of their winning lots, each being drawn uniformly.
    """
    total = first + second + others

    def winning_lots(weight: int) -> int:
        numerator = DENOMINATOR * DEVNET.win_numerator * weight
        return -(-numerator // (DEVNET.win_denominator * total))

    assert 0 <= winning_lots(first) + winning_lots(second) - winning_lots(first + second) <= 1


def test_expected_winners_are_f_per_slot() -> None:
    weights = [1, 2, 3, 4]
    slots = 6000
    won = [0] * 4
    for slot in range(slots):
        for miner, weight in enumerate(weights):
            won[miner] += wins(DEVNET, proof(slot * 4 + miner), weight, 10)
    for count, weight in zip(won, weights, strict=True):
        chance = 2 / 3 * weight / 10
        assert abs(count - slots * chance) < 5 * sqrt(slots * chance * (1 - chance))


@given(proofs, st.integers(1, 2**64))
def test_the_draw_is_below_the_weight(y: BlsSignature, weight: int) -> None:
    assert draw(y, weight) == int.from_bytes(blake3(b"noria/draw/1" + y), "big") % weight


@given(proofs)
def test_each_use_of_a_proof_is_independent(y: BlsSignature) -> None:
    uses = {
        lot(y).to_bytes(32, "big"),
        draw(y, 2**256).to_bytes(32, "big"),
        bytes(tie_break(y)),
        bytes(prev_randao(ROOT, y)),
    }
    assert len(uses) == 4
