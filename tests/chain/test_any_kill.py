"""Invariant 6 as a machine: nodes are killed between any two durable steps, cut off, and started again.

A kill is what ``kill -9`` leaves: the files as they are at this very step. The node goes on in memory, but
nobody hears it, and what it writes is thrown away. Whatever the order, no miner signs two blocks or says two
votes that could cost its bond, a node comes back with all that was final, no two nodes differ about that, and
once all are there again the chain goes on. Where a clock is set back or the head has changed at a restart, a
miner comes a second time to slots and epochs for which it has signed before: only the journal knows. Where it
is lost, too, the miner lets pass what it may have signed.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from noria.consensus.slashing import slashable
from noria.consensus.slots import epoch_of
from noria.consensus.votes import Vote, decode_signed_vote
from noria.primitives.types import HASH_BYTES, BlsSignature, Hash32
from tests.chain.drawn import PARAMETERS, FakeKey, Network, Node, agree, fast_network, final_roots
from tests.virtual_time import VirtualLoop

MINERS = 4
NEVER = -1
GOING_ON_SLOTS = 5 * PARAMETERS.epoch_slots
ENGINE_STEPS = ("commit", "set_head")
STORE_STEPS = ("put", "finalise")
JOURNAL_STEPS = ("propose", "vote")


class SteppingEngine:
    """An engine with a step before and after what it writes."""

    def __init__(self, engine: Any, around: Callable[[Any], Any]) -> None:
        self._engine, self._around = engine, around

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        return self._around(found) if name in ENGINE_STEPS else found


class Pen:
    """A miner's key that notes what it signs."""

    def __init__(self, number: int, note: Callable[[bytes], None]) -> None:
        self._key, self._note = FakeKey(number), note
        self.public_key = self._key.public_key

    def sign(self, message: bytes) -> BlsSignature:
        self._note(message)
        return self._key.sign(message)


class Mortal(Node):
    """A node that is killed when a number of steps is done."""

    def __init__(self, network: Network, number: int, tell: Callable[[int, str, bytes], None]) -> None:
        super().__init__(network, number, True)
        self.tell = tell
        self.steps_left = NEVER
        self.dead = False
        self.lives = 0
        self.slot = 0
        """Of the block that is about to be signed."""
        self.remains = network.folder / f"remains{number}"
        self.final: list[Hash32] = []
        self.wrap = lambda engine: SteppingEngine(engine, self.around)
        self.ready = self.watch

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **options: Any) -> Any:
            self.step()
            result = call(*arguments, **options)
            self.step()
            return result

        return stepping

    def watch(self) -> None:
        propose = self.journal.propose

        def proposes(slot: int) -> None:
            propose(slot)
            self.slot = slot

        self.journal.propose = proposes  # type: ignore[method-assign]
        for owner, names in ((self.chain.store, STORE_STEPS), (self.journal, JOURNAL_STEPS)):
            for name in names:
                setattr(owner, name, self.around(getattr(owner, name)))

    def step(self) -> None:
        if self.steps_left == 0:
            self.kill()
        self.steps_left = max(NEVER, self.steps_left - 1)

    def kill(self) -> None:
        """Keep the files as they are now, and fall silent."""
        if not self.dead:
            self.dead, self.running = True, False
            shutil.copytree(self.folder, self.remains)

    def _say(self, kind: str, data: bytes) -> None:
        self.step()
        if not self.dead:
            self.tell(self.number, kind, data)
            super()._say(kind, data)
            self.step()

    async def bury(self) -> None:
        """End what goes on in memory, and put the files back as they were."""
        self.running = True
        await self.stop()
        shutil.rmtree(self.folder)
        self.remains.rename(self.folder)

    async def rise(self, lag: float, steps: int) -> None:
        """Start, and be killed after so many steps, perhaps before all is there."""
        if self.remains.exists():
            await self.bury()
        self.lag, self.dead, self.steps_left, self.lives = lag, False, steps, self.lives + 1
        await self.start()
        assert self.miner is not None
        # Settings may change at a restart: what is made a second time is another block.
        self.miner._extra_data = bytes([self.lives])
        self.running = not self.dead
        if self.dead:
            await self.bury()


class Kills(RuleBasedStateMachine):
    """Kills, cuts and restarts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="noria-kills-"))
        self.loop = VirtualLoop()
        self.nodes: list[Mortal] = []
        self.blocks: dict[tuple[int, int], bytes] = {}
        self.votes: dict[int, list[Vote]] = {}
        self.offences: list[str] = []
        self.final: list[Hash32] = []

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(work)
        finally:
            asyncio.set_event_loop(None)

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
        await self.network.run_to(int(self.loop.time()) + slots)
        for node in self.nodes:
            if node.dead and node.remains.exists():
                await node.bury()

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
        now, epoch = int(self.loop.time()), PARAMETERS.epoch_slots
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

    def teardown(self) -> None:
        try:
            if self.nodes:
                self.do(self._end())
        finally:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.close()
            shutil.rmtree(self.folder)

    async def _end(self) -> None:
        """All are there again: the chain goes on."""
        self.network.partition()
        for node in self.nodes:
            node.lag, node.steps_left = 0.0, NEVER
            if not node.running:
                await node.rise(0.0, NEVER)
        for node in self.nodes:
            for other in self.network.others(node):
                await node.catch_up(other)
        await self._pass(GOING_ON_SLOTS)
        self.nobody_says_what_costs_its_bond()
        self.nothing_final_is_lost_or_twofold()
        assert agree(self.network)
        now = epoch_of(PARAMETERS, int(self.loop.time()))
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
