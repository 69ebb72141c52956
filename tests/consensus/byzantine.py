"""What nodes of the simulation send: honest ones what they made, the others whatever may hurt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from noria.consensus.alarms import Alarm, alarm_message, encode_alarm
from noria.consensus.blocks import Block
from noria.consensus.finality import Tally
from noria.consensus.sent_block import sent_block_bytes_max
from noria.consensus.slashing import AttributedVote, VoteEvidence, encode_evidence
from noria.consensus.validity import CertificateRefuted
from noria.consensus.votes import Checkpoint, SignedVote, Vote, encode_signed_vote, vote_message
from noria.consensus.voting import due_tally
from noria.primitives.types import BlsSignature, Hash32
from tests.consensus.world import FAKE, address, bls_key, check_by_running, sent, sent_with

if TYPE_CHECKING:
    from tests.consensus.simulated_node import Node


class Behaviour(Protocol):
    """What a node does with what it has made."""

    @property
    def lies(self) -> bool:
        """Whether its credited work was never run."""
        ...

    @property
    def serves(self) -> bool:
        """Whether it gives blocks to who asks."""
        ...

    def begin_slot(self, node: Node, slot: int) -> None: ...
    def propose(self, node: Node, block: Block) -> None: ...
    def vote(self, node: Node, tally: Tally, vote: SignedVote) -> None: ...


def keep_and_publish(node: Node, block: Block, receivers: list[int] | None = None) -> None:
    """Take a block of one's own and send it."""
    data = sent(block)
    node.receive(b"B" + data, node.number)
    node.publish(b"B", data, receivers)


def alarm_of(node: Node, root: Hash32) -> Alarm:
    """A node's warning of a block, whatever it shows."""
    signature = FAKE.sign(bls_key(node.number), alarm_message(node.world.genesis_root, root))
    return Alarm(root, address(node.number), signature)


def halves(node: Node) -> tuple[list[int], list[int]]:
    """All nodes in two halves, others on every call."""
    numbers = list(range(node.simulation.plan.nodes))
    node.simulation.random.shuffle(numbers)
    return numbers[::2], numbers[1::2]


@dataclass(frozen=True, slots=True)
class Honest:
    """Sends what it has made."""

    lies: bool = False
    serves: bool = True

    def begin_slot(self, node: Node, slot: int) -> None:
        pass

    def propose(self, node: Node, block: Block) -> None:
        keep_and_publish(node, block)

    def vote(self, node: Node, tally: Tally, vote: SignedVote) -> None:
        node.keep_vote(vote)
        node.publish(b"V", encode_signed_vote(vote))


HONEST = Honest()
LIAR = Honest(lies=True)
"""Follows every rule, but was credited for work that it never did."""


@dataclass(frozen=True, slots=True)
class Silent:
    """Never sends anything."""

    lies: bool = False
    serves: bool = True

    def begin_slot(self, node: Node, slot: int) -> None:
        pass

    def propose(self, node: Node, block: Block) -> None:
        pass

    def vote(self, node: Node, tally: Tally, vote: SignedVote) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Equivocator:
    """Two blocks for each slot it wins, one for each half of the others."""

    lies: bool = False
    serves: bool = True

    def begin_slot(self, node: Node, slot: int) -> None:
        pass

    def propose(self, node: Node, block: Block) -> None:
        parent = node.links[block.header.parent_root]
        other = node.make_block(parent, block.header.slot, extra=b"other")
        first, second = halves(node)
        keep_and_publish(node, block, first)
        keep_and_publish(node, other, second)

    def vote(self, node: Node, tally: Tally, vote: SignedVote) -> None:
        HONEST.vote(node, tally, vote)


@dataclass(frozen=True, slots=True)
class DoubleVoter:
    """Two votes with one target epoch, for two forks where there are two, one for each half of the others."""

    lies: bool = False
    serves: bool = True

    def begin_slot(self, node: Node, slot: int) -> None:
        pass

    def propose(self, node: Node, block: Block) -> None:
        keep_and_publish(node, block)

    def vote(self, node: Node, tally: Tally, vote: SignedVote) -> None:
        target = node.links[tally.target.root].node
        rivals = [
            other.root for other in node.tree.values() if other.height == target.height and other != target
        ]
        root = rivals[0] if rivals else target.parent_root
        other = node.world.vote(node.number, Vote(tally.source, Checkpoint(tally.target.epoch, root)))
        first, second = halves(node)
        node.publish(b"V", encode_signed_vote(vote), first)
        node.publish(b"V", encode_signed_vote(other), second)


