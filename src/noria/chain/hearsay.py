"""What miners say beside blocks: votes, evidence and alarms (protocol 4.5, 4.7, 4.8).

Each is judged once, kept where it is of use, and noticed where it convicts somebody.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from noria.chain.block_tree import BlockView, KnownBlock
from noria.chain.certificates import PENDING, CheckState
from noria.chain.chain_service import ChainService
from noria.chain.findings import Finding, Ignored, Known
from noria.chain.offences import EvidencePool, OffenceWatch, accused, evidence_id
from noria.chain.slot_start import snapshot_of
from noria.chain.vote_pool import VotePool
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
from noria.consensus.finality import Tally, enter_epoch, tally_for
from noria.consensus.slashing import (
    AttributedVote,
    Evidence,
    EvidenceError,
    FutureOffence,
    NobodyGuilty,
    check_evidence,
    decode_evidence,
    encode_evidence,
)
from noria.consensus.slots import epoch_of
from noria.consensus.validity import Accepted, NotYet, Postponed, Rejected
from noria.consensus.votes import (
    SignedVote,
    UnknownVoter,
    WrongVoteSignature,
    check_signed_vote,
    decode_signed_vote,
    voters,
)
from noria.consensus.wire import InvalidMessage
from noria.primitives.types import Address, BlsSignature, Hash32

ALARMS_MAX: Final = 4096
"""Alarms that were looked into and are known when they come again."""
GUILTY_TOLD: Final = 16
"""Of who is guilty of one offence, in the log."""

_log = structlog.get_logger(__name__)


class Mouth(Protocol):
    """Where what is said goes out to everybody."""

    def say_block(self, data: bytes) -> None:
        """Send a block with its input."""
        ...

    def say_vote(self, data: bytes) -> None:
        """Send a vote."""
        ...

    def say_evidence(self, data: bytes) -> None:
        """Send one piece of evidence, in a list of one."""
        ...

    def say_alarm(self, data: bytes) -> None:
        """Send an alarm."""
        ...


class Silence:
    """Nobody is there to hear."""

    def say_block(self, data: bytes) -> None:
        """Send nothing."""

    def say_vote(self, data: bytes) -> None:
        """Send nothing."""

    def say_evidence(self, data: bytes) -> None:
        """Send nothing."""

    def say_alarm(self, data: bytes) -> None:
        """Send nothing."""


class Signer(Protocol):
    """A miner's BLS key: `noria.primitives.keys.BlsSecretKey`."""

    @property
    def public_key(self) -> bytes:
        """What others check signatures with."""
        ...

    def sign(self, message: bytes) -> BlsSignature:
        """Sign a message."""
        ...


