"""A small chain in memory for tests: miners, credited work, state, and right blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from noria.consensus.blocks import Block, encode_block, make_block, signed
from noria.consensus.certificate import Certificate, named_receipt
from noria.consensus.fork_choice import BlockNode
from noria.consensus.genesis import ChainDraft, Genesis, genesis_root, genesis_states
from noria.consensus.lottery import draw, eta_for, prev_randao, tie_break, vrf_message, wins
from noria.consensus.parameters import DEVNET, DEVNET_GRANT_FUEL, ChainParameters
from noria.consensus.payloads import read_payload_header
from noria.consensus.sent_block import SentBlock, encode_sent_block
from noria.consensus.signatures import SignatureScheme, Signed
from noria.consensus.slashing import Evidence, slashed
from noria.consensus.slots import epoch_of, slot_start_seconds
from noria.consensus.state import CreditEntry, MinerRecord
from noria.consensus.validity import BlockState, ChainRules, check_all_evidence, check_contents, check_result
from noria.consensus.votes import AggregatedVote, SignedVote, Vote, aggregate_votes, vote_message, voters
from noria.consensus.voting import due_tally
from noria.consensus.weight import Snapshot, take_snapshot
from noria.primitives import rlp
from noria.primitives.hashes import EMPTY_TRIE_ROOT, blake3, keccak256
from noria.primitives.rlp import integer_to_bytes
from noria.primitives.types import (
    ZERO_ADDRESS,
    ZERO_HASH,
    Address,
    BlsPublicKey,
    BlsSignature,
    Hash32,
)
from noria.work.batches import Batch, BatchCommitment, build_batch
from noria.work.ids import ProgramId, blob_id, program_id, unit_id
from noria.work.receipts import Receipt, Status

GENESIS_SECONDS: Final = 1_700_000_000
PROGRAM: Final = program_id(b"a pinned program")
_MODULUS: Final = 2**768
_NO_REQUESTS: Final = hashlib.sha256(b"").digest()


class FakeScheme:
    """Signatures that anybody can make, unique per key and message, and added up as numbers.

    For tests that need thousands: nobody in them forges.
    """

    def sign(self, public_key: BlsPublicKey, message: bytes) -> BlsSignature:
        """Sign as the owner of a key."""
        return BlsSignature(hashlib.shake_256(public_key + message).digest(96))

    def verify(self, public_key: BlsPublicKey, message: bytes, signature: BlsSignature) -> bool:
        return self.sign(public_key, message) == signature

    def verify_many(self, signed: Sequence[Signed]) -> bool:
        return bool(signed) and all(self.verify(*one) for one in signed)

    def aggregate(self, signatures: Sequence[BlsSignature]) -> BlsSignature:
        if not signatures:
            raise ValueError("no signatures")
        total = sum(int.from_bytes(signature, "big") for signature in signatures)
        return BlsSignature((total % _MODULUS).to_bytes(96, "big"))

    def verify_aggregate(
        self, public_keys: Sequence[BlsPublicKey], message: bytes, signature: BlsSignature
    ) -> bool:
        return bool(public_keys) and signature == self.aggregate(
            [self.sign(key, message) for key in public_keys]
        )


FAKE: Final = FakeScheme()
_CHECK: SignatureScheme = FAKE  # mypy: it fits the seam


def address(number: int) -> Address:
    return Address(blake3(b"miner %d" % number)[:20])


def bls_key(number: int) -> BlsPublicKey:
    return BlsPublicKey(hashlib.shake_256(b"key %d" % number).digest(48))


@dataclass(frozen=True)
class PlainState:
    """A chain's state as plain data."""

    records: Mapping[Address, MinerRecord]
    ledgers: Mapping[Address, Sequence[CreditEntry]] = field(default_factory=dict)
    commitments: Mapping[Hash32, BatchCommitment] = field(default_factory=dict)
    silent: Mapping[Address, int] = field(default_factory=dict)
    """Voting epochs since the sign of life, where not 0."""

    def miners(self) -> Iterable[MinerRecord]:
        return self.records.values()

    def miner(self, miner: Address) -> MinerRecord | None:
        return self.records.get(miner)

    def credits(self, miner: Address) -> Sequence[CreditEntry]:
        return self.ledgers.get(miner, ())

    def commitment(self, miner: Address, batch_root: Hash32) -> BatchCommitment | None:
        found = self.commitments.get(batch_root)
        return found if found is not None and found.miner == miner else None

    def voting_epochs_since(self, miner: Address, epoch: int) -> int:
        return self.silent.get(miner, 0)


