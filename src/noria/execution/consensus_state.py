"""What the system contracts hold after one block, read in bulk.

Sets of miners are integers: bit i is the miner with index i in `MinerRegistry`. An index names one miner as
long as anything that is still counted refers to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final, Protocol

from eth_abi.abi import encode

from noria._core import CallResult
from noria.execution.system_contracts import CONSENSUS, MINER_REGISTRY, WORK_LEDGER
from noria.primitives.hashes import keccak256
from noria.primitives.types import Address, BlsPublicKey, Hash32

PAGE: Final = 256
"""Rows that a contract answers at once."""
GAS_CAP: Final = 1_000_000_000
"""Above what the largest page costs."""
_WORD: Final = 32
_PLAIN: Final = frozenset(("address", "bytes32", "uint256"))
"""Types whose values are single words: integers, and bytes with zeros in front."""


class ContractStateError(Exception):
    """A system contract did not answer: the state is none of a chain of ours, or the store is damaged."""


class StateReader(Protocol):
    """What is needed of `noria._core.Engine`."""

    def call(self, block_hash: bytes, request: bytes, *, gas_cap: int) -> CallResult:
        """Run a call on the state after a block."""
        ...


@dataclass(frozen=True, slots=True)
class MinerState:
    """A registered miner (protocol 5.1)."""

    index: int
    address: Address
    bls_key: BlsPublicKey
    bond_wei: int
    """What counts, without what is unbonding."""
    life_epoch: int
    """Epoch of registration or of the last `wake`."""
    jailed_until_epoch: int
    """First epoch in which it may win and vote again; 0 if it never was in jail."""
    slashed_epoch: int | None
    """Epoch of its last full slash."""


@dataclass(frozen=True, slots=True)
class RandomnessState:
    """The lottery's randomness after a block (protocol 4.4)."""

    epoch: int
    eta: Hash32
    running: Hash32


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """A chain's last block before an epoch (protocol 4.7)."""

    epoch: int
    root: Hash32


@dataclass(frozen=True, slots=True)
class TallyState:
    """The votes that a chain has included for one target (protocol 4.7)."""

    target: CheckpointState
    source: CheckpointState
    voting_epoch: int
    members: int
    """Who may vote."""
    voted: int
    """Who has."""


ClosedTallies = MutableMapping[tuple[int, Hash32], TallyState]
"""By number, and the target root of the tally after the next."""


@dataclass(frozen=True, slots=True)
class CreditLine:
    """One line of a miner's ledger (protocol 4.3)."""

    batch_root: Hash32
    epoch: int
    cumulative: int


@dataclass(frozen=True, slots=True)
class LocatedCredit:
    """The line that holds a position in a miner's cumulative credit."""

    line: int
    batch_root: Hash32
    epoch: int
    before: int
    cumulative: int


@dataclass(frozen=True, slots=True)
class CreditedBatch:
    """A credited batch's commitment (protocol 5.4)."""

    root: Hash32
    miner: Address
    job: int
    k: int
    first_index: int
    count: int
    fuel: int
    weight: int
    genesis: bool
    """Its receipts carry the chain's origin instead of its genesis root."""
    void: bool
    """Found wrong by the court."""


