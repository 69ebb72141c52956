"""Invariant 9 as a machine: whatever an adversary does, no honest miner loses anything; it itself does.

The adversary has a fourth of the weight. It sees whatever anybody has signed: on every fork, before and after
every kill, and on another network where the same miners use the same keys. Delays, cuts, clocks and kills are
its choice. It accuses by gossip and in blocks of its own, in which it also punishes without any evidence,
leaves out what others have said, warns of true blocks, and signs what it must not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from noria._core import BlockAttributes
from noria.chain.block_tree import BlockView, KnownBlock
from noria.chain.offences import accused
from noria.chain.own_work import OwnWorkError
from noria.chain.slot_start import finality_with, slot_start, snapshot_of
from noria.consensus.alarms import Alarm, alarm_message, encode_alarm
from noria.consensus.blocks import Block, encode_block
from noria.consensus.certificate import CertificateError
from noria.consensus.finality import tally_for
from noria.consensus.headers import SignedHeader, block_root
from noria.consensus.sent_block import SentBlock, encode_sent_block
from noria.consensus.slashing import (
    AttributedVote,
    Evidence,
    EvidenceError,
    ProposalEvidence,
    VoteEvidence,
    check_evidence,
    encode_evidence,
    slashable,
)
from noria.consensus.slots import slot_start_seconds
from noria.consensus.validity import NotYet
from noria.consensus.votes import (
    Checkpoint,
    SignedVote,
    Vote,
    decode_signed_vote,
    encode_signed_vote,
    vote_message,
    voters,
)
from noria.primitives.hashes import blake3
from noria.primitives.types import Address, BlsSignature, Hash32
from tests.chain.drawn import PARAMETERS, FakeKey, Node, address, fast_network, state_of
from tests.chain.mortal import NEVER, Mortal
from tests.chain.network_machine import NetworkMachine, WatchedNode
from tests.consensus.world import FAKE

MINERS, ADVERSARY = 4, 3
HONEST = range(3)
NUMBERS = {address(number): number for number in range(MINERS)}
THE_HONEST = frozenset(address(number) for number in HONEST)
FAST = replace(PARAMETERS, epoch_slots=8)
EPOCH = FAST.epoch_slots
ELSEWHERE = blake3(b"another network")
FAR = 2**60
OFFENCES_FROM = 4 * EPOCH
"""Slot before which the adversary does nothing for which it would lose its weight."""
ACCUSATIONS = 40
"""That are made at once."""
PARENTS = 12
"""Blocks, the latest, that the adversary may build on."""


def vote_elsewhere(number: int, epoch: int) -> AttributedVote:
    """An honest miner's vote on the other network, where nothing has become final yet."""
    vote = Vote(Checkpoint(0, ELSEWHERE), Checkpoint(epoch, blake3(b"elsewhere %d" % epoch)))
    return AttributedVote(vote, (address(number),), FakeKey(number).sign(vote_message(ELSEWHERE, vote)))


