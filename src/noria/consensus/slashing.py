"""What costs a miner its bond: three offences, their evidence, and where the money goes (protocol 4.8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from noria.consensus.headers import (
    SIGNED_HEADER_BYTES_MAX,
    SignedHeader,
    block_root,
    read_signed_header,
    signed_header_fields,
)
from noria.consensus.parameters import ChainParameters
from noria.consensus.signatures import SignatureScheme
from noria.consensus.slots import epoch_of
from noria.consensus.state import MinerRecord, StateView
from noria.consensus.votes import SIGNERS_MAX, Vote, read_vote, vote_fields, vote_message
from noria.consensus.wire import FieldOutOfRange, Reader, integer_to_bytes
from noria.primitives import rlp
from noria.primitives.hashes import blake3
from noria.primitives.types import ADDRESS_BYTES, BLS_SIGNATURE_BYTES, Address, BlsSignature, Hash32

EVIDENCE_TAG: Final = b"noria/evidence/1"
EVIDENCE_ITEMS_MAX: Final = 8
"""Most pieces of evidence in a block."""
_SIGNER_BYTES: Final = ADDRESS_BYTES + 1
EVIDENCE_BYTES_MAX: Final = 2 * (SIGNERS_MAX * _SIGNER_BYTES + 2 * SIGNED_HEADER_BYTES_MAX)
"""Longest encoding of all evidence in a block: one pair of the largest aggregated votes fits."""
LESSER_PENALTY_PRICES: Final = 64
"""A lesser penalty is this many times the batch's price."""

_PROPOSALS: Final = 1
_VOTES: Final = 2


class EvidenceError(ValueError):
    """Evidence that proves nothing; base of the errors below."""


class NoOffence(EvidenceError):
    """Two messages that an honest miner may sign both."""


class FutureOffence(EvidenceError):
    """An offence of an epoch that has not begun: it can be punished once it has."""


class NobodyGuilty(EvidenceError):
    """No miner that signed both and can still be punished for it."""


class WrongEvidenceSignature(EvidenceError):
    """A signature that is not that of who is accused."""


@dataclass(frozen=True, slots=True)
class AttributedVote:
    """A vote and who signed it, by address: keys never change, so no snapshot is needed to check it.

    Parameters
    ----------
    vote
        What was signed.
    signers
        Who, ascending; the signature is the sum of all of theirs.
    signature
        As in an aggregated vote, or a single one.
    """

    vote: Vote
    signers: tuple[Address, ...]
    signature: BlsSignature


@dataclass(frozen=True, slots=True)
class ProposalEvidence:
    """Two different blocks of one proposer for one slot (protocol 4.8)."""

    first: SignedHeader
    second: SignedHeader


@dataclass(frozen=True, slots=True)
class VoteEvidence:
    """Two votes that nobody may sign both (protocol 4.8)."""

    first: AttributedVote
    second: AttributedVote


Evidence = ProposalEvidence | VoteEvidence


@dataclass(frozen=True, slots=True)
class Penalty:
    """Who loses what, and who gets it (protocol 4.8). The parts add up to the whole, in wei.

    Attributes
    ----------
    amount
        What is taken from the bond.
    burned
        Half of it, rounded up.
    wronged
        What makes a wronged requester whole, as far as the other half goes.
    prover
        The rest, for who proved the offence.
    """

    amount: int
    burned: int
    wronged: int
    prover: int


def double_vote(first: Vote, second: Vote) -> bool:
    """Tell whether two votes are different and have one target epoch (protocol 4.8)."""
    return first != second and first.target.epoch == second.target.epoch


def surrounds(outer: Vote, inner: Vote) -> bool:
    """Tell whether one vote surrounds another (protocol 4.8)."""
    return outer.source.epoch < inner.source.epoch and inner.target.epoch < outer.target.epoch


def slashable(first: Vote, second: Vote) -> bool:
    """Tell whether nobody may sign both votes (protocol 4.8)."""
    return double_vote(first, second) or surrounds(first, second) or surrounds(second, first)


def double_proposal(genesis_root: Hash32, first: SignedHeader, second: SignedHeader) -> bool:
    """Tell whether two headers are different blocks of one proposer for one slot (protocol 4.8)."""
    return (
        first.header.slot == second.header.slot
        and first.header.proposer == second.header.proposer
        and block_root(genesis_root, first.header) != block_root(genesis_root, second.header)
    )


