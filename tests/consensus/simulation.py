"""A deterministic simulation with virtual time: many nodes, a bad network, and the real consensus code.

Everything that happens is an event in one queue, ordered by virtual milliseconds; the only randomness is a
seeded generator. So a run is repeated exactly by its seed, and a minute of virtual time costs what its events
cost.

Nodes send bytes and decode what they get; blocks, votes and evidence are checked by `noria.consensus`. Two
things are not real: signatures (`FakeScheme`), and that the outcome of checking a block, which is the same
for every node that knows its parent, is computed once for all of them.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final, TypeVar

from noria.consensus.blocks import Block, decode_block
from noria.consensus.certificate import WrongInput, check_input
from noria.consensus.fork_choice import descends
from noria.consensus.parameters import DEVNET, ChainParameters
from noria.consensus.sent_block import decode_sent_block
from noria.consensus.slashing import Evidence, decode_evidence
from noria.consensus.validity import Accepted, Rejected, check_before_forwarding, judge
from noria.consensus.votes import Checkpoint, SignedVote, decode_signed_vote
from noria.primitives.types import Address, Hash32
from tests.consensus.world import GENESIS_SECONDS, Link, World, address

if TYPE_CHECKING:
    from tests.consensus.byzantine import Behaviour
    from tests.consensus.simulated_node import Node

T = TypeVar("T")
SLOT_MILLISECONDS: Final = 1000
FAR_FUTURE: Final = 2**60


@dataclass(frozen=True, slots=True)
class Partition:
    """Groups of nodes that cannot reach each other for some time."""

    from_slot: int
    to_slot: int
    groups: tuple[frozenset[int], ...]

    def parts(self, slot: int, first: int, second: int) -> bool:
        if not self.from_slot <= slot < self.to_slot:
            return False
        return not any(first in group and second in group for group in self.groups)


@dataclass(frozen=True, slots=True)
class Weather:
    """What the network does to messages."""

    least_delay: int = 20
    mean_delay: int = 80
    """Milliseconds above the least one, exponentially distributed."""
    loss: float = 0.0
    partitions: tuple[Partition, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: how many nodes, who is what, and for how long."""

    nodes: int
    epochs: int
    seed: int = 0
    weather: Weather = field(default_factory=Weather)
    byzantine: Mapping[int, Behaviour] = field(default_factory=dict)
    """By node; the others are honest."""
    grants: Mapping[int, int] | None = None
    """Weight that needs no work, by node."""
    work: Mapping[int, Sequence[int]] | None = None
    """Fuel of units credited at genesis, by node."""
    crashes: Sequence[tuple[int, int, int]] = ()
    """(node, from slot, to slot): stopped, and started again with what it has stored."""
    parameters: ChainParameters = DEVNET
    drawn: float = 1.0
    """Share of the certificates that a node checks of its own accord."""


class Diverged(AssertionError):
    """Two honest nodes hold final checkpoints that exclude each other."""