def state_with(
    records: Iterable[MinerRecord],
    batches: Mapping[Address, Sequence[tuple[Batch, int, int]]] | None = None,
) -> PlainState:
    """A state with miners and, per miner, batches with the epoch of their credit and that credit."""
    ledgers: dict[Address, list[CreditEntry]] = {}
    commitments = {}
    for miner, credited in (batches or {}).items():
        cumulative = 0
        for batch, epoch, credit in credited:
            cumulative += credit
            ledgers.setdefault(miner, []).append(CreditEntry(batch.commitment.root, epoch, cumulative))
            commitments[batch.commitment.root] = batch.commitment
    return PlainState({record.miner: record for record in records}, ledgers, commitments)


# ---------------------------------------------------------------- work


def input_of(miner: Address, index: int) -> bytes:
    """The input of a miner's unit."""
    return b"input %d of " % index + miner


def unit_receipt(
    miner: Address,
    index: int,
    fuel: int,
    *,
    weight: int | None = None,
    fuel_limit: int | None = None,
    program: ProgramId = PROGRAM,
    genesis: Hash32 = ZERO_HASH,
    job: int = 1,
    status: Status = Status.OK,
    lie: bool = False,
) -> Receipt:
    """A receipt of a unit whose parts are known; a lie claims another output than the unit has."""
    limit = fuel if fuel_limit is None else fuel_limit
    return Receipt(
        genesis_root=genesis,
        job=job,
        k=0,
        miner=miner,
        index=index,
        unit_id=unit_id(program, blob_id(input_of(miner, index)), limit),
        output_id=blob_id(b"never run" if lie else b"output %d" % index),
        status=status,
        fuel=fuel,
        weight=fuel if weight is None else weight,
    )


def unit_batch(
    miner: Address, fuels: Sequence[int], *, job: int = 1, genesis: Hash32 = ZERO_HASH, lie: bool = False
) -> Batch:
    """A batch of units with these fuels, each its own limit."""
    return build_batch(
        [
            unit_receipt(miner, index, fuel, job=job, genesis=genesis, lie=lie)
            for index, fuel in enumerate(fuels)
        ]
    )


def check_by_running(certificate: Certificate) -> None:
    """What running a unit of `unit_receipt` again gives: raise `CertificateRefuted` for a lie."""
    receipt = certificate.proof.receipt
    check_result(certificate, status=0, output_id=blob_id(b"output %d" % receipt.index), fuel=receipt.fuel)


def certificate_at(batch: Batch, weight_offset: int, program: ProgramId = PROGRAM) -> Certificate:
    """The right certificate for a weight offset of a batch of `unit_batch`."""
    proof = batch.proof_at_weight(weight_offset)
    receipt = proof.receipt
    return Certificate(proof, program, blob_id(input_of(receipt.miner, receipt.index)), receipt.fuel)


def sent(block: Block) -> bytes:
    """A block as it travels, with the input of its certificate's unit."""
    receipt = block.certificate.proof.receipt if block.certificate else None
    return sent_with(block, input_of(receipt.miner, receipt.index) if receipt else None)


def sent_with(block: Block, input: bytes | None) -> bytes:
    """A block as it travels, with any input."""
    return encode_sent_block(SentBlock(encode_block(block), input))


# ---------------------------------------------------------------- payloads


def payload_bytes(
    *,
    parent_hash: Hash32,
    number: int,
    timestamp: int,
    randao: Hash32,
    beacon_root: Hash32,
    state_root: Hash32 = EMPTY_TRIE_ROOT,
    extra: bytes = b"",
) -> bytes:
    """An empty block of the Osaka rules."""
    header: list[rlp.RlpItem] = [
        parent_hash,
        keccak256(rlp.encode([])),
        ZERO_ADDRESS,
        state_root,
        EMPTY_TRIE_ROOT,
        EMPTY_TRIE_ROOT,
        bytes(256),
        b"",
        integer_to_bytes(number),
        integer_to_bytes(36_000_000),
        b"",
        integer_to_bytes(timestamp),
        extra,
        randao,
        bytes(8),
        integer_to_bytes(10**9),
        EMPTY_TRIE_ROOT,
        b"",
        b"",
        beacon_root,
        _NO_REQUESTS,
    ]
    return rlp.encode([header, [], [], []])


