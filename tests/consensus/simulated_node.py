"""A node of the simulation: it keeps blocks, follows fork choice, proposes, votes, checks, warns, reports."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from noria.consensus.alarms import (
    Alarm,
    AlarmRecord,
    alarm_message,
    check_alarm,
    decode_alarm,
    encode_alarm,
    record_alarm,
    record_check,
    record_false,
    why_unheard,
)
from noria.consensus.blocks import Block
from noria.consensus.finality import Tally, enter_epoch
from noria.consensus.fork_choice import BlockNode, choose_head, descends, final_checkpoint, line
from noria.consensus.headers import SignedHeader
from noria.consensus.slashing import (
    AttributedVote,
    Evidence,
    EvidenceError,
    ProposalEvidence,
    VoteEvidence,
    check_evidence,
    double_proposal,
    encode_evidence,
    slashable,
)
from noria.consensus.slots import epoch_of
from noria.consensus.validity import CertificateRefuted, Rejected
from noria.consensus.votes import (
    AggregatedVote,
    Checkpoint,
    SignedVote,
    Vote,
    VoteError,
    aggregate_votes,
    vote_message,
    voters,
)
from noria.consensus.voting import (
    Cast,
    OwnRecord,
    Wait,
    WouldBeSlashable,
    decide_vote,
    due_tally,
    record_proposal,
)
from noria.primitives.types import Address, Hash32
from tests.consensus.byzantine import HONEST, Behaviour
from tests.consensus.world import FAKE, Link, address, bls_key, check_by_running, sent

if TYPE_CHECKING:
    from tests.consensus.simulation import Simulation

BLOCK: Final = b"B"
VOTE: Final = b"V"
EVIDENCE: Final = b"E"
ALARM: Final = b"A"
WANT: Final = b"W"
STATUS: Final = b"S"
GOSSIP_PEERS: Final = 3
RANGE_MAX: Final = 256
EVIDENCE_PER_BLOCK: Final = 4
VOTES_KEPT_EPOCHS: Final = 3
CHECK_MILLISECONDS: Final = (100, 1500)
ALARM_MILLISECONDS: Final = 50
"""Until a certificate is checked of which somebody warns."""


class Node:
    """One miner's node. Its behaviour decides what leaves it."""

    def __init__(self, simulation: Simulation, number: int) -> None:
        self.simulation, self.number = simulation, number
        self.world = simulation.world
        self.behaviour: Behaviour = simulation.plan.byzantine.get(number, HONEST)
        self.running = True
        # Stored: survives a stop.
        genesis = self.world.genesis
        self.links: dict[Hash32, Link] = {genesis.block.root: genesis}
        self.tree: dict[Hash32, BlockNode] = {genesis.block.root: genesis.node}
        self.final = Checkpoint(0, genesis.block.root)
        self.record = OwnRecord()
        self.refuted: set[Hash32] = set()
        self.right: set[Hash32] = set()
        # Lost by a stop.
        self._forget()

    def _forget(self) -> None:
        self.head = self.final.root
        self.unchecked: set[Hash32] = set()
        self.orphans: dict[Hash32, dict[bytes, int]] = {}
        self.votes: dict[Vote, dict[Address, SignedVote]] = {}
        self.last_votes: dict[Address, dict[Vote, SignedVote]] = {}
        self.included: dict[Vote, list[AttributedVote]] = {}
        self.headers: dict[tuple[Address, int], SignedHeader] = {}
        self.evidence: list[Evidence] = []
        self.voted_epoch = 0
        self.heard: set[bytes] = set()
        self.alarm_record = AlarmRecord()
        self.alarms: set[tuple[Address, Hash32]] = set()

    @property
    def honest(self) -> bool:
        return self.behaviour is HONEST

    def stop(self) -> None:
        self.running = False

    def start(self) -> None:
        self.running = True
        self._forget()
        self._choose()

    # ------------------------------------------------------------ each slot

    def begin_slot(self) -> None:
        if not self.running:
            return
        slot = self.simulation.slot
        if slot % self.world.parameters.epoch_slots == 0:
            # What another chain knows may be old enough now.
            self._choose()
        self._ask_for_missing()
        self.behaviour.begin_slot(self, slot)
        head = self.links[self.head]
        if slot > head.block.slot and self.world.wins(head, self.number, slot):
            self._propose(head, slot)
        self._vote(slot)

    def _propose(self, parent: Link, slot: int) -> None:
        if self._jailed(parent, self.number, slot):
            return
        try:
            record = record_proposal(self.record, slot)
        except WouldBeSlashable:
            return
        self.record = record
        self.behaviour.propose(self, self.make_block(parent, slot))

    def make_block(self, parent: Link, slot: int, extra: bytes = b"") -> Block:
        """A right block on a parent, with the votes and evidence that this node has."""
        votes = self._votes_for(parent, slot)
        return self.world.block(
            parent, slot, self.number, votes=votes, evidence=self._evidence_for(parent, slot), extra=extra
        )

    def _votes_for(self, parent: Link, slot: int) -> tuple[AggregatedVote, ...]:
        parameters, before = self.world.parameters, parent.block
        epoch = epoch_of(parameters, slot)
        state = enter_epoch(
            parameters, before.finality, before.root, epoch_of(parameters, before.slot), epoch
        )
        made: list[AggregatedVote] = []
        for tally in state.tallies:
            voting_set = parent.taken(tally.voting_epoch)
            new = []
            for miner, vote in self.votes.get(tally.vote, {}).items():
                position = voting_set.position(miner)
                record = parent.state.records[miner]
                if position is not None and not tally.bits >> position & 1 and not record.jailed(epoch):
                    new.append(vote)
            if new:
                made.extend(aggregate_votes(FAKE, voting_set, new))
        return tuple(made)

    def _evidence_for(self, parent: Link, slot: int) -> tuple[Evidence, ...]:
        chosen: list[Evidence] = []
        convicted: set[Address] = set()
        epoch = epoch_of(self.world.parameters, slot)
        # Who breaks the rules does not report it.
        for evidence in self.evidence if self.honest else ():
            try:
                guilty = check_evidence(
                    self.world.parameters, FAKE, self.world.genesis_root, parent.state, evidence, epoch
                )
            except EvidenceError:
                continue
            if not convicted.issuperset(guilty) and len(chosen) < EVIDENCE_PER_BLOCK:
                chosen.append(evidence)
                convicted.update(guilty)
        return tuple(chosen)

    def _vote(self, slot: int) -> None:
        parameters = self.world.parameters
        epoch = epoch_of(parameters, slot)
        if epoch <= self.voted_epoch:
            return
        tally = self.tally(epoch)
        decision = decide_vote(
            parameters,
            slot=slot,
            tally=tally,
            voter=tally is not None and self._voter(tally, slot),
            blocks=self.tree,
            final=self.final,
            refuted=self.refuted,
            unchecked=self.unchecked,
            record=self.record,
        )
        if isinstance(decision, Wait):
            return
        self.voted_epoch = epoch
        if isinstance(decision, Cast):
            self.record = decision.record
            assert tally is not None
            self.behaviour.vote(self, tally, self.world.vote(self.number, decision.vote))

    def tally(self, epoch: int) -> Tally | None:
        """What is to be voted on in an epoch."""
        block = self.links[self.head].block
        return due_tally(self.world.parameters, block.root, block.slot, block.finality, epoch)

    def _voter(self, tally: Tally, slot: int) -> bool:
        head = self.links[self.head]
        voting_set = head.taken(tally.voting_epoch)
        return voting_set.row(address(self.number)) is not None and not self._jailed(head, self.number, slot)

    def _jailed(self, link: Link, number: int, slot: int) -> bool:
        return link.state.records[address(number)].jailed(epoch_of(self.world.parameters, slot))

    # ------------------------------------------------------------ messages

    def publish(self, kind: bytes, data: bytes, receivers: list[int] | None = None) -> None:
        """Send to everybody or to some."""
        if self.running:
            self.simulation.broadcast(self.number, kind + data, receivers)

    def _forward(self, kind: bytes, data: bytes) -> None:
        if self.honest:
            self.publish(kind, data, [self._somebody() for _ in range(GOSSIP_PEERS)])

    def receive(self, message: bytes, sender: int) -> None:
        if not self.running:
            return
        kind, data = message[:1], message[1:]
        try:
            if kind == BLOCK:
                self._block(data, sender)
            elif kind == VOTE:
                self._receive_vote(data)
            elif kind == EVIDENCE:
                for evidence in self.simulation.evidence(data):
                    self._keep_evidence(evidence, spread=False)
            elif kind == ALARM:
                self._alarm(data)
            elif kind in (WANT, STATUS):
                if self.behaviour.serves:
                    (self._serve if kind == WANT else self._status)(data, sender)
            else:
                self._reject("UnknownKind")
        except ValueError as error:
            self._reject(type(error).__name__)

    def _reject(self, kind: str) -> None:
        if self.honest:
            self.simulation.rejections[kind] += 1

    def _block(self, data: bytes, sender: int) -> None:
        if data in self.heard:
            return
        block, input = self.simulation.block(data)
        slot, parent_root = block.header.slot, block.header.parent_root
        if slot > self.simulation.slot:
            early = (slot - self.simulation.slot) * 1000
            if slot - self.simulation.slot > self.world.parameters.epoch_slots:
                self._reject("FromTheFuture")
                return
            self.simulation.after(early, lambda: self.receive(BLOCK + data, sender))
            return
        if parent_root not in self.tree:
            # Below the final checkpoint, or its parent is still to come.
            if parent_root not in self.links and slot > self.tree[self.final.root].slot:
                self._ask(parent_root, sender)
                self.orphans.setdefault(parent_root, {})[data] = sender
            return
        self.heard.add(data)
        link = self.simulation.check(block, input, self.links[parent_root])
        if isinstance(link, Rejected):
            self._reject(link.kind)
            return
        self._note_header(block.signed_header)
        self._note_votes(block, link)
        self._forward(BLOCK, data)
        self.add(link)
        for orphan, source in self.orphans.pop(link.block.root, {}).items():
            self._block(orphan, source)

    def add(self, link: Link) -> None:
        """Keep a valid block."""
        root = link.block.root
        if root in self.links:
            return
        self.links[root] = link
        self.tree[root] = link.node
        assert link.envelope is not None
        if link.envelope.certificate is not None and self.simulation.drawn():
            self.unchecked.add(root)
            self.simulation.after(
                self.simulation.random.randrange(*CHECK_MILLISECONDS), lambda: self._run_unit(root)
            )
        self._choose()

    def _run_unit(self, root: Hash32, alarmist: Address | None = None) -> None:
        if root not in self.unchecked:
            return
        self.unchecked.discard(root)
        block = self.links[root].envelope
        assert block is not None
        assert block.certificate is not None
        if self.honest and alarmist is not None:
            self.simulation.alarm_runs.append((self.number, alarmist, self._epoch))
        try:
            check_by_running(block.certificate)
        except CertificateRefuted:
            self.refuted.add(root)
        else:
            self.right.add(root)
        self.alarm_record, _ = record_check(
            self.world.parameters,
            self.alarm_record,
            root,
            is_right=root in self.right,
            epoch=self._epoch,
        )
        if root in self.refuted:
            if self.honest:
                self.simulation.refuted.add(root)
                signature = FAKE.sign(bls_key(self.number), alarm_message(self.world.genesis_root, root))
                self.publish(ALARM, encode_alarm(Alarm(root, address(self.number), signature)))
            self._choose()

    @property
    def _epoch(self) -> int:
        return epoch_of(self.world.parameters, self.simulation.slot)

    def _alarm(self, data: bytes) -> None:
        alarm = decode_alarm(data)
        miner, root, link = alarm.miner, alarm.block_root, self.links.get(alarm.block_root)
        if (miner, root) in self.alarms:
            return
        if why_unheard(self.alarm_record, alarm, self._epoch, self.unchecked.__contains__) is not None:
            return
        if root not in self.tree or link is None or link.envelope is None or not link.envelope.certificate:
            return
        parameters = self.world.parameters
        snapshot = self.links[self.head].taken(epoch_of(parameters, link.block.slot))
        check_alarm(FAKE, self.world.genesis_root, snapshot, alarm)
        self.alarms.add((miner, root))
        if root in self.right:
            self.alarm_record = record_false(parameters, self.alarm_record, [miner], self._epoch)
        elif root not in self.refuted:
            self.alarm_record = record_alarm(self.alarm_record, alarm)
            # To the front of the queue, whether it was drawn or not.
            self.unchecked.add(root)
            self.simulation.after(ALARM_MILLISECONDS, lambda: self._run_unit(root, miner))

    def _choose(self) -> None:
        final = final_checkpoint(self.tree, self.final)
        if final != self.final:
            self.final = final
            if self.honest:
                self.simulation.finalised(self)
            self.tree = {
                root: node for root, node in self.tree.items() if descends(self.tree, root, final.root)
            }
        head = choose_head(self.tree, self.final, self._epoch, self.refuted)
        if head != self.head:
            if self.honest and self.head in self.tree and self.head not in self.refuted:
                depth = 0
                for node in line(self.tree, self.head):
                    if descends(self.tree, head, node.root):
                        break
                    depth += 1
                self.simulation.deepest_reorganisation = max(self.simulation.deepest_reorganisation, depth)
            self.head = head

    # ------------------------------------------------------------ votes and evidence

    def _receive_vote(self, data: bytes) -> None:
        if data in self.heard:
            return
        self.heard.add(data)
        self.keep_vote(self.simulation.vote(data))
        self._forward(VOTE, data)

    def keep_vote(self, vote: SignedVote) -> None:
        """Check and keep a vote; report a voter that may not have signed it."""
        record = self.world.genesis.state.records.get(vote.miner)
        message = vote_message(self.world.genesis_root, vote.vote)
        if record is None or not FAKE.verify(record.bls_key, message, vote.signature):
            raise VoteError("a vote that is not its miner's")
        now = epoch_of(self.world.parameters, self.simulation.slot)
        if not now - VOTES_KEPT_EPOCHS <= vote.vote.target.epoch <= now + 1:
            return
        known = self.last_votes.setdefault(vote.miner, {})
        for other in known.values():
            if slashable(other.vote, vote.vote):
                self._keep_evidence(VoteEvidence(_attributed(other), _attributed(vote)), spread=True)
                break
        known[vote.vote] = vote
        self.votes.setdefault(vote.vote, {})[vote.miner] = vote
        for old in [kept for kept in self.votes if kept.target.epoch < now - VOTES_KEPT_EPOCHS]:
            del self.votes[old]

    def _note_header(self, signed: SignedHeader) -> None:
        key = (signed.header.proposer, signed.header.slot)
        other = self.headers.setdefault(key, signed)
        if double_proposal(self.world.genesis_root, other, signed):
            self._keep_evidence(ProposalEvidence(other, signed), spread=True)

    def _note_votes(self, block: Block, link: Link) -> None:
        """Compare the votes in a block with those in other blocks, of rival chains too."""
        assert link.parent is not None
        for aggregate in block.votes:
            tally = next(tally for tally in link.block.finality.tallies if tally.vote == aggregate.vote)
            signers = voters(link.parent.taken(tally.voting_epoch), aggregate)
            noted = AttributedVote(aggregate.vote, signers, aggregate.signature)
            for vote, others in self.included.items():
                if slashable(vote, noted.vote):
                    for other in others:
                        if not set(signers).isdisjoint(other.signers):
                            self._keep_evidence(VoteEvidence(other, noted), spread=True)
            self.included.setdefault(noted.vote, []).append(noted)

    def _keep_evidence(self, evidence: Evidence, *, spread: bool) -> None:
        if evidence in self.evidence:
            return
        parameters, state = self.world.parameters, self.links[self.head].state
        # A neighbour may be in the next epoch already.
        epoch = epoch_of(parameters, self.simulation.slot) + 1
        try:
            check_evidence(parameters, FAKE, self.world.genesis_root, state, evidence, epoch)
        except EvidenceError as error:
            if not spread:
                self._reject(type(error).__name__)
            return
        self.evidence.append(evidence)
        if self.honest:
            self.simulation.evidence_seen[type(evidence).__name__] += 1
        if spread and self.honest:
            self.publish(EVIDENCE, encode_evidence([evidence]))

    # ------------------------------------------------------------ fetching what is missing

    def _ask_for_missing(self) -> None:
        final_slot = self.tree[self.final.root].slot
        for parent_root, waiting in list(self.orphans.items()):
            for data in [data for data in waiting if self._slot(data) <= final_slot]:
                del waiting[data]
                self._reject("ParentNeverCame")
            if not waiting:
                del self.orphans[parent_root]
            elif parent_root in self.links:
                for data, sender in self.orphans.pop(parent_root).items():
                    self._block(data, sender)
            else:
                self._ask(parent_root, self._somebody())
        # Now and then nodes tell each other their heads.
        self.simulation.send(self.number, self._somebody(), STATUS + self.head)

    def _slot(self, data: bytes) -> int:
        return self.simulation.block(data)[0].header.slot

    def _ask(self, root: Hash32, peer: int) -> None:
        self.simulation.send(self.number, peer, WANT + root + self.final.root)

    def _somebody(self) -> int:
        others = self.simulation.plan.nodes - 1
        return (self.number + 1 + self.simulation.random.randrange(others)) % (others + 1)

    def _status(self, data: bytes, peer: int) -> None:
        """Send what a peer lacks on the way to this node's head, or ask for its head."""
        theirs = Hash32(data)
        if theirs not in self.links:
            self._ask(theirs, peer)
        elif self.links[theirs].block.height <= self.links[self.head].block.height:
            self._send_chain(self.head, {link.block.root for link in self.chain(theirs)}, peer)

    def _serve(self, data: bytes, peer: int) -> None:
        """Send a peer the blocks from one that it knows to one that it wants."""
        wanted, known = Hash32(data[:32]), Hash32(data[32:])
        self._send_chain(wanted, {known}, peer)

    def chain(self, root: Hash32) -> Iterator[Link]:
        """Walk from a block to the first one."""
        link = self.links.get(root)
        while link is not None and link.parent is not None:
            yield link
            link = link.parent

    def _send_chain(self, root: Hash32, known: set[Hash32], peer: int) -> None:
        missing = list(takewhile(lambda link: link.block.root not in known, self.chain(root)))
        for link in missing[::-1][:RANGE_MAX]:
            assert link.envelope is not None
            self.simulation.send(self.number, peer, BLOCK + sent(link.envelope), reliable=True)


def _attributed(vote: SignedVote) -> AttributedVote:
    return AttributedVote(vote.vote, (vote.miner,), vote.signature)
