"""Votes: what is signed, how many are joined into one, and what a block may carry of them (protocol 4.7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from noria.consensus.bitfield import bits_of, positions_of
from noria.consensus.signatures import SignatureScheme
from noria.consensus.weight import Snapshot
from noria.consensus.wire import FieldOutOfRange, FieldTooLong, InvalidMessage, Reader, integer_to_bytes
from noria.primitives import rlp
from noria.primitives.hashes import blake3
from noria.primitives.types import (
    ADDRESS_BYTES,
    BLS_SIGNATURE_BYTES,
    HASH_BYTES,
    Address,
    BlsPublicKey,
    BlsSignature,
    Hash32,
)

VOTE_TAG: Final = b"noria/vote/1"
VOTES_TAG: Final = b"noria/votes/1"
AGGREGATES_MAX: Final = 16
"""Most aggregated votes in a block."""
SIGNERS_MAX: Final = 8192
"""Most signers of one aggregated vote, so that evidence against them all fits a block."""
VOTERS_MAX: Final = 65_536
BITFIELD_BYTES_MAX: Final = VOTERS_MAX // 8
SIGNED_VOTE_BYTES_MAX: Final = 2 * (HASH_BYTES + 12) + ADDRESS_BYTES + BLS_SIGNATURE_BYTES + 16
AGGREGATE_BYTES_MAX: Final = 2 * (HASH_BYTES + 12) + BITFIELD_BYTES_MAX + BLS_SIGNATURE_BYTES + 16


class VoteError(ValueError):
    """A vote that cannot be taken; base of the errors below."""


class UnknownVoter(VoteError):
    """A vote of a miner that is not in the voting set, or in jail."""


class WrongVoteSignature(VoteError):
    """A signature that is not the voters'."""


class NothingToJoin(VoteError):
    """No votes, or votes for different things, where one aggregate was asked for."""


@dataclass(frozen=True, slots=True, order=True)
class Checkpoint:
    """A chain's last block before an epoch (protocol 4.7)."""

    epoch: int
    root: Hash32


@dataclass(frozen=True, slots=True)
class Vote:
    """From which justified checkpoint to which newer one a miner wants the chain to go (protocol 4.7)."""

    source: Checkpoint
    target: Checkpoint


@dataclass(frozen=True, slots=True)
class SignedVote:
    """One miner's vote, as it is gossiped."""

    vote: Vote
    miner: Address
    signature: BlsSignature


@dataclass(frozen=True, slots=True)
class AggregatedVote:
    """The same vote of several miners, as a block carries it (protocol 4.7).

    Parameters
    ----------
    vote
        What they want.
    bits
        Who: bit i is row i of the voting snapshot.
    signature
        The sum of their signatures.
    """

    vote: Vote
    bits: int
    signature: BlsSignature


def vote_message(genesis_root: Hash32, vote: Vote) -> bytes:
    """Return what a voter signs (protocol 4.7).

    ``"noria/vote/1" ‖ genesis_root ‖ source.epoch ‖ source.root ‖ target.epoch ‖ target.root``, epochs in 64
    bits.
    """
    return (
        VOTE_TAG
        + genesis_root
        + vote.source.epoch.to_bytes(8, "big")
        + vote.source.root
        + vote.target.epoch.to_bytes(8, "big")
        + vote.target.root
    )


def check_signed_vote(
    scheme: SignatureScheme, genesis_root: Hash32, voting_set: Snapshot, vote: SignedVote
) -> None:
    """Check one gossiped vote's voter and signature (protocol 4.7).

    Raises
    ------
    UnknownVoter, WrongVoteSignature
        Where they are wrong.
    """
    row = voting_set.row(vote.miner)
    if row is None:
        raise UnknownVoter(f"miner 0x{vote.miner.hex()} has no vote in the set of epoch {voting_set.epoch}")
    if not scheme.verify(row.bls_key, vote_message(genesis_root, vote.vote), vote.signature):
        raise WrongVoteSignature(f"the vote's signature is not that of miner 0x{vote.miner.hex()}")


def aggregate_votes(
    scheme: SignatureScheme, voting_set: Snapshot, votes: Iterable[SignedVote]
) -> tuple[AggregatedVote, ...]:
    """Join checked votes for the same thing (protocol 4.7), at most `SIGNERS_MAX` to an aggregate.

    A miner's second signature for the same vote is the same and is left out.

    Raises
    ------
    NothingToJoin
        Where there are none, or they differ in what they want.
    UnknownVoter
        Where a voter is not in the set.
    """
    by_position: dict[int, SignedVote] = {}
    for vote in votes:
        position = voting_set.position(vote.miner)
        if position is None:
            raise UnknownVoter(
                f"miner 0x{vote.miner.hex()} has no vote in the set of epoch {voting_set.epoch}"
            )
        by_position[position] = vote
    if len({vote.vote for vote in by_position.values()}) != 1:
        raise NothingToJoin("votes for one and the same thing can be joined, not none or different ones")
    positions = sorted(by_position)
    joined = []
    for start in range(0, len(positions), SIGNERS_MAX):
        part = positions[start : start + SIGNERS_MAX]
        signature = scheme.aggregate([by_position[position].signature for position in part])
        joined.append(AggregatedVote(by_position[part[0]].vote, bits_of(part), signature))
    return tuple(joined)