# ---------------------------------------------------------------- a chain


@dataclass(frozen=True)
class Link:
    """A block with what follows from it; also the `ParentView` of its children."""

    world: World
    block: BlockState
    state: PlainState
    parent: Link | None
    envelope: Block | None = None
    """`None` at genesis."""

    def at(self, epoch: int) -> Link:
        """The link whose state an epoch's snapshot is taken from."""
        boundary = max(epoch - 1, 0) * self.world.parameters.epoch_slots
        link = self
        while link.parent is not None and link.block.slot >= boundary:
            link = link.parent
        return link

    def snapshot(self, epoch: int) -> Snapshot | None:
        return self.world.snapshot(self.at(epoch), epoch)

    def taken(self, epoch: int) -> Snapshot:
        snapshot = self.snapshot(epoch)
        assert snapshot is not None
        return snapshot

    @property
    def node(self) -> BlockNode:
        """What fork choice knows of it."""
        block = self.block
        return BlockNode(
            block.root,
            self.parent.block.root if self.parent else ZERO_HASH,
            block.slot,
            block.height,
            tie_break(self.envelope.header.vrf_proof) if self.envelope else ZERO_HASH,
            block.finality.justified,
            block.finality.finalised,
        )


class World:
    """A chain's rules, its miners, and how to extend it."""

    def __init__(
        self,
        miners: int = 4,
        parameters: ChainParameters = DEVNET,
        *,
        bonds: Mapping[int, int] | None = None,
        grant: int = DEVNET_GRANT_FUEL,
        grants: Mapping[int, int] | None = None,
        work: Mapping[int, Sequence[int]] | None = None,
        liars: Collection[int] = (),
        name: str = "test",
    ) -> None:
        self.parameters = parameters
        shares = dict.fromkeys(range(miners), grant) if grants is None else grants
        self.grants = {address(number): share for number, share in shares.items() if share}
        self.batches = {
            address(number): unit_batch(address(number), fuels, lie=number in liars)
            for number, fuels in (work or {}).items()
        }
        records = [
            MinerRecord(address(number), bls_key(number), (bonds or {}).get(number, parameters.bond_min_wei))
            for number in range(miners)
        ]
        self.numbers = {address(number): number for number in range(miners)}
        draft = ChainDraft(
            name=name,
            chain_id=1,
            genesis_seconds=GENESIS_SECONDS,
            parameters=parameters,
            hardforks=(("osaka", 0),),
            instrumenter_version=1,
            pinned_programs=frozenset({PROGRAM}),
            grants=self.grants,
        )
        payload = payload_bytes(
            parent_hash=ZERO_HASH,
            number=0,
            timestamp=GENESIS_SECONDS,
            randao=ZERO_HASH,
            beacon_root=ZERO_HASH,
        )
        header = read_payload_header(payload)
        self.genesis_root = genesis_root(Genesis(draft, header.block_hash, header.state_root))
        randomness, finality = genesis_states(self.genesis_root)
        state = state_with(
            records,
            {miner: [(batch, 0, batch.commitment.weight)] for miner, batch in self.batches.items()},
        )
        self.genesis = Link(
            self, BlockState(self.genesis_root, 0, 0, header, randomness, finality), state, None
        )
        self.rules = ChainRules(self.genesis_root, GENESIS_SECONDS, parameters, frozenset({PROGRAM}), FAKE)
        self._snapshots: dict[tuple[Hash32, int], Snapshot] = {}

    def snapshot(self, link: Link, epoch: int) -> Snapshot:
        key = (link.block.root, epoch)
        if key not in self._snapshots:
            self._snapshots[key] = take_snapshot(self.parameters, link.state, self.grants, epoch)
        return self._snapshots[key]

    def proof(self, parent: Link, miner: int, slot: int) -> BlsSignature:
        """A miner's proof for a slot on a parent."""
        eta = eta_for(parent.block.randomness, epoch_of(self.parameters, slot))
        return FAKE.sign(bls_key(miner), vrf_message(self.genesis_root, eta, slot))

    def wins(self, parent: Link, miner: int, slot: int) -> bool:
        """Whether a miner may produce a slot's block on a parent."""
        snapshot = parent.taken(epoch_of(self.parameters, slot))
        row = snapshot.row(address(miner))
        return row is not None and wins(
            self.parameters, self.proof(parent, miner, slot), row.weight, snapshot.total_weight
        )

    def winner(self, parent: Link, slot: int) -> tuple[int, int]:
        """The first slot from one on that somebody wins, and who."""
        while True:
            for miner in sorted(self.numbers.values()):
                if self.wins(parent, miner, slot):
                    return slot, miner
            slot += 1

    def certificate(self, parent: Link, miner: int, slot: int) -> Certificate | None:
        """The right certificate."""
        row = parent.taken(epoch_of(self.parameters, slot)).row(address(miner))
        assert row is not None
        named = named_receipt(parent.state, row, draw(self.proof(parent, miner, slot), row.weight))
        return certificate_at(self.batches[row.miner], named[1].weight_offset) if named else None

    def block(
        self,
        parent: Link,
        slot: int,
        miner: int,
        *,
        votes: tuple[AggregatedVote, ...] = (),
        evidence: tuple[Evidence, ...] = (),
        extra: bytes = b"",
    ) -> Block:
        """A block that is right where its miner wins the slot."""
        proof = self.proof(parent, miner, slot)
        payload = payload_bytes(
            parent_hash=parent.block.payload.block_hash,
            number=parent.block.payload.number + 1,
            timestamp=slot_start_seconds(self.parameters, GENESIS_SECONDS, slot),
            randao=prev_randao(parent.block.payload.prev_randao, proof),
            beacon_root=parent.block.root,
            extra=extra,
        )
        block = make_block(
            slot=slot,
            parent_root=parent.block.root,
            proposer=address(miner),
            vrf_proof=proof,
            certificate=self.certificate(parent, miner, slot),
            votes=votes,
            evidence=evidence,
            payload=payload,
            signature=BlsSignature(bytes(96)),
        )
        return self.sign(block, miner)

    def sign(self, block: Block, miner: int) -> Block:
        """A block with its proposer's signature."""
        return signed(block, FAKE.sign(bls_key(miner), block.root(self.genesis_root)))

    def link(self, parent: Link, block: Block) -> Link:
        """The block as a parent of further ones, its contents checked."""
        after = check_contents(self.rules, block, parent)
        return Link(self, after, state_after(self, parent, after, block), parent, block)

    def extend(
        self,
        parent: Link,
        slot: int,
        votes: tuple[AggregatedVote, ...] = (),
        evidence: tuple[Evidence, ...] = (),
    ) -> Link:
        """The parent with a right block by whoever wins first from a slot on."""
        slot, miner = self.winner(parent, slot)
        return self.link(parent, self.block(parent, slot, miner, votes=votes, evidence=evidence))

    def vote(self, miner: int, vote: Vote) -> SignedVote:
        """A miner's signed vote."""
        signature = FAKE.sign(bls_key(miner), vote_message(self.genesis_root, vote))
        return SignedVote(vote, address(miner), signature)