@dataclass(frozen=True, slots=True)
class SurroundVoter:
    """Votes that surround its last one."""

    lies: bool = False
    serves: bool = True

    def begin_slot(self, node: Node, slot: int) -> None:
        pass

    def propose(self, node: Node, block: Block) -> None:
        keep_and_publish(node, block)

    def vote(self, node: Node, tally: Tally, vote: SignedVote) -> None:
        HONEST.vote(node, tally, vote)
        if tally.source.epoch > 1 and tally.target.epoch % 3 == 0:
            outer = Vote(
                Checkpoint(tally.source.epoch - 1, tally.source.root),
                Checkpoint(tally.target.epoch + 1, tally.target.root),
            )
            node.publish(b"V", encode_signed_vote(node.world.vote(node.number, outer)))


@dataclass(frozen=True, slots=True)
class Withholder:
    """Builds in secret with its friends and shows several blocks at once; its votes come late or never."""

    friends: tuple[int, ...] = ()
    lies: bool = False
    serves: bool = True

    def begin_slot(self, node: Node, slot: int) -> None:
        pass

    def propose(self, node: Node, block: Block) -> None:
        keep_and_publish(node, block, list(self.friends))
        # All secret blocks of a stretch come out together.
        period = 7000
        elapsed = node.simulation.now % period
        node.simulation.after(period - elapsed, lambda: node.publish(b"B", sent(block)))

    def vote(self, node: Node, tally: Tally, vote: SignedVote) -> None:
        late = node.simulation.random.choice((0, 3000, 12_000, None))
        if late is not None:
            node.simulation.after(late, lambda: HONEST.vote(node, tally, vote))


@dataclass(frozen=True, slots=True)
class Forger:
    """Floods: slots it has not won, others' names, another network's messages, damaged and huge bytes."""

    lies: bool = False
    serves: bool = True

    def begin_slot(self, node: Node, slot: int) -> None:
        parent = node.links[node.head]
        epoch = slot // node.world.parameters.epoch_slots
        if slot <= parent.block.slot or parent.taken(epoch).row(address(node.number)) is None:
            return
        random = node.simulation.random
        block = node.make_block(parent, slot)
        data = sent(block)
        place = random.randrange(len(data))
        victim = random.randrange(node.simulation.plan.nodes)
        forged_header = replace(block.header, vrf_proof=BlsSignature(bytes(96)))
        stolen = replace(block, header=replace(block.header, proposer=address(victim)))
        messages = [
            b"B" + data,  # right, unless the slot is not won
            b"B" + sent(node.world.sign(replace(block, header=forged_header), node.number)),
            b"B" + sent(stolen),
            b"B" + data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :],
            b"B" + data[:place],
            b"B" + sent(replace(block, payload=b"\xc0")),
            b"V" + encode_signed_vote(self._foreign_vote(node)),
            b"V" + data[:200],
            b"E" + encode_evidence([self._forged_evidence(node, victim)]),
            b"A" + encode_alarm(alarm_of(node, node.head)),
            b"A" + data[:150],
            b"?" + data[:10],
        ]
        if slot % 16 == 5:
            messages.append(b"B" + bytes(sent_block_bytes_max(node.world.parameters) + 1))
        node.publish(b"", random.choice(messages))

    def propose(self, node: Node, block: Block) -> None:
        keep_and_publish(node, block)

    def vote(self, node: Node, tally: Tally, vote: SignedVote) -> None:
        HONEST.vote(node, tally, vote)

    def _foreign_vote(self, node: Node) -> SignedVote:
        """A vote that is right on another network."""
        other = Hash32(bytes(32))
        vote = Vote(Checkpoint(0, other), Checkpoint(1, other))
        return SignedVote(
            vote, address(node.number), FAKE.sign(bls_key(node.number), vote_message(other, vote))
        )

    def _forged_evidence(self, node: Node, victim: int) -> VoteEvidence:
        """Votes that an honest miner never signed."""
        root = node.world.genesis_root
        votes = [Vote(Checkpoint(0, root), Checkpoint(1, Hash32(bytes([which]) * 32))) for which in (1, 2)]
        return VoteEvidence(
            *(AttributedVote(vote, (address(victim),), BlsSignature(bytes(96))) for vote in votes)
        )


@dataclass(frozen=True, slots=True)
class FalseAlarmist:
    """Warns in every slot of the latest blocks that show true work, of several at once."""

    at_once: int = 3
    lies: bool = False
    serves: bool = True

    def begin_slot(self, node: Node, slot: int) -> None:
        for root in islice(self._right(node), self.at_once):
            node.publish(b"A", encode_alarm(alarm_of(node, root)))

    def propose(self, node: Node, block: Block) -> None:
        keep_and_publish(node, block)

    def vote(self, node: Node, tally: Tally, vote: SignedVote) -> None:
        HONEST.vote(node, tally, vote)

    def _right(self, node: Node) -> Iterator[Hash32]:
        for link in node.chain(node.head):
            assert link.envelope is not None
            if link.envelope.certificate is None:
                continue
            try:
                check_by_running(link.envelope.certificate)
            except CertificateRefuted:
                continue
            yield link.block.root


