"""What the system contracts cost: measured on the engine, and the same as in ``docs/system-contracts.md``."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from noria._core import CallResult
from noria.execution.block_start import GUILTY_MAX, Ballot, SlotStart
from noria.execution.consensus_state import PAGE, ConsensusState, StateReader
from noria.execution.spec import ChainSpec
from noria.execution.system_contracts import MINER_REGISTRY, REWARD_POOL, artifact
from tests.contracts.conftest import Start
from tests.contracts.network import (
    SMALL,
    SYSTEM_CALL_GAS,
    Network,
    address,
    call_request,
    calldata,
    genesis_miner,
    intrinsic_gas,
    network_spec,
    root,
)

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "system-contracts.md"
EVERYBODY = (1 << 65_536) - 1
AFTER_GAP = 3 * SMALL.epoch_slots
"""First slot of an epoch after one without blocks."""
THIRD = EVERYBODY // 3
"""Every other miner: with it, no word of sleepers is cleared by votes."""


class CountingReader:
    """An engine whose answers are counted."""

    def __init__(self, engine: StateReader) -> None:
        self.engine = engine
        self.calls = 0

    def call(self, block_hash: bytes, request: bytes, *, gas_cap: int) -> CallResult:
        self.calls += 1
        return self.engine.call(block_hash, request, gas_cap=gas_cap)


def committed(name: str = "gas") -> dict[str, int]:
    """A table in the documentation."""
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text[text.index(f"<!-- {name} -->") : text.index(f"<!-- /{name} -->")]
    rows = re.findall(r"^\| ([^|]+?) +\| +([\d,]+) \|$", table, flags=re.M)
    return {name: int(gas.replace(",", "")) for name, gas in rows}


def start_gas(network: Network, slot: int, start: SlotStart) -> int:
    """Gas of a block-start call; the protocol pays nothing for its input."""
    result = network.simulate(slot, start)
    assert result.status == "success", (result.error, result.output)
    return result.gas_used - intrinsic_gas(start.calldata())


def used(receipt: dict[str, Any]) -> int:
    return int(receipt["gasUsed"], 16)


def everything(network: Network) -> SlotStart:
    """The most that a block can begin with."""
    return dataclasses.replace(
        network.start_of(AFTER_GAP, members=EVERYBODY),
        votes=(Ballot(2, THIRD, True), Ballot(3, THIRD, True)),
        fallen_asleep=EVERYBODY,
        guilty=tuple(address(10 + number) for number in range(GUILTY_MAX)),
    )


def crowd() -> ChainSpec:
    """Nine accounts and sixteen more that can be punished, and a vault."""
    numbers = (*range(9), *range(10, 10 + GUILTY_MAX))
    miners = tuple(genesis_miner(number) for number in numbers)
    return dataclasses.replace(network_spec(vault=10**24), miners=miners)


def measure(start: Start) -> dict[str, int]:
    """Every row of the table."""
    network = start(crowd())
    network.extend()
    network.as_settlement(REWARD_POOL, "feed()", value=10**20)
    # The proposer's account exists once it has been paid.
    network.extend()
    found = {"block start": start_gas(network, network.slot + 1, network.start_of(network.slot + 1))}
    first = SMALL.epoch_slots
    found["first block of an epoch, 4 miners"] = start_gas(network, first, network.start_of(first))
    found["first block of an epoch, 65,536 miners"] = start_gas(
        network, first, network.start_of(first, members=EVERYBODY)
    )
    found["everything at once, 65,536 miners"] = start_gas(network, AFTER_GAP, everything(network))
    network.grow_to_epoch(1)
    slot = network.slot + 1
    alone = start_gas(network, slot, network.start_of(slot))
    votes = network.start_of(slot, votes=[Ballot(1, EVERYBODY, True)])
    found["votes of 65,536 miners"] = start_gas(network, slot, votes) - alone
    guilty = network.start_of(slot, guilty=[address(0)])
    found["a miner slashed"] = start_gas(network, slot, guilty) - alone
    found["register"] = used(network.register(9))
    found["update"] = used(network.send(1, MINER_REGISTRY, "update(bytes,uint256,uint256)", b"peer", 50, 8))
    found["unbond"] = used(network.send(1, MINER_REGISTRY, "unbond(uint256)", 1_000))
    found["wake"] = used(network.send(2, MINER_REGISTRY, "wake()"))
    found["credit, first batch of a miner"] = inner_credit(network, 3, 1)
    found["credit, same epoch"] = inner_credit(network, 3, 2)
    found["feed the pool"] = used(network.as_settlement(REWARD_POOL, "feed()", value=10**6))
    found["draw one of 25 miners"] = draw_gas(network)
    found["draw one of 65,536 miners"] = draw_gas(network, indices=65_536)
    network.grow_to_epoch(1 + SMALL.unbonding_epochs)
    found["withdraw and leave"] = used(network.send(1, MINER_REGISTRY, "withdraw(address)", address(1)))
    return found


def draw_gas(network: Network, indices: int | None = None) -> int:
    """Gas of a draw, as if so many indices had been given: each step down the tree reads a word."""
    data = calldata("draw(bytes32)", b"\x5a" * 32)
    slot = artifact("MinerRegistry").storage["indices"].to_bytes(32, "big")
    state = {} if indices is None else {"0x" + slot.hex(): "0x" + indices.to_bytes(32, "big").hex()}
    result = network.engine.call(
        network.engine.head.hash,
        call_request(MINER_REGISTRY, data, address(0)),
        gas_cap=10**6,
        state_overrides=json.dumps({"0x" + MINER_REGISTRY.hex(): {"stateDiff": state}}).encode(),
    )
    assert result.status == "success"
    return result.gas_used - intrinsic_gas(data)


def inner_credit(network: Network, miner: int, batch: int) -> int:
    """Gas of a credit without the transaction around it."""
    return used(network.credit(miner, root(batch))) - 21_000


def test_gas_is_as_the_table_says(start: Start) -> None:
    assert measure(start) == committed()


def test_a_block_can_begin_with_everything_at_once(start: Start) -> None:
    # Sixteen miners are punished in it; the others follow in later blocks.
    assert committed()["everything at once, 65,536 miners"] < SYSTEM_CALL_GAS
    network = start(crowd())
    network.extend()
    network.extend(slot=AFTER_GAP, start=everything(network))
    state = network.state()
    # Only the words of indices that have been given are read.
    assert [tally.voted for tally in state.open_tallies] == [THIRD & (1 << 256) - 1] * 2
    assert all(state.miners[address(10 + number)].bond_wei == 0 for number in range(GUILTY_MAX))
    assert state.justified.epoch == 3


def test_the_table_is_not_empty() -> None:
    assert len(committed()) == 16


@pytest.mark.slow
def test_a_thousand_miners_are_read_in_few_calls(start: Start) -> None:
    network = start(miners=1_000)
    for number in range(3):
        network.credit(number, root(number), weight=100 + number)
    reader = CountingReader(network.engine)
    state = ConsensusState(reader, network.engine.head.hash, network.spec.parameters.leak_epochs)
    bonds = [miner.bond_wei for miner in state.miners.values()]
    windows = state.credit_windows(list(state.miners), 0, 5)
    assert bonds == [1_000] * 1_000
    assert windows == [(0, 100), (0, 101), (0, 102)] + [(0, 0)] * 997
    # How many there are, and a page at a time of each.
    assert reader.calls == 1 + 2 * -(-1_000 // PAGE)