def state_after(world: World, parent: Link, after: BlockState, block: Block) -> PlainState:
    """The state with what a block's votes and evidence change: signs of life, and who is slashed."""
    parameters, epoch = world.parameters, epoch_of(world.parameters, after.slot)
    records, silent = dict(parent.state.records), dict(parent.state.silent)
    known = {tally.target for tally in parent.block.finality.tallies}
    for tally in after.finality.tallies:
        if tally.target not in known:
            for row in parent.taken(tally.voting_epoch).rows:
                silent[row.miner] = silent.get(row.miner, 0) + 1
    for aggregate in block.votes:
        tally = next(tally for tally in after.finality.tallies if tally.vote == aggregate.vote)
        for miner in voters(parent.taken(tally.voting_epoch), aggregate):
            records[miner] = replace(records[miner], sign_of_life_epoch=epoch)
            silent[miner] = 0
    for miner in check_all_evidence(world.rules, block, parent):
        records[miner] = slashed(parameters, records[miner], epoch)
    return replace(parent.state, records=records, silent=silent)


def aggregate_all(
    world: World, parent: Link, epoch: int, miners: Iterable[int] | None = None
) -> tuple[AggregatedVote, ...]:
    """The votes of all miners, or of some, for an epoch's target on a parent's chain."""
    block = parent.block
    tally = due_tally(world.parameters, block.root, block.slot, block.finality, epoch)
    assert tally is not None
    numbers = sorted(world.numbers.values()) if miners is None else miners
    votes = [world.vote(number, tally.vote) for number in numbers]
    return aggregate_votes(FAKE, parent.taken(tally.voting_epoch), votes)
