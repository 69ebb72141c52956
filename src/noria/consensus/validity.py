"""Whether a block is valid: ordered checks, the cheap ones first, each with a name of its own (protocol 4.6).

`check_before_forwarding` needs the block and its parent; a node passes on what it has let through.
`check_contents` follows, and gives the state from which the next block is checked. What is left belongs to
the rooms that execute: the payload gives its stated roots, and the certificate's unit its stated result
(`check_result`).

An `InvalidBlock` says that no node will ever accept these bytes. Where ``remember`` is true this holds for
every block with the same root; otherwise another sender may bring the true block of that root. A `NotYet`
says nothing about the block: the node lacks something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from noria.consensus import slashing
from noria.consensus.blocks import Block
from noria.consensus.certificate import Certificate, CertificateError, check_certificate
from noria.consensus.finality import FinalityState, ForeignVote, count_vote, enter_epoch, tally_for
from noria.consensus.lottery import Randomness, after_block, draw, eta_for, vrf_message, wins
from noria.consensus.parameters import ChainParameters
from noria.consensus.payloads import PayloadError, PayloadHeader, check_links, read_payload_header
from noria.consensus.signatures import SignatureScheme
from noria.consensus.slots import epoch_of, held_milliseconds, slot_start_seconds
from noria.consensus.state import StateView
from noria.consensus.votes import VoteError, check_aggregate, voters
from noria.consensus.weight import Snapshot, SnapshotRow
from noria.consensus.wire import InvalidMessage
from noria.primitives.types import Address, Hash32
from noria.work.ids import BlobId, ProgramId


class InvalidBlock(Exception):
    """A block that no node will ever accept; base of the errors below."""

    remember: ClassVar[bool] = True
    """Whether every block with this root is invalid, and not only these bytes."""


class SlotNotAfterParent(InvalidBlock):
    """A slot that is not later than the parent's."""


class UnknownProposer(InvalidBlock):
    """A proposer without weight in the epoch's snapshot."""


class ProposerInJail(InvalidBlock):
    """A proposer that may not produce blocks."""


class WrongSignature(InvalidBlock):
    """A signature over the root that is not the proposer's.

    The root does not cover it: another copy may be right.
    """

    remember = False


class WrongLotteryProof(InvalidBlock):
    """A proof that is not the proposer's for this slot and randomness."""


class LotteryLost(InvalidBlock):
    """A proof that does not win the slot."""


class WrongPayload(InvalidBlock):
    """A payload that does not belong into this envelope."""


class WrongCertificate(InvalidBlock):
    """A certificate that does not show what the draw names."""


class WrongVotes(InvalidBlock):
    """A vote that this chain cannot count."""


class VoterInJail(InvalidBlock):
    """A vote of a miner that may not vote."""


class WrongEvidence(InvalidBlock):
    """Evidence that proves nothing, or nothing new."""


class PayloadRejected(InvalidBlock):
    """A payload that the engine refuses: it breaks a rule, or does not give its stated roots."""


class PayloadBodyMismatch(InvalidBlock):
    """Transactions that are not those of the payload's header. The root does not cover them directly."""

    remember = False


class NotYet(Exception):
    """A block that cannot be judged now; base of the errors below."""


class FromTheFuture(NotYet):
    """A block that must be held until its slot starts."""


class ParentMissing(NotYet):
    """A block whose parent is not known."""


class SnapshotMissing(NotYet):
    """A block whose epoch's snapshot has not been computed."""


class InputMissing(NotYet):
    """A block without the input of its certificate's unit."""


class VerdictPending(NotYet):
    """A block with a verdict for which the node has no result of its own (protocol 6)."""


class CertificateRefuted(Exception):
    """A unit that gives another result than its receipt says: the block is unviable, not invalid.

    Protocol 4.5.
    """


@dataclass(frozen=True, slots=True)
class ChainRules:
    """What is the same for every block of a chain."""

    genesis_root: Hash32
    genesis_seconds: int
    parameters: ChainParameters
    pinned_programs: frozenset[ProgramId]
    scheme: SignatureScheme


@dataclass(frozen=True, slots=True)
class BlockState:
    """What consensus carries from a block to its children, besides the contracts' state (protocol 4.1).

    Attributes
    ----------
    root, slot, height
        The block; height counts blocks since genesis.
    payload
        Its payload's header.
    randomness
        Of the lottery, after the block.
    finality
        After the block's votes.
    """

    root: Hash32
    slot: int
    height: int
    payload: PayloadHeader
    randomness: Randomness
    finality: FinalityState