class ConsensusState:
    """The state after one block. What has been read is kept; a block's state never changes.

    Parameters
    ----------
    reader
        The chain's engine.
    block_hash
        Of the payload.
    leak_epochs
        The chain's ``LEAK``.
    closed
        Tallies to which no votes can be added any more, shared by the states of a chain. Whoever shares it
        sees to its size.

    Raises
    ------
    ContractStateError
        From any method, where a contract does not answer.
    """

    def __init__(
        self,
        reader: StateReader,
        block_hash: bytes,
        leak_epochs: int,
        closed: ClosedTallies | None = None,
    ) -> None:
        self._closed: ClosedTallies = {} if closed is None else closed
        self._reader = reader
        self._block_hash = block_hash
        self._leak_epochs = leak_epochs
        self._lines: dict[Address, dict[int, CreditLine]] = {}

    # ------------------------------------------------------------ consensus

    @cached_property
    def genesis_root(self) -> Hash32:
        """Parent of the first block; zero before there was one."""
        return Hash32(self._ask(CONSENSUS, "genesis_root()"))

    @cached_property
    def randomness(self) -> RandomnessState:
        """The lottery's randomness."""
        epoch, eta, running = _words(self._ask(CONSENSUS, "randomness()"))
        return RandomnessState(_integer(epoch), Hash32(eta), Hash32(running))

    @cached_property
    def justified(self) -> CheckpointState:
        """The highest justified checkpoint."""
        return self._finality[0]

    @cached_property
    def finalised(self) -> CheckpointState:
        """The highest final checkpoint."""
        return self._finality[1]

    @cached_property
    def _finality(self) -> tuple[CheckpointState, CheckpointState]:
        words = _words(self._ask(CONSENSUS, "finality()"))
        return _checkpoint(words[:2]), _checkpoint(words[2:])

    def snapshot_root(self, epoch: int) -> Hash32:
        """Return the root of an epoch's snapshot; zero where it is not stored."""
        return Hash32(self._ask(CONSENSUS, "snapshot_root(uint256)", epoch))

    def prev_randao(self, block_number: int) -> Hash32:
        """Return prevRandao of one of the last 8192 blocks."""
        return Hash32(self._ask(CONSENSUS, "prev_randao(uint256)", block_number))

    @cached_property
    def open_tallies(self) -> tuple[TallyState, ...]:
        """What a child in the same epoch may carry votes for, oldest first: this epoch and the last."""
        epoch = self.randomness.epoch
        return tuple(tally for tally in self._tallies(2) if tally.target.epoch >= epoch - 1)

    @cached_property
    def voting_history(self) -> tuple[TallyState, ...]:
        """The tallies of the last ``LEAK`` epochs that had blocks, oldest first."""
        return self._tallies(self._leak_epochs)

    def _tallies(self, number: int) -> tuple[TallyState, ...]:
        count = _integer(self._ask(CONSENSUS, "ballots()"))
        newest_first: list[TallyState] = []
        for n in range(count - 1, max(count - number, 0) - 1, -1):
            # Votes count for the two latest: the target of n + 2 is a block that has all there will be of n.
            closed = (n, newest_first[-2].target.root) if len(newest_first) >= 2 else None
            tally = self._closed.get(closed) if closed else None
            if tally is None:
                tally = self._tally(n)
                if closed:
                    self._closed[closed] = tally
            newest_first.append(tally)
        return tuple(reversed(newest_first))

    def _tally(self, n: int) -> TallyState:
        words = _words(self._ask(CONSENSUS, "tally(uint256)", n))
        return TallyState(
            target=_checkpoint(words[0:2]),
            source=_checkpoint(words[2:4]),
            voting_epoch=_integer(words[4]),
            members=self._bits("members(uint256,uint256)", n, self._set_words),
            voted=self._bits("voted(uint256,uint256)", n, self._set_words),
        )

    @cached_property
    def asleep(self) -> int:
        """Whose weight sleeps (protocol 4.3)."""
        return self._bits("asleep(uint256)", self._set_words)

    def sign_of_life_epoch(self, miner: MinerState) -> int:
        """Return the epoch of a miner's last included vote, registration or `wake` within ``LEAK`` epochs."""
        bit = 1 << miner.index
        voted = [
            tally.target.epoch
            for tally in self.voting_history
            if tally.voted & bit and tally.target.epoch >= miner.life_epoch
        ]
        return max([miner.life_epoch, *voted])

    def voting_epochs_since(self, miner: MinerState, epoch: int) -> int:
        """Return in how many epochs after one a miner was in the voting set; ``LEAK`` for who sleeps."""
        bit = 1 << miner.index
        if self.asleep & bit:
            return self._leak_epochs
        return sum(1 for tally in self.voting_history if tally.target.epoch > epoch and tally.members & bit)

    @cached_property
    def fallen_asleep(self) -> int:
        """Who has been in the voting set and silent for the last ``LEAK`` epochs and does not sleep yet."""
        history = self.voting_history
        if len(history) < self._leak_epochs:
            return 0
        silent = ~self.asleep & ((1 << self._set_words * 256) - 1)
        for tally in history:
            silent &= tally.members & ~tally.voted
        oldest = history[0].target.epoch
        for miner in self.miners.values() if silent else ():
            if miner.life_epoch >= oldest:
                silent &= ~(1 << miner.index)
        return silent

    # ------------------------------------------------------------ miners

    @cached_property
    def miners(self) -> Mapping[Address, MinerState]:
        """Every registered miner, by address, in the order of their indices."""
        found = {}
        for first in range(0, self._indices, PAGE):
            number = min(PAGE, self._indices - first)
            answer = self._ask(MINER_REGISTRY, "rows(uint256,uint256)", first, number)
            for index, row in enumerate(_rows(answer, 7), first):
                if any(row[0]):
                    miner = _miner(index, row)
                    found[miner.address] = miner
        return found

    @cached_property
    def _indices(self) -> int:
        return _integer(self._ask(MINER_REGISTRY, "indices()"))

    @property
    def _set_words(self) -> int:
        return (self._indices + 255) // 256

    def index_bits(self, miners: Iterable[Address]) -> int:
        """Return the set of these miners; who is not registered is left out."""
        found = (self.miners.get(miner) for miner in miners)
        return sum({1 << miner.index for miner in found if miner is not None})

    # ------------------------------------------------------------ work

    @cached_property
    def floor_price_wei(self) -> int:
        """The floor price, wei per fuel."""
        return _integer(self._ask(WORK_LEDGER, "floor_price()"))

    def credit_windows(self, miners: Sequence[Address], first: int, last: int) -> list[tuple[int, int]]:
        """Return miners' cumulative credit before epoch `first` and at the end of epoch `last`, fuel."""
        found = []
        signature = "windows(address[],uint256,uint256)"
        for at in range(0, len(miners), PAGE):
            answer = self._ask(WORK_LEDGER, signature, miners[at : at + PAGE], first, last)
            found += [(_integer(lo), _integer(hi)) for lo, hi in _rows(answer, 2)]
        return found

    def credits_until(self, miners: Sequence[Address], epochs: Sequence[int]) -> list[int]:
        """Return miners' cumulative credit at the end of an epoch each, fuel."""
        found = []
        signature = "credits_until(address[],uint256[])"
        for at in range(0, len(miners), PAGE):
            answer = self._ask(WORK_LEDGER, signature, miners[at : at + PAGE], epochs[at : at + PAGE])
            found += [_integer(credit) for [credit] in _rows(answer, 1)]
        return found

    def credits(self, miner: Address) -> Sequence[CreditLine]:
        """Return a miner's ledger, oldest first, read as it is looked at."""
        return _Ledger(self, miner, _integer(self._ask(WORK_LEDGER, "entry_count(address)", miner)))

    def credit_line(self, miner: Address, line: int) -> CreditLine:
        """Return a line of a miner's ledger; the lines around it are read with it."""
        lines = self._lines.setdefault(miner, {})
        if line not in lines:
            first = line // PAGE * PAGE
            answer = self._ask(WORK_LEDGER, "entries(address,uint256,uint256)", miner, first, PAGE)
            for number, (root, epoch, cumulative) in enumerate(_rows(answer, 3), first):
                lines[number] = CreditLine(Hash32(root), _integer(epoch), _integer(cumulative))
        return lines[line]

    def locate(self, miner: Address, position: int) -> LocatedCredit | None:
        """Return the line that holds a position in a miner's cumulative credit; `None` beyond its end."""
        result = self._call(WORK_LEDGER, "locate(address,uint256)", miner, position)
        if result.status != "success":
            return None
        line, root, epoch, before, cumulative = _words(result.output)
        return LocatedCredit(
            _integer(line), Hash32(root), _integer(epoch), _integer(before), _integer(cumulative)
        )

    def batch(self, miner: Address, root: Hash32) -> CreditedBatch | None:
        """Return a batch that was credited to a miner."""
        words = _words(self._ask(WORK_LEDGER, "batch(address,bytes32)", miner, root))
        job, k, first_index, count, fuel, weight, genesis, void, known = map(_integer, words[1:])
        if not known:
            return None
        return CreditedBatch(
            root=root,
            miner=miner,
            job=job,
            k=k,
            first_index=first_index,
            count=count,
            fuel=fuel,
            weight=weight,
            genesis=bool(genesis),
            void=bool(void),
        )

    # ------------------------------------------------------------ calls

    def _bits(self, signature: str, *arguments: int) -> int:
        words = _rows(self._ask(CONSENSUS, signature, *arguments), 1)
        return int.from_bytes(b"".join(word for [word] in reversed(words)), "big")

    def _ask(self, contract: Address, signature: str, *arguments: object) -> bytes:
        result = self._call(contract, signature, *arguments)
        if result.status != "success" or not result.output:
            raise ContractStateError(
                f"contract 0x{contract.hex()} does not answer {signature} after block"
                f" 0x{self._block_hash.hex()}: {result.error or result.status}"
            )
        return result.output

    def _call(self, contract: Address, signature: str, *arguments: object) -> CallResult:
        selector, types = _signature(signature)
        # Thousands of these make up a snapshot: single words need no encoder that knows everything.
        plain = all(kind in _PLAIN for kind in types)
        words = _plain_words(arguments) if plain else encode(types, arguments)
        request = b'{"to":"0x%b","data":"0x%b"}' % (
            contract.hex().encode(),
            (selector + words).hex().encode(),
        )
        return self._reader.call(self._block_hash, request, gas_cap=GAS_CAP)


