"""Invariant 6 as a machine: nodes are killed between any two durable steps, cut off, and started again.

Whatever the order, no miner signs two blocks or says two
votes that could cost its bond, a node comes back with all that was final, no two nodes differ about that, and
once all are there again the chain goes on. Where a clock is set back or the head has changed at a restart, a
miner comes a second time to slots and epochs for which it has signed before: only the journal knows. Where it
is lost, too, the miner lets pass what it may have signed.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from noria.consensus.slashing import slashable
from noria.consensus.slots import epoch_of
from noria.consensus.votes import Vote, decode_signed_vote
from noria.primitives.types import HASH_BYTES, Hash32
from tests.chain.drawn import PARAMETERS, agree, fast_network, final_roots
from tests.chain.mortal import NEVER, Mortal, Pen
from tests.chain.network_machine import NetworkMachine

MINERS = 4
GOING_ON_SLOTS = 5 * PARAMETERS.epoch_slots


class Kills(NetworkMachine):
    """Kills, cuts and restarts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: dict[tuple[int, int], bytes] = {}
        self.votes: dict[int, list[Vote]] = {}
        self.offences: list[str] = []
        self.final: list[Hash32] = []

    def tell(self, number: int, kind: str, data: bytes) -> None:
        """Compare a vote with all that its miner has ever cast."""
        if kind == "vote":
            vote = decode_signed_vote(data).vote
            said = self.votes.setdefault(number, [])
            self.offences += [
                f"miner {number}: {other} and {vote}" for other in said if slashable(other, vote)
            ]
            said.append(vote)

    def sign(self, number: int, message: bytes) -> None:
        """Compare a block's root with what its miner has ever signed."""
        node = self.nodes[number]
        is_block = len(message) == HASH_BYTES and not node.dead
        if is_block and self.blocks.setdefault((number, node.slot), message) != message:
            self.offences.append(f"miner {number} has signed two blocks for slot {node.slot}")

    @initialize()
    def begin(self) -> None:
        self.network = fast_network(self.folder, MINERS)
        self.network.signer = lambda number: Pen(number, lambda message: self.sign(number, message))
        self.nodes = [Mortal(self.network, number, self.tell) for number in range(MINERS)]
        self.network.nodes.extend(self.nodes)

        async def start() -> None:
            for node in self.nodes:
                await node.start()

        self.do(start())

    # ------------------------------------------------------------ what happens

    @rule(slots=st.sampled_from([1, 2, 5, 9, 16]))
    def time_passes(self, slots: int) -> None:
        self.do(self._pass(slots))

    async def _pass(self, slots: int) -> None:
        await self.to_slot(self.slot + slots)

    @precondition(lambda self: any(node.running for node in self.nodes))
    @rule(who=st.integers(0, MINERS - 1), steps=st.integers(0, 25), torn=st.booleans())
    def one_is_killed(self, who: int, steps: int, torn: bool) -> None:
        node = self.nodes[who]
        if not node.running:
            return
        self._remember(node)
        node.steps_left = steps
        self.do(self._pass(1 + steps // 4))
        if node.running:
            # It had nothing to do meanwhile.
            node.kill()
            self.do(self._pass(1))
        if torn:
            # Killed while the journal was being written: this file is not in its place yet.
            (node.folder / "journal.partial").write_bytes(b"half of")

    @precondition(lambda self: any(not node.running for node in self.nodes))
    @rule(who=st.integers(0, MINERS - 1), lag=st.sampled_from([0.0, 0.0, 2.0, 5.0]), steps=st.integers(-1, 6))
    def one_is_started(self, who: int, lag: float, steps: int) -> None:
        """Perhaps with a clock that goes after, perhaps only to be killed again."""
        if not self.nodes[who].running:
            self.do(self.nodes[who].rise(lag, steps))

    @rule(first=st.sets(st.integers(0, MINERS - 1), max_size=MINERS // 2))
    def links_are_cut_or_mended(self, first: set[int]) -> None:
        self.network.partition(*([sorted(first), sorted(set(range(MINERS)) - first)] if first else []))

    @rule(who=st.integers(0, MINERS - 1), steps=st.integers(0, 12), lag=st.sampled_from([1.0, 2.0, 3.0]))
    def one_is_killed_and_lives_the_last_slots_again(self, who: int, steps: int, lag: float) -> None:
        node = self.nodes[who]
        if node.running:
            self._remember(node)
            node.steps_left = steps
            for _ in range(PARAMETERS.epoch_slots):
                if node.running:
                    self.do(self._pass(1))
            node.kill()
        self.do(node.rise(lag, NEVER))
        self.do(self._pass(4))

    @rule(who=st.integers(0, MINERS - 1))
    def one_loses_its_journal(self, who: int) -> None:
        """Its blocks are still there; what it has signed is not."""
        node = self.nodes[who]
        if node.running:
            self._remember(node)
            node.kill()
        if node.remains.exists():
            self.do(node.bury())
        (node.folder / "journal").unlink(missing_ok=True)
        self.do(node.rise(0.0, NEVER))
        self.do(self._pass(PARAMETERS.epoch_slots))

    @precondition(lambda self: all(node.running for node in self.nodes))
    @rule(who=st.permutations(range(MINERS)), lag=st.sampled_from([0.0, 2.0]), later=st.integers(4, 6))
    def one_votes_and_is_started_on_the_other_side(self, who: list[int], lag: float, later: int) -> None:
        """It votes on one side of a cut, follows the other one, and is killed and started in that epoch."""
        node, friend, *rest = (self.nodes[number] for number in who)
        self.network.partition([node.number, friend.number], [other.number for other in rest])
        now, epoch = self.slot, PARAMETERS.epoch_slots
        self.do(self._pass(epoch - now % epoch + later))
        self.network.partition([friend.number], [node.number, *(other.number for other in rest)])
        self.do(self._pass(4))
        node.kill()
        self.do(node.rise(lag, NEVER))
        self.do(self._pass(epoch - later - 4))

    # ------------------------------------------------------------ what must hold

    def _remember(self, node: Mortal) -> None:
        found = final_roots(node)
        assert found[: len(node.final)] == node.final
        node.final = found
        longest, other = (found, self.final) if len(found) > len(self.final) else (self.final, found)
        assert longest[: len(other)] == other
        self.final = longest

    @invariant()
    def nothing_final_is_lost_or_twofold(self) -> None:
        for node in self.nodes:
            if node.running:
                self._remember(node)

    @invariant()
    def nobody_says_what_costs_its_bond(self) -> None:
        assert self.offences == []
        assert not any(len(node.hearsay.evidence) for node in self.nodes if node.running)

    def end(self) -> None:
        self.do(self._end())

    async def _end(self) -> None:
        """All are there again: the chain goes on."""
        await self.all_again()
        await self._pass(GOING_ON_SLOTS)
        self.nobody_says_what_costs_its_bond()
        self.nothing_final_is_lost_or_twofold()
        assert agree(self.network)
        now = epoch_of(PARAMETERS, self.slot)
        assert min(node.chain.tree.final.epoch for node in self.nodes) >= now - 3
        await self.network.stop()


TestKills = pytest.mark.timeout(600)(pytest.mark.slow(Kills.TestCase))
# Nothing is made smaller: a failure says what was done, and each try takes seconds.
TestKills.settings = settings(
    phases=[Phase.generate],
    max_examples=8,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
