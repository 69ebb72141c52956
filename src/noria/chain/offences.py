"""Noticing offences in what goes by, and keeping the evidence until a block has it (protocol 4.8)."""

from __future__ import annotations

from collections import OrderedDict
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


class EvidencePool:
    """Evidence that no block of the chain has yet."""

    def __init__(self) -> None:
        self._pool: OrderedDict[Hash32, Evidence] = OrderedDict()

    def __len__(self) -> int:
        """Return how many pieces there are."""
        return len(self._pool)

    def has(self, evidence: Evidence) -> bool:
        """Tell whether a piece is here."""
        return evidence_id(evidence) in self._pool

    def add(self, evidence: Evidence) -> None:
        """Keep a checked piece."""
        self._pool[evidence_id(evidence)] = evidence
        while len(self._pool) > POOL_MAX:
            self._pool.popitem(last=False)

    def prune(
        self,
        parameters: ChainParameters,
        scheme: SignatureScheme,
        genesis_root: Hash32,
        state: StateView,
        epoch: int,
    ) -> None:
        """Forget what convicts nobody any more in a final state; keep what may still do so after an epoch."""
        for key, evidence in list(self._pool.items()):
            try:
                check_evidence(parameters, scheme, genesis_root, state, evidence, epoch)
            except FutureOffence:
                continue
            except EvidenceError:
                del self._pool[key]

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
        for evidence in list(self._pool.values()):
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


def accused(evidence: Evidence) -> tuple[Address, ...]:
    """Return who has signed both, ascending, whether or not it can still be punished."""
    if isinstance(evidence, ProposalEvidence):
        return (evidence.first.header.proposer,)
    return tuple(sorted(set(evidence.first.signers) & set(evidence.second.signers)))


def evidence_id(evidence: Evidence) -> Hash32:
    """Return the name of a piece of evidence."""
    return blake3(encode_evidence([evidence]))