def punishable(record: MinerRecord | None, offence_epoch: int) -> bool:
    """Tell whether a miner can still lose something for an offence (protocol 4.8).

    Who has been slashed in full has paid for everything up to that epoch.
    """
    return record is not None and (record.slashed_epoch is None or offence_epoch > record.slashed_epoch)


def epoch_of_offence(parameters: ChainParameters, evidence: Evidence) -> int:
    """Return the epoch that dates an offence (protocol 4.8)."""
    if isinstance(evidence, ProposalEvidence):
        return epoch_of(parameters, evidence.first.header.slot)
    # The later of the two made it an offence.
    return max(evidence.first.vote.target.epoch, evidence.second.vote.target.epoch)


def check_evidence(
    parameters: ChainParameters,
    scheme: SignatureScheme,
    genesis_root: Hash32,
    state: StateView,
    evidence: Evidence,
    epoch: int,
) -> tuple[Address, ...]:
    """Check evidence and say whom it convicts (protocol 4.8), in the order of cost.

    Parameters
    ----------
    parameters, genesis_root
        The chain's.
    scheme
        How miners sign.
    state
        The parent block's: keys, and who has been punished already.
    evidence
        From anywhere.
    epoch
        Of the block that includes it. Its slash pays for offences up to there; one of a later epoch would
        convict again and again.

    Returns
    -------
    tuple of Address
        At least one, ascending.

    Raises
    ------
    NoOffence, FutureOffence, NobodyGuilty, WrongEvidenceSignature
        Where it proves nothing.
    """
    if isinstance(evidence, ProposalEvidence):
        return _check_proposals(parameters, scheme, genesis_root, state, evidence, epoch)
    return _check_votes(parameters, scheme, genesis_root, state, evidence, epoch)


def full_penalty(record: MinerRecord) -> Penalty:
    """Return what a full slash takes: the whole bond, half burned, half to the prover (protocol 4.8)."""
    return split_penalty(record.bond_wei, 0)


def lesser_penalty(bond_wei: int, batch_price_wei: int, wronged_loss_wei: int) -> Penalty:
    """Return what a wrong receipt or an unanswered demand costs: ``min(bond, 64 · batch price)``.

    Protocol 4.8.
    """
    return split_penalty(min(bond_wei, LESSER_PENALTY_PRICES * batch_price_wei), wronged_loss_wei)


def split_penalty(amount_wei: int, wronged_loss_wei: int) -> Penalty:
    """Split a penalty: half burned, of the rest the wronged first, the remainder to the prover.

    Protocol 4.8.
    """
    burned = (amount_wei + 1) // 2
    wronged = min(amount_wei - burned, wronged_loss_wei)
    return Penalty(amount_wei, burned, wronged, amount_wei - burned - wronged)


def slashed(parameters: ChainParameters, record: MinerRecord, epoch: int) -> MinerRecord:
    """Return a miner as a full slash leaves it: no bond, no earlier weight, in jail (protocol 4.8)."""
    return MinerRecord(
        miner=record.miner,
        bls_key=record.bls_key,
        bond_wei=0,
        sign_of_life_epoch=record.sign_of_life_epoch,
        jailed_until_epoch=max(record.jailed_until_epoch, epoch + parameters.jail_epochs),
        slashed_epoch=epoch,
    )


def _check_proposals(
    parameters: ChainParameters,
    scheme: SignatureScheme,
    genesis_root: Hash32,
    state: StateView,
    evidence: ProposalEvidence,
    epoch: int,
) -> tuple[Address, ...]:
    first, second = evidence.first, evidence.second
    if not double_proposal(genesis_root, first, second):
        raise NoOffence("the headers are not different blocks of one proposer for one slot")
    proposer, slot = first.header.proposer, first.header.slot
    offence_epoch = epoch_of_offence(parameters, evidence)
    _require_begun(offence_epoch, epoch)
    record = state.miner(proposer)
    if record is None or not punishable(record, offence_epoch):
        raise NobodyGuilty(f"proposer 0x{proposer.hex()} is no miner, or has been punished for slot {slot}")
    for signed in (first, second):
        if not scheme.verify(record.bls_key, block_root(genesis_root, signed.header), signed.signature):
            raise WrongEvidenceSignature(f"a header of slot {slot} is not signed by 0x{proposer.hex()}")
    return (proposer,)


