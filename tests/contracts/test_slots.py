"""Consensus at the start of drawn blocks: randomness, checkpoints and votes, sleep, punishment."""

import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria._core import InvalidBlock
from noria.execution.block_start import GUILTY_MAX, SLEEPER_WORDS_MAX, Ballot, SlotStart, bit_words
from noria.execution.consensus_state import CheckpointState
from noria.execution.system_contracts import CONSENSUS, MINER_REGISTRY, SYSTEM_CALLER
from noria.primitives.hashes import blake3
from noria.primitives.types import Address, BlsSignature, Hash32
from tests.contracts.chain import revert_reason
from tests.contracts.conftest import Start
from tests.contracts.network import PROPOSER, SMALL, Network, address, call_request, network_spec

EPOCH, LEAK = SMALL.epoch_slots, SMALL.leak_epochs
ALL = 0b1111


def eta_after(genesis_root: bytes, proofs: list[tuple[int, bytes]]) -> tuple[int, bytes, bytes]:
    """Randomness by the formulas of protocol 4.4, over the blocks of a chain."""
    epoch, eta = 0, blake3(b"noria/eta/1" + genesis_root)
    running = eta
    for slot, proof in proofs:
        if slot // EPOCH > epoch:
            epoch = slot // EPOCH
            eta = blake3(b"noria/eta/1" + running + epoch.to_bytes(8, "big"))
        if slot % EPOCH < 2 * EPOCH // 3:
            running = blake3(b"noria/eta/1" + running + proof)
    return epoch, eta, running


def refused(network: Network, **changes: Any) -> str:
    """Build a block whose call says something else than it should; return the reason of its refusal."""
    slot = changes.pop("slot", network.slot + 1)
    start = dataclasses.replace(network.start_of(slot), **changes)
    with pytest.raises(InvalidBlock) as raised:
        network.extend(slot=slot, start=start)
    assert raised.value.args[0] == "system-call"
    reason = revert_reason(network.simulate(slot, start))
    assert raised.value.args[1].endswith(f" failed: revert: {reason}")
    return reason


# ---------------------------------------------------------------- randomness


