"""What strangers send: bytes that are nearly right, and messages that are right elsewhere or at another time.

All of it follows from a seed.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from eth_account import Account

from noria.chain.block_tree import BlockTree
from noria.chain.chain_service import ChainService
from noria.consensus.alarms import Alarm, alarm_message, encode_alarm
from noria.consensus.blocks import Block, decode_block, encode_block, signed
from noria.consensus.sent_block import SentBlock, decode_sent_block, encode_sent_block
from noria.consensus.slashing import (
    AttributedVote,
    Evidence,
    ProposalEvidence,
    VoteEvidence,
    encode_evidence,
)
from noria.consensus.slots import epoch_of
from noria.consensus.votes import Checkpoint, SignedVote, Vote, encode_signed_vote, vote_message
from noria.consensus.wire import InvalidMessage
from noria.execution.accounts import dev_accounts
from noria.market.messages import (
    Allow,
    Approval,
    Ask,
    BlobPart,
    BytesPart,
    Collect,
    Hello,
    Order,
    Put,
    Read,
    Unit,
    encode_message,
)
from noria.market.typed_data import sign_allow, sign_session
from noria.network.blobs import PROTOCOL as BLOBS
from noria.network.blobs import REQUEST
from noria.network.messages import (
    BLOCKS_MAX,
    PeerStatus,
    RangeRequest,
    encode_range,
    encode_roots,
    encode_status,
)
from noria.network.peer_lists import encode_peers_request
from noria.primitives import rlp
from noria.primitives.types import Address, BlsSignature, Hash32
from noria.work.ids import blob_id, program_id
from tests.chain.drawn import PARAMETERS, PROGRAM, FakeKey, address, with_payload_header
from tests.market.miner.world import DOMAIN, SESSION
from tests.node.networked import TOPICS
from tests.work.modules import ECHO, large

STOLEN: Final = 3
"""The miner whose key strangers have, too."""
LACKING: Final = large(2_000)
"""A module of more than one piece that the node does not have."""
STATE_ROOT: Final = 3
EXTRA_DATA: Final = 12
"""Places in a payload's header."""

# ---------------------------------------------------------------- bytes that are nearly right


def spoiled(chance: random.Random, samples: Sequence[bytes], bytes_max: int) -> bytes:
    """Bytes from nowhere, or a sample that was cut, joined, lengthened or changed somewhere deep inside."""
    kind = chance.randrange(10)
    if not samples or kind == 0:
        return chance.randbytes(chance.choice((0, 1, 9, 99, 999)))[:bytes_max]
    data = bytearray(chance.choice(samples))
    at = chance.randrange(len(data) + 1)
    if kind == 1:
        return rlp.encode(_any_item(chance, 4))[:bytes_max]
    if kind == 2:
        for _ in range(chance.choice((1, 1, 2, 8)) if data else 0):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        other = chance.choice(samples)
        data[at:] = other[chance.randrange(len(other) + 1) :]
    elif kind == 5:
        data[at:at] = data[at : at + 64]
    elif kind == 6:
        width = chance.randrange(1, 9)
        data[at:at] = bytes([chance.choice((0xB7, 0xF7)) + width]) + chance.randbytes(width)
    elif kind == 7 and chance.random() < 0.05:
        return bytes([chance.choice((0, 0x80, 0xC0, 0xFF))]) * bytes_max
    else:
        return changed(chance, bytes(data), samples)[:bytes_max]
    return bytes(data[:bytes_max])


def _any_item(chance: random.Random, depth: int) -> rlp.RlpItem:
    if depth and chance.random() < 0.6:
        return [_any_item(chance, depth - 1) for _ in range(chance.randrange(6))]
    return chance.randbytes(chance.choice((0, 1, 8, 20, 32, 96, 300)))


def changed(chance: random.Random, data: bytes, samples: Sequence[bytes]) -> bytes:
    """Change one field, however deep, also in bytes that hold RLP of their own; all lengths stay right."""
    item = _decoded(data)
    return _leaf(chance, data, samples) if item is None else rlp.encode(_change(chance, item, samples))