def _check_votes(
    parameters: ChainParameters,
    scheme: SignatureScheme,
    genesis_root: Hash32,
    state: StateView,
    evidence: VoteEvidence,
    epoch: int,
) -> tuple[Address, ...]:
    first, second = evidence.first, evidence.second
    if not slashable(first.vote, second.vote):
        raise NoOffence("the votes neither share a target epoch nor does one surround the other")
    offence_epoch = epoch_of_offence(parameters, evidence)
    _require_begun(offence_epoch, epoch)
    both = sorted(set(first.signers) & set(second.signers))
    guilty = tuple(miner for miner in both if punishable(state.miner(miner), offence_epoch))
    if not guilty:
        raise NobodyGuilty(f"nobody signed both votes, or all {len(both)} have been punished")
    for attributed in (first, second):
        records = [state.miner(miner) for miner in attributed.signers]
        keys = [record.bls_key for record in records if record is not None]
        if len(keys) != len(records) or not scheme.verify_aggregate(
            keys, vote_message(genesis_root, attributed.vote), attributed.signature
        ):
            raise WrongEvidenceSignature(f"a vote is not signed by the {len(records)} miners that it names")
    return guilty


def _require_begun(offence_epoch: int, epoch: int) -> None:
    if offence_epoch > epoch:
        raise FutureOffence(f"an offence of epoch {offence_epoch} cannot be punished in epoch {epoch}")


# ---------------------------------------------------------------- codecs


def encode_evidence(items: Sequence[Evidence]) -> bytes:
    """Return the RLP of evidence: per piece 1 and two headers, or 2 and two attributed votes.

    Protocol 4.1.
    """
    return rlp.encode([_fields(item) for item in items])


def decode_evidence(data: bytes) -> tuple[Evidence, ...]:
    """Read evidence: a block's, or a gossiped piece in a list of one.

    Raises
    ------
    InvalidMessage
        Where the bytes are none, or more than a block may have.
    """
    outer = Reader(data, "block", 0, len(data))
    items = tuple(_read(reader) for reader in outer.lists("evidence", max_items=EVIDENCE_ITEMS_MAX))
    outer.close()
    return items


def evidence_hash(items: Sequence[Evidence]) -> Hash32:
    """Return what a block's root holds of its evidence (protocol 4.1)."""
    return blake3(EVIDENCE_TAG + encode_evidence(items))


def _fields(evidence: Evidence) -> list[rlp.RlpItem]:
    if isinstance(evidence, ProposalEvidence):
        pair: list[rlp.RlpItem] = [
            signed_header_fields(evidence.first),
            signed_header_fields(evidence.second),
        ]
        return [integer_to_bytes(_PROPOSALS), *pair]
    return [integer_to_bytes(_VOTES), _vote_fields(evidence.first), _vote_fields(evidence.second)]


def _vote_fields(attributed: AttributedVote) -> rlp.RlpItem:
    return [*vote_fields(attributed.vote), b"".join(attributed.signers), attributed.signature]


def _read(reader: Reader) -> Evidence:
    kind = reader.integer("kind", 8)
    first, second = reader.list("first"), reader.list("second")
    evidence: Evidence
    if kind == _PROPOSALS:
        evidence = ProposalEvidence(read_signed_header(first), read_signed_header(second))
    elif kind == _VOTES:
        evidence = VoteEvidence(_read_attributed(first), _read_attributed(second))
    else:
        raise FieldOutOfRange(f"{reader.what}: kind is {kind}, not {_PROPOSALS} or {_VOTES}")
    first.close()
    second.close()
    return evidence


def _read_attributed(reader: Reader) -> AttributedVote:
    vote = read_vote(reader)
    data = reader.blob("signers", min_bytes=ADDRESS_BYTES, max_bytes=SIGNERS_MAX * ADDRESS_BYTES)
    if len(data) % ADDRESS_BYTES:
        raise FieldOutOfRange(f"{reader.what}: {len(data)} bytes are no whole number of signers")
    signers = tuple(Address(data[at : at + ADDRESS_BYTES]) for at in range(0, len(data), ADDRESS_BYTES))
    if any(left >= right for left, right in pairwise(signers)):
        raise FieldOutOfRange(f"{reader.what}: signers are not ascending")
    return AttributedVote(vote, signers, BlsSignature(reader.fixed("signature", BLS_SIGNATURE_BYTES)))