@dataclass(frozen=True, slots=True)
class WrongInput:
    """Shows everybody's true blocks with other inputs than their units' or none; its own right ones later."""

    lies: bool = False
    serves: bool = True

    def begin_slot(self, node: Node, slot: int) -> None:
        block = node.links[node.head].envelope
        if block is not None and block.certificate is not None:
            self._show(node, block)

    def propose(self, node: Node, block: Block) -> None:
        node.receive(b"B" + sent(block), node.number)
        if block.certificate is not None:
            self._show(node, block)
        node.simulation.after(500, lambda: node.publish(b"B", sent(block)))

    def vote(self, node: Node, tally: Tally, vote: SignedVote) -> None:
        HONEST.vote(node, tally, vote)

    def _show(self, node: Node, block: Block) -> None:
        assert block.certificate is not None
        wrong = (None, b"", b"another input", bytes(1000))
        node.publish(b"B", sent_with(block, node.simulation.random.choice(wrong)))


@dataclass(frozen=True, slots=True)
class ForeignReplay:
    """Repeats what everybody has said on another network, where the same miners have the same keys."""

    lies: bool = False
    serves: bool = True

    def begin_slot(self, node: Node, slot: int) -> None:
        head = node.simulation.foreign()
        assert head.envelope is not None
        node.publish(b"B", sent(head.envelope))
        block = head.block
        found = due_tally(
            node.world.parameters,
            block.root,
            block.slot,
            block.finality,
            slot // node.world.parameters.epoch_slots,
        )
        if found is not None:
            voter = node.simulation.random.randrange(node.simulation.plan.nodes)
            node.publish(b"V", encode_signed_vote(head.world.vote(voter, found.vote)))

    def propose(self, node: Node, block: Block) -> None:
        keep_and_publish(node, block)

    def vote(self, node: Node, tally: Tally, vote: SignedVote) -> None:
        HONEST.vote(node, tally, vote)


@dataclass(frozen=True, slots=True)
class TwoFaced:
    """Builds and votes on every fork at once.

    Without sides it tells everybody everything. With two sides of a partition it follows the chain of each,
    and tells neither what it does on the other.
    """

    sides: tuple[frozenset[int], ...] = ()
    from_slot: int = 0
    """Honest until then."""
    lies: bool = False
    serves: bool = False

    def begin_slot(self, node: Node, slot: int) -> None:
        for tip, receivers in self._faces(node):
            link = node.links[tip]
            if slot > link.block.slot and node.world.wins(link, node.number, slot):
                keep_and_publish(node, node.make_block(link, slot), receivers)

    def propose(self, node: Node, block: Block) -> None:
        if node.simulation.slot < self.from_slot:
            keep_and_publish(node, block)

    def vote(self, node: Node, tally: Tally, vote: SignedVote) -> None:
        if node.simulation.slot < self.from_slot:
            HONEST.vote(node, tally, vote)
        for tip, receivers in self._faces(node):
            block = node.links[tip].block
            found = due_tally(
                node.world.parameters, block.root, block.slot, block.finality, tally.target.epoch
            )
            if found is not None:
                signed = node.world.vote(node.number, found.vote)
                node.keep_vote(signed)
                node.publish(b"V", encode_signed_vote(signed), receivers)

    def _faces(self, node: Node) -> list[tuple[Hash32, list[int] | None]]:
        """The chains to follow, and who may know of it."""
        if node.simulation.slot < self.from_slot:
            return []
        tips = _tips(node)
        if not self.sides:
            return [(tip, None) for tip in tips]
        faces: list[tuple[Hash32, list[int] | None]] = []
        for side in self.sides:
            theirs = [tip for tip in tips if self._side(node, tip) in (side, None)]
            if theirs:
                best = max(theirs, key=lambda tip: (node.tree[tip].height, tip))
                faces.append((best, sorted(side)))
        return faces

    def _side(self, node: Node, tip: Hash32) -> frozenset[int] | None:
        """Who builds on a fork: the side of its last proposer that is on one side only."""
        for link in node.chain(tip):
            assert link.envelope is not None
            proposer = node.world.numbers[link.envelope.header.proposer]
            found = [side for side in self.sides if proposer in side]
            if len(found) == 1 and link.block.slot >= self.from_slot:
                return found[0]
        return None


def _tips(node: Node) -> list[Hash32]:
    """Viable ends of chains, in a fixed order."""
    parents = {other.parent_root for other in node.tree.values()}
    return sorted(root for root in node.tree if root not in parents)
