"""Invariant 8 as a machine: whatever has happened, replay from genesis reaches the same at every block.

Nodes make blocks of all kinds of transactions, are cut off from each other, stopped, killed and started
again; miners join, leave, sleep and sign what they must not. Every node that takes a block in must carry on
the same from it. At the end nodes that have seen nothing of it are given the blocks: one the branches that
were left before the chain that has won, one that chain alone and several blocks at once, one by
``noria chain verify``. All must say of every block what those say that were there.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from noria._core import keccak256
from noria.chain.block_tree import KnownBlock
from noria.chain.import_queue import Arrival
from noria.chain.recovery import open_chain
from noria.cli.registration import unbond_call, withdraw_call
from noria.consensus.blocks import Block, decode_block
from noria.consensus.validity import Accepted, BlockState
from noria.consensus.votes import Checkpoint, SignedVote, Vote, encode_signed_vote, vote_message
from noria.execution.accounts import dev_accounts
from noria.execution.consensus_state import ConsensusState
from noria.execution.system_contracts import BEACON_ROOTS, CONSENSUS, MINER_REGISTRY, WORK_LEDGER
from noria.node import verify
from noria.node.data_dir import save_spec
from noria.node.verify import Verified, verify_chain
from noria.primitives.hashes import blake3
from noria.primitives.types import NOR, Address, Hash32
from tests.chain.any_transactions import KINDS, RECORDED_SLOTS, RECORDER, Writer, with_contracts
from tests.chain.drawn import (
    PARAMETERS,
    FakeKey,
    Node,
    address,
    agree,
    chain_of,
    fast_network,
    heads,
    running,
    sent,
    state_of,
)
from tests.chain.mortal import NEVER, Mortal
from tests.chain.network_machine import NetworkMachine, WatchedNode
from tests.chain.test_drawn_offences import another_block, travelling
from tests.chain.transfers import transfer
from tests.consensus.world import FAKE
from tests.virtual_time import run_virtually
from tests.work.modules import SPIN

MINERS = 4
LEAVER, GUILTY = 2, 3
"""The genesis miners that may take their bond out, and lose it: the others go on."""
PAST_SECONDS = 1_700_000_000
"""Genesis: what is verified by the real clock must not lie in the future."""
SMALL = replace(PARAMETERS, epoch_slots=8, window_epochs=5, leak_epochs=5, jail_epochs=2, grant_epochs=3)
"""Credit leaves the window, grants fall, and who is silent falls asleep, all within a short run."""
EPOCH = SMALL.epoch_slots
CUT_SLOTS = 3 * EPOCH
"""How long a cut may last. Before it all have voted, and nobody is killed in it: parts that do not hear of
each other for LEAK epochs go on by themselves for ever."""
EPOCHS_LOST_MAX = 3
TRACER = b'{"onlyTopCall": false, "withLog": true}'
PROVEN = (RECORDER, CONSENSUS, MINER_REGISTRY, WORK_LEDGER, BEACON_ROOTS)
SLOTS = [slot.to_bytes(32, "big") for slot in range(RECORDED_SLOTS)]


@dataclass(frozen=True)
class Made:
    """A block as it travels, and what the first node that had it carries on from it."""

    data: bytes
    parent: Hash32
    state: BlockState
    carried: dict[str, object]


def read(contracts: ConsensusState, number: int) -> dict[str, object]:
    """What consensus reads of the contracts after a block, which has a number."""
    epoch = contracts.randomness.epoch
    return {
        "miners": list(contracts.miners.values()),
        "credit": contracts.credit_windows(list(contracts.miners), 0, epoch),
        "floor": contracts.floor_price_wei,
        "randomness": (contracts.randomness, contracts.prev_randao(number)),
        "finality": (contracts.justified, contracts.finalised, contracts.open_tallies),
        "votes": contracts.voting_history,
        "sleep": (contracts.asleep, contracts.fallen_asleep),
        "roots": [contracts.snapshot_root(number) for number in range(epoch + 2)],
    }


def carried(node: Node, known: KnownBlock) -> dict[str, object]:
    """What a node goes on with from a block, by way of all that it remembers."""
    tree, epoch = node.chain.tree, known.state.randomness.epoch
    view = tree.view(known.root)
    assert view is not None
    return {
        "state": known.state,
        "records": list(view.state.miners()),
        "snapshots": [tree.snapshot(known.root, number) for number in (epoch, epoch + 1)],
        **read(view.state.contracts, known.state.payload.number),
    }


def told(node: Node, state: BlockState, holders: list[Address]) -> dict[str, object]:
    """What a node's engine says of a block: contents, receipts, and the state after it."""
    engine, block_hash = node.engine, state.payload.block_hash
    header = engine.header(block_hash)
    assert header is not None
    proofs = {contract: engine.proof_json(block_hash, contract, SLOTS) for contract in PROVEN}
    for proof in proofs.values():
        top = bytes.fromhex(json.loads(proof)["accountProof"][0][2:])
        assert keccak256(top) == header.state_root
    transactions = engine.transaction_hashes(block_hash)
    assert transactions is not None
    return {
        "header": header.to_json(),
        "block": engine.block_json(block_hash, True),
        "receipts": engine.block_receipts_json(block_hash),
        "traces": [
            engine.trace_transaction_json(block_hash, index, TRACER) for index in range(len(transactions))
        ],
        "accounts": engine.nonces(block_hash, holders),
        "proofs": proofs,
        **read(ConsensusState(engine, block_hash, SMALL.leak_epochs), header.number),
    }


