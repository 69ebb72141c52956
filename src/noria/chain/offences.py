"""Noticing offences in what goes by, and keeping the evidence until a block has it (protocol 4.8)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from noria.consensus.headers import SignedHeader
from noria.consensus.parameters import ChainParameters
from noria.consensus.signatures import SignatureScheme
from noria.consensus.slashing import (
    EVIDENCE_BYTES_MAX,
    EVIDENCE_ITEMS_MAX,
    AttributedVote,
    Evidence,
    EvidenceError,
    FutureOffence,
    ProposalEvidence,
    VoteEvidence,
    check_evidence,
    double_proposal,
    encode_evidence,
    epoch_of_offence,
    slashable,
)
from noria.consensus.state import StateView
from noria.primitives.hashes import blake3
from noria.primitives.types import Address, Hash32

PROPOSALS_MAX: Final = 8192
"""(proposer, slot) pairs whose headers are remembered."""
VOTERS_MAX: Final = 4096
VOTES_PER_VOTER: Final = 128
POOL_MAX: Final = 256
EACH_MAX: Final = 4
"""Pieces about one miner: whoever offends again and again leaves room for what others have done."""


class OffenceWatch:
    """Remembers what miners signed, and sees when two of it may not both be signed.

    It is told only what has been checked: signatures are the signers'.
    """

    def __init__(self, genesis_root: Hash32) -> None:
        self._genesis_root = genesis_root
        self._proposals: OrderedDict[tuple[Address, int], SignedHeader] = OrderedDict()
        self._votes: OrderedDict[Address, OrderedDict[int, AttributedVote]] = OrderedDict()

    def proposal(self, header: SignedHeader) -> ProposalEvidence | None:
        """Take note of a block's header; return evidence if its proposer has signed another one."""
        key = (header.header.proposer, header.header.slot)
        first = self._proposals.get(key)
        if first is None:
            self._proposals[key] = header
            while len(self._proposals) > PROPOSALS_MAX:
                self._proposals.popitem(last=False)
            return None
        return ProposalEvidence(first, header) if double_proposal(self._genesis_root, first, header) else None

    def vote(self, vote: AttributedVote) -> list[VoteEvidence]:
        """Take note of a vote, single or of many; return evidence against who should not have signed it."""
        found: dict[AttributedVote, VoteEvidence] = {}
        target = vote.vote.target.epoch
        for signer in vote.signers:
            others = self._votes.setdefault(signer, OrderedDict())
            for other in others.values():
                if slashable(other.vote, vote.vote):
                    found[other] = VoteEvidence(other, vote)
            if target not in others:
                others[target] = vote
                while len(others) > VOTES_PER_VOTER:
                    others.popitem(last=False)
        while len(self._votes) > VOTERS_MAX:
            self._votes.popitem(last=False)
        return list(found.values())


@dataclass(frozen=True, slots=True)
class _Piece:
    """Evidence, whom it accuses, and the epoch of their offence."""

    evidence: Evidence
    accused: tuple[Address, ...]
    epoch: int


class EvidencePool:
    """Evidence that no block of the chain has yet.

    Of what there is about one miner the earliest offences are kept, which can be punished first, and of those
    what came first.
    """

    def __init__(self) -> None:
        self._pool: OrderedDict[Hash32, _Piece] = OrderedDict()
        self._about: Counter[Address] = Counter()

    def __len__(self) -> int:
        """Return how many pieces there are."""
        return len(self._pool)

    def has(self, evidence: Evidence) -> bool:
        """Tell whether a piece is here."""
        return evidence_id(evidence) in self._pool

    def wants(self, parameters: ChainParameters, evidence: Evidence) -> bool:
        """Tell whether a piece that is not here would be kept: there may be enough about all it accuses.

        One that accuses nobody is no evidence, as its check will tell.
        """
        piece = _piece(parameters, evidence)
        miners = set(piece.accused)
        if not miners or any(self._about[miner] < EACH_MAX for miner in miners):
            return True
        return any(
            other.epoch > piece.epoch
            and all(self._about[miner] + (miner in miners) > EACH_MAX for miner in other.accused)
            for other in self._pool.values()
        )

    def add(self, parameters: ChainParameters, evidence: Evidence) -> bool:
        """Keep a checked piece if it is wanted; return whether it is kept."""
        key = evidence_id(evidence)
        if key in self._pool:
            return True
        piece = _piece(parameters, evidence)
        self._pool[key] = piece
        self._about.update(piece.accused)
        while (spare := self._spare(EACH_MAX)) is not None:
            self._remove(spare)
        while len(self._pool) > POOL_MAX:
            self._remove(self._spare(1) or next(iter(self._pool)))
        return key in self._pool

    def _spare(self, each: int) -> Hash32 | None:
        """Return the latest offence of those about miners on each of whom there are more than so many."""
        found: Hash32 | None = None
        for key, piece in self._pool.items():
            is_latest = found is None or piece.epoch >= self._pool[found].epoch
            if is_latest and all(self._about[miner] > each for miner in piece.accused):
                found = key
        return found

    def _remove(self, key: Hash32) -> None:
        accused = self._pool.pop(key).accused
        self._about.subtract(accused)
        for miner in accused:
            if not self._about[miner]:
                del self._about[miner]

    def stale(
        self,
        parameters: ChainParameters,
        scheme: SignatureScheme,
        genesis_root: Hash32,
        state: StateView,
        epoch: int,
    ) -> list[Hash32]:
        """Return the names of what convicts nobody any more in a final state, nor after an epoch.

        Checks signatures: not on the event loop, where the pool may change meanwhile.
        """
        found: list[Hash32] = []
        for key, piece in list(self._pool.items()):
            try:
                check_evidence(parameters, scheme, genesis_root, state, piece.evidence, epoch)
            except FutureOffence:
                continue
            except EvidenceError:
                found.append(key)
        return found

    def forget(self, names: Iterable[Hash32]) -> None:
        """Let go of pieces by name, of those that are here."""
        for name in names:
            if name in self._pool:
                self._remove(name)

    def select(
        self,
        parameters: ChainParameters,
        scheme: SignatureScheme,
        genesis_root: Hash32,
        state: StateView,
        epoch: int,
    ) -> tuple[tuple[Evidence, ...], tuple[Address, ...]]:
        """Return what a block of an epoch on a state may carry, and whom it convicts, ascending."""
        chosen: list[Evidence] = []
        convicted: set[Address] = set()
        for evidence in [piece.evidence for piece in self._pool.values()]:
            if len(chosen) == EVIDENCE_ITEMS_MAX:
                break
            try:
                guilty = check_evidence(parameters, scheme, genesis_root, state, evidence, epoch)
            except EvidenceError:
                continue
            if convicted.issuperset(guilty) or len(encode_evidence([*chosen, evidence])) > EVIDENCE_BYTES_MAX:
                continue
            chosen.append(evidence)
            convicted.update(guilty)
        return tuple(chosen), tuple(sorted(convicted))


def _piece(parameters: ChainParameters, evidence: Evidence) -> _Piece:
    return _Piece(evidence, accused(evidence), epoch_of_offence(parameters, evidence))


def accused(evidence: Evidence) -> tuple[Address, ...]:
    """Return who has signed both, ascending, whether or not it can still be punished."""
    if isinstance(evidence, ProposalEvidence):
        return (evidence.first.header.proposer,)
    return tuple(sorted(set(evidence.first.signers) & set(evidence.second.signers)))


def evidence_id(evidence: Evidence) -> Hash32:
    """Return the name of a piece of evidence."""
    return blake3(encode_evidence([evidence]))
