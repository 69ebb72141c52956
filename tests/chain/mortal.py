"""Nodes that are killed between any two durable steps.

A kill is what ``kill -9`` leaves: the files as they are at this very step. The node goes on in memory, but
nobody hears it, and what it writes is thrown away.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from noria.primitives.types import BlsSignature, Hash32
from tests.chain.drawn import FakeKey, Network, Node

NEVER = -1
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
        self.failure: Exception | None = None
        """Of what a test looks at while it lives; the node would only log it."""
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
