"""What a miner does: it votes once an epoch, and makes the block of each slot that it wins.

Protocol 4.4 to 4.7. Whatever is signed is on the disk before it is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from noria._core import BlockAttributes
from noria.chain.block_store import BlockBody
from noria.chain.block_tree import BlockView, KnownBlock
from noria.chain.certificates import CheckState
from noria.chain.chain_service import ChainService
from noria.chain.hearsay import Hearsay, Signer
from noria.chain.own_journal import JournalError, OwnJournal
from noria.chain.own_work import OwnWork, OwnWorkError
from noria.chain.slot_start import finality_with, slot_start, snapshot_of
from noria.consensus.blocks import Block, encode_block, make_block, signed
from noria.consensus.certificate import Certificate, CertificateError, named_receipt
from noria.consensus.finality import Tally, enter_epoch
from noria.consensus.lottery import after_block, draw, eta_for, vrf_message, wins
from noria.consensus.payloads import read_payload_header
from noria.consensus.sent_block import SentBlock, encode_sent_block
from noria.consensus.slashing import Evidence
from noria.consensus.slots import epoch_of, slot_start_seconds
from noria.consensus.state import MinerRecord
from noria.consensus.validity import BlockState, NotYet
from noria.consensus.votes import AggregatedVote, SignedVote, encode_signed_vote, vote_message
from noria.consensus.voting import (
    Abstain,
    Cast,
    OwnRecord,
    WouldBeSlashable,
    decide_vote,
    due_tally,
    latest_source,
    without_record,
)
from noria.consensus.weight import SnapshotRow
from noria.execution.block_start import SlotStart
from noria.primitives.types import Address, BlsSignature, Hash32

BUILD_SHARE: Final = 0.3
"""Of a slot: how long transactions are taken into a block."""
NOT_LEVEL: Final = "what was voted for before is not known until this node has what its peers have"
COMING_EPOCHS: Final = 2
"""How long a miner without a journal waits for what others have where nothing new is justified."""
_NO_SIGNATURE: Final = BlsSignature(bytes(96))

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MinerStatus:
    """What a miner has done since it was started.

    Attributes
    ----------
    address
        The miner.
    blocks, votes
        Made and cast.
    lost
        Slots that were won and for which no block could be made.
    last_reason
        Why the last vote or block did not come about; empty if it did.
    """

    address: Address
    blocks: int
    votes: int
    lost: int
    last_reason: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything about a block that is decided before its payload is built."""

    slot: int
    vrf_proof: BlsSignature
    certificate: Certificate | None
    input: bytes | None
    votes: tuple[AggregatedVote, ...]
    evidence: tuple[Evidence, ...]
    start: SlotStart
    view: BlockView


def first_unsigned(chain: ChainService) -> tuple[int, int]:
    """Return the first slot and epoch for which a miner without a journal has certainly not signed.

    By the clock, or by the newest block where the clock has been set back.
    """
    slot = max(chain.slot, *(node.slot for node in chain.tree.nodes.values()))
    return (slot + 1, epoch_of(chain.rules.parameters, slot) + 1) if slot else (0, 0)


