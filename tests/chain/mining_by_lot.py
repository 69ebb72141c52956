"""A miner in a process of its own, which is killed at a step that its parent has chosen.

    python -m tests.chain.mining_by_lot FOLDER FIRST_SLOT LAST_SLOT STEP

Everything it says goes, as a line of text, to ``FOLDER/said`` before the step after it. The last line of its
output is where it stood at the end; with a STEP of 0 or more it ends by SIGKILL when it has come that far.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from noria.consensus.slots import epoch_of
from tests.chain.drawn import Network, Node, fast_network, final_roots
from tests.virtual_time import VirtualLoop


class Steps:
    """Counts what is made durable or sent, and kills the process at one of these."""

    def __init__(self, last: int) -> None:
        self.left = last

    def around(self, owner: Any, name: str) -> None:
        """Be killed before or after calls of a method."""
        inner: Callable[..., Any] = getattr(owner, name)

        def stepping(*arguments: Any, **options: Any) -> Any:
            self.step()
            result = inner(*arguments, **options)
            self.step()
            return result

        setattr(owner, name, stepping)

    def step(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


class Engine:
    """The engine with steps around what it writes."""

    def __init__(self, engine: Any, steps: Steps) -> None:
        self._engine, self._steps = engine, steps

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if name not in ("commit", "set_head"):
            return found

        def stepping(*arguments: Any, **options: Any) -> Any:
            self._steps.step()
            result = found(*arguments, **options)
            self._steps.step()
            return result

        return stepping


async def mine(folder: Path, last_slot: int, step: int) -> None:
    network: Network = fast_network(folder, 1)
    said = (folder / "said").open("a")
    steps = Steps(step)
    node = Node(network, 0, True)
    network.nodes.append(node)

    def hear(kind: str, data: bytes) -> None:
        steps.step()
        said.write(f"{kind} {data.hex()}\n")
        said.flush()
        steps.step()

    node._say = hear  # type: ignore[method-assign]
    node.wrap = lambda engine: Engine(engine, steps)

    def watch() -> None:
        steps.around(node.chain.store, "put")
        steps.around(node.chain.store, "finalise")
        steps.around(node.journal, "propose")
        steps.around(node.journal, "vote")

    node.ready = watch
    await node.start()
    await network.run_to(last_slot)
    status = node.chain.status
    assert status.finalised.epoch <= epoch_of(network.spec.parameters, last_slot)
    final = final_roots(node)
    print(status.head_slot, status.finalised.epoch, len(final), b"".join(final).hex() or "-")
    await node.stop()


if __name__ == "__main__":
    loop = VirtualLoop()
    loop.now = float(sys.argv[2])
    loop.run_until_complete(mine(Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])))