class Hearsay:
    """Votes, evidence and alarms of one chain. Belongs to the chain's event loop.

    Parameters
    ----------
    chain
        The chain.

    Attributes
    ----------
    votes, evidence
        What waits to be included in a block.
    mouth
        Where what this node finds out goes.
    alarmist
        (address, key) with which this node warns of refuted certificates; `None` if it is no miner.
    """

    def __init__(self, chain: ChainService) -> None:
        self._chain = chain
        self.votes, self.evidence = VotePool(), EvidencePool()
        self.mouth: Mouth = Silence()
        self.alarmist: tuple[Address, Signer] | None = None
        self._watch = OffenceWatch(chain.rules.genesis_root)
        self._alarm_record = AlarmRecord()
        self._alarms: OrderedDict[tuple[Address, Hash32], None] = OrderedDict()
        chain.listeners.append(self)

    # ------------------------------------------------------------ votes

    async def judge_vote(self, data: bytes, source: str = "") -> Finding:
        """Take a vote that came by gossip."""
        try:
            vote = decode_signed_vote(data)
        except InvalidMessage as error:
            return Rejected(type(error).__name__, str(error), False)
        return await self.take_vote(vote)

    async def take_vote(self, vote: SignedVote) -> Finding:
        """Check a vote, and keep it until a block has it."""
        chain, target = self._chain, vote.vote.target.epoch
        if self.votes.has(vote):
            return Known()
        now = epoch_of(chain.rules.parameters, chain.slot)
        if not now - 1 <= target <= now + 1:
            return Ignored(f"a vote for epoch {target} in epoch {now}")
        tally = self._tally(target)
        view = chain.tree.view(chain.head.root)
        if tally is None or view is None:
            return Postponed("TargetUnknown", f"epoch {target} has not begun on this chain")
        try:
            await chain.importer.thread(self._check_vote, vote, view, tally)
        except UnknownVoter as error:
            return Ignored(str(error))
        except WrongVoteSignature as error:
            return Rejected(type(error).__name__, str(error), False)
        except NotYet as error:
            return Postponed(type(error).__name__, str(error))
        if self.votes.has(vote):
            return Known()
        found = self._watch.vote(AttributedVote(vote.vote, (vote.miner,), vote.signature))
        if found:
            self._accuse(found)
            return Ignored(f"0x{vote.miner.hex()} has voted otherwise")
        self.votes.add(vote, counts=vote.vote == tally.vote)
        return Accepted()

    def _tally(self, epoch: int) -> Tally | None:
        """Return what the head's chain counts for a target epoch."""
        head, parameters = self._chain.head, self._chain.rules.parameters
        head_epoch = epoch_of(parameters, head.node.slot)
        finality = head.state.finality
        if epoch > head_epoch:
            finality = enter_epoch(parameters, finality, head.root, head_epoch, epoch)
        return next((tally for tally in finality.tallies if tally.target.epoch == epoch), None)

    def _check_vote(self, vote: SignedVote, view: BlockView, tally: Tally) -> None:
        rules = self._chain.rules
        check_signed_vote(rules.scheme, rules.genesis_root, snapshot_of(view, tally.voting_epoch), vote)

    # ------------------------------------------------------------ evidence

    async def judge_evidence(self, data: bytes, source: str = "") -> Finding:
        """Take a piece of evidence that came by gossip."""
        try:
            items = decode_evidence(data)
        except InvalidMessage as error:
            return Rejected(type(error).__name__, str(error), False)
        if len(items) != 1:
            return Rejected("WrongShape", f"{len(items)} pieces of evidence in one message", False)
        (evidence,) = items
        rules = self._chain.rules
        if self.evidence.has(evidence):
            return Known()
        if not self.evidence.wants(rules.parameters, evidence):
            return Ignored("there is enough evidence about whom it accuses")
        view = self._chain.tree.view(self._chain.head.root)
        if view is None:
            return Postponed("HeadUnknown", "the head is changing")
        # As with votes, the next epoch may have begun elsewhere.
        epoch = epoch_of(rules.parameters, self._chain.slot) + 1
        about = (rules.parameters, rules.scheme, rules.genesis_root, view.state)
        try:
            await self._chain.importer.thread(check_evidence, *about, evidence, epoch)
        except (FutureOffence, NobodyGuilty) as error:
            return Ignored(str(error))
        except EvidenceError as error:
            return Rejected(type(error).__name__, str(error), False)
        if self.evidence.has(evidence):
            return Known()
        if not self.evidence.add(rules.parameters, evidence):
            return Ignored("there is enough evidence about whom it accuses")
        return Accepted()

    def _accuse(self, found: Sequence[Evidence]) -> None:
        parameters = self._chain.rules.parameters
        for evidence in found:
            if self.evidence.has(evidence) or not self.evidence.add(parameters, evidence):
                continue
            _log.warning(
                "offence_noticed",
                kind=type(evidence).__name__,
                miners=["0x" + miner.hex() for miner in accused(evidence)[:GUILTY_TOLD]],
                evidence=evidence_id(evidence).hex(),
            )
            self.mouth.say_evidence(encode_evidence([evidence]))

    # ------------------------------------------------------------ alarms

    async def judge_alarm(self, data: bytes, source: str = "") -> Finding:
        """Take an alarm that came by gossip."""
        try:
            alarm = decode_alarm(data)
        except InvalidMessage as error:
            return Rejected(type(error).__name__, str(error), False)
        chain = self._chain
        if (alarm.miner, alarm.block_root) in self._alarms:
            return Known()
        unheard = why_unheard(self._alarm_record, alarm, self._epoch, self._is_pending)
        if unheard is not None:
            return Ignored(unheard)
        known, view = chain.tree.get(alarm.block_root), chain.tree.view(chain.head.root)
        if known is None or view is None or known.certificate is None:
            return Ignored("no block with a certificate that may still matter")
        epoch = epoch_of(chain.rules.parameters, known.node.slot)
        try:
            snapshot = await chain.importer.thread(snapshot_of, view, epoch)
            await chain.importer.thread(
                check_alarm, chain.rules.scheme, chain.rules.genesis_root, snapshot, alarm
            )
        except UnknownVoter as error:
            return Ignored(str(error))
        except WrongVoteSignature as error:
            return Rejected(type(error).__name__, str(error), False)
        except NotYet as error:
            return Postponed(type(error).__name__, str(error))
        # Others of the same signer may have been looked at meanwhile.
        unheard = why_unheard(self._alarm_record, alarm, self._epoch, self._is_pending)
        if unheard is not None:
            return Ignored(unheard)
        self._alarms[alarm.miner, alarm.block_root] = None
        while len(self._alarms) > ALARMS_MAX:
            self._alarms.popitem(last=False)
        state = chain.checker.state(alarm.block_root)
        if state is CheckState.RIGHT:
            self._alarm_record = record_false(
                chain.rules.parameters, self._alarm_record, [alarm.miner], self._epoch
            )
            _log.warning("false_alarm", miner="0x" + alarm.miner.hex())
            return Ignored("the certificate is right")
        if state is not CheckState.REFUTED:
            self._alarm_record = record_alarm(self._alarm_record, alarm)
            chain.checker.hurry(alarm.block_root)
        return Accepted()

    @property
    def _epoch(self) -> int:
        return epoch_of(self._chain.rules.parameters, self._chain.slot)

    def _is_pending(self, root: Hash32) -> bool:
        return self._chain.checker.state(root) in PENDING

    def _warn(self, root: Hash32) -> None:
        if self.alarmist is None:
            return
        miner, key = self.alarmist
        view = self._chain.tree.view(self._chain.head.root)
        record = None if view is None else view.state.miner(miner)
        if record is None or record.bls_key != key.public_key:
            return  # Nobody would believe it, and who sends it would be blamed.
        signature = key.sign(alarm_message(self._chain.rules.genesis_root, root))
        self.mouth.say_alarm(encode_alarm(Alarm(root, miner, signature)))

    # ------------------------------------------------------------ the chain's listener

    def forwardable(self, block: Block) -> None:
        """Notice a proposer that has signed another block for the slot."""
        evidence = self._watch.proposal(block.signed_header)
        if evidence is not None:
            self._accuse([evidence])

    def imported(self, block: Block, known: KnownBlock) -> None:
        """Notice what the block's voters have signed beside it."""
        view = self._chain.tree.view(known.root)
        if view is None:
            return
        for aggregate in block.votes:
            tally = tally_for(known.state.finality, aggregate.vote)
            signers = voters(snapshot_of(view, tally.voting_epoch), aggregate)
            vote = AttributedVote(aggregate.vote, tuple(sorted(signers)), aggregate.signature)
            self._accuse(self._watch.vote(vote))

    def settled(self, root: Hash32, state: CheckState) -> None:
        """Warn of a lie, and learn whose alarms were false."""
        if state is CheckState.REFUTED:
            self._warn(root)
        is_right = state is CheckState.RIGHT
        self._alarm_record, wrong = record_check(
            self._chain.rules.parameters, self._alarm_record, root, is_right=is_right, epoch=self._epoch
        )
        for miner in wrong:
            _log.warning("false_alarm", miner="0x" + miner.hex())

    def finalised(self, final: KnownBlock) -> None:
        """Forget what can no longer be of use."""
        rules = self._chain.rules
        if len(self.evidence) and self._chain.running:
            self._chain.spawn(self._forget_evidence(final))
        self.votes.prune(epoch_of(rules.parameters, final.node.slot))

    async def _forget_evidence(self, final: KnownBlock) -> None:
        rules, chain = self._chain.rules, self._chain
        views = [chain.tree.view(root) for root in (final.root, chain.head.root)]
        now = epoch_of(rules.parameters, chain.slot)
        # Who has registered since is known at the head alone.
        stale = [
            await chain.importer.thread(
                self.evidence.stale, rules.parameters, rules.scheme, rules.genesis_root, view.state, now
            )
            for view in views
            if view is not None
        ]
        if len(stale) == len(views):
            self.evidence.forget(set(stale[0]).intersection(*stale[1:]))