def _decoded(data: bytes) -> list[rlp.RlpItem] | None:
    try:
        item = rlp.decode(data, max_bytes=16 << 20)
    except rlp.InvalidEncoding:
        return None
    return item if isinstance(item, list) else None


def _change(chance: random.Random, item: rlp.RlpItem, samples: Sequence[bytes]) -> rlp.RlpItem:
    if isinstance(item, bytes):
        if len(item) > 1 and chance.random() < 0.8 and (inner := _decoded(item)) is not None:
            return rlp.encode(_change(chance, inner, samples))
        return _leaf(chance, item, samples)
    if item and chance.random() < 0.85:
        at = chance.randrange(len(item))
        return [*item[:at], _change(chance, item[at], samples), *item[at + 1 :]]
    lists: list[rlp.RlpItem] = [[*item, b""], item[:-1], b"", [*item, *item], item[::-1], [item]]
    return chance.choice(lists)


def _leaf(chance: random.Random, data: bytes, samples: Sequence[bytes]) -> bytes:
    other = chance.choice(samples) if samples else b""
    flipped = bytes([data[0] ^ 1 << chance.randrange(8)]) + data[1:] if data else b"\x01"
    return chance.choice(
        (
            b"",
            b"\x00",
            data + b"\x00",
            data[:-1],
            data[::-1],
            b"\xff" * len(data),
            flipped,
            flipped,
            chance.randbytes(len(data)),
            other[: max(len(data), 1)],
        )
    )


# ---------------------------------------------------------------- what strangers know how to make


@functools.cache
def transfer(account: int, nonce: int, value: int, chain_id: int) -> bytes:
    """A signed transfer of a development account."""
    made = Account.sign_transaction(
        {
            "type": 2,
            "chainId": chain_id,
            "nonce": nonce,
            "to": address(0),
            "value": value,
            "gas": 21_000,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 1 + value,
        },
        dev_accounts()[account].private_key,
    )
    return bytes(made.raw_transaction)