class Miner:
    """One miner of the chain. Belongs to the chain's event loop.

    Parameters
    ----------
    chain, hearsay
        What it extends, and where it finds votes and evidence.
    address, key
        Who it is.
    journal
        What it has signed.
    work
        Its credited work; `None` if it has none.
    fee_recipient
        Who gets tips and rewards; the miner itself if left out.
    extra_data
        Of its payloads, at most 32 bytes.
    is_level
        Whether this node has what its peers have. Asked before the first vote under a journal that is younger
        than the chain, where nothing has been justified since: what was voted for before the blocks tell.
    """

    def __init__(
        self,
        chain: ChainService,
        hearsay: Hearsay,
        address: Address,
        key: Signer,
        journal: OwnJournal,
        *,
        work: OwnWork | None = None,
        fee_recipient: Address | None = None,
        extra_data: bytes = b"",
        is_level: Callable[[], bool] = lambda: True,
    ) -> None:
        self._chain, self._hearsay, self._is_level = chain, hearsay, is_level
        self._address, self._key, self._journal, self._work = address, key, journal, work
        self._fee_recipient = fee_recipient or address
        self._extra_data = extra_data
        self._decided_epoch = 0
        self._voting = asyncio.Lock()
        self._blocks = self._votes = self._lost = 0
        self._reason = ""
        self._running = self._is_warned = False
        hearsay.alarmist = (address, key)
        chain.listeners.append(_Settled(self))

    @property
    def status(self) -> MinerStatus:
        """What it has done since it was started."""
        return MinerStatus(self._address, self._blocks, self._votes, self._lost, self._reason)

    async def run(self) -> None:
        """Vote and make blocks, until cancelled."""
        await self._repeat_last_vote()
        self._running = True
        slot = self._chain.slot
        while True:
            slot = max(slot + 1, self._chain.slot)
            await self._chain.clock.wait_for(slot)
            for duty in (self.vote, self.propose):
                try:
                    await duty(slot)
                except (NotYet, JournalError) as error:
                    self._reason = str(error)
                    _log.error("duty_failed", duty=duty.__name__, slot=slot, reason=str(error))
                except Exception as error:
                    self._reason = repr(error)
                    _log.exception("duty_failed", duty=duty.__name__, slot=slot)

    # ------------------------------------------------------------ votes

    async def vote(self, slot: int) -> SignedVote | None:
        """Cast this epoch's vote if it is due and may be cast."""
        async with self._voting:
            return await self._vote(slot)

    async def _vote(self, slot: int) -> SignedVote | None:
        chain, parameters = self._chain, self._chain.rules.parameters
        epoch = epoch_of(parameters, slot)
        head = chain.head
        if epoch <= self._decided_epoch or head.node.slot > slot or epoch < self._journal.first_vote_epoch:
            return None
        tally = due_tally(parameters, head.root, head.node.slot, head.state.finality, epoch)
        if tally is not None and self._may_surround(tally):
            self._reason = NOT_LEVEL
            return None
        voter = False
        if tally is not None:
            view = chain.tree.view(head.root)
            assert view is not None
            voter = await chain.importer.thread(self._may_vote, view, tally.voting_epoch, epoch)
        decision = decide_vote(
            parameters,
            slot=slot,
            tally=tally,
            voter=voter,
            blocks=chain.tree.nodes,
            final=chain.tree.final,
            refuted=chain.refuted,
            unchecked=chain.checker.unchecked,
            record=self._record(),
        )
        if isinstance(decision, Abstain):
            self._decided_epoch = epoch
            if epoch:
                self._reason = decision.reason.value
                _log.info("vote_withheld", epoch=epoch, reason=decision.reason.value)
            return None
        if not isinstance(decision, Cast):
            return None
        message = vote_message(chain.rules.genesis_root, decision.vote)
        signature = await chain.importer.thread(self._key.sign, message)
        vote = SignedVote(decision.vote, self._address, signature)
        await chain.importer.thread(self._journal.vote, vote)
        self._decided_epoch = epoch
        self._votes += 1
        self._reason = ""
        await self._send_vote(vote)
        return vote

    def _may_surround(self, tally: Tally) -> bool:
        """Tell whether this may surround a vote of which neither journal nor blocks tell.

        Other chains than the longest take some time to come.
        """
        journal = self._journal
        first = journal.first_vote_epoch
        if not journal.is_new or tally.source.epoch >= latest_source(first):
            return False
        return tally.target.epoch < first + COMING_EPOCHS or not self._is_level()

    def _record(self) -> OwnRecord:
        """Return what was signed, or, before the first vote under a new journal, may have been."""
        journal, tree = self._journal, self._chain.tree
        if not journal.is_new:
            return journal.record
        return without_record(tree.nodes, tree.final, journal.first_vote_epoch)

    async def _send_vote(self, vote: SignedVote) -> None:
        await self._hearsay.take_vote(vote)
        self._hearsay.mouth.say_vote(encode_signed_vote(vote))

    async def _repeat_last_vote(self) -> None:
        """Send again what may have been signed and not sent before a restart: it is the same signature."""
        last = self._journal.last_vote
        if last is None:
            return
        self._decided_epoch = last.vote.target.epoch
        if epoch_of(self._chain.rules.parameters, self._chain.slot) - last.vote.target.epoch <= 1:
            await self._send_vote(last)

    def _may_vote(self, view: BlockView, voting_epoch: int, epoch: int) -> bool:
        record = view.state.miner(self._address)
        in_set = snapshot_of(view, voting_epoch).position(self._address) is not None
        return record is not None and self._is_own(record) and in_set and not record.jailed(epoch)

    def _is_own(self, record: MinerRecord) -> bool:
        """Tell whether what this key signs counts as the miner's; the first time that it does not, say so."""
        if record.bls_key == self._key.public_key:
            return True
        self._reason = "the key is not the one with which the miner is registered"
        if not self._is_warned:
            self._is_warned = True
            _log.error(
                "miner_key_differs",
                miner="0x" + self._address.hex(),
                registered="0x" + record.bls_key.hex(),
                given="0x" + self._key.public_key.hex(),
                advice="nothing is signed: give the registered key's file as miner_keystore, and start again",
            )
        return False

    # ------------------------------------------------------------ blocks

    async def propose(self, slot: int) -> Block | None:
        """Make this slot's block if it is won."""
        chain = self._chain
        async with chain.lock:
            # Where a write failed after the engine's, execution is ahead of the head: it is set back here.
            await chain.follow()
            head = chain.head
            if head.node.slot >= slot or slot <= self._journal.record.proposed_slot:
                return None
            view = chain.tree.view(head.root)
            assert view is not None
            try:
                plan = await chain.importer.thread(self._plan, view, slot)
            except (CertificateError, OwnWorkError) as error:
                self._lose(slot, str(error))
                return None
            if plan is None:
                return None
            return await self._make(plan, head)

    async def _make(self, plan: _Plan, head: KnownBlock) -> Block | None:
        chain, rules = self._chain, self._chain.rules
        begins = slot_start_seconds(rules.parameters, rules.genesis_seconds, plan.slot)
        attributes = BlockAttributes(
            timestamp=begins,
            fee_recipient=self._fee_recipient,
            prev_randao=plan.start.prev_randao,
            parent_beacon_block_root=head.root,
            gas_limit=chain.execution.spec.gas_limit,
            extra_data=self._extra_data,
            system_calls=plan.start.calls(),
        )
        left = BUILD_SHARE * rules.parameters.slot_seconds + chain.clock.seconds_until(plan.slot)
        if left <= 0:
            self._lose(plan.slot, "the slot is almost over")
            return None
        built = await chain.execution.build(attributes, deadline_seconds=left)
        if Hash32(built.header.parent_hash) != head.payload_hash:
            self._lose(plan.slot, "the head has changed")
            return None
        try:
            await chain.importer.thread(self._journal.propose, plan.slot)
        except WouldBeSlashable as error:
            self._lose(plan.slot, str(error))
            return None
        block, state = await chain.importer.thread(self._signed, plan, built.rlp())
        await chain.execution.store(built)
        body = BlockBody(encode_block(block), plan.input)
        known = await chain.importer.keep(block, state, body, durable=True)
        self._hearsay.forwardable(block)
        await chain.adopt(block, known, plan.input)
        self._blocks += 1
        self._reason = ""
        self._hearsay.mouth.say_block(encode_sent_block(SentBlock(body.block, body.input)))
        return block

    def _plan(self, view: BlockView, slot: int) -> _Plan | None:
        """Decide everything but the payload; `None` where the slot is not won."""
        rules, parameters = self._chain.rules, self._chain.rules.parameters
        epoch = epoch_of(parameters, slot)
        snapshot = snapshot_of(view, epoch)
        row, record = snapshot.row(self._address), view.state.miner(self._address)
        if record is None or not self._is_own(record) or row is None or record.jailed(epoch):
            return None
        eta = eta_for(view.block.randomness, epoch)
        proof = self._key.sign(vrf_message(rules.genesis_root, eta, slot))
        if not wins(parameters, proof, row.weight, snapshot.total_weight):
            return None
        certificate, data = self._certificate(view, row, proof)
        before = view.block
        entered = enter_epoch(
            parameters, before.finality, before.root, epoch_of(parameters, before.slot), epoch
        )

        def may_vote(miner: Address) -> bool:
            found = view.state.miner(miner)
            return found is not None and not found.jailed(epoch)

        votes = self._hearsay.votes.select(
            rules.scheme, entered, lambda number: snapshot_of(view, number), may_vote
        )
        evidence, guilty = self._hearsay.evidence.select(
            parameters, rules.scheme, rules.genesis_root, view.state, epoch
        )
        start = slot_start(
            rules,
            view,
            slot=slot,
            vrf_proof=proof,
            votes=votes,
            finality=finality_with(rules, view, slot, votes),
            guilty=guilty,
        )
        return _Plan(slot, proof, certificate, data, votes, evidence, start, view)

    def _certificate(
        self, view: BlockView, row: SnapshotRow, proof: BlsSignature
    ) -> tuple[Certificate | None, bytes | None]:
        named = named_receipt(view.state, row, draw(proof, row.weight))
        if named is None:
            return None, None
        if self._work is None:
            raise OwnWorkError(
                "the draw names credited work, and this node has none: give it the miner's work"
            )
        _, name = named
        return self._work.certificate(name.batch_root, name.weight_offset)

    def _signed(self, plan: _Plan, payload: bytes) -> tuple[Block, BlockState]:
        rules, before = self._chain.rules, plan.view.block
        block = make_block(
            slot=plan.slot,
            parent_root=before.root,
            proposer=self._address,
            vrf_proof=plan.vrf_proof,
            certificate=plan.certificate,
            votes=plan.votes,
            evidence=plan.evidence,
            payload=payload,
            signature=_NO_SIGNATURE,
        )
        root = block.root(rules.genesis_root)
        state = BlockState(
            root=root,
            slot=plan.slot,
            height=before.height + 1,
            payload=read_payload_header(payload),
            randomness=after_block(rules.parameters, before.randomness, plan.slot, plan.vrf_proof),
            finality=finality_with(rules, plan.view, plan.slot, plan.votes),
        )
        return signed(block, self._key.sign(root)), state

    def _lose(self, slot: int, reason: str) -> None:
        self._lost += 1
        self._reason = reason
        _log.warning("slot_lost", slot=slot, reason=reason)


class _Settled:
    """Lets the miner vote as soon as a check has ended that it waited for."""

    def __init__(self, miner: Miner) -> None:
        self._miner = miner

    def forwardable(self, block: Block) -> None:
        """Do nothing."""

    def imported(self, block: Block, known: KnownBlock) -> None:
        """Do nothing."""

    def settled(self, root: Hash32, state: CheckState) -> None:
        """Look again whether a vote is due."""
        chain = self._miner._chain
        # Before the start the head is not chosen yet, and a miner that catches up votes for nothing old.
        if chain.running and self._miner._running:
            chain.spawn(self._miner.vote(chain.slot))

    def finalised(self, final: KnownBlock) -> None:
        """Do nothing."""