@given(gaps=st.lists(st.integers(1, 3 * EPOCH), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_randomness_follows_the_proofs(gaps: list[int], tmp_path_factory: Any) -> None:
    network = Network.start(tmp_path_factory.mktemp("eta"), network_spec())
    try:
        for gap in [1, *gaps]:
            network.extend(slot=network.slot + gap)
        found = network.state().randomness
        assert (found.epoch, found.eta, found.running) == eta_after(
            network.genesis_root(), network.vrf_proofs
        )
    finally:
        network.engine.close()


def test_the_last_third_of_an_epoch_stirs_nothing(network: Network) -> None:
    before_third = 2 * EPOCH // 3 - 1
    network.extend(slot=before_third)
    running = network.state().randomness.running
    network.extend()
    assert network.state().randomness.running == running
    network.extend(slot=EPOCH)
    assert network.state().randomness.running != running


def test_genesis_root_is_the_first_parent(start: Start) -> None:
    network = start()
    assert network.state().genesis_root == bytes(32)
    network.extend()
    network.extend()
    state = network.state()
    assert state.genesis_root == network.genesis_root()
    assert state.justified == state.finalised == CheckpointState(0, Hash32(network.genesis_root()))


# ---------------------------------------------------------------- checkpoints and votes


def test_an_epochs_first_block_opens_its_tally(network: Network) -> None:
    assert network.state().open_tallies == ()
    target = network.parent_root()
    network.extend(slot=EPOCH, members=0b0111)
    [tally] = network.state().open_tallies
    assert tally.target == CheckpointState(1, Hash32(target))
    assert tally.source == CheckpointState(0, Hash32(network.genesis_root()))
    assert (tally.voting_epoch, tally.members, tally.voted) == (0, 0b0111, 0)


def test_votes_add_up_and_justify(network: Network) -> None:
    network.grow_to_epoch(1)
    network.extend(votes=[Ballot(1, 0b0001, False)])
    network.extend(votes=[Ballot(1, 0b0110, True)])
    state = network.state()
    assert state.open_tallies[0].voted == 0b0111
    assert state.justified == state.open_tallies[0].target
    # Epoch 0 is final from the start; the next one has checkpoint 1 as its source.
    assert state.finalised.epoch == 0
    network.grow_to_epoch(2)
    network.extend(votes=[Ballot(2, ALL, True)])
    state = network.state()
    assert (state.justified.epoch, state.finalised.epoch) == (2, 1)
    assert state.finalised == state.open_tallies[1].source


def test_the_last_epochs_votes_still_count(network: Network) -> None:
    network.grow_to_epoch(2)
    first = network.state().open_tallies[0].target
    network.extend(votes=[Ballot(1, ALL, True), Ballot(2, 0b1, False)])
    state = network.state()
    assert [tally.voted for tally in state.open_tallies] == [ALL, 0b1]
    assert state.justified == first
    # The second tally was opened before that, so its source is the older one and nothing becomes final.
    network.extend(votes=[Ballot(2, ALL, True)])
    assert (network.state().justified.epoch, network.state().finalised.epoch) == (2, 0)


def test_a_late_justification_does_not_go_back(network: Network) -> None:
    network.grow_to_epoch(2)
    network.extend(votes=[Ballot(2, ALL, True)])
    network.extend(votes=[Ballot(1, ALL, True)])
    assert network.state().justified.epoch == 2


def test_epochs_without_blocks_share_the_checkpoint(network: Network) -> None:
    network.extend(slot=5 * EPOCH)
    tallies = network.state().open_tallies
    assert [tally.target.epoch for tally in tallies] == [4, 5]
    assert tallies[0].target.root == tallies[1].target.root
    # The last final checkpoint is older than LEAK epochs: votes count by their own epoch's snapshot.
    assert LEAK == 3
    assert [tally.voting_epoch for tally in tallies] == [4, 5]


def test_a_final_checkpoint_of_leak_epochs_ago_still_names_the_voters(network: Network) -> None:
    network.grow_to_epoch(LEAK + 1)
    assert [tally.target.epoch for tally in network.state().open_tallies] == [LEAK, LEAK + 1]
    assert [tally.voting_epoch for tally in network.state().open_tallies] == [0, LEAK + 1]


def test_voters_are_those_of_the_last_final_checkpoint(network: Network) -> None:
    for epoch in (1, 2, 3):
        network.grow_to_epoch(epoch)
        network.extend(votes=[Ballot(epoch, ALL, True)])
    network.grow_to_epoch(4)
    assert [tally.voting_epoch for tally in network.state().open_tallies] == [1, 2]


def test_rows_are_used_again_without_what_stood_there(network: Network) -> None:
    network.grow_to_epoch(1)
    network.extend(votes=[Ballot(1, ALL, True)])
    rows = LEAK + 2
    network.grow_to_epoch(1 + rows)
    assert network.state().open_tallies[-1].voted == 0
    network.extend(votes=[Ballot(1 + rows, 0b0100, False)])
    assert network.state().open_tallies[-1].voted == 0b0100
    # Fewer words than before, too.
    network.extend(slot=(2 + rows) * EPOCH, members=0)
    assert network.state().open_tallies[-1].members == 0


def test_votes_for_other_epochs_are_refused(network: Network) -> None:
    assert "epoch 0 has no votes" in refused(network, votes=(Ballot(0, 1, False),))
    network.grow_to_epoch(1)
    for epoch in (0, 2):
        assert "votes for another epoch" in refused(network, votes=(Ballot(epoch, 1, False),))
    network.grow_to_epoch(3)
    assert "votes for another epoch" in refused(network, votes=(Ballot(1, 1, False),))


@pytest.mark.parametrize("slot", [2, EPOCH, 2 * EPOCH, 7 * EPOCH])
def test_snapshot_roots_come_one_epoch_ahead(network: Network, slot: int) -> None:
    network.extend(slot=slot)
    epoch = slot // EPOCH
    state = network.state()
    for number in range(max(epoch - 1, 0), epoch + 2):
        assert state.snapshot_root(number) == network.snapshot_root(number)
    assert state.snapshot_root(epoch + 2) == bytes(32)


def test_snapshot_roots_voters_and_sleepers_are_for_an_epochs_first_block(network: Network) -> None:
    root = network.snapshot_root(9)
    assert "snapshots are for" in refused(network, snapshot_roots=(root,))
    assert "voters are for" in refused(network, members=(1,))
    assert "sleepers are for" in refused(network, fallen_asleep=1)
    assert "not the snapshots up to" in refused(network, slot=EPOCH, snapshot_roots=())
    assert "not the snapshots up to" in refused(network, slot=EPOCH, snapshot_roots=(root, root))
    assert "not the voters of each" in refused(network, slot=EPOCH, members=())
    assert "not the voters of each" in refused(network, slot=EPOCH, members=(1, 1))


def test_votes_are_forgotten_after_their_row_is_used_again(network: Network) -> None:
    network.grow_to_epoch(LEAK + 4)
    assert network.call(CONSENSUS, "tally(uint256)", 1).status == "revert"
    assert network.call(CONSENSUS, "tally(uint256)", 2).status == "success"
    assert network.call(CONSENSUS, "tally(uint256)", LEAK + 4).status == "revert"


# ---------------------------------------------------------------- sleep


def silent(network: Network, number: int) -> int:
    state = network.state()
    miner = state.miners[address(number)]
    return state.voting_epochs_since(miner, state.sign_of_life_epoch(miner))


def vote_in_each_epoch(network: Network, last: int, voters: int, members: int = ALL) -> None:
    """Go on until the end of an epoch, with these voters in each."""
    while network.epoch < last:
        network.extend(slot=(network.epoch + 1) * EPOCH, members=members)
        network.extend(votes=[Ballot(network.epoch, voters, False)])


def test_who_is_silent_for_leak_epochs_falls_asleep(network: Network) -> None:
    vote_in_each_epoch(network, LEAK - 1, 0b0111)
    assert [silent(network, number) for number in range(4)] == [0, 0, 0, LEAK - 1]
    assert network.state().fallen_asleep == 0
    vote_in_each_epoch(network, LEAK, 0b0111)
    assert silent(network, 3) == LEAK
    assert network.state().fallen_asleep == 0b1000
    # The next epoch writes it down, and it stays so when the miner is in no voting set any more.
    vote_in_each_epoch(network, LEAK + 1, 0b0111)
    assert network.state().asleep == 0b1000
    vote_in_each_epoch(network, 3 * LEAK + 5, 0b0111, members=0b0111)
    assert network.state().asleep == 0b1000
    assert silent(network, 3) == LEAK


def test_who_is_not_asked_does_not_fall_asleep(network: Network) -> None:
    vote_in_each_epoch(network, LEAK - 1, 0b0111)
    vote_in_each_epoch(network, LEAK, 0b0111, members=0b0111)
    assert silent(network, 3) == LEAK - 1
    assert network.state().fallen_asleep == 0
    vote_in_each_epoch(network, 4 * LEAK, 0b0111, members=0b0111)
    assert network.state().asleep == 0


def test_a_sleeper_wakes_when_it_says_so(network: Network) -> None:
    vote_in_each_epoch(network, LEAK + 1, 0b0111)
    assert network.state().asleep == 0b1000
    network.send(3, MINER_REGISTRY, "wake()")
    assert network.state().asleep == 0
    assert silent(network, 3) == 0
    assert network.miner(3)["life_epoch"] == LEAK + 1
    # Its silence before does not count again.
    vote_in_each_epoch(network, 2 * LEAK, 0b0111)
    assert silent(network, 3) == LEAK - 1
    assert network.state().fallen_asleep == 0
    vote_in_each_epoch(network, 2 * LEAK + 1, 0b0111)
    assert network.state().fallen_asleep == 0b1000


def test_a_late_vote_wakes_a_sleeper(network: Network) -> None:
    vote_in_each_epoch(network, LEAK + 1, 0b0011)
    assert network.state().asleep == 0b1100
    network.extend(votes=[Ballot(LEAK + 1, 0b0100, False)])
    assert network.state().asleep == 0b1000


def test_a_vote_is_a_sign_of_life_of_its_epoch(network: Network) -> None:
    network.grow_to_epoch(2)
    network.extend(votes=[Ballot(1, 0b0010, False)])
    state = network.state()
    assert state.sign_of_life_epoch(state.miners[address(1)]) == 1
    assert state.sign_of_life_epoch(state.miners[address(2)]) == 0
    assert silent(network, 1) == 1


def test_a_newcomer_does_not_inherit_silence(network: Network) -> None:
    vote_in_each_epoch(network, LEAK, 0b0111, members=0b11111)
    network.register(4)
    assert silent(network, 4) == 0
    assert network.state().fallen_asleep == 0b1000


def test_a_place_is_given_on_without_its_owners_sleep(network: Network) -> None:
    network.send(3, MINER_REGISTRY, "unbond(uint256)", 1_000)
    vote_in_each_epoch(network, LEAK + 1, 0b0111)
    assert network.state().asleep == 0b1000
    vote_in_each_epoch(network, SMALL.unbonding_epochs, 0b0111, members=0b0111)
    network.send(5, MINER_REGISTRY, "withdraw(address)", address(3))
    network.register(5)
    assert network.state().miners[address(5)].index == 3
    assert network.state().asleep == 0
    assert silent(network, 5) == 0


def test_only_the_registry_wakes_miners(network: Network) -> None:
    result = network.call(CONSENSUS, "wake(uint256)", 0)
    assert revert_reason(result) == "Consensus: only MinerRegistry wakes miners"


def test_sleepers_beyond_the_limit_follow_in_the_next_epoch() -> None:
    everybody = (1 << 65_536) - 1
    start = SlotStart(
        prev_randao=Hash32(bytes(32)), vrf_proof=BlsSignature(bytes(96)), fallen_asleep=everybody
    )
    words = start.calldata().count(b"\xff" * 32)
    assert words == SLEEPER_WORDS_MAX
    assert bit_words(1 << 256 | 5) == [5, 1]
    with pytest.raises(ValueError, match="more than 65536"):
        bit_words(1 << 65_536)


# ---------------------------------------------------------------- a model


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """(slots to the next block, members, [(epochs back, voters)])."""
    return draw(
        st.lists(
            st.tuples(
                st.integers(1, 2 * EPOCH + 3),
                st.integers(0, ALL),
                st.lists(
                    st.tuples(st.integers(0, 1), st.integers(0, ALL)), max_size=2, unique_by=lambda v: v[0]
                ),
            ),
            min_size=1,
            max_size=25,
        )
    )


@given(history=histories())
@settings(max_examples=25)
def test_votes_and_silence_are_as_a_plain_model_says(history: Any, tmp_path_factory: Any) -> None:
    network = Network.start(tmp_path_factory.mktemp("votes"), network_spec())
    tallies: dict[int, tuple[int, int]] = {}
    asleep = 0
    try:
        network.extend()
        for gap, members, votes in history:
            slot = network.slot + gap
            before, epoch = network.epoch, slot // EPOCH
            if epoch > before:
                asleep |= sum(
                    1 << i
                    for i in range(4)
                    if len(tallies) >= LEAK
                    and all(m >> i & 1 and not v >> i & 1 for m, v in list(tallies.values())[-LEAK:])
                )
                for number in range(max(before + 1, epoch - 1), epoch + 1):
                    tallies[number] = (members, 0)
            ballots = []
            for back, voters in votes:
                number = epoch - back
                if number in tallies:
                    ballots.append(Ballot(number, voters, False))
                    new = voters & ~tallies[number][1]
                    tallies[number] = (tallies[number][0], tallies[number][1] | voters)
                    if new:
                        asleep &= ~voters
            network.extend(slot=slot, members=members, votes=ballots)
            state = network.state()
            found = {t.target.epoch: (t.members, t.voted) for t in state.voting_history}
            assert found == dict(list(tallies.items())[-LEAK:])
            assert state.asleep == asleep
    finally:
        network.engine.close()


# ---------------------------------------------------------------- punishment, and who may call


def test_the_guilty_lose_their_bond(network: Network) -> None:
    network.extend(guilty=[address(0), address(2)])
    assert network.miner(0)["bond"] == network.miner(2)["bond"] == 0
    assert network.miner(1)["bond"] == 1_000
    assert network.burned() == 1_000
    assert network.balance(PROPOSER) >= 1_000


def test_who_is_no_miner_cannot_spoil_a_block(network: Network) -> None:
    network.extend(guilty=[Address(b"\x99" * 20), address(1)])
    assert network.miner(1)["bond"] == 0


def test_a_miner_can_be_punished_again_for_what_came_later(network: Network) -> None:
    network.extend(guilty=[address(1)])
    network.send(1, MINER_REGISTRY, "add_bond()", value=500)
    network.extend(guilty=[address(1)])
    assert network.miner(1)["bond"] == 0
    assert network.burned() == 750


def test_a_call_takes_no_more_than_the_first_sixteen() -> None:
    guilty = tuple(Address(bytes([number]) * 20) for number in range(1, 30))
    start = SlotStart(prev_randao=Hash32(bytes(32)), vrf_proof=BlsSignature(bytes(96)), guilty=guilty)
    data = start.calldata()
    assert [data.count(bytes(miner)) for miner in guilty] == [1] * GUILTY_MAX + [0] * 13


def test_nobody_but_the_protocol_begins_a_slot(network: Network) -> None:
    data = network.start_of(network.slot + 1).calldata()
    result = network.engine.call(
        network.engine.head.hash, call_request(CONSENSUS, data, PROPOSER), gas_cap=10**7
    )
    assert revert_reason(result) == "Consensus: only the protocol may begin a block"
    assert SYSTEM_CALLER != PROPOSER


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prev_randao": bytes(31)}, "prev_randao has 31 bytes"),
        ({"vrf_proof": bytes(95)}, "vrf_proof has 95"),
    ],
)
def test_a_start_with_wrong_lengths_is_refused(fields: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"prev_randao": bytes(32), "vrf_proof": bytes(96)} | fields
    with pytest.raises(ValueError, match=message):
        SlotStart(**values)