class ParentView(Protocol):
    """What must be known of a parent block to check its child."""

    @property
    def block(self) -> BlockState:
        """Return what consensus carries on from it."""
        ...

    @property
    def state(self) -> StateView:
        """Return the contracts' state after it."""
        ...

    def snapshot(self, epoch: int) -> Snapshot | None:
        """Return an epoch's snapshot on the parent's chain, `None` while it is not there."""
        ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """Nothing speaks against the block so far."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """No node will ever accept it; the sender is to be scored down.

    Attributes
    ----------
    kind
        Name of the error.
    message
        What is wrong, for the log.
    remember
        Whether the root is to be remembered as invalid.
    """

    kind: str
    message: str
    remember: bool


@dataclass(frozen=True, slots=True)
class Postponed:
    """It cannot be judged now.

    Attributes
    ----------
    kind
        Name of what is missing.
    message
        For the log.
    """

    kind: str
    message: str


def judge(check: Callable[[], object]) -> Accepted | Rejected | Postponed:
    """Run checks and tell what they mean (protocol 4.6).

    Errors that are neither `InvalidBlock`, `NotYet` nor `InvalidMessage` are defects and pass through.
    """
    try:
        check()
    except InvalidBlock as error:
        return Rejected(type(error).__name__, str(error), error.remember)
    except InvalidMessage as error:
        return Rejected(type(error).__name__, str(error), False)
    except NotYet as error:
        return Postponed(type(error).__name__, str(error))
    return Accepted()


def check_before_forwarding(
    rules: ChainRules, block: Block, parent: ParentView | None, time_milliseconds: int
) -> None:
    """Check what must hold before a block is passed on (protocol 4.6). Sizes have been checked by decoding.

    Parameters
    ----------
    rules
        The chain's.
    block
        From anywhere.
    parent
        `None` if it is not known.
    time_milliseconds
        Now, Unix time.

    Raises
    ------
    InvalidBlock, NotYet
        One of their subclasses: the first that applies, in the order of cost.
    """
    header, parameters = block.header, rules.parameters
    held = held_milliseconds(parameters, rules.genesis_seconds, header.slot, time_milliseconds)
    if held:
        raise FromTheFuture(f"slot {header.slot} starts in {held} ms")
    if parent is None:
        raise ParentMissing(f"parent 0x{header.parent_root.hex()} is not known")
    if header.slot <= parent.block.slot:
        raise SlotNotAfterParent(f"slot {header.slot} is not after the parent's slot {parent.block.slot}")
    row, total_weight = _proposer(rules, block, parent)
    root = block.root(rules.genesis_root)
    if not rules.scheme.verify(row.bls_key, root, block.signature):
        raise WrongSignature(f"0x{root.hex()} is not signed by proposer 0x{header.proposer.hex()}")
    eta = eta_for(parent.block.randomness, epoch_of(parameters, header.slot))
    message = vrf_message(rules.genesis_root, eta, header.slot)
    if not rules.scheme.verify(row.bls_key, message, header.vrf_proof):
        raise WrongLotteryProof(f"the proof is not that of 0x{header.proposer.hex()} for slot {header.slot}")
    if not wins(parameters, header.vrf_proof, row.weight, total_weight):
        raise LotteryLost(f"weight {row.weight} of {total_weight} does not win slot {header.slot}")
    try:
        check_links(
            read_payload_header(block.payload),
            parent_payload=parent.block.payload,
            parent_root=header.parent_root,
            vrf_proof=header.vrf_proof,
            slot_seconds=slot_start_seconds(parameters, rules.genesis_seconds, header.slot),
        )
    except PayloadError as error:
        raise WrongPayload(str(error)) from error
    try:
        x = draw(header.vrf_proof, row.weight)
        check_certificate(parameters, parent.state, rules.pinned_programs, row, x, block.certificate)
    except CertificateError as error:
        raise WrongCertificate(f"{type(error).__name__}: {error}") from error


def check_contents(rules: ChainRules, block: Block, parent: ParentView) -> BlockState:
    """Check votes and evidence of a block that may be forwarded (protocol 4.6).

    Returns
    -------
    BlockState
        What its children are checked from, once its payload has been executed.

    Raises
    ------
    InvalidBlock, NotYet
        One of their subclasses.
    """
    finality = check_votes(rules, block, parent)
    check_all_evidence(rules, block, parent)
    header = block.header
    return BlockState(
        root=block.root(rules.genesis_root),
        slot=header.slot,
        height=parent.block.height + 1,
        payload=read_payload_header(block.payload),
        randomness=after_block(rules.parameters, parent.block.randomness, header.slot, header.vrf_proof),
        finality=finality,
    )


def check_votes(rules: ChainRules, block: Block, parent: ParentView) -> FinalityState:
    """Check a block's votes and count them (protocol 4.6, 4.7).

    Raises
    ------
    WrongVotes, VoterInJail, SnapshotMissing
        Where one cannot be counted.
    """
    parameters, before = rules.parameters, parent.block
    epoch = epoch_of(parameters, block.header.slot)
    finality = enter_epoch(parameters, before.finality, before.root, epoch_of(parameters, before.slot), epoch)
    for aggregate in block.votes:
        try:
            voting_set = _snapshot(parent, tally_for(finality, aggregate.vote).voting_epoch)
            for miner in voters(voting_set, aggregate):
                _require_free(parent.state, miner, epoch)
            check_aggregate(rules.scheme, rules.genesis_root, voting_set, aggregate)
            finality = count_vote(finality, aggregate, voting_set)
        except (ForeignVote, VoteError) as error:
            raise WrongVotes(f"{type(error).__name__}: {error}") from error
    return finality


def check_all_evidence(rules: ChainRules, block: Block, parent: ParentView) -> tuple[Address, ...]:
    """Check a block's evidence and say whom it convicts, ascending (protocol 4.6, 4.8).

    Raises
    ------
    WrongEvidence
        Where a piece proves nothing, or nothing that another piece does not.
    """
    convicted: set[Address] = set()
    epoch = epoch_of(rules.parameters, block.header.slot)
    for evidence in block.evidence:
        try:
            guilty = slashing.check_evidence(
                rules.parameters, rules.scheme, rules.genesis_root, parent.state, evidence, epoch
            )
        except slashing.EvidenceError as error:
            raise WrongEvidence(f"{type(error).__name__}: {error}") from error
        if convicted.issuperset(guilty):
            raise WrongEvidence("the same miners are convicted twice in one block")
        convicted.update(guilty)
    return tuple(sorted(convicted))


def check_result(certificate: Certificate, *, status: int, output_id: BlobId, fuel: int) -> None:
    """Compare a certificate with what its unit gave when it was run again (protocol 4.5).

    Raises
    ------
    CertificateRefuted
        Where status, output or fuel differ.
    """
    receipt = certificate.proof.receipt
    claimed, found = (receipt.status, receipt.output_id, receipt.fuel), (status, output_id, fuel)
    if claimed != found:
        raise CertificateRefuted(
            f"unit {receipt.unit_id.hex()} gave status {status}, output {output_id.hex()}, fuel {fuel}; the"
            " receipt"
            f" says {receipt.status:d}, {receipt.output_id.hex()}, {receipt.fuel}"
        )


def _proposer(rules: ChainRules, block: Block, parent: ParentView) -> tuple[SnapshotRow, int]:
    epoch, proposer = epoch_of(rules.parameters, block.header.slot), block.header.proposer
    snapshot = _snapshot(parent, epoch)
    row = snapshot.row(proposer)
    if row is None:
        raise UnknownProposer(f"0x{proposer.hex()} has no weight in epoch {epoch}")
    record = parent.state.miner(proposer)
    if record is None or record.jailed(epoch):
        raise ProposerInJail(f"0x{proposer.hex()} may not produce blocks in epoch {epoch}")
    return row, snapshot.total_weight


def _require_free(state: StateView, miner: Address, epoch: int) -> None:
    record = state.miner(miner)
    if record is None or record.jailed(epoch):
        raise VoterInJail(f"0x{miner.hex()} may not vote in epoch {epoch}")


def _snapshot(parent: ParentView, epoch: int) -> Snapshot:
    snapshot = parent.snapshot(epoch)
    if snapshot is None:
        raise SnapshotMissing(f"the snapshot of epoch {epoch} has not been computed")
    return snapshot