def voters(voting_set: Snapshot, aggregate: AggregatedVote) -> tuple[Address, ...]:
    """Return who an aggregated vote is by (protocol 4.7).

    Raises
    ------
    UnknownVoter
        Where a bit has no row.
    """
    _require_rows(voting_set, aggregate)
    return tuple(voting_set.rows[position].miner for position in positions_of(aggregate.bits))


def check_aggregate(
    scheme: SignatureScheme, genesis_root: Hash32, voting_set: Snapshot, aggregate: AggregatedVote
) -> None:
    """Check an aggregated vote's voters and signature (protocol 4.7). Who is in jail is the block's business.

    Raises
    ------
    UnknownVoter, WrongVoteSignature
        Where they are wrong.
    """
    _require_rows(voting_set, aggregate)
    keys: list[BlsPublicKey] = [voting_set.rows[i].bls_key for i in positions_of(aggregate.bits)]
    if not scheme.verify_aggregate(keys, vote_message(genesis_root, aggregate.vote), aggregate.signature):
        raise WrongVoteSignature(f"the sum of {len(keys)} votes' signatures is not theirs")


def _require_rows(voting_set: Snapshot, aggregate: AggregatedVote) -> None:
    if not 0 < aggregate.bits < 1 << len(voting_set.rows):
        raise UnknownVoter(
            f"bits up to {aggregate.bits.bit_length()} do not fit the {len(voting_set.rows)} voters of epoch"
            f" {voting_set.epoch}"
        )


# ---------------------------------------------------------------- codecs


def vote_fields(vote: Vote) -> list[rlp.RlpItem]:
    """Return a vote's fields for RLP."""
    return [
        integer_to_bytes(vote.source.epoch),
        vote.source.root,
        integer_to_bytes(vote.target.epoch),
        vote.target.root,
    ]


def read_vote(reader: Reader) -> Vote:
    """Take a vote's fields.

    Raises
    ------
    InvalidMessage
        Where they are none, or the source is not older than the target.
    """
    source = Checkpoint(reader.integer("source epoch", 64), Hash32(reader.fixed("source root", HASH_BYTES)))
    target = Checkpoint(reader.integer("target epoch", 64), Hash32(reader.fixed("target root", HASH_BYTES)))
    if source.epoch >= target.epoch:
        raise FieldOutOfRange(f"{reader.what}: source {source.epoch} is not older than target {target.epoch}")
    return Vote(source, target)


def encode_signed_vote(vote: SignedVote) -> bytes:
    """Return a gossiped vote's RLP: source epoch and root, target epoch and root, miner, signature."""
    return rlp.encode([*vote_fields(vote.vote), vote.miner, vote.signature])


def decode_signed_vote(data: bytes) -> SignedVote:
    """Read a gossiped vote.

    Raises
    ------
    InvalidMessage
        Where the bytes are none.
    """
    reader = Reader.open(data, "vote", max_bytes=SIGNED_VOTE_BYTES_MAX)
    vote = read_vote(reader)
    miner = Address(reader.fixed("miner", ADDRESS_BYTES))
    signature = BlsSignature(reader.fixed("signature", BLS_SIGNATURE_BYTES))
    reader.close()
    return SignedVote(vote, miner, signature)


def encode_votes(votes: Sequence[AggregatedVote]) -> bytes:
    """Return the RLP of a block's votes; bits are little-endian bytes without trailing zero bytes.

    Protocol 4.1.
    """
    return rlp.encode([[*vote_fields(vote.vote), _bitfield(vote.bits), vote.signature] for vote in votes])


def decode_votes(data: bytes) -> tuple[AggregatedVote, ...]:
    """Read a block's votes.

    Raises
    ------
    InvalidMessage
        Where the bytes are none, or there are more than a block may have.
    """
    outer = Reader(data, "block", 0, len(data))
    votes = tuple(_read_aggregate(reader) for reader in outer.lists("votes", max_items=AGGREGATES_MAX))
    outer.close()
    return votes


def votes_hash(votes: Sequence[AggregatedVote]) -> Hash32:
    """Return what a block's root holds of its votes (protocol 4.1)."""
    return blake3(VOTES_TAG + encode_votes(votes))


def _read_aggregate(reader: Reader) -> AggregatedVote:
    vote = read_vote(reader)
    field = reader.blob("bits", max_bytes=BITFIELD_BYTES_MAX, min_bytes=1)
    if field[-1] == 0:
        raise FieldOutOfRange(f"{reader.what}: bits end in a zero byte")
    bits = int.from_bytes(field, "little")
    if bits.bit_count() > SIGNERS_MAX:
        raise FieldTooLong(f"{reader.what}: {bits.bit_count()} signers, at most {SIGNERS_MAX} are allowed")
    return AggregatedVote(vote, bits, BlsSignature(reader.fixed("signature", BLS_SIGNATURE_BYTES)))


def _bitfield(bits: int) -> bytes:
    if not 0 < bits < 1 << VOTERS_MAX:
        raise InvalidMessage(f"bits up to {bits.bit_length()} are no bitfield of 1 to {VOTERS_MAX} voters")
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