class Simulation:
    """The queue, the network, the checks shared by all nodes, and the watch over what must never happen."""

    def __init__(self, plan: Plan) -> None:
        from tests.consensus.simulated_node import Node

        self.plan = plan
        self.random = Random(plan.seed)
        liars = [number for number, behaviour in plan.byzantine.items() if behaviour.lies]
        self.world = World(
            plan.nodes,
            plan.parameters,
            grants=plan.grants,
            work=plan.work,
            liars=liars,
            name=f"run {plan.seed}",
        )
        self.now = GENESIS_SECONDS * SLOT_MILLISECONDS
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._links: dict[tuple[Hash32, bytes], Link | Rejected] = {}
        self._decoded: dict[tuple[str, bytes], object] = {}
        self.links: dict[Hash32, Link] = {self.world.genesis_root: self.world.genesis}
        """Every valid block that anybody has seen."""
        self.rejections: Counter[str] = Counter()
        """What honest nodes have rejected, by the error's name."""
        self.refuted: set[Hash32] = set()
        self.alarm_runs: list[tuple[int, Address, int]] = []
        """Units that honest nodes have run because of an alarm: which node, who warned, in which epoch."""
        self.evidence_seen: Counter[str] = Counter()
        self.deepest_reorganisation = 0
        self.final = Checkpoint(0, self.world.genesis_root)
        """The highest final checkpoint of any honest node."""
        self.nodes: list[Node] = [Node(self, number) for number in range(plan.nodes)]
        self._foreign: Link | None = None

    # ------------------------------------------------------------ time

    @property
    def slot(self) -> int:
        return (self.now - GENESIS_SECONDS * SLOT_MILLISECONDS) // SLOT_MILLISECONDS

    @property
    def last_slot(self) -> int:
        return self.plan.epochs * self.plan.parameters.epoch_slots

    def after(self, milliseconds: int, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + milliseconds, self._count, action))

    def run(self) -> None:
        """Run the plan to its end."""
        for slot in range(1, self.last_slot + 1):
            for node in self.nodes:
                # Clocks differ a little.
                self.after(slot * SLOT_MILLISECONDS + self.random.randrange(30), node.begin_slot)
        for number, stop, start in self.plan.crashes:
            self.after(stop * SLOT_MILLISECONDS, self.nodes[number].stop)
            self.after(start * SLOT_MILLISECONDS, self.nodes[number].start)
        end = self.now + self.last_slot * SLOT_MILLISECONDS
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()

    def drawn(self) -> bool:
        """Whether a node checks one more certificate of its own accord."""
        return self.plan.drawn >= 1 or self.random.random() < self.plan.drawn

    # ------------------------------------------------------------ network

    def send(self, sender: int, receiver: int, message: bytes, *, reliable: bool = False) -> None:
        """Deliver a message some time later, or never."""
        weather = self.plan.weather
        if any(partition.parts(self.slot, sender, receiver) for partition in weather.partitions):
            return
        if not reliable and weather.loss and self.random.random() < weather.loss:
            return
        delay = weather.least_delay + int(self.random.expovariate(1 / max(weather.mean_delay, 1)))
        node = self.nodes[receiver]
        self.after(delay, lambda: node.receive(message, sender))

    def broadcast(self, sender: int, message: bytes, receivers: Sequence[int] | None = None) -> None:
        for receiver in range(self.plan.nodes) if receivers is None else receivers:
            if receiver != sender:
                self.send(sender, receiver, message)

    # ------------------------------------------------------------ shared checks

    def block(self, data: bytes) -> tuple[Block, bytes | None]:
        """Decode a block and its input; raise `InvalidMessage`. All nodes decode bytes to the same block."""
        return self._once("block", data, self._decode_block)

    def _decode_block(self, data: bytes) -> tuple[Block, bytes | None]:
        found = decode_sent_block(data, self.plan.parameters)
        return decode_block(found.block), found.input

    def vote(self, data: bytes) -> SignedVote:
        return self._once("vote", data, decode_signed_vote)

    def evidence(self, data: bytes) -> tuple[Evidence, ...]:
        return self._once("evidence", data, decode_evidence)

    def _once(self, kind: str, data: bytes, decode: Callable[[bytes], T]) -> T:
        found = self._decoded.get((kind, data))
        if found is None:
            try:
                found = decode(data)
            except ValueError as error:
                found = error
            self._decoded[kind, data] = found
        if isinstance(found, ValueError):
            raise found
        return found  # type: ignore[return-value]

    def check(self, block: Block, input: bytes | None, parent: Link) -> Link | Rejected:
        """Everything about a block whose slot has begun and whose parent is known."""
        found = self._check_block(block, parent)
        if isinstance(found, Rejected) or block.certificate is None:
            return found
        # Of this copy alone: the root says nothing of the input.
        if input is None:
            return Rejected("InputMissing", "the input did not come with the block", False)
        try:
            check_input(self.plan.parameters, block.certificate, input)
        except WrongInput as error:
            return Rejected("WrongInput", str(error), False)
        return found

    def _check_block(self, block: Block, parent: Link) -> Link | Rejected:
        key = (block.root(self.world.genesis_root), block.signature)
        if key not in self._links:
            made: list[Link] = []

            def check() -> None:
                check_before_forwarding(self.world.rules, block, parent, FAR_FUTURE)
                made.append(self.world.link(parent, block))

            verdict = judge(check)
            assert isinstance(verdict, Accepted | Rejected), verdict
            self._links[key] = made[0] if isinstance(verdict, Accepted) else verdict
            if made:
                self.links[made[0].block.root] = made[0]
        return self._links[key]

    # ------------------------------------------------------------ another network

    def foreign(self) -> Link:
        """The head of another network, which grows beside this one: the same miners with the same keys."""
        if self._foreign is None:
            plan = self.plan
            other = World(plan.nodes, plan.parameters, grants=plan.grants, work=plan.work, name="another")
            self._foreign = other.genesis
        link = self._foreign
        while link.block.slot < self.slot:
            link = link.world.extend(link, link.block.slot + 1)
        self._foreign = link
        return link

    # ------------------------------------------------------------ the watch

    def finalised(self, node: Node) -> None:
        """Insist that an honest node's final checkpoint lies on one line with all others'."""
        found = node.final
        low, high = sorted((found, self.final))
        nodes = {root: link.node for root, link in self.links.items()}
        if not descends(nodes, high.root, low.root):
            raise Diverged(
                f"seed {self.plan.seed}, slot {self.slot}: node {node.number} finalised {found}, others"
                f" {self.final}"
            )
        self.final = high

    @property
    def honest(self) -> list[Node]:
        return [node for node in self.nodes if node.number not in self.plan.byzantine]

    def slashed(self) -> set[Address]:
        """Whoever is slashed on the head of any honest node."""
        found = set()
        for node in self.honest:
            records = node.links[node.head].state.records.values()
            found |= {record.miner for record in records if record.slashed_epoch is not None}
        return found

    def addresses(self, numbers: Sequence[int]) -> set[Address]:
        return {address(number) for number in numbers}