class Archive:
    """Whatever was signed. Of a block here its proposer has made one for the same slot elsewhere."""

    def __init__(self) -> None:
        self.headers: list[SignedHeader] = []
        self.votes: list[AttributedVote] = []
        self.single: dict[Vote, dict[Address, BlsSignature]] = {}

    def add_header(self, header: SignedHeader) -> None:
        if header not in self.headers:
            self.headers.append(header)
            other = replace(header.header, payload_hash=blake3(b"elsewhere" + header.header.payload_hash))
            signature = FakeKey(NUMBERS[other.proposer]).sign(block_root(ELSEWHERE, other))
            self.headers.append(SignedHeader(other, signature))

    def add_vote(self, vote: AttributedVote) -> None:
        if vote in self.votes:
            return
        self.votes.append(vote)
        if len(vote.signers) > 1:
            return
        self.single.setdefault(vote.vote, {})[vote.signers[0]] = vote.signature
        for later in range(2):
            other = vote_elsewhere(NUMBERS[vote.signers[0]], vote.vote.target.epoch + later)
            if other not in self.votes:
                self.votes.append(other)

    def some_signature(self, dice: Random) -> BlsSignature:
        signed = [header.signature for header in self.headers]
        return dice.choice(signed + [vote.signature for vote in self.votes])

    # ------------------------------------------------------------ what can be made of it

    def pairs(self, headers: int, votes: int) -> Iterator[Evidence]:
        """All pairs with something that has come after so many headers and votes, both ways round."""
        for n, new in enumerate(self.headers[headers:], headers):
            for old in self.headers[: n + 1]:
                yield ProposalEvidence(new, old)
                yield ProposalEvidence(old, new)
        for n, cast in enumerate(self.votes[votes:], votes):
            for before in self.votes[: n + 1]:
                yield VoteEvidence(cast, before)
                yield VoteEvidence(before, cast)

    def accusation(self, dice: Random, own: FakeKey, genesis_root: Hash32) -> Evidence:
        """Two things that were signed, often changed so that they look like an offence."""
        if self.votes and dice.randrange(2):
            return self._votes(dice, own, genesis_root)
        return self._proposals(dice, own, genesis_root)

    def _proposals(self, dice: Random, own: FakeKey, genesis_root: Hash32) -> ProposalEvidence:
        first = dice.choice([header for header in self.headers if header.header.proposer in THE_HONEST])
        head = first.header
        rivals = [other for other in self.headers if other.header.slot == head.slot and other != first]
        second = dice.choice(rivals if rivals and dice.randrange(3) else self.headers)
        other = replace(head, payload_hash=blake3(dice.randbytes(8)))
        second = dice.choice(
            [
                second,
                SignedHeader(second.header, first.signature),
                SignedHeader(replace(second.header, slot=head.slot), second.signature),
                SignedHeader(replace(second.header, proposer=head.proposer), second.signature),
                SignedHeader(first.header, second.signature),
                SignedHeader(other, first.signature),
                SignedHeader(other, own.sign(block_root(genesis_root, other))),
                SignedHeader(other, self.some_signature(dice)),
            ]
        )
        return ProposalEvidence(*dice.sample((first, second), 2))

    def _votes(self, dice: Random, own: FakeKey, genesis_root: Hash32) -> VoteEvidence:
        first = dice.choice([vote for vote in self.votes if not THE_HONEST.isdisjoint(vote.signers)])
        rivals = [other for other in self.votes if slashable(first.vote, other.vote)]
        second = dice.choice(rivals if rivals and dice.randrange(3) else self.votes)
        target = Checkpoint(dice.choice([first.vote.target.epoch, FAR]), blake3(dice.randbytes(8)))
        vote = Vote(first.vote.source, target)
        signature = own.sign(vote_message(genesis_root, vote))
        both = tuple(sorted({*first.signers, address(ADVERSARY)}))
        second = dice.choice(
            [
                second,
                replace(second, signers=first.signers),
                replace(second, signature=first.signature),
                replace(second, signature=self.some_signature(dice)),
                self._some_of(dice, first),
                AttributedVote(vote, first.signers, first.signature),
                AttributedVote(vote, first.signers, signature),
                AttributedVote(vote, both, signature),
                AttributedVote(vote, both, FAKE.aggregate([signature, first.signature])),
            ]
        )
        if dice.randrange(2) and address(ADVERSARY) not in first.signers:
            # The guilty one and the honest together in one of the two, as they should be.
            own_part = own.sign(vote_message(genesis_root, first.vote))
            first = AttributedVote(first.vote, both, FAKE.aggregate([own_part, first.signature]))
        return VoteEvidence(*dice.sample((first, second), 2))

    def _some_of(self, dice: Random, vote: AttributedVote) -> AttributedVote:
        """The same vote, joined from others who have cast it."""
        cast = self.single.get(vote.vote)
        if not cast:
            return vote
        signers = sorted(dice.sample(sorted(cast), dice.randint(1, len(cast))))
        return AttributedVote(vote.vote, tuple(signers), FAKE.aggregate([cast[miner] for miner in signers]))