class Histories(NetworkMachine):
    """Makes a history, and has others live it again."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[Hash32, Made] = {}
        self.differences: list[str] = []
        self.doubled: set[int] = set()
        self.cut_until = self.whole_since = self.epochs_lost = 0

    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed: int) -> None:
        self.dice = Random(seed)
        self.network = fast_network(self.folder, MINERS, parameters=SMALL, genesis_seconds=PAST_SECONDS)
        self.network.spec = with_contracts(self.network.spec)
        self.nodes = [
            WatchedNode(self.network, number, lambda *said: None, self.saw) for number in range(MINERS)
        ]
        self.network.nodes.extend(self.nodes)

        async def start() -> None:
            for node in self.nodes:
                await node.start()

        self.do(start())
        self.genesis = self.nodes[0].chain.tree.genesis
        self.writer = Writer.on(self.network.spec, self.genesis.root, LEAVER)

    def saw(self, node: Node, block: Block, known: KnownBlock) -> None:
        self.compare(node, known)

    def compare(self, node: Node, known: KnownBlock) -> None:
        """Compare what a node carries on from a block with what the first one did that had it."""
        if known.root == self.genesis.root:
            return
        made, found = self.made.get(known.root), carried(node, known)
        if made is None:
            data = sent(node, known.root)
            self.made[known.root] = Made(data, known.node.parent_root, known.state, found)
        else:
            self.differences += [
                f"node {node.number}, slot {known.node.slot}, {name}: {found[name]}, first {value}"
                for name, value in made.carried.items()
                if found[name] != value
            ]

    async def pass_slots(self, slots: int) -> None:
        """Let time pass, in which people send transactions; a cut is mended before it has lasted too long."""
        end = self.slot + slots
        while self.slot < end:
            if self.network.cut and self.slot >= self.cut_until:
                self.network.partition()
                self.whole_since = self.slot
                end = max(end, self.slot + EPOCH // 2)
            await self.send_some()
            await self.to_slot(self.slot + 1)

    async def send_some(self) -> None:
        nodes = [node for node in self.nodes if node.running and self.dice.randrange(2)]
        for _ in range(self.dice.randrange(5) if nodes else 0):
            kind, number = self.dice.choice(sorted(KINDS)), self.dice.randrange(10)
            nonce_of = partial(self.nonce, nodes[0])
            raw = self.writer.write(kind, number, nonce_of, self.dice.randrange(10**18))
            for node in nodes:
                await node.execution.submit([raw])

    def nonce(self, node: Node, number: int) -> int:
        account = address(number)
        at_head = node.engine.account(node.execution.head.hash, account).nonce
        return node.execution.mempool.pending_nonce(account, at_head)

    # ------------------------------------------------------------ what happens

    @rule(slots=st.sampled_from([2, 4, 7, 12]))
    def time_passes(self, slots: int) -> None:
        self.do(self.pass_slots(slots))

    @precondition(lambda self: not self.network.cut)
    @rule(first=st.sets(st.integers(0, MINERS - 1), min_size=1, max_size=MINERS // 2))
    def the_network_is_cut(self, first: set[int]) -> None:
        async def cut() -> None:
            await self.start_all()
            await self.pass_slots(max(0, self.whole_since + EPOCH + EPOCH // 2 - self.slot))
            self.network.partition(sorted(first), sorted(set(range(MINERS)) - first))
            self.cut_until = self.slot + CUT_SLOTS
            await self.pass_slots(EPOCH)

        self.do(cut())

    @precondition(lambda self: self.network.cut)
    @rule()
    def the_network_is_mended(self) -> None:
        self.cut_until = self.slot
        self.do(self.pass_slots(4))

    @precondition(lambda self: not self.network.cut)
    @rule(who=st.integers(0, MINERS - 1), steps=st.integers(0, 25))
    def one_is_killed(self, who: int, steps: int) -> None:
        if self.nodes[who].running:
            self.do(self.killed(self.nodes[who], steps))

    @precondition(lambda self: not all(node.running for node in self.nodes))
    @rule()
    def all_are_started(self) -> None:
        self.do(self.start_all())

    async def start_all(self) -> None:
        for node in self.nodes:
            if not node.running:
                self.whole_since = self.slot
                await node.rise(0.0, NEVER)
                for known in node.chain.tree:
                    self.compare(node, known)

    @rule(who=st.integers(0, MINERS - 1), engine_is_lost=st.booleans())
    def one_is_started_again(self, who: int, engine_is_lost: bool) -> None:
        """What it reads of its files is what it knew, also where it must execute all again."""
        if self.nodes[who].running:
            self.do(self.restart(self.nodes[who], engine_is_lost))

    async def restart(self, node: Mortal, engine_is_lost: bool) -> None:
        chain = node.chain
        before = {known.root: known for known in chain.tree}, chain.tree.final, chain.head.root
        await node.stop()
        if engine_is_lost:
            shutil.rmtree(node.folder / "engine")
        await node.rise(0.0, NEVER)
        chain = node.chain
        assert ({known.root: known for known in chain.tree}, chain.tree.final, chain.head.root) == before

    @precondition(lambda self: self.epochs_lost < EPOCHS_LOST_MAX and not self.network.cut)
    @rule(epochs=st.integers(1, 2))
    def an_epoch_passes_without_blocks(self, epochs: int) -> None:
        self.epochs_lost += epochs

        async def stop() -> None:
            for node in self.nodes:
                if node.running:
                    await node.stop()
            await self.pass_slots((epochs + 1) * EPOCH)
            await self.start_all()
            await self.pass_slots(2)

        self.do(stop())

    @rule(who=st.sets(st.integers(0, MINERS - 1), min_size=1))
    def the_guilty_signs_two_blocks(self, who: set[int]) -> None:
        nodes = self.running(who)
        own = [
            known
            for known in (nodes[0].chain.tree if nodes else ())
            if known.proposer == address(GUILTY)
            and known.node.slot not in self.doubled
            and known.node.parent_root in nodes[0].chain.tree
        ]
        if own:
            known = max(own, key=lambda known: known.node.slot)
            self.doubled.add(known.node.slot)
            body = nodes[0].chain.block_by_root(known.root)
            assert body is not None
            block = decode_block(body.block)
            data = travelling(nodes[0], another_block(nodes[0], block), block)
            self.do(self.hear(nodes, "block", [data]))

    @rule(who=st.sets(st.integers(0, MINERS - 1), min_size=1))
    def the_guilty_votes_twice(self, who: set[int]) -> None:
        nodes = self.running(who)
        epoch = self.slot // EPOCH
        if not nodes or epoch == 0:
            return
        votes = []
        for target in (b"one", b"another"):
            vote = Vote(Checkpoint(0, self.genesis.root), Checkpoint(epoch, blake3(target)))
            signature = FakeKey(GUILTY).sign(vote_message(self.genesis.root, vote))
            votes.append(encode_signed_vote(SignedVote(vote, address(GUILTY), signature)))
        self.do(self.hear(nodes, "vote", votes))

    async def hear(self, nodes: list[Mortal], kind: str, messages: list[bytes]) -> None:
        self.say(nodes, kind, messages, self.nodes[GUILTY])
        await self.pass_slots(2)

    # ------------------------------------------------------------ what must hold

    @invariant()
    def all_carry_on_the_same(self) -> None:
        assert self.differences == []

    @invariant()
    def all_say_the_same_of_their_heads(self) -> None:
        found: dict[Hash32, dict[str, object]] = {}
        for node in self.nodes:
            if node.running and node.chain.head.root != self.genesis.root:
                head = node.chain.head
                says = told(node, head.state, sorted(self.writer.holders))
                assert says == found.setdefault(head.root, says)

    def end(self) -> None:
        self.do(self.come_together())
        self.all_carry_on_the_same()
        self.do(self.live_it_again())
        self.verify()
        self.do(self.network.stop())

    async def come_together(self) -> None:
        await self.start_all()
        await self.all_again()
        await self.pass_slots(3 * EPOCH)
        # Nothing new comes while others catch up.
        for node in self.nodes:
            node.mute = True
        assert len(heads(self.network)) == 1
        assert agree(self.network)
        self.tell_statistics()

    def tell_statistics(self) -> None:
        node = self.nodes[0]
        line = {block.root(self.genesis.root) for block in chain_of(node)}
        event(f"blocks: {len(line) // 20 * 20} or more")
        event(f"left blocks: {(len(self.made) - len(line)) // 5 * 5} or more")
        statuses = {"0x1": 0, "0x0": 0}
        for root in line:
            receipts = node.engine.block_receipts_json(self.made[root].state.payload.block_hash)
            for receipt in json.loads(receipts or b"[]"):
                statuses[receipt["status"]] += 1
        event(f"transactions that went through: {statuses['0x1'] // 20 * 20} or more")
        event(f"transactions that failed: {statuses['0x0'] // 20 * 20} or more")
        state = state_of(node)
        event(f"late miners: {len(state.miners) > MINERS}")
        event(f"slashed: {any(miner.slashed_epoch is not None for miner in state.miners.values())}")
        event(f"asleep: {bool(state.asleep)}")

    async def live_it_again(self) -> None:
        node = self.dice.choice(self.nodes)
        line = [block.root(self.genesis.root) for block in chain_of(node)]
        assert all(root in self.made for root in line)
        stranger = Node(self.network, 0, False, "stranger")
        await stranger.start()
        for root in self.branches_first(set(line)):
            finding = await stranger.chain.take(self.made[root].data, "history")
            assert isinstance(finding, Accepted), (finding, self.made[root].state.slot)
            known = stranger.chain.tree.get(root)
            assert known is not None
            self.compare(stranger, known)
        reader = Node(self.network, 0, False, "reader")
        await reader.start()
        await self.read(reader, line)
        for other in (stranger, reader):
            assert other.chain.head.root == node.chain.head.root
        assert stranger.chain.tree.final == node.chain.tree.final
        # The votes that have made the last one final may be in a branch that was left.
        assert reader.chain.tree.final.epoch <= node.chain.tree.final.epoch
        assert reader.chain.tree.final.root in (self.genesis.root, *line)
        self.all_carry_on_the_same()
        self.check_supply(stranger)
        holders = sorted(self.writer.holders)
        for root, made in self.made.items():
            says = told(stranger, made.state, holders)
            for other in (reader, self.dice.choice(self.nodes)):
                if other.engine.header(made.state.payload.block_hash) is not None:
                    assert told(other, made.state, holders) == says
                else:
                    assert root not in line
        for other in (stranger, reader):
            await other.stop()

    def branches_first(self, line: set[Hash32]) -> Iterator[Hash32]:
        """All blocks, each after its parent: those that were left before the line that goes on."""
        children = defaultdict(list)
        for root, made in self.made.items():
            children[made.parent].append(root)
        todo = [self.genesis.root]
        while todo:
            root = todo.pop()
            if root in self.made:
                yield root
            todo += sorted(children[root], key=lambda child: (child not in line, child))

    async def read(self, reader: Node, line: list[Hash32]) -> None:
        """Take blocks several at a time, as from a peer."""
        while line:
            count = self.dice.randint(1, 5)
            several, line = line[:count], line[count:]
            arrivals = [reader.chain.arrival(self.made[root].data, "peer") for root in several]
            assert all(isinstance(arrival, Arrival) for arrival in arrivals)
            assert await reader.chain.take_line(arrivals) == len(several)  # type: ignore[arg-type]
            for known in map(reader.chain.tree.get, several):
                # Some may be below what is final by now.
                if known is not None:
                    self.compare(reader, known)

    def check_supply(self, node: Node) -> None:
        """All wei and all base fees ever paid are what there was at genesis, after every block."""
        spent = {self.genesis.root: 0}
        for root in self.branches_first(set()):
            made = self.made[root]
            header = node.engine.header(made.state.payload.block_hash)
            assert header is not None
            spent[root] = spent[made.parent] + header.gas_used * header.base_fee_per_gas
            held = sum(wei for _, wei in node.engine.nonces(header.hash, sorted(self.writer.holders)))
            assert held + spent[root] == self.network.spec.supply

    def verify(self) -> None:
        """Verify the files of a node as its operator would; but for the signatures, which are not real."""
        node = self.dice.choice(self.nodes)
        save_spec(node.folder, self.network.spec)
        (node.folder / "programs").mkdir(exist_ok=True)
        (node.folder / "programs" / "spin.wasm").write_bytes(SPIN)

        async def collect() -> list[Verified]:
            return [found async for found in verify_chain(node.folder)]

        with mock.patch.object(verify, "open_chain", partial(open_chain, scheme=FAKE)):
            found = asyncio.run(collect())
        for each in found:
            assert each.state_root == self.made[each.stored.root].state.payload.state_root
        assert found[-1].stored.height == node.chain.head.node.height


def test_who_has_taken_its_bond_out_is_in_no_voting_set_when_its_place_is_free(tmp_path: Path) -> None:
    """A node that is started again reads votes by place in the registry: it must still be the voter's."""

    async def story() -> None:
        network = await running(fast_network(tmp_path, MINERS, parameters=SMALL))
        node, leaver = network.nodes[0], dev_accounts()[LEAVER]

        async def send(nonce: int, data: bytes) -> None:
            raw = transfer(leaver, nonce, to=MINER_REGISTRY, value=0, gas=500_000, data=data)
            for each in network.nodes:
                await each.execution.submit([raw])

        await send(0, unbond_call(4_000 * NOR))
        await network.run_to(EPOCH - 1)
        assert state_of(node).miners[address(LEAVER)].bond_wei == 0
        await network.run_to((1 + SMALL.unbonding_epochs) * EPOCH)
        await send(1, withdraw_call(address(LEAVER)))
        await network.run_to((2 + SMALL.unbonding_epochs) * EPOCH + EPOCH // 2)
        assert address(LEAVER) not in state_of(node).miners
        # It weighs nothing from the next snapshot on, though it had a grant, and nobody waits for its votes.
        rows = [node.chain.snapshot(epoch) for epoch in range(2 + SMALL.unbonding_epochs)]
        assert [epoch for epoch, found in enumerate(rows) if found and found.row(address(LEAVER))] == [0, 1]
        assert node.chain.tree.final.epoch >= SMALL.unbonding_epochs
        before = {known.root: known for known in node.chain.tree}
        await node.stop()
        await node.start()
        assert {known.root: known for known in node.chain.tree} == before
        await network.stop()

    run_virtually(story())


TestHistories = pytest.mark.timeout(600)(pytest.mark.slow(Histories.TestCase))
# Nothing is made smaller: a failure says what was done, and each try takes seconds.
TestHistories.settings = settings(
    phases=[Phase.generate],
    max_examples=6,
    stateful_step_count=18,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