class Forge:
    """Messages that are right, nearly so, or right at another time, made of what an honest node says.

    What needs a miner's signature has that of the miner whose key was stolen.

    Parameters
    ----------
    chain
        Of the honest node.
    needy
        The blocks of the node that is lied to.
    said
        What the honest node has said on a topic lately.
    """

    def __init__(self, chain: ChainService, needy: BlockTree, said: Callable[[str], Sequence[bytes]]) -> None:
        self._chain, self._needy, self._said = chain, needy, said
        self._key = FakeKey(STOLEN)

    @property
    def root(self) -> Hash32:
        return self._chain.rules.genesis_root

    @property
    def slot(self) -> int:
        return self._chain.slot

    def samples(self, chance: random.Random, topic: str) -> list[bytes]:
        """Right messages of a topic."""
        if topic == TOPICS.blocks:
            return [*self._said(topic), *self.recent(8)]
        return [*self._said(topic), *(self.word(chance, topic) for _ in range(3))]

    def word(self, chance: random.Random, topic: str) -> bytes:
        """A message of a topic that is no block."""
        made = {
            TOPICS.votes: self.vote,
            TOPICS.evidence: self.evidence,
            TOPICS.alarms: self.alarm,
            TOPICS.transactions: self.transaction,
        }
        return made[topic](chance)

    # ------------------------------------------------------------ blocks

    def recent(self, count: int) -> list[bytes]:
        """The honest chain's last blocks, as they travel."""
        root, found = self._chain.head.root, list[bytes]()
        while len(found) < count and (body := self._chain.block_by_root(root)) is not None:
            found.append(encode_sent_block(SentBlock(body.block, body.input)))
            root = decode_block(body.block).header.parent_root
        return found[::-1]

    def taken_apart(self, data: bytes) -> tuple[Block, bytes | None]:
        copy = decode_sent_block(data, PARAMETERS)
        return decode_block(copy.block), copy.input

    def joined(self, block: Block, input: bytes | None) -> bytes:
        return encode_sent_block(SentBlock(encode_block(block), input))

    def signed(self, block: Block) -> Block:
        return signed(block, self._key.sign(block.root(self.root)))

    def _stolen(self, chance: random.Random) -> tuple[Block, bytes | None]:
        """A block of the miner whose key is known, if there is one, a recent one before older ones."""
        blocks = [self.taken_apart(data) for data in self.recent(16)]
        own = [each for each in blocks if each[0].header.proposer == address(STOLEN)]
        return own[-1] if own and chance.random() < 0.8 else chance.choice([*own, *blocks[-4:]])

    def orphans(self, chance: random.Random, count: int) -> list[bytes]:
        """Blocks that follow nothing, or one another."""
        block, input = self._stolen(chance)
        parent, found = Hash32(chance.randbytes(32)), []
        is_line = chance.random() < 0.4
        for _ in range(count):
            header = dataclasses.replace(block.header, parent_root=parent)
            orphan = self.signed(dataclasses.replace(block, header=header))
            found.append(self.joined(orphan, input))
            parent = orphan.root(self.root) if is_line else Hash32(chance.randbytes(32))
        if chance.random() < 0.5:
            chance.shuffle(found)
        return found

    def variants(self, chance: random.Random, count: int, *, called: bool) -> list[bytes]:
        """Valid blocks of one miner for one slot; before each a child of it, where they are called for."""
        block, input = self._stolen(chance)
        found = []
        for _ in range(count):
            variant = self.with_header(block, EXTRA_DATA, chance.randbytes(8))
            if called:
                found.append(self.joined(self._under(block, variant.root(self.root)), input))
            found.append(self.joined(variant, input))
        return found

    def _under(self, block: Block, parent: Hash32) -> Block:
        """What a block would look like as another one's child, without a signature."""
        header = dataclasses.replace(block.header, parent_root=parent, slot=self.slot)
        return dataclasses.replace(block, header=header)

    def with_header(self, block: Block, field: int, value: bytes) -> Block:
        """The same block with another value in its payload's header, signed anew."""
        return self.signed(with_payload_header(block, field, value))

    def cursed(self, chance: random.Random, count: int) -> list[bytes]:
        """A block whose payload gives another state than it says, and blocks that follow it."""
        block, input = self._stolen(chance)
        false = self.with_header(block, STATE_ROOT, chance.randbytes(32))
        parents, found = [false.root(self.root)], [self.joined(false, input)]
        for _ in range(count):
            child = self._under(block, chance.choice(parents))
            child = self.with_header(child, EXTRA_DATA, chance.randbytes(8))
            parents.append(child.root(self.root))
            found.append(self.joined(child, input))
        return found

    def copies(self, chance: random.Random, count: int) -> list[bytes]:
        """True blocks, those that the node needs next, with something changed that the roots do not cover."""
        blocks = self.recent(32)
        needed = [data for data in blocks if self._is_needed_next(self.taken_apart(data)[0])]
        return [self.copy(chance, chance.choice(needed or blocks[-3:])) for _ in range(count)]

    def _is_needed_next(self, block: Block) -> bool:
        return block.header.parent_root in self._needy and block.root(self.root) not in self._needy

    def copy(self, chance: random.Random, data: bytes) -> bytes:
        """A block with another body, input or signature and the same root."""
        block, input = self.taken_apart(data)
        kind = chance.randrange(5)
        if kind == 0:
            block = signed(block, BlsSignature(chance.randbytes(96)))
        elif kind == 1:
            input = None if input is not None and chance.random() < 0.5 else chance.randbytes(40)
        else:
            decoded = rlp.decode(block.payload, max_bytes=16 << 20)
            assert isinstance(decoded, list)
            header, transactions, *rest = decoded
            assert isinstance(transactions, list)
            more: list[rlp.RlpItem] = [b"", b"\x02\xc0", [], chance.randbytes(60), self.transaction(chance)]
            added = [chance.choice(more) for _ in range(chance.choice((1, 1, 3)))]
            body = transactions[:-1] if transactions and kind == 2 else [*transactions, *added]
            block = dataclasses.replace(block, payload=rlp.encode([header, body, *rest]))
        return self.joined(block, input)

    def moved(self, chance: random.Random) -> bytes:
        """A block of another slot than it was made for: past, future or far away."""
        block, input = self._stolen(chance)
        far = chance.choice((-20, -1, 1, 2, 5, 20, 200, 2**40, 2**63 - self.slot, 2**64 - 1 - self.slot))
        header = dataclasses.replace(block.header, slot=max(1, self.slot + far))
        return self.joined(self.signed(dataclasses.replace(block, header=header)), input)

    def signed_again(self, data: bytes) -> bytes:
        """A changed block with a right signature, where it still is one."""
        try:
            block, input = self.taken_apart(data)
        except InvalidMessage:
            return data
        return self.joined(self.signed(block), input)

    # ------------------------------------------------------------ votes, evidence, alarms

    def vote_for(self, chance: random.Random, epoch: int, *, root: Hash32 | None = None) -> SignedVote:
        """A vote of the stolen miner for anything."""
        source = self._chain.head.node.justified
        if source.epoch >= epoch or chance.random() < 0.5:
            source = Checkpoint(chance.randrange(max(epoch, 1)), Hash32(chance.randbytes(32)))
        vote = Vote(source, Checkpoint(epoch, root or Hash32(chance.randbytes(32))))
        genesis = self.root if chance.random() < 0.9 else Hash32(bytes(32))
        return SignedVote(vote, address(STOLEN), self._key.sign(vote_message(genesis, vote)))

    def vote(self, chance: random.Random) -> bytes:
        epoch = epoch_of(PARAMETERS, self.slot)
        far = chance.choice((-1, 0, 0, 0, 1, 1, 2, -2, 2**63 - epoch, 2**64 - 1 - epoch))
        vote = self.vote_for(chance, max(1, epoch + far))
        if chance.random() < 0.2:
            vote = dataclasses.replace(vote, miner=Address(chance.randbytes(20)))
        return encode_signed_vote(vote)

    def evidence(self, chance: random.Random) -> bytes:
        """Evidence against the stolen miner, of which some is true."""
        pieces: list[Evidence] = []
        for _ in range(chance.choice((1, 1, 1, 1, 1, 1, 1, 2))):
            if chance.random() < 0.5:
                block, _ = self._stolen(chance)
                other = self.with_header(block, EXTRA_DATA, chance.randbytes(8))
                pieces.append(ProposalEvidence(block.signed_header, other.signed_header))
                continue
            epoch = max(1, epoch_of(PARAMETERS, self.slot) + chance.choice((-2, -1, 0, 0, 1, 5, 2**62)))
            both = [self.vote_for(chance, epoch) for _ in range(2)]
            others = [Address(chance.randbytes(20)) for _ in range(chance.choice((0, 0, 0, 3, 500)))]
            signers = tuple(sorted([address(STOLEN), *others]))
            pieces.append(
                VoteEvidence(*(AttributedVote(vote.vote, signers, vote.signature) for vote in both))
            )
        return encode_evidence(pieces)

    def alarm(self, chance: random.Random) -> bytes:
        known = [known.root for known in self._chain.tree if known.certificate or chance.random() < 0.3]
        root = chance.choice([*known, Hash32(chance.randbytes(32))])
        miner = address(STOLEN) if chance.random() < 0.9 else Address(chance.randbytes(20))
        return encode_alarm(Alarm(root, miner, self._key.sign(alarm_message(self.root, root))))

    def transaction(self, chance: random.Random) -> bytes:
        chain_id = self._chain.execution.spec.chain_id + (chance.random() < 0.05)
        return transfer(
            chance.randrange(6, 10), chance.choice((0, 1, 1, 2, 3, 9, 40)), chance.randrange(3), chain_id
        )

    # ------------------------------------------------------------ requests

    def request(self, chance: random.Random, protocol: str) -> bytes:
        """A right request of a protocol, often about what nobody has."""
        height = self._chain.head.node.height
        if protocol == TOPICS.status:
            return encode_status(self.status(chance))
        if protocol == TOPICS.range:
            first = chance.choice((1, height, height + 1, 10**6, 2**63 - 1, 2**63, 2**64 - 1))
            return encode_range(RangeRequest(first, chance.choice((1, BLOCKS_MAX))))
        if protocol == TOPICS.roots:
            known = [*(known.root for known in self._chain.tree), Hash32(chance.randbytes(32))]
            return encode_roots([chance.choice(known) for _ in range(chance.choice((1, 3, BLOCKS_MAX)))])
        if protocol == TOPICS.peers:
            return encode_peers_request(chance.randrange(1, 33))
        if protocol == BLOBS.name:
            blob = chance.choice((PROGRAM, PROGRAM, program_id(ECHO), program_id(ECHO), chance.randbytes(32)))
            place = chance.choice((0, 1, 2**31, 2**32 - 1))
            return REQUEST.pack(chance.choice((0, 1, 1, 1, 2)), chance.randrange(3), blob, place)
        return self.work(chance, "stranger")

    def status(self, chance: random.Random, *, ahead: bool = False) -> PeerStatus:
        """Where somebody says it stands."""
        height = self._chain.head.node.height
        said = chance.choice((10**6, 2**64 - 1))
        if not ahead:
            said = chance.choice((0, height, height + 1, height + 2, height + 40, said))
        clock = chance.choice((0, self._chain.clock.milliseconds(), 2**64 - 1))
        root = self.root if ahead or chance.random() < 0.8 else Hash32(bytes(32))
        return PeerStatus(
            root, chance.choice((0, 2**64 - 1)), self.root, said, said, Hash32(chance.randbytes(32)), clock
        )

    def hello(self, job: int, k: int, peer: str) -> bytes:
        """What makes a peer speak for a job: it has the key."""
        signature = sign_session(SESSION, DOMAIN, job, k, peer)
        return encode_message(Hello(1, job, k, program_id(ECHO), b"details", signature))

    def work(self, chance: random.Random, peer: str, job: int = 1) -> bytes:
        """What a requester may say, who has jobs of its own and knows what the protocol takes."""
        if chance.random() < 0.1:
            job = chance.choice((1, 2, 3, 4, 2**53))
        k = int(chance.random() < 0.1)
        numbers = [chance.randrange(chance.choice((8, 2**53))) for _ in range(chance.choice((0, 1, 30)))]
        data = chance.choice((b"", b"some bytes", bytes(1 << 10), chance.randbytes(3)))
        blob, size = blob_id(data), chance.choice((len(data), len(data) + 1))
        total = chance.choice((0, 10**6, 10**12, 10**28))
        allow = Allow(str(total), sign_allow(SESSION, DOMAIN, job, k, total))
        if chance.random() < 0.1:
            allow = Allow(str(total), chance.randbytes(65))
        kind = chance.randrange(8)
        if kind == 0:
            return encode_message(Ask())
        if kind == 1:
            return self.hello(job, k, peer)
        if kind == 2:
            name = chance.choice(("input", "input", "program", "else"))
            return encode_message(Put(job, k, blob, name, size, chance.choice((0, 0, 1)), data))
        if kind <= 5:
            parts: list[BytesPart | BlobPart] = [BytesPart(data), BlobPart(blob, size)]
            limit, count = chance.choice((1, 10**7, 10**13)), chance.randrange(3)
            units = [Unit(number, limit, parts[:count], chance.random() < 0.3) for number in numbers]
            return encode_message(Order(job, k, units, allow))
        if kind == 6:
            wait = chance.choice((0, 10, 20_000))
            approvals = [Approval(chance.randbytes(32), chance.randbytes(65))] * chance.randrange(3)
            taken, opened, cancelled = (numbers[: chance.choice((0, 30))] for _ in range(3))
            flush = chance.random() < 0.5
            return encode_message(Collect(job, k, wait, taken, opened, cancelled, allow, approvals, flush))
        return encode_message(Read(job, k, chance.randrange(9), chance.choice((0, 5, 2**53))))


BLOCKS: Final[Mapping[str, Callable[[Forge, random.Random, int], list[bytes]]]] = {
    "orphans": Forge.orphans,
    "copies": Forge.copies,
    "cursed": Forge.cursed,
    "variants": lambda forge, chance, count: forge.variants(chance, count // 2, called=False),
    "variants that are asked for": lambda forge, chance, count: forge.variants(
        chance, count // 2, called=True
    ),
}
"""What many blocks can be made."""