class Accusations(NetworkMachine):
    """An adversary, and three honest miners."""

    def __init__(self) -> None:
        super().__init__()
        self.archive = Archive()
        self.tried = (0, 0)
        self.punished: list[str] = []
        self.own_slots: set[int] = set()
        """In which the adversary has signed a block."""

    @property
    def adversary(self) -> Mortal:
        return self.nodes[ADVERSARY]

    @initialize()
    def begin(self) -> None:
        self.network = fast_network(self.folder, MINERS, parameters=FAST)
        self.nodes = [WatchedNode(self.network, number, self.heard, self.saw) for number in range(MINERS)]
        self.network.nodes.extend(self.nodes)

        async def start() -> None:
            for node in self.nodes:
                await node.start()

        self.do(start())
        self.keep_slots_back()
        self.genesis_root = self.adversary.chain.rules.genesis_root
        self.before = {miner: state_of(self.adversary).miners[miner] for miner in THE_HONEST}
        while not any(header.header.proposer in THE_HONEST for header in self.archive.headers):
            self.do(self.to_slot(self.slot + EPOCH))

    def keep_slots_back(self) -> None:
        """Let the adversary make no block of its own accord in every other slot, for those that it forges."""
        miner = self.adversary.miner
        assert miner is not None
        propose = miner.propose

        async def sometimes(slot: int) -> Block | None:
            return await propose(slot) if slot % 2 else None

        miner.propose = sometimes  # type: ignore[method-assign]

    # ------------------------------------------------------------ what it sees

    def heard(self, number: int, kind: str, data: bytes) -> None:
        if kind == "vote":
            vote = decode_signed_vote(data)
            self.archive.add_vote(AttributedVote(vote.vote, (vote.miner,), vote.signature))

    def saw(self, node: Node, block: Block, known: KnownBlock) -> None:
        view = node.chain.tree.view(known.root)
        assert view is not None
        self.archive.add_header(block.signed_header)
        for aggregate in block.votes:
            tally = tally_for(known.state.finality, aggregate.vote)
            signers = voters(snapshot_of(view, tally.voting_epoch), aggregate)
            self.archive.add_vote(AttributedVote(aggregate.vote, tuple(sorted(signers)), aggregate.signature))
        if block.header.proposer == address(ADVERSARY):
            self.own_slots.add(block.header.slot)
        if node.number in HONEST:
            self.look_at(node, view)

    def look_at(self, node: Node, view: BlockView) -> None:
        """Note where the state after a block, on whatever fork, has an honest miner lose something."""
        miners = view.state.contracts.miners
        self.punished += [
            f"node {node.number}, slot {view.block.slot}: {miners.get(miner)}"
            for miner, before in self.before.items()
            if miners.get(miner) != before
        ]

    def guilty_of(self, view: BlockView, evidence: Evidence, epoch: int) -> tuple[Address, ...]:
        """Whom evidence convicts, nobody if it proves nothing."""
        try:
            return check_evidence(FAST, FAKE, self.genesis_root, view.state, evidence, epoch)
        except EvidenceError:
            return ()

    # ------------------------------------------------------------ the network is its own

    @rule(slots=st.sampled_from([2, 4, 7, 12]))
    def time_passes(self, slots: int) -> None:
        self.do(self.to_slot(self.slot + slots))

    @rule(delay=st.sampled_from([0.01, 0.05, 0.4, 1.3]))
    def messages_take_longer_or_shorter(self, delay: float) -> None:
        self.network.delay = delay

    @rule(first=st.sets(st.integers(0, MINERS - 1), max_size=MINERS // 2))
    def links_are_cut_or_mended(self, first: set[int]) -> None:
        self.network.partition(*([sorted(first), sorted(set(range(MINERS)) - first)] if first else []))

    @rule(who=st.sampled_from(HONEST), lag=st.sampled_from([0.0, 1.0, 2.5, 4.0]))
    def a_clock_is_set(self, who: int, lag: float) -> None:
        self.nodes[who].lag = lag

    @rule(who=st.sampled_from(HONEST), steps=st.integers(0, 25), lag=st.sampled_from([0.0, 2.0, 3.0]))
    def one_is_killed_and_started(self, who: int, steps: int, lag: float) -> None:
        node = self.nodes[who]

        async def again() -> None:
            await self.killed(node, steps)
            await node.rise(lag, NEVER)

        self.do(again())

    # ------------------------------------------------------------ what it says

    def tell(self, who: Iterable[int], kind: str, *messages: bytes) -> None:
        async def hear() -> None:
            self.say(self.running(who), kind, messages, self.adversary)
            await self.to_slot(self.slot + 1)

        self.do(hear())

    @rule(who=st.sets(st.sampled_from(HONEST), min_size=1), seed=st.integers(0, 2**32 - 1))
    def it_accuses(self, who: set[int], seed: int) -> None:
        dice = Random(seed)
        made = [
            self.archive.accusation(dice, FakeKey(ADVERSARY), self.genesis_root) for _ in range(ACCUSATIONS)
        ]
        self.tell(who, "evidence", *(encode_evidence([evidence]) for evidence in made))

    @rule(seed=st.integers(0, 2**32 - 1))
    def it_will_accuse_in_its_next_blocks(self, seed: int) -> None:
        evidence, guilty = self.charge(Random(seed))
        pool = self.adversary.hearsay.evidence
        pool.select = lambda *about: (evidence, guilty)  # type: ignore[method-assign]

    @rule()
    def it_makes_true_blocks_again(self) -> None:
        vars(self.adversary.hearsay.evidence).pop("select", None)
        vars(self.adversary.hearsay.votes).pop("select", None)

    @rule()
    def it_leaves_out_what_others_have_voted(self) -> None:
        votes = self.adversary.hearsay.votes
        votes.select = lambda *about: ()  # type: ignore[method-assign]

    def charge(self, dice: Random) -> tuple[tuple[Evidence, ...], tuple[Address, ...]]:
        """What a block may hold against others, and whom it punishes for it; perhaps for nothing."""
        some = [
            self.archive.accusation(dice, FakeKey(ADVERSARY), self.genesis_root)
            for _ in range(dice.randint(0, 2))
        ]
        guilty = {miner for evidence in some for miner in accused(evidence)} or {address(dice.choice(HONEST))}
        return tuple(some), tuple(sorted(guilty))

    @rule(who=st.sets(st.sampled_from(HONEST), min_size=1), seed=st.integers(0, 2**32 - 1))
    def it_accuses_in_a_block_that_it_makes_for_that(self, who: set[int], seed: int) -> None:
        """On any block, also to leave out those of others, and for any slot that it has not signed for."""
        dice = Random(seed)
        places = self.places()
        if places:
            known, slot = dice.choice(places)
            evidence, guilty = self.charge(dice)
            self.tell(who, "block", self.forged(known, slot, evidence, guilty))

    @rule(who=st.sets(st.sampled_from(HONEST), min_size=1), seed=st.integers(0, 2**32 - 1))
    def it_leaves_out_the_blocks_of_others(self, who: set[int], seed: int) -> None:
        places = self.places()
        if places:
            known, slot = Random(seed).choice(places)
            self.tell(who, "block", self.forged(known, slot))

    def places(self) -> list[tuple[KnownBlock, int]]:
        """Blocks, and slots after them that the adversary wins and has signed no block for."""
        latest = sorted(self.adversary.chain.tree, key=lambda known: -known.node.slot)[:PARENTS]
        return [
            (known, slot)
            for known in latest
            for slot in range(known.node.slot + 1, self.slot + 1)
            if slot not in self.own_slots and self.wins(known, slot)
        ]

    def wins(self, known: KnownBlock, slot: int) -> bool:
        miner, view = self.adversary.miner, self.adversary.chain.tree.view(known.root)
        assert miner is not None
        assert view is not None
        try:
            return miner._plan(view, slot) is not None
        except (NotYet, CertificateError, OwnWorkError):
            return False

    def forged(
        self,
        known: KnownBlock,
        slot: int,
        evidence: tuple[Evidence, ...] = (),
        guilty: Sequence[Address] = (),
        extra_data: bytes = b"",
    ) -> bytes:
        """A block in which nothing is wrong but whom it punishes for what."""
        self.own_slots.add(slot)
        node, rules = self.adversary, self.adversary.chain.rules
        miner, view = node.miner, node.chain.tree.view(known.root)
        assert miner is not None
        assert view is not None
        plan = miner._plan(view, slot)
        assert plan is not None
        convicted = {
            miner for each in evidence for miner in self.guilty_of(view, each, slot // EPOCH)
        } or guilty
        start = slot_start(
            rules,
            view,
            slot=slot,
            vrf_proof=plan.vrf_proof,
            votes=(),
            finality=finality_with(rules, view, slot, ()),
            guilty=sorted(convicted),
        )
        attributes = BlockAttributes(
            timestamp=slot_start_seconds(FAST, rules.genesis_seconds, slot),
            fee_recipient=address(ADVERSARY),
            prev_randao=start.prev_randao,
            parent_beacon_block_root=known.root,
            gas_limit=self.network.spec.gas_limit,
            extra_data=extra_data,
            system_calls=start.calls(),
        )
        built = node.engine.build(known.payload_hash, attributes, [])
        plan = replace(plan, votes=(), evidence=evidence, start=start)
        block, _ = miner._signed(plan, built.rlp())
        return encode_sent_block(SentBlock(encode_block(block), plan.input))

    @rule(who=st.sampled_from([*HONEST, ADVERSARY]), is_signed_by_others=st.booleans())
    def it_warns_of_true_blocks(self, who: int, is_signed_by_others: bool) -> None:
        """In its own name, or in that of others, with whatever they have signed."""
        shown = [known for known in self.adversary.chain.tree if known.certificate is not None]
        alarms = []
        for known in shown[-3:]:
            signature = FakeKey(ADVERSARY).sign(alarm_message(self.genesis_root, known.root))
            if is_signed_by_others and self.archive.votes:
                signature = self.archive.votes[-1].signature
            alarms.append(encode_alarm(Alarm(known.root, address(who), signature)))
        self.tell(HONEST, "alarm", *alarms)

    # ------------------------------------------------------------ what it must not sign

    @precondition(lambda self: self.slot > OFFENCES_FROM)
    @rule(who=st.permutations(HONEST), seed=st.integers(0, 2**32 - 1))
    def it_makes_two_blocks_for_a_slot(self, who: list[int], seed: int) -> None:
        places = self.places()
        if places:
            event("two blocks")
            known, slot = Random(seed).choice(places)
            blocks = [self.forged(known, slot, extra_data=extra_data) for extra_data in (b"one", b"another")]
            self.tell(who[:1], "block", blocks[0])
            self.tell(who[1:2], "block", blocks[1])

    @precondition(lambda self: self.slot > OFFENCES_FROM)
    @rule(who=st.permutations(HONEST), epoch=st.integers(-1, 1), source=st.integers(0, 4))
    def it_votes_otherwise(self, who: list[int], epoch: int, source: int) -> None:
        event("another vote")
        self.vote_otherwise(who[:2], self.slot // EPOCH + epoch, source)

    def vote_otherwise(self, who: Iterable[int], epoch: int, source: int) -> None:
        vote = Vote(Checkpoint(source, self.genesis_root), Checkpoint(epoch, blake3(b"%d" % self.slot)))
        signature = FakeKey(ADVERSARY).sign(vote_message(self.genesis_root, vote))
        self.archive.add_vote(AttributedVote(vote, (address(ADVERSARY),), signature))
        self.tell(who, "vote", encode_signed_vote(SignedVote(vote, address(ADVERSARY), signature)))

    # ------------------------------------------------------------ what must hold

    @invariant()
    def nobody_honest_has_lost_anything(self) -> None:
        for node in self.running(HONEST):
            view = node.chain.tree.view(node.chain.head.root)
            assert view is not None
            self.look_at(node, view)
            _, guilty = node.hearsay.evidence.select(
                FAST, FAKE, self.genesis_root, view.state, self.slot // EPOCH + 1
            )
            assert THE_HONEST.isdisjoint(guilty)
            assert THE_HONEST.isdisjoint(node.hearsay._alarm_record.ignored)
        assert self.punished == []

    @invariant()
    def no_two_things_that_were_signed_convict_the_honest(self) -> None:
        for node in self.running(HONEST)[:1]:
            view = node.chain.tree.view(node.chain.head.root)
            assert view is not None
            for evidence in self.archive.pairs(*self.tried):
                guilty = self.guilty_of(view, evidence, FAR)
                assert THE_HONEST.isdisjoint(guilty), evidence
            self.tried = len(self.archive.headers), len(self.archive.votes)

    def end(self) -> None:
        self.do(self.all_again())
        self.it_makes_true_blocks_again()
        self.network.delay = 0.05
        early = state_of(self.running(HONEST)[0]).miners[address(ADVERSARY)].slashed_epoch
        event(f"punished early: {early is not None}")
        self.do(self.to_slot((self.slot // EPOCH + 2) * EPOCH + 4))
        for source in (0, 1):
            self.vote_otherwise(HONEST, self.slot // EPOCH, source)
        self.do(self.to_slot(self.slot + 2 * EPOCH))
        self.nobody_honest_has_lost_anything()
        self.no_two_things_that_were_signed_convict_the_honest()
        for node in self.running(HONEST):
            guilty = state_of(node).miners[address(ADVERSARY)]
            assert guilty.bond_wei == 0
            assert guilty.slashed_epoch is not None
            assert guilty.jailed_until_epoch > guilty.slashed_epoch
        self.do(self.network.stop())


TestAccusations = pytest.mark.timeout(600)(pytest.mark.slow(Accusations.TestCase))
# Nothing is made smaller: a failure says what was done, and each try takes seconds.
TestAccusations.settings = settings(
    phases=[Phase.generate],
    max_examples=10,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