class _Ledger(Sequence[CreditLine]):
    """A miner's list of credits, a page at a time."""

    def __init__(self, state: ConsensusState, miner: Address, length: int) -> None:
        self._state = state
        self._miner = miner
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, line: Any) -> Any:
        if isinstance(line, slice):
            return [self[i] for i in range(*line.indices(self._length))]
        if not -self._length <= line < self._length:
            raise IndexError(f"line {line} of {self._length}")
        return self._state.credit_line(self._miner, line % self._length)

    def __iter__(self) -> Iterator[CreditLine]:
        return (self[line] for line in range(self._length))


def _miner(index: int, row: Sequence[bytes]) -> MinerState:
    miner, bls_head, bls_tail, bond, life, jailed_until, slashed = row
    return MinerState(
        index=index,
        address=Address(miner[12:]),
        bls_key=BlsPublicKey(bls_head + bls_tail[:16]),
        bond_wei=_integer(bond),
        life_epoch=_integer(life),
        jailed_until_epoch=_integer(jailed_until),
        slashed_epoch=_integer(slashed) - 1 if any(slashed) else None,
    )


@cache
def _signature(signature: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a function's selector and the types of its arguments."""
    inner = signature[signature.index("(") + 1 : -1]
    return keccak256(signature.encode())[:4], tuple(inner.split(",")) if inner else ()


def _plain_words(arguments: Iterable[Any]) -> bytes:
    return b"".join(
        value.rjust(_WORD, b"\0") if isinstance(value, bytes) else value.to_bytes(_WORD, "big")
        for value in arguments
    )


def _integer(word: bytes) -> int:
    return int.from_bytes(word, "big")


def _checkpoint(words: Sequence[bytes]) -> CheckpointState:
    return CheckpointState(_integer(words[0]), Hash32(words[1]))


def _words(answer: bytes) -> list[bytes]:
    return [answer[at : at + _WORD] for at in range(0, len(answer), _WORD)]


def _rows(answer: bytes, width: int) -> list[list[bytes]]:
    """Cut an answer of one dynamic array of static rows: offset, count, then the rows' words."""
    words = _words(answer)[2:]
    return [words[at : at + width] for at in range(0, len(words), width)]
